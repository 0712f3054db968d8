"""`tf.nn.rnn_cell`: one step of a recurrent network, as layers of (inputs, state) that give (output, new state)."""

from __future__ import annotations

import collections
from typing import Any

from headrace.api import init_ops, join_ops, slicing
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC, export
from headrace.api.framework import name_scope
from headrace.api.logging import warning
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.partitioned_variables import fixed_size_partitioner
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes, nest
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.layer_base import LayerBase
from headrace.layers.named import (
    activation_named,
    config_of_initializer,
    initializer_named,
    name_of_activation,
)
from headrace.layers.rnn_cell_base import (
    LayerRNNCell,
    RNNCell,
    check_type,
    check_types,
    demand_matrices,
)

tanh = PUBLIC["tanh"]


@export("nn.rnn_cell.BasicRNNCell")
class BasicRNNCell(LayerRNNCell):
    """output = new state = activation([inputs, state] * kernel + bias).

    num_units: the size of state and output. activation: a function or a name, by default tanh. reuse: share variables that exist.
    """

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        check_type(self.dtype)
        demand_matrices(self)
        self._num_units = num_units
        self._activation = activation_named(activation) if activation else tanh

    @property
    def state_size(self) -> int:
        """The number of units."""
        return self._num_units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        depth = self._depth_of(input_shape)
        self._kernel = self.add_variable("kernel", shape=[depth + self._num_units, self._num_units])
        self._bias = self.add_variable("bias", shape=[self._num_units], initializer=self._zeros())
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        check_types(inputs, state)
        gates = bias_add(matmul(join_ops.concat([inputs, state], 1), self._kernel), self._bias)
        output = self._activation(gates)
        return output, output

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {
            **super().get_config(),
            "num_units": self._num_units,
            "activation": name_of_activation(self._activation),
            "reuse": self._reuse,
        }


@export("nn.rnn_cell.GRUCell")
class GRUCell(LayerRNNCell):
    """The gated recurrent unit: reset and update gates, and a candidate for the new state.

    num_units: the size of state and output. activation: of the candidate, by default tanh. bias_initializer: by default ones
    for the gates, zeros for the candidate.
    """

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        check_type(self.dtype)
        demand_matrices(self)
        self._num_units = num_units
        self._activation = activation_named(activation) if activation else tanh
        self._kernel_initializer = initializer_named(kernel_initializer)
        self._bias_initializer = initializer_named(bias_initializer)

    @property
    def state_size(self) -> int:
        """The number of units."""
        return self._num_units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def build(self, input_shape: Any) -> None:
        """Makes the kernels and biases of the gates and of the candidate."""
        rows, units = self._depth_of(input_shape) + self._num_units, self._num_units
        ones = init_ops.Constant(1.0, dtype=self.dtype or dtypes.float32)
        self._gate_kernel = self.add_variable(
            "gates/kernel", shape=[rows, 2 * units], initializer=self._kernel_initializer
        )
        self._gate_bias = self.add_variable(
            "gates/bias",
            shape=[2 * units],
            initializer=ones if self._bias_initializer is None else self._bias_initializer,
        )
        self._candidate_kernel = self.add_variable(
            "candidate/kernel", shape=[rows, units], initializer=self._kernel_initializer
        )
        self._candidate_bias = self.add_variable(
            "candidate/bias",
            shape=[units],
            initializer=self._zeros() if self._bias_initializer is None else self._bias_initializer,
        )
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        check_types(inputs, state)
        gates = matmul(join_ops.concat([inputs, state], 1), self._gate_kernel)
        value = sigmoid(bias_add(gates, self._gate_bias))
        r, u = join_ops.split(value=value, num_or_size_splits=2, axis=1)
        candidate = matmul(join_ops.concat([inputs, r * state], 1), self._candidate_kernel)
        c = self._activation(bias_add(candidate, self._candidate_bias))
        new_state = u * state + (1 - u) * c
        return new_state, new_state

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {
            **super().get_config(),
            "num_units": self._num_units,
            "kernel_initializer": config_of_initializer(self._kernel_initializer),
            "bias_initializer": config_of_initializer(self._bias_initializer),
            "activation": name_of_activation(self._activation),
            "reuse": self._reuse,
        }


@export("nn.rnn_cell.LSTMStateTuple")
class LSTMStateTuple(collections.namedtuple("LSTMStateTuple", ("c", "h"))):
    """The state of an LSTM: `c`, what the cell remembers, and `h`, its last output."""

    __slots__ = ()

    @property
    def dtype(self) -> Any:
        """The type of both. Raises TypeError: they differ."""
        if self.c.dtype != self.h.dtype:
            raise TypeError(f"Inconsistent internal state: {self.c.dtype} vs {self.h.dtype}")
        return self.c.dtype


_CONCATENATED = "%s: Using a concatenated state is slower and will soon be deprecated.  Use state_is_tuple=True."


