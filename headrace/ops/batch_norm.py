"""Batch normalisation: FusedBatchNorm in its three versions with the ops of their gradients, and its older form.

With xc = x - mean(x), r = 1 / sqrt(variance(x) + epsilon), all per channel, y = scale r xc + offset.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.native import host
from headrace.ops.softmax import is_zero
from headrace.ops.windows import layout

_FORMAT = "data_format: {'NHWC', 'NCHW'} = 'NHWC'"
_FORMAT_V3 = "data_format: {'NHWC', 'NCHW', 'NDHWC', 'NCDHW'} = 'NHWC'"
_TYPES = "T: {half, bfloat16, float}, U: {float}"
_EPSILON = "epsilon: float = 9.99999975e-05"
_TRAINING = "is_training: bool = true"

# ---- FusedBatchNorm, V2, V3


def _fused_shape(op, x, *vectors):
    axes = layout(op.attr("data_format"))
    x = shapes.with_rank(op, x, axes.rank, "x")
    channels = x[axes.channel]
    names = ("scale", "offset", "mean", "variance")
    # While training, mean and variance are computed, not taken.
    for name, vector in zip(names[: 2 if op.attr("is_training") else 4], vectors, strict=False):
        channels = shapes.merge_size(
            op, channels, shapes.with_rank(op, vector, 1, name)[0], f"channels of x and {name}"
        )
    y = axes.join(x[axes.batch], axes.pick(x), channels)
    return [y, *[(channels,)] * 4, *[None] * (len(op._outputs) - 5)]


def _per_channel(vector, axes):
    """A vector over channels with sizes of 1, so that it broadcasts over images."""
    return vector.reshape(axes.join(1, [1] * len(axes.spatial), vector.shape[0]))


def _rest(axes) -> tuple[int, ...]:
    return (axes.batch, *axes.spatial)


def _fused_lower(op, x, scale, offset, mean, variance):
    axes = layout(op.attr("data_format"))
    if x.ndim != axes.rank:
        raise op.invalid(f"input must be {axes.rank}-dimensional, got shape {x.shape}")
    training = op.attr("is_training")
    if training and (mean.size or variance.size):
        raise op.invalid(
            f"estimated_mean and estimated_variance must be empty for training, got shapes "
            f"{mean.shape}, {variance.shape}"
        )
    wide = x.astype(scale.dtype)
    count = x.size // max(x.shape[axes.channel], 1)
    corrected = variance
    if training and not count:
        mean = variance = corrected = jnp.full(scale.shape, jnp.nan, scale.dtype)
    elif training:
        mean = jnp.mean(wide, _rest(axes))
        variance = jnp.mean(jnp.square(wide - _per_channel(mean, axes)), _rest(axes))
        # What is handed out for moving averages estimates the variance of the population.
        corrected = variance * np.asarray(count / max(count - 1, 1), scale.dtype)
    r = lax.rsqrt(variance + np.asarray(op.attr("epsilon"), scale.dtype))
    y = (wide - _per_channel(mean, axes)) * _per_channel(r * scale, axes) + _per_channel(
        offset, axes
    )
    results = [y.astype(x.dtype), mean, corrected, mean, variance]
    # TF hands on what its GPU library wants back in V3; there is nothing to hand on here.
    results += [jnp.zeros((), scale.dtype)] * (op.type == "FusedBatchNormV3")
    return tuple(results)


def _fused_extend(op, unfinished, scale, offset, mean, variance):
    axes = layout(op.attr("data_format"))
    vectors = (scale, offset, mean, variance)
    if op.attr("is_training") or axes.channel != axes.rank - 1 or unfinished.ndim != axes.rank:
        return None
    if any(tuple(v.shape) != unfinished.shape[-1:] for v in vectors):
        return None
    factor = lax.rsqrt(variance + np.asarray(op.attr("epsilon"), scale.dtype)) * scale
    scaled = unfinished.times(factor)
    return scaled and scaled.plus(offset - mean * factor)


def _fused_native(op, x, scale, offset, mean, variance):
    axes, training = layout(op.attr("data_format")), op.attr("is_training")
    if x.ndim != axes.rank or (training and (mean.size or variance.size)):
        return None
    last = _channels_last(x, axes)
    given = None if training else (mean, variance)
    found = host.batch_norm(last, scale, offset, given, op.attr("epsilon"))
    if found is None:
        return None
    y, mean, variance = found
    count = last.size // last.shape[-1]
    corrected = variance * np.float32(count / max(count - 1, 1)) if training else variance
    results = [_channels_back(y, axes), mean, corrected, mean, variance]
    return results + [np.zeros((), np.float32)] * (op.type == "FusedBatchNormV3")


def _channels_last(x, axes):
    return np.moveaxis(x, axes.channel, -1)


def _channels_back(x, axes):
    return np.ascontiguousarray(np.moveaxis(x, -1, axes.channel))


def _fused_gradient(op, dy, *others):
    x, scale = op.inputs[0], op.inputs[1]
    training = op.attr("is_training")
    saved = op.outputs[3:] if training else [*op.inputs[3:5], *op.outputs[5:]]
    attrs = {n: op.attr(n) for n in ("epsilon", "data_format", "is_training")}
    build = getattr(raw, op.type.replace("Norm", "NormGrad"))
    dx, dscale, doffset, dmean, dvariance = build(dy, x, scale, *saved, **attrs)
    return (
        (dx, dscale, doffset, dmean, dvariance) if training else (dx, dscale, doffset, None, None)
    )


# ---- FusedBatchNormGrad, V2, V3


def _fused_grad_shape(op, dy, x, *vectors):
    axes = layout(op.attr("data_format"))
    dy, x = (
        shapes.with_rank(op, dy, axes.rank, "y_backprop"),
        shapes.with_rank(op, x, axes.rank, "x"),
    )
    channels = shapes.merge_size(
        op, dy[axes.channel], x[axes.channel], "channels of y_backprop and x"
    )
    for name, vector in zip(("scale", "reserve_space_1", "reserve_space_2"), vectors, strict=False):
        channels = shapes.merge_size(
            op, channels, shapes.with_rank(op, vector, 1, name)[0], f"channels of x and {name}"
        )
    dx = axes.join(dy[axes.batch], axes.pick(dy), channels)
    last = (0,) if op.attr("is_training") else (channels,)
    return [dx, (channels,), (channels,), last, last]


def _fused_grad_lower(op, dy, x, scale, mean, variance, *unused):
    axes = layout(op.attr("data_format"))
    rest = _rest(axes)
    kind = scale.dtype
    g, xc = dy.astype(kind), x.astype(kind) - _per_channel(mean, axes)
    r = lax.rsqrt(variance + np.asarray(op.attr("epsilon"), kind))
    total, total_x = jnp.sum(g, rest), jnp.sum(g * xc, rest)
    if not op.attr("is_training"):
        dx = g * _per_channel(scale * r, axes)
        zeros = jnp.zeros(scale.shape, kind)
        return dx.astype(x.dtype), total_x * r, total, zeros, zeros
    share = np.asarray(1 / max(x.size // max(x.shape[axes.channel], 1), 1), kind)
    dx = _per_channel(scale * r, axes) * (
        g - _per_channel(total * share, axes) - xc * _per_channel(total_x * share * r * r, axes)
    )
    zeros = jnp.zeros((0,), kind)
    return dx.astype(x.dtype), total_x * r, total, zeros, zeros


def _fused_grad_native(op, dy, x, scale, mean, variance, *unused):
    axes, training = layout(op.attr("data_format")), op.attr("is_training")
    if dy.shape != x.shape or x.ndim != axes.rank:
        return None
    found = host.batch_norm_gradient(
        _channels_last(dy, axes),
        _channels_last(x, axes),
        *(scale, mean, variance),
        training,
        op.attr("epsilon"),
    )
    if found is None:
        return None
    zeros = np.zeros((0,) if training else scale.shape, np.float32)
    return [_channels_back(found[0], axes), *found[1:], zeros, zeros]


class _Nodes:
    """Sums and products per channel as nodes, in single precision."""

    def __init__(self, op) -> None:
        self._axes = layout(op.attr("data_format"))
        self._epsilon = op.attr("epsilon")

    def wide(self, x):
        return raw.Cast(x, DstT="float32") if x.dtype.base_dtype.name != "float32" else x

    def row(self, vector):
        """A vector over channels, to be broadcast over images."""
        return raw.Reshape(
            vector, np.array(self._axes.join(1, [1] * len(self._axes.spatial), -1), np.int32)
        )

    def vector(self, row):
        return raw.Reshape(row, np.array([-1], np.int32))

    def mean(self, x):
        return raw.Mean(x, np.array(_rest(self._axes), np.int32), keep_dims=True)

    def sum(self, x):
        return raw.Sum(x, np.array(_rest(self._axes), np.int32), keep_dims=True)

    def root(self, variance):
        return raw.Rsqrt(raw.Add(variance, self._epsilon))


def _product(*factors):
    result = factors[0]
    for factor in factors[1:]:
        result = raw.Mul(result, factor)
    return result


def _fused_grad_gradient(op, ddx, ddscale, ddoffset, *unused):
    """The gradient of (dx, dscale, doffset) with respect to dy, x and scale.

    With g = dy, a = ddx, b = ddscale, c = ddoffset, and m(.) the mean over all but the channels, in training
        dx = scale r (g - m(g) - r^2 xc m(g xc)),  dscale = r sum(g xc),  doffset = sum(g).
    The loss is L = sum(a dx) + b dscale + c doffset; as dr/dx = -r^3 xc / n,
        dL/dg = scale r (a - m(a) - r^2 xc m(a xc)) + b r xc + c
        dL/dscale = r n (m(a g) - m(a) m(g) - r^2 m(a xc) m(g xc))
        dL/dx = -r^3 xc (scale (m(a g) - m(a) m(g)) - 3 scale r^2 m(a xc) m(g xc) + b m(g xc))
                - scale r^3 ((a - m(a)) m(g xc) + (g - m(g)) m(a xc)) + b r (g - m(g)).
    """
    nodes = _Nodes(op)
    dy, x = op.inputs[0], op.inputs[1]
    g, wide_x, a = nodes.wide(dy), nodes.wide(x), nodes.wide(ddx)
    scale, b, c = (nodes.row(v) for v in (op.inputs[2], ddscale, ddoffset))
    if op.attr("is_training"):
        xc = raw.Sub(wide_x, nodes.mean(wide_x))
        r = nodes.root(nodes.mean(raw.Square(xc)))
        second_g, second_x, second_scale = _second_in_training(nodes, g, xc, r, scale, a, b)
    else:
        xc = raw.Sub(wide_x, nodes.row(op.inputs[3]))
        r = nodes.root(nodes.row(op.inputs[4]))
        second_g = raw.Add(_product(a, scale, r), _product(b, r, xc))
        second_x = _product(b, r, g)
        second_scale = raw.Mul(r, nodes.sum(raw.Mul(a, g)))
    if not is_zero(ddoffset):
        second_g = raw.Add(second_g, c)
    if g is not dy:
        second_g = raw.Cast(second_g, DstT=dy.dtype.base_dtype)
        second_x = raw.Cast(second_x, DstT=dy.dtype.base_dtype)
    return [second_g, second_x, nodes.vector(second_scale), *[None] * (len(op.inputs) - 3)]


def _second_in_training(nodes: _Nodes, g, xc, r, scale, a, b):
    a0, g0 = raw.Sub(a, nodes.mean(a)), raw.Sub(g, nodes.mean(g))
    ax, gx = nodes.mean(raw.Mul(a, xc)), nodes.mean(raw.Mul(g, xc))
    r2 = raw.Square(r)
    along = nodes.mean(raw.Mul(a, g0))
    across = _product(r2, ax, gx)
    second_g = raw.Add(
        _product(scale, r, raw.Sub(a0, _product(r2, xc, ax))),
        _product(b, r, xc),
    )
    # n times a mean: the sum over the same elements.
    second_scale = raw.Mul(
        r, raw.Sub(nodes.sum(raw.Mul(a, g0)), _product(r2, ax, nodes.sum(raw.Mul(g, xc))))
    )
    through_r = raw.Add(raw.Mul(scale, raw.Sub(along, raw.Mul(across, 3.0))), raw.Mul(b, gx))
    through_xc = _product(scale, r2, r, raw.Add(raw.Mul(a0, gx), raw.Mul(g0, ax)))
    second_x = raw.Sub(_product(b, r, g0), raw.Add(_product(r2, r, xc, through_r), through_xc))
    return second_g, second_x, second_scale


def _define_fused(version: str, types: str, data_format: str) -> None:
    u, scale = ("T", "T") if not version else ("U", "float")
    third = version == "V3"
    forward = define(
        f"FusedBatchNorm{version}",
        f"x: T, scale: {u}, offset: {u}, mean: {u}, variance: {u} -> y: T, batch_mean: {u}, batch_variance: {u}, "
        f"reserve_space_1: {u}, reserve_space_2: {u}" + f", reserve_space_3: {u}" * third,
        f"{types}, {_EPSILON}, {data_format}, {_TRAINING}",
    )
    first = 4 if third else 3
    grad = define(
        f"FusedBatchNormGrad{version}",
        f"y_backprop: T, x: T, scale: {scale}, reserve_space_1: {u}, reserve_space_2: {u}"
        + f", reserve_space_3: {u}" * third
        + f" -> x_backprop: T, scale_backprop: {u}, offset_backprop: {u}, reserve_space_{first}: {u}, "
        f"reserve_space_{first + 1}: {u}",
        f"{types}, {_EPSILON}, {data_format}, {_TRAINING}",
    )
    _attach(forward, _fused_shape, _fused_lower, _fused_native, _fused_gradient)
    forward.extend(0)(_fused_extend)
    _attach(grad, _fused_grad_shape, _fused_grad_lower, _fused_grad_native, _fused_grad_gradient)


def _attach(definition: OpDef, shape, lower, native, gradient) -> None:
    definition.shape(shape)
    definition.lower(lower)
    definition.native(native)
    definition.gradient(gradient)


_define_fused("", "T: {float}", _FORMAT)
_define_fused("V2", _TYPES, _FORMAT)
_define_fused("V3", _TYPES, _FORMAT_V3)

# ---- BatchNormWithGlobalNormalization: the form before the fused one; mean and variance are inputs

_NUMERIC = (
    "T: {float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, "
    "complex128, half, uint32, uint64}"
)
_GLOBAL = f"{_NUMERIC}, variance_epsilon: float, scale_after_normalization: bool"

batch_norm_global = define(
    "BatchNormWithGlobalNormalization", "t: T, m: T, v: T, beta: T, gamma: T -> result: T", _GLOBAL
)
batch_norm_global_grad = define(
    "BatchNormWithGlobalNormalizationGrad",
    "t: T, m: T, v: T, gamma: T, backprop: T -> dx: T, dm: T, dv: T, db: T, dg: T",
    _GLOBAL,
)


def _merge_channels(op, t, vectors) -> tuple:
    t = shapes.with_rank(op, t, 4, "t")
    channels = t[3]
    for vector in vectors:
        channels = shapes.merge_size(
            op, channels, shapes.with_rank(op, vector, 1, "statistics")[0], "channels"
        )
    return (*t[:3], channels)


@batch_norm_global.shape
def _batch_norm_global_shape(op, t, *vectors):
    return _merge_channels(op, t, vectors)


@batch_norm_global.lower
def _batch_norm_global_lower(op, t, m, v, beta, gamma):
    r = lax.rsqrt(v + np.asarray(op.attr("variance_epsilon"), v.dtype))
    if op.attr("scale_after_normalization"):
        r = r * gamma
    return (t - m) * r + beta


@batch_norm_global.gradient
def _batch_norm_global_gradient(op, dy):
    t, m, v, _, gamma = op.inputs
    attrs = {n: op.attr(n) for n in ("variance_epsilon", "scale_after_normalization")}
    return list(raw.BatchNormWithGlobalNormalizationGrad(t, m, v, gamma, dy, **attrs))


@batch_norm_global_grad.shape
def _batch_norm_global_grad_shape(op, t, m, v, gamma, dy):
    dx = shapes.merge(op, _merge_channels(op, t, (m, v, gamma)), dy, "t and backprop")
    return [dx, *[(dx[3],)] * 4]


@batch_norm_global_grad.lower
def _batch_norm_global_grad_lower(op, t, m, v, gamma, dy):
    r = lax.rsqrt(v + np.asarray(op.attr("variance_epsilon"), v.dtype))
    scaled = op.attr("scale_after_normalization")
    factor = r * gamma if scaled else r
    total, total_x = jnp.sum(dy, (0, 1, 2)), jnp.sum(dy * (t - m), (0, 1, 2))
    dv = total_x * factor * r * r * np.asarray(-0.5, t.dtype)
    dg = total_x * r if scaled else jnp.zeros(gamma.shape, gamma.dtype)
    return dy * factor, -total * factor, dv, total, dg


batch_norm_global_grad.not_differentiable()
