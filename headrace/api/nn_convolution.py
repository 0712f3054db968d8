"""Convolutions of any rank, with dilations, by channel: `tf.nn.convolution`, `tf.nn.separable_conv2d`, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.nn_conv import channel_index, conv1d, conv2d, per_axis
from headrace.api.renamed_argument import renamed
from headrace.core.tensor_shape import as_shape
from headrace.graph import raw
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

# ---- any number of spatial axes


def strides_and_dilations(n: int, strides: Any, dilations: Any) -> tuple[list[int], list[int]]:
    """Both as lists of `n` numbers. Raises ValueError: other lengths, numbers below 1, both with numbers above 1."""
    checked = []
    for name, values in (("strides", strides), ("dilation_rate", dilations)):
        values = [1] * n if values is None else [int(v) for v in values]
        if len(values) != n:
            raise ValueError(f"len({name})={len(values)} but should be {n}")
        if any(v < 1 for v in values):
            raise ValueError(f"all values of {name} must be positive")
        checked.append(values)
    if any(s > 1 for s in checked[0]) and any(d > 1 for d in checked[1]):
        raise ValueError("strides > 1 not supported in conjunction with dilation_rate > 1")
    return checked[0], checked[1]


@export("nn.convolution")
def convolution(
    input: Any,
    filter: Any,
    padding: str,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The convolution of `input` with `filter` over one, two or three spatial axes, with strides or dilations.

    input: [batch, spatial..., in] (channels first where data_format is "NC..."). filter: [spatial..., in, out].
    Raises ValueError: unknown ranks, strides together with dilations, channels that do not fit.
    """
    filter = renamed("filters", filters, "filter", filter)
    dilation_rate = renamed("dilations", dilations, "dilation_rate", dilation_rate)
    input, filter = convert_to_tensor(input, name="input"), convert_to_tensor(filter, name="filter")
    rank = input.shape.ndims if input.shape.ndims is not None else filter.shape.ndims
    if rank is None:
        raise ValueError("rank of input or filter must be known")
    n = rank - 2
    if not 1 <= n <= 3:
        raise ValueError(f"Input tensor must be of rank 3, 4 or 5 but was {rank}.")
    channel = channel_index(data_format, n)
    strides = per_axis(strides, n, channel, "strides")
    rates = per_axis(dilation_rate, n, channel, "dilations")
    with name_scope(name, "convolution", [input, filter]) as scope:
        if any(r != 1 for r in rates):
            first = 2 if channel == 1 else 1
            strides_and_dilations(n, strides[first : first + n], rates[first : first + n])
            channels = as_shape(input.shape).with_rank(n + 2)[channel]
            if not channels.is_compatible_with(filter.shape.with_rank(n + 2)[n]):
                raise ValueError(
                    "number of input channels does not match corresponding dimension of filter, "
                    f"{channels} != {filter.shape[n]}"
                )
        if n == 1:
            return conv1d(
                input,
                filter,
                strides,
                padding,
                data_format=data_format,
                dilations=rates,
                name=scope,
            )
        build = raw.Conv2D if n == 2 else raw.Conv3D
        # TF differs: it spreads dilated inputs over the batch (SpaceToBatchND); XLA dilates in the convolution itself.
        return build(
            input,
            filter,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilations=rates,
            name=scope,
        )


