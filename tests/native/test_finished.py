"""Convolutions finished in the same call, against the same in parts by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headrace import native
from headrace.lowering.jax_adapter import x64
from headrace.native import Geometry, convolution, finished

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")


@pytest.fixture(autouse=True)
def _programs_have_64_bits():
    with x64():
        yield


SAME = (1, 1)
# x, w, geometry: whole batches, images in bands of rows, strides and dilations, groups, depthwise, volumes.
PROBLEMS = {
    "batch": ((5, 12, 11, 16), (3, 3, 16, 24), Geometry((1, 1), (SAME, SAME), (1, 1))),
    "bands": ((2, 75, 80, 16), (3, 3, 16, 96), Geometry((1, 1), (SAME, SAME), (1, 1))),
    "one image": ((1, 40, 33, 16), (3, 3, 16, 24), Geometry((2, 1), (SAME, (0, 2)), (1, 1))),
    "strided 1x1": ((4, 14, 14, 32), (1, 1, 32, 48), Geometry((2, 2), ((0, 0),) * 2, (1, 1))),
    "dilated": ((2, 30, 31, 16), (3, 3, 16, 32), Geometry((1, 1), ((2, 2), (2, 1)), (2, 2))),
    "groups": ((2, 20, 20, 32), (3, 3, 16, 32), Geometry((1, 1), (SAME, SAME), (1, 1), 2)),
    "depthwise": ((2, 30, 30, 32), (3, 3, 1, 32), Geometry((1, 1), (SAME, SAME), (1, 1), 32)),
    "volume": ((2, 7, 8, 9, 16), (3, 3, 3, 16, 16), Geometry((1,) * 3, (SAME,) * 3, (1,) * 3)),
}


def operands(x, w, geometry, seed=0):
    """x, w, a factor and a shift for each channel, images as large as the result."""
    random = np.random.default_rng(seed)
    shape = geometry.output_shape(x, w)
    shapes = (x, w, shape[-1:], shape[-1:], shape)
    return [jnp.asarray(random.standard_normal(s).astype(np.float32)) for s in shapes]


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_equals_its_parts(name):
    *shapes, geometry = PROBLEMS[name]
    x, w, scale, shift, others = operands(*shapes, geometry)
    for steps in (
        [("times", scale), ("plus", shift), ("plus", others), ("between", 0.0)],
        [("plus", shift), ("times", scale), ("between", 0.0, 6.0)],
        [("plus", others.reshape(others.shape))],
        [("between", 0.0)],
    ):
        unfinished = finished.convolve(x, w, geometry)
        want = convolution.reference(x, w, geometry)
        for method, *given in steps:
            unfinished = getattr(unfinished, method)(*given)
            bounds = given if method == "between" else ()
            want = {
                "times": lambda a, b: a * b,
                "plus": lambda a, b: a + b,
                "between": lambda a, *b: jnp.clip(a, *bounds),  # noqa: B023
            }[method](want, *given)
        got = jax.jit(unfinished.finish)()
        assert got.shape == want.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=3e-5 * max(abs(want).max(), 1))


def test_what_cannot_follow():
    x, w, scale, shift, others = operands(*PROBLEMS["batch"])
    start = finished.convolve(x, w, PROBLEMS["batch"][-1])
    added, bounded = start.plus(others), start.between(0.0)
    assert added.plus(shift) is added.times(scale) is added.plus(others) is None
    assert bounded.plus(shift) is bounded.times(scale) is bounded.between(0.0, 6.0) is None
    row = scale.reshape(1, 1, 1, -1)
    assert start.times(row).scale.shape == scale.shape
    for other in (others[:1], others[0, 0, :, :1], scale[:1], scale[0], scale.astype(np.float16)):
        assert start.plus(other) is None and start.times(other) is None
    assert start.times(scale.reshape(1, 1, 1, 1, -1)) is None  # it would have one axis more


def test_numbers_that_are_none_stay():
    x, w, _, _, others = operands(*PROBLEMS["batch"])
    others = others.at[0, 0, 0, :4].set(jnp.array([np.nan, np.inf, -np.inf, 3.0]))
    unfinished = finished.convolve(x, w, PROBLEMS["batch"][-1]).plus(others)
    got = [unfinished.between(0.0, high).finish()[0, 0, 0] for high in (np.inf, 6.0)]
    np.testing.assert_array_equal(got[0][:3], [np.nan, np.inf, 0])
    np.testing.assert_array_equal(got[1][:3], [np.nan, 6, 0])


def test_jax_may_differentiate_and_map_it():
    *shapes, geometry = PROBLEMS["batch"]
    given = operands(*shapes, geometry)

    def ours(x, w, scale, shift, others):
        found = finished.convolve(x, w, geometry).times(scale).plus(shift).plus(others)
        return jnp.sum(jnp.sin(found.between(0.0).finish()))

    def parts(x, w, scale, shift, others):
        y = convolution.reference(x, w, geometry) * scale + shift + others
        return jnp.sum(jnp.sin(jax.nn.relu(y)))

    assert "headrace_finished_convolution" in jax.jit(ours).lower(*given).as_text()
    every = tuple(range(5))
    for got, want in zip(jax.grad(ours, every)(*given), jax.grad(parts, every)(*given)):
        np.testing.assert_allclose(got, want, atol=2e-3 * max(abs(want).max(), 1))
    many = [jnp.stack([given[0], 2 * given[0]]), *given[1:]]
    got, want = (jax.vmap(f, (0, None, None, None, None))(*many) for f in (ours, parts))
    np.testing.assert_allclose(got, want, rtol=1e-3)
