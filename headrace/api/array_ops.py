"""Shapes, and tensors of other shapes: `tf.shape`, `tf.reshape`, `tf.transpose`, `tf.zeros`, `tf.fill`, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export, export_op, export_value
from headrace.api.framework import name_scope
from headrace.api.source import constant
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import raw, shapes
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor

newaxis = export_value(None, "newaxis")

# Constants up to this many elements are stored in the graph; larger ones are filled when they are needed.
_SMALL = 1000

# ---- shapes as tensors


def dense_shape_of(value: Any) -> Tensor | None:
    """The `dense_shape` of a sparse tensor; None for anything else."""
    if isinstance(value, (Tensor, IndexedSlices)):
        return None
    found = getattr(value, "dense_shape", None)
    return found if found is not None and hasattr(value, "indices") else None


@export("shape")
def shape(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Tensor:
    """The shape of `input` (a tensor or a sparse tensor): a vector of int32 or int64, a constant where it is known."""
    return shape_internal(input, name, True, out_type)


def shape_internal(
    input: Any, name: str | None = None, optimize: bool = True, out_type: Any = dtypes.int32
) -> Tensor:
    """As `shape`; without `optimize` always a node that looks at the value."""
    out_type = dtypes.as_dtype(out_type)
    with name_scope(name, "Shape", [input]) as scope:
        dense_shape = dense_shape_of(input)
        if dense_shape is not None:
            return raw.Cast(dense_shape, DstT=out_type)
        tensor = convert_to_tensor(input)
        if optimize and shapes.is_known(tensor._dims):
            return constant(list(tensor._dims), out_type, name=scope)  # type: ignore[arg-type]
        return raw.Shape(tensor, out_type=out_type, name=scope)


@export("shape_n")
def shape_n(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> list[Tensor]:
    """The shapes of the tensors in the list `input`: a vector of int32 or int64 for each."""
    return raw.ShapeN(input, out_type=out_type, name=name)


@export("size")
def size(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Tensor:
    """The number of elements of `input` (a tensor or a sparse tensor): a scalar, a constant where it is known."""
    return size_internal(input, name, True, out_type)


def size_internal(
    input: Any, name: str | None = None, optimize: bool = True, out_type: Any = dtypes.int32
) -> Tensor:
    """As `size`; without `optimize` always a node that looks at the value."""
    out_type = dtypes.as_dtype(out_type)
    with name_scope(name, "Size", [input]) as scope:
        dense_shape = dense_shape_of(input)
        if dense_shape is not None:
            return raw.Prod(raw.Cast(dense_shape, DstT=out_type), 0, name=scope)
        tensor = convert_to_tensor(input)
        if optimize:
            count = shapes.element_count(tensor._dims)
            if count is None and tensor._dims is not None and 0 in tensor._dims:
                count = 0
            if count is not None:
                return constant(count, out_type, name=scope)
        return raw.Size(tensor, out_type=out_type, name=scope)


@export("rank")
def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes of `input` (a tensor or a sparse tensor): an int32 scalar, a constant where it is known."""
    return rank_internal(input, name, True)


def rank_internal(input: Any, name: str | None = None, optimize: bool = True) -> Tensor:
    """As `rank`; without `optimize` always a node that looks at the value."""
    with name_scope(name, "Rank", [input]) as scope:
        dense_shape = dense_shape_of(input)
        if dense_shape is not None:
            return raw.Size(dense_shape, name=scope)
        tensor = convert_to_tensor(input)
        if optimize and tensor._dims is not None:
            return constant(len(tensor._dims), dtypes.int32, name=scope)
        return raw.Rank(tensor, name=scope)


