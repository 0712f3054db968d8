"""Elementwise mathematics: `tf.add`, `tf.exp`, `tf.cast`, comparisons, logic, bits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from headrace.api.array_ops import dense_shape_of
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor

# ---- functions that are one node each

_BINARY = {
    "Add": ("add", "math.add"),
    "Sub": ("subtract", "math.subtract"),
    "Mul": ("multiply", "math.multiply"),
    "RealDiv": ("realdiv",),
    "FloorDiv": ("floor_div",),
    "TruncateDiv": ("truncatediv",),
    "FloorMod": ("mod", "math.mod", "floormod", "math.floormod"),
    "TruncateMod": ("truncatemod",),
    "Maximum": ("maximum", "math.maximum"),
    "Minimum": ("minimum", "math.minimum"),
    "SquaredDifference": ("squared_difference", "math.squared_difference"),
    "Xdivy": ("math.xdivy",),
    "Xlogy": ("math.xlogy",),
    "Less": ("less", "math.less"),
    "LessEqual": ("less_equal", "math.less_equal"),
    "Greater": ("greater", "math.greater"),
    "GreaterEqual": ("greater_equal", "math.greater_equal"),
    "Equal": ("equal", "math.equal"),
    "NotEqual": ("not_equal", "math.not_equal"),
    "LogicalAnd": ("logical_and", "math.logical_and"),
    "LogicalOr": ("logical_or", "math.logical_or"),
    "BitwiseAnd": ("bitwise.bitwise_and",),
    "BitwiseOr": ("bitwise.bitwise_or",),
    "BitwiseXor": ("bitwise.bitwise_xor",),
    "LeftShift": ("bitwise.left_shift",),
    "RightShift": ("bitwise.right_shift",),
}

_UNARY = {
    "Neg": ("negative", "math.negative"),
    "Square": ("square", "math.square"),
    "Sqrt": ("sqrt", "math.sqrt"),
    "Rsqrt": ("rsqrt", "math.rsqrt"),
    "Exp": ("exp", "math.exp"),
    "Expm1": ("expm1", "math.expm1"),
    "Log": ("log", "math.log"),
    "Log1p": ("log1p", "math.log1p"),
    "Sin": ("sin", "math.sin"),
    "Cos": ("cos", "math.cos"),
    "Tan": ("tan", "math.tan"),
    "Asin": ("asin", "math.asin"),
    "Acos": ("acos", "math.acos"),
    "Atan": ("atan", "math.atan"),
    "Sinh": ("sinh", "math.sinh"),
    "Cosh": ("cosh", "math.cosh"),
    "Tanh": ("tanh", "math.tanh", "nn.tanh"),
    "Asinh": ("asinh", "math.asinh"),
    "Acosh": ("acosh", "math.acosh"),
    "Atanh": ("atanh", "math.atanh"),
    "Sign": ("sign", "math.sign"),
    "Floor": ("floor", "math.floor"),
    "Ceil": ("ceil", "math.ceil"),
    "Rint": ("rint", "math.rint"),
    "Reciprocal": ("reciprocal", "math.reciprocal"),
    "Erf": ("erf", "math.erf"),
    "Erfc": ("erfc", "math.erfc"),
    "Lgamma": ("lgamma", "math.lgamma"),
    "Digamma": ("digamma", "math.digamma"),
    "BesselI0e": ("math.bessel_i0e",),
    "BesselI1e": ("math.bessel_i1e",),
    "IsNan": ("is_nan", "math.is_nan", "debugging.is_nan"),
    "IsInf": ("is_inf", "math.is_inf", "debugging.is_inf"),
    "IsFinite": ("is_finite", "math.is_finite", "debugging.is_finite"),
    "LogicalNot": ("logical_not", "math.logical_not"),
    "Invert": ("bitwise.invert",),
}

for _type, _names in _BINARY.items():
    export_op(_type, "x, y", *_names)
# Of a sparse tensor these take the values: they are 0 where x is 0 (or TensorFlow acts as if they were).
_SPARSE = frozenset({"Neg", "Sign", "Square", "Sqrt", "Erf", "Tanh", "BesselI0e", "BesselI1e"})


def _of_values(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """`function(x, name)`, which of a sparse tensor makes one with the function of its values."""

    @functools.wraps(function)
    def mapped(x: Any, name: str | None = None) -> Any:
        if x.__class__ is Tensor or dense_shape_of(x) is None:
            return function(x, name=name)
        return type(x)(x.indices, function(x.values, name=name), x.dense_shape)

    return mapped


for _type, _names in _UNARY.items():
    _function = export_op(_type, "x", *_names)
    if _type in _SPARSE:
        export(*_names)(_of_values(_function))

export_op("Atan2", "y, x", "atan2", "math.atan2")
export_op("NextAfter", "x1, x2", "math.nextafter")
export_op("Igamma", "a, x", "igamma", "math.igamma")
export_op("Igammac", "a, x", "igammac", "math.igammac")
export_op("Zeta", "x, q", "zeta", "math.zeta")
export_op("Polygamma", "a, x", "polygamma", "math.polygamma")
export_op("Betainc", "a, b, x", "betainc", "math.betainc")
export_op("Bitcast", "input, type", "bitcast")
export_op("LinSpace", "start, stop, num", "lin_space", "linspace")
export_op("Cross", "a, b", "cross", "linalg.cross")


# ---- Division


def _same_types(x: Any, y: Any, y_type: Any = None) -> tuple[Tensor, Tensor]:
    x = convert_to_tensor(x, name="x")
    y = convert_to_tensor(y, y_type and x._dtype.base_dtype, name="y")
    if x._dtype.base_dtype is not y._dtype.base_dtype:
        raise TypeError(
            f"x and y must have the same dtype, got {x._dtype.base_dtype!r} != {y._dtype.base_dtype!r}"
        )
    return x, y


# The type in which a quotient of integers is computed.
_QUOTIENT_TYPE = {
    dtypes.uint8: dtypes.float32,
    dtypes.int8: dtypes.float32,
    dtypes.uint16: dtypes.float32,
    dtypes.int16: dtypes.float32,
    dtypes.int32: dtypes.float64,
    dtypes.int64: dtypes.float64,
    dtypes.bfloat16: None,
    dtypes.float16: None,
    dtypes.float32: None,
    dtypes.float64: None,
    dtypes.complex64: None,
    dtypes.complex128: None,
}


@export("truediv", "math.truediv")
def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python divides: integers become floating (float64 from 32 bits on).

    x, y: of one numeric type; they broadcast. Raises TypeError: of two types, or not numeric.
    """
    with name_scope(name, "truediv", [x, y]) as scope:
        x, y = _same_types(x, y)
        try:
            kind = _QUOTIENT_TYPE[x._dtype.base_dtype]
        except KeyError:
            raise TypeError(f"Invalid dtype {x._dtype.base_dtype!r} in __truediv__") from None
        if kind is not None:
            x, y = cast(x, kind), cast(y, kind)
        return raw.RealDiv(x, y, name=scope)


