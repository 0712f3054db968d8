"""The same elements in another shape or order: Reshape, Squeeze, ExpandDims, Transpose, BroadcastTo."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.constant_value import partial_sizes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering import checks
from headrace.ops.broadcasting import reduce_to_shape_of


def is_static(x) -> bool:
    """Whether a value that a rule got is known while tracing."""
    return isinstance(x, (np.ndarray, np.generic))


def shape_of(x):
    """The shape of tensor `x` for a gradient: an array where it is known while the graph is built, else a node."""
    return np.array(x._dims, np.int32) if shapes.is_known(x._dims) else raw.Shape(x)


# ---- Reshape

reshape = define(
    "Reshape",
    "tensor: T, shape: Tshape -> output: T",
    "T: type, Tshape: {int32, int64} = int32",
    static_inputs=("shape",),
)


@reshape.shape
def _reshape_shape(op, x, shape) -> Dims:
    wanted = shapes.sizes_of(op, 1)
    if wanted is None or x is None:
        return wanted
    in_known = math.prod(d for d in x if d is not None)
    out_known = math.prod(d for d in wanted if d is not None)
    in_unknown, out_unknown = x.count(None), wanted.count(None)
    if in_unknown > 1 or out_unknown > 1:
        return wanted
    if not in_unknown and not out_unknown:
        if in_known != out_known:
            raise op.error(
                f"Cannot reshape a tensor with {in_known} elements to shape "
                f"[{','.join(map(str, wanted))}] ({out_known} elements)."
            )
        return wanted
    if not in_unknown and out_known:
        if in_known % out_known:
            raise op.error(
                f"Dimension size must be evenly divisible by {out_known} but is {in_known}: cannot reshape "
                f"{shapes.text(x)} to {shapes.text(wanted)}."
            )
        return tuple(in_known // out_known if d is None else d for d in wanted)
    if not out_unknown:
        if in_known and out_known % in_known:
            raise op.error(
                f"Dimension size must be evenly divisible by {in_known} but is {out_known}: cannot reshape "
                f"{shapes.text(x)} to {shapes.text(wanted)}."
            )
        return wanted
    return wanted


@reshape.host
@reshape.lower
def _reshape_lower(op, x, shape: np.ndarray):
    if shape.ndim != 1:
        raise op.invalid(f"sizes input must be 1-D, not {shapes.brackets(shape.shape)}")
    sizes = [int(s) for s in shape]
    count = math.prod(x.shape)
    unknown = [i for i, s in enumerate(sizes) if s == -1]
    for i, s in enumerate(sizes):
        if s < -1:
            raise op.invalid(f"Size {i} must be non-negative, not {s}")
    if len(unknown) > 1:
        raise op.invalid(f"Only one input size may be -1, not both {unknown[0]} and {unknown[1]}")
    if unknown:
        # An empty axis on both sides is left out of the account: [0, 6] to [0, -1, 3] gives [0, 2, 3].
        empty = 0 in sizes
        rest = math.prod(s for s in sizes if s not in (-1, 0))
        count = math.prod(d for d in x.shape if d or not empty)
        if empty and count and 0 not in x.shape:
            raise op.invalid(
                f"Input to reshape is a tensor with {count} values, but the requested shape has 0"
            )
        if count % rest:
            raise op.invalid(
                f"Input to reshape is a tensor with {count} values, but the requested shape requires a multiple "
                f"of {rest}"
            )
        sizes[unknown[0]] = count // rest
    elif math.prod(sizes) != count:
        raise op.invalid(
            f"Input to reshape is a tensor with {count} values, but the requested shape has {math.prod(sizes)}"
        )
    return x.reshape(tuple(sizes))


@reshape.partial
def _reshape_partial(op):
    dims = op._outputs[0]._dims
    if dims is None or len(dims) != 1:
        return None
    source = op._inputs[0]
    if source._dims is not None and len(source._dims) == 1:
        return partial_sizes(source)
    return [None] * dims[0] if dims[0] is not None else None


@reshape.gradient
def _reshape_gradient(op, dy):
    return raw.Reshape(dy, shape_of(op.inputs[0])), None


# ---- Squeeze

squeeze = define("Squeeze", "input: T -> output: T", "T: type, squeeze_dims: list(int) >= 0 = []")


@squeeze.shape
def _squeeze_shape(op, x) -> Dims:
    axes = op.attr("squeeze_dims")
    if x is None:
        return None
    if not axes:
        return None if None in x else tuple(d for d in x if d != 1)
    found = {shapes.axis_in_rank(op, a, len(x), "squeeze dim") for a in axes}
    for a in sorted(found):
        if x[a] not in (1, None):
            raise op.error(
                f"Can not squeeze dim[{a}], expected a dimension of 1, got {x[a]}: input is {shapes.text(x)}."
            )
    return tuple(d for i, d in enumerate(x) if i not in found)


@squeeze.host
@squeeze.lower
def _squeeze_lower(op, x):
    rank = len(x.shape)
    axes = op.attr("squeeze_dims")
    for a in axes:
        if not -rank <= a < rank:
            raise op.invalid(f"Tried to squeeze dim index {a} for tensor with {rank} dimensions.")
    found = {a % rank for a in axes}
    for a in sorted(found):
        if x.shape[a] != 1:
            raise op.invalid(
                f"Can not squeeze dim[{a}], expected a dimension of 1, got {x.shape[a]}"
            )
    return x.reshape(
        tuple(d for i, d in enumerate(x.shape) if (i not in found if axes else d != 1))
    )


@squeeze.gradient
def _squeeze_gradient(op, dy):
    return raw.Reshape(dy, shape_of(op.inputs[0]))


# ---- ExpandDims

expand_dims = define(
    "ExpandDims",
    "input: T, dim: Tdim -> output: T",
    "T: type, Tdim: {int32, int64} = int32",
    static_inputs=("dim",),
)


@expand_dims.shape
def _expand_dims_shape(op, x, dim) -> Dims:
    axis = op.static(1)
    if axis is not None and axis.size != 1:
        raise op.error("'dim' input must be a tensor with a single value.")
    if x is None or axis is None:
        return None
    at = int(axis.reshape(()))
    if not -len(x) - 1 <= at <= len(x):
        raise op.error(f"dim {at} not in the interval [{-len(x) - 1}, {len(x)}].")
    at = at + len(x) + 1 if at < 0 else at
    return (*x[:at], 1, *x[at:])


@expand_dims.host
@expand_dims.lower
def _expand_dims_lower(op, x, dim: np.ndarray):
    if dim.size != 1:
        raise op.invalid(f"'dim' must be a tensor with a single value, got shape {dim.shape}")
    rank, at = len(x.shape), int(dim.reshape(()))
    if not -rank - 1 <= at <= rank:
        raise op.invalid(f"Tried to expand dim index {at} for tensor with {rank} dimensions.")
    at = at + rank + 1 if at < 0 else at
    return x.reshape((*x.shape[:at], 1, *x.shape[at:]))


@expand_dims.partial
def _expand_dims_partial(op):
    """A scalar size becomes a vector of one."""
    from headrace.graph.constant_value import partial_size

    return [partial_size(op._inputs[0])] if op._inputs[0]._dims == () else None


@expand_dims.gradient
def _expand_dims_gradient(op, dy):
    return raw.Reshape(dy, shape_of(op.inputs[0])), None


# ---- Transpose, ConjugateTranspose


def _transpose_shape(op, x, perm) -> Dims:
    order = op.static(1)
    if order is None:
        rank = perm[0] if perm is not None and len(perm) == 1 else None
        rank = len(x) if x is not None else rank
        return None if rank is None else (None,) * rank
    if order.ndim != 1:
        raise op.error(
            f"Shape must be rank 1 but is rank {order.ndim}: perm has shape {order.shape}."
        )
    if x is None and len(order) < 2:
        return None
    x = shapes.with_rank(op, x, len(order), "x")
    for p in order:
        if not -len(x) <= p < len(x):
            raise op.error(f"perm dim {p} is out of range of input rank {len(x)}")
    return tuple(x[int(p)] for p in order)


def _permutation(op, x, perm: np.ndarray) -> tuple[int, ...]:
    rank = len(x.shape)
    if perm.ndim != 1 or len(perm) != rank:
        raise op.invalid(
            f"transpose expects a vector of size {rank}. But input(1) is a vector of size {perm.size}"
        )
    order = [int(p) + rank if p < 0 else int(p) for p in perm]
    for p in order:
        if not 0 <= p < rank:
            raise op.invalid(f"{p} is out of range [0 .. {rank})")
    for i in range(rank):
        if i not in order:
            raise op.invalid(f"{i} is missing from {{{','.join(map(str, order))}}}.")
    return tuple(order)


transpose = define(
    "Transpose",
    "x: T, perm: Tperm -> y: T",
    "T: type, Tperm: {int32, int64} = int32",
    static_inputs=("perm",),
)
transpose.shape(_transpose_shape)


@transpose.host
@transpose.lower
def _transpose_lower(op, x, perm: np.ndarray):
    return x.transpose(_permutation(op, x, perm))


def _inverse(op):
    """The permutation that undoes that of `op`: an array where it is known while the graph is built."""
    perm = op.static(1)
    if perm is None:
        return raw.InvertPermutation(op.inputs[1])
    return np.argsort(np.where(perm < 0, perm + len(perm), perm)).astype(perm.dtype)


@transpose.gradient
def _transpose_gradient(op, dy):
    return raw.Transpose(dy, _inverse(op)), None


conjugate_transpose = define(
    "ConjugateTranspose",
    "x: T, perm: Tperm -> y: T",
    "T: type, Tperm: {int32, int64} = int32",
    static_inputs=("perm",),
)
conjugate_transpose.shape(_transpose_shape)


@conjugate_transpose.lower
def _conjugate_transpose_lower(op, x, perm: np.ndarray):
    return jnp.conj(x).transpose(_permutation(op, x, perm))


@conjugate_transpose.host
def _conjugate_transpose_host(op, x, perm):
    y = np.conj(x) if np.iscomplexobj(x) else x
    return y.transpose(_permutation(op, x, perm))


@conjugate_transpose.gradient
def _conjugate_transpose_gradient(op, dy):
    return raw.ConjugateTranspose(dy, _inverse(op)), None


# ---- InvertPermutation

invert_permutation = define(
    "InvertPermutation", "x: T -> y: T", "T: {int32, int64} = int32", effects=Effect.FALLIBLE
)


@invert_permutation.shape
def _invert_permutation_shape(op, x) -> Dims:
    return shapes.with_rank(op, x, 1, "x")


@invert_permutation.host
def _invert_permutation_host(op, x):
    y = np.full(x.shape, -1, x.dtype)
    for i, p in enumerate(x):
        if not 0 <= p < len(x):
            raise op.invalid(f"{p} is not between 0 and {len(x)}")
        if y[p] != -1:
            raise op.invalid(f"{p} is duplicated in the input.")
        y[p] = i
    return y


@invert_permutation.lower
def _invert_permutation_lower(op, x):
    if is_static(x):
        return _invert_permutation_host(op, x)
    n = x.shape[0]
    ordered = jnp.sort(x)
    bad = ordered != jnp.arange(n, dtype=x.dtype)
    outside = (x < 0) | (x >= n)
    at = jnp.argmax(outside) if n else 0
    if n:
        checks.fail_if(op, jnp.any(outside), f"{{}} is not between 0 and {n}", x[at])
        checks.fail_if(op, jnp.any(bad), "{} is duplicated in the input.", ordered[jnp.argmax(bad)])
    return jnp.argsort(x).astype(x.dtype)


invert_permutation.not_differentiable()

# ---- BroadcastTo

broadcast_to = define(
    "BroadcastTo",
    "input: T, shape: Tidx -> output: T",
    "T: type, Tidx: {int32, int64} = int32",
    static_inputs=("shape",),
)


@broadcast_to.shape
def _broadcast_to_shape(op, x, shape) -> Dims:
    wanted = shapes.sizes_of(op, 1)
    if wanted is not None and x is not None:
        if len(x) > len(wanted):
            raise op.error(
                f"Shape {shapes.text(x)} cannot be broadcast to {shapes.text(wanted)}, whose rank is lower."
            )
        for have, want in zip(reversed(x), reversed(wanted), strict=False):
            if have not in (1, None) and want is not None and have != want:
                raise op.error(
                    f"Dimensions must be equal, but are {have} and {want}: {shapes.text(x)} cannot be broadcast to "
                    f"{shapes.text(wanted)}."
                )
    return wanted


@broadcast_to.host
@broadcast_to.lower
def _broadcast_to_lower(op, x, shape: np.ndarray):
    sizes = tuple(int(s) for s in np.atleast_1d(shape))
    fits = len(x.shape) <= len(sizes) and all(
        have in (1, want) for have, want in zip(reversed(x.shape), reversed(sizes), strict=False)
    )
    if not fits or any(s < 0 for s in sizes):
        raise op.invalid(f"Incompatible shapes: {shapes.brackets(x.shape)} vs. {list(sizes)}")
    return (np if is_static(x) else jnp).broadcast_to(x, sizes)


@broadcast_to.gradient
def _broadcast_to_gradient(op, dy):
    return reduce_to_shape_of(op.inputs[0], dy), None


# ---- Fill

fill = define(
    "Fill",
    "dims: index_type, value: T -> output: T",
    "T: type, index_type: {int32, int64} = int32",
    static_inputs=("dims",),
)


@fill.shape
def _fill_shape(op, dims, value) -> Dims:
    shapes.with_rank(op, value, 0, "value")
    sizes = op.static(0)
    if sizes is not None and sizes.ndim == 1:
        for i, s in enumerate(sizes):
            if s < 0:
                raise op.error(f"Fill dimensions must be >= 0, got dims[{i}] = {s}")
    return shapes.sizes_of(op, 0)


def _fill_sizes(op, dims: np.ndarray, value) -> tuple[int, ...]:
    if dims.ndim != 1:
        raise op.invalid(f"dims must be a vector, got shape {shapes.brackets(dims.shape)}")
    if len(value.shape):
        raise op.invalid(f"value must be a scalar, got shape {shapes.brackets(value.shape)}")
    for i, s in enumerate(dims):
        if s < 0:
            raise op.invalid(f"dims[{i}] = {s} must be nonnegative.")
    return tuple(int(s) for s in dims)


@fill.lower
def _fill_lower(op, dims: np.ndarray, value):
    return lax.broadcast(value, _fill_sizes(op, dims, value))


@fill.host
def _fill_host(op, dims, value):
    return np.full(_fill_sizes(op, dims, value), value, value.dtype)


@fill.gradient
def _fill_gradient(op, dy):
    rank = dy._dims
    axes = (
        np.arange(len(rank), dtype=np.int32) if rank is not None else raw.Range(0, raw.Rank(dy), 1)
    )
    return None, raw.Sum(dy, axes)


# ---- ZerosLike, OnesLike

zeros_like = define("ZerosLike", "x: T -> y: T", "T: type")
zeros_like.shape(shapes.unchanged)


@zeros_like.lower
def _zeros_like_lower(op, x):
    if hasattr(x, "zeros_like"):  # a TensorList
        return x.zeros_like()
    return lax.full(x.shape, 0, x.dtype)


@zeros_like.host
def _zeros_like_host(op, x):
    if hasattr(x, "zeros_like"):
        return x.zeros_like()
    return np.full(x.shape, b"", object) if x.dtype == object else np.zeros(x.shape, x.dtype)


zeros_like.not_differentiable()

ones_like = define(
    "OnesLike",
    "x: T -> y: T",
    "T: {bfloat16, half, float, double, int8, uint8, int16, uint16, int32, int64, complex64, complex128, bool}",
)
ones_like.shape(shapes.unchanged)


@ones_like.lower
def _ones_like_lower(op, x):
    return lax.full(x.shape, 1, x.dtype)


@ones_like.host
def _ones_like_host(op, x):
    return np.ones(x.shape, x.dtype)


ones_like.not_differentiable()
