"""`tf.data.experimental`."""

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements

Dataset, experimental = tf.data.Dataset, tf.data.experimental
range_ = Dataset.range


def numbers(dataset, **arguments):
    return [np.asarray(e).tolist() for e in elements(dataset, **arguments)]


def ragged(*lengths):
    return Dataset.from_tensor_slices(list(lengths)).map(lambda n: tf.fill([n], n))


VALUES = {
    "Counter": (lambda: experimental.Counter(5, -2).take(3), [5, 3, 1]),
    "enumerate_dataset": (
        lambda: range_(2).apply(experimental.enumerate_dataset(4)).map(lambda i, x: i * 10 + x),
        [40, 51],
    ),
    "unbatch": (lambda: range_(4).batch(3).apply(experimental.unbatch()), [0, 1, 2, 3]),
    "unique": (
        lambda: Dataset.from_tensor_slices([3, 1, 3, 2, 1]).apply(experimental.unique()),
        [3, 1, 2],
    ),
    "ignore_errors": (
        lambda: range_(4).map(lambda x: 6 // (x - 1)).apply(experimental.ignore_errors()),
        [-6, 6, 3],
    ),
    "map_and_batch": (
        lambda: range_(5).apply(experimental.map_and_batch(lambda x: x * x, 2, 3)),
        [[0, 1], [4, 9], [16]],
    ),
    "map_and_batch, drop": (
        lambda: range_(5).apply(
            experimental.map_and_batch(
                lambda x: x, 2, drop_remainder=True, num_parallel_calls=experimental.AUTOTUNE
            )
        ),
        [[0, 1], [2, 3]],
    ),
    "parallel_interleave": (
        lambda: range_(1, 4).apply(
            experimental.parallel_interleave(lambda x: Dataset.from_tensors(x).repeat(2), 2, 2)
        ),
        [1, 1, 2, 2, 3, 3],
    ),
    "scan": (
        lambda: range_(5).apply(experimental.scan(np.int64(0), lambda s, x: (s + x, s * 10 + x))),
        [0, 1, 12, 33, 64],
    ),
    "take_while": (
        lambda: range_(9).apply(experimental.take_while(lambda x: x * x < 10)),
        [0, 1, 2, 3],
    ),
    "group_by_window": (
        lambda: range_(7).apply(
            experimental.group_by_window(lambda x: x % 2, lambda key, d: d.batch(2), 2)
        ),
        [[0, 2], [1, 3], [4, 6], [5]],
    ),
    "group_by_window, sizes": (
        lambda: range_(8).apply(
            experimental.group_by_window(
                lambda x: x % 2,
                lambda key, d: d.batch(9).map(lambda b: b * 10 + key),
                window_size_func=lambda key: key + 1,
            )
        ),
        [[0], [20], [11, 31], [40], [60], [51, 71]],
    ),
    "group_by_reducer": (
        lambda: range_(6).apply(
            experimental.group_by_reducer(
                lambda x: x % 3,
                experimental.Reducer(
                    lambda key: np.int64(100), lambda s, x: s + x, lambda s: s * 2
                ),
            )
        ),
        [206, 210, 214],
    ),
    "bucket_by_sequence_length": (
        lambda: ragged(1, 5, 2, 6, 1, 3).apply(
            experimental.bucket_by_sequence_length(lambda x: tf.shape(x)[0], [3, 6], [2, 2, 1])
        ),
        [[[1, 0], [2, 2]], [[6] * 6], [[5] * 5, [3, 3, 3, 0, 0]], [[1]]],
    ),
    "bucket_by_sequence_length, boundary": (
        lambda: ragged(1, 2, 1).apply(
            experimental.bucket_by_sequence_length(
                lambda x: tf.shape(x)[0], [4], [2, 2], pad_to_bucket_boundary=True
            )
        ),
        [[[1, 0, 0], [2, 2, 0]], [[1, 0, 0]]],
    ),
    "choose_from_datasets": (
        lambda: experimental.choose_from_datasets(
            [range_(3), range_(10, 19)], Dataset.from_tensor_slices(np.array([1, 0, 0, 1, 0, 0, 1]))
        ),
        [10, 0, 1, 11, 2, 12],
    ),
    "shuffle_and_repeat": (
        lambda: range_(3).apply(experimental.shuffle_and_repeat(1, 2, seed=3)),
        [0, 1, 2, 0, 1, 2],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_elements(name):
    make, expected = VALUES[name]
    assert numbers(make()) == expected


def test_dense_to_sparse_batch():
    dataset = ragged(2, 3, 1).apply(experimental.dense_to_sparse_batch(2, [4]))
    assert dataset.output_shapes.as_list() == [None, 4]
    first, second = elements(dataset)
    assert first.dense_shape.tolist() == [2, 4] and first.values.tolist() == [2, 2, 3, 3, 3]
    assert first.indices.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert second.indices.tolist() == [[0, 0]]
    (free,) = elements(ragged(2, 3).apply(experimental.dense_to_sparse_batch(2, [None])))
    assert free.dense_shape.tolist() == [2, 3]
    with pytest.raises(tf.errors.DataLossError, match="larger than the row shape"):
        elements(ragged(3).apply(experimental.dense_to_sparse_batch(2, [2])))


def test_what_is_made_of_a_whole_dataset(tmp_path):
    cardinality = experimental.cardinality
    counts = [
        cardinality(d)
        for d in (
            range_(5).batch(2),
            range_(5).batch(2, drop_remainder=True).repeat(3).skip(1).take(9),
            range_(7).shard(3, 0).shuffle(3).map(lambda x: x).prefetch(1).cache(),
            range_(5).repeat(),
            range_(5).filter(lambda x: x > 1),
            Dataset.zip((range_(5), range_(3).repeat())).concatenate(
                Dataset.zip((range_(1), range_(1)))
            ),
            range_(9).window(3, shift=2, drop_remainder=True),
        )
    ]
    single = experimental.get_single_element(
        range_(10).batch(20).map(lambda x: {"sum": tf.reduce_sum(x)})
    )
    none, several = (experimental.get_single_element(range_(n)) for n in (0, 2))
    path = str(tmp_path / "written")
    write = experimental.TFRecordWriter(path, "GZIP").write(Dataset.from_tensor_slices(["a", "bc"]))
    with tf.Session() as session:
        infinite, unknown = experimental.INFINITE_CARDINALITY, experimental.UNKNOWN_CARDINALITY
        assert session.run(counts) == [3, 5, 3, infinite, unknown, 6, 4]
        assert session.run(single) == {"sum": 45}
        for wrong, message in ((none, "was empty"), (several, "more than one element")):
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                session.run(wrong)
        session.run(write)
    assert elements(tf.data.TFRecordDataset(path, "GZIP")) == [b"a", b"bc"]
    variant = experimental.to_variant(range_(3))
    assert numbers(experimental.from_variant(variant, tf.TensorSpec([], tf.int64))) == [0, 1, 2]


def test_sampling_follows_the_weights():
    datasets = [Dataset.from_tensors(i).repeat() for i in range(3)]
    sampled = experimental.sample_from_datasets(datasets, [0.2, 0.8, 0.0], seed=3).take(400)
    counts = np.bincount(numbers(sampled), minlength=3)
    assert counts[2] == 0 and 40 < counts[0] < 120
    weights = Dataset.from_tensors([0.0, 0.0, 1.0]).repeat(5)
    assert numbers(experimental.sample_from_datasets(datasets, weights)) == [2] * 5
    assert numbers(experimental.sample_from_datasets([range_(2)])) == [0, 1]


def test_errors():
    with pytest.raises(TypeError, match=r"single `tf\.int32`"):
        Dataset.from_tensors(1.0).apply(experimental.unique())
    with pytest.raises(ValueError, match="window_size or window_size_func"):
        experimental.group_by_window(lambda x: x, lambda k, d: d)
    with pytest.raises(TypeError, match="must return a `Dataset`"):
        range_(3).apply(experimental.group_by_window(lambda x: x, lambda k, d: k, 2))
    with pytest.raises(TypeError, match="must return a pair"):
        range_(3).apply(experimental.scan(0, lambda s, x: s))
    with pytest.raises(TypeError, match="must match the initial state"):
        range_(3).apply(experimental.scan(0.5, lambda s, x: (x, x)))
    with pytest.raises(ValueError, match="mutually exclusive"):
        experimental.map_and_batch(lambda x: x, 2, 2, num_parallel_calls=2)
    with pytest.raises(TypeError, match=r"scalar `tf\.int64`"):
        experimental.choose_from_datasets([range_(3)], Dataset.from_tensors(1.0))
    with pytest.raises(TypeError, match="must be a Dataset or Iterator"):
        experimental.get_structure(3)
