"""LSTMs over time and frequency: each step goes through overlapping bands of its inputs, from low to high."""

from __future__ import annotations

import collections
from typing import Any

from headrace.api import array_ops, init_ops, join_ops, slicing
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC
from headrace.api.get_variable import get_variable
from headrace.api.logging import warning
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.variable_scope import variable_scope
from headrace.contrib.rnn.parts import in_pieces
from headrace.graph import raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import RNNCell

tanh = PUBLIC["tanh"]


def _depth(inputs: Tensor) -> int:
    depth = inputs.shape.with_rank(2).as_list()[-1]
    if depth is None:
        raise ValueError("Cannot infer input_size from static shape inference.")
    return depth


def _columns(x: Tensor, start: int, size: int) -> Tensor:
    return slicing.slice_(x, [0, start], [-1, size])


def _no_state(inputs: Tensor, units: int) -> Tensor:
    """Zeros [batch, units]."""
    known = inputs.shape.as_list()[0]
    batch = known if known is not None else array_ops.shape(inputs)[0]  # type: ignore[index]
    zeros = array_ops.zeros(join_ops.stack([batch, units]), inputs.dtype)
    zeros.set_shape([known, units])
    return zeros


class TimeFreqLSTMCell(RNNCell):
    """The LSTM whose bands each take, besides their own last output, that of the band below (Li et al., 2016).

    feature_size: the width of a band. frequency_skip: from one band to the next. num_unit_shards: into how many variables the
    kernel is cut. The state is c and h of all bands side by side.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_unit_shards: int = 1,
        forget_bias: float = 1.0,
        feature_size: int | None = None,
        frequency_skip: int = 1,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        self._num_units, self._use_peepholes = num_units, use_peepholes
        self._cell_clip, self._num_unit_shards = cell_clip, num_unit_shards
        # TensorFlow takes an initializer here and makes the variables with the scope's.
        self._initializer = initializer
        self._forget_bias = forget_bias
        self._feature_size, self._frequency_skip = feature_size, frequency_skip

    @property
    def state_size(self) -> int:
        """Twice the number of units: that of one band, as TensorFlow says."""
        return 2 * self._num_units

    @property
    def output_size(self) -> int:
        """The number of units: that of one band, as TensorFlow says."""
        return self._num_units

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: h of all bands side by side, and c and h of all bands."""
        units, dtype = self._num_units, inputs.dtype
        assert self._feature_size is not None
        count = int((_depth(inputs) - self._feature_size) / self._frequency_skip) + 1
        rows = self._feature_size + 2 * units
        kernel = in_pieces("W", [rows, 4 * units], dtype, self._num_unit_shards)
        bias = get_variable("B", [4 * units], dtype, initializer=init_ops.Zeros())
        diagonals = (
            {n: get_variable(f"W_{n}_diag", [units], dtype) for n in "FIO"}
            if self._use_peepholes
            else {}
        )

        def peep(gate: Tensor, name: str, c: Tensor) -> Tensor:
            return gate + diagonals[name] * c if diagonals else gate

        below = _no_state(inputs, units)
        outputs, states = [], []
        for band in range(count):
            c = _columns(state, 2 * band * units, units)
            h = _columns(state, (2 * band + 1) * units, units)
            x = _columns(inputs, band * self._frequency_skip, self._feature_size)
            gates = bias_add(matmul(join_ops.concat([x, h, below], 1), kernel), bias)
            i, j, f, o = join_ops.split(value=gates, num_or_size_splits=4, axis=1)
            c = sigmoid(peep(f + self._forget_bias, "F", c)) * c + sigmoid(peep(i, "I", c)) * tanh(
                j
            )
            if self._cell_clip is not None:
                c = clip_by_value(c, -self._cell_clip, self._cell_clip)
            below = sigmoid(peep(o, "O", c)) * tanh(c)
            outputs.append(below)
            states += [c, below]
        return join_ops.concat(outputs, 1), join_ops.concat(states, 1)


