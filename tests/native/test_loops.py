"""Whole loops as one call against XLA's loops, and the elementwise functions against NumPy's in float64."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import headrace as tf
from headrace import native
from headrace.native import library

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

T = 5


def numbers(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def by_xla(trips, step, carry):
    return lax.fori_loop(0, trips, lambda _, c: step(c), carry)


def read(values, t):
    return lax.dynamic_index_in_dim(values, t, 0, keepdims=False)


def write(values, item, t):
    return lax.dynamic_update_index_in_dim(values, jnp.asarray(item, values.dtype), t, 0)


def dot(a, b):
    return native.dot(a, b, b_is_invariant=True)


# ---- bodies: each gives (step, carry) for a batch and a number of units


def lstm(batch, units):
    w, b = numbers(units, 4 * units, scale=0.1), numbers(4 * units, seed=1)
    xs = jnp.asarray(numbers(T, batch, 4 * units, seed=2))

    def step(carry):
        t, h, c, outs, order = carry
        i, j, f, o = jnp.split(read(xs, t) + dot(h, w) + b, 4, 1)
        c = c * jax.nn.sigmoid(f + 1) + jax.nn.sigmoid(i) * jnp.tanh(j)
        h = jnp.tanh(c) * jax.nn.sigmoid(o)
        return t + 1, h, c, write(outs, h, t), write(order, 3 * t - 1, T - 1 - t)

    h, c = numbers(batch, units, seed=3), numbers(batch, units, seed=4)
    return step, (jnp.int32(0), h, c, jnp.zeros((T, batch, units)), jnp.zeros(T, jnp.int32))


def backwards(batch, units):
    """What gradients of cells do: lists from the end, sums of columns, parts side by side, sums that are carried."""
    w = numbers(3 * units, units, scale=0.1)
    kept = [jnp.asarray(numbers(T, batch, units, seed=s)) for s in range(3)]
    order = jnp.asarray(np.random.default_rng(5).permutation(T).astype(np.int32))

    def step(carry):
        size, dh, db, stacked = carry
        a, b, c = (read(k, size - 1) for k in kept)
        da = dh * b * a * (1 - a)
        dz = jnp.concatenate([da, jnp.maximum(dh, c), -dh * (1.0 - b * b)], 1)
        return size - 1, dot(dz, w), db + jnp.sum(dz, 0), write(stacked, dz, order[size - 1])

    return step, (
        jnp.int32(T),
        numbers(batch, units, seed=6),
        jnp.zeros(3 * units),
        jnp.zeros((T, batch, 3 * units)),
    )


def masked(batch, units):
    """A GRU whose sequences end at different times."""
    w, v = numbers(units, 2 * units, scale=0.1), numbers(units, units, scale=0.1)
    xs = jnp.asarray(numbers(T, batch, units, seed=2))
    lengths = jnp.asarray(np.arange(batch, dtype=np.int32) % (T + 1))

    def step(carry):
        t, h, finished, outs = carry
        r, u = jnp.split(jax.nn.sigmoid(dot(h, w)), 2, 1)
        new = u * h + (1 - u) * jnp.tanh(read(xs, t) + dot(r * h, v))
        inside = t < lengths
        h = jnp.where(inside[:, None], new, h)
        outs = write(outs, jnp.where(inside[:, None], new, 0), t)
        return t + 1, h, finished | ~inside, outs

    return step, (
        jnp.int32(0),
        numbers(batch, units, seed=3),
        jnp.zeros(batch, bool),
        jnp.zeros((T, batch, units)),
    )


def normalised(batch, units):
    """Means and deviations of rows, of three axes, and a value that changes places with another."""
    w, gain = numbers(units, units, scale=0.3), numbers(units, seed=1)

    def step(carry):
        h, other, t, scale = carry
        z = dot(h, w)
        mean = jnp.mean(z, 1, keepdims=True)
        variance = jnp.mean(jnp.square(z - mean), -1)
        z = (z - mean) * lax.rsqrt(variance + 1e-3)[:, None] * gain
        z = z / (1 + jnp.exp(z - jnp.max(z, 1, keepdims=True)))
        cubes = jnp.where(t > 3, z, jnp.abs(z)).reshape(batch, units, 1) * jnp.sqrt(scale)
        return other, cubes.reshape(batch, units), t + 2, scale + t.astype(jnp.float32)

    h, other = numbers(batch, units, seed=2), numbers(batch, units, seed=3)
    return step, (h, other, jnp.int32(1), jnp.float32(0.25))


def accumulating(batch, units):
    """A list to whose elements is added in place."""
    w = numbers(units, units, scale=0.3)

    def step(carry):
        t, h, sums = carry
        h = jnp.minimum(dot(h, w), 3.0) + jnp.sign(h) * 0.1
        return t + 1, h, write(sums, read(sums, t) + h, t)

    return step, (
        jnp.int32(0),
        numbers(batch, units, seed=3),
        jnp.asarray(numbers(T, batch, units)),
    )


BODIES = [lstm, backwards, masked, normalised, accumulating]
SIZES = [(1, 4), (3, 5), (32, 64), (7, 300)]


def compiled(repeat, body, *operands):
    """The loop as a program, and whether it is one call in it."""
    program = jax.jit(lambda *o: repeat(T, body(*operands)[0], o))
    carry = body(*operands)[1]
    return program(*carry), "headrace_loop" in program.lower(*carry).as_text()


def assert_close(got, want, name=""):
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        most = np.max(np.abs(w), initial=0.0) if g.dtype == np.float32 else 0
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * (1 + most), err_msg=name)


@pytest.mark.parametrize("body", BODIES, ids=lambda b: b.__name__)
def test_loops_give_what_xlas_give(body):
    for size in SIZES:
        want, _ = compiled(by_xla, body, *size)
        for _ in range(2):
            got, is_one_call = compiled(native.repeat, body, *size)
            assert is_one_call, size
            assert_close(got, want, str(size))


@pytest.mark.parametrize("trips", [0, 1, 2])
def test_in_64_bit_mode_and_with_one_iteration_or_none(trips):
    with jax.enable_x64(True):
        step, carry = lstm(3, 8)
        want, got = (
            jax.jit(lambda c, r=r: r(trips, step, c))(carry) for r in (by_xla, native.repeat)
        )
    assert_close(got, want)


def test_what_is_not_finite_stays_so():
    step, carry = lstm(8, 32)
    for place, value in enumerate((np.nan, np.inf, -np.inf)):
        carry[1][place, 3] = value
        carry[2][place + 3, 5] = value
    want = jax.jit(lambda c: by_xla(T, step, c))(carry)
    got = jax.jit(lambda c: native.repeat(T, step, c))(carry)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(np.isnan(g), np.isnan(w))
        np.testing.assert_array_equal(np.isinf(g), np.isinf(w))


def test_runs_give_the_same_bits_again():
    program = jax.jit(lambda c: native.repeat(T, lstm(32, 256)[0], c))
    carry = lstm(32, 256)[1]
    first = program(carry)
    for _ in range(20):
        for g, w in zip(program(carry), first, strict=True):
            np.testing.assert_array_equal(g, w)


def no_product(h):
    return jnp.tanh(h) * 2


def changing_matrix(h):
    return h @ h


def of_sorted(h):
    return jnp.sort(h @ jnp.ones((8, 8), "f"), 1)


def in_float64(h):
    return (h.astype(jnp.float64) @ jnp.ones((8, 8), jnp.float64)).astype(jnp.float32)


@pytest.mark.parametrize("step", [no_product, changing_matrix, of_sorted, in_float64])
def test_what_is_not_covered_stays_with_xla(step, caplog):
    h = numbers(8, 8, scale=0.1)
    with jax.enable_x64(True), caplog.at_level(logging.DEBUG, "headrace"):
        program = jax.jit(lambda h: native.repeat(T, step, h))
        assert "headrace_loop" not in program.lower(h).as_text()
        np.testing.assert_allclose(program(h), by_xla(T, step, h), rtol=1e-5)
    assert "a loop stays with XLA" in caplog.text or step is no_product


def test_a_body_that_changes_types_is_an_error():
    with pytest.raises(TypeError):
        jax.jit(lambda h: native.repeat(T, lambda h: (h @ h).astype(jnp.int32), h))(numbers(4, 4))


def test_reading_a_list_after_it_was_written():
    w = numbers(8, 8, scale=0.3)

    def step(carry):
        t, h, values = carry
        before = read(values, t + 1)
        values = write(values, dot(h, w), t)
        return t + 1, read(values, t) * 2 + before, values

    carry = jnp.int32(0), numbers(4, 8), jnp.asarray(numbers(T + 1, 4, 8, seed=1))
    want, got = (jax.jit(lambda c, r=r: r(T, step, c))(carry) for r in (by_xla, native.repeat))
    assert_close(got, want)


# ---- elementwise functions

FUNCTIONS = {
    "exp": (np.exp, 2.0),
    "tanh": (np.tanh, 8.0),
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), 4.0),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "sign": (np.sign, 0.0),
    "abs": (np.abs, 0.0),
    "neg": (np.negative, 0.0),
}
SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-30,
    -1e-30,
    88.7,
    88.8,
    -87.4,
    -103.0,
    -110.0,
    3e38,
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_functions(name):
    function, most = FUNCTIONS[name]
    x = np.concatenate([SPECIAL, np.linspace(-30, 30, 20_003), numbers(5000, scale=1e-3)])
    x = x.astype(np.float32)[None]
    apply = getattr(lax, name)
    eye = np.eye(4, dtype=np.float32)
    program = jax.jit(lambda c: native.repeat(1, lambda c: (c[1], apply(c[0]), dot(c[2], eye)), c))
    carry = x, np.zeros_like(x), numbers(4, 4)
    assert "headrace_loop" in program.lower(carry).as_text()
    got = np.asarray(program(carry)[1])
    with np.errstate(all="ignore"):
        want = function(x.astype(np.float64))
        rounded = want.astype(np.float32)
        off = np.abs(got.astype(np.float64) - want)
        units = off / np.spacing(np.maximum(np.abs(rounded), 1e-37))
    # What is denormal may count as zero.
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded)) | (off < 1.2e-38)
    assert np.all(same | (units <= most)), x[~same & ~(units <= most)][:10]


# ---- through the graph


def test_a_recurrent_network_and_its_gradients(monkeypatch):
    random = np.random.RandomState(0)
    for cell, is_second in ((tf.nn.rnn_cell.GRUCell, True), (tf.nn.rnn_cell.LSTMCell, False)):
        with tf.Graph().as_default():
            x = tf.constant(random.randn(4, 6, 16).astype(np.float32))
            outputs, _ = tf.nn.dynamic_rnn(cell(24), x, [6, 2, 0, 5], dtype=tf.float32)
            loss = tf.reduce_sum(tf.square(outputs))
            weights = tf.trainable_variables()
            wanted = gradients = tf.gradients(loss, weights)
            if is_second:
                square = tf.add_n([tf.reduce_sum(g * g) for g in gradients])
                wanted = wanted + tf.gradients(square, weights)
            values = [random.randn(*w.shape).astype(np.float32) * 0.2 for w in weights]
            start = [w.assign(value) for w, value in zip(weights, values, strict=True)]
            results = []
            for on in (False, True):
                monkeypatch.setattr(library, "_loaded", on)
                with tf.Session() as session:
                    session.run(start)
                    results.append([session.run([loss, wanted]) for _ in range(2)][1])
        for want, got in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * np.abs(want).max())