@export("broadcast_static_shape")
def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The static shape to which two static shapes broadcast. Raises ValueError: they do not."""
    x, y = as_shape(shape_x), as_shape(shape_y)
    if x._dims is None or y._dims is None:
        return TensorShape(None)
    out: list[int | None] = []
    for i in range(1, max(len(x._dims), len(y._dims)) + 1):
        a = x._dims[-i] if i <= len(x._dims) else 1
        b = y._dims[-i] if i <= len(y._dims) else 1
        if a is None or b is None:
            # A known size above 1 decides.
            known = b if a is None else a
            out.append(known if known is not None and known > 1 else None)
        elif a == 1 or a == b:
            out.append(b)
        elif b == 1:
            out.append(a)
        else:
            raise ValueError(f"Incompatible shapes for broadcasting: {x} and {y}")
    return TensorShape.of(tuple(reversed(out)))


@export("broadcast_dynamic_shape")
def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape (a vector) to which two shapes (vectors of int32 or int64) broadcast."""
    return raw.BroadcastArgs(shape_x, shape_y)


# ---- the same elements in another shape


@export("reshape", "manip.reshape")
def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The elements of `tensor` in another shape; one size may be -1, "what is left".

    Raises ValueError (InvalidArgumentError when it runs): the numbers of elements differ.
    """
    return raw.Reshape(tensor, shape, name=name)


@export("expand_dims")
def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """`input` with an axis of size 1 put in before `axis` (-1: at the end). `dim` is the older name of `axis`."""
    axis = _either("axis", axis, "dim", dim)
    if axis is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    return raw.ExpandDims(input, axis, name=name)


def _either(new_name: str, new: Any, old_name: str, old: Any) -> Any:
    """The value of an argument that has an older name. Raises ValueError: both are given."""
    if old is None:
        return new
    if new is not None:
        raise ValueError(f"Cannot specify both '{old_name}' and '{new_name}'")
    return old


@export("squeeze")
def squeeze(
    input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None
) -> Tensor:
    """`input` without its axes of size 1: all of them, or those in `axis`. `squeeze_dims` is the older name of `axis`.

    Raises ValueError: an axis in `axis` is not of size 1; both names are given.
    """
    axis = _either("axis", axis, "squeeze_dims", squeeze_dims)
    if axis is None:
        axis = []
    elif np.isscalar(axis):
        axis = [axis]
    return raw.Squeeze(input, squeeze_dims=axis, name=name)


@export("transpose")
def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """`a` with its axes in the order `perm` (reversed where it is None), conjugated if asked for."""
    with name_scope(name, "transpose", [a]) as scope:
        tensor = convert_to_tensor(a, name="a") if not isinstance(a, Tensor) else a
        conjugate = conjugate and tensor.dtype.base_dtype.is_complex
        add_node = raw.ConjugateTranspose if conjugate else raw.Transpose
        if perm is None:
            if tensor._dims is not None:
                perm = np.arange(len(tensor._dims) - 1, -1, -1, dtype=np.int32)
            else:
                count = rank(tensor)
                perm = (count - 1) - raw.Range(0, count, 1)
        return add_node(tensor, perm, name=scope)


@export("matrix_transpose", "linalg.matrix_transpose", "linalg.transpose")
def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """`a` with its last two axes exchanged, conjugated if asked for. Raises ValueError: fewer than two axes."""
    with name_scope(name, values=[a]) as scope:
        a = convert_to_tensor(a, name="a")
        dims = a._dims
        if dims is None:
            count = rank(a)
            first = raw.Range(0, count - 2, 1)
            perm: Any = raw.ConcatV2([first, [count - 1, count - 2]], 0, name="concat")
        else:
            n = len(dims)
            if n < 2:
                raise ValueError(
                    f"Argument 'a' should be a (batch) matrix, with rank >= 2.  Found: {a.shape}"
                )
            perm = [*range(n - 2), n - 1, n - 2]
        del scope
        return transpose(a, perm=perm, conjugate=conjugate)


export_op(
    "InvertPermutation",
    "x",
    "invert_permutation",
    "math.invert_permutation",
    doc="The permutation that undoes the permutation `x` (a vector of each of 0 ... n-1 once).",
)
export_op(
    "BroadcastTo",
    "input, shape",
    "broadcast_to",
    doc="`input` repeated along axes of size 1 to have `shape`.",
)

# ---- filled tensors


@export("fill")
def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor of shape `dims` whose elements are all `value`, a scalar."""
    return raw.Fill(dims, value, name=name)