@export("nn.atrous_conv2d")
def atrous_conv2d(
    value: Any, filters: Any, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """`conv2d` with filters whose elements lie `rate` apart."""
    return convolution(value, filters, padding, dilation_rate=[rate, rate], name=name)


@export("nn.atrous_conv2d_transpose")
def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """The transpose of `atrous_conv2d`. value: [batch, height, width, in]; filters: [height, width, out, in].

    Raises ValueError: a rate below 1, channels that do not fit, a padding other than "SAME" and "VALID".
    """
    with name_scope(name, "atrous_conv2d_transpose", [value, filters, output_shape]) as scope:
        value = convert_to_tensor(value, name="value")
        filters = convert_to_tensor(filters, name="filters")
        if not value.shape[3].is_compatible_with(filters.shape[3]):
            raise ValueError(
                f"value's input channels does not match filters' input channels, {value.shape[3]} != {filters.shape[3]}"
            )
        if rate < 1:
            raise ValueError(f"rate {rate} cannot be less than one")
        sizes = convert_to_tensor(output_shape, name="output_shape")
        if not sizes.shape.is_compatible_with(as_shape([4])):
            raise ValueError(f"output_shape must have shape (4,), got {sizes.shape}")
        if isinstance(output_shape, (list, tuple, np.ndarray)) and not filters.shape[
            2
        ].is_compatible_with(output_shape[3]):
            raise ValueError(
                f"output_shape does not match filter's output channels, {output_shape[3]} != {filters.shape[2]}"
            )
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding must be either VALID or SAME: {padding}")
        return raw.Conv2DBackpropInput(
            sizes,
            filters,
            value,
            strides=[1, 1, 1, 1],
            padding=padding,
            dilations=[1, rate, rate, 1],
            name=scope,
        )


# ---- by channel: depthwise and separable convolutions

depthwise_conv2d_native = export_op(
    "DepthwiseConv2dNative",
    "input, filter, strides, padding, data_format='NHWC', dilations=[1, 1, 1, 1]",
    "nn.depthwise_conv2d_native",
    doc="A 2-D convolution of each channel with filters of its own: filter [height, width, channels, multiplier].",
)
export_op(
    "DepthwiseConv2dNativeBackpropInput",
    "input_sizes, filter, out_backprop, strides, padding, data_format='NHWC', dilations=[1, 1, 1, 1]",
    "nn.depthwise_conv2d_native_backprop_input",
    "nn.depthwise_conv2d_backprop_input",
    doc="The gradient of `depthwise_conv2d_native` with respect to its input.",
)
export_op(
    "DepthwiseConv2dNativeBackpropFilter",
    "input, filter_sizes, out_backprop, strides, padding, data_format='NHWC', dilations=[1, 1, 1, 1]",
    "nn.depthwise_conv2d_native_backprop_filter",
    "nn.depthwise_conv2d_backprop_filter",
    doc="The gradient of `depthwise_conv2d_native` with respect to its filter.",
)


@export("nn.depthwise_conv2d")
def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: str,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """A 2-D convolution of each channel with filters of its own.

    input: [batch, height, width, channels]. filter: [height, width, channels, multiplier]. rate: two numbers.
    Returns [batch, height', width', channels * multiplier].
    """
    rate = renamed("dilations", dilations, "rate", rate)
    with name_scope(name, "depthwise", [input, filter]) as scope:
        input = convert_to_tensor(input, name="tensor_in")
        filter = convert_to_tensor(filter, name="filter_in")
        return _depthwise(input, filter, strides, padding, rate, data_format, scope)


def _depthwise(
    input: Tensor,
    filter: Tensor,
    strides: Any,
    padding: str,
    rate: Any,
    data_format: str | None,
    name: str,
) -> Tensor:
    def convolve(converted: Tensor, _: int, padding: str) -> Tensor:
        return raw.DepthwiseConv2dNative(
            converted, filter, strides=strides, padding=padding, data_format=data_format, name=name
        )

    return with_space_to_batch(
        input,
        [1, 1] if rate is None else rate,
        padding,
        convolve,
        filter_shape=filter.shape[:2] if filter.shape[:2].is_fully_defined() else raw.Shape(filter),
        data_format=data_format,
    )


@export("nn.separable_conv2d")
def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: str,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """`depthwise_conv2d`, then `conv2d` with filters of size 1 that mix the channels.

    depthwise_filter: [height, width, channels, multiplier]. pointwise_filter: [1, 1, channels * multiplier, out].
    """
    rate = renamed("dilations", dilations, "rate", rate)
    with name_scope(name, "separable_conv2d", [input, depthwise_filter, pointwise_filter]) as scope:
        input = convert_to_tensor(input, name="tensor_in")
        depthwise_filter = convert_to_tensor(depthwise_filter, name="depthwise_filter")
        pointwise_filter = convert_to_tensor(pointwise_filter, name="pointwise_filter")
        mixing = pointwise_filter.shape.with_rank(4)
        mixing[0].assert_is_compatible_with(1)
        mixing[1].assert_is_compatible_with(1)
        depthwise = _depthwise(
            input, depthwise_filter, strides, padding, rate, data_format, "depthwise"
        )
        return conv2d(
            depthwise,
            pointwise_filter,
            [1, 1, 1, 1],
            padding="VALID",
            data_format="NHWC" if data_format is None else data_format,
            name=scope,
        )


# ---- dilations by moving space into the batch


@export("nn.with_space_to_batch")
def with_space_to_batch(
    input: Any,
    dilation_rate: Any,
    padding: str,
    op: Callable[[Tensor, int, str], Tensor],
    filter_shape: Any = None,
    spatial_dims: Any = None,
    data_format: str | None = None,
) -> Tensor:
    """`op(input, n, padding)` with its window dilated: on every dilation_rate-th element of the spatial axes.

    dilation_rate: n numbers; where they are all 1, `op` is applied as it is. filter_shape: sizes of the window, which
    "SAME" needs. spatial_dims: the axes, those after the batch (and the channels in "NC...") where None.
    Raises ValueError: rates below 1, axes that do not ascend, a rank that is too low.
    """
    input = convert_to_tensor(input, name="input")
    rates = convert_to_tensor(dilation_rate, dtype="int32", name="dilation_rate")
    if rates.shape.ndims not in (None, 1):
        raise ValueError("rate must be rank 1")
    if not rates.shape.is_fully_defined():
        raise ValueError("rate must have known shape")
    n = rates.shape[0].value
    channels_first = data_format is not None and data_format.startswith("NC")
    first = 2 if channels_first else 1
    axes = list(range(first, n + first)) if spatial_dims is None else [int(a) for a in spatial_dims]
    if axes != sorted(set(axes)) or any(a < 1 for a in axes):
        raise ValueError(
            f"spatial_dims must be a monotonically increasing sequence of positive integers, got {axes}"
        )
    needed = axes[-1] if channels_first else axes[-1] + 1
    if input.shape.ndims is not None and input.shape.ndims < needed:
        raise ValueError(f"input tensor must have rank {needed} at least, got shape {input.shape}")
    known = constant_value(rates)
    if known is not None:
        if (known < 1).any():
            raise ValueError(f"dilation_rate must be positive, got {known}")
        if (known == 1).all():
            return op(input, n, padding)
    base = _base_paddings(padding, filter_shape, n, rates if known is None else known)
    shape_of_space = input.shape.as_list() if input.shape.ndims is not None else None
    if shape_of_space is not None and None not in [shape_of_space[a] for a in axes]:
        space: Any = np.array([shape_of_space[a] for a in axes], np.int32)
    else:
        space = raw.GatherV2(raw.Shape(input), np.array(axes, np.int32), 0)
    paddings, crops = _block_paddings(space, base, rates if known is None else known)
    # The blocks cover the axes from the first after the batch to the last of `axes`.
    gap = [a for a in range(1, axes[-1] + 1) if a not in axes]
    order = np.argsort([*axes, *gap], kind="stable").astype(np.int32)
    result = op(
        raw.SpaceToBatchND(
            input,
            _with_gap(rates if known is None else known, gap, order, 1),
            _with_gap(paddings, gap, order, 0),
        ),
        n,
        "VALID",
    )
    return raw.BatchToSpaceND(
        result,
        _with_gap(rates if known is None else known, gap, order, 1),
        _with_gap(crops, gap, order, 0),
    )


def _base_paddings(padding: str, filter_shape: Any, n: int, rates: Any) -> Any:
    """What "SAME" pads around each of `n` axes: [n, 2], an array or a tensor."""
    if padding == "VALID":
        return np.zeros((n, 2), np.int32)
    if padding != "SAME":
        raise ValueError(f"Invalid padding method {padding!r}")
    if filter_shape is None:
        raise ValueError("filter_shape must be specified for SAME padding")
    window = convert_to_tensor(filter_shape, name="filter_shape")
    known = constant_value(window)
    if known is not None and isinstance(rates, np.ndarray):
        extra = (known[:n] - 1) * rates
        return np.stack([extra // 2, extra - extra // 2], axis=1).astype(np.int32)
    extra = raw.Mul(raw.Sub(raw.Slice(window, [0], [n]), 1), rates)
    before = raw.FloorDiv(extra, 2)
    return raw.Pack([before, raw.Sub(extra, before)], axis=1)


def _block_paddings(space: Any, base: Any, rates: Any) -> tuple[Any, Any]:
    """The paddings that make each axis a multiple of its rate, and the crops that take back what was added for that."""
    if all(isinstance(v, np.ndarray) for v in (space, base, rates)):
        total = space + base.sum(1)
        extra = -total % rates
        paddings = np.stack([base[:, 0], base[:, 1] + extra], axis=1).astype(np.int32)
        return paddings, np.stack([np.zeros_like(extra), extra], axis=1).astype(np.int32)
    start, end = raw.Unpack(convert_to_tensor(base), num=2, axis=1)
    total = raw.AddV2(raw.AddV2(start, end), space)
    extra = raw.FloorMod(raw.Neg(total), rates)
    zeros = raw.ZerosLike(extra)
    return raw.Pack([start, raw.AddV2(end, extra)], axis=1), raw.Pack([zeros, extra], axis=1)


def _with_gap(values: Any, gap: list[int], order: np.ndarray, fill: int) -> Any:
    """`values` with rows of `fill` for the axes in `gap`, in the order of the axes."""
    if not gap:
        return values
    rows = np.full((len(gap), *values.shape[1:]), fill, np.int32)
    if isinstance(values, np.ndarray):
        return np.concatenate([values, rows])[order]
    return raw.GatherV2(raw.ConcatV2([values, rows], 0), order, 0)
