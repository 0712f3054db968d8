"""Pooling: `tf.nn.max_pool`, `tf.nn.avg_pool`, `tf.nn.pool`, and the morphology of `tf.nn.dilation2d`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.nn_conv import channel_index, per_axis
from headrace.api.nn_convolution import strides_and_dilations, with_space_to_batch
from headrace.api.renamed_argument import renamed
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

_LAYOUTS = {2: "NHWC", 3: "NDHWC"}


def _pool(
    n: int,
    build: Callable[..., Tensor],
    value: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: Any,
    name: str | None,
) -> Tensor:
    """Pooling over two or three spatial axes."""
    data_format = _LAYOUTS[n] if data_format is None else data_format
    channel = channel_index(data_format, n)
    return build(
        value,
        ksize=per_axis(ksize, n, channel, "ksize"),
        strides=per_axis(strides, n, channel, "strides"),
        padding=padding,
        data_format=data_format,
        name=name,
    )


def _pool_1d(
    build: Callable[..., Tensor],
    value: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: Any,
    name: str,
) -> Tensor:
    """Pooling of sequences: of images of height 1."""
    data_format = "NWC" if data_format is None else data_format
    channel = channel_index(data_format, 1)
    axis = 1 if data_format == "NWC" else 2
    result = build(
        raw.ExpandDims(value, axis),
        ksize=[1, *per_axis(ksize, 1, channel, "ksize")],
        strides=[1, *per_axis(strides, 1, channel, "strides")],
        padding=padding,
        data_format="NHWC" if data_format == "NWC" else "NCHW",
        name=name,
    )
    return raw.Squeeze(result, squeeze_dims=[axis])


# ---- the maximum


@export("nn.max_pool")
def max_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The maximum of each window of images.

    value: [batch, height, width, channels] ([batch, channels, height, width] where data_format is
    "NCHW"). ksize, strides: one number, two, or one for each axis. padding: "SAME" or "VALID".
    Raises ValueError: a window of size 0.
    """
    value = renamed("input", input, "value", value)
    with name_scope(name, "MaxPool", [value]) as scope:
        if 0 in per_axis(ksize, 2, 3, "ksize"):
            raise ValueError("ksize cannot be zero.")
        return _pool(2, raw.MaxPool, value, ksize, strides, padding, data_format, scope)


@export("nn.max_pool2d")
def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """As `max_pool`."""
    with name_scope(name, "MaxPool2d", [input]) as scope:
        return _pool(2, raw.MaxPool, input, ksize, strides, padding, data_format, scope)


@export("nn.max_pool1d")
def max_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """The maximum of each window of sequences. input: [batch, width, channels], or as `data_format` says."""
    with name_scope(name, "MaxPool1d", [input]) as scope:
        return _pool_1d(raw.MaxPool, input, ksize, strides, padding, data_format, scope)


@export("nn.max_pool3d")
def max_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The maximum of each window of volumes. input: [batch, depth, height, width, channels]."""
    with name_scope(name, "MaxPool3D", [input]) as scope:
        return _pool(3, raw.MaxPool3D, input, ksize, strides, padding, data_format, scope)


def _any_rank(
    one: Callable[..., Tensor],
    two: Callable[..., Tensor],
    three: Callable[..., Tensor],
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
    name: str | None,
) -> Tensor:
    """Pooling over as many spatial axes as `input` has, by the public function for one, or the ops for two and three."""
    input = convert_to_tensor(input, name="input")
    rank = input.shape.ndims
    if rank is None:
        if data_format is None:
            raise ValueError("The input must have a rank or a data format must be given.")
        rank = len(data_format)
    n = rank - 2
    if not 1 <= n <= 3:
        raise ValueError(f"Input tensor must be of rank 3, 4 or 5 but was {rank}.")
    if n == 1:
        return one(input, ksize, strides, padding, data_format, name)
    build = two if n == 2 else three
    return _pool(n, build, input, ksize, strides, padding, data_format, name)


@export("nn.max_pool_v2")
def max_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The maximum of each window over one, two or three spatial axes, by the rank of `input`."""
    ops = max_pool1d, raw.MaxPool, raw.MaxPool3D
    return _any_rank(*ops, input, ksize, strides, padding, data_format, name)


@export("nn.max_pool_with_argmax")
def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    Targmax: Any = None,
    name: str | None = None,
    output_dtype: Any = None,
    include_batch_in_index: bool = False,
) -> Any:
    """The maximum of each window of images, and where it was: (output, argmax).

    argmax (int64, or `output_dtype`): index into the flattened image, or into the flattened batch where
    include_batch_in_index is set. Raises ValueError: a data_format other than "NHWC".
    """
    if data_format != "NHWC":
        raise ValueError("Data formats other than 'NHWC' are not yet supported")
    kind = renamed("output_dtype", output_dtype, "Targmax", Targmax)
    return raw.MaxPoolWithArgmax(
        input,
        ksize=ksize,
        strides=strides,
        padding=padding,
        Targmax=dtypes.int64 if kind is None else kind,
        include_batch_in_index=include_batch_in_index,
        name=name,
    )


# ---- the mean


@export("nn.avg_pool", "nn.avg_pool2d")
def avg_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Tensor:
    """The mean of each window of images; what "SAME" pads does not count.

    value: [batch, height, width, channels] ([batch, channels, height, width] where data_format is
    "NCHW"). ksize, strides: one number, two, or one for each axis.
    """
    with name_scope(name, "AvgPool", [value]) as scope:
        value = renamed("input", input, "value", value)
        return _pool(2, raw.AvgPool, value, ksize, strides, padding, data_format, scope)


