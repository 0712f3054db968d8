"""Networks that take a whole sequence at once, time first: fused cells, and adaptors to and from other cells."""

from __future__ import annotations

import abc
from typing import Any

from headrace.api import array_ops, init_ops, join_ops
from headrace.api.gather_ops import reverse_sequence
from headrace.contrib.rnn.cells import LSTMBlockCell
from headrace.core.tensor_shape import as_shape
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.base import Layer
from headrace.layers.input_spec import InputSpec
from headrace.layers.rnn import dynamic_rnn
from headrace.layers.rnn_cell import LSTMStateTuple
from headrace.layers.static_rnn import static_rnn


class FusedRNNCell(abc.ABC):
    """A network over whole sequences: `outputs, state = cell(inputs, initial_state, dtype, sequence_length)`.

    inputs: [time, batch, depth], or a list of [batch, depth]; outputs in the same form.
    """

    @abc.abstractmethod
    def __call__(
        self,
        inputs: Any,
        initial_state: Any = None,
        dtype: Any = None,
        sequence_length: Any = None,
        scope: Any = None,
    ) -> tuple[Any, Any]:
        """(outputs, last state)."""


class FusedRNNCellAdaptor(FusedRNNCell):
    """A cell of one step as a fused one: unrolled, or with use_dynamic_rnn in a loop."""

    def __init__(self, cell: Any, use_dynamic_rnn: bool = False) -> None:
        self._cell, self._use_dynamic_rnn = cell, use_dynamic_rnn

    def __call__(
        self,
        inputs: Any,
        initial_state: Any = None,
        dtype: Any = None,
        sequence_length: Any = None,
        scope: Any = None,
    ) -> tuple[Any, Any]:
        """(outputs, last state)."""
        is_list = isinstance(inputs, list)
        given = dict(
            initial_state=initial_state, dtype=dtype, sequence_length=sequence_length, scope=scope
        )
        if self._use_dynamic_rnn:
            joined = join_ops.stack(inputs) if is_list else inputs
            outputs, state = dynamic_rnn(self._cell, joined, time_major=True, **given)
            return join_ops.unstack(outputs) if is_list else outputs, state
        steps = inputs if is_list else join_ops.unstack(inputs)
        outputs, state = static_rnn(self._cell, steps, **given)
        return outputs if is_list else join_ops.stack(outputs), state


