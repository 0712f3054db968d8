"""Grayscale dilation: the maximum over each window of the input plus the filter, and the ops of its gradients."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.ops import pooling_windows
from headrace.ops.pooling_windows import Windows, windows_of
from headrace.ops.windows import output_size, per_axis

_ATTRS = (
    "T: {float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64}, "
    "strides: list(int) >= 4, rates: list(int) >= 4, padding: {'SAME', 'VALID'}"
)


def _check_attrs(op) -> None:
    for name, what in (("strides", "Stride"), ("rates", "Rate")):
        values = per_axis(op, name, 4)
        if values[0] != 1 or values[3] != 1:
            raise errors.UnimplementedError(
                None,
                op,
                f"{op.type} op {op.name!r}: {what} is only supported across spatial dimensions, got {values}.",
            )


def _windows(op, x, w) -> Windows:
    """The windows of `op`; along batch and channels they have size 1."""
    if x.ndim != 4 or w.ndim != 3:
        raise op.invalid(
            f"input must be 4-dimensional and filter 3-dimensional, got {x.shape} and {w.shape}"
        )
    if x.shape[3] != w.shape[2]:
        raise op.invalid(f"input and filter must have the same depth: {x.shape[3]} vs {w.shape[2]}")
    ksize = (1, w.shape[0], w.shape[1], 1)
    return windows_of(op, x.shape, ksize, op.attr("strides"), op.attr("padding"), op.attr("rates"))


def _inside(windows: Windows, offset: tuple[int, ...]) -> np.ndarray | None:
    """Which places have the value at `offset` inside the input; None: all."""
    if not any(any(p) for p in windows.pads):
        return None
    inside = np.ones((1, 1, 1, 1), bool)
    for axis in (1, 2):
        at = (
            np.arange(windows.places[axis]) * windows.strides[axis]
            - windows.pads[axis][0]
            + offset[axis]
        )
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        inside = inside & ((at >= 0) & (at < windows.sizes[axis])).reshape(shape)
    return inside


def _first_maximum(x, w, windows: Windows):
    """The maximum of each window, and the number of the first offset where it is."""
    best = jnp.full(windows.places, pooling_windows.lowest(x.dtype), x.dtype)
    which = jnp.zeros(windows.places, jnp.int32)
    weights = w.reshape(-1, w.shape[2])
    for number, (offset, values) in enumerate(
        zip(windows.offsets(), windows.slices(x, 0), strict=True)
    ):
        candidates = values + weights[number]
        better = candidates > best
        inside = _inside(windows, offset)
        if inside is not None:
            better = better & inside
        best, which = (
            jnp.where(better, candidates, best),
            jnp.where(better, jnp.int32(number), which),
        )
    return best, which


# ---- Dilation2D

dilation2d = define("Dilation2D", "input: T, filter: T -> output: T", _ATTRS)


@dilation2d.shape
def _dilation2d_shape(op, x, w):
    _check_attrs(op)
    x, w = shapes.with_rank(op, x, 4, "input"), shapes.with_rank(op, w, 3, "filter")
    channels = shapes.merge_size(op, x[3], w[2], "channels of input and filter")
    strides, rates, padding = op.attr("strides"), op.attr("rates"), op.attr("padding")
    places = [output_size(op, x[i], w[i - 1], strides[i], rates[i], padding) for i in (1, 2)]
    return (x[0], *places, channels)


@dilation2d.lower
def _dilation2d_lower(op, x, w):
    windows = _windows(op, x, w)
    return _first_maximum(x, w, windows)[0]


@dilation2d.gradient
def _dilation2d_gradient(op, dy):
    x, w = op.inputs
    attrs = {n: op.attr(n) for n in ("strides", "rates", "padding")}
    return raw.Dilation2DBackpropInput(x, w, dy, **attrs), raw.Dilation2DBackpropFilter(
        x, w, dy, **attrs
    )


# ---- Dilation2DBackpropInput, Dilation2DBackpropFilter: the gradient of a place goes where its maximum was


def _check_fits(op, windows: Windows, dy) -> None:
    if tuple(dy.shape) != windows.places:
        raise op.invalid(
            f"out_backprop has incompatible size: expected {windows.places}, got {tuple(dy.shape)}"
        )


def _no_second_gradient(op, dd):
    raise LookupError(
        f"No gradient defined for operation {op.name!r} (op type: {op.type}){op._site_line()}"
    )


dilation2d_backprop_input = define(
    "Dilation2DBackpropInput", "input: T, filter: T, out_backprop: T -> in_backprop: T", _ATTRS
)


@dilation2d_backprop_input.shape
def _dilation2d_backprop_input_shape(op, x, w, dy):
    _check_attrs(op)
    return shapes.with_rank(op, x, 4, "input")


@dilation2d_backprop_input.lower
def _dilation2d_backprop_input_lower(op, x, w, dy):
    windows = _windows(op, x, w)
    _check_fits(op, windows, dy)
    which = lax.optimization_barrier(_first_maximum(x, w, windows)[1])
    zero = jnp.zeros((), dy.dtype)
    return windows.spread([jnp.where(which == i, dy, zero) for i in range(windows.count)])


dilation2d_backprop_input.gradient(_no_second_gradient)

dilation2d_backprop_filter = define(
    "Dilation2DBackpropFilter", "input: T, filter: T, out_backprop: T -> filter_backprop: T", _ATTRS
)


@dilation2d_backprop_filter.shape
def _dilation2d_backprop_filter_shape(op, x, w, dy):
    _check_attrs(op)
    return shapes.with_rank(op, w, 3, "filter")


@dilation2d_backprop_filter.lower
def _dilation2d_backprop_filter_lower(op, x, w, dy):
    windows = _windows(op, x, w)
    _check_fits(op, windows, dy)
    which = lax.optimization_barrier(_first_maximum(x, w, windows)[1])
    zero = jnp.zeros((), dy.dtype)
    sums = [
        jnp.sum(jnp.where(which == i, dy, zero), (0, 1, 2), dtype=dy.dtype)
        for i in range(windows.count)
    ]
    return jnp.stack(sums).reshape(w.shape)


dilation2d_backprop_filter.gradient(_no_second_gradient)
