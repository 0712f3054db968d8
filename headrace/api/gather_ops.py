"""Elements picked, put or repeated: `tf.gather`, `tf.scatter_nd`, `tf.pad`, `tf.tile`, `tf.reverse`, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import reshape, shape
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.join_ops import concat
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


@export("gather")
def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:
    """Slices `params` along `axis` at `indices`.

    params: [P..., N, Q...]. indices: [I...] int32 or int64, in [0, N). The first batch_dims axes of both are the
    same axes; axis is then batch_dims unless given. Returns [P..., I..., Q...] (of the batch axes only one set).
    Raises ValueError: an axis or batch_dims that does not fit. InvalidArgumentError when it runs: an index outside.
    """
    del validate_indices
    if axis is None:
        axis = batch_dims
    if isinstance(axis, (int, np.integer)) and axis == 0 and not batch_dims:
        try:
            return params.sparse_read(indices, name=name)
        except AttributeError:
            pass  # not a variable that can read single rows
    return raw.GatherV2(params, indices, axis, batch_dims=batch_dims, name=name)


@export("batch_gather")
def batch_gather(params: Any, indices: Any, name: str | None = None) -> Tensor:
    """Gathers along the last axis of `indices`; its other axes are also the first axes of `params`.

    Raises ValueError: the rank of `indices` is not known, or below 1.
    """
    with name_scope(name, "BatchGather", [params, indices]):
        indices = convert_to_tensor(indices, name="indices")
        params = convert_to_tensor(params, name="params")
        rank = indices.shape.ndims
        if rank is None:
            raise ValueError("batch_gather does not allow indices with unknown shape.")
        if rank == 0:
            raise ValueError("batch_gather needs indices of at least rank 1.")
        return raw.GatherV2(params, indices, rank - 1, batch_dims=rank - 1)


@export("gather_nd", "manip.gather_nd")
def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Tensor:
    """Slices of `params` at positions `indices`, whose last axis holds an index for each of the first axes of `params`.

    indices: [I..., K], K at most the rank of `params`. Returns [I..., rest of params]. The first batch_dims axes of
    both are the same axes. Raises ValueError: shapes that do not fit. InvalidArgumentError when it runs: outside.
    """
    batch = _static_batch_dims(batch_dims)
    if batch == 0:
        try:
            return params.gather_nd(indices, name=name)
        except AttributeError:
            return raw.GatherNd(params, indices, name=name)
    with name_scope(name, "BatchGatherND", [params, indices]):
        indices = convert_to_tensor(indices, name="indices")
        params = convert_to_tensor(params, name="params")
        for tensor, what in ((indices, "indices"), (params, "params")):
            if tensor._dims is not None and batch >= len(tensor._dims):
                raise ValueError(
                    f"batch_dims = {batch} must be less than rank({what}) = {len(tensor._dims)}"
                )
        # Each batch with its number as first index: a gather in params whose batch axes are one.
        sizes = shape(indices)
        lead, depth = sizes[:batch], sizes[-1:]
        count = raw.Prod(lead, [0])
        flat = reshape(indices, concat([[count, -1], depth], 0))
        places = shape(flat)[1]
        numbers = raw.Tile(raw.Reshape(raw.Range(0, count, 1), [-1, 1, 1]), [1, places, 1])
        if numbers.dtype is not indices.dtype:
            numbers = raw.Cast(numbers, DstT=indices.dtype)
        rows = reshape(params, concat([[count], shape(params)[batch:]], 0))
        found = raw.GatherNd(rows, concat([numbers, flat], -1))
        result = reshape(found, concat([sizes[:-1], shape(found)[2:]], 0))
        if indices._dims is not None and params._dims is not None and indices._dims[-1] is not None:
            result.set_shape([*indices._dims[:-1], *params._dims[batch + indices._dims[-1] :]])
        return result


def _static_batch_dims(batch_dims: Any) -> int:
    if isinstance(batch_dims, Tensor):
        batch_dims = constant_value(batch_dims)
        batch_dims = None if batch_dims is None else batch_dims.reshape(-1)[0]
    if batch_dims is None:
        raise ValueError("batch_dims must be known while the graph is built")
    if isinstance(batch_dims, bool) or int(batch_dims) != batch_dims:
        raise ValueError(f"batch_dims must be an int; got {batch_dims!r}")
    if batch_dims < 0:
        raise ValueError(f"batch_dims = {batch_dims} must be greater than or equal to zero")
    return int(batch_dims)


export_op(
    "ScatterNd",
    "indices, updates, shape",
    "scatter_nd",
    "manip.scatter_nd",
    doc="Zeros of `shape` with `updates` added at the positions `indices`, [I..., K].",
)
export_op(
    "TensorScatterUpdate",
    "tensor, indices, updates",
    "tensor_scatter_update",
    "tensor_scatter_nd_update",
    doc="`tensor` with `updates` in place of what is at the positions `indices`, [I..., K].",
)
export_op(
    "TensorScatterAdd",
    "tensor, indices, updates",
    "tensor_scatter_add",
    "tensor_scatter_nd_add",
    doc="`tensor` with `updates` added at the positions `indices`, [I..., K].",
)
export_op(
    "TensorScatterSub",
    "tensor, indices, updates",
    "tensor_scatter_sub",
    "tensor_scatter_nd_sub",
    doc="`tensor` with `updates` subtracted at the positions `indices`, [I..., K].",
)


@export("pad")
def pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: Any = 0,
) -> Tensor:
    """`tensor` with paddings[d, 0] elements before and paddings[d, 1] after it along each axis d.

    mode: "CONSTANT" (constant_values), "REFLECT" (mirrored at the edge element), "SYMMETRIC" (mirrored beside it).
    Raises ValueError: another mode, or paddings that do not fit.
    """
    mode = mode.upper()
    if mode == "CONSTANT":
        is_plain_zero = (
            not isinstance(constant_values, (Tensor, np.ndarray)) and constant_values == 0
        )
        if is_plain_zero:
            result = raw.Pad(tensor, paddings, name=name)
        else:
            result = raw.PadV2(tensor, paddings, constant_values, name=name)
    elif mode in ("REFLECT", "SYMMETRIC"):
        result = raw.MirrorPad(tensor, paddings, mode=mode, name=name)
    else:
        raise ValueError(f"Unknown padding mode: {mode}")
    _restore_shape(result)
    return result


def _restore_shape(result: Tensor) -> None:
    """Adds the sizes that follow from paddings of which only some elements are known."""
    source, paddings = result.op.inputs[:2]
    if (
        source._dims is None
        or paddings.op.type != "Pack"
        or (result._dims is not None and None not in result._dims)
    ):
        return
    rows = [constant_value(row, partial=True) for row in paddings.op.inputs]
    sizes: list[int | None] = []
    for row, size in zip(rows, source._dims, strict=False):
        known = size is not None and row is not None and all(v is not None for v in row)
        sizes.append(size + int(sum(row)) if known else None)  # type: ignore[operator]
    if len(sizes) == len(source._dims):
        result.set_shape(sizes)


export_op(
    "Tile",
    "input, multiples",
    "tile",
    "manip.tile",
    doc="`input` repeated multiples[d] times along each axis d.",
)
export_op(
    "ReverseV2",
    "tensor, axis",
    "reverse",
    "reverse_v2",
    "manip.reverse",
    doc="`tensor` in reverse order along the axes in `axis` (a vector).",
)
export_op(
    "Roll",
    "input, shift, axis",
    "roll",
    "manip.roll",
    doc="`input` shifted by `shift` along `axis`; what leaves at one end enters at the other.",
)


@export("reverse_sequence")
def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Tensor:
    """`input` with the first seq_lengths[i] elements along `seq_axis` reversed, for each i along `batch_axis` (0).

    seq_dim and batch_dim are the older names of the axes. Raises ValueError: both names of one axis are given.
    """
    seq_axis = _renamed("seq_axis", seq_axis, "seq_dim", seq_dim)
    batch_axis = _renamed("batch_axis", batch_axis, "batch_dim", batch_dim)
    return raw.ReverseSequence(
        input,
        seq_lengths,
        seq_dim=seq_axis,
        batch_dim=0 if batch_axis is None else batch_axis,
        name=name,
    )


def _renamed(new_name: str, new: Any, old_name: str, old: Any) -> Any:
    if old is None:
        return new
    if new is not None:
        raise ValueError(f"Cannot specify both '{old_name}' and '{new_name}'")
    return old


export_op(
    "DynamicPartition",
    "data, partitions, num_partitions",
    "dynamic_partition",
    doc="The rows of `data` sorted into num_partitions tensors, row i into number partitions[i].",
)


export_op(
    "UnravelIndex",
    "indices, dims",
    "unravel_index",
    doc="The coordinates of flat `indices` in an array of shape `dims`: [number of dims, number of indices].",
)


@export("dynamic_stitch")
def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor:
    """One tensor of the rows of the tensors `data`, row i of data[m] at indices[m][i]; the last one wins."""
    return raw.DynamicStitch(indices, data, name=name)


@export("repeat")
def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Tensor:
    """The elements of `input` along `axis`, element i `repeats[i]` times; of the flattened input where axis is None.

    repeats: a vector of integers as long as the axis, or a scalar for all elements.
    Raises TypeError: axis is not an int. ValueError: an axis out of range, or repeats of another length.
    """
    if axis is None:
        input = reshape(input, [-1])
        axis = 0
    if not isinstance(axis, int):
        raise TypeError(f"axis must be an int; got {type(axis).__name__}")
    with name_scope(name, "Repeat", [input, repeats]):
        data = convert_to_tensor(input, name="data")
        repeats = convert_to_tensor(repeats, name="repeats", preferred_dtype=dtypes.int32)
        if repeats.dtype.base_dtype is not dtypes.int32:
            repeats = raw.Cast(repeats, DstT=dtypes.int32)
        if repeats._dims is None or len(repeats._dims) > 1:
            raise ValueError(f"repeats must be a scalar or a vector, got shape {repeats.shape}")
        if data._dims == ():
            data = raw.Reshape(data, [1])
        dims = data._dims
        if dims is not None:
            if not -len(dims) <= axis < len(dims):
                raise ValueError(
                    f"axis={axis} out of bounds: expected {-len(dims)}<=axis<{len(dims)}"
                )
            axis %= len(dims)
        elif axis < 0:
            raise ValueError("axis may only be negative if ndims is statically known.")
        length = shape(data)[axis]
        if repeats._dims == (1,):
            repeats = raw.Reshape(repeats, [])
        if repeats._dims == ():
            # Element k of the result is element k // repeats.
            which = raw.FloorDiv(raw.Range(0, length * repeats, 1), repeats)
            return raw.GatherV2(data, which, axis)
        if dims is not None:
            data.shape[axis : axis + 1].assert_is_compatible_with(repeats.shape)
        # Element k of the result is the element whose repetitions end after k.
        ends = raw.Cumsum(repeats, 0)
        places = raw.Range(0, raw.Sum(repeats, [0]), 1)
        which = raw.UpperBound(raw.ExpandDims(ends, 0), raw.ExpandDims(places, 0))
        return raw.GatherV2(data, raw.Squeeze(which, squeeze_dims=[0]), axis)
