"""Convolutions by the compiled kernels against XLA's, in all three directions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.native import Geometry, convolution, library

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

DIRECTIONS = range(3)


def same(size, window, stride, dilation):
    places = -(-size // stride)
    total = max((places - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def drawn(random, spatial):
    """A random problem: (shape of x, shape of w, geometry)."""
    while True:
        groups = int(random.choice([1, 1, 1, 2, 3]))
        per_group, out = int(random.integers(1, 20)), int(random.integers(1, 24))
        depthwise = random.random() < 0.25
        if depthwise:
            groups, per_group, out = int(random.integers(8, 40)), 1, int(random.choice([1, 1, 2]))
        sizes = random.integers(1, 30 if spatial == 2 else 9, spatial)
        window = [int(random.choice([1, 2, 3, 5])) for _ in range(spatial)]
        strides = [int(random.choice([1, 1, 2, 3])) for _ in range(spatial)]
        dilations = [int(random.choice([1, 1, 1, 2])) for _ in range(spatial)]
        kind = random.choice(["same", "valid", "explicit"])
        padding = []
        for size, k, s, d in zip(sizes, window, strides, dilations, strict=True):
            explicit = tuple(int(p) for p in random.integers(0, 3, 2))
            padding.append(
                {"same": same(size, k, s, d), "valid": (0, 0), "explicit": explicit}[kind]
            )
        x = (int(random.integers(1, 10)), *map(int, sizes), groups * per_group)
        w = (*window, per_group, groups * out)
        geometry = Geometry(tuple(strides), tuple(padding), tuple(dilations), groups)
        y = geometry.output_shape(x, w)
        if 0 not in y and np.prod(y) * np.prod(w[:-1]) < 3e7:
            return x, w, geometry


def check(random, x, w, geometry, directions=DIRECTIONS):
    """Compares what has a kernel; returns how many directions have."""
    y = geometry.output_shape(x, w)
    values = [random.standard_normal(shape).astype(np.float32) for shape in (x, w, y)]
    found = 0
    for direction, (a, b, out) in zip(DIRECTIONS, [(0, 1, 2), (2, 1, 0), (0, 2, 1)], strict=True):
        if direction not in directions or not convolution.has_kernel(direction, x, w, y, geometry):
            continue
        shape = (x, w, y)[out]
        both = (
            jax.jit(f, static_argnums=(0, 1, 2))(direction, shape, geometry, values[a], values[b])
            for f in (convolution._native, convolution._by_xla)
        )
        got, want = map(np.asarray, both)
        assert got.shape == shape and got.dtype == np.float32
        np.testing.assert_allclose(
            got,
            want,
            atol=3e-5 * max(abs(want).max(), 1),
            err_msg=f"{direction} {x} {w} {geometry}",
        )
        found += 1
    return found


def test_drawn_convolutions_equal_xlas():
    random = np.random.default_rng(7)
    counts = [check(random, *drawn(random, 2)) for _ in range(20)]
    counts += [check(random, *drawn(random, 3)) for _ in range(4)]
    assert sum(counts) > 1.5 * len(counts), counts


def test_pieces_of_images_and_of_batches():
    random = np.random.default_rng(3)
    for batch, rows, stride, dilation in [
        (1, 37, 1, 1),
        (1, 40, 2, 1),
        (1, 41, 1, 3),
        (7, 20, 1, 1),
        (3, 33, 2, 2),
    ]:
        x, w = (batch, rows, 36, 24), (3, 5, 24, 40)
        padding = same(rows, 3, stride, dilation), (1, 3)
        geometry = Geometry((stride, 1), padding, (dilation, 1))
        assert check(random, x, w, geometry) == 3
    # Windows that see nothing but padding are left to XLA.
    geometry = Geometry((1, 1), ((3, 0), (1, 1)), (1, 1))
    assert check(random, (1, 30, 30, 32), (3, 3, 32, 32), geometry) == 0


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_training_steps_with_second_derivatives(monkeypatch, kind):
    random = np.random.default_rng(5)
    image = random.standard_normal((4, 16, 16, 24)).astype(np.float32)
    dense = kind == "dense"
    shape = (3, 3, 24, 24) if dense else (3, 3, 24, 1)
    first = (random.standard_normal(shape) * 0.1).astype(np.float32)
    x = tf.placeholder(tf.float32, [None, 16, 16, 24])
    w = tf.get_variable("w", initializer=first)
    convolve = tf.nn.conv2d if dense else tf.nn.depthwise_conv2d
    y = tf.square(convolve(x, w, [1, 1, 1, 1], "SAME"))
    dx, dw = tf.gradients(tf.reduce_mean(y), [x, w])
    penalty = (
        tf.reduce_mean(y) + 100.0 * tf.reduce_sum(tf.square(dx)) + tf.reduce_sum(tf.square(dw))
    )
    train = tf.train.GradientDescentOptimizer(0.05).minimize(penalty)
    losses, values = [], []
    for on in (False, True):
        monkeypatch.setattr(library, "_loaded", on)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            losses.append([session.run([penalty, train], {x: image})[0] for _ in range(4)])
            values.append(session.run(w))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(values[1], values[0], atol=1e-5)
    assert losses[1][3] < losses[1][0]


def test_jax_may_differentiate_and_map_it():
    random = np.random.default_rng(6)
    x = random.standard_normal((3, 4, 12, 12, 16)).astype(np.float32)
    w = random.standard_normal((3, 3, 16, 16)).astype(np.float32)
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))

    def loss(convolve):
        return lambda x, w: jnp.sum(jnp.sin(convolve(x, w)))

    def xlas(x, w):
        return convolution._by_xla(0, (4, 12, 12, 16), geometry, x, w)

    def ours(x, w):
        return native.convolve(x, w, geometry)

    assert "headrace_convolution" in jax.jit(ours).lower(x[0], w).as_text()
    for got, want in zip(
        jax.grad(loss(ours), (0, 1))(x[0], w), jax.grad(loss(xlas), (0, 1))(x[0], w)
    ):
        np.testing.assert_allclose(got, want, atol=2e-3)
    got, want = (jax.vmap(f, (0, None))(x, w) for f in (ours, xlas))
    np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize(
    "x, w, dtype, geometry",
    [
        ((1, 5, 5, 2), (3, 3, 2, 2), np.float32, {}),  # smaller than a call
        ((8, 32, 32, 16), (3, 3, 16, 16), np.float64, {}),
        ((8, 16, 32, 32), (3, 3, 16, 16), np.float32, {"channels_last": False}),
    ],
)
def test_other_convolutions_are_xlas(x, w, dtype, geometry):
    geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), **geometry)
    with jax.enable_x64(True):
        x, w = jnp.ones(x, dtype), jnp.ones(w, dtype)
        y = native.convolve(x, w, geometry)
        for f, a, b, shape in (
            (native.convolve, x, w, ()),
            (native.input_gradient, y, w, (x.shape,)),
            (native.filter_gradient, x, y, (w.shape,)),
        ):
            text = jax.jit(lambda a, b: f(a, b, *shape, geometry)).lower(a, b).as_text()  # noqa: B023
            assert "headrace_convolution" not in text and "stablehlo.convolution" in text


def test_strided_depthwise_and_narrow_input_gradients_are_left_to_others():
    def chosen(x, w, geometry, direction):
        y = geometry.output_shape(x, w)
        return convolution._is_worth_it(direction, x, w, y, geometry)

    for stride in (1, 2):
        pads = ((1, 1), (1, 1))
        wide = chosen((8, 32, 32, 32), (3, 3, 1, 32), Geometry((stride,) * 2, pads, (1, 1), 32), 1)
        assert wide is (stride == 1)
    for window, channels in itertools.product((3, 5), (3, 16)):
        geometry = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
        wide = chosen((8, 32, 32, channels), (window, window, channels, 32), geometry, 1)
        assert wide is (window == 3 or channels == 16)
