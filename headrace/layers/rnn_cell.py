"""`tf.nn.rnn_cell`: one step of a recurrent network, as layers of (inputs, state) that give (output, new state)."""

from __future__ import annotations

import collections
from typing import Any

from headrace.api import array_ops, init_ops, join_ops, slicing
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC, export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.logging import warning
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.partitioned_variables import PartitionedVariable, fixed_size_partitioner
from headrace.api.variable_scope import get_variable_scope, variable_scope
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, default, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor
from headrace.layers.base import Layer
from headrace.layers.layer_base import LayerBase
from headrace.layers.named import (
    activation_named,
    config_of_initializer,
    initializer_named,
    name_of_activation,
)

tanh = PUBLIC["tanh"]


# ---- sizes and states


def assert_like_rnncell(argument: str, cell: Any) -> None:
    """Raises TypeError unless `cell` has what a cell needs: sizes, a state to begin with, and to be callable."""
    missing = [
        f"'{n}' property is missing" for n in ("output_size", "state_size") if not _has(cell, n)
    ]
    if not (_has(cell, "zero_state") or _has(cell, "get_initial_state")):
        missing.append("either 'zero_state' or 'get_initial_state' method is required")
    if not callable(cell):
        missing.append("is not callable")
    if missing:
        raise TypeError(
            f"The argument {argument!r} ({cell}) is not an RNNCell: {', '.join(missing)}."
        )


def _has(obj: Any, name: str) -> bool:
    # Not hasattr(cell, ...): a property may well raise NotImplementedError, which only says that it is there.
    try:
        getattr(obj, name)
    except AttributeError:
        return False
    return True


def static_shape(batch_size: Any, size: Any) -> TensorShape:
    """The shape [batch_size, size...] as far as it is known; each an int, a shape, a tensor or None."""
    return _known(batch_size).concatenate(_known(size))


def _known(size: Any) -> TensorShape:
    if isinstance(size, Tensor):
        value = constant_value(size)
        if value is None:
            return TensorShape([None]) if size._dims == () else TensorShape(None)
        return TensorShape([int(v) for v in value.reshape(-1)])
    return TensorShape([None]) if size is None else as_shape(size if _is_many(size) else [size])


def _is_many(size: Any) -> bool:
    return isinstance(size, (TensorShape, list, tuple))


def zeros_of_size(batch_size: Any, size: Any, dtype: Any) -> Tensor:
    """Zeros of shape [batch_size, size...]; batch_size and size each an int, a shape or a tensor."""
    known = static_shape(batch_size, size)
    if known.is_fully_defined():
        return array_ops.zeros(known, dtype)
    parts = [_as_vector(part) for part in (batch_size, size)]
    value = array_ops.zeros(raw.ConcatV2(parts, 0), dtype)
    value.set_shape(known)
    return value


def _as_vector(size: Any) -> Tensor:
    if isinstance(size, Tensor):
        size = size if size.dtype == dtypes.int32 else raw.Cast(size, DstT=dtypes.int32)
        return raw.Reshape(size, [-1]) if size._dims == () else size
    return convert.convert_to_tensor(_known(size).as_list(), dtypes.int32)


def _check_type(dtype: Any) -> None:
    if dtype is None:
        return
    dtype = dtypes.as_dtype(dtype)
    if not (dtype.is_floating or dtype.is_complex):
        raise ValueError(f"RNN cell only supports floating point inputs, but saw dtype: {dtype!r}")


def _check_types(*values: Any) -> None:
    for tensor in nest.flatten(values):
        _check_type(tensor.dtype)


# ---- the base of all cells


