"""Sparse tensors made dense, added to dense ones, put in order, reshaped, with empty rows filled.

A sparse tensor is three arguments: indices [n, rank], values [n], shape [rank].
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks
from headrace.ops.reshape import is_static

NUMERIC = (
    "float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, "
    "uint16, complex128, half, uint32, uint64"
)
REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"


def sparse_dims(op, indices, values, shape):
    """(number of values, rank) of a sparse input, as far as known. Raises ValueError: the three do not fit."""
    places = shapes.with_rank(op, indices, 2, "indices")
    count = shapes.merge_size(
        op, places[0], shapes.with_rank(op, values, 1, "values")[0], "numbers of indices and values"
    )
    rank = shapes.merge_size(
        op, places[1], shapes.with_rank(op, shape, 1, "shape")[0], "indices and shape in rank"
    )
    return count, rank


def all_static(*values):
    """Whether every value is known while tracing."""
    return all(map(is_static, values))


def namespace_of(*values):
    """NumPy where every value is known, else JAX's."""
    return np if all_static(*values) else jnp


def take(x, index):
    """x[index], where only one of them may be known."""
    return x[index] if all_static(x, index) else jnp.asarray(x)[index]


def check_sparse(op, indices, values, shape, prefix=""):
    """Raises InvalidArgumentError: the three parts of a sparse input do not fit each other."""
    if indices.ndim != 2:
        raise op.invalid(
            f"Input {prefix}indices should be a matrix but received shape: {list(indices.shape)}"
        )
    if values.ndim != 1 or shape.ndim != 1:
        raise op.invalid(
            f"Inputs {prefix}values and {prefix}shape should be vectors but received shapes: "
            f"{list(values.shape)} and {list(shape.shape)}"
        )
    if values.shape[0] != indices.shape[0]:
        raise op.invalid(
            f"Number of elements in values ({values.shape[0]}) and of rows of indices ({indices.shape[0]}) must match"
        )
    if shape.shape[0] != indices.shape[1]:
        raise op.invalid(
            f"Index rank ({indices.shape[1]}) and shape rank ({shape.shape[0]}) must match"
        )


def check_sizes(op, shape):
    """Raises InvalidArgumentError: a known shape has negative sizes, or more elements than an int64 counts."""
    if not is_static(shape):
        return
    sizes = [int(size) for size in shape]
    if any(size < 0 for size in sizes):
        raise op.invalid(f"Shape {sizes} must not have negative sizes")
    if math.prod(sizes) >= 2**63:
        raise op.invalid(f"Shape {sizes} is too large (more than 2**63 - 1 entries)")


def column(indices, number):
    """Node: column `number` of `indices`."""
    begin, end = np.array([0, number], np.int32), np.array([0, number + 1], np.int32)
    ones = np.array([1, 1], np.int32)
    return raw.StridedSlice(indices, begin, end, ones, begin_mask=1, end_mask=1, shrink_axis_mask=2)


def _check_in_order(op, indices, sizes):
    """Every index inside `sizes`, each row of indices after the one before it."""
    namespace = namespace_of(indices)
    limits = np.asarray(sizes, indices.dtype).reshape(-1)
    if not indices.shape[0]:
        return
    outside = ((indices < 0) | (indices >= limits)).any(axis=1)
    where = namespace.argmax(outside)
    shown = ",".join(map(str, limits))
    checks.fail_if(
        op,
        outside.any(),
        "indices[{}] = {} is out of bounds: need 0 <= index < [" + shown + "]",
        where,
        indices[where],
    )
    if indices.shape[0] < 2:
        return
    before, after = indices[:-1], indices[1:]
    # A row comes after another where the first difference is upwards.
    differs = before != after
    first = namespace.argmax(differs, axis=1)
    rows = np.arange(len(first))
    same = ~differs.any(axis=1)
    falls = (after[rows, first] < before[rows, first]) & ~same
    where = namespace.argmax(falls)
    checks.fail_if(
        op,
        falls.any(),
        "indices[{}] = {} is out of order. Many sparse ops require sorted indices: "
        "tf.sparse.reorder makes a copy in order.",
        where + 1,
        after[where],
    )
    where = namespace.argmax(same)
    checks.fail_if(op, same.any(), "indices[{}] = {} is repeated", where + 1, after[where])


# ---- SparseToDense

