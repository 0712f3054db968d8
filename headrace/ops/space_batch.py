"""Blocks of space moved to other axes: SpaceToBatch, BatchToSpace, SpaceToDepth, DepthToSpace."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static

# ---- SpaceToBatchND, SpaceToBatch


def _to_batch_dims(op, x: Dims, block, paddings) -> Dims:
    if x is None:
        return None
    if block is None:
        # How many axes are cut into blocks may be known all the same.
        sizes = op._inputs[1]._dims
        count = len(x) - 1 if sizes is None or sizes[0] is None else sizes[0]
        return (None,) * (count + 1) + x[count + 1 :]
    count = len(block)
    shapes.at_least_rank(op, x, count + 1)
    if (block < 1).any():
        raise op.error(f"block_shape must be positive, got {list(block)}.")
    batch = None if x[0] is None else x[0] * int(np.prod(block))
    if paddings is None:
        return (batch, *(None,) * count, *x[count + 1 :])
    if paddings.shape != (count, 2):
        raise op.error(
            f"paddings should have shape [{count}, 2] instead of {shapes.brackets(paddings.shape)}."
        )
    if (paddings < 0).any():
        raise op.error(f"paddings cannot be negative: {paddings.tolist()}.")
    space: list[int | None] = []
    for size, b, (before, after) in zip(x[1 : count + 1], block, paddings, strict=True):
        if size is None:
            space.append(None)
            continue
        whole = size + int(before) + int(after)
        if whole % b:
            raise op.error(
                f"padded size {whole} is not divisible by the block size {b}: input {shapes.text(x)}."
            )
        space.append(whole // int(b))
    return (batch, *space, *x[count + 1 :])


def _to_batch(op, x, block: np.ndarray, paddings: np.ndarray):
    count = len(block)
    if len(x.shape) < count + 1 or paddings.shape != (count, 2):
        raise op.invalid(
            f"input rank should be >= {count + 1} and paddings of shape [{count}, 2], got "
            f"{shapes.brackets(x.shape)} and "
            f"{shapes.brackets(paddings.shape)}"
        )
    if (paddings < 0).any():
        raise op.invalid(f"Paddings must be non-negative, got {paddings.tolist()}")
    widths = [
        (0, 0),
        *((int(b), int(a)) for b, a in paddings),
        *[(0, 0)] * (len(x.shape) - count - 1),
    ]
    if is_static(x):
        x = np.pad(x, widths)
    else:
        x = lax.pad(x, jnp.zeros((), x.dtype), [(b, a, 0) for b, a in widths])
    for i, b in enumerate(block):
        if x.shape[i + 1] % b:
            raise op.invalid(
                f"padded_shape[{i}]={x.shape[i + 1]} is not divisible by block_shape[{i}]={b}"
            )
    rest = x.shape[count + 1 :]
    split: list[int] = [x.shape[0]]
    for size, b in zip(x.shape[1 : count + 1], block, strict=True):
        split += [size // int(b), int(b)]
    x = x.reshape((*split, *rest))
    order = [
        *range(2, 2 * count + 1, 2),
        0,
        *range(1, 2 * count, 2),
        *range(2 * count + 1, 2 * count + 1 + len(rest)),
    ]
    return x.transpose(order).reshape((split[0] * int(np.prod(block)), *split[1::2], *rest))


space_to_batch_nd = define(
    "SpaceToBatchND",
    "input: T, block_shape: Tblock_shape, paddings: Tpaddings -> output: T",
    "T: type, Tblock_shape: {int32, int64} = int32, Tpaddings: {int32, int64} = int32",
    static_inputs=("block_shape", "paddings"),
)


@space_to_batch_nd.shape
def _space_to_batch_nd_shape(op, x, block_shape, paddings) -> Dims:
    shapes.with_rank(op, block_shape, 1, "block_shape")
    shapes.with_rank(op, paddings, 2, "paddings")
    return _to_batch_dims(op, x, op.static(1), op.static(2))


@space_to_batch_nd.host
@space_to_batch_nd.lower
def _space_to_batch_nd_lower(op, x, block_shape: np.ndarray, paddings: np.ndarray):
    return _to_batch(op, x, block_shape, paddings)


@space_to_batch_nd.gradient
def _space_to_batch_nd_gradient(op, dy):
    return raw.BatchToSpaceND(dy, op.inputs[1], op.inputs[2]), None, None


space_to_batch = define(
    "SpaceToBatch",
    "input: T, paddings: Tpaddings -> output: T",
    "T: type, Tpaddings: {int32, int64} = int32, block_size: int >= 2",
    static_inputs=("paddings",),
)


@space_to_batch.shape
def _space_to_batch_shape(op, x, paddings) -> Dims:
    x = shapes.with_rank(op, x, 4)
    return _to_batch_dims(op, x, np.array([op.attr("block_size")] * 2), op.static(1))


@space_to_batch.host
@space_to_batch.lower
def _space_to_batch_lower(op, x, paddings: np.ndarray):
    return _to_batch(op, x, np.array([op.attr("block_size")] * 2), paddings)


@space_to_batch.gradient
def _space_to_batch_gradient(op, dy):
    return raw.BatchToSpace(dy, op.inputs[1], block_size=op.attr("block_size")), None


# ---- BatchToSpaceND, BatchToSpace


def _to_space_dims(op, x: Dims, block, crops) -> Dims:
    if x is None:
        return None
    if block is None:
        # How many axes are cut into blocks may be known all the same.
        sizes = op._inputs[1]._dims
        count = len(x) - 1 if sizes is None or sizes[0] is None else sizes[0]
        return (None,) * (count + 1) + x[count + 1 :]
    count = len(block)
    shapes.at_least_rank(op, x, count + 1)
    if (block < 1).any():
        raise op.error(f"block_shape must be positive, got {list(block)}.")
    total = int(np.prod(block))
    if x[0] is not None and x[0] % total:
        raise op.error(
            f"Dimension size must be evenly divisible by {total} but is {x[0]}: the batch of {shapes.text(x)}."
        )
    batch = None if x[0] is None else x[0] // total
    if crops is None:
        return (batch, *(None,) * count, *x[count + 1 :])
    if crops.shape != (count, 2):
        raise op.error(
            f"crops should have shape [{count}, 2] instead of {shapes.brackets(crops.shape)}."
        )
    if (crops < 0).any():
        raise op.error(f"crops cannot be negative: {crops.tolist()}.")
    space: list[int | None] = []
    for size, b, (before, after) in zip(x[1 : count + 1], block, crops, strict=True):
        left = None if size is None else size * int(b) - int(before) - int(after)
        if left is not None and left < 0:
            raise op.error(f"cropped size must be >= 0: {size} * {b} - {before} - {after}.")
        space.append(left)
    return (batch, *space, *x[count + 1 :])


def _to_space(op, x, block: np.ndarray, crops: np.ndarray):
    count, total = len(block), int(np.prod(block))
    if len(x.shape) < count + 1 or crops.shape != (count, 2):
        raise op.invalid(
            f"input rank should be >= {count + 1} and crops of shape [{count}, 2], got {shapes.brackets(x.shape)} and "
            f"{shapes.brackets(crops.shape)}"
        )
    if x.shape[0] % total:
        raise op.invalid(
            f"Input batch dimension ({x.shape[0]}) is not divisible by product of block sizes ({total})"
        )
    batch, space, rest = x.shape[0] // total, x.shape[1 : count + 1], x.shape[count + 1 :]
    x = x.reshape((*(int(b) for b in block), batch, *space, *rest))
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    order += range(2 * count + 1, 2 * count + 1 + len(rest))
    x = x.transpose(order).reshape(
        (batch, *(s * int(b) for s, b in zip(space, block, strict=True)), *rest)
    )
    index: list[slice] = [slice(None)]
    for size, (before, after) in zip(x.shape[1 : count + 1], crops, strict=True):
        if before < 0 or after < 0 or before + after > size:
            raise op.invalid(
                f"crops must be non-negative and leave something: {before}, {after} of {size}"
            )
        index.append(slice(int(before), size - int(after)))
    return x[tuple(index)]


batch_to_space_nd = define(
    "BatchToSpaceND",
    "input: T, block_shape: Tblock_shape, crops: Tcrops -> output: T",
    "T: type, Tblock_shape: {int32, int64} = int32, Tcrops: {int32, int64} = int32",
    static_inputs=("block_shape", "crops"),
)


@batch_to_space_nd.shape
def _batch_to_space_nd_shape(op, x, block_shape, crops) -> Dims:
    shapes.with_rank(op, block_shape, 1, "block_shape")
    shapes.with_rank(op, crops, 2, "crops")
    return _to_space_dims(op, x, op.static(1), op.static(2))


@batch_to_space_nd.host
@batch_to_space_nd.lower
def _batch_to_space_nd_lower(op, x, block_shape: np.ndarray, crops: np.ndarray):
    return _to_space(op, x, block_shape, crops)


@batch_to_space_nd.gradient
def _batch_to_space_nd_gradient(op, dy):
    return raw.SpaceToBatchND(dy, op.inputs[1], op.inputs[2]), None, None


batch_to_space = define(
    "BatchToSpace",
    "input: T, crops: Tidx -> output: T",
    "T: type, block_size: int >= 2, Tidx: {int32, int64} = int32",
    static_inputs=("crops",),
)


@batch_to_space.shape
def _batch_to_space_shape(op, x, crops) -> Dims:
    x = shapes.with_rank(op, x, 4)
    return _to_space_dims(op, x, np.array([op.attr("block_size")] * 2), op.static(1))


@batch_to_space.host
@batch_to_space.lower
def _batch_to_space_lower(op, x, crops: np.ndarray):
    return _to_space(op, x, np.array([op.attr("block_size")] * 2), crops)


@batch_to_space.gradient
def _batch_to_space_gradient(op, dy):
    return raw.SpaceToBatch(dy, op.inputs[1], block_size=op.attr("block_size")), None


# ---- SpaceToDepth, DepthToSpace


def _layout(data_format: str) -> tuple[int, int, int]:
    """The axes of height, width and depth (of NCHW_VECT_C: the outer axis of depth)."""
    return (1, 2, 3) if data_format == "NHWC" else (2, 3, 1)


def _rank_of(data_format: str) -> int:
    return 5 if data_format == "NCHW_VECT_C" else 4


def _define_depth(name: str, gradient: str, to_depth: bool) -> OpDef:
    definition = define(
        name,
        "input: T -> output: T",
        "T: type, block_size: int >= 2, data_format: {'NHWC', 'NCHW', 'NCHW_VECT_C'} = 'NHWC'",
    )

    @definition.shape
    def _depth_shape(op, x) -> Dims:
        data_format, block = op.attr("data_format"), op.attr("block_size")
        x = shapes.with_rank(op, x, _rank_of(data_format))
        height, width, depth = _layout(data_format)
        out = list(x)
        for axis in (height, width):
            out[axis] = _scaled(op, x, axis, block, divide=to_depth)
        out[depth] = _scaled(op, x, depth, block * block, divide=not to_depth)
        return tuple(out)

    @definition.host
    @definition.lower
    def _depth_lower(op, x):
        data_format, block = op.attr("data_format"), op.attr("block_size")
        if len(x.shape) != _rank_of(data_format):
            raise op.invalid(
                f"Input rank should be: {_rank_of(data_format)} instead of: {len(x.shape)}"
            )
        if data_format == "NCHW_VECT_C":
            # Depth in one piece, as in NHWC.
            n, outer, height, width, inner = x.shape
            x = x.transpose((0, 2, 3, 1, 4)).reshape((n, height, width, outer * inner))
            y = _move_nhwc(op, x, block, to_depth)
            n, height, width, depth = y.shape
            return y.reshape((n, height, width, depth // inner, inner)).transpose((0, 3, 1, 2, 4))
        if data_format == "NCHW":
            return _move_nhwc(op, x.transpose((0, 2, 3, 1)), block, to_depth).transpose(
                (0, 3, 1, 2)
            )
        return _move_nhwc(op, x, block, to_depth)

    @definition.gradient
    def _depth_gradient(op, dy):
        return getattr(raw, gradient)(
            dy, block_size=op.attr("block_size"), data_format=op.attr("data_format")
        )

    return definition


def _scaled(op, x, axis: int, factor: int, divide: bool) -> int | None:
    size = x[axis]
    if size is None:
        return None
    if not divide:
        return size * factor
    if size % factor:
        raise op.error(
            f"Dimension size must be evenly divisible by {factor} but is {size}: axis {axis} of {shapes.text(x)}."
        )
    return size // factor


def _move_nhwc(op, x, block: int, to_depth: bool):
    n, height, width, depth = x.shape
    if to_depth:
        if height % block or width % block:
            raise op.invalid(
                f"Image width {width} and height {height} should be divisible by block_size: {block}"
            )
        x = x.reshape((n, height // block, block, width // block, block, depth)).transpose(
            (0, 1, 3, 2, 4, 5)
        )
        return x.reshape((n, height // block, width // block, block * block * depth))
    if depth % (block * block):
        raise op.invalid(f"Input depth dimension {depth} should be divisible by: {block * block}")
    x = x.reshape((n, height, width, block, block, depth // (block * block))).transpose(
        (0, 1, 3, 2, 4, 5)
    )
    return x.reshape((n, height * block, width * block, depth // (block * block)))


space_to_depth = _define_depth("SpaceToDepth", "DepthToSpace", to_depth=True)
depth_to_space = _define_depth("DepthToSpace", "SpaceToDepth", to_depth=False)
