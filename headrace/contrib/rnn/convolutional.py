"""LSTMs whose inputs and states are images: the gates are convolutions."""

from __future__ import annotations

from typing import Any

from headrace.api import init_ops, join_ops
from headrace.api.export import PUBLIC
from headrace.api.get_variable import get_variable
from headrace.api.math_ops import sigmoid
from headrace.core.tensor_shape import TensorShape
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell import LSTMStateTuple
from headrace.layers.rnn_cell_base import RNNCell

tanh = PUBLIC["tanh"]


class ConvLSTMCell(RNNCell):
    """The LSTM on [batch, sizes..., channels], with convolutions in place of matrix products (Shi et al., 2015).

    conv_ndims: how many axes are convolved, 1 to 3. input_shape: [sizes..., channels] of the inputs. output_channels: of c.
    kernel_shape: along each axis. skip_connection: the inputs are joined to the output.
    Raises ValueError: input_shape of another rank.
    """

    def __init__(
        self,
        conv_ndims: int,
        input_shape: Any,
        output_channels: int,
        kernel_shape: Any,
        use_bias: bool = True,
        skip_connection: bool = False,
        forget_bias: float = 1.0,
        initializers: Any = None,
        name: str = "conv_lstm_cell",
    ) -> None:
        super().__init__(name=name)
        if conv_ndims != len(input_shape) - 1:
            raise ValueError(f"Invalid input_shape {input_shape} for conv_ndims={conv_ndims}.")
        self._conv_ndims, self._kernel_shape = conv_ndims, list(kernel_shape)
        self._output_channels, self._use_bias = output_channels, use_bias
        self._skip_connection, self._forget_bias = skip_connection, forget_bias
        sizes = list(input_shape[:-1])
        size = TensorShape([*sizes, output_channels])
        self._state_size = LSTMStateTuple(size, size)
        joined = input_shape[-1] if skip_connection else 0
        self._output_size = TensorShape([*sizes, output_channels + joined])

    @property
    def state_size(self) -> LSTMStateTuple:
        """The sizes of c and h."""
        return self._state_size

    @property
    def output_size(self) -> TensorShape:
        """The sizes of the output."""
        return self._output_size

    def _convolved(self, x: Tensor) -> Tensor:
        shape, dtype = x.shape.as_list(), x.dtype
        if len(shape) not in (3, 4, 5):
            raise ValueError(f"Conv Linear expects 3D, 4D or 5D arguments: {shape}")
        features = 4 * self._output_channels
        kernel = get_variable("kernel", [*self._kernel_shape, shape[-1], features], dtype)
        strides = 1 if len(shape) == 3 else [1] * len(shape)
        result = PUBLIC[f"nn.conv{len(shape) - 2}d"](x, kernel, strides, padding="SAME")
        if not self._use_bias:
            return result
        zeros = init_ops.Constant(0.0, dtype=dtype)
        return result + get_variable("biases", [features], dtype, initializer=zeros)

    def call(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, LSTMStateTuple]:
        """One step: the output, and (c, output)."""
        c, h = state
        axis = self._conv_ndims + 1
        gates = self._convolved(join_ops.concat([inputs, h], axis))
        i, j, f, o = join_ops.split(value=gates, num_or_size_splits=4, axis=axis)
        c = sigmoid(f + self._forget_bias) * c + sigmoid(i) * tanh(j)
        output = tanh(c) * sigmoid(o)
        if self._skip_connection:
            output = join_ops.concat([output, inputs], -1)
        return output, LSTMStateTuple(c, output)


class Conv1DLSTMCell(ConvLSTMCell):
    """ConvLSTMCell on [batch, size, channels]."""

    def __init__(self, name: str = "conv_1d_lstm_cell", **kwargs: Any) -> None:
        super().__init__(conv_ndims=1, name=name, **kwargs)


class Conv2DLSTMCell(ConvLSTMCell):
    """ConvLSTMCell on [batch, height, width, channels]."""

    def __init__(self, name: str = "conv_2d_lstm_cell", **kwargs: Any) -> None:
        super().__init__(conv_ndims=2, name=name, **kwargs)


class Conv3DLSTMCell(ConvLSTMCell):
    """ConvLSTMCell on [batch, depth, height, width, channels]."""

    def __init__(self, name: str = "conv_3d_lstm_cell", **kwargs: Any) -> None:
        super().__init__(conv_ndims=3, name=name, **kwargs)