class _Gates:
    """The variables of one direction (time or frequency) of a block of a grid, and its gates."""

    def __init__(
        self, cell: GridLSTMCell, direction: str, block: int, rows: int, dtype: Any
    ) -> None:
        letter = direction[0]
        units = cell._num_units
        self._coupled, self._forget_bias = cell._couple_input_forget_gates, cell._forget_bias
        self._count = 3 if self._coupled else 4
        self._kernel = in_pieces(
            f"W_{letter}_{block}", [rows, self._count * units], dtype, cell._num_unit_shards
        )
        self._bias = get_variable(
            f"B_{letter}_{block}", [self._count * units], dtype, initializer=init_ops.Zeros()
        )
        self._diagonals: dict[str, Any] = {}

    def add_peepholes(self, direction: str, block: int, units: int, dtype: Any) -> None:
        """Makes the weights with which the gates see the states of both directions."""
        for gate in "IO" if self._coupled else "FIO":
            for source in "ft":
                self._diagonals[gate + source] = get_variable(
                    f"W_{gate}_diag_{direction}{source}_{block}", [units], dtype
                )

    def _seen(self, gate: Tensor, name: str, c_freq: Tensor, c_time: Tensor) -> Tensor:
        if not self._diagonals:
            return gate
        return gate + self._diagonals[name + "f"] * c_freq + self._diagonals[name + "t"] * c_time

    def split(self, x: Tensor) -> list[Any]:
        """i, j, f (None where coupled) and o, before peepholes."""
        gates = bias_add(matmul(x, self._kernel), self._bias)
        parts = join_ops.split(value=gates, num_or_size_splits=self._count, axis=1)
        return [*parts[:2], None, parts[2]] if self._coupled else parts

    def new_c(self, parts: list[Any], own: Tensor, c_freq: Tensor, c_time: Tensor) -> Tensor:
        """c of this direction, from its last value and those of both."""
        i, j, f, _ = parts
        i = sigmoid(self._seen(i, "I", c_freq, c_time))
        kept = (
            1.0 - i
            if self._coupled
            else sigmoid(self._seen(f + self._forget_bias, "F", c_freq, c_time))
        )
        return kept * own + i * tanh(j)

    def new_h(self, parts: list[Any], own: Tensor, c_freq: Tensor, c_time: Tensor) -> Tensor:
        """h of this direction."""
        return sigmoid(self._seen(parts[3], "O", c_freq, c_time)) * tanh(own)