def _filled(value: Any, shape: Any, dtype: Any, name: str | None, default_name: str) -> Tensor:
    dtype = dtypes.as_dtype(dtype).base_dtype
    with name_scope(name, default_name, [shape]) as scope:
        element: Any = value
        if dtype is dtypes.bool:
            element = bool(value)
        elif dtype is dtypes.string:
            element = ""
        if not isinstance(shape, Tensor):
            sizes = _static_sizes(shape)
            if sizes is not None and all(s is not None and s >= 0 for s in sizes):
                if np.prod(sizes, dtype=np.int64) < _SMALL:
                    return constant(element, dtype, sizes, name=scope)
                shape = convert_to_tensor(TensorShape(sizes))
            else:
                shape = convert_to_tensor(shape, dtype=dtypes.int32)
        if shape._dims == ():
            shape = raw.Reshape(shape, [-1])
        return raw.Fill(shape, constant(element, dtype), name=scope)


def _static_sizes(shape: Any) -> list[int | None] | None:
    """The sizes of a shape given as plain numbers; None where it holds tensors."""
    if isinstance(shape, TensorShape):
        return None if shape._dims is None else list(shape._dims)
    if isinstance(shape, np.ndarray):
        items: Any = shape.reshape(-1)
    else:
        items = shape if isinstance(shape, (list, tuple)) else [shape]
    try:
        return [_number(item) for item in items]
    except TypeError:
        return None


def _number(value: Any) -> int:
    if isinstance(value, Tensor) or not hasattr(value, "__index__"):
        raise TypeError
    return value.__index__()


@export("zeros")
def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
    """A tensor of zeros (False, empty strings). shape: numbers, a TensorShape, or a vector of int32 or int64."""
    return _filled(0, shape, dtype, name, "zeros")


@export("ones")
def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
    """A tensor of ones (True). shape: numbers, a TensorShape, or a vector of int32 or int64."""
    dtype = dtypes.as_dtype(dtype).base_dtype
    if dtype is dtypes.string:
        raise TypeError("ones has no value for strings")
    return _filled(1, shape, dtype, name, "ones")


@export("zeros_like")
def zeros_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Zeros in the shape of `tensor`, of its type or of `dtype`; a constant where the shape is known."""
    with name_scope(name, "zeros_like", [tensor]) as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        kind = tensor.dtype.base_dtype if dtype is None else dtypes.as_dtype(dtype).base_dtype
        if (
            optimize
            and shapes.is_known(tensor._dims)
            and tensor.dtype.base_dtype is not dtypes.variant
        ):
            return zeros(tensor.shape, kind, name=scope)
        if kind is not tensor.dtype.base_dtype and kind is not dtypes.variant:
            return zeros(shape_internal(tensor, optimize=optimize), kind, name=scope)
        return raw.ZerosLike(tensor, name=scope)


@export("ones_like")
def ones_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Tensor:
    """Ones in the shape of `tensor`, of its type or of `dtype`; a constant where the shape is known."""
    with name_scope(name, "ones_like", [tensor]) as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        wanted = shape_internal(tensor, optimize=optimize)
        filled = ones(wanted, tensor.dtype if dtype is None else dtype, name=scope)
        filled.set_shape(tensor.shape)
        return filled


@export("get_static_value", "contrib.util.constant_value")
def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """The value of `tensor` as an array if it is known while the graph is built, else None.

    partial: a stack of partly known elements is an object array with None for what is not known. What is no tensor is
    returned as it is; of a variable nothing is known.
    """
    if not isinstance(tensor, Tensor):
        return None if hasattr(tensor, "_as_graph_element") else tensor
    value = constant_value(tensor, partial)
    if value is None and partial and tensor.op.type == "Pack" and tensor.op.attr("axis") == 0:
        parts = [constant_value(t, partial) for t in tensor.op.inputs]
        if any(part is not None for part in parts):
            value = np.empty(len(parts), object)
            value[:] = parts
    return value


export_op(
    "GuaranteeConst",
    "input",
    "guarantee_const",
    doc="`input`, promised to have the same value in every run.",
)
export_op(
    "EnsureShape",
    "x:input, shape",
    "ensure_shape",
    doc="`x`, of which `shape` is known from now on; a run in which it has another shape fails.",
)
