"""TensorArrays: growing, shapes of elements, gradients kept by hand, what is refused."""

import numpy as np
import pytest

import headrace as tf


def _run(*fetches):
    with tf.Session() as session:
        first = session.run(fetches)
        again = session.run(fetches)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    return first


def test_an_array_that_grows():
    """By writing behind the end of what was unstacked, split or scattered; gradients are those of the first part."""
    x = tf.constant([1.0, 2.0, 3.0])
    new = lambda: tf.TensorArray(tf.float32, size=0, dynamic_size=True)  # noqa: E731
    unstacked = new().unstack(x).write(3, 4.0)
    pieces = new().split(x, [1, 1, 1]).write(3, [4.0])
    scattered = new().scatter([4, 1], x[:2]).write(6, 5.0)
    assert new().dynamic_size and not tf.TensorArray(tf.float32, 2).dynamic_size
    results = [unstacked.stack(), pieces.concat(), scattered.gather([4, 1, 6]), scattered.size()]
    grads = [tf.gradients(y * [1.0, 2.0, 3.0, 4.0], x)[0] for y in results[:2]]
    grads.append(tf.gradients(results[2] * [2.0, 3.0, 4.0], x)[0])
    values = _run(*results, *grads)
    for value, expected in zip(
        values,
        ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 5], 7, [1, 2, 3], [1, 2, 3], [2, 3, 0]),
        strict=True,
    ):
        np.testing.assert_array_equal(value, expected)


def test_shapes_of_elements():
    """Without inference elements differ within the declared shape; with it they must agree."""
    loose = tf.TensorArray(tf.float32, 2, infer_shape=False, element_shape=[None, 2])
    loose = loose.write(0, tf.ones([3, 2])).write(1, tf.zeros([1, 2]))
    assert loose.element_shape.as_list() == [None, 2]
    assert loose.read(0).shape.as_list() == [None, 2]
    assert _run(loose.concat())[0].shape == (4, 2)
    with pytest.raises(ValueError, match="Inconsistent shapes"):
        loose.write(1, tf.ones([1, 3]))
    strict = tf.TensorArray(tf.float32, 2, element_shape=[None, 2]).write(0, tf.ones([3, 2]))
    assert strict.element_shape.as_list() == [3, 2]
    with pytest.raises(ValueError, match="Inconsistent shapes"):
        strict.write(1, tf.ones([1, 2]))


def test_an_array_for_gradients():
    """What is written to it is added; the same source gives the same array."""
    array = tf.TensorArray(tf.float32, 3, element_shape=[2]).write(0, [5.0, 6.0])
    grads = array.grad("grad")
    assert grads is array.write(1, [1.0, 1.0]).grad("grad") and grads is not array.grad("other")
    grads = grads.write(0, [1.0, 2.0]).write(2, [3.0, 4.0]).write(0, [10.0, 20.0])
    np.testing.assert_array_equal(_run(grads.stack())[0], [[11, 22], [0, 0], [3, 4]])


def test_refusals():
    """Indices outside, pieces that do not fit."""
    array = tf.TensorArray(tf.float32, 3, element_shape=[])
    for make, message in (
        (lambda: array.write(3, 1.0).flow, "not resizeable and size is: 3"),
        (lambda: array.write(-1, 1.0).flow, "index -1"),
        (lambda: array.read(3), "Tried to read from index 3 but array size is: 3"),
        (lambda: tf.TensorArray(tf.float32, 0).stack(), "size zero, but element shape <unknown>"),
        (lambda: tf.TensorArray(tf.float32, 2).split([1.0], [1]).flow, "not equal to the size"),
        (lambda: tf.TensorArray(tf.float32, 1).split([1.0, 2.0], [1]).flow, "sum of lengths is 1"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            _run(make())