sparse_to_dense = define(
    "SparseToDense",
    "sparse_indices: Tindices, output_shape: Tindices, sparse_values: T, default_value: T -> dense: T",
    "validate_indices: bool = true, T: type, Tindices: {int32, int64}",
    static_inputs=("output_shape",),
    effects=Effect.FALLIBLE,
    checked_inputs=("sparse_indices",),
)


@sparse_to_dense.shape
def _sparse_to_dense_shape(op, indices, shape, values, default):
    return shapes.sizes_of(op, 1)


def _check_to_dense(op, indices, shape, values, default):
    if indices.ndim > 2:
        raise op.invalid(
            f"sparse_indices should be a scalar, vector, or matrix, got shape {list(indices.shape)}"
        )
    if shape.ndim != 1:
        raise op.invalid(f"output_shape should be a vector, got shape {list(shape.shape)}")
    count = indices.shape[0] if indices.ndim else 1
    rank = indices.shape[1] if indices.ndim > 1 else 1
    if shape.size != rank:
        raise op.invalid(
            f"output_shape has incorrect number of elements: {shape.size} should be: {rank}"
        )
    if values.ndim and values.shape != (count,):
        raise op.invalid(
            f"sparse_values has incorrect shape {shapes.brackets(values.shape)}, should be [] or [{count}]"
        )
    if default.ndim:
        raise op.invalid("default_value should be a scalar.")
    return count, rank


@sparse_to_dense.lower
@sparse_to_dense.host
def _sparse_to_dense_lower(op, indices, shape: np.ndarray, values, default):
    count, rank = _check_to_dense(op, indices, shape, values, default)
    sizes = tuple(int(s) for s in shape)
    rows = indices.reshape(count, rank)
    if op.attr("validate_indices"):
        _check_in_order(op, rows, sizes)
    elif count:
        outside = ((rows < 0) | (rows >= np.asarray(sizes, rows.dtype))).any()
        checks.fail_if(
            op, outside, f"Indices are not valid (out of bounds).  Shape: {shapes.brackets(sizes)}"
        )
    places = tuple(rows[:, i] for i in range(rank))
    if all_static(indices, values, default):
        out = np.full(sizes, default, default.dtype)
        out[places] = values
        return out
    return jnp.full(sizes, default).at[places].set(values, mode="drop")


@sparse_to_dense.gradient
def _sparse_to_dense_gradient(op, dy):
    indices, values = op.inputs[0], op.inputs[2]
    if indices._dims is not None and len(indices._dims) < 2:  # places in a vector
        indices = raw.Reshape(indices, np.array([-1, 1], np.int32))
    dvalues = raw.GatherNd(dy, indices)
    every = raw.Range(np.int32(0), raw.Rank(dy), np.int32(1))
    total = raw.Sum(dy, every)
    picked = raw.Sum(dvalues, raw.Range(np.int32(0), raw.Rank(dvalues), np.int32(1)))
    if values._dims == ():
        dvalues = picked
    return None, None, dvalues, raw.Sub(total, picked)


# ---- SparseTensorDenseAdd

sparse_tensor_dense_add = define(
    "SparseTensorDenseAdd",
    "a_indices: Tindices, a_values: T, a_shape: Tindices, b: T -> output: T",
    f"T: {{{NUMERIC}}}, Tindices: {{int32, int64}}",
    effects=Effect.FALLIBLE,
    checked_inputs=("a_indices", "a_shape"),
)


@sparse_tensor_dense_add.shape
def _sparse_tensor_dense_add_shape(op, indices, values, shape, b):
    return b


@sparse_tensor_dense_add.lower
@sparse_tensor_dense_add.host
def _sparse_tensor_dense_add_lower(op, indices, values, shape, b):
    check_sparse(op, indices, values, shape, "a_")
    if shape.shape[0] != b.ndim:
        raise op.invalid(
            f"Two operands have different ranks; received: {shape.shape[0]} and {b.ndim}"
        )
    sizes = np.asarray(b.shape, shape.dtype)
    checks.fail_if(
        op,
        (shape != sizes).any(),
        f"Dimensions do not equal (no broadcasting is supported): sparse side {{}}, dense side {b.shape}",
        shape,
    )
    outside = ((indices < 0) | (indices >= sizes)).any()
    checks.fail_if(op, outside, f"Sparse tensor has some invalid index on an axis of {b.shape}")
    places = tuple(indices[:, i] for i in range(b.ndim))
    if all_static(indices, values, b):
        out = np.array(b)
        np.add.at(out, places, values)
        return out
    return jnp.asarray(b).at[places].add(values, mode="drop")


