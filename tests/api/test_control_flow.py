"""Branches and loops against Python: values and gradients, interpreted and compiled, effects, errors, export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import headrace as tf
from tests.api.random_programs import PROGRAMS, check

# ---- random programs


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAMS, st.booleans(), st.sampled_from([False, False, True]))
def test_programs_mean_what_python_means(program, fed_counts, second_order):
    """Values, gradients and writes of nested branches, loops and arrays; also where some are fetched."""
    check(program, fed_counts, second_order)


# ---- effects, and what stays in the program


def _runs(fetches, feeds=None, times=3):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return [session.run(fetches, feeds) for _ in range(times)]


def test_only_the_taken_branch_has_effects():
    """Assignments, assertions and Python calls of the other branch do not happen."""
    v, calls = tf.Variable(1.0), []
    p = tf.placeholder(tf.bool, [])

    def taken():
        with tf.control_dependencies([v.assign_add(1.0)]):
            return tf.identity(v.read_value() if hasattr(v, "read_value") else v)

    def other():
        with tf.control_dependencies([tf.Assert(False, ["taken after all", v])]):
            return tf.py_func(lambda: calls.append(1) or np.float32(7), [], tf.float32)

    y = tf.cond(p, taken, other)
    assert _runs(y, {p: True}) == [2.0, 3.0, 4.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="taken after all"):
        _runs(y, {p: False})
    assert calls == []


def test_effects_in_loops():
    """Each iteration writes, calls Python and draws numbers of its own."""
    v, calls = tf.Variable(0.0), []

    def body(i, total):
        with tf.control_dependencies([v.assign_add(2.0)]):
            drawn = tf.random_uniform([], seed=4)
        called = tf.py_func(lambda k: calls.append(int(k)) or np.float32(1), [i], tf.float32)
        return i + 1, total + drawn + 0.0 * tf.reshape(called, [])

    _, total = tf.while_loop(lambda i, t: i < 3, body, [0, 0.0])
    totals = _runs([total, v.value()], times=2)
    assert calls == [0, 1, 2] * 2
    assert len({float(t) for t, _ in totals}) == 2 and all(0 < t < 3 for t, _ in totals)


def test_sizes_in_gradients_of_loops_stay_known():
    """Broadcasting in a loop over tensors of unknown sizes: the gradient is one program all the same."""
    x = tf.placeholder(tf.float32, [None, None])
    n = tf.placeholder(tf.int32, [])
    _, y = tf.while_loop(
        lambda i, v: i < n, lambda i, v: (i + 1, tf.tanh(v * tf.reduce_mean(v, 0))), [0, x]
    )
    grads = tf.gradients(tf.reduce_sum(tf.cond(tf.reduce_sum(y) > 0, lambda: y * 2, lambda: y)), x)
    data = np.array([[0.5, 0.2, 0.1], [0.3, 0.9, 0.4]], np.float32)

    def loss(v):
        for _ in range(3):
            v = jnp.tanh(v * jnp.mean(v, 0))
        return jnp.sum(v * 2)

    with tf.Session() as session:
        for _ in range(3):
            (found,) = session.run(grads, {x: data, n: 3})
            np.testing.assert_allclose(found, jax.grad(loss)(data), rtol=1e-4, atol=1e-6)
        step = next(iter(session._prepared.values())).step
        assert len(step.split.segments) == 1 and not step.programs.not_compilable


def test_what_only_one_branch_computes_may_have_any_shape():
    """The gradient needs it; the other branch gives zeros of the same shape, so that all is one program."""
    x = tf.placeholder(tf.float32, [None, None])
    p = tf.placeholder(tf.bool, [])
    y = tf.cond(p, lambda: tf.nn.dropout(tf.tanh(x), rate=0.5), lambda: tf.sin(x))
    grads = tf.gradients(tf.reduce_sum(y), x)
    data = np.array([[0.5, 0.2, 0.1], [0.3, 0.9, 0.4]], np.float32)
    with tf.Session() as session:
        for flag in (True, False, True):
            found, (dx,) = session.run([y, grads], {x: data, p: flag})
            slope = np.where(found != 0, 2 * (1 - np.tanh(data) ** 2), 0) if flag else np.cos(data)
            np.testing.assert_allclose(dx, slope, rtol=1e-4)
        assert not next(iter(session._prepared.values())).step.programs.not_compilable


REFUSED = [
    (lambda: tf.cond(True, lambda: 1, lambda: 2), TypeError, "Python bool"),
    (lambda: tf.while_loop(lambda i: True, lambda i: i, []), ValueError, "No loop variables"),
    (lambda: tf.while_loop(1, lambda i: i, [0]), TypeError, "cond must be callable"),
    (
        lambda: tf.while_loop(lambda v: True, lambda v: tf.concat([v, v], 0), [tf.ones([2])]),
        ValueError,
        "shape_invariants",
    ),
    (
        lambda: tf.while_loop(lambda v: v < 1, lambda v: tf.cast(v, tf.int32), [1.0]),
        TypeError,
        "has type .*int32.* after 1 iteration",
    ),
    (lambda: tf.map_fn(lambda v: v, tf.constant(1.0)), ValueError, "not a scalar"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number):
    call, error, words = REFUSED[number]
    with pytest.raises(error, match=words):
        call()
