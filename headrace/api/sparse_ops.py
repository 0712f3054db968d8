"""Sparse tensors: `tf.SparseTensor`, made, fed, made dense, reduced, multiplied. See also `sparse_structure.py`."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from headrace.api.array_ops import ones as ones_of
from headrace.api.array_ops import rank, zeros
from headrace.api.array_ops import shape as shape_of
from headrace.api.export import export, export_value
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast
from headrace.api.reduction import range as range_of
from headrace.api.renamed_argument import renamed
from headrace.core import dtypes
from headrace.graph import raw, sparse_tensor
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.sparse_tensor import SparseTensor, SparseTensorValue, is_sparse
from headrace.graph.tensor import Tensor

export_value(SparseTensor, "SparseTensor", "sparse.SparseTensor")
export_value(SparseTensorValue, "SparseTensorValue")
export_value(sparse_tensor.SparseTensorSpec, "SparseTensorSpec")
export_value(sparse_tensor.convert_to_tensor_or_sparse_tensor, "convert_to_tensor_or_sparse_tensor")


def as_sparse(value: Any) -> SparseTensor:
    """`value`, a SparseTensor or a SparseTensorValue, as a SparseTensor. Raises TypeError: neither."""
    if isinstance(value, SparseTensor):
        return value
    if isinstance(value, SparseTensorValue):
        return SparseTensor.from_value(value)
    raise TypeError(f"Input must be a SparseTensor, got {value!r}")


def parts(sparse: SparseTensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices, values and shape, in the order in which ops take them."""
    return sparse.indices, sparse.values, sparse.dense_shape


# ---- making them


