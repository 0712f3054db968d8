"""Convolutions of images and volumes, with the ops of their gradients: Conv2D, DepthwiseConv2dNative, Conv3D.

A convolution is linear in its input and in its filter, so the two backprop ops are its transposes in these: they are
lowered as such, and the gradient of each of the three ops is made of the other two.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.native import Geometry, finished, host
from headrace.ops.pooling_windows import windows_of
from headrace.ops.reshape import shape_of
from headrace.ops.windows import (
    Layout,
    explicit_pads,
    layout,
    output_size,
    pad_sizes,
    per_axis,
    sizes_from,
)

# ---- what the convolutions share


def _invalid(op, message: str) -> errors.InvalidArgumentError:
    """What the kernels of TensorFlow refuse when they are made: the class of errors while running, raised at once."""
    return errors.InvalidArgumentError(
        None, op, f"{op.type} op {op.name!r}: {message}{op._site_line()}"
    )


def _check_unit_axes(op, axes: Layout) -> None:
    """Refuses strides and dilations along the axes of batch and channels."""
    for name in ("strides", "dilations"):
        values = per_axis(op, name, axes.rank)
        if values[axes.batch] != 1 or values[axes.channel] != 1:
            raise _invalid(
                op,
                f"Current implementation does not yet support {name} in the batch and depth dimensions, got {values}.",
            )
        if any(value <= 0 for value in axes.pick(values)):
            raise op.error(f"{name} must be positive, got {values}.")


def _check_explicit(op, axes: Layout, refuse) -> None:
    """Refuses (with the error that `refuse` makes) explicit paddings that do not fit the attr `padding`."""
    pads = op.attr("explicit_paddings")
    if op.attr("padding") != "EXPLICIT":
        if pads:
            raise refuse(
                f"explicit_paddings attribute must be empty if the padding attribute is not EXPLICIT, got {pads}."
            )
        return
    if len(pads) != 2 * axes.rank:
        raise refuse(
            f"explicit_paddings attribute must contain {2 * axes.rank} values, but got: {len(pads)}."
        )
    if any(p < 0 for p in pads):
        raise refuse(f"All elements of explicit_paddings must be nonnegative, got {pads}.")
    for axis in (axes.batch, axes.channel):
        if pads[2 * axis] or pads[2 * axis + 1]:
            raise refuse(
                f"Nonzero explicit padding in the batch or depth dimensions is not supported, got {pads}."
            )


def _check_attrs(op, axes: Layout, refuse=None) -> None:
    _check_unit_axes(op, axes)
    if "explicit_paddings" in op._attrs:
        _check_explicit(op, axes, refuse or (lambda message: _invalid(op, message)))


def _pads(op, axes: Layout) -> list[tuple[int, int]]:
    if op.attr("padding") != "EXPLICIT":
        return [(0, 0)] * len(axes.spatial)
    return axes.pick(explicit_pads(op, axes.rank))


def _places(op, axes: Layout, x, window) -> list[int | None]:
    """The spatial sizes of the output for the static shape `x` and the window sizes `window`."""
    return [
        output_size(op, size, k, stride, dilation, op.attr("padding"), pads)
        for size, k, stride, dilation, pads in zip(
            axes.pick(x),
            window,
            axes.pick(op.attr("strides")),
            axes.pick(op.attr("dilations")),
            _pads(op, axes),
            strict=True,
        )
    ]


def _geometry(op, axes: Layout, x, w, groups: int) -> Geometry:
    """How the filters of shape `w` [spatial..., in / groups, out] move over an input of shape `x`."""
    strides, dilations = axes.pick(op.attr("strides")), axes.pick(op.attr("dilations"))
    padding = [
        pad_sizes(op, size, k, stride, dilation, op.attr("padding"), pads)
        for size, k, stride, dilation, pads in zip(
            axes.pick(x), w[:-2], strides, dilations, _pads(op, axes), strict=True
        )
    ]
    last = axes.channel == axes.rank - 1
    return Geometry(tuple(strides), tuple(padding), tuple(dilations), groups, last)


def _is_empty(*shapes_of_operands) -> bool:
    return any(0 in shape for shape in shapes_of_operands)


def _zeros(shape, like):
    return (np if isinstance(like, np.ndarray) else jnp).zeros(shape, like.dtype)


def _check_fits(op, got, computed) -> None:
    if tuple(got) != tuple(computed):
        raise op.invalid(
            f"Size of out_backprop doesn't match computed: actual = {tuple(got)}, computed = {tuple(computed)}"
        )


def _attrs(op, *names: str) -> dict:
    return {name: op.attr(name) for name in names}


# ---- Conv2D, Conv3D


def _filter_axes(op, axes: Layout, w):
    return shapes.with_rank(op, w, axes.rank, "filter")


def _convolution_shape(op, x, w):
    axes = layout(op.attr("data_format"))
    x, w = shapes.with_rank(op, x, axes.rank, "input"), _filter_axes(op, axes, w)
    _check_attrs(op, axes, op.error)
    channels, per_group, features = x[axes.channel], w[-2], w[-1]
    if channels is not None and per_group is not None:
        if per_group == 0:
            raise op.error("Depth of filter must not be 0.")
        if channels % per_group:
            raise op.error(
                f"Depth of input ({channels}) is not a multiple of input depth of filter ({per_group}): input "
                f"{shapes.text(x)}, filter {shapes.text(w)}."
            )
        groups = channels // per_group
        if groups and features is not None and features % groups:
            raise op.error(
                f"Depth of output ({features}) is not a multiple of the number of groups ({groups})."
            )
    return axes.join(x[axes.batch], _places(op, axes, x, w[:-2]), features)


def _checked_geometry(op, axes: Layout, x, w, dy=None) -> Geometry:
    """The geometry of Conv2D or Conv3D. Raises InvalidArgumentError: channels, or the gradient `dy`, do not fit."""
    channels, per_group, features = x[axes.channel], w[-2], w[-1]
    if not per_group or channels % per_group:
        raise op.invalid(
            f"input depth must be evenly divisible by filter depth: {channels} vs {per_group}"
        )
    groups = max(channels // per_group, 1)
    if features % groups:
        raise op.invalid(
            f"output depth must be evenly divisible by number of groups: {features} vs {groups}"
        )
    geometry = _geometry(op, axes, x, w, groups)
    if dy is not None:
        _check_fits(op, dy, geometry.output_shape(x, w))
    return geometry


def _convolution_lower(op, x, w, kernels=native):
    axes = layout(op.attr("data_format"))
    if _is_empty(x.shape, w.shape):
        places = _runtime_places(op, axes, x.shape, w.shape)
        return _zeros(axes.join(x.shape[axes.batch], places, w.shape[-1]), x)
    return kernels.convolve(x, w, _checked_geometry(op, axes, x.shape, w.shape))


def _runtime_places(op, axes: Layout, x, w) -> list[int]:
    """The spatial sizes of the output while the graph runs."""
    places = []
    for size, k, stride, dilation, pads in zip(
        axes.pick(x),
        w[: len(axes.spatial)],
        axes.pick(op.attr("strides")),
        axes.pick(op.attr("dilations")),
        _pads(op, axes),
        strict=True,
    ):
        before, after = pad_sizes(op, size, k, stride, dilation, op.attr("padding"), pads)
        places.append((size + before + after - (k - 1) * dilation - 1 + stride) // stride)
    return places


def _backprop_input_lower(op, input_sizes: np.ndarray, w, dy, kernels=native):
    axes = layout(op.attr("data_format"))
    x = _operand(op, axes, input_sizes, dy, "input_sizes")
    if _is_empty(x.shape, w.shape, dy.shape):
        return _zeros(x.shape, dy)
    geometry = _checked_geometry(op, axes, x.shape, w.shape, dy.shape)
    return kernels.input_gradient(dy, w, x.shape, geometry)


def _operand(op, axes: Layout, sizes: np.ndarray, dy, what: str) -> jax.ShapeDtypeStruct:
    """The operand whose shape the argument `what` describes. Raises InvalidArgumentError: of another rank."""
    shape = tuple(int(size) for size in sizes.reshape(-1))
    if len(shape) != axes.rank:
        raise op.invalid(f"{what} must hold {axes.rank} sizes, got {shape}")
    return jax.ShapeDtypeStruct(shape, dy.dtype)


def _backprop_filter_lower(op, x, filter_sizes: np.ndarray, dy, kernels=native):
    axes = layout(op.attr("data_format"))
    w = _operand(op, axes, filter_sizes, dy, "filter_sizes")
    if _is_empty(x.shape, w.shape, dy.shape):
        return _zeros(w.shape, dy)
    geometry = _checked_geometry(op, axes, x.shape, w.shape, dy.shape)
    return kernels.filter_gradient(x, dy, w.shape, geometry)


def _input_sizes_shape(op, input_sizes, w, dy):
    axes = layout(op.attr("data_format"))
    _check_attrs(op, axes)
    shapes.with_rank(op, w, axes.rank, "filter")
    dy = shapes.with_rank(op, dy, axes.rank, "out_backprop")
    sizes = sizes_from(op, 0, axes.rank)
    # The batch is that of out_backprop even where the sizes are not known.
    batch = sizes[axes.batch] if sizes[axes.batch] is not None else dy[axes.batch]
    return axes.join(batch, axes.pick(sizes), sizes[axes.channel])


def _filter_sizes_shape(op, x, filter_sizes, dy):
    axes = layout(op.attr("data_format"))
    _check_attrs(op, axes)
    shapes.with_rank(op, x, axes.rank, "input")
    shapes.with_rank(op, dy, axes.rank, "out_backprop")
    return sizes_from(op, 1, axes.rank)


def _unless_empty(rule):
    """The rule of an op as one that starts what is finished in the same call."""

    def start(op, x, w):
        return None if _is_empty(x.shape, w.shape) else rule(op, x, w, kernels=finished)

    return start


def _define_convolution(
    name: str, input_name: str, filter_name: str, attrs: str, backprop_attrs: str
) -> list[OpDef]:
    """Defines a convolution and its two backprop ops."""
    sizes = "Tshape" if "Tshape" in backprop_attrs else "int32"
    forward = define(name, "input: T, filter: T -> output: T", attrs)
    backprop_input = define(
        input_name,
        f"input_sizes: {sizes}, filter: T, out_backprop: T -> output: T",
        backprop_attrs,
        static_inputs=("input_sizes",),
    )
    backprop_filter = define(
        filter_name,
        "input: T, filter_sizes: int32, out_backprop: T -> output: T",
        attrs,
        static_inputs=("filter_sizes",),
    )
    backprop_input.shape(_input_sizes_shape)
    backprop_filter.shape(_filter_sizes_shape)
    return [forward, backprop_input, backprop_filter]


def _attach(ops: list[OpDef], *rules) -> None:
    """Attaches to each op the rule that lowers it; on the host the same rule calls other kernels."""
    for definition, rule in zip(ops, rules, strict=True):
        definition.lower(rule)
        definition.native(partial(rule, kernels=host))


def _define_gradients(ops: list[OpDef], *names: str) -> None:
    """The gradients of a convolution and of its two backprop ops, each made of the other two.

    names: the attrs that the three share.
    """
    forward, backprop_input, backprop_filter = ops
    convolve, to_input, to_filter = (
        lambda *a, **k: getattr(raw, forward.name)(*a, **k),
        lambda *a, **k: getattr(raw, backprop_input.name)(*a, **k),
        lambda *a, **k: getattr(raw, backprop_filter.name)(*a, **k),
    )

    @forward.gradient
    def _convolution_gradient(op, dy):
        x, w = op.inputs
        shape_of_x, shape_of_w = shape_of(x), shape_of(w)
        attrs = _attrs(op, *names)
        return to_input(shape_of_x, w, dy, **attrs), to_filter(x, shape_of_w, dy, **attrs)

    @backprop_input.gradient
    def _backprop_input_gradient(op, ddx):
        _, w, dy = op.inputs
        attrs = _attrs(op, *names)
        return None, to_filter(ddx, shape_of(w), dy, **attrs), convolve(ddx, w, **attrs)

    @backprop_filter.gradient
    def _backprop_filter_gradient(op, ddw):
        x, _, dy = op.inputs
        attrs = _attrs(op, *names)
        return to_input(shape_of(x), ddw, dy, **attrs), None, convolve(x, ddw, **attrs)


_CONV2D = (
    "T: {half, bfloat16, float, double}, strides: list(int), use_cudnn_on_gpu: bool = true, "
    "padding: {'SAME', 'VALID', 'EXPLICIT'}, explicit_paddings: list(int) = [], "
    "data_format: {'NHWC', 'NCHW'} = 'NHWC', dilations: list(int) = [1, 1, 1, 1]"
)

conv2d, conv2d_backprop_input, conv2d_backprop_filter = _conv2d_ops = _define_convolution(
    "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", _CONV2D, _CONV2D
)
conv2d.shape(_convolution_shape)
conv2d.start(_unless_empty(_convolution_lower))
_attach(_conv2d_ops, _convolution_lower, _backprop_input_lower, _backprop_filter_lower)
_define_gradients(
    _conv2d_ops,
    "strides",
    "padding",
    "use_cudnn_on_gpu",
    "explicit_paddings",
    "data_format",
    "dilations",
)

_CONV3D = (
    "T: {half, bfloat16, float, double}, strides: list(int) >= 5, padding: {'SAME', 'VALID'}, "
    "data_format: {'NDHWC', 'NCDHW'} = 'NDHWC', dilations: list(int) = [1, 1, 1, 1, 1]"
)

conv3d, conv3d_backprop_input, conv3d_backprop_filter = _conv3d_ops = _define_convolution(
    "Conv3D",
    "Conv3DBackpropInputV2",
    "Conv3DBackpropFilterV2",
    _CONV3D,
    f"{_CONV3D}, Tshape: {{int32, int64}} = int32",
)
conv3d.shape(_convolution_shape)
conv3d.start(_unless_empty(_convolution_lower))
_attach(_conv3d_ops, _convolution_lower, _backprop_input_lower, _backprop_filter_lower)
_define_gradients(_conv3d_ops, "strides", "padding", "data_format", "dilations")

# ---- Conv3DBackpropInput, Conv3DBackpropFilter: the first version, with a tensor in place of its sizes

_CONV3D_FIRST = (
    "T: {half, float, double}, strides: list(int) >= 5, padding: {'SAME', 'VALID'}, "
    "dilations: list(int) = [1, 1, 1, 1, 1]"
)
conv3d_backprop_input_first = define(
    "Conv3DBackpropInput", "input: T, filter: T, out_backprop: T -> output: T", _CONV3D_FIRST
)
conv3d_backprop_filter_first = define(
    "Conv3DBackpropFilter", "input: T, filter: T, out_backprop: T -> output: T", _CONV3D_FIRST
)


@conv3d_backprop_input_first.shape
def _conv3d_backprop_input_first_shape(op, x, w, dy):
    return shapes.with_rank(op, x, 5, "input")


@conv3d_backprop_filter_first.shape
def _conv3d_backprop_filter_first_shape(op, x, w, dy):
    return shapes.with_rank(op, w, 5, "filter")


@conv3d_backprop_input_first.lower
def _conv3d_backprop_input_first_lower(op, x, w, dy):
    geometry = _checked_geometry(op, layout("NDHWC"), x.shape, w.shape, dy.shape)
    return native.input_gradient(dy, w, x.shape, geometry)


@conv3d_backprop_filter_first.lower
def _conv3d_backprop_filter_first_lower(op, x, w, dy):
    geometry = _checked_geometry(op, layout("NDHWC"), x.shape, w.shape, dy.shape)
    return native.filter_gradient(x, dy, w.shape, geometry)


# TensorFlow has no gradient for these two; their successors have one.
conv3d_backprop_input_first.not_differentiable()
conv3d_backprop_filter_first.not_differentiable()

# ---- DepthwiseConv2dNative: each channel has filters of its own, [height, width, channels, multiplier]

_DEPTHWISE = (
    "T: {half, bfloat16, float, double}, strides: list(int), padding: {'SAME', 'VALID'}, "
    "data_format: {'NHWC', 'NCHW'} = 'NHWC', dilations: list(int) = [1, 1, 1, 1]"
)

depthwise, depthwise_backprop_input, depthwise_backprop_filter = _depthwise_ops = (
    _define_convolution(
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropInput",
        "DepthwiseConv2dNativeBackpropFilter",
        _DEPTHWISE,
        _DEPTHWISE,
    )
)


@depthwise.shape
def _depthwise_shape(op, x, w):
    axes = layout(op.attr("data_format"))
    x, w = shapes.with_rank(op, x, 4, "input"), shapes.with_rank(op, w, 4, "filter")
    _check_attrs(op, axes)
    channels = shapes.merge_size(op, x[axes.channel], w[2], "channels of input and filter")
    features = None if channels is None or w[3] is None else channels * w[3]
    return axes.join(x[axes.batch], _places(op, axes, x, w[:2]), features)


# Up to this many values in a window, shifted products that XLA fuses are 10 to 100 times faster than its convolution in
# as many groups as channels (measured on CPUs, forward and backward).
_MAX_SHIFTS = 25


def _depthwise_geometry(op, axes: Layout, x, w, dy=None) -> Geometry:
    """The geometry of a depthwise convolution as one in as many groups as channels. Raises InvalidArgumentError."""
    if x[axes.channel] != w[2]:
        raise op.invalid(f"input and filter must have the same depth: {x[axes.channel]} vs {w[2]}")
    geometry = _geometry(op, axes, x, (*w[:2], 1, w[2] * w[3]), w[2])
    if dy is not None:
        _check_fits(op, dy, geometry.output_shape(x, (*w[:2], 1, w[2] * w[3])))
    return geometry


def _grouped(w):
    """Depthwise filters as those of a convolution in groups."""
    return w.reshape(*w.shape[:2], 1, -1)


def _few_shifts(w, sum_of_shifts):
    """`sum_of_shifts` where windows are small enough for it, else None."""
    return sum_of_shifts if w.shape[0] * w.shape[1] <= _MAX_SHIFTS else None


def _sum_of_shifts(op, axes: Layout, x, w):
    """The sum over the offsets in a window of the input there times the filter's values for that offset."""
    height, width, channels, multiplier = w.shape
    windows = windows_of(
        op,
        x.shape,
        axes.join(1, (height, width), 1),
        op.attr("strides"),
        op.attr("padding"),
        op.attr("dilations"),
    )
    wide = jnp.promote_types(x.dtype, jnp.float32)
    # One axis more, for the multiplier, behind that of the channels.
    after = axes.channel + 1
    shape = [1] * (axes.rank + 1)
    shape[axes.channel], shape[after] = channels, multiplier
    factors = w.astype(wide).reshape(height * width, *shape)
    total = None
    for factor, values in zip(factors, windows.slices(x.astype(wide), 0), strict=True):
        term = jnp.expand_dims(values, after) * factor
        total = term if total is None else total + term
    return total.reshape(
        axes.join(x.shape[axes.batch], axes.pick(windows.places), channels * multiplier)
    ).astype(x.dtype)


