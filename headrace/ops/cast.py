"""From one element type to another: Cast, Bitcast, Bucketize, and the parts of complex numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from headrace.core import dtypes, errors
from headrace.graph import raw, shapes
from headrace.graph.convert import convert_to_tensor
from headrace.graph.op_def import define
from headrace.ops.broadcasting import broadcast_values, reduce_pair
from headrace.ops.elementwise import scalar_like, zeros_like

# ---- Cast

cast = define("Cast", "x: SrcT -> y: DstT", "SrcT: type, DstT: type, Truncate: bool = false")
cast.shape(shapes.unchanged)


def _is_complex(kind: Any) -> bool:
    return np.issubdtype(kind, np.complexfloating)


def _carrier(target: np.dtype) -> np.dtype:
    """The type through which a processor converts floating numbers to the integer type `target`."""
    return np.dtype(np.int32 if target.itemsize <= 2 or target == np.int32 else np.int64)


@cast.lower
def _cast_lower(op, x):
    target = op.output_dtype(0).np_dtype
    if _is_complex(x.dtype) and not _is_complex(target) and target != np.bool_:
        x = lax.real(x)
    if target == np.bool_:
        return x != jnp.zeros((), x.dtype)
    floating = jnp.issubdtype(x.dtype, np.floating)
    if floating and np.issubdtype(target, np.integer):
        return _float_to_integer(x, target)
    if op.attr("Truncate") and floating and jnp.issubdtype(target, np.floating):
        x = _drop_low_bits(x, target)
    return lax.convert_element_type(x, target)


def _float_to_integer(x, target):
    # XLA saturates; TF's processors give the smallest value of the carrier for what does not fit, then cut bits off.
    carrier = _carrier(target)
    wide = lax.convert_element_type(x, carrier)
    limits = np.iinfo(carrier)
    if x.dtype == np.float16:
        fits = jnp.isfinite(x)
    else:
        edge = np.asarray(2.0 ** (8 * carrier.itemsize - 1), x.dtype)
        fits = (x >= -edge) & (x < edge)
    wide = jnp.where(fits, wide, np.asarray(limits.min, carrier))
    out = lax.convert_element_type(wide, target)
    if target == np.uint64 and x.dtype != np.float16:
        out = jnp.where(x >= edge, lax.convert_element_type(x, target), out)
    return out


def _drop_low_bits(x, target):
    """`x` rounded towards zero to the mantissa of `target`, so that the conversion is exact."""
    own, other = jnp.finfo(x.dtype), jnp.finfo(target)
    surplus = own.nmant - other.nmant
    if surplus <= 0:
        return x
    bits = np.dtype(f"u{x.dtype.itemsize}")
    mask = np.asarray((1 << (8 * x.dtype.itemsize)) - (1 << surplus), bits)
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, bits) & mask, x.dtype)


@cast.host
def _cast_host(op, x):
    target = op.output_dtype(0).np_dtype
    if x.dtype == target:
        return x
    if object in (x.dtype, target):
        kinds = op.attr("SrcT").name, op.attr("DstT").name
        message = f"Cast op {op.name!r}: Cast {kinds[0]} to {kinds[1]} is not supported"
        raise errors.UnimplementedError(None, op if hasattr(op, "graph") else None, message)
    if _is_complex(x.dtype) and not _is_complex(target) and target != np.bool_:
        x = x.real
    floating = x.dtype.kind == "f" or x.dtype == ml_dtypes.bfloat16
    if floating and target.kind in "iu":
        if x.dtype.itemsize == 2:
            x = x.astype(np.float32)
        wide = x.astype(_carrier(target)).astype(target)
        return np.where(x >= 2.0**63, x.astype(target), wide) if target == np.uint64 else wide
    if op.attr("Truncate") and floating and op.output_dtype(0).is_floating:
        return np.asarray(_drop_low_bits(x, target)).astype(target)
    return x.astype(target)


@cast.partial
def _cast_partial(op):
    from headrace.graph.constant_value import partial_sizes

    source = op.inputs[0]
    return (
        partial_sizes(source) if source.dtype.is_integer and op.output_dtype(0).is_integer else None
    )


@cast.gradient
def _cast_gradient(op, dy):
    source, target = op.inputs[0].dtype.base_dtype, dy.dtype.base_dtype
    if all(t.is_floating or t.is_complex for t in (source, target)):
        return dy if source is target else raw.Cast(dy, DstT=source)
    return None


# ---- Bitcast

_BITS = (
    "bfloat16, half, float, double, int64, int32, uint8, uint16, uint32, uint64, int8, int16, complex64, complex128, "
    "qint8, quint8, qint16, quint16, qint32"
)

bitcast = define("Bitcast", "input: T -> output: type", f"T: {{{_BITS}}}, type: {{{_BITS}}}")


@bitcast.shape
def _bitcast_shape(op, x):
    source, target = op.inputs[0].dtype.size, op.attr("type").size
    if x is None or source == target:
        return x
    if source > target:
        return (*x, source // target)
    ratio = target // source
    if not x:
        raise op.error(f"Cannot bitcast a scalar of {source} bytes to a type of {target} bytes.")
    if x[-1] is not None and x[-1] != ratio:
        raise op.error(
            f"Cannot bitcast due to shape. {x[-1]} does not match {ratio}: the last size of {shapes.text(x)} "
            "must be the ratio of the sizes of the types."
        )
    return x[:-1]


@bitcast.lower
def _bitcast_lower(op, x):
    target = op.output_dtype(0).np_dtype
    if _is_complex(x.dtype):
        if x.dtype == target:
            return x
        x = jnp.stack([lax.real(x), lax.imag(x)], axis=-1)
        if _is_complex(target):
            return _pairs_to_complex(_bitcast_reals(x, target))
        if np.dtype(target).itemsize > x.dtype.itemsize:
            return lax.bitcast_convert_type(x, target)
        out = lax.bitcast_convert_type(x, target)
        return out.reshape((*x.shape[:-2], -1)) if out.ndim > x.ndim else out
    if _is_complex(target):
        return _pairs_to_complex(_bitcast_reals(x, target))
    return lax.bitcast_convert_type(x, target)


def _bitcast_reals(x, target):
    """`x` as pairs (real, imaginary) of the complex type `target`, along a last axis of size 2."""
    real = np.dtype(target).type(0).real.dtype
    if real.itemsize == x.dtype.itemsize:
        return lax.bitcast_convert_type(x, real)
    if real.itemsize < x.dtype.itemsize:
        return lax.bitcast_convert_type(x, real)
    return lax.bitcast_convert_type(x.reshape((*x.shape[:-1], 2, -1)), real)


def _pairs_to_complex(pairs):
    return lax.complex(pairs[..., 0], pairs[..., 1])


@bitcast.host
def _bitcast_host(op, x):
    target = op.output_dtype(0).np_dtype
    if x.dtype.itemsize == target.itemsize:
        return np.ascontiguousarray(x).view(target).reshape(x.shape)
    if x.dtype.itemsize > target.itemsize:
        return np.ascontiguousarray(x[..., None]).view(target)
    return np.ascontiguousarray(x).view(target)[..., 0]


bitcast.not_differentiable()

# ---- Bucketize

bucketize = define(
    "Bucketize",
    "input: T -> output: int32",
    "T: {int32, int64, float, double}, boundaries: list(float)",
)


bucketize.shape(shapes.unchanged)


def _boundaries(op):
    boundaries = np.asarray(op.attr("boundaries"), np.float32)
    if (boundaries[1:] < boundaries[:-1]).any():
        raise op.invalid("Expected sorted boundaries")
    return boundaries


@bucketize.lower
def _bucketize_lower(op, x):
    boundaries = _boundaries(op).astype(np.float64)
    return jnp.searchsorted(boundaries, x.astype(np.float64), side="right").astype(np.int32)


@bucketize.host
def _bucketize_host(op, x):
    return np.searchsorted(_boundaries(op), x, side="right").astype(np.int32)


bucketize.not_differentiable()

# ---- Complex numbers: Complex, Real, Imag, Conj, Angle, ComplexAbs

complex_ = define(
    "Complex",
    "real: T, imag: T -> out: Tout",
    "T: {float, double} = float, Tout: {complex64, complex128} = complex64",
)
complex_.shape(shapes.broadcast)


@complex_.lower
def _complex_lower(op, real, imag):
    return lax.complex(*broadcast_values(real, imag)).astype(op.output_dtype(0).np_dtype)


@complex_.host
def _complex_host(op, real, imag):
    out = np.empty(np.broadcast_shapes(real.shape, imag.shape), op.output_dtype(0).np_dtype)
    out.real, out.imag = real, imag
    return out


@complex_.gradient
def _complex_gradient(op, dz):
    x, y = op.inputs
    kind = x.dtype.base_dtype
    return reduce_pair(x, y, raw.Real(dz, Tout=kind), raw.Imag(dz, Tout=kind))


_PART = "T: {complex64, complex128} = complex64, Tout: {float, double} = float"


def _part(name, lower, host, arguments="input: T -> output: Tout"):
    definition = define(name, arguments, _PART)
    definition.shape(shapes.unchanged)
    definition.lower(lambda op, x: lower(x).astype(op.output_dtype(0).np_dtype))
    definition.host(lambda op, x: np.asarray(host(x), op.output_dtype(0).np_dtype))
    return definition


def _complex_of(real, imag):
    """A `Complex` node of two real tensors, of which one may be an array."""
    real, imag = convert_to_tensor(real), convert_to_tensor(imag)
    single = real.dtype.base_dtype is dtypes.float32
    return raw.Complex(real, imag, Tout=dtypes.complex64 if single else dtypes.complex128)


real = _part("Real", lax.real, np.real)


@real.gradient
def _real_gradient(op, dy):
    return _complex_of(dy, scalar_like(0, dy))


imag = _part("Imag", lax.imag, np.imag)


@imag.gradient
def _imag_gradient(op, dy):
    return _complex_of(scalar_like(0, dy), dy)


angle = _part("Angle", jnp.angle, np.angle)


@angle.gradient
def _angle_gradient(op, dy):
    x = op.inputs[0]
    kind = dy.dtype.base_dtype
    swapped = _complex_of(raw.Imag(x, Tout=kind), raw.Real(x, Tout=kind))
    return raw.Mul(raw.Neg(_complex_of(dy, scalar_like(0, dy))), raw.Reciprocal(swapped))


complex_abs = _part("ComplexAbs", lax.abs, np.abs, "x: T -> y: Tout")


@complex_abs.gradient
def _complex_abs_gradient(op, dy):
    y = op.outputs[0]
    return raw.DivNoNan(
        raw.Mul(_complex_of(dy, zeros_like(dy)), op.inputs[0]), _complex_of(y, zeros_like(y))
    )


conj = define("Conj", "input: T -> output: T", "T: {complex64, complex128, variant} = complex64")
conj.shape(shapes.unchanged)
conj.lower(lambda op, x: lax.conj(x))
conj.host(lambda op, x: np.conj(x) if x.dtype.kind == "c" else x)
conj.gradient(lambda op, dy: raw.Conj(dy))
