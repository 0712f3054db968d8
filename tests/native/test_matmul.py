"""Matrix products by the compiled kernels against NumPy's in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.lowering import loop_body
from headrace.native import library, matmul, packed

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

# Sizes around those of the kernels' blocks, products that are cut into rows, into columns, into both, and not at all.
SIZES = [
    (1, 1, 1),
    (5, 3, 2),
    (47, 33, 129),
    (32, 300, 1000),
    (700, 130, 31),
    (333, 257, 481),
    (2, 1000, 6),
]
# Large enough for the kernels that are not oneDNN's, on up to four threads; one block of `inner` and several.
LARGE = [(1100, 523, 601), (1030, 1041, 2059), (1024, 256, 512)]


def operands(batch, rows, inner, columns, transpose_a, transpose_b, seed=0):
    random = np.random.default_rng(seed)
    a = random.standard_normal((*batch, *((inner, rows) if transpose_a else (rows, inner))))
    b = random.standard_normal((*batch, *((columns, inner) if transpose_b else (inner, columns))))
    return a.astype(np.float32), b.astype(np.float32)


def expected(a, b, transpose_a, transpose_b):
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    b = np.swapaxes(b, -1, -2) if transpose_b else b
    return np.matmul(a.astype(np.float64), b.astype(np.float64))


def test_products_of_every_shape_and_transposition():
    cases = [((), *size) for size in SIZES]
    cases += [((3,), 40, 50, 60), ((2, 5), 65, 64, 66), ((2,), 150, 200, 300), ((37,), 64, 48, 80)]
    for batch, rows, inner, columns in cases:
        for flags in [(False, False), (True, False), (False, True), (True, True)]:
            a, b = operands(batch, rows, inner, columns, *flags)
            got = jax.jit(matmul._native_dot, static_argnums=(2, 3))(a, b, *flags)
            want = expected(a, b, *flags)
            assert got.shape == want.shape and got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * inner)


def test_large_products_of_every_transposition():
    for rows, inner, columns in LARGE:
        for flags in [(False, False), (True, False), (False, True), (True, True)]:
            a, b = operands((), rows, inner, columns, *flags)
            a[(3, 1) if flags[0] else (1, 3)] = np.inf
            got = np.asarray(matmul.host_dot(a, b, *flags))
            want = expected(a, b, *flags)
            assert np.array_equal(np.isfinite(got), np.isfinite(want))
            assert not np.isfinite(got[1]).any() and np.isfinite(np.delete(got, 1, 0)).all()
            got, want = np.delete(got, 1, 0), np.delete(want, 1, 0)
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-6 * inner**0.5 * 10)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_products(shape):
    a, b = operands((), *shape, False, False)
    np.testing.assert_array_equal(matmul._native_dot(a, b, False, False), a @ b)
    a, b = operands((0,), 3, 4, 5, False, False)
    assert matmul._native_dot(a, b, False, False).shape == (0, 3, 5)


def test_what_is_not_finite_stays_so():
    a, b = operands((), 64, 128, 128, False, False)
    a[3, 5], a[9, 1], b[7, 11] = np.nan, np.inf, -np.inf
    # The old contents of the result's buffer must not count either: NaN times zero is NaN.
    for _ in range(2):
        got = np.asarray(jax.jit(native.dot)(a, b))
        with np.errstate(invalid="ignore"):
            want = expected(a, b, False, False)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(np.isposinf(got), np.isposinf(want))
        jnp.full((64, 128), np.nan).block_until_ready()


def test_inside_loops_with_donation_and_64_bit_types():
    w, x = operands((), 96, 96, 96, False, False)
    w *= 0.1

    def steps(x, w):
        def body(i, x):
            return jnp.tanh(native.dot(x, w))

        return jax.lax.fori_loop(0, 20, body, x)

    want = x.astype(np.float64)
    for _ in range(20):
        want = np.tanh(want @ w)
    for on in (False, True):
        with jax.enable_x64(on):
            compiled = jax.jit(steps, donate_argnums=(0,))
            assert "headrace_dot" in compiled.lower(x, w).as_text()
            got = compiled(jnp.array(x), w)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_jax_may_differentiate_and_map_it():
    a, b = operands((), 90, 80, 90, True, False)

    def loss(dot):
        return lambda a, b: jnp.sum(jnp.sin(dot(a, b, True, False)))

    with jax.default_matmul_precision("highest"):
        got, want = (jax.grad(loss(dot), (0, 1))(a, b) for dot in (native.dot, matmul._xla_dot))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-3)
    a, b = operands((4,), 90, 80, 90, False, False)
    np.testing.assert_allclose(jax.vmap(native.dot)(a, b), a @ b, atol=1e-3)


@pytest.mark.parametrize(
    "shapes, dtype",
    [
        (((1, 4096), (4096, 4096)), np.float32),  # waits for memory
        (((8, 8), (8, 8)), np.float32),  # smaller than a call
        (((128, 128), (128, 128)), np.float64),
        (((128, 128), (128, 128)), np.int32),
    ],
)
def test_other_products_are_xlas(shapes, dtype):
    with jax.enable_x64(True):
        a, b = (jnp.zeros(shape, dtype) for shape in shapes)
        text = jax.jit(native.dot).lower(a, b).as_text()
    assert "headrace_dot" not in text and "dot_general" in text


def test_what_a_loop_multiplies_by_is_packed_once_before_it(monkeypatch):
    x = tf.placeholder(tf.float32, [None, 256])
    w = tf.get_variable("w", initializer=operands((), 256, 256, 1, False, False)[0] * 0.05)
    kept = tf.constant(operands((), 256, 256, 1, False, False, seed=1)[0] * 0.05)

    def body(i, y):
        y = tf.tanh(tf.matmul(y, w, transpose_b=True)) + tf.matmul(y, kept, transpose_b=True)
        # What changes in the loop, or is only computed in a branch, is left as it is.
        return i + 1, y + tf.cond(
            i > 2, lambda: tf.matmul(tf.matmul(y, y, True), w, False, True), lambda: w
        )[:32]

    y = tf.while_loop(lambda i, y: i < 5, body, [0, x])[1]
    dw = tf.gradients(tf.reduce_sum(y), w)[0]
    first = operands((), 32, 256, 1, False, False, seed=2)[0]
    results = []
    for on in (False, True):
        monkeypatch.setattr(library, "_loaded", on)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            results.append([session.run([y, dw], {x: first}) for _ in range(2)])
    for want, got in zip(*results, strict=True):
        for g, w_ in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w_, atol=1e-5 * abs(w_).max())
    operand = jnp.zeros((32, 256)), jnp.zeros((256, 256))

    def looped(x, w):
        def step(i, x):
            with loop_body.traced():
                fixed = loop_body.is_invariant(w), loop_body.is_invariant(x)
                assert fixed == (True, False)
                return native.dot(x, w, False, True, b_is_invariant=fixed[0])

        assert not loop_body.is_invariant(w)
        return jax.lax.fori_loop(0, 9, step, x)

    text = jax.jit(looped).lower(*operand).compile().as_text()
    body, main = text.split("ENTRY")
    assert '"headrace_packed_dot"' in body and '"headrace_pack"' not in body
    assert '"headrace_pack"' in main


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("shape", [(32, 256, 1024), (1, 64, 100), (33, 70, 65), (128, 300, 1000)])
def test_products_with_a_packed_matrix(shape, transpose_b):
    a, b = operands((), *shape, False, transpose_b)
    got = jax.jit(packed.packed_dot, static_argnums=2)(a, b, transpose_b)
    want = expected(a, b, False, transpose_b)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * shape[1])


def test_a_packed_matrix_of_another_product_is_refused():
    a = jnp.zeros((32, 256))
    multiply = jax.ffi.ffi_call(
        "headrace_packed_dot", jax.ShapeDtypeStruct((32, 1024), jnp.float32)
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="packed for another product"):
        multiply(a, jnp.zeros(17), pieces=4)


def test_empty_arrays():
    assert native.empty((3, 4), np.int32).shape == (3, 4)
    one, other = jax.jit(lambda: (native.empty((64, 1024), "f4"), native.empty((64, 1024), "f4")))()
    assert one.shape == other.shape == (64, 1024) and one.dtype == np.float32
