"""Matrix products and convolutions in 16 bits against NumPy's in float64 and against XLA's own."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.native import Geometry, convolution, library, matmul

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")
needs_tiles = pytest.mark.skipif(
    not library.half_available(), reason="the processor does not multiply tiles"
)

BFLOAT16 = ml_dtypes.bfloat16
FLAGS = [(False, False), (True, False), (False, True), (True, True)]
# Around the sizes of tiles; cut into rows, into columns, and not at all.
CASES = [
    ((), 1, 1, 1),
    ((), 5, 3, 2),
    ((), 47, 33, 129),
    ((), 32, 300, 2000),
    ((), 1700, 130, 131),
    ((), 333, 257, 1481),
    ((3,), 40, 50, 60),
    ((2, 5), 65, 64, 66),
    ((2,), 450, 200, 300),
    ((37,), 64, 48, 80),
]


def operands(batch, rows, inner, columns, transpose_a=False, transpose_b=False, dtype=BFLOAT16):
    random = np.random.default_rng(1)
    a = random.standard_normal((*batch, *((inner, rows) if transpose_a else (rows, inner))))
    b = random.standard_normal((*batch, *((columns, inner) if transpose_b else (inner, columns))))
    return a.astype(dtype), b.astype(dtype)


def expected(a, b, transpose_a=False, transpose_b=False):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.matmul(
        np.swapaxes(a, -1, -2) if transpose_a else a, np.swapaxes(b, -1, -2) if transpose_b else b
    )


def assert_rounded_once(got, want):
    """Half a unit in the last place of bfloat16, and what sums in float32 lose."""
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=1 / 254, atol=1e-3)


def multiplied(a, b, transpose_a=False, transpose_b=False):
    """The product by the kernel, whatever its size."""
    want = expected(a, b, transpose_a, transpose_b)
    got = np.empty(want.shape, BFLOAT16)
    arrays = (x.ctypes.data for x in (a, b, got))
    batch, inner = math.prod(a.shape[:-2]), a.shape[-2 if transpose_a else -1]
    sizes = batch, *want.shape[-2:], inner
    assert library.kernels().headrace_host_half_dot(*arrays, *sizes, transpose_a, transpose_b)
    assert_rounded_once(got, want)
    return got


@needs_tiles
@pytest.mark.parametrize("flags", FLAGS)
def test_products_of_every_shape_and_transposition(flags):
    for batch, *sizes in CASES:
        multiplied(*operands(batch, *sizes, *flags), *flags)
    a, b = operands((2,), 450, 200, 300, *flags)
    got = np.asarray(jax.jit(matmul._native_dot, static_argnums=(2, 3))(a, b, *flags))
    np.testing.assert_array_equal(got, multiplied(a, b, *flags))
    by_xla = jax.jit(matmul._xla_dot, static_argnums=(2, 3))(a, b, *flags)
    np.testing.assert_allclose(
        got.astype(np.float32), np.asarray(by_xla).astype(np.float32), rtol=1 / 100, atol=1e-2
    )


@needs_tiles
def test_empty_products_and_numbers_that_are_not_finite():
    for shape in [(0, 3, 4), (3, 0, 4), (3, 4, 0)]:
        a, b = operands((), *shape)
        got = matmul._native_dot(jnp.asarray(a), jnp.asarray(b), False, False)
        np.testing.assert_array_equal(np.asarray(got).astype(float), expected(a, b))
    a, b = operands((), 64, 128, 128)
    a[3, 5], a[9, 1], b[7, 11] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        want = expected(a, b)
    got = np.asarray(jax.jit(native.dot)(a, b)).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isposinf(got), np.isposinf(want))


@needs_tiles
def test_more_shapes_than_are_kept():
    for rows in [*range(1, 280), 1]:
        multiplied(*operands((), rows, 8, 8))


@pytest.mark.parametrize("dtype", [BFLOAT16, np.float16])
@pytest.mark.parametrize("tiles", [True, False])
def test_products_and_gradients_in_graphs(dtype, tiles, monkeypatch):
    monkeypatch.setattr(library, "_has_half", library._has_half and tiles)
    a, b = operands((), 96, 80, 112, dtype=dtype)
    called = (
        "headrace_half_dot" if library.half_available() and dtype == BFLOAT16 else "headrace_dot"
    )
    program = jax.jit(lambda a, b: native.dot(a, b)).lower(
        *operands((), 128, 128, 128, dtype=dtype)
    )
    assert f"@{called}(" in program.as_text()
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y = tf.placeholder(dtype, a.shape), tf.Variable(b)
        product = tf.matmul(x, y)
        loss = tf.reduce_sum(tf.cast(product, tf.float32) ** 2)
        gradients = tf.gradients(loss, [x, y])
        sess.run(tf.global_variables_initializer())
        got, dx, dy = sess.run([product, *gradients], {x: a})
    want = expected(a, b)
    assert got.dtype == dx.dtype == dy.dtype == dtype
    assert_rounded_once(got, want)
    slope = 2 * got.astype(np.float64)
    for gradient, exact in ((dx, slope @ b.astype(float).T), (dy, a.astype(float).T @ slope)):
        np.testing.assert_allclose(gradient.astype(float), exact, rtol=1 / 100, atol=0.5)


# (shape of x, shape of w, stride, padding, dilation, groups)
CONVOLUTIONS = [
    ((5, 17, 17, 3), (7, 7, 3, 64), 2, 3, 1, 1),
    ((1, 33, 20, 16), (3, 3, 16, 32), 1, 1, 1, 1),
    ((4, 28, 28, 32), (3, 3, 8, 64), 1, 1, 1, 4),
    ((2, 28, 28, 64), (3, 3, 1, 64), 1, 1, 1, 64),
    ((3, 14, 14, 32), (1, 1, 32, 192), 2, 0, 1, 1),
    ((4, 20, 20, 24), (3, 3, 24, 40), 1, 2, 2, 1),
    ((2, 6, 6, 6, 16), (3, 3, 3, 16, 24), 1, 1, 1, 1),
]


@pytest.mark.parametrize("tiles", [True, False])
def test_convolutions_in_their_three_directions(tiles, monkeypatch):
    monkeypatch.setattr(library, "_has_half", library._has_half and tiles)
    random = np.random.default_rng(3)
    native_calls = 0
    for x, w, stride, padding, dilation, groups in CONVOLUTIONS:
        n = len(x) - 2
        geometry = Geometry((stride,) * n, ((padding, padding),) * n, (dilation,) * n, groups)
        y = geometry.output_shape(x, w)
        values = [random.standard_normal(shape).astype(BFLOAT16) for shape in (x, w, y)]
        for direction, (a, b, out) in enumerate([(0, 1, 2), (2, 1, 0), (0, 2, 1)]):
            shape = (x, w, y)[out]
            known = direction, shape, geometry
            program = jax.jit(lambda a, b, known=known: convolution._apply(
                known[0], a, b, *known[1:], None)).lower(values[a], values[b])  # fmt: skip
            native_calls += program.as_text().count("@headrace_convolution(")
            got = np.asarray(program.compile()(values[a], values[b]))
            wide = (values[i].astype(np.float32) for i in (a, b))
            want = np.asarray(jax.jit(convolution._by_xla, static_argnums=(0, 1, 2))(*known, *wide))
            assert got.shape == shape and got.dtype == BFLOAT16
            np.testing.assert_allclose(
                got.astype(np.float32), want, rtol=1 / 200, atol=1e-3 * abs(want).max()
            )
            on_host = native.host._apply(direction, values[a], values[b], shape, geometry)
            if on_host is not None:
                np.testing.assert_allclose(
                    on_host.astype(np.float32), want, rtol=1 / 200, atol=1e-3 * abs(want).max()
                )
    assert native_calls >= 16


def test_gradients_of_pools_are_summed_in_float32():
    x = np.random.default_rng(0).standard_normal((2, 9, 9, 3)).astype(BFLOAT16)
    results = []
    for dtype in (tf.bfloat16, tf.float32):
        with tf.Graph().as_default(), tf.Session() as sess:
            images = tf.cast(tf.placeholder(tf.float32, x.shape), dtype)
            pooled = tf.nn.max_pool(images, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
            gradient = tf.cast(tf.gradients(pooled, images)[0], tf.float32)
            feeds = {tf.get_default_graph().get_operations()[0].outputs[0]: x.astype(np.float32)}
            results += [sess.run(gradient, feeds) for _ in range(2)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


PROGRAM = """
import numpy as np, ml_dtypes, jax
import headrace as tf
from headrace.native import library
a = (np.arange(128 * 128).reshape(128, 128) % 7 - 3).astype(ml_dtypes.bfloat16)
x = tf.placeholder(tf.bfloat16, [128, 128])
y = tf.matmul(x, x, transpose_b=True)
with tf.Session() as sess:
    for _ in range(3):
        got = sess.run(y, {x: a}).astype(float)
exact = a.astype(float) @ a.astype(float).T
assert np.allclose(got, exact, rtol=1 / 254), abs(got - exact).max()
print(library.available(), library.half_available())
"""


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE_BF16"])
def test_processors_without_tiles_compute_in_float32(isa):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False"]
