"""Branches and loops against Python: values and gradients, interpreted and compiled, effects, errors, export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import headrace as tf

# ---- random programs


class InPython:
    """The meaning of a program: Python's own control flow on concrete JAX values, which jax.grad can follow."""

    def less(self, a, b):
        return jnp.sum(a) < b

    def unary(self, name, a):
        return {"tanh": jnp.tanh, "sin": jnp.sin, "square": lambda v: jnp.tanh(v * v)}[name](a)

    def cond(self, pred, then, other, variables):
        return then(variables) if bool(pred) else other(variables)

    def repeat(self, count, limit, body, variables):
        i = 0
        while i < count and bool(jnp.sum(jnp.abs(variables[0])) < limit):
            variables = body(i, variables)
            i += 1
        return variables

    def collect(self, count, body, variables):
        """Runs the body `count` times; what the first variable was each time, weighted and summed, is added to the second."""
        kept = []
        for i in range(count):
            variables = body(i, variables)
            kept.append(variables[0])
        total = sum((v * (0.1 * k) for k, v in enumerate(kept)), jnp.zeros(2))
        back = kept[0] if kept else jnp.zeros(2)
        return [variables[0], variables[1] + total + back, *variables[2:]]


class InGraph:
    """The same as nodes. `counts`: how a number of iterations is written (a constant, or a tensor that is fed)."""

    def __init__(self, counts):
        self.counts = counts

    def less(self, a, b):
        return tf.reduce_sum(a) < b

    def unary(self, name, a):
        return {"tanh": tf.tanh, "sin": tf.sin, "square": lambda v: tf.tanh(v * v)}[name](a)

    def cond(self, pred, then, other, variables):
        return tf.cond(pred, lambda: then(variables), lambda: other(variables), strict=True)

    def repeat(self, count, limit, body, variables):
        n = self.counts(count)
        _, result = tf.while_loop(
            lambda i, v: tf.logical_and(i < n, tf.reduce_sum(tf.abs(v[0])) < limit),
            lambda i, v: (i + 1, body(tf.cast(i, tf.float32), v)),
            (0, list(variables)),
        )
        return result

    def collect(self, count, body, variables):
        n = self.counts(count)
        array = tf.TensorArray(tf.float32, size=n, element_shape=[2])

        def step(i, v, a):
            v = body(tf.cast(i, tf.float32), v)
            return i + 1, v, a.write(i, v[0])

        _, variables, array = tf.while_loop(lambda i, *_: i < n, step, (0, list(variables), array))
        weights = 0.1 * tf.cast(tf.range(n), tf.float32)
        total = tf.reduce_sum(array.stack() * weights[:, None], 0)
        back = array.read(0) if count else tf.zeros([2])
        return [variables[0], variables[1] + total + back, *variables[2:]]


def run(program, where, variables):
    """The variables (three vectors of two) after the statements of `program`."""
    variables = list(variables)
    for kind, *rest in program:
        if kind == "unary":
            name, a, b = rest
            variables[a] = where.unary(name, variables[b])
        elif kind == "mix":
            a, b, factor = rest
            variables[a] = variables[a] * factor + variables[b] * 0.5
        elif kind == "cond":
            a, threshold, then, other = rest
            variables = list(
                where.cond(
                    where.less(variables[a], threshold),
                    lambda v, then=then: run(then, where, v),
                    lambda v, other=other: run(other, where, v),
                    variables,
                )
            )
        else:
            count, *limit, inner = rest

            def body(i, v, inner=inner):
                v = run(inner, where, v)
                return [v[0], v[1], v[2] + 0.1 * i]

            loop = where.repeat if kind == "while" else where.collect
            variables = list(loop(count, *limit, body, variables))
    return variables


_index = st.integers(0, 2)
_simple = st.one_of(
    st.tuples(st.just("unary"), st.sampled_from(["tanh", "sin", "square"]), _index, _index),
    st.tuples(st.just("mix"), _index, _index, st.sampled_from([-0.7, 0.3, 1.1])),
)


def _block(inner):
    return st.lists(st.one_of(_simple, inner), min_size=1, max_size=3)


def _nested(inner):
    threshold = st.sampled_from([-0.55, 0.15, 0.85])
    return st.one_of(
        st.tuples(st.just("cond"), _index, threshold, _block(inner), _block(inner)),
        st.tuples(
            st.just("while"), st.integers(0, 4), st.sampled_from([1.35, 99.0]), _block(inner)
        ),
        st.tuples(st.just("array"), st.integers(0, 4), _block(inner)),
    )


PROGRAMS = st.lists(st.recursive(_simple, _nested, max_leaves=6), min_size=1, max_size=4)
X = np.array([[0.4, -0.3], [0.9, 0.2], [-0.5, 0.6]], np.float32)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAMS, st.booleans())
def test_programs_mean_what_python_means(program, fed_counts):
    """Values and gradients of nested branches, loops and arrays, interpreted and as a program."""

    def loss(x):
        v = run(program, InPython(), [x[0], x[1], x[2]])
        return jnp.sum(v[0]) + 2 * jnp.sum(v[1]) - jnp.sum(v[2])

    expected, expected_grad = jax.value_and_grad(loss)(jnp.asarray(X))
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3, 2])
        fed = [tf.placeholder(tf.int32, []) for _ in range(5)] if fed_counts else range(5)
        feeds = dict(zip(fed, range(5), strict=True)) if fed_counts else {}
        v = run(program, InGraph(fed.__getitem__), [x[0], x[1], x[2]])
        y = tf.reduce_sum(v[0]) + 2 * tf.reduce_sum(v[1]) - tf.reduce_sum(v[2])
        (grad,) = tf.gradients(y, x)
        if grad is None:
            grad = tf.zeros_like(x)
        with tf.Session() as session:
            for _ in range(2):
                value, found = session.run([y, grad], {x: X, **feeds})
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(found, expected_grad, rtol=1e-3, atol=1e-4)


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
        assert len(step.split.segments) == 1 and not step._not_compilable


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
        assert not next(iter(session._prepared.values())).step._not_compilable


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
        "is int32 after an iteration",
    ),
    (lambda: tf.map_fn(lambda v: v, tf.constant(1.0)), ValueError, "not a scalar"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number):
    call, error, words = REFUSED[number]
    with pytest.raises(error, match=words):
        call()
