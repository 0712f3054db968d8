"""Cells that compute what cuDNN's networks compute, step by step, from variables of their own."""

from __future__ import annotations

from typing import Any

from headrace.api import init_ops, join_ops
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.contrib.rnn.cells import LSTMBlockCell
from headrace.core import dtypes
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell import GRUCell


class CudnnCompatibleLSTMCell(LSTMBlockCell):
    """The LSTM of `CudnnLSTM`: nothing is added to the forget gate, no peepholes."""

    def __init__(self, num_units: int, reuse: Any = None) -> None:
        super().__init__(num_units, forget_bias=0, reuse=reuse, name="cudnn_compatible_lstm_cell")


class CudnnCompatibleGRUCell(GRUCell):
    """The GRU of `CudnnGRU`: the reset gate multiplies what comes of the state, after its product and bias.

    `tf.nn.rnn_cell.GRUCell` multiplies the state itself, which gives other numbers and has one bias fewer.
    """

    def __init__(self, num_units: int, reuse: Any = None, kernel_initializer: Any = None) -> None:
        super().__init__(
            num_units, activation=None, reuse=reuse, kernel_initializer=kernel_initializer
        )

    def build(self, input_shape: Any) -> None:
        """Makes the kernels and biases of the gates, and of both halves of the candidate."""
        depth, units = self._depth_of(input_shape), self._num_units
        kernel, bias = self._kernel_initializer, self._bias_initializer
        ones = init_ops.Constant(1.0, dtype=self.dtype or dtypes.float32)
        self._gate_kernel = self.add_variable(
            "gates/kernel", shape=[depth + units, 2 * units], initializer=kernel
        )
        self._gate_bias = self.add_variable(
            "gates/bias", shape=[2 * units], initializer=ones if bias is None else bias
        )
        kernels = [
            self.add_variable(
                f"candidate/{half}_projection/kernel", shape=[rows, units], initializer=kernel
            )
            for half, rows in (("input", depth), ("hidden", units))
        ]
        biases = [
            self.add_variable(
                f"candidate/{half}_projection/bias",
                shape=[units],
                initializer=self._zeros() if bias is None else bias,
            )
            for half in ("input", "hidden")
        ]
        self._candidate_kernels, self._candidate_biases = kernels, biases
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        gates = matmul(join_ops.concat([inputs, state], 1), self._gate_kernel)
        value = sigmoid(bias_add(gates, self._gate_bias))
        r, u = join_ops.split(value=value, num_or_size_splits=2, axis=1)
        from_input, from_state = (
            bias_add(matmul(x, kernel), bias)
            for x, kernel, bias in zip(
                (inputs, state), self._candidate_kernels, self._candidate_biases, strict=True
            )
        )
        new_state = (1 - u) * self._activation(from_input + r * from_state) + u * state
        return new_state, new_state