@export("sparse_placeholder", "sparse.placeholder")
def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A sparse tensor whose value is given to each run: `feed_dict={x: tf.SparseTensorValue(...)}`, or a triple.

    shape: the shape of the whole, as numbers or an int64 tensor; None, or None among the numbers, for one that is fed.
    """

    def part(what: str) -> str | None:
        return None if name is None else f"{name}/{what}"

    count, dense_shape = None, None
    if shape is not None:
        is_tensor = isinstance(shape, Tensor)
        count = shape.shape.as_list()[0] if is_tensor else len(shape)
        sizes = shape if is_tensor else getattr(shape, "_dims", shape)
        if is_tensor or not any(size is None for size in sizes):
            dense_shape = convert_to_tensor(sizes, dtypes.int64, name=part("shape"))
    if dense_shape is None:
        dense_shape = raw.Placeholder(dtype="int64", shape=(count,), name=part("shape"))
    values = raw.Placeholder(dtype=dtype, shape=(None,), name=part("values"))
    indices = raw.Placeholder(dtype="int64", shape=(None, count), name=part("indices"))
    return SparseTensor(indices, values, dense_shape)


@export("sparse.from_dense")
def from_dense(tensor: Any, name: str | None = None) -> SparseTensor:
    """The elements of `tensor` that are not zero."""
    with name_scope(name, "dense_to_sparse"):
        tensor = convert_to_tensor(tensor)
        indices = raw.Where(raw.NotEqual(tensor, zeros([], tensor.dtype.base_dtype)))
        values = raw.GatherNd(tensor, indices)
        return SparseTensor(indices, values, shape_of(tensor, out_type=dtypes.int64))


def _int64(value: Any, name: str) -> Tensor:
    if isinstance(value, numbers.Integral):
        return convert_to_tensor(value, dtypes.int64, name=name)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be an integer value, got {value!r}")
    return cast(value, dtypes.int64)


@export("sparse.eye")
def sparse_eye(
    num_rows: Any, num_columns: Any = None, dtype: Any = dtypes.float32, name: str | None = None
) -> SparseTensor:
    """Ones on the diagonal of a matrix of `num_rows` rows and `num_columns` (as many, where None) columns."""
    with name_scope(name, "eye", [num_rows, num_columns]):
        rows = _int64(num_rows, "num_rows")
        columns = rows if num_columns is None else _int64(num_columns, "num_columns")
        count = raw.Minimum(rows, columns)
        along = range_of(count, dtype=dtypes.int64)
        ones = ones_of(raw.ExpandDims(count, 0), dtype)
        return SparseTensor(raw.Pack([along, along], axis=1), ones, raw.Pack([rows, columns]))


@export("sparse_mask", "sparse.mask")
def sparse_mask(a: IndexedSlices, mask_indices: Any, name: str | None = None) -> IndexedSlices:
    """`a` without the rows whose numbers are in `mask_indices`."""
    with name_scope(name, "sparse_mask", [a, mask_indices]) as scope:
        rows, places = raw.ListDiff(a.indices, mask_indices)
        return IndexedSlices(raw.GatherV2(a.values, places, 0, name=scope), rows, a.dense_shape)


# ---- making them dense


@export("sparse_to_dense")
def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """A dense tensor with `sparse_values` at `sparse_indices` and `default_value` elsewhere.

    sparse_indices: [n, rank], [n] or a scalar. sparse_values: [n] or a scalar. validate_indices: the run fails where an
    index is repeated or out of order.
    """
    return raw.SparseToDense(
        sparse_indices, output_shape, sparse_values, default_value, validate_indices, name=name
    )


@export("sparse_tensor_to_dense", "sparse.to_dense")
def sparse_tensor_to_dense(
    sp_input: Any,
    default_value: Any = None,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """`sp_input` as a dense tensor; `default_value` (zero, or "" where None) where it has no value."""
    sparse = as_sparse(sp_input)
    if default_value is None:
        default_value = zeros([], sparse.dtype)
    return raw.SparseToDense(
        sparse.indices,
        sparse.dense_shape,
        sparse.values,
        default_value,
        validate_indices=validate_indices,
        name=name,
    )


# ---- reductions


def _axes(sparse: Any, axis: Any, reduction_axes: Any) -> Any:
    axis = renamed("axis", axis, "reduction_axes", reduction_axes)
    if axis is not None:
        return axis
    dims = sparse.shape._dims
    if dims is not None:
        return np.arange(len(dims), dtype=np.int32)
    return range_of(0, rank(sparse))


def _export_reduction(name: str, op_type: str, sentence: str) -> None:
    def reduce(
        sp_input: Any,
        axis: Any = None,
        keepdims: Any = None,
        reduction_axes: Any = None,
        keep_dims: Any = None,
    ) -> Any:
        keepdims = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
        along = _axes(sp_input, axis, reduction_axes)
        result = getattr(raw, op_type)(*parts(sp_input), along, keep_dims=keepdims)
        return result if isinstance(result, Tensor) else SparseTensor(*result)

    reduce.__name__ = reduce.__qualname__ = f"sparse_{name}"
    reduce.__doc__ = (
        f"{sentence}\n\naxis: an integer or a vector of them; all axes where None. keepdims: keep them with size 1.\n"
        "reduction_axes, keep_dims: older names of these."
    )
    export(f"sparse_{name}", f"sparse.{name}")(reduce)


_export_reduction("reduce_sum", "SparseReduceSum", "The sum over axes, as a dense tensor.")
_export_reduction(
    "reduce_sum_sparse", "SparseReduceSumSparse", "The sum over axes, as a sparse tensor."
)
_export_reduction(
    "reduce_max",
    "SparseReduceMax",
    "The greatest of the given values over axes (0 where there is none), as a dense tensor.",
)
_export_reduction(
    "reduce_max_sparse",
    "SparseReduceMaxSparse",
    "The greatest of the given values over axes, as a sparse tensor.",
)


@export("sparse_softmax", "sparse.softmax")
def sparse_softmax(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The softmax over the given values of each innermost row. sp_input: rank 2 or more, float32 or float64."""
    with name_scope(name, "SparseSoftmax", [sp_input.indices, sp_input.values]):
        out = raw.SparseSoftmax(*parts(sp_input))
        return SparseTensor(sp_input.indices, out, sp_input.dense_shape)


# ---- sums, products, maxima


