"""Products of sparse and dense tensors: SparseTensorDenseMatMul, SparseDenseCwiseMul, Div and Add."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks
from headrace.ops.sparse import NUMERIC, all_static, check_sparse, column

# ---- SparseTensorDenseMatMul

sparse_dense_matmul = define(
    "SparseTensorDenseMatMul",
    "a_indices: Tindices, a_values: T, a_shape: int64, b: T -> product: T",
    "T: type, Tindices: {int32, int64} = int64, adjoint_a: bool = false, adjoint_b: bool = false",
    static_inputs=("a_shape",),
    effects=Effect.FALLIBLE,
    checked_inputs=("a_indices",),
)


@sparse_dense_matmul.shape
def _sparse_dense_matmul_shape(op, indices, values, a_shape, b):
    shapes.with_rank(op, indices, 2, "a_indices"), shapes.with_rank(op, values, 1, "a_values")
    left = shapes.with_rank(op, shapes.sizes_of(op, 2), 2, "a")
    right = shapes.with_rank(op, b, 2, "b")
    outer, inner = reversed(left) if op.attr("adjoint_a") else left
    inner_b, columns = reversed(right) if op.attr("adjoint_b") else right
    shapes.merge_size(
        op, inner, inner_b, f"inner sizes of a {shapes.text(left)} and b {shapes.text(right)}"
    )
    return outer, columns


def _check_product(op, indices, values, shape, b):
    if b.ndim != 2:
        raise op.invalid("Tensor 'b' is not a matrix")
    if shape.ndim != 1:
        raise op.invalid("Tensor 'a_shape' is not a vector")
    if shape.size != 2:
        raise op.invalid("Tensor 'a_shape' must have 2 elements")
    if values.ndim != 1:
        raise op.invalid("Tensor 'a_values' is not a vector")
    if indices.ndim != 2:
        raise op.invalid("Tensor 'a_indices' is not a matrix")
    if indices.shape != (values.shape[0], 2):
        raise op.invalid(
            "Number of rows of a_indices does not match number of entries in a_values, or its columns the entries of "
            f"a_shape: {list(indices.shape)} and {list(values.shape)}"
        )


@sparse_dense_matmul.lower
@sparse_dense_matmul.host
def _sparse_dense_matmul_lower(op, indices, values, shape: np.ndarray, b):
    """The rows of b that the columns of a name, times a's values, added up by the rows of a."""
    _check_product(op, indices, values, shape, b)
    adjoint_a = op.attr("adjoint_a")
    m, k = (int(s) for s in (shape[::-1] if adjoint_a else shape))
    if op.attr("adjoint_b"):
        b = b.T.conj()
    if b.shape[0] != k:
        raise op.invalid(
            f"Cannot multiply A and B because inner dimension does not match: {k} vs. {b.shape[0]}.  Did you forget a "
            f"transpose?  Dimensions of A: [{shape[0]}, {shape[1]}).  Dimensions of B: {list(b.shape)}"
        )
    out_at, in_at = (1, 0) if adjoint_a else (0, 1)
    rows, columns = indices[:, out_at], indices[:, in_at]
    if not m or not b.shape[1]:
        return np.zeros((m, b.shape[1]), b.dtype)
    for letter, places, axis, limit in (("k", columns, in_at, k), ("m", rows, out_at, m)):
        if not places.shape[0]:
            break
        outside = (places < 0) | (places >= limit)
        where = outside.argmax()
        checks.fail_if(
            op,
            outside.any(),
            f"{letter} ({{}}) from index[{{}},{axis}] out of bounds (>={limit})",
            places[where],
            where,
        )
    if not k:
        return np.zeros((m, b.shape[1]), b.dtype)
    weights = (values.conj() if adjoint_a else values)[:, None]
    # Half precision is added up in float32.
    kind = np.dtype(np.float32) if b.dtype.itemsize == 2 else b.dtype
    if all_static(indices, values, b):
        out = np.zeros((m, b.shape[1]), kind)
        np.add.at(out, rows, weights.astype(kind) * b[columns].astype(kind))
        return out.astype(b.dtype)
    terms = weights.astype(kind) * jnp.asarray(b).at[columns].get(mode="clip").astype(kind)
    total = jnp.zeros((m, b.shape[1]), kind).at[rows].add(terms, mode="drop")
    return total.astype(b.dtype)


@sparse_dense_matmul.gradient
def _sparse_dense_matmul_gradient(op, dy):
    """With y = a b: db = a' dy, and each value of a gets the product of its row of dy and its row of b."""
    indices, values, shape, b = op.inputs
    if values.dtype.base_dtype.is_complex:
        raise NotImplementedError(
            f"SparseTensorDenseMatMul op {op.name!r} has no gradient for complex values."
        )
    adjoint_a, adjoint_b = op.attr("adjoint_a"), op.attr("adjoint_b")
    flip = np.array([1, 0], np.int32)
    db = raw.SparseTensorDenseMatMul(indices, values, shape, dy, adjoint_a=not adjoint_a)
    db = raw.Transpose(db, flip) if adjoint_b else db
    rows, columns = column(indices, 0), column(indices, 1)
    if adjoint_a:
        rows, columns = columns, rows
    of_dy = raw.GatherV2(dy, rows, np.int32(0))
    of_b = raw.GatherV2(raw.Transpose(b, flip) if adjoint_b else b, columns, np.int32(0))
    dvalues = raw.Sum(raw.Mul(of_dy, of_b), np.array([1], np.int32))
    return None, dvalues, None, db


