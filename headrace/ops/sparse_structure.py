"""Sparse tensors joined and cut: SparseAdd, SparseConcat, SparseSlice, SparseSplit, SparseSparseMaximum, Minimum."""

from __future__ import annotations

import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks
from headrace.ops.sparse import (
    NUMERIC,
    REAL,
    check_sparse,
    namespace_of,
    row_order,
    sparse_dims,
    take,
)

# ---- two sparse tensors of one shape


def _check_pair(op, a, b):
    for prefix, (indices, values, shape) in (("a_", a), ("b_", b)):
        check_sparse(op, indices, values, shape, prefix)
    if a[2].shape != b[2].shape:
        raise op.invalid(
            f"Operands do not have the same ranks; got shapes: {a[2].tolist()} and {b[2].tolist()}"
        )
    for axis, (x, y) in enumerate(zip(a[2], b[2], strict=True)):
        if x != y:
            raise op.invalid(f"Operands' shapes do not match: got {x} and {y} for dimension {axis}")


def _union(a_indices, b_indices):
    """The different rows of both in row-major order, and the number of each row of a and of b among them."""
    rows, number = np.unique(np.concatenate([a_indices, b_indices]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    return rows.astype(np.int64), number[: len(a_indices)], number[len(a_indices) :]


# ---- SparseAdd, SparseAddGrad

sparse_add = define(
    "SparseAdd",
    "a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64, thresh: Treal -> "
    "sum_indices: int64, sum_values: T, sum_shape: int64",
    f"T: {{{NUMERIC}}}, Treal: {{{REAL}}}",
    dynamic_shape=True,
)


@sparse_add.shape
def _sparse_add_shape(op, a_indices, a_values, a_shape, b_indices, b_values, b_shape, thresh):
    rank = shapes.with_rank(op, a_shape, 1, "a_shape")
    return [(None, rank[0]), (None,), rank]


@sparse_add.host
@sparse_add.lower
def _sparse_add_host(op, a_indices, a_values, a_shape, b_indices, b_values, b_shape, thresh):
    _check_pair(op, (a_indices, a_values, a_shape), (b_indices, b_values, b_shape))
    if np.ndim(thresh):
        raise op.invalid(f"The magnitude threshold must be a scalar: got shape {thresh.shape}")
    rows, of_a, of_b = _union(a_indices, b_indices)
    total = np.zeros(len(rows), a_values.dtype)
    np.add.at(total, of_a, a_values)
    np.add.at(total, of_b, b_values)
    # A value that only one side has stays, however small.
    both = np.zeros(len(rows), np.int8)
    np.add.at(both, np.concatenate([of_a, of_b]), 1)
    stays = (np.abs(total) >= thresh) | (both < 2)
    return rows[stays], total[stays], a_shape


@sparse_add.gradient
def _sparse_add_gradient(op, _, dvalues, __):
    a, b = op.inputs[0], op.inputs[3]
    da, db = raw.SparseAddGrad(dvalues, a, b, op.outputs[0])
    da.set_shape(op.inputs[1].shape)
    db.set_shape(op.inputs[4].shape)
    return None, da, None, None, db, None, None


sparse_add_grad = define(
    "SparseAddGrad",
    "backprop_val_grad: T, a_indices: int64, b_indices: int64, sum_indices: int64 -> a_val_grad: T, b_val_grad: T",
    f"T: {{{NUMERIC}}}",
)


@sparse_add_grad.shape
def _sparse_add_grad_shape(op, dvalues, a, b, total):
    a, b = shapes.with_rank(op, a, 2, "a_indices"), shapes.with_rank(op, b, 2, "b_indices")
    return [(a[0],), (b[0],)]


def _pick(dvalues, indices, sum_indices):
    """The gradient of the sum at each of `indices`; 0 where the sum has none."""
    rows, mine, of_sum = _union(indices, sum_indices)
    everywhere = np.zeros(len(rows), dvalues.dtype)
    everywhere[of_sum] = dvalues
    return everywhere[mine]


@sparse_add_grad.host
def _sparse_add_grad_host(op, dvalues, a, b, total):
    if len(dvalues) != len(total):
        raise op.invalid(
            f"# elements in backprop_val_grad and # rows in sum_indices should match (#nnz of sum): got {len(dvalues)} "
            f"and {len(total)}"
        )
    return _pick(dvalues, a, total), _pick(dvalues, b, total)


sparse_add_grad.not_differentiable()

# ---- SparseSparseMaximum, SparseSparseMinimum


def _extremum(name, types, combine):
    definition = define(
        name,
        "a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64 -> "
        "output_indices: int64, output_values: T",
        f"T: {{{types}}}",
        dynamic_shape=True,
    )

    @definition.shape
    def shape_rule(op, a_indices, a_values, a_shape, b_indices, b_values, b_shape):
        sparse_dims(op, a_indices, a_values, a_shape)
        sparse_dims(op, b_indices, b_values, b_shape)
        return [(None, None), (None,)]

    @definition.host
    @definition.lower
    def rule(op, a_indices, a_values, a_shape, b_indices, b_values, b_shape):
        _check_pair(op, (a_indices, a_values, a_shape), (b_indices, b_values, b_shape))
        rows, of_a, of_b = _union(a_indices, b_indices)
        a, b = (np.zeros(len(rows), a_values.dtype) for _ in range(2))
        a[of_a], b[of_b] = a_values, b_values
        return rows, combine(a, b)

    @definition.gradient
    def gradient(op, _, dvalues):
        raise NotImplementedError(
            f"Gradient for {name} op {op.name!r} is currently not implemented yet."
        )


_extremum("SparseSparseMaximum", REAL, np.maximum)
_extremum("SparseSparseMinimum", NUMERIC, np.minimum)

# ---- SparseConcat

sparse_concat = define(
    "SparseConcat",
    "indices: N*int64, values: N*T, shapes: N*int64 -> output_indices: int64, output_values: T, output_shape: int64",
    "concat_dim: int, N: int >= 2, T: type",
    effects=Effect.FALLIBLE,
    checked_inputs=("shapes",),
)


@sparse_concat.shape
def _sparse_concat_shape(op, indices, values, sizes):
    total, rank = 0, None
    for places, numbers in zip(indices, values, strict=True):
        places = shapes.with_rank(op, places, 2, "indices")
        numbers = shapes.with_rank(op, numbers, 1, "values")
        count = shapes.merge_size(op, places[0], numbers[0], "numbers of indices and values")
        total = None if total is None or count is None else total + count
        rank = shapes.merge_size(op, rank, places[1], "ranks of indices")
    shape = shapes.merge_all(
        op, [shapes.with_rank(op, s, 1, "shapes") for s in sizes], "ranks of the inputs"
    )
    return [(total, rank), (total,), shape]


@sparse_concat.lower
@sparse_concat.host
def _sparse_concat_lower(op, indices, values, sizes):
    for parts in zip(indices, values, sizes, strict=True):
        check_sparse(op, *parts)
    rank = sizes[0].shape[0]
    axis = op.attr("concat_dim")
    if not -rank <= axis < rank:
        raise op.invalid(f"Concat dimension must be in range [{-rank}, {rank}), got {axis}")
    axis %= rank
    namespace = namespace_of(*indices, *values, *sizes)
    others = np.arange(rank) != axis
    for i, shape in enumerate(sizes[1:], 1):
        if shape.shape != sizes[0].shape:
            raise op.invalid(
                f"Ranks of all input tensors must match: expected {rank} but got {shape.shape[0]} at position {i}"
            )
        checks.fail_if(
            op,
            ((shape != sizes[0]) & others).any(),
            f"Input shapes must match: expected {{}} except in dimension {axis} but got {{}} at position {i}",
            sizes[0],
            shape,
        )
    step = (~others).astype(np.int64)
    offset, moved = np.int64(0), []
    for places, shape in zip(indices, sizes, strict=True):
        moved.append(places + offset * step)
        offset = offset + shape[axis]
    joined = namespace.concatenate(moved)
    order = row_order(joined)
    shape = namespace.where(others, sizes[0], offset)
    return joined[order], take(namespace.concatenate(values), order), shape.astype(np.int64)


sparse_concat.not_differentiable()

# ---- SparseSlice, SparseSliceGrad

sparse_slice = define(
    "SparseSlice",
    "indices: int64, values: T, shape: int64, start: int64, size: int64 -> output_indices: int64, output_values: T, "
    "output_shape: int64",
    "T: type",
    dynamic_shape=True,
)


def _number_of_axes(shape):
    return None if shape is None else shapes.element_count(shape)


@sparse_slice.shape
def _sparse_slice_shape(op, indices, values, shape, start, size):
    return [(None, _number_of_axes(shape)), (None,), shape]


def _cut(indices, values, start, end):
    inside = ((indices >= start) & (indices < end)).all(axis=1)
    return indices[inside] - start, values[inside]


@sparse_slice.host
@sparse_slice.lower
def _sparse_slice_host(op, indices, values, shape, start, size):
    check_sparse(op, indices, values, shape, "input_")
    for what, vector in (("start", start), ("size", size)):
        if vector.ndim != 1:
            raise op.invalid(
                f"Input {what} should be a vector but received shape {list(vector.shape)}"
            )
        if vector.size != shape.size:
            raise op.invalid(
                f"Expected {what} to be a vector of length {shape.size} but got length {vector.size}"
            )
    if (size < 0).any() or (start < 0).any():
        raise op.invalid(f"start {start} and size {size} must not be negative")
    sizes = np.minimum(size, np.maximum(shape - start, 0))
    return *_cut(indices, values, start, start + sizes), sizes.astype(np.int64)


@sparse_slice.gradient
def _sparse_slice_gradient(op, _, dvalues, __):
    dx = raw.SparseSliceGrad(dvalues, op.inputs[0], op.inputs[3], op.outputs[0])
    dx.set_shape(op.inputs[1].shape)
    return None, dx, None, None, None


sparse_slice_grad = define(
    "SparseSliceGrad",
    "backprop_val_grad: T, input_indices: int64, input_start: int64, output_indices: int64 -> val_grad: T",
    f"T: {{{NUMERIC}}}",
)


@sparse_slice_grad.shape
def _sparse_slice_grad_shape(op, dvalues, indices, start, output_indices):
    return (shapes.with_rank(op, indices, 2, "input_indices")[0],)


@sparse_slice_grad.host
def _sparse_slice_grad_host(op, dvalues, indices, start, output_indices):
    if len(dvalues) != len(output_indices):
        raise op.invalid(
            "# elements in backprop_val_grad and # rows in output_indices should match (#nnz of sum): got "
            f"{len(dvalues)} and {len(output_indices)}"
        )
    return _pick(dvalues, indices, output_indices + start)


sparse_slice_grad.not_differentiable()

# ---- SparseSplit

sparse_split = define(
    "SparseSplit",
    "split_dim: int64, indices: int64, values: T, shape: int64 -> output_indices: num_split*int64, "
    "output_values: num_split*T, output_shape: num_split*int64",
    "num_split: int >= 1, T: type",
    dynamic_shape=True,
)


@sparse_split.shape
def _sparse_split_shape(op, axis, indices, values, shape):
    count = op.attr("num_split")
    return [(None, _number_of_axes(shape))] * count + [(None,)] * count + [shape] * count


@sparse_split.host
@sparse_split.lower
def _sparse_split_host(op, axis, indices, values, shape):
    check_sparse(op, indices, values, shape, "input_")
    if np.ndim(axis):
        raise op.invalid(f"Input axis should be a scalar but received shape {list(axis.shape)}")
    axis, count = int(axis), op.attr("num_split")
    if not 0 <= axis < shape.size:
        raise op.invalid(f"Input split_dim should be between 0 and rank ({shape.size}), got {axis}")
    size = int(shape[axis])
    if not 1 <= count <= size:
        raise op.invalid(
            f"Input num_split should be between 1 and the splitting dimension size ({size}), got {count}"
        )
    part, longer = divmod(size, count)
    places, numbers, sizes = [], [], []
    begin = np.zeros_like(shape)
    for i in range(count):
        end = np.array(shape)
        end[axis] = begin[axis] + part + (i < longer)
        rows, picked = _cut(indices, values, begin, end)
        places.append(rows), numbers.append(picked), sizes.append(end - begin)
        begin[axis] = end[axis]
    return *places, *numbers, *sizes


sparse_split.not_differentiable()