@sparse_tensor_dense_add.gradient
def _sparse_tensor_dense_add_gradient(op, dy):
    return None, raw.GatherNd(dy, op.inputs[0]), None, dy


# ---- SparseReorder

sparse_reorder = define(
    "SparseReorder",
    "input_indices: int64, input_values: T, input_shape: int64 -> output_indices: int64, output_values: T",
    "T: type",
)


@sparse_reorder.shape
def _sparse_reorder_shape(op, indices, values, shape):
    shapes.with_rank(op, shape, 1, "input_shape")
    return [
        shapes.with_rank(op, indices, 2, "input_indices"),
        shapes.with_rank(op, values, 1, "input_values"),
    ]


def row_order(indices):
    """The permutation that puts rows of indices into row-major order; equal rows keep their order."""
    namespace = namespace_of(indices)
    if not indices.shape[1]:
        return np.arange(indices.shape[0])
    return namespace.lexsort(tuple(indices[:, i] for i in reversed(range(indices.shape[1]))))


@sparse_reorder.lower
@sparse_reorder.host
def _sparse_reorder_lower(op, indices, values, shape):
    check_sparse(op, indices, values, shape, "input_")
    order = row_order(indices)
    return take(indices, order), take(values, order)


@sparse_reorder.gradient
def _sparse_reorder_gradient(op, _, dvalues):
    indices, _, shape = op.inputs
    numbers = raw.Range(np.int32(0), raw.Size(op.inputs[1]), np.int32(1))
    order = raw.SparseReorder(indices, numbers, shape)[1]
    return None, raw.GatherV2(dvalues, raw.InvertPermutation(order), np.int32(0)), None


# ---- SparseReshape

sparse_reshape = define(
    "SparseReshape",
    "input_indices: int64, input_shape: int64, new_shape: int64 -> output_indices: int64, output_shape: int64",
    effects=Effect.FALLIBLE,
    checked_inputs=("input_shape", "new_shape"),
)


@sparse_reshape.shape
def _sparse_reshape_shape(op, indices, shape, new_shape):
    indices = shapes.with_rank(op, indices, 2, "input_indices")
    shapes.with_rank(op, shape, 1, "input_shape")
    new_shape = shapes.with_rank(op, new_shape, 1, "new_shape")
    return [(indices[0], new_shape[0]), new_shape]


def _strides(sizes, namespace):
    """Row-major strides of a vector of sizes."""
    after = namespace.concatenate([sizes[1:], np.ones(min(1, sizes.shape[0]), np.int64)])
    return namespace.cumprod(after[::-1])[::-1]


@sparse_reshape.lower
@sparse_reshape.host
def _sparse_reshape_lower(op, indices, shape, new_shape):
    for what, value, rank in (
        ("indices", indices, 2),
        ("shape", shape, 1),
        ("new shape", new_shape, 1),
    ):
        if value.ndim != rank:
            raise op.invalid(
                f"Input {what} should be a {'matrix' if rank == 2 else 'vector'} but received shape {list(value.shape)}"
            )
    if indices.shape[1] != shape.shape[0]:
        raise op.invalid(
            f"Input tensor rank must match input shape length: {indices.shape[1]} vs. {shape.shape[0]}"
        )
    namespace = namespace_of(shape, new_shape)
    implied = new_shape == -1
    checks.fail_if(op, implied.sum() > 1, "only one output dimension may be -1")
    checks.fail_if(
        op, (new_shape < -1).any(), "sizes of new_shape {} must be non-negative, or -1", new_shape
    )
    total = namespace.prod(shape)
    known = namespace.prod(namespace.where(implied, np.int64(1), new_shape))
    rest = total // namespace.maximum(known, np.int64(1))
    sizes = namespace.where(implied, rest, new_shape)
    has_implied = implied.any()
    checks.fail_if(
        op,
        has_implied & ((known == 0) if not new_shape.shape[0] else (known <= 0)),
        "reshape cannot infer the missing input size for an empty tensor unless all specified input sizes are "
        "non-zero",
    )
    checks.fail_if(
        op,
        has_implied & (rest * known != total),
        "Input to reshape is a SparseTensor with {} dense values, but the requested shape requires a multiple of {}",
        total,
        known,
    )
    checks.fail_if(
        op,
        ~has_implied & (known != total),
        "Input to reshape is a tensor with {} dense values, but the requested shape has {}",
        total,
        known,
    )
    namespace = namespace_of(indices, sizes, shape)
    flat = (indices * _strides(shape, namespace)).sum(axis=1)[:, None]
    strides = namespace.maximum(_strides(sizes, namespace), np.int64(1))
    places = flat // strides % namespace.maximum(sizes, np.int64(1))
    return places.astype(np.int64), sizes.astype(np.int64)


