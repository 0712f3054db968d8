"""Pipelines whose elements TensorFlow decides: {name: (make(tf), one shot, at most so many elements, graph's seed)}."""


def _shuffle(**arguments):
    return lambda tf: tf.data.Dataset.range(20).shuffle(**arguments)


def _inner(tf, x):
    return tf.data.Dataset.range(4).shuffle(4, seed=5).repeat(2).map(lambda y: x * 10 + y)


def build_graph(tf):
    """A graph with several pipelines; the operations of `get_next` are those of GRAPH_ELEMENTS."""
    dataset, factor = tf.data.Dataset, tf.constant(3, tf.int64)
    numbers = dataset.range(6).shuffle(10, seed=3)
    numbers = numbers.map(lambda x: {"x": x * factor}, num_parallel_calls=2)
    numbers = numbers.filter(lambda d: d["x"] < 15).flat_map(
        lambda d: dataset.from_tensors(d["x"]).repeat(2)
    )
    numbers = numbers.batch(2).prefetch(1)
    numbers.make_one_shot_iterator().get_next("one_shot")
    mixed = numbers.interleave(lambda x: dataset.range(2).map(lambda y: y + x[0]), 2, 1)
    mixed.padded_batch(3, []).cache().make_initializable_iterator().get_next("initializable")
    windows = dataset.range(7).window(3, 2).flat_map(lambda w: w.batch(3)).unbatch()
    grouped = windows.apply(
        tf.data.experimental.group_by_window(lambda x: x % 2, lambda key, d: d.batch(2), 2)
    )
    tf.data.make_one_shot_iterator(grouped).get_next("grouped")
    sparse = tf.SparseTensor([[0, 0], [1, 2]], [1, 2], [2, 3])
    sparse = dataset.from_tensor_slices(sparse).batch(2).map(lambda s: s.values)
    sparse.make_one_shot_iterator().get_next("sparse")


GRAPH_ELEMENTS = ("one_shot", "initializable", "grouped", "sparse")

PIPELINES = {
    "shuffle": (_shuffle(buffer_size=7, seed=3), True, 99, None),
    "shuffle_all": (_shuffle(buffer_size=40, seed=12345678901), False, 99, None),
    "shuffle_two_seeds": (_shuffle(buffer_size=5, seed=1), False, 99, 42),
    "shuffle_graph_seed": (_shuffle(buffer_size=5), False, 99, 42),
    "shuffle_graph_seed_one_shot": (_shuffle(buffer_size=5), True, 99, 42),
    "shuffle_repeat": (
        lambda tf: tf.data.Dataset.range(7).shuffle(3, seed=3).repeat(3),
        True,
        99,
        None,
    ),
    "shuffle_repeat_small_epochs": (
        lambda tf: tf.data.Dataset.range(2).shuffle(9, seed=3).repeat(),
        False,
        30,
        None,
    ),
    "shuffle_batch_repeat": (
        lambda tf: tf.data.Dataset.range(8).shuffle(4, seed=3).batch(4).repeat(3),
        False,
        99,
        None,
    ),
    "shuffle_same_repeat": (
        lambda tf: (
            tf.data.Dataset.range(6).shuffle(6, seed=3, reshuffle_each_iteration=False).repeat(2)
        ),
        False,
        99,
        None,
    ),
    "shuffle_twice": (
        lambda tf: tf.data.Dataset.range(9).shuffle(3, seed=1).shuffle(4, seed=2).take(7).repeat(2),
        False,
        99,
        None,
    ),
    "flat_map_shuffle": (
        lambda tf: tf.data.Dataset.range(3).flat_map(lambda x: _inner(tf, x)),
        False,
        99,
        None,
    ),
    "interleave_shuffle": (
        lambda tf: tf.data.Dataset.range(5).interleave(
            lambda x: _inner(tf, x), cycle_length=2, block_length=3
        ),
        False,
        99,
        None,
    ),
    "zip_concatenate_shuffle": (
        lambda tf: (
            tf.data.Dataset.zip(
                (
                    tf.data.Dataset.range(5).shuffle(5, seed=9),
                    tf.data.Dataset.range(5).shuffle(5, seed=9),
                )
            )
            .map(lambda a, b: a * 10 + b)
            .concatenate(tf.data.Dataset.range(5).shuffle(5, seed=9))
            .repeat(2)
        ),
        False,
        99,
        None,
    ),
    "random_in_map": (
        lambda tf: (
            tf.data.Dataset.range(4)
            .map(lambda x: tf.random.uniform([], seed=7) + tf.cast(x, tf.float32))
            .repeat(2)
        ),
        False,
        99,
        None,
    ),
    "random_in_map_graph_seed": (
        lambda tf: tf.data.Dataset.range(4).map(lambda x: tf.random.uniform([2])).repeat(2),
        True,
        99,
        11,
    ),
    "random_in_flat_map": (
        lambda tf: tf.data.Dataset.range(2).flat_map(
            lambda x: tf.data.Dataset.range(2).map(lambda y: tf.random.uniform([], seed=7))
        ),
        False,
        99,
        None,
    ),
}
