"""Matrix products: `tf.matmul`, `tf.tensordot`, `tf.einsum`, `tf.trace`."""

from __future__ import annotations

import numbers
import re
import string
from typing import Any

import numpy as np

from headrace.api.array_ops import rank, reshape, shape, transpose
from headrace.api.diag_ops import matrix_diag_part
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.gather_ops import gather
from headrace.api.join_ops import concat, stack
from headrace.api.math_ops import cast, conj
from headrace.api.reduction import range as range_
from headrace.api.reduction import reduce_prod, reduce_sum
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

# ---- matmul, matvec


@export("matmul", "linalg.matmul")
def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices; of stacks of matrices (rank above 2) that of each pair, the outer axes broadcast.

    a: [..., m, k]. b: [..., k, n], of the same numeric type. transpose, adjoint: of the last two axes, before.
    a_is_sparse, b_is_sparse: many zeros are to be expected (float32 and bfloat16 matrices).
    Raises ValueError: sizes that do not fit, or both transpose and adjoint of one input.
    """
    if transpose_a and adjoint_a:
        raise ValueError("Only one of transpose_a and adjoint_a can be True.")
    if transpose_b and adjoint_b:
        raise ValueError("Only one of transpose_b and adjoint_b can be True.")
    if (
        a.__class__ is Tensor
        and b.__class__ is Tensor
        and not (adjoint_a or adjoint_b or a_is_sparse or b_is_sparse)
    ):
        dims_a, dims_b = a._dims, b._dims
        if (
            dims_a is not None
            and dims_b is not None
            and len(dims_a) == len(dims_b) == 2
            and a._dtype is b._dtype
        ):
            return raw.MatMul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, name=name)
    with name_scope(name, "MatMul", [a, b]) as scope:
        a, b = convert_to_tensor(a, name="a"), convert_to_tensor(b, name="b")
        stacked = any(t._dims is None or len(t._dims) > 2 for t in (a, b))
        if stacked and not a_is_sparse and not b_is_sparse:
            # The op knows adjoints only: a transpose is the adjoint of the conjugate.
            a, b = conj(a) if transpose_a else a, conj(b) if transpose_b else b
            return raw.BatchMatMulV2(
                a, b, adj_x=adjoint_a or transpose_a, adj_y=adjoint_b or transpose_b, name=scope
            )
        a, b = conj(a) if adjoint_a else a, conj(b) if adjoint_b else b
        transposes = {
            "transpose_a": transpose_a or adjoint_a,
            "transpose_b": transpose_b or adjoint_b,
        }
        kinds = (a._dtype.base_dtype, b._dtype.base_dtype)
        sparse_kinds = (dtypes.bfloat16, dtypes.float32)
        mixed = kinds[0] is not kinds[1] and dtypes.bfloat16 in kinds
        if mixed or (
            (a_is_sparse or b_is_sparse) and kinds[0] in sparse_kinds and kinds[1] in sparse_kinds
        ):
            out = raw.SparseMatMul(
                a, b, a_is_sparse=a_is_sparse, b_is_sparse=b_is_sparse, **transposes, name=scope
            )
            return (
                cast(out, dtypes.bfloat16) if kinds == (dtypes.bfloat16, dtypes.bfloat16) else out
            )
        return raw.MatMul(a, b, **transposes, name=scope)


@export("linalg.matvec")
def matvec(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    adjoint_a: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices a [..., m, k] and vectors b [..., k]: [..., m]. Arguments as of `matmul`."""
    with name_scope(name, "MatVec", [a, b]):
        b = convert_to_tensor(b, name="b")
        column = raw.ExpandDims(b, np.int32(-1))
        out = matmul(
            a,
            column,
            transpose_a=transpose_a,
            adjoint_a=adjoint_a,
            a_is_sparse=a_is_sparse,
            b_is_sparse=b_is_sparse,
        )
        return raw.Squeeze(out, squeeze_dims=[-1])


export_op(
    "SparseMatMul",
    "a, b, transpose_a=False, transpose_b=False, a_is_sparse=False, b_is_sparse=False",
    "sparse_matmul",
    doc="The float32 product of two matrices, float32 or bfloat16, with many zeros.",
)