@export("nn.avg_pool1d")
def avg_pool1d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NWC",
    name: str | None = None,
) -> Tensor:
    """The mean of each window of sequences. input: [batch, width, channels], or as `data_format` says."""
    with name_scope(name, "AvgPool1D", [input]) as scope:
        return _pool_1d(raw.AvgPool, input, ksize, strides, padding, data_format, scope)


@export("nn.avg_pool3d")
def avg_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Tensor:
    """The mean of each window of volumes. input: [batch, depth, height, width, channels]."""
    with name_scope(name, "AvgPool3D", [input]) as scope:
        return _pool(3, raw.AvgPool3D, input, ksize, strides, padding, data_format, scope)


@export("nn.avg_pool_v2")
def avg_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The mean of each window over one, two or three spatial axes, by the rank of `input`."""
    ops = avg_pool1d, raw.AvgPool, raw.AvgPool3D
    return _any_rank(*ops, input, ksize, strides, padding, data_format, name)


# ---- either, with dilations


@export("nn.pool")
def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    padding: str,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Tensor:
    """The maximum ("MAX") or the mean ("AVG") of windows over one, two or three spatial axes, with
    strides or dilations.

    window_shape: a size for each spatial axis. Raises ValueError: other types, ranks, "SAME" with
    dilations, strides larger than the window.
    """
    dilation_rate = renamed("dilations", dilations, "dilation_rate", dilation_rate)
    with name_scope(name, f"{pooling_type.lower()}_pool", [input]) as scope:
        input = convert_to_tensor(input, name="input")
        n = len(window_shape)
        if not 1 <= n <= 3:
            raise ValueError("It is required that 1 <= num_spatial_dims <= 3.")
        input.shape.with_rank(n + 2)
        strides, rates = strides_and_dilations(n, strides, dilation_rate)
        if padding == "SAME" and any(r > 1 for r in rates):
            raise ValueError("pooling with SAME padding is not implemented for dilation_rate > 1")
        if any(s > w for s, w in zip(strides, window_shape, strict=True)):
            raise ValueError(
                "strides > window_shape not supported due to inconsistency between CPU and GPU implementations"
            )
        kinds = {"MAX": (max_pool, max_pool, max_pool3d), "AVG": (avg_pool, avg_pool, avg_pool3d)}
        if pooling_type not in kinds:
            raise ValueError(f"{n}-D {pooling_type} pooling is not supported.")
        channels_first = channel_index(data_format, n) == 1
        before, after = ([1, 1], []) if channels_first else ([1], [1])
        axes = list(range(len(before), len(before) + n))
        window, steps = [*before, *window_shape, *after], [*before, *strides, *after]
        if n == 1:
            if data_format not in (None, "NWC", "NCW"):
                raise ValueError('data_format must be either "NWC" or "NCW".')
            format_of_op: str | None = "NCHW" if channels_first else "NHWC"
            window, steps = [1, *window], [1, *steps]
        else:
            format_of_op = data_format

        def apply(converted: Tensor, _: int, padding: str) -> Tensor:
            if n == 1:
                converted = raw.ExpandDims(converted, axes[0])
            result = kinds[pooling_type][n - 1](
                converted, window, steps, padding, data_format=format_of_op, name=scope
            )
            return raw.Squeeze(result, squeeze_dims=[axes[0]]) if n == 1 else result

        return with_space_to_batch(
            input,
            np.array(rates, np.int32),
            padding,
            apply,
            filter_shape=window_shape,
            spatial_dims=axes,
        )


# ---- morphology


@export("nn.dilation2d")
def dilation2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: Any = None,
    name: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Tensor:
    """The grayscale dilation of images: the maximum over each window of the input plus the filter.

    input: [batch, height, width, channels]. filter: [height, width, channels]. strides, rates: four numbers.
    """
    return raw.Dilation2D(
        input,
        renamed("filters", filters, "filter", filter),
        strides=strides,
        rates=renamed("dilations", dilations, "rates", rates),
        padding=padding,
        name=name,
    )


@export("nn.erosion2d")
def erosion2d(
    value: Any, kernel: Any, strides: Any, rates: Any, padding: str, name: str | None = None
) -> Tensor:
    """The grayscale erosion of images: the minimum over each window of the input minus the kernel.

    value: [batch, height, width, channels]. kernel: [height, width, channels]. strides, rates: four numbers.
    """
    with name_scope(name, "erosion2d", [value, kernel]) as scope:
        dilated = raw.Dilation2D(
            raw.Neg(value),
            raw.ReverseV2(kernel, [0, 1]),
            strides=strides,
            rates=rates,
            padding=padding,
            name=scope,
        )
        return raw.Neg(dilated)


# ---- pooling by a factor that is not a whole number

_FRACTIONAL = "value, pooling_ratio, pseudo_random=False, overlapping=False, deterministic=False, seed=0, seed2=0"
export_op(
    "FractionalMaxPool",
    _FRACTIONAL,
    "nn.fractional_max_pool",
    doc="The maximum over random regions whose sizes are pooling_ratio [1, rows, columns, 1] on "
    "average; with the regions' "
    "borders: (output, row_pooling_sequence, col_pooling_sequence).",
)
export_op(
    "FractionalAvgPool",
    _FRACTIONAL,
    "nn.fractional_avg_pool",
    doc="The mean over random regions whose sizes are pooling_ratio [1, rows, columns, 1] on "
    "average; with the regions' "
    "borders: (output, row_pooling_sequence, col_pooling_sequence).",
)
