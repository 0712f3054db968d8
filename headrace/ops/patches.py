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
        if not shapes.is_known(x._dims[1:]):
            raise op.error(
                f"the gradient needs sizes that are known while the graph is built, got {shapes.text(x._dims)}."
            )
        kernel, strides, rates = _spatial(op, has_rates)
        found = [
            _windows(d, k, s, r, op.attr("padding"))
            for d, k, s, r in zip(x._dims[1:-1], kernel, strides, rates, strict=True)
        ]
        depth = x._dims[-1]
        padded = [b + d + a for d, (_, b, a) in zip(x._dims[1:-1], found, strict=True)]
        if x._dims[0] is not None:
            shape = np.array([x._dims[0], *padded, depth], np.int32)
        else:
            batch = raw.StridedSlice(raw.Shape(x), [0], [1], [1])
            shape = raw.ConcatV2([batch, np.array([*padded, depth], np.int32)], 0)
        parts = raw.Split(rank - 1, dy, num_split=int(np.prod(kernel)))
        parts = parts if isinstance(parts, list) else [parts]
        back = []
        for offsets, part in zip(itertools.product(*map(range, kernel)), parts, strict=True):
            begin = [0, *(at * r for at, r in zip(offsets, rates, strict=True)), 0]
            end = [
                0,
                *(
                    b + (n - 1) * s + 1
                    for b, (n, _, _), s in zip(begin[1:-1], found, strides, strict=True)
                ),
                0,
            ]
            whole = 1 | 1 << (rank - 1)
            back.append(
                raw.StridedSliceGrad(
                    shape, begin, end, [1, *strides, 1], part, begin_mask=whole, end_mask=whole
                )
            )
        total = raw.AddN(back) if len(back) > 1 else back[0]
        return raw.Slice(total, [0, *(b for _, b, _ in found), 0], shape_of(x))

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
