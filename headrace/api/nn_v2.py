"""The functions of `tf.compat.v2.nn` whose arguments differ from those of `tf.nn`."""

from __future__ import annotations

from typing import Any

from headrace.api import nn_conv, nn_convolution, nn_impl, nn_ops, nn_pool
from headrace.api.export import export
from headrace.api.random_seed import get_seed
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.tensor import Tensor


@export("compat.v2.nn.softmax_cross_entropy_with_logits")
def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: str | None = None
) -> Tensor:
    """See `tf.nn.softmax_cross_entropy_with_logits_v2`."""
    return nn_ops.softmax_cross_entropy_with_logits_v2(labels, logits, axis, name)


@export("compat.v2.nn.sparse_softmax_cross_entropy_with_logits")
def sparse_softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, name: str | None = None
) -> Tensor:
    """See `tf.nn.sparse_softmax_cross_entropy_with_logits`."""
    return nn_ops.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name=name)


@export("compat.v2.nn.sigmoid_cross_entropy_with_logits")
def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """See `tf.nn.sigmoid_cross_entropy_with_logits`."""
    return nn_impl.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, name=name)


@export("compat.v2.nn.weighted_cross_entropy_with_logits")
def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any, name: str | None = None
) -> Tensor:
    """See `tf.nn.weighted_cross_entropy_with_logits`."""
    return nn_impl.weighted_cross_entropy_with_logits(labels, logits, pos_weight, name)


@export("compat.v2.nn.dropout")
def dropout(
    x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None, name: str | None = None
) -> Tensor:
    """See `tf.nn.dropout`."""
    return nn_ops.dropout(x, noise_shape=noise_shape, seed=seed, name=name, rate=rate)


