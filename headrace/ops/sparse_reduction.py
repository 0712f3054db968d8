"""Sums and maxima along axes of sparse tensors, and their softmax."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.ops.sparse import (
    NUMERIC,
    REAL,
    all_static,
    check_sizes,
    check_sparse,
    namespace_of,
    row_order,
    take,
)


def _axes_of(op, axes, rank):
    if axes.ndim > 1:
        raise op.invalid(
            f"Expected reduction_axes to be a scalar or a vector; got shape: {list(axes.shape)}"
        )
    axes = axes.reshape(-1)
    for axis in axes:
        if not -rank <= axis < rank:
            raise op.invalid(
                f"Invalid reduction dimension {axis}, for input with {rank} dimensions."
            )
    return {int(axis) % rank for axis in axes}


def _reduced(sizes, axes, keep):
    if keep:
        return tuple(1 if i in axes else s for i, s in enumerate(sizes))
    return tuple(s for i, s in enumerate(sizes) if i not in axes)


def _reduction(name, types, scatter, scatter_host, is_max):
    arguments = "input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32"
    attrs = f"keep_dims: bool = false, T: {{{types}}}"
    dense = define(
        name, f"{arguments} -> output: T", attrs, static_inputs=("input_shape", "reduction_axes")
    )

    @dense.shape
    def shape_rule(op, indices, values, shape, axes):
        sizes, along = shapes.sizes_of(op, 2), op.static(3)
        if sizes is None or along is None:
            return None
        rank = len(sizes)
        reduced = {int(a) % rank for a in along.reshape(-1) if rank}
        return _reduced(sizes, reduced, op.attr("keep_dims"))

    def groups(op, indices, values, shape, axes):
        """The number of the group of each value, and the sizes of all groups as a tensor."""
        check_sparse(op, indices, values, shape, "input_")
        check_sizes(op, shape)
        sizes = tuple(int(s) for s in shape)
        reduced = _axes_of(op, axes, len(sizes))
        kept = [i for i in range(len(sizes)) if i not in reduced]
        ids = np.zeros(indices.shape[0], np.int64)
        for axis in kept:
            ids = ids * sizes[axis] + indices[:, axis]
        return ids, _reduced(sizes, reduced, op.attr("keep_dims"))

    @dense.lower
    @dense.host
    def rule(op, indices, values, shape: np.ndarray, axes: np.ndarray):
        ids, sizes = groups(op, indices, values, shape, axes)
        count = math.prod(sizes)
        if all_static(ids, values):
            start = _lowest(values.dtype) if is_max else 0
            out = np.full(count, start, values.dtype)
            scatter_host(out, ids, values)
            if is_max:
                out[np.bincount(ids, minlength=count) == 0] = 0
            return out.reshape(sizes)
        out = scatter(values, ids, count)
        if is_max:
            seen = jnp.zeros(count, bool).at[ids].set(True, mode="drop")
            out = jnp.where(seen, out, jnp.zeros((), values.dtype))
        return out.reshape(sizes)

    sparse = define(
        f"{name}Sparse",
        f"{arguments} -> output_indices: int64, output_values: T, output_shape: int64",
        attrs,
        dynamic_shape=True,
    )

    @sparse.shape
    def sparse_shape_rule(op, indices, values, shape, axes):
        return [None, None, None]

    @sparse.host
    @sparse.lower
    def sparse_rule(op, indices, values, shape, axes):
        ids, sizes = groups(op, indices, values, shape, axes)
        present, number = np.unique(ids, return_inverse=True)
        out = np.full(len(present), _lowest(values.dtype) if is_max else 0, values.dtype)
        scatter_host(out, number.reshape(-1), values)
        places = np.stack(np.unravel_index(present, sizes), axis=1) if sizes else None
        if places is None:
            places = np.zeros((len(present), 0))
        return places.astype(np.int64), out, np.array(sizes, np.int64)

    sparse.not_differentiable()
    return dense


def _lowest(dtype):
    if np.issubdtype(dtype, np.integer):
        return np.iinfo(dtype).min
    return -np.inf


sparse_reduce_sum = _reduction(
    "SparseReduceSum",
    NUMERIC,
    lambda values, ids, count: jnp.zeros(count, values.dtype).at[ids].add(values, mode="drop"),
    np.add.at,
    False,
)


@sparse_reduce_sum.gradient
def _sparse_reduce_sum_gradient(op, dy):
    """Each value gets the gradient of the sum that it went into."""
    indices, _, shape, axes = op.inputs
    # 1 along the axes that were reduced, else the size: the shape as if these had been kept.
    along = raw.FloorMod(raw.Reshape(axes, np.array([-1], np.int32)), raw.Size(shape))
    ones = raw.Fill(raw.Shape(along), np.int64(1))
    every = raw.Range(np.int32(0), raw.Size(shape), np.int32(1))
    kept = raw.DynamicStitch([every, along], [shape, ones])
    scale = raw.FloorDiv(shape, kept)
    places = raw.FloorDiv(indices, scale)
    return None, raw.GatherNd(raw.Reshape(dy, kept), places), None, None


_reduction(
    "SparseReduceMax",
    REAL,
    lambda values, ids, count: jax.ops.segment_max(values, ids, count),
    np.maximum.at,
    True,
).not_differentiable()

# ---- SparseSoftmax: over the values of each row (all but the last index are equal)

sparse_softmax = define(
    "SparseSoftmax",
    "sp_indices: int64, sp_values: T, sp_shape: int64 -> output: T",
    "T: {float, double}",
)


@sparse_softmax.shape
def _sparse_softmax_shape(op, indices, values, shape):
    shapes.with_rank(op, indices, 2, "sp_indices"), shapes.with_rank(op, shape, 1, "sp_shape")
    return shapes.with_rank(op, values, 1, "sp_values")


@sparse_softmax.lower
@sparse_softmax.host
def _sparse_softmax_lower(op, indices, values, shape):
    check_sparse(op, indices, values, shape, "sp_")
    if shape.shape[0] < 2:
        raise op.invalid(f"Input should have rank >= 2, but received shape: {list(shape.shape)}")
    check_sizes(op, shape)
    count = values.shape[0]
    if not count:
        return values
    namespace = namespace_of(indices, values)
    # Rows by number, whatever their order: the row numbers themselves may be far more than there are values.
    order = row_order(indices)
    sorted_rows = take(indices, order)[:, :-1]
    starts = (sorted_rows[1:] != sorted_rows[:-1]).any(axis=1)
    number = namespace.concatenate([np.zeros(1, np.int64), namespace.cumsum(starts)])
    if namespace is np:
        rows = np.empty(count, np.int64)
        rows[order] = number
        top = np.full(count, -np.inf, values.dtype)
        np.maximum.at(top, rows, values)
        powers = np.exp(values - top[rows])
        total = np.zeros(count, values.dtype)
        np.add.at(total, rows, powers)
        return powers / total[rows]
    rows = jnp.zeros(count, np.int64).at[order].set(number)
    top = jax.ops.segment_max(values, rows, count)
    powers = jnp.exp(values - top[rows])
    return powers / jax.ops.segment_sum(powers, rows, count)[rows]


@sparse_softmax.gradient
def _sparse_softmax_gradient(op, dy):
    """dx = (dy - sum of dy y over the row) y."""
    indices, _, shape = op.inputs
    y = op.outputs[0]
    total = raw.SparseReduceSum(
        indices, raw.Mul(dy, y), shape, np.array([-1], np.int32), keep_dims=True
    )
    difference = raw.SparseDenseCwiseAdd(indices, dy, shape, raw.Neg(total))
    return None, raw.Mul(difference, y), None
