"""Elementwise arithmetic of two tensors, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.lowering import checks
from headrace.ops import special
from headrace.ops.elementwise import conj, scalar_like, zeros_like

# ---- gradients of broadcasting


def reduce_to_shape_of(x, grad):
    """Sums `grad` over the axes along which `x` was broadcast, so that it has the shape of `x`.

    Nothing is added where the static shapes show that nothing was broadcast.
    """
    if shapes.is_known(x._dims) and x._dims == grad._dims:
        return grad
    return reduce_pair(x, None, grad, None)[0]


def reduce_pair(x, y, dx, dy):
    """As `reduce_to_shape_of` for both inputs of an op: (dx, dy), each summed to the shape of its input."""
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


def _binary(
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
        if check is not None and np.issubdtype(x.dtype, np.integer):
            check(op, x, y)
        return lower(*broadcast_values(x, y))

    if host is not None:

        @definition.host
        def host_rule(op, x, y):
            if x.shape != y.shape:
                try:
                    np.broadcast_shapes(x.shape, y.shape)
                except ValueError:
                    raise op.invalid(
                        f"Incompatible shapes: {list(x.shape)} vs. {list(y.shape)}"
                    ) from None
            if check is not None and np.issubdtype(x.dtype, np.integer):
                check(op, x, y)
            return special.in_own_type(host, x, y) if via_float else np.asarray(host(x, y))

    return definition


def _no_zero(op, x, y):
    zero = (y == 0).any()
    checks.fail_if(op, zero, "Integer division by zero")


# ---- Add, AddV2, Sub, Mul

_FLOAT = "bfloat16, half, float, double"
_COMPLEX = "complex64, complex128"
_SIGNED = f"{_FLOAT}, int32, int64, {_COMPLEX}"
_ADD = f"{_FLOAT}, uint8, int8, int16, int32, int64, {_COMPLEX}"
_ARITHMETIC = f"{_FLOAT}, uint8, int8, uint16, int16, int32, int64, {_COMPLEX}"

add = _binary(
    "Add",
    "bfloat16, half, float, double, uint8, int8, int16, int32, int64, complex64, complex128, string",
    lax.add,
    np.add,
)
add_v2 = _binary("AddV2", _ADD, lax.add, np.add)


@add_v2.gradient
@add.gradient
def _add_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, dz)


sub = _binary("Sub", _ARITHMETIC, lax.sub, np.subtract)


@sub.gradient
def _sub_gradient(op, dz):
    return reduce_pair(op.inputs[0], op.inputs[1], dz, raw.Neg(dz))


mul = _binary("Mul", _ARITHMETIC, lax.mul, np.multiply)


@mul.gradient
def _mul_gradient(op, dz):
    x, y = op.inputs
    return reduce_pair(x, y, raw.Mul(dz, conj(y)), raw.Mul(conj(x), dz))


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


div = _binary("Div", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)
real_div = _binary("RealDiv", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)


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

floor_div = _binary("FloorDiv", _ARITHMETIC, _floor_divide, _floor_divide_host, check=_no_zero)
floor_div.gradient(lambda op, dz: (None, None))
truncate_div = _binary("TruncateDiv", _ARITHMETIC, lax.div, _divide_host, check=_no_zero)
truncate_div.gradient(lambda op, dz: (None, None))


def _where_nonzero(condition, value):
    return jnp.where(condition, value, jnp.zeros((), value.dtype))


def _where_nonzero_host(condition, value):
    return np.where(condition, value, np.zeros((), value.dtype))


_NO_NAN = f"half, float, double, {_COMPLEX}"

div_no_nan = _binary(
    "DivNoNan",
    _NO_NAN,
    lambda x, y: _where_nonzero(y != 0, lax.div(x, y)),
    lambda x, y: _where_nonzero_host(y != 0, x / y),
)
div_no_nan.gradient(_division_gradient(lambda x, y: raw.DivNoNan(x, y)))

mul_no_nan = _binary(
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

mod = _binary(
    "Mod", "int32, int64, half, half, bfloat16, float, double", lax.rem, np.fmod, check=_no_zero
)
mod.not_differentiable()
truncate_mod = _binary("TruncateMod", _MOD, lax.rem, np.fmod, check=_no_zero)
truncate_mod.not_differentiable()
floor_mod = _binary("FloorMod", _MOD, _floor_mod, _floor_mod_host, check=_no_zero)


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


pow_ = _binary(
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

maximum = _binary("Maximum", _ORDERED, lax.max, np.maximum)
minimum = _binary("Minimum", _ORDERED, lax.min, np.minimum)


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


squared_difference = _binary("SquaredDifference", _SIGNED, _squared_difference, _squared_difference)


@squared_difference.gradient
def _squared_difference_gradient(op, dz):
    x, y = op.inputs
    dx = raw.Mul(raw.Mul(scalar_like(2.0, dz), dz), raw.Sub(x, y))
    return reduce_pair(x, y, dx, raw.Neg(dx))


# ---- Xdivy, Xlogy: 0 where x is 0, whatever y is

xdivy = _binary(
    "Xdivy",
    _NO_NAN,
    lambda x, y: _where_nonzero(x != 0, lax.div(x, y)),
    lambda x, y: _where_nonzero_host(x != 0, x / y),
)
xlogy = _binary(
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

atan2 = _binary("Atan2", _FLOAT, lax.atan2, np.arctan2, arguments="y: T, x: T -> z: T")


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
accumulate_n_v2.gradient(_add_n_gradient)

# ---- Bits

_INTS = "int8, int16, int32, int64, uint8, uint16, uint32, uint64"


def _shift_amount(x, y, where):
    # TF clamps the amount into [0, bits - 1].
    return where(y < 0, 0, where(y > 8 * x.dtype.itemsize - 1, 8 * x.dtype.itemsize - 1, y)).astype(
        x.dtype
    )


def _shift_right(x, y):
    amount = _shift_amount(x, y, jnp.where)
    return (
        lax.shift_right_arithmetic(x, amount)
        if x.dtype.kind == "i"
        else lax.shift_right_logical(x, amount)
    )


for _name, _lower, _host in (
    ("BitwiseAnd", lax.bitwise_and, np.bitwise_and),
    ("BitwiseOr", lax.bitwise_or, np.bitwise_or),
    ("BitwiseXor", lax.bitwise_xor, np.bitwise_xor),
    (
        "LeftShift",
        lambda x, y: lax.shift_left(x, _shift_amount(x, y, jnp.where)),
        lambda x, y: np.left_shift(x, _shift_amount(x, y, np.where)),
    ),
    ("RightShift", _shift_right, lambda x, y: np.right_shift(x, _shift_amount(x, y, np.where))),
):
    _binary(_name, _INTS, _lower, _host).not_differentiable()

# ---- Incomplete gamma and beta functions, Zeta, Polygamma

_DOUBLE = "float, double"


igamma = _binary(
    "Igamma", _DOUBLE, lax.igamma, special.igamma, "a: T, x: T -> z: T", via_float=True
)
igammac = _binary(
    "Igammac", _DOUBLE, lax.igammac, special.igammac, "a: T, x: T -> z: T", via_float=True
)
igamma_grad_a = _binary("IgammaGradA", _DOUBLE, lax.igamma_grad_a, None, "a: T, x: T -> z: T")
igamma_grad_a.not_differentiable()


@igamma.gradient
def _igamma_gradient(op, dz):
    """By x: x^(a-1) e^-x / gamma(a). By a there is no closed form: `IgammaGradA`."""
    a, x = op.inputs
    exponent = raw.Sub(
        raw.AddV2(raw.Neg(x), raw.Mul(raw.Sub(a, scalar_like(1, a)), raw.Log(x))), raw.Lgamma(a)
    )
    return reduce_pair(a, x, raw.Mul(raw.IgammaGradA(a, x), dz), raw.Mul(raw.Exp(exponent), dz))


@igammac.gradient
def _igammac_gradient(op, dz):
    da, dx = _igamma_gradient(op, dz)
    return raw.Neg(da), raw.Neg(dx)


zeta = _binary("Zeta", _DOUBLE, lax.zeta, special.zeta, "x: T, q: T -> z: T", via_float=True)


@zeta.gradient
def _zeta_gradient(op, dz):
    x, q = op.inputs
    dq = raw.Mul(raw.Neg(x), raw.Zeta(raw.AddV2(x, scalar_like(1, x)), q))
    return None, reduce_pair(x, q, None, raw.Mul(dq, dz))[1]


polygamma = _binary(
    "Polygamma", _DOUBLE, lax.polygamma, special.polygamma, "a: T, x: T -> z: T", via_float=True
)


@polygamma.gradient
def _polygamma_gradient(op, dz):
    n, x = op.inputs
    dx = raw.Polygamma(raw.AddV2(n, scalar_like(1, n)), x)
    return None, reduce_pair(n, x, None, raw.Mul(dx, dz))[1]


betainc = define("Betainc", "a: T, b: T, x: T -> z: T", f"T: {{{_DOUBLE}}}")


@betainc.shape
def _betainc_shape(op, *inputs):
    """All of one shape, scalars excepted."""
    out = ()
    for dims in inputs:
        if dims is None:
            out = None if out == () else out
        elif dims:
            out = shapes.merge(op, None if out == () else out, dims, "a, b and x")
    return out


@betainc.lower
def _betainc_lower(op, a, b, x):
    return lax.betainc(*broadcast_values(a, b, x))


@betainc.host
def _betainc_host(op, a, b, x):
    return special.in_own_type(special.betainc, a, b, x)


@betainc.gradient
def _betainc_gradient(op, dz):
    """By x: x^(a-1) (1-x)^(b-1) / B(a, b)."""
    a, b, x = op.inputs
    one = scalar_like(1, x)
    log_beta = raw.Sub(raw.AddV2(raw.Lgamma(a), raw.Lgamma(b)), raw.Lgamma(raw.AddV2(a, b)))
    exponent = raw.Sub(
        raw.AddV2(
            raw.Mul(raw.Sub(b, one), raw.Log(raw.Sub(one, x))), raw.Mul(raw.Sub(a, one), raw.Log(x))
        ),
        log_beta,
    )
    return None, None, reduce_pair(a, x, None, raw.Mul(raw.Exp(exponent), dz))[1]
