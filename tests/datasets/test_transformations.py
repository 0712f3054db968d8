"""Each transformation: the elements that it gives, and what is known of them while the graph is built."""

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements

Dataset = tf.data.Dataset
range_ = Dataset.range


def numbers(dataset, **arguments):
    return [np.asarray(e).tolist() for e in elements(dataset, **arguments)]


ORDER = {
    "tensors": (lambda: Dataset.from_tensors([1, 2]), [[1, 2]]),
    "slices": (lambda: Dataset.from_tensor_slices([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "range": (lambda: range_(1, 9, 3), [1, 4, 7]),
    "range down": (lambda: range_(5, 1, -2), [5, 3]),
    "empty range": (lambda: range_(5, 1), []),
    "concatenate": (lambda: range_(2).concatenate(range_(5, 7)), [0, 1, 5, 6]),
    "repeat": (lambda: range_(2).repeat(2), [0, 1, 0, 1]),
    "repeat 0": (lambda: range_(2).repeat(0), []),
    "repeat for ever and take": (lambda: range_(2).repeat().take(5), [0, 1, 0, 1, 0]),
    "repeat nothing for ever": (lambda: range_(0).repeat(), []),
    "take more": (lambda: range_(2).take(9), [0, 1]),
    "take all": (lambda: range_(3).take(-1), [0, 1, 2]),
    "skip": (lambda: range_(5).skip(3), [3, 4]),
    "skip more": (lambda: range_(5).skip(9), []),
    "skip all": (lambda: range_(5).skip(-1), []),
    "shard": (lambda: range_(7).shard(3, 1), [1, 4]),
    "map": (lambda: range_(3).map(lambda x: x * x), [0, 1, 4]),
    "map in parallel": (lambda: range_(9).map(lambda x: -x, 4), [-i for i in range(9)]),
    "filter": (lambda: range_(6).filter(lambda x: tf.equal(x % 2, 0)), [0, 2, 4]),
    "flat_map": (lambda: range_(4).flat_map(range_), [0, 0, 1, 0, 1, 2]),
    "interleave": (
        lambda: range_(1, 5).interleave(lambda x: Dataset.from_tensors(x).repeat(3), 2, 2),
        [1, 1, 2, 2, 1, 2, 3, 3, 4, 4, 3, 4],
    ),
    "interleave in parallel": (
        lambda: range_(1, 4).interleave(lambda x: Dataset.from_tensors(x).repeat(2), 3, 1, 2),
        [1, 2, 3, 1, 2, 3],
    ),
    "batch": (lambda: range_(5).batch(2), [[0, 1], [2, 3], [4]]),
    "batch, drop": (lambda: range_(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
    "unbatch": (lambda: range_(5).batch(2).unbatch(), [0, 1, 2, 3, 4]),
    "padded_batch": (
        lambda: range_(1, 4).map(lambda x: tf.fill([x], x)).padded_batch(2, [None]),
        [[[1, 0], [2, 2]], [[3, 3, 3]]],
    ),
    "padded_batch, values": (
        lambda: (
            range_(1, 3)
            .map(lambda x: tf.fill([x], x))
            .padded_batch(2, [3], np.int64(-1), drop_remainder=True)
        ),
        [[[1, -1, -1], [2, 2, -1]]],
    ),
    "window": (
        lambda: range_(7).window(3, shift=2, stride=2).flat_map(lambda w: w.batch(3)),
        [[0, 2, 4], [2, 4, 6], [4, 6], [6]],
    ),
    "window, drop, gaps": (
        lambda: range_(8).window(2, shift=3, drop_remainder=True).flat_map(lambda w: w.batch(2)),
        [[0, 1], [3, 4], [6, 7]],
    ),
    "prefetch": (lambda: range_(50).prefetch(3), list(range(50))),
    "prefetch, tuned": (lambda: range_(50).prefetch(None), list(range(50))),
    "cache": (lambda: range_(3).cache().repeat(2), [0, 1, 2, 0, 1, 2]),
    "apply": (lambda: range_(3).apply(lambda d: d.skip(1)), [1, 2]),
    "options": (lambda: range_(3).with_options(tf.data.Options()), [0, 1, 2]),
}


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("one_shot", [True, False])
def test_elements(name, one_shot):
    make, expected = ORDER[name]
    assert numbers(make(), one_shot=one_shot) == expected


def test_the_structure_of_elements():
    dataset = Dataset.from_tensor_slices({"b": [1.0, 2.0], "a": ([[1], [2]], ["x", "y"])})
    assert dataset.output_types == {"a": (tf.int32, tf.string), "b": tf.float32}
    assert dataset.output_shapes == {"a": ([1], []), "b": []}
    assert repr(dataset) == (
        "<DatasetV1Adapter shapes: {b: (), a: ((1,), ())}, types: {b: tf.float32, a: (tf.int32, tf.string)}>"
    )
    first = elements(dataset)[0]
    assert first["b"] == 1.0 and first["a"][0].tolist() == [1] and first["a"][1] == b"x"
    zipped = Dataset.zip({"n": range_(9), "d": dataset}).enumerate(start=5)
    assert zipped.output_types[0] is tf.int64 and set(zipped.output_types[1]) == {"n", "d"}
    (number, element), (last, _) = elements(zipped)
    assert number == 5 and element["n"] == 0 and element["d"]["b"] == 1.0 and last == 6
    mapped = zipped.map(lambda n, e: (n, e["d"]["a"][1]))
    assert [(int(n), t) for n, t in elements(mapped)] == [(5, b"x"), (6, b"y")]
    assert mapped.batch(2).element_spec[1].shape.as_list() == [None]
    assert mapped.batch(2, drop_remainder=True).output_shapes[1].as_list() == [2]


def test_sparse_elements():
    sparse = tf.SparseTensor([[0, 0], [1, 2]], [1, 2], [2, 3])
    dataset = Dataset.from_tensor_slices(sparse)
    assert dataset.output_classes is tf.SparseTensor and dataset.output_shapes.as_list() == [3]
    first, second = elements(dataset)
    assert first.indices.tolist() == [[0]] and second.values.tolist() == [2]
    batched = dataset.repeat(2).batch(4)
    (all_rows,) = elements(batched)
    assert all_rows.indices.tolist() == [[0, 0], [1, 2], [2, 0], [3, 2]]
    assert [e.values.tolist() for e in elements(batched.unbatch())] == [[1], [2], [1], [2]]
    dense = dataset.map(lambda s: tf.sparse.to_dense(s) + 1)
    assert numbers(dense) == [[2, 1, 1], [1, 1, 3]]
    rows = Dataset.from_sparse_tensor_slices(sparse)
    assert [(i.tolist(), v.tolist(), s.tolist()) for i, v, s in elements(rows)] == [
        ([[0]], [1], [3]),
        ([[2]], [2], [3]),
    ]


def test_functions_use_what_is_around_them():
    offset = tf.placeholder(tf.int64, [])
    variable = tf.Variable(np.arange(3), use_resource=True)
    reference = tf.Variable(np.int64(100), use_resource=False)
    big = tf.constant(np.arange(10_000, dtype=np.float64).reshape(100, 100))

    def function(x):
        inner = tf.while_loop(lambda i, s: i < x, lambda i, s: (i + 1, s + i), [np.int64(0)] * 2)[1]
        chosen = tf.cond(x > 1, lambda: offset, lambda: -offset)
        return inner + chosen + tf.gather(variable, x) + reference, tf.gather(big, x)[0]

    dataset = range_(3).map(function)
    with pytest.raises(ValueError, match="make_initializable_iterator"):
        range_(3).map(lambda x: tf.gather(variable, x)).make_one_shot_iterator()
    iterator = dataset.make_initializable_iterator()
    element = iterator.get_next()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(iterator.initializer, {offset: 10})
        assert [int(v) for v in session.run(element)] == [90, 0]
        session.run(variable.assign([5, 50, 500]))  # read when the function runs
        session.run(reference.assign(0))  # its value was taken when the iterator began
        assert [int(v) for v in session.run(element)] == [140, 100]
        assert [int(v) for v in session.run(element)] == [100 + 1 + 10 + 500, 200]


@pytest.mark.parametrize("use_resource", [True, False])
def test_functions_write_variables(use_resource):
    counter = tf.Variable(0, use_resource=use_resource)

    def count(x):
        with tf.control_dependencies([counter.assign_add(1)]):
            return tf.identity(x)

    dataset = range_(3).map(count)
    iterator = dataset.make_initializable_iterator()
    element = iterator.get_next()
    total = dataset.reduce(np.int64(0), lambda s, x: s + x)
    with tf.Session() as session:
        session.run(counter.initializer)
        session.run(iterator.initializer)
        for i in range(3):
            assert session.run(counter) == i
            assert session.run(element) == i
        assert session.run(total) == 3 and session.run(counter) == 6


def test_python_functions_and_generators():
    calls = []

    def generate(n, text):
        for i in range(n):
            calls.append(i)
            yield i, np.full(i, text.decode() if isinstance(text, bytes) else text, object)

    dataset = Dataset.from_generator(generate, (tf.int64, tf.string), ([], [None]), args=(3, "ab"))
    assert dataset.output_shapes[1].as_list() == [None]
    found = elements(dataset.repeat(2), one_shot=False)
    assert [int(i) for i, _ in found] == [0, 1, 2] * 2 and found[2][1].tolist() == [b"ab", b"ab"]
    assert calls == [0, 1, 2] * 2
    mapped = range_(3).map(lambda x: tf.py_func(lambda v: v * 2.5, [x], tf.float64))
    assert numbers(mapped, one_shot=False) == [0.0, 2.5, 5.0]
    wrong = Dataset.from_generator(lambda: iter(["text"]), tf.int64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="could not be converted"):
        elements(wrong, one_shot=False)


def test_reduce():
    total = range_(5).reduce(np.int64(10), lambda s, x: s + x)
    grown = range_(3).reduce(tf.zeros([0], tf.int64), lambda s, x: tf.concat([s, [x]], 0))
    pair = range_(4).reduce((np.int64(0), 0.0), lambda s, x: (s[0] + x, s[1] + 0.5))
    with tf.Session() as session:
        assert session.run(total) == 20 and session.run(grown).tolist() == [0, 1, 2]
        assert session.run(pair) == (6, 2.0)
    assert grown.shape.as_list() == [None]
    with pytest.raises(TypeError, match="must match the initial state"):
        range_(5).reduce(1.5, lambda s, x: x)


def test_a_slow_function_is_compiled_and_gives_the_same():
    import time

    def function(x):
        y = tf.cast(x, tf.float32) * tf.ones([300, 300])
        for _ in range(6):
            y = tf.matmul(y, tf.eye(300)) + 1.0
        return tf.reduce_sum(y)

    start = time.monotonic()
    found = numbers(range_(60).map(function))
    expected = [300 * 300 * (i + 6.0) for i in range(60)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert time.monotonic() - start < 60


ERRORS = {
    "batch_size": (lambda: range_(3).batch(0), "greater than zero"),
    "shapes": (lambda: range_(1, 3).map(lambda x: tf.fill([x], x)).batch(2), "different shapes"),
    "shuffle": (lambda: range_(3).shuffle(0), "buffer_size must be greater than zero"),
    "step": (lambda: range_(0, 3, 0), "step must be a non-zero integer"),
    "shard": (lambda: range_(3).shard(2, 2), "Index must be between 0 and 1"),
    "calls": (lambda: range_(3).map(lambda x: x, 0), "num_parallel_calls must be greater"),
    "padding": (
        lambda: range_(3, 4).map(lambda x: tf.fill([x], x)).padded_batch(1, [2]),
        "pad to a smaller size",
    ),
    "unbatch": (
        lambda: range_(1, 2).map(lambda x: (tf.fill([x], 1), tf.fill([x + 1], 1))).unbatch(),
        "same batch size",
    ),
    "division": (lambda: range_(3).map(lambda x: 6 // x), "ivision"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_running(name):
    make, message = ERRORS[name]
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.DataLossError), match=message):
        elements(make())


def test_errors_while_building():
    with pytest.raises(TypeError, match="must return a `Dataset`"):
        range_(3).flat_map(lambda x: x)
    with pytest.raises(ValueError, match="scalar boolean tensor"):
        range_(3).filter(lambda x: x)
    with pytest.raises(TypeError, match="use a tuple instead"):
        Dataset.zip([range_(3), range_(4)])
    with pytest.raises(TypeError, match="different types"):
        range_(3).concatenate(Dataset.from_tensors(1.0))
    with pytest.raises(ValueError, match="scalar components"):
        range_(3).unbatch()
    with pytest.raises(ValueError):
        Dataset.from_tensor_slices(([1, 2], [1, 2, 3]))
    with pytest.raises(TypeError, match="must return a Dataset"):
        range_(3).apply(lambda d: 1)
    with pytest.raises(TypeError, match="Unsupported return value"):
        range_(3).map(lambda x: object())
    with pytest.raises(RuntimeError, match="eager"):
        iter(range_(3))


def test_a_failing_element_is_passed_over_by_the_next_run():
    element = range_(4).map(lambda x: 6 // (x - 1)).make_one_shot_iterator().get_next()
    with tf.Session() as session:
        assert session.run(element) == -6
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"test_transformations\.py"):
            session.run(element)
        assert [int(session.run(element)) for _ in range(2)] == [6, 3]


def test_options():
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_threading.private_threadpool_size = 2
    dataset = range_(3).with_options(options).map(lambda x: x)
    assert dataset.options().experimental_threading.private_threadpool_size == 2
    assert numbers(dataset, one_shot=False) == [0, 1, 2]
    types = {op.type for op in tf.get_default_graph().get_operations()}
    assert "PrivateThreadPoolDataset" in types and "OptimizeDataset" not in types
    other = tf.data.Options()
    other.experimental_threading.private_threadpool_size = 3
    with pytest.raises(ValueError, match="Cannot merge"):
        dataset.with_options(other)
    with pytest.raises(TypeError, match="must be of type"):
        options.experimental_deterministic = 1
    with pytest.raises(AttributeError, match="Cannot set"):
        options.no_such_option = 1