@export("trace", "linalg.trace")
def trace(x: Any, name: str | None = None) -> Tensor:
    """The sum of the diagonal of each matrix. x: [..., m, n]; returns [...]."""
    with name_scope(name, "Trace", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return reduce_sum(matrix_diag_part(x), [-1], name=scope)


# ---- tensordot


def _contracted_axes(a: Tensor, axes: Any) -> tuple[Any, Any]:
    """The axes of a and of b to contract: two lists, or two tensors."""
    if isinstance(axes, numbers.Integral):
        if axes < 0:
            raise ValueError("'axes' must be at least 0.")
        if a._dims is not None:
            known = len(a._dims)
            if axes > known:
                raise ValueError(
                    f"'axes' must not be larger than the number of dimensions of tensor {a}."
                )
            return list(range(known - axes, known)), list(range(axes))
        count = rank(a)
        return range_(count - int(axes), count, dtype=dtypes.int32), range_(
            int(axes), dtype=dtypes.int32
        )
    if isinstance(axes, (list, tuple)):
        if len(axes) != 2:
            raise ValueError("'axes' must be an integer or have length 2.")
        a_axes, b_axes = axes
        if isinstance(a_axes, numbers.Integral) and isinstance(b_axes, numbers.Integral):
            a_axes, b_axes = [a_axes], [b_axes]
        if (
            not isinstance(a_axes, Tensor)
            and not isinstance(b_axes, Tensor)
            and len(a_axes) != len(b_axes)
        ):
            raise ValueError(
                f"Different number of contraction axes 'a' and 'b', {len(a_axes)} != {len(b_axes)}."
            )
        return a_axes, b_axes
    axes = convert_to_tensor(axes, dtypes.int32, name="axes")
    return axes[0], axes[1]


def _as_matrix(
    x: Tensor, axes: Any, contracted_first: bool
) -> tuple[Tensor, Any, list[int | None] | None]:
    """x as a matrix of contracted and free axes; the sizes of the free ones: a list or a tensor, and what is known."""
    dims, known = x._dims, None
    if dims is not None and isinstance(axes, (list, tuple)):
        count = len(dims)
        for i in axes:
            if not -count <= i < count:
                raise IndexError(f"axis {i} is out of range for {x} of rank {count}")
        axes = [int(i) % count for i in axes]
        free = [i for i in range(count) if i not in axes]
        known = [dims[i] for i in free]
        if None not in dims:
            order = axes + free if contracted_first else free + axes
            sizes = [int(np.prod([dims[i] for i in part], dtype=np.int64)) for part in (free, axes)]
            matrix_shape = sizes[::-1] if contracted_first else sizes
            return reshape(transpose(x, order), matrix_shape), known, known
        axes = convert_to_tensor(axes, dtypes.int32, name="axes")
        free = convert_to_tensor(free, dtypes.int32, name="free")
        shape_of_x = shape(x)
    else:
        shape_of_x, count = shape(x), rank(x)
        axes = convert_to_tensor(axes, dtypes.int32, name="axes")
        axes = raw.Select(axes >= 0, axes, axes + count)
        free = raw.ListDiff(range_(count), axes)[0]
    free_sizes, axes_sizes = gather(shape_of_x, free), gather(shape_of_x, axes)
    products = [reduce_prod(free_sizes), reduce_prod(axes_sizes)]
    order = concat([axes, free] if contracted_first else [free, axes], 0)
    matrix_shape = stack(products[::-1] if contracted_first else products)
    return reshape(transpose(x, order), matrix_shape), free_sizes, known


@export("tensordot", "linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """The sum of products of a and b over pairs of axes; the free axes of a come first, then those of b.

    axes: a number n (the last n of a and the first n of b), or two lists (or a tensor of two rows) of axes.
    Raises ValueError: lists of different lengths, a number that is negative or above the rank of a.
    """
    with name_scope(name, "Tensordot", [a, b]) as scope:
        a, b = convert_to_tensor(a, name="a"), convert_to_tensor(b, name="b")
        a_axes, b_axes = _contracted_axes(a, axes)
        a_matrix, a_free, a_known = _as_matrix(a, a_axes, contracted_first=False)
        b_matrix, b_free, b_known = _as_matrix(b, b_axes, contracted_first=True)
        product = matmul(a_matrix, b_matrix)
        if isinstance(a_free, list) and isinstance(b_free, list):
            return reshape(product, a_free + b_free, name=scope)
        sizes = [convert_to_tensor(s, dtypes.int32) for s in (a_free, b_free)]
        out = reshape(product, concat(sizes, 0), name=scope)
        if a_known is not None and b_known is not None:
            out.set_shape(a_known + b_known)
        return out


# ---- einsum

_EQUATION = re.compile(r"^([a-zA-Z,.]+)(->[a-zA-Z.]*)?$")


def _resolve(equation: str, inputs: list[Tensor]) -> tuple[list[str], str]:
    """The letters of the axes of each input and of the output, `...` replaced, a missing output completed."""
    match = _EQUATION.match(equation)
    if not match:
        raise ValueError(f"Indices have incorrect format: {equation}")
    terms = match[1].split(",")
    output = match[2][2:] if match[2] else None
    if len(terms) != len(inputs):
        raise ValueError(
            f'Got {len(inputs)} arguments for equation "{equation}", expecting {len(terms)}'
        )
    unused = "".join(c for c in string.ascii_letters if c not in match[1])
    longest = ""
    for i, (term, x) in enumerate(zip(terms, inputs, strict=True)):
        if "..." not in term:
            continue
        if len(term.split("...")) != 2:
            raise ValueError("Unable to resolve ellipsis. Excess number found.")
        if x._dims is None:
            raise ValueError("Unable to statically infer ellipsis axes.")
        count = len(x._dims) - len(term.replace("...", ""))
        if count < 0:
            raise ValueError("Ellipses lengths do not match.")
        if count > len(unused):
            raise ValueError("Unable to resolve ellipsis, too many distinct labels.")
        letters = unused[len(unused) - count :]
        terms[i] = term.replace("...", letters)
        longest = max(longest, letters, key=len)
    if output is not None:
        output = output.replace("...", longest)
    if any("." in term for term in (*terms, output or "")):
        raise ValueError('period "." found outside of ellipsis')
    if output is None:
        joined = "".join(terms)
        output = longest + "".join(
            sorted(c for c in set(joined) - set(longest) if joined.count(c) == 1)
        )
    return terms, output


@export("einsum", "linalg.einsum")
def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Tensor:
    """The sum of products that `equation` describes, such as "ij,jk->ik": one letter for each axis of each input.

    Letters that the output lacks are summed over; without "->" the output has, sorted, those that occur once. "..."
    stands for any axes, which broadcast. name: as a keyword.
    Raises ValueError: an equation that does not parse or does not fit the inputs; a letter twice in one input (but for
    a trace, "ii").
    """
    name = kwargs.pop("name", None)
    if kwargs:
        raise TypeError(f"invalid keyword arguments for this function: {', '.join(sorted(kwargs))}")
    with name_scope(name, "einsum", [equation, inputs]) as scope:
        equation = equation.replace(" ", "")
        tensors = [convert_to_tensor(x, name=f"inputs_{i}") for i, x in enumerate(inputs)]
        terms, output = _resolve(equation, tensors)
        for term, x in zip(terms, tensors, strict=True):
            if len(set(term)) < len(term):
                if (
                    len(terms) == 1
                    and term == term[::-1]
                    and "->" not in equation
                    and max(map(term.count, term)) == 2
                ):
                    return trace(tensors[0])
                raise ValueError(f"Subscript not supported: an axis appears more than once: {term}")
            if x._dims is not None and len(x._dims) != len(term):
                raise ValueError(
                    f"Tensor {x.name} of rank {len(x._dims)} does not match einsum reduction of length {len(term)}"
                )
        if set(output) - set("".join(terms)) or len(set(output)) < len(output):
            raise ValueError(f"Invalid equation: {equation}")
        for term, x in zip(terms, tensors, strict=True):
            if x._dims is None:
                x.set_shape([None] * len(term))
        return raw.Einsum(tensors, equation=f"{','.join(terms)}->{output}", name=scope)
