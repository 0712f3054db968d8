"""Convolutions: `tf.nn.conv2d`, `tf.nn.convolution`, `tf.nn.conv2d_transpose`, `tf.nn.separable_conv2d`, ..."""

from __future__ import annotations

import collections.abc
from typing import Any

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.renamed_argument import renamed
from headrace.graph import raw
from headrace.graph.tensor import Tensor


def per_axis(value: Any, n: int, channel_index: int, name: str) -> list[Any]:
    """`value` (one number, one for each of the `n` spatial axes, or one for each axis) as a list for every axis.

    Raises ValueError: of another length.
    """
    if value is None:
        value = [1]
    elif not isinstance(value, collections.abc.Sized):
        value = [value]
    count = len(value)
    if count == n + 2:
        return list(value)
    if count not in (1, n):
        raise ValueError(f"{name} should be of length 1, {n} or {n + 2} but was {count}")
    spatial = list(value) * n if count == 1 else list(value)
    return [1, 1, *spatial] if channel_index == 1 else [1, *spatial, 1]


def _padding(padding: Any) -> tuple[str, list[int]]:
    """The attrs `padding` and `explicit_paddings`. Raises ValueError: not "SAME", "VALID" or four pairs."""
    if isinstance(padding, str) and padding == "EXPLICIT":
        raise ValueError(
            '"EXPLICIT" is not a valid value for the padding parameter. To use explicit padding, the padding parameter '
            "must be a list."
        )
    if not isinstance(padding, (list, tuple)):
        return padding, []
    for i, pair in enumerate(padding):
        if not isinstance(pair, (list, tuple)):
            raise ValueError(
                "When padding is a list, each element of padding must be a list/tuple of size 2. Element with index "
                f"{i} of padding is not a list/tuple"
            )
        if len(pair) != 2:
            raise ValueError(
                "When padding is a list, each element of padding must be a list/tuple of size 2. Element with index "
                f"{i} of padding has size {len(pair)}"
            )
    if len(padding) != 4:
        raise ValueError(
            f"When padding is a list, it must be of size 4. Got padding of size: {len(padding)}"
        )
    return "EXPLICIT", [int(p) for pair in padding for p in pair]


def channel_index(data_format: str | None, n: int) -> int:
    """The axis of the channels, with `n` spatial axes."""
    return 1 if data_format is not None and data_format.startswith("NC") else n + 1


# ---- two spatial axes


@export("nn.conv2d")
def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = [1, 1, 1, 1],  # noqa: B006
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """The 2-D convolution (without flipping) of images with filters.

    input: [batch, height, width, in]. filter: [height, width, in / groups, out]. strides,
    dilations: one number, two, or one for each axis. padding: "SAME", "VALID" or a list of four
    pairs. Returns [batch, height', width', out]. Raises ValueError: arguments or shapes that do not
    fit.
    """
    filter = renamed("filters", filters, "filter", filter)
    padding, explicit_paddings = _padding(padding)
    data_format = "NHWC" if data_format is None else data_format
    channel = channel_index(data_format, 2)
    return raw.Conv2D(
        input,
        filter,
        strides=per_axis(strides, 2, channel, "strides"),
        padding=padding,
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        explicit_paddings=explicit_paddings,
        data_format=data_format,
        dilations=per_axis(dilations, 2, channel, "dilations"),
        name=name,
    )


@export("nn.conv2d_backprop_filter")
def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = [1, 1, 1, 1],  # noqa: B006
    name: str | None = None,
) -> Tensor:
    """The gradient of `conv2d` with respect to a filter of shape `filter_sizes`."""
    padding, explicit_paddings = _padding(padding)
    return raw.Conv2DBackpropFilter(
        input,
        filter_sizes,
        out_backprop,
        strides=strides,
        padding=padding,
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        explicit_paddings=explicit_paddings,
        data_format=data_format,
        dilations=dilations,
        name=name,
    )


@export("nn.conv2d_backprop_input")
def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = [1, 1, 1, 1],  # noqa: B006
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """The gradient of `conv2d` with respect to an input of shape `input_sizes`."""
    filter = renamed("filters", filters, "filter", filter)
    padding, explicit_paddings = _padding(padding)
    return raw.Conv2DBackpropInput(
        input_sizes,
        filter,
        out_backprop,
        strides=strides,
        padding=padding,
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        explicit_paddings=explicit_paddings,
        data_format=data_format,
        dilations=dilations,
        name=name,
    )


