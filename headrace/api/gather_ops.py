"""Elements picked, put or repeated: `tf.gather`, `tf.scatter_nd`, `tf.pad`, `tf.tile`, `tf.reverse`, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import shape
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.join_ops import concat
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

    params: [P..., N, Q...]. indices: [I...] int32 or int64, in [0, N). The first batch_dims axes of both are the same
    axes; axis is then batch_dims unless given. Returns [P..., I..., Q...] (of the batch axes only one set).
    Raises ValueError: an axis or batch_dims that does not fit. InvalidArgumentError when it runs: an index out of range.
    """
    del validate_indices
    if axis is None:
        axis = batch_dims
    if isinstance(axis, (int, np.integer)) and axis == 0 and not batch_dims:
        read_rows = getattr(params, "sparse_read", None)
        if read_rows is not None:
            return read_rows(indices, name=name)
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
    """Slices of `params` at positions `indices`, whose last axis holds one index for each of the first axes of `params`.

    indices: [I..., K], K at most the rank of `params`. Returns [I..., rest of params]. The first batch_dims axes of both
    are the same axes. Raises ValueError: shapes that do not fit. InvalidArgumentError when it runs: a position outside.
    """
    batch = _static_batch_dims(batch_dims)
    if batch == 0:
        read_positions = getattr(params, "gather_nd", None)
        if read_positions is not None:
            return read_positions(indices, name=name)
        return raw.GatherNd(params, indices, name=name)
    with name_scope(name, "BatchGatherND", [params, indices]):
        indices = convert_to_tensor(indices, name="indices")
        params = convert_to_tensor(params, name="params")
        rank = indices.shape.ndims
        if rank is None:
            raise ValueError("tf.gather_nd does not allow indices with unknown shape.")
        if not 0 < batch < rank:
            raise ValueError(
                f"batch_dims = {batch} must be less than rank(indices) = {rank}"
                if batch >= rank
                else f"batch_dims = {batch} must be greater than or equal to zero"
            )
        if params.shape.ndims is not None and batch >= params.shape.ndims:
            raise ValueError(
                f"batch_dims = {batch} must be less than rank(params) = {params.shape.ndims}"
            )
        # Positions in the whole of params: the batch indices in front of those given.
        lead = shape(indices)[: rank - 1]
        columns = []
        for d in range(batch):
            across = raw.Reshape(
                raw.Range(0, lead[d], 1), [-1 if k == d else 1 for k in range(rank)]
            )
            columns.append(raw.BroadcastTo(across, concat([lead, [1]], 0)))
        columns = [
            c if c.dtype is indices.dtype else raw.Cast(c, DstT=indices.dtype) for c in columns
        ]
        return raw.GatherNd(params, concat([*columns, indices], -1))


def _static_batch_dims(batch_dims: Any) -> int:
    if isinstance(batch_dims, Tensor):
        batch_dims = constant_value(batch_dims)
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


@export("dynamic_stitch")
def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor:
    """One tensor of the rows of the tensors `data`, row i of data[m] at indices[m][i]; where several meet, the last wins."""
    return raw.DynamicStitch(indices, data, name=name)
