"""Elementwise arithmetic of two tensors, with NumPy's broadcasting."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.lowering import checks
from headrace.ops.broadcasting import binary, reduce_pair
from headrace.ops.elementwise import conj, scalar_like, zeros_like

# ---- Add, AddV2, Sub, Mul

_FLOAT = "bfloat16, half, float, double"
_COMPLEX = "complex64, complex128"
_SIGNED = f"{_FLOAT}, int32, int64, {_COMPLEX}"
_ADD = f"{_FLOAT}, uint8, int8, int16, int32, int64, {_COMPLEX}"
_ARITHMETIC = f"{_FLOAT}, uint8, int8, uint16, int16, int32, int64, {_COMPLEX}"

add = binary(
    "Add",
    "bfloat16, half, float, double, uint8, int8, int16, int32, int64, complex64, complex128, string",
    lax.add,
    np.add,
)
add_v2 = binary("AddV2", _ADD, lax.add, np.add)


@add_v2.extend(0, 1)
@add.extend(0, 1)
def _add_extend(op, unfinished, term):
    return unfinished.plus(term)


@add_v2.gradient
@add.gradient
def _add_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, dz)


sub = binary("Sub", _ARITHMETIC, lax.sub, np.subtract)


@sub.gradient
def _sub_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, raw.Neg(dz))


mul = binary("Mul", _ARITHMETIC, lax.mul, np.multiply)


@mul.extend(0, 1)
def _mul_extend(op, unfinished, factor):
    return unfinished.times(factor)


@mul.gradient
def _mul_gradient(op, dz):
    x, y = op.inputs
    return reduce_pair(x, y, raw.Mul(dz, conj(y)), raw.Mul(conj(x), dz))


def _no_zero(op, x, y):
    if not x.size:  # nothing is divided
        return
    zero = (y == 0).any()
    checks.fail_if(op, zero, "Integer division by zero")


# ---- Division. Integers: Div, RealDiv and TruncateDiv round towards zero, FloorDiv downwards; all refuse a zero.


def _divide_host(x, y):
    if x.dtype.kind in "iu":
        quotient = np.floor_divide(x, y)
        inexact = np.not_equal(np.multiply(quotient, y, dtype=x.dtype), x)
        return (quotient + (inexact & ((x < 0) != (y < 0)))).astype(x.dtype)
    return x / y


def _floor_divide(x, y):
    if not jnp.issubdtype(x.dtype, np.integer):
        return lax.floor(lax.div(x, y))
    quotient = lax.div(x, y)
    below = (quotient * y != x) & ((x < 0) != (y < 0))
    return quotient - below.astype(x.dtype)


def _floor_divide_host(x, y):
    return np.floor_divide(x, y) if x.dtype.kind in "iu" else np.floor(x / y)


div = binary("Div", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)
real_div = binary("RealDiv", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)


def _division_gradient(divide):
    """dx = dz / y, dy = -x / y / y * dz, with the division of the op itself."""

    def gradient(op, dz):
        x, y = op.inputs
        x_, y_ = conj(x), conj(y)
        dy = raw.Mul(dz, divide(divide(raw.Neg(x_), y_), y_))
        return reduce_pair(x, y, divide(dz, y_), dy)

    return gradient


div.gradient(_division_gradient(lambda x, y: raw.RealDiv(x, y)))
real_div.gradient(_division_gradient(lambda x, y: raw.RealDiv(x, y)))

floor_div = binary("FloorDiv", _ARITHMETIC, _floor_divide, _floor_divide_host, check=_no_zero)
floor_div.gradient(lambda op, dz: (None, None))
truncate_div = binary("TruncateDiv", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)
truncate_div.gradient(lambda op, dz: (None, None))


def _where_nonzero(condition, value):
    return jnp.where(condition, value, jnp.zeros((), value.dtype))


def _where_nonzero_host(condition, value):
    return np.where(condition, value, np.zeros((), value.dtype))


_NO_NAN = f"half, float, double, {_COMPLEX}"

div_no_nan = binary(
    "DivNoNan",
    _NO_NAN,
    lambda x, y: _where_nonzero(y != 0, lax.div(x, y)),
    lambda x, y: _where_nonzero_host(y != 0, x / y),
)
div_no_nan.gradient(_division_gradient(lambda x, y: raw.DivNoNan(x, y)))

mul_no_nan = binary(
    "MulNoNan",
    _NO_NAN,
    lambda x, y: _where_nonzero(y != 0, lax.mul(x, y)),
    lambda x, y: _where_nonzero_host(y != 0, x * y),
)


@mul_no_nan.gradient
def _mul_no_nan_gradient(op, dz):
    x, y = op.inputs
    return reduce_pair(x, y, raw.MulNoNan(dz, y), raw.MulNoNan(x, dz))


# ---- Remainders: Mod and TruncateMod have the sign of x, FloorMod that of y


def _floor_mod(x, y):
    remainder = lax.rem(x, y)
    return jnp.where((x < 0) == (y < 0), remainder, lax.rem(remainder + y, y))


def _floor_mod_host(x, y):
    remainder = np.fmod(x, y)
    return np.where((x < 0) == (y < 0), remainder, np.fmod(remainder + y, y))


_MOD = "int32, int64, bfloat16, half, float, double"

mod = binary(
    "Mod", "int32, int64, half, half, bfloat16, float, double", lax.rem, np.fmod, check=_no_zero
)
mod.not_differentiable()
truncate_mod = binary("TruncateMod", _MOD, lax.rem, np.fmod, check=_no_zero)
truncate_mod.not_differentiable()
floor_mod = binary("FloorMod", _MOD, _floor_mod, _floor_mod_host, check=_no_zero)


@floor_mod.gradient
def _floor_mod_gradient(op, dz):
    x, y = op.inputs
    return reduce_pair(x, y, dz, raw.Mul(dz, raw.Neg(raw.FloorDiv(x, y))))


# ---- Pow


def _no_negative_power(op, x, y):
    checks.fail_if(op, (y < 0).any(), "Integers to negative integer powers are not allowed")


def _pow(x, y):
    if jnp.issubdtype(x.dtype, np.integer):
        return jnp.power(x, y)
    return lax.pow(x, y)


pow_ = binary(
    "Pow",
    f"bfloat16, float, half, double, int32, int64, {_COMPLEX}",
    _pow,
    np.power,
    check=_no_negative_power,
)


@pow_.gradient
def _pow_gradient(op, dz):
    """dx = y x^(y-1), dy = x^y log x, where the logarithm counts as 0 for x <= 0 (complex: for x = 0)."""
    x, y = op.inputs
    x_, y_, z = conj(x), conj(y), conj(op.outputs[0])
    dx = raw.Mul(raw.Mul(dz, y_), raw.Pow(x_, raw.Sub(y_, scalar_like(1, y_))))
    zero = scalar_like(0, x_)
    has_log = raw.NotEqual(x_, zero) if x.dtype.is_complex else raw.Greater(x_, zero)
    safe = raw.Select(has_log, x_, raw.OnesLike(x_))
    logarithm = (
        raw.Select(has_log, raw.Log(safe), zeros_like(x_))
        if not x.dtype.is_integer
        else zeros_like(x_)
    )
    return reduce_pair(x, y, dx, raw.Mul(raw.Mul(dz, z), logarithm))


# ---- Maximum, Minimum

_ORDERED = f"{_FLOAT}, int32, int64"

maximum = binary("Maximum", _ORDERED, lax.max, np.maximum)
minimum = binary("Minimum", _ORDERED, lax.min, np.minimum)


def _chosen_gradient(choose):
    """The gradient goes to x where `choose(x, y)`, else to y: a tie counts for x."""

    def gradient(op, dz):
        x, y = op.inputs
        mask = choose(x, y)
        zeros = zeros_like(dz)
        return reduce_pair(x, y, raw.Select(mask, dz, zeros), raw.Select(mask, zeros, dz))

    return gradient


maximum.gradient(_chosen_gradient(lambda x, y: raw.GreaterEqual(x, y)))
minimum.gradient(_chosen_gradient(lambda x, y: raw.LessEqual(x, y)))

# ---- SquaredDifference


def _squared_difference(x, y):
    difference = x - y
    return (
        difference * difference.conj() if difference.dtype.kind == "c" else difference * difference
    )


squared_difference = binary("SquaredDifference", _SIGNED, _squared_difference, _squared_difference)


@squared_difference.gradient
def _squared_difference_gradient(op, dz):
    x, y = op.inputs
    dx = raw.Mul(raw.Mul(scalar_like(2.0, dz), dz), raw.Sub(x, y))
    return reduce_pair(x, y, dx, raw.Neg(dx))


# ---- Xdivy, Xlogy: 0 where x is 0, whatever y is

xdivy = binary(
    "Xdivy",
    _NO_NAN,
    lambda x, y: _where_nonzero(x != 0, lax.div(x, y)),
    lambda x, y: _where_nonzero_host(x != 0, x / y),
)
xlogy = binary(
    "Xlogy",
    _NO_NAN,
    lambda x, y: _where_nonzero(x != 0, lax.mul(x, lax.log(y))),
    lambda x, y: _where_nonzero_host(x != 0, x * np.log(y)),
)


def _is_not_zero(x):
    return raw.Cast(raw.NotEqual(x, scalar_like(0, x)), DstT=x.dtype.base_dtype)


@xdivy.gradient
def _xdivy_gradient(op, dz):
    x, y = op.inputs
    dx = raw.Mul(raw.Xdivy(_is_not_zero(x), y), dz)
    return reduce_pair(x, y, dx, raw.Mul(raw.Xdivy(raw.Neg(x), raw.Square(y)), dz))


@xlogy.gradient
def _xlogy_gradient(op, dz):
    x, y = op.inputs
    dx = raw.Mul(raw.Xlogy(_is_not_zero(x), y), dz)
    return reduce_pair(x, y, dx, raw.Mul(raw.Xdivy(x, y), dz))


# ---- Atan2, NextAfter

atan2 = binary("Atan2", _FLOAT, lax.atan2, np.arctan2, arguments="y: T, x: T -> z: T")


@atan2.gradient
def _atan2_gradient(op, dz):
    y, x = op.inputs
    ratio = raw.RealDiv(dz, raw.AddV2(raw.Square(x), raw.Square(y)))
    return reduce_pair(y, x, raw.Mul(x, ratio), raw.Mul(raw.Neg(y), ratio))


next_after = define("NextAfter", "x1: T, x2: T -> output: T", "T: {double, float} = float")
next_after.shape(shapes.broadcast)
next_after.lower(lambda op, x, y: jnp.nextafter(x, y))
next_after.host(lambda op, x, y: np.asarray(np.nextafter(x, y)))


@next_after.gradient
def _next_after_gradient(op, dz):
    x1, x2 = op.inputs
    return reduce_pair(x1, x2, dz, zeros_like(dz))


# ---- AddN, AccumulateNV2

_NUMERIC = (
    "float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, complex128, "
    "half, uint32, uint64"
)


def _sum_all_shape(op, inputs):
    return shapes.merge_all(op, inputs, "inputs")


def _sum_all(op, inputs):
    total = inputs[0]
    for value in inputs[1:]:
        if value.shape != total.shape:
            raise op.invalid(
                f"Inputs to operation {op.name} of type {op.type} must have the same size and shape. "
                f"Input 0: {list(total.shape)} != input: {list(value.shape)}"
            )
        total = total + value
    return total


add_n = define("AddN", "inputs: N*T -> sum: T", f"N: int >= 1, T: {{{_NUMERIC}, variant}}")
add_n.shape(_sum_all_shape)
add_n.lower(_sum_all)
add_n.host(_sum_all)


@add_n.across
def _add_n_across(op, axis, value):
    return lax.psum(value, axis)


@add_n.gradient
def _add_n_gradient(op, dy):
    return [dy] * len(op.inputs)


accumulate_n_v2 = define(
    "AccumulateNV2", "inputs: N*T -> sum: T", f"N: int >= 1, T: {{{_NUMERIC}}}, shape: shape"
)
accumulate_n_v2.shape(
    lambda op, inputs: shapes.merge(op, op.attr("shape")._dims, _sum_all_shape(op, inputs))
)
accumulate_n_v2.lower(_sum_all)
accumulate_n_v2.host(_sum_all)
accumulate_n_v2.across(_add_n_across)
accumulate_n_v2.gradient(_add_n_gradient)