class TimeReversedFusedRNN(FusedRNNCell):
    """A fused cell that goes from the end of each sequence to its beginning."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    @staticmethod
    def _reversed(x: Any, lengths: Any) -> Any:
        if isinstance(x, list):
            return list(reversed(x))
        if lengths is None:
            return raw.ReverseV2(x, [0])
        return reverse_sequence(x, lengths, 0, 1)

    def __call__(
        self,
        inputs: Any,
        initial_state: Any = None,
        dtype: Any = None,
        sequence_length: Any = None,
        scope: Any = None,
    ) -> tuple[Any, Any]:
        """(outputs, in the order of the inputs, and the state after the first step)."""
        outputs, state = self._cell(
            self._reversed(inputs, sequence_length),
            initial_state=initial_state,
            dtype=dtype,
            sequence_length=sequence_length,
            scope=scope,
        )
        return self._reversed(outputs, sequence_length), state


class LSTMBlockWrapper(Layer):
    """An LSTM over whole sequences; `_call_cell` says how it goes through them."""

    @property
    @abc.abstractmethod
    def num_units(self) -> int:
        """The number of units."""

    @abc.abstractmethod
    def _call_cell(
        self,
        inputs: Any,
        initial_cell_state: Any,
        initial_output: Any,
        dtype: Any,
        sequence_length: Any,
    ) -> tuple[Any, Any]:
        """(c, h) of all steps, [time, batch, units] each."""

    def call(
        self,
        inputs: Any,
        initial_state: Any = None,
        dtype: Any = None,
        sequence_length: Any = None,
    ) -> tuple[Any, LSTMStateTuple]:
        """(outputs, last state). Raises ValueError: neither initial_state nor dtype, an unknown depth."""
        is_list = isinstance(inputs, list)
        if is_list:
            inputs = join_ops.stack(inputs)
        steps, batch, depth = inputs.shape.with_rank(3).as_list()
        if not depth:
            raise ValueError(f"Expecting inputs_shape[2] to be set: {inputs.shape}")
        shape = array_ops.shape(inputs)
        batch_size = raw.StridedSlice(shape, [1], [2], [1], shrink_axis_mask=1)
        if batch is not None:
            batch_size = batch
        if initial_state is None:
            if dtype is None:
                raise ValueError("Either initial_state or dtype needs to be specified")
            zeros = array_ops.zeros(join_ops.stack([batch_size, self.num_units]), dtype=dtype)
            zeros.set_shape([batch, self.num_units])
            initial_state = (zeros, zeros)
        elif len(initial_state) != 2:
            raise ValueError("Expecting initial_state to be a tuple with length 2 or None")
        if dtype is None:
            dtype = initial_state[0].dtype
        if sequence_length is not None:
            sequence_length = convert.convert_to_tensor(sequence_length)
        c, outputs = self._call_cell(
            inputs, initial_state[0], initial_state[1], dtype, sequence_length
        )
        if sequence_length is None:
            state = LSTMStateTuple(c[-1], outputs[-1])
        else:
            count = raw.StridedSlice(shape, [0], [1], [1], shrink_axis_mask=1)
            alive = raw.Less(
                array_ops.expand_dims(raw.Range(0, count if steps is None else steps, 1), 1),
                raw.Cast(sequence_length, DstT=convert.convert_to_tensor(0).dtype),
            )
            outputs = outputs * array_ops.expand_dims(raw.Cast(alive, DstT=outputs.dtype), 2)
            last = [
                _at_lengths(join_ops.concat([[first], rest], 0), sequence_length, batch_size)
                for first, rest in zip(initial_state, (c, outputs), strict=True)
            ]
            state = LSTMStateTuple(*last)
        return join_ops.unstack(outputs) if is_list else outputs, state


def _at_lengths(steps: Tensor, lengths: Tensor, batch_size: Any) -> Tensor:
    """For each sequence the step at its length, of [time + 1, batch, units] with the first state first."""
    numbers = raw.Cast(raw.Range(0, batch_size, 1), DstT=lengths.dtype)
    return raw.GatherNd(steps, join_ops.stack([lengths, numbers], axis=1))


class LSTMBlockFusedCell(LSTMBlockWrapper):
    """The LSTM that TensorFlow has as one op over all steps: here a loop, which XLA compiles.

    inputs: [time, batch, depth], or a list of [batch, depth]. Variables: kernel, bias, w_i_diag, w_f_diag, w_o_diag.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        cell_clip: float | None = None,
        use_peephole: bool = False,
        reuse: Any = None,
        dtype: Any = None,
        name: str | None = "lstm_fused_cell",
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype)
        self._num_units, self._forget_bias = num_units, forget_bias
        self._cell_clip, self._use_peephole = cell_clip, use_peephole
        self.input_spec = InputSpec(ndim=3)

    @property
    def num_units(self) -> int:
        """The number of units."""
        return self._num_units

    def build(self, input_shape: Any) -> None:
        """Makes kernel, bias and the peepholes' diagonals."""
        units = self._num_units
        depth: Any = as_shape(input_shape).as_list()[2]
        self._kernel = self.add_variable("kernel", [depth + units, 4 * units])
        zeros = init_ops.Constant(0.0)
        self._bias = self.add_variable("bias", [4 * units], initializer=zeros)
        if self._use_peephole:
            self._w_i_diag, self._w_f_diag, self._w_o_diag = (
                self.add_variable(f"w_{n}_diag", [units]) for n in "ifo"
            )
        self.built = True

    def _call_cell(
        self,
        inputs: Any,
        initial_cell_state: Any,
        initial_output: Any,
        dtype: Any,
        sequence_length: Any,
    ) -> tuple[Any, Any]:
        step = _Step(self._num_units, self._forget_bias, self._cell_clip, self._use_peephole)
        step._kernel, step._bias = self._kernel, self._bias
        if self._use_peephole:
            step._w_i_diag, step._w_f_diag = self._w_i_diag, self._w_f_diag
            step._w_o_diag = self._w_o_diag
        (c, h), _ = dynamic_rnn(
            step,
            inputs,
            initial_state=LSTMStateTuple(initial_cell_state, initial_output),
            time_major=True,
        )
        return c, h


class _Step(LSTMBlockCell):
    """One step, with variables of a fused cell; gives c besides h."""

    @property
    def output_size(self) -> Any:
        """The sizes of c and h."""
        return self.state_size

    def build(self, input_shape: Any) -> None:
        """Nothing: the fused cell has the variables."""
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step: (c, h), and (c, h)."""
        _, new = super().call(inputs, state)
        return new, new