sparse_reshape.not_differentiable()

# ---- SparseFillEmptyRows, SparseFillEmptyRowsGrad

fill_empty_rows = define(
    "SparseFillEmptyRows",
    "indices: int64, values: T, dense_shape: int64, default_value: T -> output_indices: int64, output_values: T, "
    "empty_row_indicator: bool, reverse_index_map: int64",
    "T: type",
    dynamic_shape=True,
)


@fill_empty_rows.shape
def _fill_empty_rows_shape(op, indices, values, shape, default):
    count, rank = sparse_dims(op, indices, values, shape)
    shapes.with_rank(op, default, 0, "default_value")
    if rank == 0:
        raise op.error("dense_shape must not be empty")
    sizes = shapes.sizes_of(op, 2)
    return [(None, rank), (None,), (sizes[0] if sizes else None,), (count,)]


@fill_empty_rows.host
@fill_empty_rows.lower
def _fill_empty_rows_host(op, indices, values, shape, default):
    check_sparse(op, indices, values, shape)
    if np.ndim(default):
        raise op.invalid(f"default_value must be a scalar, saw: {list(default.shape)}")
    count, height = len(indices), int(shape[0])
    rows = indices[:, 0]
    if not height and count:
        raise op.invalid(
            f"Received SparseTensor with dense_shape[0] = 0 but indices.shape[0] = {count}"
        )
    bad = np.flatnonzero((rows < 0) | (rows >= height))
    if bad.size:
        raise op.invalid(f"indices({bad[0]}, 0) is invalid: {rows[bad[0]]} >= {height}")
    sizes = np.bincount(rows, minlength=height)
    empty = sizes == 0
    added = np.zeros((int(empty.sum()), indices.shape[1]), np.int64)
    added[:, 0] = np.flatnonzero(empty)
    # The values of a row stay in their order.
    order = np.argsort(np.concatenate([rows, added[:, 0]]), kind="stable")
    places = np.concatenate([indices, added])[order]
    filler = namespace_of(default).full(len(added), default, values.dtype)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    filled = namespace_of(values, filler).concatenate([values, filler])
    return places, filled[order], empty, position[:count]


@fill_empty_rows.gradient
def _fill_empty_rows_gradient(op, _, dvalues, __, ___):
    d_values, d_default = raw.SparseFillEmptyRowsGrad(op.outputs[3], dvalues)
    return None, d_values, None, d_default


fill_empty_rows_grad = define(
    "SparseFillEmptyRowsGrad",
    "reverse_index_map: int64, grad_values: T -> d_values: T, d_default_value: T",
    "T: type",
    effects=Effect.FALLIBLE,
    checked_inputs=("reverse_index_map",),
)


@fill_empty_rows_grad.shape
def _fill_empty_rows_grad_shape(op, reverse, dvalues):
    shapes.with_rank(op, dvalues, 1, "grad_values")
    return [shapes.with_rank(op, reverse, 1, "reverse_index_map"), ()]


@fill_empty_rows_grad.lower
@fill_empty_rows_grad.host
def _fill_empty_rows_grad_lower(op, reverse, dvalues):
    count = dvalues.shape[0]
    checks.fail_if(
        op,
        ((reverse < 0) | (reverse >= count)).any(),
        f"elements of reverse_index_map must be in [0, {count})",
    )
    namespace = namespace_of(reverse, dvalues)
    picked = take(dvalues, reverse)
    if namespace is np:
        others = np.ones(count, bool)
        others[reverse] = False
    else:
        others = jnp.ones(count, bool).at[reverse].set(False)
    zero = np.zeros((), dvalues.dtype)
    return picked, namespace.where(others, dvalues, zero).sum(dtype=dvalues.dtype)


fill_empty_rows_grad.not_differentiable()