def _depthwise_lower(op, x, w, kernels=native):
    axes = layout(op.attr("data_format"))
    if _is_empty(x.shape, w.shape):
        places = _runtime_places(op, axes, x.shape, w.shape)
        return _zeros(axes.join(x.shape[axes.batch], places, w.shape[2] * w.shape[3]), x)
    geometry = _depthwise_geometry(op, axes, x.shape, w.shape)
    shifts = _few_shifts(w, lambda: _sum_of_shifts(op, axes, x, w))
    return kernels.convolve(x, _grouped(w), geometry, shifts)


def _depthwise_backprop_input_lower(op, input_sizes: np.ndarray, w, dy, kernels=native):
    axes = layout(op.attr("data_format"))
    x = _operand(op, axes, input_sizes, dy, "input_sizes")
    if _is_empty(x.shape, w.shape, dy.shape):
        return _zeros(x.shape, dy)
    geometry = _depthwise_geometry(op, axes, x.shape, w.shape, dy.shape)
    shifts = _few_shifts(w, lambda: _transpose(lambda x: _sum_of_shifts(op, axes, x, w), x, dy))
    return kernels.input_gradient(dy, _grouped(w), x.shape, geometry, shifts)


def _depthwise_backprop_filter_lower(op, x, filter_sizes: np.ndarray, dy, kernels=native):
    axes = layout(op.attr("data_format"))
    w = _operand(op, axes, filter_sizes, dy, "filter_sizes")
    if _is_empty(x.shape, w.shape, dy.shape):
        return _zeros(w.shape, dy)
    geometry = _depthwise_geometry(op, axes, x.shape, w.shape, dy.shape)
    shifts = _few_shifts(w, lambda: _transpose(lambda w: _sum_of_shifts(op, axes, x, w), w, dy))
    shape = (*w.shape[:2], 1, w.shape[2] * w.shape[3])
    dw = kernels.filter_gradient(x, dy, shape, geometry, shifts)
    return None if dw is None else dw.reshape(w.shape)


def _transpose(linear, operand: jax.ShapeDtypeStruct, dy):
    """What the linear function takes `dy` back to."""
    return jax.linear_transpose(linear, operand)(dy)[0]


_attach(
    _depthwise_ops,
    _depthwise_lower,
    _depthwise_backprop_input_lower,
    _depthwise_backprop_filter_lower,
)
depthwise.start(_unless_empty(_depthwise_lower))
_define_gradients(_depthwise_ops, "strides", "padding", "data_format", "dilations")
