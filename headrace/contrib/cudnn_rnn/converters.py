"""Between the one vector of parameters that cuDNN's networks have and the variables of cells.

cuDNN has a matrix [units, inputs] for each gate, one set for the input and one for the state, with a bias for each. Cells
have them joined: a kernel [inputs + units, gates * units] and the sum of both biases.
"""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api.array_ops import transpose
from headrace.api.join_ops import concat, split
from headrace.graph import raw
from headrace.lowering.recurrent import GATES


class _Converter:
    """Converts the parameters of one network. num_proj: the size of an LSTM's projection, None or 0 for none."""

    _mode: ClassVar[str]

    def __init__(
        self,
        num_layers: int,
        num_units: int,
        input_size: int,
        num_proj: int | None = None,
        input_mode: str = "linear_input",
        direction: str = "unidirectional",
    ) -> None:
        self._num_layers, self._num_units, self._input_size = num_layers, num_units, input_size
        self._num_proj = num_proj or 0
        self._directions = 1 if direction == "unidirectional" else 2
        self._attrs: dict[str, Any] = {
            "rnn_mode": self._mode,
            "input_mode": input_mode,
            "direction": direction,
        }
        if self._num_proj:
            self._attrs["num_proj"] = self._num_proj

    def opaque_to_tf_canonical(self, opaque_param: Any) -> tuple[list[Any], ...]:
        """(kernels, biases) of the cells, layer by layer, forward before backward; with a projection its kernels too."""
        sizes = self._num_layers, self._num_units, self._input_size
        cells = self._num_layers * self._directions
        biases = 2 * GATES[self._mode] * cells
        if self._num_proj:
            found = raw.CudnnRNNParamsToCanonicalV2(
                *sizes,
                opaque_param,
                num_params_weights=biases + cells,
                num_params_biases=biases,
                **self._attrs,
            )
        else:
            found = raw.CudnnRNNParamsToCanonical(
                *sizes, opaque_param, num_params=biases, **self._attrs
            )
        kernels: list[Any] = []
        sums: list[Any] = []
        projections: list[Any] = []
        for weights, vectors in zip(
            _in_parts(found[0], cells), _in_parts(found[1], cells), strict=True
        ):
            if self._num_proj:
                *weights, projection = weights
                projections.append(transpose(projection))
            half = len(weights) // 2
            kernels += self._kernels(weights[:half], weights[half:])
            sums += self._sums(vectors[:half], vectors[half:])
        return (kernels, sums, projections) if self._num_proj else (kernels, sums)

    def tf_canonical_to_opaque(self, tf_canonicals: Any, weights_proj: Any = None) -> Any:
        """The vector, from all kernels followed by all biases; the biases are halved."""
        cells = self._num_layers * self._directions
        values = _in_parts(tf_canonicals, 2 * cells)
        weights: list[Any] = []
        biases: list[Any] = []
        for cell, (kernels, sums) in enumerate(zip(values[:cells], values[cells:], strict=True)):
            width = self._input_size
            if cell >= self._directions:
                width = self._directions * (self._num_proj or self._num_units)
            weights += self._matrices(kernels, width)
            if weights_proj is not None:
                weights.append(transpose(weights_proj[cell]))
            biases += self._halves(sums)
        convert = (
            raw.CudnnRNNCanonicalToParamsV2 if self._num_proj else raw.CudnnRNNCanonicalToParams
        )
        sizes = self._num_layers, self._num_units, self._input_size
        return convert(*sizes, weights, biases, **self._attrs)

    # What follows is for one cell; gates are in cuDNN's order. The last of a GRU is the new memory.

    def _kernels(self, of_input: list[Any], of_state: list[Any]) -> list[Any]:
        """The kernels of a cell, from matrices for each gate."""
        rows = [concat(pair, 1) for pair in zip(of_input, of_state, strict=True)]
        return [transpose(concat(self._swapped(rows), 0))]

    def _matrices(self, kernels: list[Any], width: int) -> list[Any]:
        """The matrices for each gate: of the input, which has `width` columns, then of the state."""
        (kernel,) = kernels
        rows = self._swapped(split(transpose(kernel), GATES[self._mode], 0))
        pairs = [split(row, [width, self._num_proj or self._num_units], 1) for row in rows]
        return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]

    def _sums(self, of_input: list[Any], of_state: list[Any]) -> list[Any]:
        """The biases of a cell."""
        return [concat(self._swapped([a + b for a, b in zip(of_input, of_state, strict=True)]), 0)]

    def _halves(self, sums: list[Any]) -> list[Any]:
        """The biases for each gate: of the input, then of the state."""
        (total,) = sums
        return self._swapped(split(total * 0.5, GATES[self._mode], 0)) * 2

    def _swapped(self, gates: list[Any]) -> list[Any]:
        """Gates in the cell's order, from cuDNN's; and back."""
        return gates


def _in_parts(values: Any, count: int) -> list[list[Any]]:
    size = len(values) // count
    return [list(values[i * size : (i + 1) * size]) for i in range(count)]


class CudnnParamsFormatConverterLSTM(_Converter):
    """Converts the parameters of LSTMs: for each cell a kernel and a bias."""

    _mode = "lstm"

    def _swapped(self, gates: list[Any]) -> list[Any]:
        i, f, g, o = gates  # a cell has the new memory before the forget gate
        return [i, g, f, o]


class CudnnParamsFormatConverterGRU(_Converter):
    """Converts the parameters of GRUs: for each cell the kernels of gates, input and state, and as many biases."""

    _mode = "gru"

    def _kernels(self, of_input: list[Any], of_state: list[Any]) -> list[Any]:
        rows = [concat(pair, 1) for pair in zip(of_input[:2], of_state[:2], strict=True)]
        return [transpose(concat(rows, 0)), transpose(of_input[2]), transpose(of_state[2])]

    def _matrices(self, kernels: list[Any], width: int) -> list[Any]:
        gates, of_input, of_state = (transpose(kernel) for kernel in kernels)
        (r_in, r_state), (u_in, u_state) = (
            split(row, [width, self._num_units], 1) for row in split(gates, 2, 0)
        )
        return [r_in, u_in, of_input, r_state, u_state, of_state]

    def _sums(self, of_input: list[Any], of_state: list[Any]) -> list[Any]:
        gates = [a + b for a, b in zip(of_input[:2], of_state[:2], strict=True)]
        return [concat(gates, 0), of_input[2], of_state[2]]

    def _halves(self, sums: list[Any]) -> list[Any]:
        r, u = split(sums[0] * 0.5, 2, 0)
        return [r, u, sums[1], r, u, sums[2]]


class CudnnParamsFormatConverterTanh(_Converter):
    """Converts the parameters of plain networks with tanh: for each cell a kernel and a bias."""

    _mode = "rnn_tanh"


class CudnnParamsFormatConverterRelu(_Converter):
    """Converts the parameters of plain networks with relu: for each cell a kernel and a bias."""

    _mode = "rnn_relu"