@export("compat.v2.nn.crelu")
def crelu(features: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """See `tf.nn.crelu`."""
    return nn_ops.crelu(features, name, axis)


@export("compat.v2.nn.moments")
def moments(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """See `tf.nn.moments`."""
    return nn_impl.moments(x, axes, shift, name, keepdims=keepdims)


@export("compat.v2.nn.weighted_moments")
def weighted_moments(
    x: Any, axes: Any, frequency_weights: Any, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """See `tf.nn.weighted_moments`."""
    return nn_impl.weighted_moments(x, axes, frequency_weights, name, keepdims=keepdims)


@export("compat.v2.nn.sufficient_statistics")
def sufficient_statistics(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See `tf.nn.sufficient_statistics`."""
    return nn_impl.sufficient_statistics(x, axes, shift, keepdims, name)


@export("compat.v2.nn.batch_norm_with_global_normalization")
def batch_norm_with_global_normalization(
    input: Any,
    mean: Any,
    variance: Any,
    beta: Any,
    gamma: Any,
    variance_epsilon: Any,
    scale_after_normalization: bool,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.batch_norm_with_global_normalization`."""
    return nn_impl.batch_norm_with_global_normalization(
        input, mean, variance, beta, gamma, variance_epsilon, scale_after_normalization, name
    )


# ---- convolutions


@export("compat.v2.nn.conv1d")
def conv1d(
    input: Any,
    filters: Any,
    stride: Any,
    padding: Any,
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.conv1d`."""
    return nn_conv.conv1d(
        input, filters, stride, padding, True, data_format, name, dilations=dilations
    )


@export("compat.v2.nn.conv2d")
def conv2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.conv2d`."""
    return nn_conv.conv2d(input, filters, strides, padding, True, data_format, dilations, name)


@export("compat.v2.nn.conv2d_transpose")
def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.conv2d_transpose`."""
    return nn_conv.conv2d_transpose(
        input, filters, output_shape, strides, padding, data_format, name, dilations=dilations
    )


@export("compat.v2.nn.conv3d")
def conv3d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.conv3d`."""
    dilations = [1, 1, 1, 1, 1] if dilations is None else dilations
    return nn_conv.conv3d(input, filters, strides, padding, data_format, dilations, name)


@export("compat.v2.nn.conv3d_transpose")
def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
    data_format: str | None = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.conv3d_transpose`."""
    return nn_conv.conv3d_transpose(
        input, filters, output_shape, strides, padding, data_format, name, dilations=dilations
    )


@export("compat.v2.nn.convolution")
def convolution(
    input: Any,
    filters: Any,
    strides: Any = None,
    padding: str = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.convolution`."""
    return nn_convolution.convolution(
        input, filters, padding, strides, dilations, name, data_format
    )


@export("compat.v2.nn.depthwise_conv2d")
def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: str,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.depthwise_conv2d`."""
    return nn_convolution.depthwise_conv2d(
        input, filter, strides, padding, dilations, name, data_format
    )


@export("compat.v2.nn.separable_conv2d")
def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: str,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.separable_conv2d`."""
    return nn_convolution.separable_conv2d(
        input, depthwise_filter, pointwise_filter, strides, padding, dilations, name, data_format
    )


# ---- pooling and morphology


@export("compat.v2.nn.avg_pool2d")
def avg_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.avg_pool`."""
    return nn_pool.avg_pool(input, ksize, strides, padding, data_format, name)


@export("compat.v2.nn.pool")
def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    strides: Any = None,
    padding: str = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.pool`."""
    return nn_pool.pool(
        input, window_shape, pooling_type, padding, dilations, strides, name, data_format
    )


@export("compat.v2.nn.max_pool_with_argmax")
def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    output_dtype: Any = dtypes.int64,
    include_batch_in_index: bool = False,
    name: str | None = None,
) -> Any:
    """See `tf.nn.max_pool_with_argmax`; ksize and strides may be one number, two, or four."""
    return nn_pool.max_pool_with_argmax(
        input,
        nn_conv.per_axis(ksize, 2, 3, "ksize"),
        nn_conv.per_axis(strides, 2, 3, "strides"),
        padding,
        data_format,
        output_dtype,
        name,
        include_batch_in_index=include_batch_in_index,
    )


def _need_nhwc(data_format: str) -> None:
    if data_format != "NHWC":
        raise ValueError("Data formats other than NHWC are not yet supported")


@export("compat.v2.nn.dilation2d")
def dilation2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: str,
    data_format: str,
    dilations: Any,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.dilation2d`. Raises ValueError: a data_format other than "NHWC"."""
    _need_nhwc(data_format)
    return nn_pool.dilation2d(input, filters, strides, dilations, padding, name)


@export("compat.v2.nn.erosion2d")
def erosion2d(
    value: Any,
    filters: Any,
    strides: Any,
    padding: str,
    data_format: str,
    dilations: Any,
    name: str | None = None,
) -> Tensor:
    """See `tf.nn.erosion2d`. Raises ValueError: a data_format other than "NHWC"."""
    _need_nhwc(data_format)
    return nn_pool.erosion2d(value, filters, strides, dilations, padding, name)


def _fractional(
    build: Any,
    value: Any,
    ratio: Any,
    pseudo_random: bool,
    overlapping: bool,
    seed: int,
    name: str | None,
) -> Any:
    first, second = get_seed(seed) if seed else (0, 0)
    return build(
        value,
        pooling_ratio=ratio,
        pseudo_random=pseudo_random,
        overlapping=overlapping,
        deterministic=bool(seed),
        seed=first,
        seed2=second,
        name=name,
    )


@export("compat.v2.nn.fractional_max_pool")
def fractional_max_pool(
    value: Any,
    pooling_ratio: Any,
    pseudo_random: bool = False,
    overlapping: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Any:
    """See `tf.nn.fractional_max_pool`; a seed makes the regions the same in every run."""
    ratio = nn_conv.per_axis(pooling_ratio, 2, 3, "pooling_ratio")
    return _fractional(raw.FractionalMaxPool, value, ratio, pseudo_random, overlapping, seed, name)


@export("compat.v2.nn.fractional_avg_pool")
def fractional_avg_pool(
    value: Any,
    pooling_ratio: Any,
    pseudo_random: bool = False,
    overlapping: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Any:
    """See `tf.nn.fractional_avg_pool`; a seed makes the regions the same in every run."""
    return _fractional(
        raw.FractionalAvgPool, value, pooling_ratio, pseudo_random, overlapping, seed, name
    )