@export("sparse_add", "sparse.add")
def sparse_add(a: Any, b: Any, threshold: Any = None, thresh: Any = None) -> Any:
    """a + b, where one or both are sparse: a SparseTensor if both are, else a tensor. Shapes must be equal.

    threshold (thresh is its older name): a sum of two given values whose magnitude is below it is left out.
    Raises TypeError: none is sparse.
    """
    threshold = renamed("threshold", threshold, "thresh", thresh)
    if not is_sparse(a) and not is_sparse(b):
        raise TypeError("At least one input should be SparseTensor; do you mean to use tf.add()?")
    if not (is_sparse(a) and is_sparse(b)):
        sparse, dense = (a, b) if is_sparse(a) else (b, a)
        return raw.SparseTensorDenseAdd(*parts(sparse), dense)
    a, b = as_sparse(a), as_sparse(b)
    kind = a.values.dtype.real_dtype.base_dtype
    limit = convert_to_tensor(0 if threshold is None else threshold, kind, name="threshold")
    indices, values, shape = raw.SparseAdd(*parts(a), *parts(b), limit)
    a.shape.assert_is_compatible_with(b.shape)
    known = a.shape.merge_with(b.shape)
    return SparseTensor(indices, values, known.as_list() if known.is_fully_defined() else shape)


@export("sparse_tensor_dense_matmul", "sparse.sparse_dense_matmul", "sparse.matmul")
def sparse_tensor_dense_matmul(
    sp_a: Any,
    b: Any,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of a sparse matrix and a dense one; adjoint_a, adjoint_b: of their conjugate transposes."""
    sparse = as_sparse(sp_a)
    with name_scope(name, "SparseTensorDenseMatMul", [sparse.indices, sparse.values, b]):
        b = convert_to_tensor(b, name="b")
        return raw.SparseTensorDenseMatMul(
            *parts(sparse), b, adjoint_a=adjoint_a, adjoint_b=adjoint_b
        )


def _extremum(op_type: str, a: Any, b: Any, name: str | None) -> SparseTensor:
    values = [a.indices, a.values, b.indices, b.values]
    with name_scope(name, op_type, values) as scope:
        indices, values = getattr(raw, op_type)(*parts(a), *parts(b), name=scope)
    return SparseTensor(indices, values, a.dense_shape)


@export("sparse_maximum", "sparse.maximum")
def sparse_maximum(sp_a: Any, sp_b: Any, name: str | None = None) -> SparseTensor:
    """The elementwise maximum of two sparse tensors of one shape; a value that is not given counts as 0."""
    return _extremum("SparseSparseMaximum", sp_a, sp_b, name)


@export("sparse_minimum", "sparse.minimum")
def sparse_minimum(sp_a: Any, sp_b: Any, name: str | None = None) -> SparseTensor:
    """The elementwise minimum of two sparse tensors of one shape; a value that is not given counts as 0."""
    return _extremum("SparseSparseMinimum", sp_a, sp_b, name)


# ---- Python's operators with a dense tensor or number: what is not given stays so


def _scaled(name: str, op_type: str, sparse: SparseTensor, y: Any) -> SparseTensor:
    with name_scope(None, name, [*parts(sparse), y]) as scope:
        dense = convert_to_tensor(y, sparse.dtype.base_dtype, name="y")
        values = getattr(raw, op_type)(*parts(sparse), dense, name=scope)
        return SparseTensor(sparse.indices, values, sparse.dense_shape)


def _multiply(sparse: SparseTensor, y: Any) -> SparseTensor:
    """The given values times the elements of y, which broadcasts."""
    return _scaled("mul", "SparseDenseCwiseMul", sparse, y)


def _divide(sparse: SparseTensor, y: Any) -> SparseTensor:
    """The given values divided by the elements of y, which broadcasts; integers round as in C."""
    return _scaled("div", "SparseDenseCwiseDiv", sparse, y)


def _true_divide(sparse: SparseTensor, y: Any) -> SparseTensor:
    """Python's division: integers are divided as floating numbers."""
    with name_scope(None, "truediv", [*parts(sparse), y]) as scope:
        kind = sparse.dtype.base_dtype
        dense, values = convert_to_tensor(y, kind, name="y"), sparse.values
        if kind.is_integer:
            wide = dtypes.float64 if kind.size > 2 else dtypes.float32
            values, dense = cast(values, wide), cast(dense, wide)
        indices, shape = sparse.indices, sparse.dense_shape
        return SparseTensor(
            indices, raw.SparseDenseCwiseDiv(indices, values, shape, dense, name=scope), shape
        )


for _operator, _function in (
    ("__mul__", _multiply),
    ("__rmul__", _multiply),
    ("__div__", _divide),
    ("__truediv__", _true_divide),
):
    SparseTensor._override_operator(_operator, _function)