# ---- SparseDenseCwiseMul, SparseDenseCwiseDiv, SparseDenseCwiseAdd: the dense side is broadcast to the sparse one


def _divide(op, x, y):
    """x / y; integers are cut off towards 0, as in C."""
    if not np.issubdtype(x.dtype, np.integer):
        return x / y
    checks.fail_if(op, (y == 0).any(), "cannot divide by zero, but the dense side contains one")
    if not all_static(x, y):
        return lax.div(jnp.asarray(x), jnp.broadcast_to(y, x.shape))
    return x // y + ((x % y != 0) & ((x < 0) != (y < 0)))


def _spread(op, indices, shape, dense):
    """The elements of `dense`, broadcast to `shape`, at `indices`."""
    lead = indices.shape[1] - dense.ndim
    if indices.shape[1] < 1:
        raise op.invalid("The shape argument requires at least one element.")
    if lead < 0:
        raise op.invalid(
            "broadcasts dense to sparse only; got incompatible shapes: sparse of rank "
            f"{indices.shape[1]} vs. dense {list(dense.shape)}"
        )
    sizes = np.asarray(dense.shape, np.int64)
    fits = (sizes == 1) | (shape[lead:] == sizes)
    checks.fail_if(
        op,
        ~fits.all(),
        f"broadcasts dense to sparse only; got incompatible shapes: {{}} vs. {list(dense.shape)}",
        shape,
    )
    outside = ((indices < 0) | (indices >= shape)).any()
    checks.fail_if(
        op,
        outside,
        "Provided indices are out-of-bounds w.r.t. dense side with broadcasted shape",
    )
    places = indices[:, lead:] * (sizes != 1)
    if not dense.ndim:
        return dense
    if all_static(places, dense):
        return dense[tuple(places.T)]
    return jnp.asarray(dense).at[tuple(places.T)].get(mode="clip")


def _elementwise(name, combine):
    definition = define(
        name,
        "sp_indices: int64, sp_values: T, sp_shape: int64, dense: T -> output: T",
        f"T: {{{NUMERIC}}}",
        effects=Effect.FALLIBLE,
        checked_inputs=("sp_indices", "sp_shape"),
    )

    @definition.shape
    def shape_rule(op, indices, values, shape, dense):
        return (shapes.with_rank(op, indices, 2, "sp_indices")[0],)

    @definition.lower
    @definition.host
    def rule(op, indices, values, shape, dense):
        check_sparse(op, indices, values, shape, "sp_")
        other = _spread(op, indices, shape, dense)
        return combine(op, values, other).astype(values.dtype)

    return definition


def _scaled_indices(op):
    """The indices into the dense side, as nodes, and its shape."""
    indices, _, shape, dense = op.inputs
    shape_of_dense = raw.Shape(dense, out_type="int64")
    lead = raw.Sub(raw.Size(shape), raw.Size(shape_of_dense))
    zero = np.array([0], np.int32)
    lead_1d = raw.ExpandDims(lead, np.int32(0))
    rest = raw.Slice(shape, lead_1d, np.array([-1], np.int32))
    begin = raw.ConcatV2([zero, lead_1d], np.int32(0))
    own = raw.Slice(indices, begin, np.array([-1, -1], np.int32))
    return raw.FloorDiv(own, raw.FloorDiv(rest, shape_of_dense)), shape_of_dense


def _scatter_to(dense, indices, values, shape):
    return raw.SparseTensorDenseAdd(indices, values, shape, raw.ZerosLike(dense))


cwise_mul = _elementwise("SparseDenseCwiseMul", lambda op, x, y: x * y)


@cwise_mul.gradient
def _cwise_mul_gradient(op, dy):
    indices, shape = _scaled_indices(op)
    dense = op.inputs[3]
    other = raw.GatherNd(dense, indices)
    ddense = _scatter_to(dense, indices, raw.Mul(dy, op.inputs[1]), shape)
    return None, raw.Mul(dy, other), None, ddense


cwise_div = _elementwise("SparseDenseCwiseDiv", _divide)


@cwise_div.gradient
def _cwise_div_gradient(op, dy):
    indices, shape = _scaled_indices(op)
    dense = op.inputs[3]
    other = raw.GatherNd(dense, indices)
    slope = raw.RealDiv(raw.Neg(op.inputs[1]), raw.Square(other))
    ddense = _scatter_to(dense, indices, raw.Mul(dy, slope), shape)
    return None, raw.RealDiv(dy, other), None, ddense


cwise_add = _elementwise("SparseDenseCwiseAdd", lambda op, x, y: x + y)


@cwise_add.gradient
def _cwise_add_gradient(op, dy):
    # TF differs: there it is not implemented, and SparseSoftmax has no second derivative.
    indices, shape = _scaled_indices(op)
    return None, dy, None, _scatter_to(op.inputs[3], indices, dy, shape)
