"""Patches of images and volumes laid side by side in depth: ExtractImagePatches, ExtractVolumePatches."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static, shape_of

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"


def _windows(size: int, kernel: int, stride: int, rate: int, padding: str) -> tuple[int, int, int]:
    """How many windows fit along an axis, and how much is padded before and after it."""
    reach = (kernel - 1) * rate + 1
    if padding == "VALID":
        return max(0, -(-(size - reach + 1) // stride)), 0, 0
    count = -(-size // stride)
    pad = max((count - 1) * stride + reach - size, 0)
    return count, pad // 2, pad - pad // 2


def _spatial(op, has_rates: bool) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and rates along the axes of space."""
    kernel, strides = op.attr("ksizes"), op.attr("strides")
    rates = op.attr("rates") if has_rates else [1] * len(kernel)
    return kernel[1:-1], strides[1:-1], rates[1:-1]


# Sizes in the gradient: arrays where they are known while the graph is built, else nodes.
_NUMPY = {
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Maximum": np.maximum,
    "FloorDiv": np.floor_divide,
}


def _compute(op_type: str, a, b):
    b = np.int32(b) if isinstance(b, int) else b
    if is_static(a) and is_static(b):
        return _NUMPY[op_type](a, b).astype(np.int32)
    return getattr(raw, op_type)(a, b)


def _cut(sizes, begin: int, end: int):
    return sizes[begin:end] if is_static(sizes) else raw.StridedSlice(sizes, [begin], [end], [1])


def _join(*parts):
    return np.concatenate(parts) if all(map(is_static, parts)) else raw.ConcatV2(list(parts), 0)


def _define_patches(name: str, first: str, rank: int, attrs: str) -> OpDef:
    definition = define(name, f"{first}: T -> patches: T", attrs)
    has_rates = "rates" in attrs

    @definition.shape
    def _patches_shape(op, x) -> Dims:
        x = shapes.with_rank(op, x, rank, first)
        for attr in ("ksizes", "strides", *(("rates",) if has_rates else ())):
            values = op.attr(attr)
            if len(values) != rank or values[0] != 1 or values[-1] != 1:
                raise op.error(
                    f"{attr} needs {rank} numbers, of which the first and the last are 1, got {values}."
                )
        kernel, strides, rates = _spatial(op, has_rates)
        space = [
            None if d is None else _windows(d, k, s, r, op.attr("padding"))[0]
            for d, k, s, r in zip(x[1:-1], kernel, strides, rates, strict=True)
        ]
        depth = None if x[-1] is None else x[-1] * int(np.prod(kernel))
        return (x[0], *space, depth)

    @definition.host
    @definition.lower
    def _patches_lower(op, x):
        kernel, strides, rates = _spatial(op, has_rates)
        found = [
            _windows(d, k, s, r, op.attr("padding"))
            for d, k, s, r in zip(x.shape[1:-1], kernel, strides, rates, strict=True)
        ]
        widths = [(0, 0), *((before, after) for _, before, after in found), (0, 0)]
        if is_static(x):
            padded = np.pad(x, widths)
        else:
            padded = lax.pad(x, jnp.zeros((), x.dtype), [(b, a, 0) for b, a in widths])
        parts = []
        for offsets in itertools.product(*map(range, kernel)):
            index = [slice(None)]
            for at, (count, _, _), stride, rate in zip(offsets, found, strides, rates, strict=True):
                index.append(
                    slice(
                        at * rate,
                        at * rate + (count - 1) * stride + 1 if count else at * rate,
                        stride,
                    )
                )
            parts.append(padded[tuple(index)])
        return (np if is_static(x) else jnp).concatenate(parts, -1)

    @definition.gradient
    def _patches_gradient(op, dy):
        """Each slice of depth goes back to where it was cut; what overlaps adds up."""
        x = op.inputs[0]
        kernel, strides, rates = (np.array(v, np.int32) for v in _spatial(op, has_rates))
        shape_of_x = shape_of(x)
        size, count = _cut(shape_of_x, 1, rank - 1), _cut(shape_of(dy), 1, rank - 1)
        # What the last window takes beyond the image was padding, half of it before (nothing for VALID).
        span = _compute("AddV2", _compute("Mul", _compute("Sub", count, 1), strides), 1)
        reach = _compute("AddV2", span, (kernel - 1) * rates)
        padding = _compute("Maximum", _compute("Sub", reach, size), 0)
        before = _compute("FloorDiv", padding, 2)
        padded = _join(
            _cut(shape_of_x, 0, 1),
            _compute("AddV2", size, padding),
            _cut(shape_of_x, rank - 1, rank),
        )
        nothing = np.zeros(1, np.int32)
        whole = 1 | 1 << (rank - 1)
        parts = raw.Split(rank - 1, dy, num_split=int(np.prod(kernel)))
        back = []
        for offsets, part in zip(itertools.product(*map(range, kernel)), parts, strict=True):
            begin = np.array(offsets, np.int32) * rates
            back.append(
                raw.StridedSliceGrad(
                    padded,
                    _join(nothing, begin, nothing),
                    _join(nothing, _compute("AddV2", span, begin), nothing),
                    np.array([1, *strides, 1], np.int32),
                    part,
                    begin_mask=whole,
                    end_mask=whole,
                )
            )
        total = raw.AddN(back) if len(back) > 1 else back[0]
        return raw.Slice(total, _join(nothing, before, nothing), shape_of_x)

    return definition


extract_image_patches = _define_patches(
    "ExtractImagePatches",
    "images",
    4,
    "ksizes: list(int) >= 4, strides: list(int) >= 4, rates: list(int) >= 4, "
    f"T: {{{_REAL}}}, padding: {{'SAME', 'VALID'}}",
)
extract_volume_patches = _define_patches(
    "ExtractVolumePatches",
    "input",
    5,
    f"ksizes: list(int) >= 5, strides: list(int) >= 5, T: {{{_REAL}}}, padding: {{'SAME', 'VALID'}}",
)
