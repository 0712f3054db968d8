"""Pooling of NumPy arrays equals the programs': windows, strides, paddings, types, ties and NaN."""

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.ops import pooling_host

# (shape, ksize, strides, padding)
CASES = {
    "tiles": ((2, 8, 6, 3), (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "cut off": ((2, 7, 9, 3), (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "overlapping": ((2, 9, 8, 4), (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    "gaps": ((1, 9, 8, 2), (1, 2, 1, 1), (1, 3, 2, 1), "SAME"),
    "dense": ((1, 6, 5, 2), (1, 3, 2, 1), (1, 1, 1, 1), "SAME"),
    "whole": ((2, 5, 5, 3), (1, 5, 5, 1), (1, 1, 1, 1), "VALID"),
}


def native(op, *values):
    return op._definition.native_rule(op, *values)


def compiled(op, *values):
    """By a program; a shape is no argument of it."""
    known = [v if v.dtype == np.int32 else None for v in values]

    def program(*traced):
        return op._definition.lower_rule(
            op, *[t if k is None else k for t, k in zip(traced, known, strict=True)]
        )

    with jax.enable_x64(True):
        return np.asarray(jax.jit(program)(*values))


@pytest.mark.parametrize(
    "name, dtype",
    [*((name, "float32") for name in CASES), ("gaps", "float64"), ("overlapping", "float16")],
)
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_and_its_gradient_equal_programs(kind, name, dtype):
    shape, ksize, strides, padding = CASES[name]
    random = np.random.default_rng(4)
    # Few different values, so that maxima tie.
    x = random.integers(-3, 4, shape).astype(dtype)
    with tf.Graph().as_default():
        node = tf.placeholder(dtype, shape)
        pool = tf.nn.max_pool if kind == "max" else tf.nn.avg_pool
        y = pool(node, ksize, strides, padding)
        dy = random.standard_normal(y.shape.as_list()).astype(dtype)
        gradient = tf.gradients(y, node, tf.constant(dy))[0].op
    got, want = native(y.op, x), compiled(y.op, x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=1e-3 if dtype == "float16" else 1e-6)
    first = (x, want) if kind == "max" else (np.asarray(shape, np.int32),)
    got = native(gradient, *first, dy)
    assert got.shape == shape and got.dtype == dtype
    want = compiled(gradient, *first, dy)
    np.testing.assert_allclose(got, want, atol=1e-2 if dtype == "float16" else 1e-5)


def test_a_window_of_nan_gives_its_gradient_to_the_first_value():
    x = np.full((1, 2, 2, 1), np.nan, np.float32)
    with tf.Graph().as_default():
        node = tf.placeholder(tf.float32, x.shape)
        y = tf.nn.max_pool(node, 2, 2, "VALID")
        gradient = tf.gradients(y, node)[0].op
    dy = np.ones((1, 1, 1, 1), np.float32)
    arguments = gradient, x, x[:, :1, :1], dy
    for rule in (native, compiled):
        np.testing.assert_array_equal(np.ravel(rule(*arguments)), [1, 0, 0, 0])


def test_what_takes_long_is_left_to_a_program(monkeypatch):
    monkeypatch.setattr(pooling_host, "_MOST_VISITS", 10)
    with tf.Graph().as_default():
        node = tf.placeholder(tf.float32, [1, 4, 4, 1])
        y = tf.nn.max_pool(node, 2, 2, "VALID")
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert native(y.op, x) is None
    with tf.Session(graph=y.graph) as session:
        np.testing.assert_array_equal(np.ravel(session.run(y, {node: x})), [5, 7, 13, 15])
