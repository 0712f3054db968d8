"""Matrix products."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.lowering import loop_body

# ---- MatMul

matmul = define(
    "MatMul",
    "a: T, b: T -> product: T",
    "transpose_a: bool = false, transpose_b: bool = false, "
    "T: {bfloat16, half, float, double, int32, int64, complex64, complex128}",
)
matmul.adds_up()


@matmul.shape
def _matmul_shape(op, a, b):
    a, b = shapes.with_rank(op, a, 2, "a"), shapes.with_rank(op, b, 2, "b")
    rows, inner_a = reversed(a) if op.attr("transpose_a") else a
    inner_b, columns = reversed(b) if op.attr("transpose_b") else b
    shapes.merge_size(
        op, inner_a, inner_b, f"inner sizes of a {shapes.text(a)} and b {shapes.text(b)}"
    )
    return (rows, columns)


def _check_product(op, a, b):
    for i, x in enumerate((a, b)):
        if x.ndim != 2:
            raise op.invalid(f"In[{i}] is not a matrix. Instead it has shape [{_sizes(x)}]")
    inner = a.shape[0 if op.attr("transpose_a") else 1], b.shape[1 if op.attr("transpose_b") else 0]
    if inner[0] != inner[1]:
        raise op.invalid(f"Matrix size-incompatible: In[0]: [{_sizes(a)}], In[1]: [{_sizes(b)}]")


def _sizes(x):
    return ",".join(map(str, x.shape))


@matmul.lower
def _matmul_lower(op, a, b):
    _check_product(op, a, b)
    flags = op.attr("transpose_a"), op.attr("transpose_b")
    return native.dot(a, b, *flags, b_is_invariant=loop_body.is_invariant(b))


@matmul.host
def _matmul_host(op, a, b):
    _check_product(op, a, b)
    product = native.host_dot(a, b, op.attr("transpose_a"), op.attr("transpose_b"))
    if product is not None:
        return product
    return _matmul_in_float(
        a.T if op.attr("transpose_a") else a, b.T if op.attr("transpose_b") else b
    )


@matmul.gradient
def _matmul_gradient(op, dy):
    a, b = (raw.Conj(x) if x.dtype.is_complex else x for x in op.inputs)
    return _product_gradient(a, b, dy, op.attr("transpose_a"), op.attr("transpose_b"))


def _product_gradient(a, b, dy, transpose_a, transpose_b):
    """With y = op(a) op(b): da = dy op(b)', db = op(a)' dy, transposed back where the op transposed."""
    if not transpose_a and not transpose_b:
        return raw.MatMul(dy, b, transpose_b=True), raw.MatMul(a, dy, transpose_a=True)
    if not transpose_a:
        return raw.MatMul(dy, b), raw.MatMul(dy, a, transpose_a=True)
    if not transpose_b:
        return raw.MatMul(b, dy, transpose_b=True), raw.MatMul(a, dy)
    return (
        raw.MatMul(b, dy, transpose_a=True, transpose_b=True),
        raw.MatMul(dy, a, transpose_a=True, transpose_b=True),
    )


# ---- BatchMatMul, BatchMatMulV2: matrices in the last two axes; V2 broadcasts the axes before them

_TYPES = "T: {bfloat16, half, float, double, int32, int64, complex64, complex128}"


def _matrix_dims(op, dims, adjoint, what):
    """The sizes of the batch, the rows and the columns of an input after it was transposed."""
    shapes.at_least_rank(op, dims, 2, what)
    if dims is None:
        return None, None, None
    rows, columns = reversed(dims[-2:]) if adjoint else dims[-2:]
    return dims[:-2], rows, columns


def _batch_matmul_dims(op, x, y, combine):
    batch_x, rows, inner_x = _matrix_dims(op, x, op.attr("adj_x"), "x")
    batch_y, inner_y, columns = _matrix_dims(op, y, op.attr("adj_y"), "y")
    shapes.merge_size(
        op, inner_x, inner_y, f"inner sizes of x {shapes.text(x)} and y {shapes.text(y)}"
    )
    return shapes.concatenate(combine(op, batch_x, batch_y), (rows, columns))


def _adjoint(x, namespace):
    turned = namespace.swapaxes(x, -1, -2)
    return turned.conj() if np.issubdtype(x.dtype, np.complexfloating) else turned


def _check_matrices(op, x, y, broadcasts):
    for what, value in (("x", x), ("y", y)):
        if value.ndim < 2:
            raise op.invalid(f"In[{'xy'.index(what)}] ndims must be >= 2: {value.ndim}")
    inner = (
        x.shape[-2] if op.attr("adj_x") else x.shape[-1],
        y.shape[-1] if op.attr("adj_y") else y.shape[-2],
    )
    if inner[0] != inner[1]:
        raise op.invalid(
            f"In[0] mismatch In[1] shape: {inner[0]} vs. {inner[1]}: {list(x.shape)} {list(y.shape)}"
        )
    if not broadcasts and x.shape[:-2] != y.shape[:-2]:
        raise op.invalid(
            f"In[0] and In[1] must have compatible batch dimensions: {list(x.shape)} vs. {list(y.shape)}"
        )


def _batch_matmul(name: str, broadcasts: bool):
    definition = define(
        name, "x: T, y: T -> output: T", f"{_TYPES}, adj_x: bool = false, adj_y: bool = false"
    )

    @definition.shape
    def shape_rule(op, x, y):
        return _batch_matmul_dims(op, x, y, shapes.broadcast if broadcasts else shapes.merge)

    @definition.lower
    def rule(op, x, y):
        _check_matrices(op, x, y, broadcasts)
        if x.shape[:-2] == y.shape[:-2]:
            return _product(op, x, y)
        x = _adjoint(x, jnp) if op.attr("adj_x") else x
        if y.ndim == 2 and not np.issubdtype(y.dtype, np.complexfloating):
            # One matrix for all: their rows are those of one product.
            rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
            flags = False, op.attr("adj_y")
            product = native.dot(rows, y, *flags, b_is_invariant=loop_body.is_invariant(y))
            return product.reshape(*x.shape[:-1], product.shape[-1])
        y = _adjoint(y, jnp) if op.attr("adj_y") else y
        return jnp.matmul(x, y, preferred_element_type=x.dtype)

    @definition.host
    def host_rule(op, x, y):
        _check_matrices(op, x, y, broadcasts)
        product = native.host_dot(x, y, op.attr("adj_x"), op.attr("adj_y"))
        if product is not None:
            return product
        x = _adjoint(x, np) if op.attr("adj_x") else x
        y = _adjoint(y, np) if op.attr("adj_y") else y
        return _matmul_in_float(x, y)

    return definition


def _product(op, x, y):
    """The product without a transposed copy of its inputs."""
    x = x.conj() if op.attr("adj_x") and np.issubdtype(x.dtype, np.complexfloating) else x
    y = y.conj() if op.attr("adj_y") and np.issubdtype(y.dtype, np.complexfloating) else y
    flags = op.attr("adj_x"), op.attr("adj_y")
    return native.dot(x, y, *flags, b_is_invariant=loop_body.is_invariant(y))


def _matmul_in_float(x, y):
    """NumPy's product, in float32 for half precision."""
    if x.dtype.itemsize == 2:
        return np.matmul(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
    return np.matmul(x, y)


def _batch_matmul_gradient(op, dz):
    """With adjoints written ': z = x y gives dx = dz y', dy = x' dz; where the op took an adjoint the roles turn."""
    (x, y), adj_x, adj_y = op.inputs, op.attr("adj_x"), op.attr("adj_y")
    if not adj_x:
        dx = raw.BatchMatMulV2(dz, y, adj_y=not adj_y)
    else:
        dx = raw.BatchMatMulV2(y, dz, adj_x=adj_y, adj_y=True)
    if not adj_y:
        dy = raw.BatchMatMulV2(x, dz, adj_x=not adj_x)
    else:
        dy = raw.BatchMatMulV2(dz, x, adj_x=True, adj_y=adj_x)
    if shapes.is_known(x._dims) and shapes.is_known(y._dims):
        return _sum_batch(x, dx), _sum_batch(y, dy)
    shape_of_x, shape_of_y = raw.Shape(x), raw.Shape(y)
    rx, ry = raw.BroadcastGradientArgs(_batch_sizes(shape_of_x), _batch_sizes(shape_of_y))
    return raw.Reshape(raw.Sum(dx, rx), shape_of_x), raw.Reshape(raw.Sum(dy, ry), shape_of_y)


def _sum_batch(x, dx):
    """`dx` summed over the axes of the batch along which x was repeated."""
    if x._dims == dx._dims:
        return dx
    have, want = dx._dims[:-2], x._dims[:-2]
    want = (1,) * (len(have) - len(want)) + want
    axes = [i for i in range(len(have)) if want[i] != have[i]]
    return raw.Reshape(raw.Sum(dx, np.array(axes, np.int32)), np.array(x._dims, np.int32))


def _batch_sizes(shape_of_x):
    start, end, stride = (np.array([v], np.int32) for v in (0, -2, 1))
    return raw.StridedSlice(shape_of_x, start, end, stride, begin_mask=1)


batch_matmul = _batch_matmul("BatchMatMul", broadcasts=False)
batch_matmul.adds_up()
batch_matmul.gradient(_batch_matmul_gradient)
batch_matmul_v2 = _batch_matmul("BatchMatMulV2", broadcasts=True)
batch_matmul_v2.adds_up()
batch_matmul_v2.gradient(_batch_matmul_gradient)

# ---- SparseMatMul: a matrix product of dense matrices with many zeros

sparse_matmul = define(
    "SparseMatMul",
    "a: Ta, b: Tb -> product: float",
    "transpose_a: bool = false, transpose_b: bool = false, a_is_sparse: bool = false, b_is_sparse: bool = false, "
    "Ta: {float, bfloat16} = float, Tb: {float, bfloat16} = float",
)
sparse_matmul.shape(_matmul_shape)


@sparse_matmul.lower
def _sparse_matmul_lower(op, a, b):
    return _matmul_lower(op, a.astype(np.float32), b.astype(np.float32))


@sparse_matmul.host
def _sparse_matmul_host(op, a, b):
    return _matmul_host(op, a.astype(np.float32), b.astype(np.float32))


@sparse_matmul.gradient
def _sparse_matmul_gradient(op, dy):
    a, b = op.inputs
    a_, b_ = (
        x if x.dtype.base_dtype.name == "float32" else raw.Cast(x, DstT="float32") for x in (a, b)
    )
    da, db = _product_gradient(a_, b_, dy, op.attr("transpose_a"), op.attr("transpose_b"))
    return tuple(
        d if x.dtype.base_dtype.name == "float32" else raw.Cast(d, DstT=x.dtype.base_dtype)
        for d, x in ((da, a), (db, b))
    )


# ---- Cross

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"

cross = define("Cross", "a: T, b: T -> product: T", f"T: {{{_REAL}}}")


@cross.shape
def _cross_shape(op, a, b):
    both = shapes.merge(op, a, b, "a and b")
    shapes.at_least_rank(op, both, 1, "a")
    if both is not None:
        shapes.merge_size(op, both[-1], 3, f"the last size of a {shapes.text(both)} must be 3")
    return both


@cross.lower
@cross.host
def _cross_lower(op, a, b):
    namespace = np if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else jnp
    if a.shape != b.shape:
        raise op.invalid(f"Both inputs must be of same shape: {list(a.shape)} vs. {list(b.shape)}")
    if not a.ndim or a.shape[-1] != 3:
        raise op.invalid(
            f"Cross-products are only defined for 3-element vectors, got {list(a.shape)}"
        )
    x, y = [a[..., i] for i in range(3)], [b[..., i] for i in range(3)]
    parts = [x[(i + 1) % 3] * y[(i + 2) % 3] - x[(i + 2) % 3] * y[(i + 1) % 3] for i in range(3)]
    return namespace.stack(parts, axis=-1)


@cross.gradient
def _cross_gradient(op, dz):
    a, b = op.inputs
    return raw.Cross(b, dz), raw.Cross(dz, a)
