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