@export("nn.rnn_cell.BasicLSTMCell")
class BasicLSTMCell(LayerRNNCell):
    """The LSTM without peepholes, clipping and projection; `forget_bias` is added to the forget gate.

    num_units: the size of c, h and the output. state_is_tuple: False for a state that is c and h side by side.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        check_type(self.dtype)
        if not state_is_tuple:
            warning(_CONCATENATED, self)
        demand_matrices(self)
        self._num_units = num_units
        self._forget_bias = forget_bias
        self._state_is_tuple = state_is_tuple
        self._activation = activation_named(activation) if activation else tanh

    @property
    def state_size(self) -> Any:
        """The sizes of c and h, or their sum."""
        units = self._num_units
        return LSTMStateTuple(units, units) if self._state_is_tuple else 2 * units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias, with the columns of the gates i, j, f, o one after the other."""
        units = self._num_units
        depth = self._depth_of(input_shape)
        self._kernel = self.add_variable("kernel", shape=[depth + units, 4 * units])
        self._bias = self.add_variable("bias", shape=[4 * units], initializer=self._zeros())
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Any]:
        """One step: h, and (c, h)."""
        check_types(inputs, state)
        if self._state_is_tuple:
            c, h = state
        else:
            c, h = join_ops.split(value=state, num_or_size_splits=2, axis=1)
        gates = bias_add(matmul(join_ops.concat([inputs, h], 1), self._kernel), self._bias)
        i, j, f, o = join_ops.split(value=gates, num_or_size_splits=4, axis=1)
        bias = convert.constant_from_value(self._forget_bias, f.dtype, None)
        new_c = raw.Add(
            raw.Mul(c, sigmoid(raw.Add(f, bias))), raw.Mul(sigmoid(i), self._activation(j))
        )
        new_h = raw.Mul(self._activation(new_c), sigmoid(o))
        if self._state_is_tuple:
            return new_h, LSTMStateTuple(new_c, new_h)
        return new_h, join_ops.concat([new_c, new_h], 1)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {
            **super().get_config(),
            "num_units": self._num_units,
            "forget_bias": self._forget_bias,
            "state_is_tuple": self._state_is_tuple,
            "activation": name_of_activation(self._activation),
            "reuse": self._reuse,
        }


@export("nn.rnn_cell.LSTMCell")
class LSTMCell(LayerRNNCell):
    """The LSTM with what has been added to it: peepholes, clipping of c, a projection of the output and its clipping.

    num_units: the size of c. num_proj: the size of h and the output, where None num_units. initializer: of all kernels.
    num_unit_shards, num_proj_shards: into how many variables the kernels are cut (or use a partitioner).
    """

    _diagonals = "fio"  # the gates' peepholes in the order in which their variables are made

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: int | None = None,
        num_proj_shards: int | None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        check_type(self.dtype)
        if not state_is_tuple:
            warning(_CONCATENATED, self)
        demand_matrices(self)
        self._num_units = num_units
        self._use_peepholes = use_peepholes
        self._cell_clip = cell_clip
        self._initializer = initializer_named(initializer)
        self._num_proj = num_proj
        self._proj_clip = proj_clip
        self._num_unit_shards = num_unit_shards
        self._num_proj_shards = num_proj_shards
        self._forget_bias = forget_bias
        self._state_is_tuple = state_is_tuple
        self._activation = activation_named(activation) if activation else tanh
        self._output_size = num_proj or num_units
        self._state_size = (
            LSTMStateTuple(num_units, self._output_size)
            if state_is_tuple
            else num_units + self._output_size
        )

    @property
    def state_size(self) -> Any:
        """The sizes of c and h, or their sum."""
        return self._state_size

    @property
    def output_size(self) -> int:
        """The number of units, or that of the projection."""
        return self._output_size

    def build(self, input_shape: Any) -> None:
        """Makes kernel, bias, the peepholes' diagonals and the projection's kernel."""
        units = self._num_units
        depth = self._depth_of(input_shape)
        width = units if self._num_proj is None else self._num_proj
        self._kernel = self.add_variable(
            "kernel",
            shape=[depth + width, 4 * units],
            initializer=self._initializer,
            partitioner=_partitioner(self._num_unit_shards),
        )
        self._bias = self.add_variable("bias", shape=[4 * units], initializer=self._zeros())
        if self._use_peepholes:
            diagonals = {
                n: self.add_variable(f"w_{n}_diag", shape=[units], initializer=self._initializer)
                for n in self._diagonals
            }
            self._w_f_diag, self._w_i_diag, self._w_o_diag = (diagonals[n] for n in "fio")
        if self._num_proj is not None:
            self._proj_kernel = self.add_variable(
                "projection/kernel",
                shape=[units, self._num_proj],
                initializer=self._initializer,
                partitioner=_partitioner(self._num_proj_shards),
            )
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Any]:
        """One step: h, and (c, h)."""
        check_types(inputs, state)
        if self._state_is_tuple:
            c_before, h_before = state
        else:
            width = self._num_units if self._num_proj is None else self._num_proj
            c_before = slicing.slice_(state, [0, 0], [-1, self._num_units])
            h_before = slicing.slice_(state, [0, self._num_units], [-1, width])
        if inputs.shape.with_rank(2)._dims[1] is None:
            raise ValueError("Could not infer input size from inputs.get_shape()[-1]")
        gates = bias_add(matmul(join_ops.concat([inputs, h_before], 1), self._kernel), self._bias)
        i, j, f, o = join_ops.split(value=gates, num_or_size_splits=4, axis=1)
        if self._use_peepholes:
            c = sigmoid(f + self._forget_bias + self._w_f_diag * c_before) * c_before + sigmoid(
                i + self._w_i_diag * c_before
            ) * self._activation(j)
        else:
            c = sigmoid(f + self._forget_bias) * c_before + sigmoid(i) * self._activation(j)
        if self._cell_clip is not None:
            c = self._clipped(c)
        if self._use_peepholes:
            h = sigmoid(o + self._w_o_diag * c) * self._activation(c)
        else:
            h = sigmoid(o) * self._activation(c)
        if self._num_proj is not None:
            h = matmul(h, self._proj_kernel)
            if self._proj_clip is not None:
                h = clip_by_value(h, -self._proj_clip, self._proj_clip)
        return h, LSTMStateTuple(c, h) if self._state_is_tuple else join_ops.concat([c, h], 1)

    def _clipped(self, c: Tensor) -> Tensor:
        return clip_by_value(c, -self._cell_clip, self._cell_clip)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {
            **super().get_config(),
            "num_units": self._num_units,
            "use_peepholes": self._use_peepholes,
            "cell_clip": self._cell_clip,
            "initializer": config_of_initializer(self._initializer),
            "num_proj": self._num_proj,
            "proj_clip": self._proj_clip,
            "num_unit_shards": self._num_unit_shards,
            "num_proj_shards": self._num_proj_shards,
            "forget_bias": self._forget_bias,
            "state_is_tuple": self._state_is_tuple,
            "activation": name_of_activation(self._activation),
            "reuse": self._reuse,
        }


