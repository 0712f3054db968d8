"""Lists of tensors: values interpreted and compiled, gradients, growing and shrinking in loops, what is refused."""

import numpy as np
import pytest

import headrace as tf

raw = tf.raw_ops
VECTOR = np.array([2], np.int32)


def run(tensors, feed=None):
    """The values; an interpreted and two compiled runs must agree."""
    with tf.Session() as sess:
        runs = [sess.run(tensors, feed) for _ in range(3)]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
            assert np.asarray(a).dtype == np.asarray(b).dtype
    return runs[0]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def placeholder():
    return tf.placeholder(tf.float32, [3, 2]), np.arange(6, dtype=np.float32).reshape(3, 2)


def test_push_pop_length_and_stack():
    x, value = placeholder()
    lst = raw.EmptyTensorList(element_shape=VECTOR, max_num_elements=-1, element_dtype=tf.float32)
    for i in range(3):
        lst = raw.TensorListPushBack(input_handle=lst, tensor=x[i] * 2.0)
    rest, last = raw.TensorListPopBack(
        input_handle=lst, element_shape=VECTOR, element_dtype=tf.float32
    )
    stacked = raw.TensorListStack(input_handle=rest, element_shape=VECTOR, element_dtype=tf.float32)
    size = raw.TensorListLength(input_handle=rest)
    (grad,) = tf.gradients([stacked * 3.0, last], [x])
    got = run([stacked, last, size, grad], {x: value})
    np.testing.assert_allclose(got[0], value[:2] * 2)
    np.testing.assert_allclose(got[1], value[2] * 2)
    assert got[2] == 2
    np.testing.assert_allclose(got[3], [[6, 6], [6, 6], [2, 2]])


def test_reserved_elements_are_zero_until_set():
    x, value = placeholder()
    lst = raw.TensorListReserve(element_shape=VECTOR, num_elements=4, element_dtype=tf.float32)
    lst = raw.TensorListSetItem(input_handle=lst, index=2, item=x[0])
    lst = raw.TensorListScatterIntoExistingList(input_handle=lst, tensor=x[1:], indices=[0, 3])
    item = raw.TensorListGetItem(
        input_handle=lst, index=3, element_shape=VECTOR, element_dtype=tf.float32
    )
    never = raw.TensorListGetItem(
        input_handle=lst, index=1, element_shape=VECTOR, element_dtype=tf.float32
    )
    some = raw.TensorListGather(
        input_handle=lst, indices=[2, 2, 0], element_shape=VECTOR, element_dtype=tf.float32
    )
    (grad,) = tf.gradients([item * 5.0, some], [x])
    got = run([item, never, some, grad], {x: value})
    np.testing.assert_allclose(got[0], value[2])
    np.testing.assert_allclose(got[1], [0, 0])
    np.testing.assert_allclose(got[2], [value[0], value[0], value[1]])
    np.testing.assert_allclose(got[3], [[2, 2], [1, 1], [5, 5]])


@pytest.mark.parametrize("version", ["TensorListScatter", "TensorListScatterV2"])
def test_from_tensors_and_back(version):
    x, value = placeholder()
    whole = raw.TensorListFromTensor(tensor=x, element_shape=VECTOR)
    extra = {"num_elements": 5} if version.endswith("V2") else {}
    spread = getattr(raw, version)(tensor=x, indices=[3, 0, 1], element_shape=VECTOR, **extra)
    longer = raw.TensorListResize(input_handle=whole, size=4)
    shorter = raw.TensorListResize(input_handle=whole, size=1)
    stacks = [
        raw.TensorListStack(input_handle=h, element_shape=VECTOR, element_dtype=tf.float32)
        for h in (spread, longer, shorter)
    ]
    (grad,) = tf.gradients([stacks[0], stacks[2] * 4.0], [x])
    got = run([*stacks, grad], {x: value})
    want = np.zeros((5 if extra else 4, 2))
    want[[3, 0, 1]] = value
    np.testing.assert_allclose(got[0], want)
    np.testing.assert_allclose(got[1], [*value, [0, 0]])
    np.testing.assert_allclose(got[2], value[:1])
    np.testing.assert_allclose(got[3], [[5, 5], [1, 1], [1, 1]])


@pytest.mark.parametrize("lengths", [[1, 1, 1], [0, 2, 1]])
def test_pieces_of_equal_and_of_different_lengths(lengths):
    x, value = placeholder()
    shape = np.array([-1, 2], np.int32)
    lst = raw.TensorListSplit(tensor=x, element_shape=shape, lengths=np.array(lengths, np.int64))
    whole, sizes = raw.TensorListConcatV2(
        input_handle=lst,
        element_shape=shape,
        leading_dims=np.zeros((0,), np.int64),
        element_dtype=tf.float32,
    )
    (grad,) = tf.gradients(whole * whole, [x])
    got = run([whole, sizes, grad], {x: value})
    np.testing.assert_allclose(got[0], value)
    assert got[1].tolist() == lengths
    np.testing.assert_allclose(got[2], 2 * value)


def test_a_loop_fills_an_array_and_another_reads_it():
    x = tf.placeholder(tf.float64, [None])
    n = tf.shape(x)[0]
    filled = tf.while_loop(
        lambda i, a: i < n,
        lambda i, a: (i + 1, a.write(i, tf.sin(x[i]) * tf.cast(i, tf.float64))),
        [0, tf.TensorArray(tf.float64, n)],
    )[1]
    total = tf.while_loop(
        lambda i, s: i < n,
        lambda i, s: (i + 1, s + filled.read(i) * filled.read(n - 1 - i)),
        [0, tf.zeros([], tf.float64)],
    )[1]
    (grad,) = tf.gradients(total, [x])
    for size in (4, 7):
        value = np.linspace(0.1, 1.0, size)
        ranks = np.arange(size)
        terms = np.sin(value) * ranks
        got = run([total, grad], {x: value})
        np.testing.assert_allclose(got[0], terms @ terms[::-1])
        np.testing.assert_allclose(got[1], 2 * terms[::-1] * ranks * np.cos(value), rtol=1e-6)


def test_what_is_refused(graph):
    empty = raw.EmptyTensorList(element_shape=VECTOR, max_num_elements=-1, element_dtype=tf.float32)
    with tf.Session() as sess:
        _, popped = raw.TensorListPopBack(
            input_handle=empty, element_shape=VECTOR, element_dtype=tf.float32
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="pop from an empty list"):
            sess.run(popped)
        lst = raw.TensorListReserve(
            element_shape=np.int32(-1), num_elements=2, element_dtype=tf.float32
        )
        for index, words in (
            (5, "access element 5 in a list with 2 elements"),
            (0, "uninitialized element"),
        ):
            item = raw.TensorListGetItem(
                input_handle=lst, index=index, element_shape=np.int32(-1), element_dtype=tf.float32
            )
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                sess.run(item)
    with pytest.raises(ValueError, match="Inconsistent shapes"):
        tf.TensorArray(tf.float32, 2).write(0, [1.0]).write(1, [1.0, 2.0])
