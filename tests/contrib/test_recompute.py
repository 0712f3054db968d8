"""Gradients that compute anew: the same numbers, from less memory."""

from __future__ import annotations

import numpy as np
import pytest

import headrace as tf

FULL = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
recompute_grad = tf.contrib.layers.recompute_grad


def temporary_bytes(sess, fetches, feed):
    """The memory that the program of a step takes beside its arguments and results."""
    for _ in range(2):
        sess.run(fetches, feed)
    metadata = tf.RunMetadata()
    sess.run(fetches, feed, options=FULL, run_metadata=metadata)
    nodes = metadata.step_stats.dev_stats[0].node_stats
    return sum(n.memory_stats.temp_memory_size for n in nodes)


def block(h):
    inner = tf.layers.dense(h, 32, tf.tanh, name="a")
    inner = tf.exp(-inner * inner)
    return h + tf.layers.dense(inner, 32, tf.sin, name="b")


def stack(wrap, depth=12):
    """(gradients, feed) of a deep stack of blocks, each in a scope of its own."""
    x = tf.placeholder(tf.float32, [512, 32])
    h = x
    for i in range(depth):
        with tf.variable_scope(f"block{i}", initializer=tf.glorot_uniform_initializer(seed=i)):
            h = wrap(block)(h)
    loss = tf.reduce_mean(h * h)
    # Small results: the gradients themselves are no temporary memory.
    return [loss, *tf.gradients(loss, [x, *tf.trainable_variables()])], {
        x: np.random.RandomState(0).randn(512, 32)
    }


def test_a_deep_stack_takes_less_than_half_the_memory():
    found = []
    for wrap in (lambda f: f, recompute_grad):
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("", use_resource=True):
                fetches, feed = stack(wrap)
            sess.run(tf.global_variables_initializer())
            assert len(tf.trainable_variables()) == 12 * 4
            found.append((temporary_bytes(sess, fetches, feed), sess.run(fetches, feed)))
    (plain, values), (less, again) = found
    for a, b in zip(values, again):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert less < 0.5 * plain


def test_arguments_of_the_decorator():
    told = []

    @recompute_grad(use_data_dep=True, tupleize_grads=True)
    def f(x, y, is_recomputing=False):
        told.append(is_recomputing)
        return tf.tanh(x) * y, x

    x, y = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])
    a, b = f(x, y)
    dx, dy = tf.gradients(a + 2.0 * b, [x, y])
    assert told == [False, True] and f.__name__ == "f"
    with tf.Session() as sess:
        for _ in range(3):
            got = sess.run([dx, dy])
    tanh = np.tanh([1.0, 2.0])
    np.testing.assert_allclose(got, [(1 - tanh**2) * [3, 4] + 2, tanh], rtol=1e-6)
    (twice,) = tf.gradients(tf.gradients(recompute_grad(lambda v: tf.sin(v) * v)(x), x), x)
    with tf.Session() as sess:
        np.testing.assert_allclose(
            sess.run(twice), 2 * np.cos([1.0, 2.0]) - np.sin([1.0, 2.0]) * [1, 2], rtol=1e-5
        )
    with pytest.raises(ValueError, match="All inputs to function must be Tensors"):
        f(1.0, y)

    def closes(z):
        return z * x

    with pytest.raises(ValueError, match="closes over Tensor Const"):
        recompute_grad(closes)


def test_what_is_tied_keeps_every_bit():
    import jax

    from headrace.lowering.jax_adapter import x64
    from headrace.lowering.tie import tied

    values = [
        np.array([0.0, -0.0, np.nan, np.inf, -1e-40, 3.5], np.float32),
        np.array([1e-310, -np.nan], np.float64),
        np.array([True, False]),
        np.array([-1, 2**62], np.int64),
        np.array([1 + 2j, -0.0j], np.complex64),
        np.array([1.5, -2.0], np.float16),
    ]
    for after in (np.float32(-np.nan), np.int32(-5), np.array([True]), np.complex64(-1j)):
        with x64():
            got = jax.jit(lambda vs, a: tied(vs, [a]))(values, after)
        for mine, theirs in zip(got, values):
            assert np.asarray(mine).tobytes() == theirs.tobytes()
            assert mine.dtype == theirs.dtype
    assert tied(values, [np.zeros(3)])[0] is values[0]


def test_an_argument_that_the_gradient_does_not_need():
    """Nothing of it is read: the gradient of a product by one factor is the other one."""
    with tf.variable_scope("unread", use_resource=True):
        w = tf.get_variable("w", [3])
    x = tf.constant([1.0, 2.0, 3.0])
    y = tf.contrib.layers.recompute_grad(lambda a, b: a * b)(x, tf.convert_to_tensor(w))
    with tf.Session() as session:  # w has no value
        np.testing.assert_allclose(session.run(tf.gradients(y, w)[0]), [1, 2, 3])
