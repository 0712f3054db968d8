"""Broadcasting: how ops of two inputs are made, gradients along repeated axes, the ops about shapes that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import Effect, OpDef, define
from headrace.ops import special

# ---- how a binary op is made


def broadcast_values(*values: Any) -> tuple[Any, ...]:
    """The values repeated to one shape; nothing is added to the program where they have it."""
    shape = values[0].shape
    if all(v.shape == shape for v in values):
        return values
    shape = np.broadcast_shapes(*(v.shape for v in values))
    return tuple(v if v.shape == shape else _broadcast_to(v, shape) for v in values)


def _broadcast_to(value: Any, shape: tuple[int, ...]) -> Any:
    offset = len(shape) - value.ndim
    keep = [i for i in range(value.ndim) if value.shape[i] == shape[i + offset]]
    if len(keep) < value.ndim:
        value = lax.reshape(value, [value.shape[i] for i in keep])
    return lax.broadcast_in_dim(value, shape, [i + offset for i in keep])


def _check_shapes(op: Any, x: Any, y: Any) -> None:
    for a, b in zip(reversed(x.shape), reversed(y.shape)):
        if a != b and a != 1 and b != 1:
            raise op.invalid(f"Incompatible shapes: [{_sizes(x)}] vs. [{_sizes(y)}]")


def _sizes(x: Any) -> str:
    return ",".join(map(str, x.shape))


def binary(
    name: str,
    types: str,
    lower: Callable[[Any, Any], Any],
    host: Callable[[Any, Any], Any] | None,
    arguments: str = "x: T, y: T -> z: T",
    check: Callable[..., None] | None = None,
    via_float: bool = False,
) -> OpDef:
    """An elementwise op of two inputs of one type that broadcast.

    check(op, x, y): fails for values of integers that have no result. via_float: see `_unary` of `elementwise`.
    """
    effects = Effect.INTEGER_FALLIBLE if check else Effect.NONE
    definition = define(name, arguments, f"T: {{{types}}}", effects=effects)
    definition.shape(shapes.broadcast)

    @definition.lower
    def rule(op, x, y):
        _check_shapes(op, x, y)
        if check is not None and np.issubdtype(x.dtype, np.integer):
            check(op, x, y)
        return lower(*broadcast_values(x, y))

    if host is not None:

        @definition.host
        def host_rule(op, x, y):
            _check_shapes(op, x, y)
            if check is not None and np.issubdtype(x.dtype, np.integer):
                check(op, x, y)
            return special.in_own_type(host, x, y) if via_float else np.asarray(host(x, y))

    return definition


# ---- gradients of broadcasting


def reduce_to_shape_of(x, grad):
    """Sums `grad` over the axes along which `x` was broadcast, so that it has the shape of `x`.

    Nothing is added where the static shapes show that nothing was broadcast.
    """
    if isinstance(grad, IndexedSlices):
        grad = convert_to_tensor(grad)
    if shapes.is_known(x._dims) and x._dims == grad._dims:
        return grad
    return reduce_pair(x, None, grad, None)[0]


def reduce_pair(x, y, dx, dy):
    """As `reduce_to_shape_of` for both inputs of an op: (dx, dy), each summed to the shape of its input."""
    dx, dy = (convert_to_tensor(d) if isinstance(d, IndexedSlices) else d for d in (dx, dy))
    other = y if y is not None else dx
    grads = [d._dims for d in (dx, dy) if d is not None]
    if shapes.is_known(x._dims) and x._dims == other._dims and all(d == x._dims for d in grads):
        return dx, dy
    if shapes.is_known(x._dims) and shapes.is_known(other._dims):
        rx, ry = _broadcast_axes(x._dims, other._dims)
        rx = [] if x._dims == other._dims or (dx is not None and dx._dims == x._dims) else rx
        ry = [] if x._dims == other._dims or (dy is not None and dy._dims == other._dims) else ry
    else:
        rx, ry = raw.BroadcastGradientArgs(raw.Shape(x), raw.Shape(other))
    if dx is not None:
        dx = _sum_to(x, dx, rx)
    if dy is not None:
        dy = _sum_to(y, dy, ry)
    return dx, dy


def _broadcast_axes(a, b):
    """The axes of the broadcast shape along which `a`, and those along which `b`, was repeated."""
    rank = max(len(a), len(b))
    a = (1,) * (rank - len(a)) + tuple(a)
    b = (1,) * (rank - len(b)) + tuple(b)
    over_a = [i for i in range(rank) if a[i] == 1 and (b[i] != 1 or a[i] == b[i])]
    over_b = [i for i in range(rank) if b[i] == 1 and (a[i] != 1 or a[i] == b[i])]
    return over_a, over_b


def _sum_to(x, grad, axes):
    shape = list(x._dims) if shapes.is_known(x._dims) else raw.Shape(x)
    if isinstance(axes, list) and not axes:
        if _may_be_equal(grad._dims, x._dims):
            return grad
        total = grad
    else:
        total = raw.Sum(grad, np.array(axes, np.int32) if isinstance(axes, list) else axes)
    return raw.Reshape(total, np.array(shape, np.int32) if isinstance(shape, list) else shape)


def _may_be_equal(a, b):
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b))


# ---- BroadcastGradientArgs, BroadcastArgs: about the shapes themselves

broadcast_gradient_args = define(
    "BroadcastGradientArgs",
    "s0: T, s1: T -> r0: T, r1: T",
    "T: {int32, int64} = int32",
    static_inputs=("s0", "s1"),
    dynamic_shape=True,
)


@broadcast_gradient_args.shape
def _broadcast_gradient_args_shape(op, s0, s1):
    shapes.with_rank(op, s0, 1, "s0"), shapes.with_rank(op, s1, 1, "s1")
    return [(None,), (None,)]


@broadcast_gradient_args.lower
@broadcast_gradient_args.host
def _broadcast_gradient_args_host(op, s0: np.ndarray, s1: np.ndarray):
    _broadcast_sizes(op, s0, s1)
    kind = op.output_dtype(0).np_dtype
    over_a, over_b = _broadcast_axes(tuple(s0.tolist()), tuple(s1.tolist()))
    return np.array(over_a, kind), np.array(over_b, kind)


broadcast_gradient_args.not_differentiable()

broadcast_args = define(
    "BroadcastArgs",
    "s0: T, s1: T -> r0: T",
    "T: {int32, int64} = int32",
    static_inputs=("s0", "s1"),
)


@broadcast_args.shape
def _broadcast_args_shape(op, s0, s1):
    s0, s1 = shapes.with_rank(op, s0, 1, "s0"), shapes.with_rank(op, s1, 1, "s1")
    return (None,) if None in (s0[0], s1[0]) else (max(s0[0], s1[0]),)


@broadcast_args.lower
@broadcast_args.host
def _broadcast_args_host(op, s0: np.ndarray, s1: np.ndarray):
    return np.array(_broadcast_sizes(op, s0, s1), op.output_dtype(0).np_dtype)


broadcast_args.not_differentiable()


def _broadcast_sizes(op, s0, s1):
    a, b = s0.tolist(), s1.tolist()
    rank = max(len(a), len(b))
    a, b = [1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b
    if any(x != y and x != 1 and y != 1 for x, y in zip(a, b, strict=True)):
        raise op.invalid(f"Incompatible shapes: {s0.tolist()} vs. {s1.tolist()}")
    return [y if x == 1 else x for x, y in zip(a, b, strict=True)]