class GridLSTMCell(RNNCell):
    """The LSTM with a state along time and one along frequency, for blocks of bands (Li and Mohamed, 2016).

    feature_size: the width of a band. frequency_skip: from one band to the next. num_frequency_blocks: how many bands each
    block has. start_freqindex_list, end_freqindex_list: where each block lies; without them one block over all.
    share_time_frequency_weights: one kernel for both directions. couple_input_forget_gates: a band takes in what it forgets.
    Raises ValueError: num_frequency_blocks is missing, or does not fit the inputs.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        share_time_frequency_weights: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_unit_shards: int = 1,
        forget_bias: float = 1.0,
        feature_size: int | None = None,
        frequency_skip: int | None = None,
        num_frequency_blocks: Any = None,
        start_freqindex_list: Any = None,
        end_freqindex_list: Any = None,
        couple_input_forget_gates: bool = False,
        state_is_tuple: bool = True,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        if not state_is_tuple:
            warning(
                "%s: Using a concatenated state is slower and will soon be deprecated.  Use state_is_tuple=True.",
                self,
            )
        if num_frequency_blocks is None:
            raise ValueError("Must specify num_frequency_blocks")
        self._num_units, self._use_peepholes = num_units, use_peepholes
        self._share_time_frequency_weights = share_time_frequency_weights
        # TensorFlow takes an initializer here and makes the variables with the scope's.
        self._initializer = initializer
        self._cell_clip, self._num_unit_shards = cell_clip, num_unit_shards
        self._forget_bias, self._feature_size = forget_bias, feature_size
        self._frequency_skip, self._num_frequency_blocks = frequency_skip, num_frequency_blocks
        self._starts, self._ends = start_freqindex_list, end_freqindex_list
        self._couple_input_forget_gates = couple_input_forget_gates
        self._state_is_tuple = state_is_tuple
        self._total_blocks = sum(int(n) for n in num_frequency_blocks)
        self._state_tuple_type: Any = None
        self._state_size: Any = 2 * num_units * self._total_blocks
        self._output_size = self._state_size
        if state_is_tuple:
            self._name_states("GridLSTMStateTuple", [""])

    def _name_states(self, name: str, prefixes: list[str]) -> None:
        fields = [
            f"{prefix}state_f{band:02d}_b{block:02d}_{part}"
            for prefix in prefixes
            for block, bands in enumerate(self._num_frequency_blocks)
            for band in range(bands)
            for part in "cm"
        ]
        self._state_tuple_type = collections.namedtuple(name, fields)  # type: ignore[misc]
        self._state_size = self._state_tuple_type(*[self._num_units] * len(fields))

    @property
    def state_size(self) -> Any:
        """The sizes of c and h of all bands, by name, or their sum."""
        return self._state_size

    @property
    def output_size(self) -> int:
        """The number of units, twice for each band: along time and along frequency."""
        return self._output_size

    @property
    def state_tuple_type(self) -> Any:
        """The type of the state."""
        return self._state_tuple_type

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Any]:
        """One step."""
        outputs, states = self._through(self._bands(inputs), inputs, state, "state")
        packed = (
            self._state_tuple_type(*states) if self._state_is_tuple else join_ops.concat(states, 1)
        )
        return join_ops.concat(outputs, 1), packed

    def _through(
        self, blocks: list[list[Tensor]], inputs: Tensor, state: Any, prefix: str
    ) -> tuple[list[Tensor], list[Tensor]]:
        outputs, states = [], []
        for block, bands in enumerate(blocks):
            out, new = self._block(bands, block, inputs, state, prefix)
            outputs += out
            states += new
        return outputs, states

    def _block(
        self, bands: list[Tensor], block: int, inputs: Tensor, state: Any, prefix: str
    ) -> tuple[list[Tensor], list[Tensor]]:
        units, dtype = self._num_units, inputs.dtype
        rows = _depth(bands[0]) + 2 * units
        freq = _Gates(self, "freq", block, rows, dtype)
        shared = self._share_time_frequency_weights
        time = freq if shared else _Gates(self, "time", block, rows, dtype)
        if self._use_peepholes:
            for gates, direction in ((freq, "freq"), (time, "time")):
                if gates is not freq or direction == "freq":
                    gates.add_peepholes(direction, block, units, dtype)
        h_freq = c_freq = _no_state(inputs, units)
        outputs, states = [], []
        for band, x in enumerate(bands):
            if self._state_is_tuple:
                c_time, h_time = (
                    getattr(state, f"{prefix}_f{band:02d}_b{block:02d}_{part}") for part in "cm"
                )
            else:
                c_time = _columns(state, 2 * band * units, units)
                h_time = _columns(state, (2 * band + 1) * units, units)
            joined = join_ops.concat([x, h_time, h_freq], 1)
            of_freq = freq.split(joined)
            of_time = of_freq if shared else time.split(joined)
            new_freq = self._clipped(freq.new_c(of_freq, c_freq, c_freq, c_time))
            new_time = self._clipped(time.new_c(of_time, c_time, c_freq, c_time))
            h_freq = freq.new_h(of_freq, new_freq, new_freq, new_time)
            h_time = time.new_h(of_time, new_time, new_freq, new_time)
            c_freq = new_freq
            outputs += [h_time, h_freq]
            states += [new_time, h_time]
        return outputs, states

    def _clipped(self, c: Tensor) -> Tensor:
        return c if self._cell_clip is None else clip_by_value(c, -self._cell_clip, self._cell_clip)

    def _bands(self, inputs: Tensor, offset: int = 0) -> list[list[Tensor]]:
        """The bands of each block, `offset` columns further on."""
        depth = _depth(inputs)
        width, skip, counts = self._feature_size, self._frequency_skip, self._num_frequency_blocks
        assert width is not None and skip is not None
        if offset:
            inputs = raw.Pad(inputs, [[0, 0], [max(0, -offset), max(0, offset)]])
            offset = max(0, offset)
        if self._starts:
            if len(self._starts) != len(self._ends):
                raise ValueError(
                    f"Length of start and end freqindex_list does not match {len(self._starts)} {len(self._ends)}"
                )
            if len(counts) != len(self._starts):
                raise ValueError(
                    f"Length of num_frequency_blocks is not equal to start_freqindex_list {len(counts)} {len(self._starts)}"
                )
            places = list(zip(self._starts, self._ends, strict=True))
        else:
            if len(counts) != 1:
                raise ValueError(
                    f"Length of num_frequency_blocks is not 1, but instead is {len(counts)}"
                )
            places = [(0, depth)]
        blocks = []
        for (start, end), count in zip(places, counts, strict=True):
            found = int((end - start - width) / skip) + 1
            if found != count:
                raise ValueError(
                    f"Invalid num_frequency_blocks, requires {count} but gets {found}, please check the input size and "
                    "filter config are correct."
                )
            blocks.append(
                [_columns(inputs, start + offset + b * skip, width) for b in range(found)]
            )
        return blocks


class BidirectionalGridLSTMCell(GridLSTMCell):
    """GridLSTMCell from the low bands to the high ones, and another from the high to the low.

    backward_slice_offset: by how many columns the bands of the second one lie further on.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        share_time_frequency_weights: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_unit_shards: int = 1,
        forget_bias: float = 1.0,
        feature_size: int | None = None,
        frequency_skip: int | None = None,
        num_frequency_blocks: Any = None,
        start_freqindex_list: Any = None,
        end_freqindex_list: Any = None,
        couple_input_forget_gates: bool = False,
        backward_slice_offset: int = 0,
        reuse: Any = None,
    ) -> None:
        super().__init__(
            num_units,
            use_peepholes,
            share_time_frequency_weights,
            cell_clip,
            initializer,
            num_unit_shards,
            forget_bias,
            feature_size,
            frequency_skip,
            num_frequency_blocks,
            start_freqindex_list,
            end_freqindex_list,
            couple_input_forget_gates,
            True,
            reuse,
        )
        self._offset = int(backward_slice_offset)
        self._name_states("BidirectionalGridLSTMStateTuple", ["fwd_", "bwd_"])
        self._output_size = 4 * num_units * self._total_blocks

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Any]:
        """One step."""
        forward = self._bands(inputs)
        backward = self._bands(inputs, self._offset) if self._offset else forward
        with variable_scope("fwd"):
            outputs, states = self._through(forward, inputs, state, "fwd_state")
        with variable_scope("bwd"):
            more, rest = self._through([b[::-1] for b in backward], inputs, state, "bwd_state")
        return join_ops.concat(outputs + more, 1), self._state_tuple_type(*states, *rest)
