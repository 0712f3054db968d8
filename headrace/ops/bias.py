"""Adding a bias to each channel: BiasAdd, BiasAddV1, BiasAddGrad."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import define

_NUMERIC = (
    "T: {float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, "
    "complex128, half, uint32, uint64}"
)
_FORMAT = "data_format: {'NHWC', 'NCHW'} = 'NHWC'"


def _channels_first(op) -> bool:
    return op.type != "BiasAddV1" and op.attr("data_format") == "NCHW"


def _channel_axis(op, rank: int) -> int:
    return 1 if _channels_first(op) else rank - 1


def _bias_add_shape(op, x, bias):
    x = shapes.at_least_rank(op, x, 3 if _channels_first(op) else 2, "value")
    (size,) = shapes.with_rank(op, bias, 1, "bias")
    if x is None:
        return None
    axis = _channel_axis(op, len(x))
    channels = shapes.merge_size(
        op, x[axis], size, f"channels of value {shapes.text(x)} and bias {shapes.text(bias)}"
    )
    return (*x[:axis], channels, *x[axis + 1 :])


def _along_channels(op, x, bias):
    """`bias` with sizes of 1, so that it broadcasts over `x`. Raises InvalidArgumentError: shapes that do not fit."""
    if x.ndim < 2:
        raise op.invalid(f"Input tensor must be at least 2D: {list(x.shape)}")
    if bias.ndim != 1:
        raise op.invalid(f"Biases must be 1D: {list(bias.shape)}")
    axis = _channel_axis(op, x.ndim)
    if bias.shape[0] != x.shape[axis]:
        raise op.invalid(
            f"Must provide as many biases as the last dimension of the input tensor: "
            f"{list(bias.shape)} vs. {list(x.shape)}"
        )
    return bias.reshape((-1,) + (1,) * (x.ndim - 1 - axis))


def _bias_add_lower(op, x, bias):
    return x + _along_channels(op, x, bias)


bias_add = define("BiasAdd", "value: T, bias: T -> output: T", f"{_NUMERIC}, {_FORMAT}")
bias_add.shape(_bias_add_shape)
bias_add.lower(_bias_add_lower)
bias_add.host(_bias_add_lower)


@bias_add.extend(0)
def _bias_add_extend(op, unfinished, bias):
    vector = _along_channels(op, unfinished, bias)
    return None if _channels_first(op) else unfinished.plus(vector)


@bias_add.gradient
def _bias_add_gradient(op, dy):
    return dy, raw.BiasAddGrad(dy, data_format=op.attr("data_format"))


bias_add_v1 = define("BiasAddV1", "value: T, bias: T -> output: T", _NUMERIC)
bias_add_v1.shape(_bias_add_shape)
bias_add_v1.lower(_bias_add_lower)
bias_add_v1.host(_bias_add_lower)
bias_add_v1.extend(0)(_bias_add_extend)


@bias_add_v1.gradient
def _bias_add_v1_gradient(op, dy):
    """The gradient of the bias: `dy` summed over all axes but the last."""
    rank = dy.shape.ndims
    if rank is not None:
        return dy, raw.Sum(dy, np.arange(rank - 1, dtype=np.int32))
    axes = raw.Range(0, raw.Sub(raw.Rank(dy), 1), 1)
    return dy, raw.Sum(dy, axes)


# ---- BiasAddGrad

bias_add_grad = define("BiasAddGrad", "out_backprop: T -> output: T", f"{_NUMERIC}, {_FORMAT}")
bias_add_grad.adds_up()


@bias_add_grad.shape
def _bias_add_grad_shape(op, dy):
    dy = shapes.at_least_rank(op, dy, 3 if _channels_first(op) else 2, "out_backprop")
    return (None,) if dy is None else (dy[_channel_axis(op, len(dy))],)


def _other_axes(op, dy) -> tuple[int, ...]:
    if dy.ndim < 2:
        raise op.invalid(f"Input tensor must be at least 2D: {list(dy.shape)}")
    axis = _channel_axis(op, dy.ndim)
    return tuple(i for i in range(dy.ndim) if i != axis)


@bias_add_grad.lower
def _bias_add_grad_lower(op, dy):
    return jnp.sum(dy, _other_axes(op, dy), dtype=dy.dtype)


@bias_add_grad.host
def _bias_add_grad_host(op, dy):
    return np.sum(dy, _other_axes(op, dy), dtype=dy.dtype)


@bias_add_grad.gradient
def _bias_add_grad_gradient(op, ddb):
    """`ddb` repeated along every axis but that of the channels."""
    dy = op.inputs[0]
    shape_of_dy = raw.Shape(dy)
    if op.attr("data_format") == "NCHW":
        rank = dy.shape.ndims
        if rank is None:
            tail = raw.Sub(raw.Rank(dy), 2)
            ones = raw.Fill(raw.ExpandDims(tail, 0), 1)
            sizes = raw.ConcatV2(
                [raw.Const(value=np.array([-1], np.int32), dtype="int32"), ones], 0
            )
        else:
            sizes = np.array([-1] + [1] * (rank - 2), np.int32)
        ddb = raw.Reshape(ddb, sizes)
    return raw.BroadcastTo(ddb, shape_of_dy)
