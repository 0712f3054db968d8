"""Steps of a few small operations stay with NumPy; nothing else does."""

import jax
import numpy as np
import pytest

import headrace as tf


def compiled(call, times=4):
    before = tf.compilations().count
    results = [call() for _ in range(times)]
    return tf.compilations().count - before, results


def test_a_small_product_never_compiles():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [4, 4])
        y = tf.matmul(x, tf.constant(np.eye(4, dtype=np.float32) * 2)) + 1.0
        value = np.arange(16, dtype=np.float32).reshape(4, 4)
        count, results = compiled(lambda: sess.run([y, x], {x: value}))
        assert count == 0
        for result, fed in results:
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result, value * 2 + 1)
            fed[0, 0] = -1.0  # results belong to the caller
        assert value[0, 0] == 0.0
        on_device = sess.run(y, {x: jax.numpy.asarray(value)})
        np.testing.assert_array_equal(on_device, value * 2 + 1)


@pytest.mark.parametrize("build", ["large", "unknown", "many", "variable", "random"])
def test_other_steps_are_compiled(build):
    with tf.Graph().as_default(), tf.Session() as sess:
        size = {"large": [40, 40], "unknown": None}.get(build, [4])
        x = tf.placeholder(tf.float32, size)
        y = x * 2.0
        if build == "many":
            for _ in range(5):
                y = tf.tanh(y)
        if build == "variable":
            y = tf.assign_add(tf.Variable(np.ones(4, np.float32)), y)
        if build == "random":
            y = y + tf.random_uniform([4])
        sess.run(tf.global_variables_initializer())
        count, _ = compiled(lambda: sess.run(y, {x: np.ones(size or [3], np.float32)}))
        assert count >= 1


def test_errors_are_those_of_the_op():
    with tf.Graph().as_default(), tf.Session() as sess:
        i = tf.placeholder(tf.int32, [])
        y = 10 // i
        for _ in range(4):
            assert sess.run(y, {i: 3}) == 3
            with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero"):
                sess.run(y, {i: 0})