@export("div")
def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 2 divided: integers round down.

    x, y: of one numeric type; they broadcast. Raises TypeError: of two types.
    """
    with name_scope(name, "div", [x, y]) as scope:
        x, y = _same_types(x, y, "x")
        kind = x._dtype.base_dtype
        if kind.is_floating or kind.is_complex:
            return raw.RealDiv(x, y, name=scope)
        return raw.FloorDiv(x, y, name=scope)


@export("divide", "math.divide")
def divide(x: Any, y: Any, name: str | None = None) -> Any:
    """x / y as Python's operator computes it."""
    return x / y if name is None else truediv(x, y, name)


@export("floordiv", "math.floordiv")
def floordiv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y rounded down, in the type of the inputs."""
    return raw.FloorDiv(x, y, name="floordiv" if name is None else name)


@export("div_no_nan", "math.divide_no_nan")
def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where y is 0. x, y: of one floating or complex type."""
    with name_scope(name, "div_no_nan", [x, y]) as scope:
        return raw.DivNoNan(*_same_types(x, y, "x"), name=scope)


@export("math.multiply_no_nan")
def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x y, and 0 where y is 0, even if x is infinite or NaN. x, y: of one floating or complex type."""
    with name_scope(name, "multiply_no_nan", [x, y]) as scope:
        return raw.MulNoNan(*_same_types(x, y, "x"), name=scope)


@export("math.reciprocal_no_nan")
def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, and 0 where x is 0."""
    with name_scope(name, "reciprocal_no_nan", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        one = convert_to_tensor(1, x._dtype.base_dtype, name="one")
        return raw.DivNoNan(one, x, name=scope)


# ---- Powers, absolute value, rounding


@export("pow", "math.pow")
def pow(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x to the power y. Integers: y must not be negative (InvalidArgumentError when it runs)."""
    return raw.Pow(x, y, name=name)


@export("abs", "math.abs")
@_of_values
def abs(x: Any, name: str | None = None) -> Tensor:
    """The absolute value; of a complex number its length, in the real type."""
    with name_scope(name, "Abs", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        if x._dtype.is_complex:
            return raw.ComplexAbs(x, Tout=x._dtype.base_dtype.real_dtype, name=scope)
        return raw.Abs(x, name=scope)


@export("round", "math.round")
def round(x: Any, name: str | None = None) -> Tensor:
    """The nearest integer, halves to the even one; integers are returned as they are."""
    x = convert_to_tensor(x, name="x")
    return x if x._dtype.is_integer else raw.Round(x, name=name)


@export("scalar_mul", "math.scalar_mul")
def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """`scalar` times `x`, a tensor or an IndexedSlices (which stays one). Raises ValueError: not a scalar."""
    scalar = convert_to_tensor(scalar, x.dtype.base_dtype, name="scalar")
    if scalar._dims != ():
        raise ValueError(f"Only scalar multiply works, got shape {scalar.shape}")
    if isinstance(x, IndexedSlices):
        return IndexedSlices(raw.Mul(scalar, x.values, name=name), x.indices, x.dense_shape)
    return raw.Mul(scalar, x, name=name)


@export("sigmoid", "math.sigmoid", "nn.sigmoid")
def sigmoid(x: Any, name: str | None = None) -> Tensor:
    """1 / (1 + exp(-x)). x: floating or complex."""
    return raw.Sigmoid(x, name=name)


@export("log_sigmoid", "math.log_sigmoid")
def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(1 / (1 + exp(-x))), exact for large negative x. x: floating."""
    with name_scope(name, "LogSigmoid", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return raw.Neg(raw.Softplus(-x), name=scope)


@export("math.bessel_i0")
def bessel_i0(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 0. x: floating."""
    with name_scope(name, "bessel_i0", [x]):
        x = convert_to_tensor(x, name="x")
        return raw.Exp(raw.Abs(x)) * raw.BesselI0e(x)


@export("math.bessel_i1")
def bessel_i1(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 1. x: floating."""
    with name_scope(name, "bessel_i1", [x]):
        x = convert_to_tensor(x, name="x")
        return raw.Exp(raw.Abs(x)) * raw.BesselI1e(x)


@export("math.polyval")
def polyval(coeffs: Any, x: Any, name: str | None = None) -> Tensor:
    """The polynomial with `coeffs` (a list, the highest power first) at x."""
    with name_scope(name, "polyval", [*coeffs, x]) as scope:
        x = convert_to_tensor(x, name="x")
        if not coeffs:
            return raw.ZerosLike(x, name=scope)
        tensors = [convert_to_tensor(c, name=f"coeff_{i}") for i, c in enumerate(coeffs)]
        value = tensors[0]
        for coefficient in tensors[1:]:
            value = coefficient + value * x
        return value


@export("logical_xor", "math.logical_xor")
def logical_xor(x: Any, y: Any, name: str | None = "LogicalXor") -> Tensor:
    """Whether exactly one of x and y is true."""
    return raw.LogicalAnd(raw.LogicalOr(x, y), raw.LogicalNot(raw.LogicalAnd(x, y)), name=name)


# ---- Types


@export("cast", "dtypes.cast")
def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """`x` with elements of another type; floating to integer cuts the fraction off, complex to real the imaginary part.

    x: a tensor, a SparseTensor or an IndexedSlices, whose values are cast. dtype: anything that names a type.
    Returns x itself where it has the type.
    """
    kind = dtypes.as_dtype(dtype).base_dtype
    if x.__class__ is Tensor and x._dtype is kind:
        return x
    if getattr(x, "_as_graph_element", None) is not None and x.dtype == kind:
        return x  # a variable of this type
    with name_scope(name, "Cast", [x]) as scope:
        if isinstance(x, IndexedSlices):
            return IndexedSlices(cast(x.values, kind, scope), x.indices, x.dense_shape)
        if not isinstance(x, Tensor) and hasattr(x, "dense_shape") and hasattr(x, "values"):
            return type(x)(x.indices, cast(x.values, kind, scope), x.dense_shape)
        x = convert_to_tensor(x, name="x")
        return x if x._dtype.base_dtype is kind else raw.Cast(x, DstT=kind, name=scope)


@export("saturate_cast", "dtypes.saturate_cast")
def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """As `cast`, but what does not fit becomes the nearest value that does."""
    with name_scope(name, "saturate_cast", [value]) as scope:
        value = convert_to_tensor(value, name="value")
        dtype = dtypes.as_dtype(dtype).base_dtype
        kind = value._dtype.base_dtype
        if kind.min < dtype.min:
            value = raw.Maximum(value, convert_to_tensor(dtype.min, kind, name="min"))
        if kind.max > dtype.max:
            value = raw.Minimum(value, convert_to_tensor(dtype.max, kind, name="max"))
        return cast(value, dtype, name=scope)


def _export_to(name: str, default_name: str, kind: dtypes.DType) -> None:
    def convert(x: Any, name: str | None = default_name) -> Any:
        return cast(x, kind, name=name)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"`x` cast to {kind.name}."
    export(name)(convert)


for _name, _default, _kind in (
    ("to_float", "ToFloat", dtypes.float32),
    ("to_double", "ToDouble", dtypes.float64),
    ("to_int32", "ToInt32", dtypes.int32),
    ("to_int64", "ToInt64", dtypes.int64),
    ("to_bfloat16", "ToBFloat16", dtypes.bfloat16),
    ("to_complex64", "ToComplex64", dtypes.complex64),
    ("to_complex128", "ToComplex128", dtypes.complex128),
):
    _export_to(_name, _default, _kind)


# ---- Complex numbers


@export("complex", "dtypes.complex")
def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """Complex numbers of their parts, both float32 or both float64. Raises TypeError: other types."""
    real = convert_to_tensor(real, name="real")
    imag = convert_to_tensor(imag, name="imag")
    kinds = (real._dtype.base_dtype, imag._dtype.base_dtype)
    if kinds == (dtypes.float64, dtypes.float64):
        out = dtypes.complex128
    elif kinds == (dtypes.float32, dtypes.float32):
        out = dtypes.complex64
    else:
        raise TypeError(f"real and imag have incorrect types: {kinds[0].name} {kinds[1].name}")
    return raw.Complex(real, imag, Tout=out, name=name)


@export("real", "math.real")
def real(input: Any, name: str | None = None) -> Tensor:
    """The real part; a real tensor itself."""
    with name_scope(name, "Real", [input]) as scope:
        input = convert_to_tensor(input, name="input")
        if not input._dtype.is_complex:
            return input
        return raw.Real(input, Tout=input._dtype.base_dtype.real_dtype, name=scope)


@export("imag", "math.imag")
def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part; zeros for a real tensor."""
    with name_scope(name, "Imag", [input]) as scope:
        input = convert_to_tensor(input, name="input")
        if not input._dtype.is_complex:
            return raw.ZerosLike(input, name="zeros_like")
        return raw.Imag(input, Tout=input._dtype.base_dtype.real_dtype, name=scope)


@export("angle", "math.angle")
def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument of each complex number, in radians; zeros for a real tensor."""
    with name_scope(name, "Angle", [input]) as scope:
        input = convert_to_tensor(input, name="input")
        if not input._dtype.is_complex:
            return raw.ZerosLike(input, name="zeros_like")
        return raw.Angle(input, Tout=input._dtype.base_dtype.real_dtype, name=scope)


@export("conj", "math.conj")
def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate; a real tensor itself. Raises TypeError: not numeric."""
    if x.__class__ is Tensor and (x._dtype.is_floating or x._dtype.is_integer):
        return x
    with name_scope(name, "Conj", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        if x._dtype.is_complex or x._dtype.base_dtype is dtypes.variant:
            return raw.Conj(x, name=scope)
        if x._dtype.is_floating or x._dtype.is_integer:
            return x
        raise TypeError(f"Expected numeric or variant tensor, got dtype {x._dtype!r}")


# ---- Sums of lists


def _tensors_to_add(inputs: Any, allow_slices: bool) -> list[Any]:
    kinds = "Tensor/IndexedSlices" if allow_slices else "Tensor"
    message = f"inputs must be a list of at least one {kinds} with the same dtype and shape"
    if not inputs or not isinstance(inputs, (list, tuple)):
        raise ValueError(message)
    return [x if isinstance(x, (Tensor, IndexedSlices)) else convert_to_tensor(x) for x in inputs]


@export("add_n", "math.add_n")
def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of a list of tensors of one type and shape. Raises ValueError: no list, or an empty one."""
    tensors = _tensors_to_add(inputs, True)
    if len(tensors) > 1:
        return raw.AddN(tensors, name=name)
    only = convert_to_tensor(tensors[0])
    return raw.Identity(only, name=name) if name else only


@export("accumulate_n", "math.accumulate_n")
def accumulate_n(
    inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None
) -> Tensor:
    """As `add_n`; `shape` and `tensor_dtype` say what the inputs must be.

    Raises ValueError: no list of tensors of one type, shapes that contradict. TypeError: not of tensor_dtype.
    """
    from headrace.core.tensor_shape import TensorShape, as_shape

    tensors = _tensors_to_add(inputs, False)
    kinds = {t.dtype.base_dtype for t in tensors}
    if len(kinds) > 1 or any(isinstance(t, IndexedSlices) for t in tensors):
        raise ValueError(
            "inputs must be a list of at least one Tensor with the same dtype and shape"
        )
    merged = as_shape(shape) if shape is not None else TensorShape(None)
    for tensor in tensors:
        merged = merged.merge_with(tensor.shape)
    if tensor_dtype is not None and dtypes.as_dtype(tensor_dtype) not in kinds:
        raise TypeError(f"tensor_dtype is {tensor_dtype}, but input is of type {tensors[0].dtype}")
    if len(tensors) == 1:
        return tensors[0] if name is None else raw.Identity(tensors[0], name=name)
    return raw.AccumulateNV2(tensors, shape=merged, name=name)
