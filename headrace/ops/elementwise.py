"""Elementwise functions of one tensor, and the ops that are their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops import special

_FLOAT = "bfloat16, half, float, double"
_COMPLEX = "complex64, complex128"
_FLOAT_COMPLEX = f"{_FLOAT}, {_COMPLEX}"
_SIGNED = f"{_FLOAT}, int32, int64, {_COMPLEX}"


def _unary(
    name: str,
    types: str,
    lower: Callable[[Any], Any],
    host: Callable[[Any], Any] | None,
    via_float: bool = False,
) -> OpDef:
    """An elementwise op of one input `x` whose output has its type.

    via_float: the NumPy rule has no half precision; it is applied to float32.
    """
    definition = define(name, "x: T -> y: T", f"T: {{{types}}}")
    definition.shape(shapes.unchanged)
    definition.lower(lambda op, x: lower(x))
    if host is not None:
        definition.host(
            lambda op, x: special.in_own_type(host, x) if via_float else np.asarray(host(x))
        )
    return definition


def conj(x):
    """The complex conjugate; `x` itself where it is real."""
    return raw.Conj(x) if x.dtype.is_complex else x


def scalar_like(value: float, x):
    """A constant of the type of `x`."""
    return np.asarray(value, x.dtype.base_dtype.np_dtype)


def zeros_like(x):
    """A tensor of zeros with the shape of `x`."""
    return raw.ZerosLike(x)


# ---- Abs, Neg, Sign, Square

abs_ = _unary("Abs", f"{_FLOAT}, int8, int16, int32, int64", lax.abs, np.abs)


@abs_.gradient
def _abs_gradient(op, dy):
    return raw.Mul(dy, raw.Sign(op.inputs[0]))


neg = _unary("Neg", _SIGNED, lax.neg, np.negative)


@neg.gradient
def _neg_gradient(op, dy):
    return raw.Neg(dy)


def _sign_host(x):
    # NumPy's bfloat16 and complex signs follow other rules.
    if x.dtype.kind == "c":
        size = np.abs(x)
        return np.where(size == 0, np.zeros_like(x), x / np.where(size == 0, 1, size)).astype(
            x.dtype
        )
    return np.sign(x)


sign = _unary("Sign", _SIGNED, lax.sign, _sign_host)


@sign.gradient
def _sign_gradient(op, dy):
    return zeros_like(op.inputs[0])


square = _unary("Square", _SIGNED, lambda x: lax.mul(x, x), np.square)


@square.gradient
def _square_gradient(op, dy):
    x = conj(op.inputs[0])
    return raw.Mul(dy, raw.Mul(x, scalar_like(2.0, x)))


# ---- Roots and reciprocals; their gradients are ops of the result y


def _grad_op(name: str, rule: Callable[[Any, Any], Any]) -> OpDef:
    """An op (y, dy) -> dx, where y is the result of the op that it is the gradient of."""
    definition = define(name, "y: T, dy: T -> z: T", f"T: {{{_FLOAT_COMPLEX}}}")
    definition.shape(_same_shape)
    definition.lower(lambda op, y, dy: rule(y, dy))
    definition.host(lambda op, y, dy: np.asarray(rule(y, dy)))
    return definition


def _same_shape(op, y, dy):
    return shapes.merge(op, y, dy, "y and dy")


def _conjugate(x):
    """The complex conjugate of a value, NumPy's or JAX's."""
    return x.conj() if jnp.issubdtype(x.dtype, np.complexfloating) else x


def _of_type(value: float, x):
    return np.asarray(value, x.dtype)


sqrt = _unary("Sqrt", _FLOAT_COMPLEX, lax.sqrt, np.sqrt)


@sqrt.gradient
def _sqrt_gradient(op, dy):
    return raw.SqrtGrad(op.outputs[0], dy)


sqrt_grad = _grad_op("SqrtGrad", lambda y, dy: dy * _of_type(0.5, y) / _conjugate(y))


@sqrt_grad.gradient
def _sqrt_grad_gradient(op, dz):
    """z = dy / (2 y'), so dz/dy = -z / y and dz/d(dy) = 1 / (2 y)."""
    y, z = op.inputs[0], op.outputs[0]
    ratio = raw.RealDiv(dz, y)
    return raw.Mul(raw.Neg(conj(ratio)), z), raw.Mul(scalar_like(0.5, ratio), ratio)


rsqrt = _unary("Rsqrt", _FLOAT_COMPLEX, lax.rsqrt, lambda x: _of_type(1, x) / np.sqrt(x))


@rsqrt.gradient
def _rsqrt_gradient(op, dy):
    return raw.RsqrtGrad(op.outputs[0], dy)


def _rsqrt_grad(y, dy):
    c = _conjugate(y)
    return dy * _of_type(-0.5, y) * (c * c * c)


rsqrt_grad = _grad_op("RsqrtGrad", _rsqrt_grad)


@rsqrt_grad.gradient
def _rsqrt_grad_gradient(op, dz):
    y, dy = conj(op.inputs[0]), op.inputs[1]
    by_y = raw.Mul(raw.Mul(raw.Mul(scalar_like(-1.5, dy), conj(dz)), dy), raw.Square(y))
    return by_y, raw.RsqrtGrad(y, dz)


def _reciprocal_grad(y, dy):
    c = _conjugate(y)
    return -dy * (c * c)


def _one_over(x):
    if np.issubdtype(x.dtype, np.integer):
        return (x == 1).astype(x.dtype) - (x == -1).astype(x.dtype)
    return _of_type(1, x) / x


def _reciprocal_gradient(op, dy):
    return raw.ReciprocalGrad(op.outputs[0], dy)


def _reciprocal_grad_gradient(op, dz):
    y, dy = conj(op.inputs[0]), op.inputs[1]
    by_y = raw.Mul(raw.Mul(raw.Mul(conj(dz), scalar_like(-2.0, dy)), dy), y)
    return by_y, raw.ReciprocalGrad(y, dz)


for _name in ("Reciprocal", "Inv"):
    _unary(_name, _SIGNED, _one_over, _one_over).gradient(_reciprocal_gradient)
    _grad_op(f"{_name}Grad", _reciprocal_grad).gradient(_reciprocal_grad_gradient)

# ---- Exponentials and logarithms

exp = _unary("Exp", _FLOAT_COMPLEX, lax.exp, np.exp)


@exp.gradient
def _exp_gradient(op, dy):
    return raw.Mul(dy, conj(op.outputs[0]))


expm1 = _unary("Expm1", _FLOAT_COMPLEX, lax.expm1, np.expm1)


@expm1.gradient
def _expm1_gradient(op, dy):
    return raw.Mul(dy, raw.Exp(conj(op.inputs[0])))


log = _unary("Log", _FLOAT_COMPLEX, lax.log, np.log)


@log.gradient
def _log_gradient(op, dy):
    return raw.Mul(dy, raw.Reciprocal(conj(op.inputs[0])))


log1p = _unary("Log1p", _FLOAT_COMPLEX, lax.log1p, np.log1p)


@log1p.gradient
def _log1p_gradient(op, dy):
    x = conj(op.inputs[0])
    return raw.Mul(dy, raw.Reciprocal(raw.AddV2(scalar_like(1, x), x)))


# ---- Trigonometric functions

sin = _unary("Sin", _FLOAT_COMPLEX, lax.sin, np.sin)


@sin.gradient
def _sin_gradient(op, dy):
    return raw.Mul(dy, raw.Cos(conj(op.inputs[0])))


cos = _unary("Cos", _FLOAT_COMPLEX, lax.cos, np.cos)


@cos.gradient
def _cos_gradient(op, dy):
    return raw.Mul(raw.Neg(dy), raw.Sin(conj(op.inputs[0])))


tan = _unary("Tan", _SIGNED, lax.tan, np.tan)


@tan.gradient
def _tan_gradient(op, dy):
    return raw.Mul(raw.Square(raw.Reciprocal(raw.Cos(conj(op.inputs[0])))), dy)


def _one_minus_square(x):
    return raw.Sub(scalar_like(1, x), raw.Square(x))


asin = _unary("Asin", _SIGNED, lax.asin, np.arcsin)


@asin.gradient
def _asin_gradient(op, dy):
    return raw.Mul(dy, raw.Reciprocal(raw.Sqrt(_one_minus_square(conj(op.inputs[0])))))


acos = _unary("Acos", _SIGNED, lax.acos, np.arccos)


@acos.gradient
def _acos_gradient(op, dy):
    return raw.Mul(raw.Neg(dy), raw.Reciprocal(raw.Sqrt(_one_minus_square(conj(op.inputs[0])))))


atan = _unary("Atan", _SIGNED, lax.atan, np.arctan)


@atan.gradient
def _atan_gradient(op, dy):
    x = conj(op.inputs[0])
    return raw.Mul(dy, raw.Reciprocal(raw.AddV2(scalar_like(1, x), raw.Square(x))))


# ---- Hyperbolic functions

sinh = _unary("Sinh", _FLOAT_COMPLEX, lax.sinh, np.sinh)


@sinh.gradient
def _sinh_gradient(op, dy):
    return raw.Mul(dy, raw.Cosh(conj(op.inputs[0])))


cosh = _unary("Cosh", _FLOAT_COMPLEX, lax.cosh, np.cosh)


@cosh.gradient
def _cosh_gradient(op, dy):
    return raw.Mul(dy, raw.Sinh(conj(op.inputs[0])))


tanh = _unary("Tanh", _FLOAT_COMPLEX, lax.tanh, np.tanh)


@tanh.gradient
def _tanh_gradient(op, dy):
    return raw.TanhGrad(conj(op.outputs[0]), dy)


tanh_grad = _grad_op("TanhGrad", lambda y, dy: dy * (_of_type(1, y) - y * y))


@tanh_grad.gradient
def _tanh_grad_gradient(op, dz):
    y, dy = conj(op.inputs[0]), conj(op.inputs[1])
    return raw.Mul(raw.Mul(raw.Mul(dz, scalar_like(-2.0, dz)), dy), y), raw.TanhGrad(y, dz)


asinh = _unary("Asinh", _FLOAT_COMPLEX, lax.asinh, np.arcsinh)


@asinh.gradient
def _asinh_gradient(op, dy):
    return raw.RealDiv(dy, raw.Cosh(conj(op.outputs[0])))


acosh = _unary("Acosh", _FLOAT_COMPLEX, lax.acosh, np.arccosh)


@acosh.gradient
def _acosh_gradient(op, dy):
    return raw.RealDiv(dy, raw.Sinh(conj(op.outputs[0])))


atanh = _unary("Atanh", _FLOAT_COMPLEX, lax.atanh, np.arctanh)


@atanh.gradient
def _atanh_gradient(op, dy):
    return raw.Mul(dy, raw.Reciprocal(_one_minus_square(conj(op.inputs[0]))))


def _sigmoid_host(x):
    return _of_type(1, x) / (_of_type(1, x) + np.exp(-x))


sigmoid = _unary("Sigmoid", _FLOAT_COMPLEX, lax.logistic, _sigmoid_host)


@sigmoid.gradient
def _sigmoid_gradient(op, dy):
    return raw.SigmoidGrad(conj(op.outputs[0]), dy)


sigmoid_grad = _grad_op("SigmoidGrad", lambda y, dy: dy * y * (_of_type(1, y) - y))


@sigmoid_grad.gradient
def _sigmoid_grad_gradient(op, dz):
    y, dy = conj(op.inputs[0]), conj(op.inputs[1])
    product = raw.Mul(dz, dy)
    twice = raw.Mul(raw.Mul(scalar_like(2.0, product), product), y)
    return raw.Sub(product, twice), raw.SigmoidGrad(y, dz)


# ---- Rounding: piecewise constant, no gradient flows


def _round_half_even(x):
    if jnp.issubdtype(x.dtype, np.integer):
        return x
    if jnp.issubdtype(x.dtype, np.complexfloating):
        return lax.complex(_round_half_even(lax.real(x)), _round_half_even(lax.imag(x)))
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def _no_gradient(op, dy):
    return None


floor = _unary("Floor", _FLOAT, lax.floor, np.floor)
floor.gradient(_no_gradient)
ceil = _unary("Ceil", _FLOAT, lax.ceil, np.ceil)
ceil.gradient(_no_gradient)
round_ = _unary(
    "Round", _SIGNED, _round_half_even, lambda x: x if x.dtype.kind == "i" else np.rint(x)
)
round_.gradient(_no_gradient)
rint = _unary("Rint", _FLOAT, _round_half_even, np.rint)
rint.gradient(_no_gradient)

# ---- Error function, gamma function

erf = _unary("Erf", _FLOAT, lax.erf, special.erf, via_float=True)


@erf.gradient
def _erf_gradient(op, dy):
    x = op.inputs[0]
    slope = scalar_like(2 / np.sqrt(np.pi), dy)
    return raw.Mul(raw.Mul(dy, slope), raw.Exp(raw.Neg(raw.Square(x))))


erfc = _unary("Erfc", _FLOAT, lax.erfc, special.erfc, via_float=True)


@erfc.gradient
def _erfc_gradient(op, dy):
    x = op.inputs[0]
    slope = scalar_like(-2 / np.sqrt(np.pi), dy)
    return raw.Mul(raw.Mul(dy, slope), raw.Exp(raw.Neg(raw.Square(x))))


lgamma = _unary("Lgamma", _FLOAT, lax.lgamma, special.lgamma, via_float=True)


@lgamma.gradient
def _lgamma_gradient(op, dy):
    return raw.Mul(dy, raw.Digamma(op.inputs[0]))


digamma = _unary("Digamma", _FLOAT, lax.digamma, special.digamma, via_float=True)


@digamma.gradient
def _digamma_gradient(op, dy):
    x = op.inputs[0]
    return raw.Mul(dy, raw.Polygamma(scalar_like(1, x), x))


# ---- Bessel functions, scaled by exp(-|x|)

bessel_i0e = _unary("BesselI0e", _FLOAT, lax.bessel_i0e, special.i0e, via_float=True)
bessel_i0e.slow_on_host()


@bessel_i0e.gradient
def _bessel_i0e_gradient(op, dy):
    x, y = op.inputs[0], op.outputs[0]
    return raw.Mul(dy, raw.Sub(raw.BesselI1e(x), raw.Mul(raw.Sign(x), y)))


bessel_i1e = _unary("BesselI1e", _FLOAT, lax.bessel_i1e, special.i1e, via_float=True)
bessel_i1e.slow_on_host()


@bessel_i1e.gradient
def _bessel_i1e_gradient(op, dy):
    """i1e' = i0e - i1e (sign x + 1/x), which at 0 is 1/2."""
    x, y = op.inputs[0], op.outputs[0]
    tiny = scalar_like(float(jnp.finfo(x.dtype.as_numpy_dtype).eps), x)
    far = raw.Greater(raw.Abs(x), tiny)
    zeros = zeros_like(x)
    safe = raw.Select(far, x, raw.AddV2(tiny, zeros))
    slope = raw.Sub(
        raw.BesselI0e(safe), raw.Mul(y, raw.AddV2(raw.Sign(safe), raw.Reciprocal(safe)))
    )
    return raw.Mul(dy, raw.Select(far, slope, raw.AddV2(scalar_like(0.5, x), zeros)))


# ---- IsNan, IsInf, IsFinite


def _predicate(name: str, lower: Callable[[Any], Any], host: Callable[[Any], Any]) -> None:
    definition = define(name, "x: T -> y: bool", f"T: {{{_FLOAT}}}")
    definition.shape(shapes.unchanged)
    definition.lower(lambda op, x: lower(x))
    definition.host(lambda op, x: np.asarray(host(x), np.bool_))
    definition.not_differentiable()


_predicate("IsNan", jnp.isnan, np.isnan)
_predicate("IsInf", jnp.isinf, np.isinf)
_predicate("IsFinite", jnp.isfinite, np.isfinite)

# ---- LogicalNot, Invert, PopulationCount

logical_not = define("LogicalNot", "x: bool -> y: bool")
logical_not.shape(shapes.unchanged)
logical_not.lower(lambda op, x: lax.bitwise_not(x))
logical_not.host(lambda op, x: np.logical_not(x))
logical_not.not_differentiable()

_INTS = "int8, int16, int32, int64, uint8, uint16, uint32, uint64"

invert = _unary("Invert", _INTS, lax.bitwise_not, np.invert)
invert.not_differentiable()

population_count = define("PopulationCount", "x: T -> y: uint8", f"T: {{{_INTS}}}")
population_count.shape(shapes.unchanged)


@population_count.lower
def _population_count_lower(op, x):
    return lax.population_count(x).astype(np.uint8)


@population_count.host
def _population_count_host(op, x):
    # NumPy counts the bits of the absolute value of signed integers.
    return np.asarray(np.bitwise_count(np.asarray(x).view(f"u{x.dtype.itemsize}")))


population_count.not_differentiable()
