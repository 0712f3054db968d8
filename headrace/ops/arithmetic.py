"""Elementwise arithmetic of two tensors, with NumPy's broadcasting."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define

# ---- gradients of broadcasting


def reduce_to_shape_of(x, grad):
    """Sums `grad` over the axes along which `x` was broadcast, so that it has the shape of `x`.

    Nothing is added where the static shapes show that nothing was broadcast.
    """
    return reduce_pair(x, None, grad, None)[0]


def reduce_pair(x, y, dx, dy):
    """As `reduce_to_shape_of` for both inputs of an op: (dx, dy), each summed to the shape of its input."""
    other = y if y is not None else dx
    if shapes.is_known(x._dims) and x._dims == other._dims:
        return dx, dy
    if shapes.is_known(x._dims) and shapes.is_known(other._dims):
        rx, ry = _broadcast_axes(x._dims, other._dims)
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
    if isinstance(axes, list) and not axes:
        return grad
    shape = list(x._dims) if shapes.is_known(x._dims) else raw.Shape(x)
    total = raw.Sum(grad, np.array(axes, np.int32) if isinstance(axes, list) else axes)
    return raw.Reshape(total, np.array(shape, np.int32) if isinstance(shape, list) else shape)


def _binary(name: str, types: str, lower, host) -> OpDef:
    """An elementwise op of two inputs `x` and `y` of one type that broadcast."""
    definition = define(name, "x: T, y: T -> z: T", f"T: {{{types}}}")
    definition.shape(shapes.broadcast)
    definition.lower(lambda op, x, y: lower(x, y))
    definition.host(lambda op, x, y: host(x, y))
    return definition


# ---- Add, AddV2, Sub, Mul

_ADD = "bfloat16, half, float, double, uint8, int8, int16, int32, int64, complex64, complex128"

add = _binary("Add", f"{_ADD}, string", jnp.add, np.add)
add_v2 = _binary("AddV2", _ADD, jnp.add, np.add)


@add_v2.gradient
@add.gradient
def _add_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, dz)


sub = _binary(
    "Sub",
    "bfloat16, half, float, double, uint8, int8, uint16, int16, int32, int64, complex64, complex128",
    jnp.subtract,
    np.subtract,
)


@sub.gradient
def _sub_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, raw.Neg(dz))


mul = _binary(
    "Mul",
    "bfloat16, half, float, double, uint8, int8, uint16, int16, int32, int64, complex64, complex128",
    jnp.multiply,
    np.multiply,
)


def conj(x):
    """The complex conjugate; `x` itself where it is real."""
    return raw.Conj(x) if x.dtype.is_complex else x


@mul.gradient
def _mul_gradient(op, dz):
    x, y = op.inputs
    return reduce_pair(x, y, raw.Mul(dz, conj(y)), raw.Mul(conj(x), dz))
