"""Random programs of branches, loops, arrays and a variable: what they mean in Python, and the same as nodes."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import headrace as tf


class InPython:
    """The meaning of a program: Python's own control flow on concrete JAX values, which jax.grad can follow."""

    def __init__(self):
        self.stored = jnp.float32(0)

    def less(self, a, b):
        return jnp.sum(a) < b

    def unary(self, name, a):
        return {"tanh": jnp.tanh, "sin": jnp.sin, "square": lambda v: jnp.tanh(v * v)}[name](a)

    def cond(self, pred, then, other, variables):
        return then(variables) if bool(pred) else other(variables)

    def case(self, predicates, functions, variables):
        taken = next((i for i, p in enumerate(predicates) if bool(p)), len(predicates))
        return functions[taken](variables)

    def switch(self, a, functions, variables):
        index = int(jnp.floor(2 * jnp.sum(a)))
        return functions[index if 0 <= index < len(functions) else -1](variables)

    def repeat(self, count, limit, body, variables, counter):
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

    def write(self, a, variables):
        """Adds to the stored number, and what it is then to the last variable."""
        self.stored = self.stored + jax.lax.stop_gradient(jnp.sum(variables[a]))
        return [*variables[:2], variables[2] + 0.1 * self.stored]


class InGraph:
    """The same as nodes. `counts`: how a number of iterations is written (a constant, or a tensor that is fed)."""

    def __init__(self, counts):
        self.counts = counts
        self.stored = tf.Variable(0.0, use_resource=True)

    def less(self, a, b):
        return tf.reduce_sum(a) < b

    def unary(self, name, a):
        return {"tanh": tf.tanh, "sin": tf.sin, "square": lambda v: tf.tanh(v * v)}[name](a)

    def cond(self, pred, then, other, variables):
        return tf.cond(pred, lambda: then(variables), lambda: other(variables), strict=True)

    def case(self, predicates, functions, variables):
        *actions, otherwise = [lambda f=f: f(variables) for f in functions]
        return tf.case(list(zip(predicates, actions, strict=True)), default=otherwise, strict=True)

    def switch(self, a, functions, variables):
        index = tf.cast(tf.floor(2 * tf.reduce_sum(a)), tf.int32)
        return tf.switch_case(index, [lambda f=f: f(variables) for f in functions])

    def repeat(self, count, limit, body, variables, counter):
        n = tf.cast(self.counts(count), counter)
        _, result = tf.while_loop(
            lambda i, v: tf.logical_and(i < n, tf.reduce_sum(tf.abs(v[0])) < limit),
            lambda i, v: (i + 1, body(tf.cast(i, tf.float32), v)),
            (tf.constant(0, counter), list(variables)),
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

    def write(self, a, variables):
        # All that comes after it waits for it, so that whatever is fetched needs it.
        with tf.control_dependencies([v.op for v in variables]):
            now = self.stored.assign_add(tf.stop_gradient(tf.reduce_sum(variables[a])))
            now = now.read_value() if hasattr(now, "read_value") else tf.convert_to_tensor(now)
        with tf.control_dependencies([now]):
            return [*map(tf.identity, variables[:2]), variables[2] + 0.1 * now]


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
        elif kind == "write":
            variables = where.write(*rest, variables)
        elif kind in ("cond", "case", "switch"):
            a, *choice, blocks = rest
            functions = [lambda v, block=block: run(block, where, v) for block in blocks]
            if kind == "switch":
                variables = list(where.switch(variables[a], functions, variables))
                continue
            predicates = [where.less(variables[a], c) for c in choice]
            if kind == "cond":
                variables = list(where.cond(*predicates, *functions, variables))
            else:
                variables = list(where.case(predicates, functions, variables))
        else:
            count, *limit, inner = rest

            def body(i, v, inner=inner):
                v = run(inner, where, v)
                return [v[0], v[1], v[2] + 0.1 * i]

            if kind == "while":
                limit, counter = limit
                variables = list(where.repeat(count, limit, body, variables, counter))
            else:
                variables = list(where.collect(count, body, variables))
    return variables


_index = st.integers(0, 2)
_threshold = st.sampled_from([-0.55, 0.15, 0.85])
_simple = st.one_of(
    st.tuples(st.just("unary"), st.sampled_from(["tanh", "sin", "square"]), _index, _index),
    st.tuples(st.just("mix"), _index, _index, st.sampled_from([-0.7, 0.3, 1.1])),
    st.tuples(st.just("write"), _index),
)


def _block(inner):
    return st.lists(st.one_of(_simple, inner), min_size=1, max_size=3)


def _nested(inner):
    block = _block(inner)
    limit = st.sampled_from([1.35, 99.0])
    return st.one_of(
        st.tuples(st.just("cond"), _index, _threshold, st.tuples(block, block)),
        st.tuples(st.just("case"), _index, _threshold, _threshold, st.tuples(block, block, block)),
        st.tuples(st.just("switch"), _index, st.lists(block, min_size=1, max_size=3)),
        st.tuples(
            *(st.just("while"), st.integers(0, 4), limit),
            *(st.sampled_from(["int32", "int64", "float32"]), block),
        ),
        st.tuples(st.just("array"), st.integers(0, 4), block),
    )


PROGRAMS = st.lists(st.recursive(_simple, _nested, max_leaves=6), min_size=1, max_size=4)
X = np.array([[0.4, -0.3], [0.9, 0.2], [-0.5, 0.6]], np.float32)
_WEIGHTS = np.array([[1.0, -0.5], [0.7, 0.2], [-0.4, 0.9]], np.float32)


def _loss(v, add):
    return add(v[0]) + 2 * add(v[1]) - add(v[2])


def _in_python(program, second_order):
    """(the loss, the variables, the number that is stored), the gradient, the gradient of that, weighted and summed."""

    def loss(x):
        where = InPython()
        v = run(program, where, [x[0], x[1], x[2]])
        return _loss(v, jnp.sum), (v, where.stored)

    def slope(x):
        return jnp.sum(jax.grad(loss, has_aux=True)(x)[0] * _WEIGHTS)

    x = jnp.asarray(X)
    (y, (v, stored)), grad = jax.value_and_grad(loss, has_aux=True)(x)
    return y, v, stored, grad, jax.grad(slope)(x) if second_order else None


def check(program, fed_counts, second_order):
    """Compares values and gradients of a program, all together and one by one, interpreted and as a program."""
    expected, *variables, stored, slopes, curves = _flat(_in_python(program, second_order))
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3, 2])
        fed = [tf.placeholder(tf.int32, []) for _ in range(5)] if fed_counts else range(5)
        feeds = dict(zip(fed, range(5), strict=True)) if fed_counts else {}
        where = InGraph(fed.__getitem__)
        v = run(program, where, [x[0], x[1], x[2]])
        y = _loss(v, tf.reduce_sum)
        grad = _gradient(y, x)
        wanted = [([y, grad], [expected, slopes], 2)]
        wanted += [([t], [value], 1) for t, value in zip(v, variables, strict=True)]
        if second_order:
            wanted.append(([_gradient(tf.reduce_sum(grad * _WEIGHTS), x)], [curves], 1))
        with tf.Session() as session:
            for fetches, values, times in wanted:
                for _ in range(times):
                    session.run(where.stored.initializer)
                    found = session.run(fetches, {x: X, **feeds})
                    for t, a, b in zip(fetches, found, values, strict=True):
                        rtol, atol = (1e-4, 1e-5) if t is y or t in v else (1e-3, 1e-4)
                        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
                    if fetches[0] is y or fetches[0] in v:
                        np.testing.assert_allclose(
                            session.run(where.stored), stored, rtol=1e-4, atol=1e-5
                        )


def _flat(parts):
    y, v, stored, slopes, curves = parts
    return y, *v, stored, slopes, curves


def _gradient(y, x):
    grad = tf.gradients(y, x)[0]
    return tf.zeros_like(x) if grad is None else grad