@export("nn.conv2d_transpose")
def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: str = "SAME",
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv2d` ("deconvolution"): what its gradient does to `value`.

    value: [batch, height, width, in]. filter: [height, width, out, in]. output_shape: sizes of the result.
    """
    value = renamed("input", input, "value", value)
    filter = renamed("filters", filters, "filter", filter)
    with name_scope(name, "conv2d_transpose", [value, filter, output_shape]) as scope:
        data_format = "NHWC" if data_format is None else data_format
        channel = channel_index(data_format, 2)
        return raw.Conv2DBackpropInput(
            input_sizes=output_shape,
            filter=filter,
            out_backprop=value,
            strides=per_axis(strides, 2, channel, "strides"),
            padding=padding,
            data_format=data_format,
            dilations=per_axis(dilations, 2, channel, "dilations"),
            name=scope,
        )


# ---- one spatial axis: a convolution of images of height 1


def _format_1d(data_format: str | None) -> tuple[str, int]:
    """The 2-D data format and the axis of the width. Raises ValueError: neither NWC nor NCW."""
    if data_format in (None, "NHWC", "NWC"):
        return "NHWC", 1
    if data_format in ("NCHW", "NCW"):
        return "NCHW", 2
    raise ValueError('data_format must be "NWC" or "NCW".')


@export("nn.conv1d")
def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The 1-D convolution of sequences with filters.

    value: [batch, width, in] ([batch, in, width] where data_format is "NCW"). filters: [width, in, out].
    """
    value = renamed("input", input, "value", value)
    with name_scope(name, "conv1d", [value, filters]) as scope:
        data_format, axis = _format_1d(data_format)
        channel = 3 - axis
        result = raw.Conv2D(
            raw.ExpandDims(value, axis),
            raw.ExpandDims(filters, 0),
            strides=[1, *per_axis(stride, 1, channel, "stride")],
            padding=padding,
            use_cudnn_on_gpu=use_cudnn_on_gpu,
            data_format=data_format,
            dilations=[1, *per_axis(dilations, 1, channel, "dilations")],
            name=scope,
        )
        return raw.Squeeze(result, squeeze_dims=[axis])


@export("nn.conv1d_transpose")
def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str | None = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of `conv1d`. input: [batch, width, in]; filters: [width, out, in]; output_shape: three sizes."""
    with name_scope(name, "conv1d_transpose", [input, filters, output_shape]) as scope:
        if data_format not in (None, "NWC", "NCW"):
            raise ValueError('data_format must be "NWC" or "NCW".')
        data_format, axis = _format_1d(data_format)
        channel = 3 - axis
        if isinstance(output_shape, Tensor):
            sizes: Any = raw.ConcatV2(
                [raw.Slice(output_shape, [0], [axis]), [1], raw.Slice(output_shape, [axis], [-1])],
                0,
            )
        else:
            sizes = [*list(output_shape)[:axis], 1, *list(output_shape)[axis:]]
        result = raw.Conv2DBackpropInput(
            input_sizes=sizes,
            filter=raw.ExpandDims(filters, 0),
            out_backprop=raw.ExpandDims(input, axis),
            strides=[1, *per_axis(strides, 1, channel, "stride")],
            padding=padding,
            data_format=data_format,
            dilations=[1, *per_axis(dilations, 1, channel, "dilations")],
            name=scope,
        )
        return raw.Squeeze(result, squeeze_dims=[axis])


# ---- three spatial axes


@export("nn.conv3d")
def conv3d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NDHWC",
    dilations: Any = [1, 1, 1, 1, 1],  # noqa: B006
    name: str | None = None,
    filters: Any = None,
) -> Tensor:
    """The 3-D convolution of volumes with filters.

    input: [batch, depth, height, width, in]. filter: [depth, height, width, in, out]. strides: five numbers.
    """
    filter = renamed("filters", filters, "filter", filter)
    return raw.Conv3D(
        input,
        filter,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilations=dilations,
        name=name,
    )


@export("nn.conv3d_backprop_filter_v2", "nn.conv3d_backprop_filter")
def conv3d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    dilations: Any = [1, 1, 1, 1, 1],  # noqa: B006
    name: str | None = None,
) -> Tensor:
    """The gradient of `conv3d` with respect to a filter of shape `filter_sizes`."""
    return raw.Conv3DBackpropFilterV2(
        input,
        filter_sizes,
        out_backprop,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilations=dilations,
        name=name,
    )


@export("nn.conv3d_transpose")
def conv3d_transpose(
    value: Any,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: str = "SAME",
    data_format: str | None = "NDHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The transpose of `conv3d`. value: [batch, depth, height, width, in]; filter: [..., out, in]."""
    filter = renamed("filters", filters, "filter", filter)
    value = renamed("input", input, "value", value)
    with name_scope(name, "conv3d_transpose", [value, filter, output_shape]) as scope:
        data_format = "NDHWC" if data_format is None else data_format
        channel = channel_index(data_format, 3)
        return raw.Conv3DBackpropInputV2(
            input_sizes=output_shape,
            filter=filter,
            out_backprop=value,
            strides=per_axis(strides, 3, channel, "strides"),
            padding=padding,
            data_format=data_format,
            dilations=per_axis(dilations, 3, channel, "dilations"),
            name=scope,
        )


@export("nn.conv_transpose")
def conv_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """`conv1d_transpose`, `conv2d_transpose` or `conv3d_transpose`, by the length of `output_shape`.

    Raises ValueError: its length is not known or not 3, 4 or 5.
    """
    with name_scope(name, "conv_transpose", [input, filters, output_shape]) as scope:
        if isinstance(output_shape, Tensor):
            rank = output_shape.shape[0].value if output_shape.shape.ndims == 1 else None
        elif isinstance(output_shape, collections.abc.Sized):
            rank = len(output_shape)
        else:
            raise ValueError("output_shape must be a tensor or sized collection.")
        if rank not in (3, 4, 5):
            raise ValueError(f"output_shape must be of length 3, 4 or 5 but was {rank}.")
        transpose = {3: conv1d_transpose, 4: conv2d_transpose, 5: conv3d_transpose}[rank]
        return transpose(
            input,
            filters,
            output_shape,
            strides,
            padding=padding,
            data_format=data_format,
            dilations=dilations,
            name=scope,
        )
