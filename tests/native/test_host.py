"""The kernels of the host against XLA's: convolutions, batch normalisation, batches of products."""

import jax
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.graph.op_def import lookup
from headrace.native import Geometry, convolution, host

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

# (x, w, strides, padding, dilations, groups)
PROBLEMS = {
    "plain": ((2, 9, 8, 5), (3, 3, 5, 7), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "strided": ((3, 11, 10, 16), (5, 3, 16, 8), (2, 2), ((2, 2), (0, 1)), (1, 1), 1),
    "dilated": ((1, 12, 12, 4), (3, 3, 4, 6), (1, 1), ((0, 0), (0, 0)), (2, 2), 1),
    "grouped": ((2, 8, 8, 12), (3, 3, 6, 8), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "one by one": ((4, 7, 7, 32), (1, 1, 32, 16), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "volume": ((1, 5, 6, 7, 4), (2, 3, 3, 4, 8), (1, 2, 1), ((0, 1), (1, 1), (1, 1)), (1,) * 3, 1),
}


@pytest.mark.parametrize(
    "name, channels_last",
    [*((name, True) for name in PROBLEMS), ("strided", False), ("volume", False)],
)
def test_convolutions_equal_xlas(name, channels_last):
    x, w, strides, padding, dilations, groups = PROBLEMS[name]
    random = np.random.default_rng(3)
    geometry = Geometry(strides, padding, dilations, groups, channels_last)
    if not channels_last:
        x = (x[0], x[-1], *x[1:-1])
    y = geometry.output_shape(x, w)
    xs, ws, ys = (random.standard_normal(s).astype(np.float32) for s in (x, w, y))
    cases = [
        (convolution.FORWARD, host.convolve(xs, ws, geometry), (xs, ws), y),
        (convolution.INPUT_GRADIENT, host.input_gradient(ys, ws, x, geometry), (ys, ws), x),
        (convolution.FILTER_GRADIENT, host.filter_gradient(xs, ys, w, geometry), (xs, ys), w),
    ]
    for direction, got, operands, shape in cases:
        program = jax.jit(convolution._by_xla, static_argnums=(0, 1, 2))
        want = np.asarray(program(direction, shape, geometry, *operands))
        assert got.shape == shape and got.flags.c_contiguous
        np.testing.assert_allclose(got, want, atol=3e-5 * abs(want).max())


def test_what_has_no_kernel_is_left_to_others():
    geometry = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1))
    x, w = np.ones((1, 4, 4, 2)), np.ones((2, 2, 2, 3))
    assert host.convolve(x, w, geometry) is None  # float64
    assert host.convolve(x[:0].astype(np.float32), w.astype(np.float32), geometry) is None
    with native.without():
        single = x.astype(np.float32), w.astype(np.float32)
        assert host.convolve(*single, geometry) is None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_batch_norm_equals_xlas(training, data_format):
    random = np.random.default_rng(5)
    shape = (6, 9, 11, 70) if data_format == "NHWC" else (6, 70, 9, 11)
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, shape)
        vectors = [tf.placeholder(tf.float32, [70]) for _ in range(2)]
        statistics = [tf.placeholder(tf.float32, [0 if training else 70]) for _ in range(2)]
        y = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=vectors[0],
            offset=vectors[1],
            mean=statistics[0],
            variance=statistics[1],
            data_format=data_format,
            is_training=training,
        )
        dy = tf.placeholder(tf.float32, shape)
        gradient = tf.gradients(y[0], x, dy)[0].op
    values = (
        (3 * random.standard_normal(shape) + 5).astype(np.float32),
        *(random.uniform(1, 2, 70).astype(np.float32) for _ in range(2)),
        *(random.uniform(1, 2, s.shape.as_list()).astype(np.float32) for s in statistics),
    )
    op = y[0].op
    want = _compiled(op, *values)
    _compare(op._definition.native_rule(op, *values), want)
    saved = tuple(map(np.asarray, want[3:5]))
    arguments = (random.standard_normal(shape).astype(np.float32), values[0], values[1], *saved)
    got = gradient._definition.native_rule(gradient, *arguments)
    _compare(got, _compiled(gradient, *arguments))


def _compiled(op, *values):
    return jax.jit(lambda *traced: op._definition.lower_rule(op, *traced))(*values)


def _compare(got, want):
    for a, b in zip(got, want, strict=False):
        b = np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * max(abs(b).max(initial=0), 1))


def test_sums_do_not_depend_on_the_threads():
    random = np.random.default_rng(6)
    x = random.standard_normal((40, 30, 30, 24)).astype(np.float32)
    one = np.ones(24, np.float32)
    first = host.batch_norm(x, one, one, None, 1e-3)
    for _ in range(3):
        again = host.batch_norm(x, one, one, None, 1e-3)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("adj_x, adj_y", [(False, False), (True, False), (False, True)])
def test_batches_of_products_are_numpys(adj_x, adj_y):
    random = np.random.default_rng(8)
    a = random.standard_normal((3, 2, 40, 64)).astype(np.float32)
    b = random.standard_normal((3, 2, 64, 48)).astype(np.float32)
    want = a @ b
    a = np.swapaxes(a, -1, -2) if adj_x else a
    b = np.swapaxes(b, -1, -2) if adj_y else b
    got = native.host_dot(a, b, adj_x, adj_y)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_ops_that_numpy_has_not_name_their_kernels():
    for name in ("Conv2D", "Conv3DBackpropInputV2", "DepthwiseConv2dNative", "MaxPoolGrad"):
        assert lookup(name).native_rule is not None and lookup(name).host_rule is None