@export("nn.rnn_cell.RNNCell")
class RNNCell(Layer):
    """One step of a recurrent network: `output, new_state = cell(inputs, state)`.

    Subclasses say `state_size` and `output_size` (an int, a TensorShape, or a structure of these: the sizes behind the
    batch's) and compute in `call`, where they may use `tf.get_variable`.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)
        self._is_tf_rnn_cell = True

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """The output and the new state for `inputs` and `state`. scope: where variables live, by default the cell's name."""
        if scope is not None:
            with variable_scope(scope, custom_getter=self._noted) as opened:
                return super().__call__(inputs, state, scope=opened)
        opened = getattr(self, "rnncell_scope", None)
        if opened is None:
            opened = self.rnncell_scope = variable_scope(
                get_variable_scope(), custom_getter=self._noted
            )
        with opened:
            return super().__call__(inputs, state)

    def _noted(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        """A variable that `call` asks for becomes one of the cell's."""
        variable = getter(*args, **kwargs)
        trained = default.get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES)
        first = next(iter(variable)) if isinstance(variable, PartitionedVariable) else variable
        trainable = any(first is v for v in trained)
        kept = self._trainable_weights if trainable else self._non_trainable_weights
        if all(variable is not v for v in kept):
            kept.append(variable)
        return variable

    @property
    def state_size(self) -> Any:
        """The sizes of the state."""
        raise NotImplementedError("Abstract method")

    @property
    def output_size(self) -> Any:
        """The sizes of the output."""
        raise NotImplementedError("Abstract method")

    def build(self, _: Any) -> None:
        """Nothing: variables are made in `call`."""

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> Any:
        """The state to begin with, for the batch size and type given or those of `inputs`: zeros.

        Raises ValueError: they are not given, or contradict the inputs.
        """
        if inputs is not None:
            inputs = convert.convert_to_tensor(inputs, name="inputs")
            size = inputs._dims[0] if inputs._dims else None
            if batch_size is not None:
                known = constant_value(batch_size) if isinstance(batch_size, Tensor) else batch_size
                if known != size:
                    raise ValueError(
                        "batch size from input tensor is different from the input param. Input tensor batch: "
                        f"{size}, batch_size: {batch_size}"
                    )
            if dtype is not None and inputs.dtype != dtype:
                raise ValueError(
                    f"dtype from input tensor is different from the input param. Input tensor dtype: {inputs.dtype}, dtype: "
                    f"{dtype}"
                )
            batch_size = size or array_ops.shape(inputs)[0]
            dtype = inputs.dtype
        if batch_size is None or dtype is None:
            raise ValueError(
                f"batch_size and dtype cannot be None while constructing initial state: batch_size={batch_size}, dtype={dtype}"
            )
        return self.zero_state(batch_size, dtype)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """Zeros of shape [batch_size, size...] for each size of `state_size`, in its structure."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            return nest.map_structure(
                lambda size: zeros_of_size(batch_size, size, dtype), self.state_size
            )

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return super().get_config()


class LayerRNNCell(RNNCell):
    """A cell that makes its variables in `build`, as layers do."""

    def __call__(
        self, inputs: Any, state: Any, scope: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The output and the new state for `inputs` and `state`."""
        return Layer.__call__(self, inputs, state, *args, scope=scope, **kwargs)

    def _depth_of(self, input_shape: Any) -> int:
        shape = as_shape(input_shape).as_list()
        if shape[-1] is None:
            raise ValueError(f"Expected inputs.shape[-1] to be known, saw shape: {shape}")
        _check_type(self.dtype)
        return shape[-1]

    def _zeros(self) -> Any:
        return init_ops.Zeros(dtype=self.dtype or dtypes.float32)


def _demand_matrices(cell: Layer) -> None:
    from headrace.layers.input_spec import InputSpec

    cell.input_spec = InputSpec(ndim=2)


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
        _check_type(self.dtype)
        _demand_matrices(self)
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
        _check_types(inputs, state)
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
        _check_type(self.dtype)
        _demand_matrices(self)
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
        _check_types(inputs, state)
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
        _check_type(self.dtype)
        if not state_is_tuple:
            warning(_CONCATENATED, self)
        _demand_matrices(self)
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
        _check_types(inputs, state)
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
        _check_type(self.dtype)
        if not state_is_tuple:
            warning(_CONCATENATED, self)
        _demand_matrices(self)
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
        _check_types(inputs, state)
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
