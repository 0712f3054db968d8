"""Elements picked by index: Gather, GatherV2, GatherNd; and what an index means: UnravelIndex."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering import checks
from headrace.lowering.index_checks import check_positions, check_rows
from headrace.ops.reshape import is_static, shape_of

# ---- GatherV2, Gather


def _gather(params, indices, axis: int, batch_dims: int):
    if is_static(params) and is_static(indices):
        if not batch_dims:
            return np.take(params, indices, axis)
        found = [
            _gather(p, i, axis - 1, batch_dims - 1) for p, i in zip(params, indices, strict=True)
        ]
        return np.stack(found) if found else np.zeros((0, *indices.shape[1:]), params.dtype)
    if batch_dims:
        rows = jax.vmap(lambda p, i: _gather(p, i, axis - 1, batch_dims - 1))
        return rows(jnp.asarray(params), jnp.asarray(indices))
    # The indices were checked: "clip" only spares XLA from making up values for bad ones.
    return jnp.take(params, indices, axis, mode="clip")


def _gather_lower(op, params, indices, axis: int, batch_dims: int):
    rank = len(params.shape)
    if not -rank <= axis < rank:
        raise op.invalid(f"Expected axis in the range [{-rank}, {rank}), but got {axis}")
    axis %= rank
    batch_dims = batch_dims + len(indices.shape) if batch_dims < 0 else batch_dims
    if params.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise op.invalid(
            f"params.shape{shapes.brackets(params.shape)} and "
            f"indices.shape{shapes.brackets(indices.shape)} should be equal in the first "
            f"{batch_dims} axes."
        )
    check_rows(op, indices, params.shape[axis])
    if not params.shape[axis] and math.prod(indices.shape):
        # The check above has failed; what is traced still needs a value.
        return jnp.zeros(
            params.shape[:axis] + indices.shape[batch_dims:] + params.shape[axis + 1 :],
            params.dtype,
        )
    return _gather(params, indices, axis, batch_dims)


gather = define(
    "Gather",
    "params: Tparams, indices: Tindices -> output: Tparams",
    "validate_indices: bool = true, Tparams: type, Tindices: {int32, int64}",
    effects=Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@gather.shape
def _gather_v1_shape(op, params, indices) -> Dims:
    params = shapes.at_least_rank(op, params, 1, "params")
    return None if params is None else shapes.concatenate(indices, params[1:])


@gather.host
@gather.lower
def _gather_v1_lower(op, params, indices):
    return _gather_lower(op, params, indices, 0, 0)


@gather.gradient
def _gather_v1_gradient(op, dy):
    params, indices = op.inputs
    return _rows(params, indices, dy), None


gather_v2 = define(
    "GatherV2",
    "params: Tparams, indices: Tindices, axis: Taxis -> output: Tparams",
    "batch_dims: int = 0, Tparams: type, Tindices: {int32, int64}, Taxis: {int32, int64}",
    static_inputs=("axis",),
    effects=Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@gather_v2.shape
def _gather_v2_shape(op, params, indices, axis) -> Dims:
    shapes.with_rank(op, axis, 0, "axis")
    params = shapes.at_least_rank(op, params, 1, "params")
    at, batch_dims = op.static(2), op.attr("batch_dims")
    if params is None or indices is None:
        return None
    if batch_dims < 0:
        batch_dims += len(indices)
    if not 0 <= batch_dims <= min(len(params), len(indices)):
        raise op.error(
            f"batch_dims {op.attr('batch_dims')} must be within the ranks of params and indices."
        )
    if at is None:
        return (None,) * (len(params) + len(indices) - 1 - batch_dims)
    at = int(at)
    shapes.at_least_rank(op, params, at + 1 if at >= 0 else -at, "params")
    at %= len(params)
    if batch_dims > at:
        raise op.error(f"batch_dims {batch_dims} must be less than or equal to axis {at}.")
    batch = shapes.merge(
        op, params[:batch_dims], indices[:batch_dims], "batch axes of params and indices"
    )
    return (*batch, *params[batch_dims:at], *indices[batch_dims:], *params[at + 1 :])  # type: ignore[misc]


@gather_v2.host
@gather_v2.lower
def _gather_v2_lower(op, params, indices, axis: np.ndarray):
    return _gather_lower(op, params, indices, int(axis.reshape(())), op.attr("batch_dims"))


@gather_v2.partial
def _gather_v2_partial(op):
    """Some sizes of a partly known shape."""
    from headrace.graph.constant_value import partial_sizes

    sizes, indices = partial_sizes(op._inputs[0]), op.static(1)
    if (
        sizes is None
        or indices is None
        or any(not 0 <= i < len(sizes) for i in indices.reshape(-1))
    ):
        return None
    if indices.ndim == 0:
        return sizes[int(indices)]
    return [sizes[int(i)] for i in indices] if indices.ndim == 1 else None


def _rows(params, indices, dy) -> IndexedSlices:
    """The gradient for whole rows: only those that were picked."""
    if params._dims is not None and None not in params._dims[1:]:
        row = np.array((-1, *params._dims[1:]), np.int32)
    else:
        shape = raw.Shape(params)
        row = raw.ConcatV2(
            [np.array([-1], np.int32), raw.StridedSlice(shape, [1], [0], [1], end_mask=1)], 0
        )
    if params._dims is not None and 0 in params._dims[1:]:
        count = raw.Size(indices)
        row = raw.ConcatV2([raw.ExpandDims(count, 0), np.array(params._dims[1:], np.int32)], 0)
    shape_of_params = (
        raw.VariableShape(params) if params.dtype.name == "resource" else raw.Shape(params)
    )
    values = raw.Reshape(dy, row)
    return IndexedSlices(values, raw.Reshape(indices, np.array([-1], np.int32)), shape_of_params)


@gather_v2.gradient
def _gather_v2_gradient(op, dy):
    """Along axis 0 the rows of dy; else dy with the picked axis in front, summed by index."""
    params, indices, _ = op.inputs
    axis = op.static(2)
    if axis is None:
        raise op.error("the gradient needs an axis that is known while the graph is built.")
    axis = int(axis)
    if axis == 0:
        return _rows(params, indices, dy), None, None
    if params._dims is None or indices._dims is None:
        raise op.error(
            "the gradient along an axis other than 0 needs the ranks of params and indices."
        )
    rank, many = len(params._dims), len(indices._dims)
    axis %= rank
    batch = op.attr("batch_dims")
    batch = batch + many if batch < 0 else batch
    if axis == 0:
        return _rows(params, indices, dy), None, None
    # dy: batch, outer, picked, inner. Brought to batch, picked, outer, inner and summed over picked.
    picked = many - batch
    order = [
        *range(batch),
        *range(axis, axis + picked),
        *range(batch, axis),
        *range(axis + picked, rank + picked - 1),
    ]
    moved = raw.Transpose(dy, np.array(order, np.int32))
    shape = raw.Shape(params)
    size = raw.StridedSlice(shape, [axis], [axis + 1], [1], shrink_axis_mask=1)
    batch_shape = raw.StridedSlice(shape, [0], [batch], [1])
    outer = raw.StridedSlice(shape, [batch], [axis], [1])
    inner = raw.StridedSlice(shape, [axis + 1], [0], [1], end_mask=1)
    minus_one = np.array([-1], np.int32)
    if batch:
        batches = raw.Prod(batch_shape, np.array([0], np.int32))
        kind = indices.dtype.base_dtype
        base = raw.Mul(raw.Range(0, batches, 1), size)
        base = base if kind.name == "int32" else raw.Cast(base, DstT=kind)
        base = raw.Reshape(base, raw.ConcatV2([batch_shape, np.ones(picked, np.int32)], 0))
        numbers = raw.AddV2(indices, base)
        count = raw.Mul(batches, size)
    else:
        numbers, count = indices, size
    flat = raw.Reshape(moved, raw.ConcatV2([minus_one, outer, inner], 0))
    total = raw.UnsortedSegmentSum(flat, raw.Reshape(numbers, minus_one), count)
    spread = raw.Reshape(
        total, raw.ConcatV2([batch_shape, raw.ExpandDims(size, 0), outer, inner], 0)
    )
    back = [*range(batch), *range(batch + 1, axis + 1), batch, *range(axis + 1, rank)]
    return raw.Transpose(spread, np.array(back, np.int32)), None, None


# ---- GatherNd


gather_nd = define(
    "GatherNd",
    "params: Tparams, indices: Tindices -> output: Tparams",
    "Tparams: type, Tindices: {int32, int64}",
    effects=Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@gather_nd.shape
def _gather_nd_shape(op, params, indices) -> Dims:
    indices = shapes.at_least_rank(op, indices, 1, "indices")
    if params is None or indices is None or indices[-1] is None:
        return None
    depth = indices[-1]
    if depth > len(params):
        raise op.error(
            f"indices.shape[-1] must be <= params.rank, but saw indices shape: {shapes.brackets(indices)} and params "
            f"shape: {shapes.brackets(params)}"
        )
    return (*indices[:-1], *params[depth:])


@gather_nd.host
@gather_nd.lower
def _gather_nd_lower(op, params, indices):
    if not len(params.shape):
        raise op.invalid("params must be at least a vector")
    if not len(indices.shape):
        raise op.invalid("indices must be at least a vector")
    depth = indices.shape[-1]
    if depth > len(params.shape):
        raise op.invalid(
            f"index innermost dimension length must be <= params rank; saw: {depth} vs. {len(params.shape)}"
        )
    shape = (*indices.shape[:-1], *params.shape[depth:])
    if not math.prod(params.shape) and math.prod(shape):
        raise op.invalid(
            "Requested more than 0 entries, but params is empty.  Params shape: "
            + str(list(params.shape))
        )
    check_positions(op, indices, tuple(params.shape), "param shape")
    if not depth:
        return (np if is_static(params) else jnp).broadcast_to(params, shape)
    index = tuple(indices[..., i] for i in range(depth))
    if is_static(params) and is_static(indices):
        return params[index]
    return jnp.asarray(params).at[index].get(mode="clip")


@gather_nd.gradient
def _gather_nd_gradient(op, dy):
    params, indices = op.inputs
    dims = indices._dims
    if dims is not None and len(dims) == 2 and dims[-1] == 1:
        shape = raw.Shape(params, out_type=indices.dtype.base_dtype)
        return IndexedSlices(dy, raw.Squeeze(indices, squeeze_dims=[-1]), shape), None
    kind = indices.dtype.base_dtype
    shape = shape_of(params)
    shape = (
        shape.astype(kind.as_numpy_dtype) if is_static(shape) else raw.Shape(params, out_type=kind)
    )
    return raw.ScatterNd(indices, dy, shape), None


# ---- UnravelIndex

unravel_index = define(
    "UnravelIndex",
    "indices: Tidx, dims: Tidx -> output: Tidx",
    "Tidx: {int32, int64} = int32",
    static_inputs=("dims",),
    effects=Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@unravel_index.shape
def _unravel_index_shape(op, indices, dims) -> Dims:
    dims = shapes.with_rank(op, dims, 1, "dims")
    if indices is None:
        return None
    return dims if not indices else (dims[0], shapes.element_count(indices))


@unravel_index.host
@unravel_index.lower
def _unravel_index_lower(op, indices, dims: np.ndarray):
    sizes = [int(d) for d in dims.reshape(-1)]
    total = math.prod(sizes)
    if total > np.iinfo(dims.dtype).max:
        raise op.invalid("Input dims product is causing integer overflow")
    if total and math.prod(indices.shape):
        bad = (indices < 0) | (indices >= total)
        checks.fail_if(op, bad.any(), f"index is out of bound as with dims {sizes}")
    flat = indices.reshape(-1) if len(indices.shape) else indices
    rows = []
    for size in reversed(sizes):
        rows.append(flat % size)
        flat = flat // size
    return (np if is_static(indices) else jnp).stack(rows[::-1])


unravel_index.not_differentiable()