def _partitioner(shards: int | None) -> Any:
    return None if shards is None else fixed_size_partitioner(shards)


# ---- several cells


@export("nn.rnn_cell.MultiRNNCell")
class MultiRNNCell(RNNCell):
    """Cells one after the other: the output of each is the input of the next; the state is the tuple of their states.

    Raises ValueError: no cells, or structured states with state_is_tuple=False. TypeError: no sequence.
    """

    def __init__(self, cells: Any, state_is_tuple: bool = True) -> None:
        super().__init__()
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not nest.is_nested(cells):
            raise TypeError(f"cells must be a list or tuple, but saw: {cells}.")
        if len({id(cell) for cell in cells}) < len(cells):
            warning(
                "At least two cells provided to MultiRNNCell are the same object and will share weights."
            )
        self._cells = cells
        self._state_is_tuple = state_is_tuple
        if not state_is_tuple and any(nest.is_nested(c.state_size) for c in cells):
            raise ValueError(
                "Some cells return tuples of states, but the flag state_is_tuple is not set.  State sizes are: "
                f"{[c.state_size for c in cells]}"
            )

    @property
    def state_size(self) -> Any:
        """The sizes of the cells' states, or their sum."""
        sizes = [cell.state_size for cell in self._cells]
        return tuple(sizes) if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self) -> Any:
        """That of the last cell."""
        return self._cells[-1].output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """The zero states of the cells."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            if self._state_is_tuple:
                return tuple(cell.zero_state(batch_size, dtype) for cell in self._cells)
            return super().zero_state(batch_size, dtype)

    @property
    def trainable_weights(self) -> list[Any]:
        """Those of the cells, while this one is trainable."""
        if not self.trainable:
            return []
        return [w for c in self._cells if isinstance(c, LayerBase) for w in c.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """Those of the cells; all of them while this one is not trainable."""
        layers = [c for c in self._cells if isinstance(c, LayerBase)]
        own = [w for c in layers for w in c.non_trainable_weights]
        return own if self.trainable else [w for c in layers for w in c.trainable_weights] + own

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step of each cell."""
        at = 0
        states = []
        for number, cell in enumerate(self._cells):
            with variable_scope(f"cell_{number}"):
                if self._state_is_tuple:
                    if not nest.is_nested(state):
                        raise ValueError(
                            f"Expected state to be a tuple of length {len(self.state_size)}, but received: {state}"
                        )
                    before = state[number]
                else:
                    before = slicing.slice_(state, [0, at], [-1, cell.state_size])
                    at += cell.state_size
                inputs, after = cell(inputs, before)
                states.append(after)
        return inputs, tuple(states) if self._state_is_tuple else join_ops.concat(states, 1)
