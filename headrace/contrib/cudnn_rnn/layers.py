"""Layers that run a stacked recurrent network on whole sequences, with one variable for all parameters."""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.api import init_ops
from headrace.api.array_ops import fill, zeros
from headrace.api.array_ops import shape as shape_of
from headrace.api.framework import GraphKeys
from headrace.api.get_variable import get_variable, get_variable_scope
from headrace.api.logging import warning
from headrace.api.random_seed import get_seed
from headrace.api.variable_scope import variable_scope
from headrace.contrib.cudnn_rnn import saveables
from headrace.core import dtypes
from headrace.core.tensor_shape import as_shape
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.layers.base import Layer
from headrace.layers.input_spec import InputSpec
from headrace.lowering.recurrent import GATES, Network

DIRECTIONS = ("unidirectional", "bidirectional")
INPUT_MODES = ("linear_input", "skip_input", "auto_select")


class _CudnnLayer(Layer):
    """A network of `num_layers` layers of `num_units` units, on inputs [time, batch, features].

    input_mode: 'skip_input' adds the input to the gates of the first layer, which needs as many features as units;
    'auto_select' does so where that holds. dropout: the rate at which what passes between layers is dropped when training.
    kernel_initializer, bias_initializer: by default Glorot's uniform one, and zeros.
    Raises ValueError: an unknown direction or input_mode; a type other than float16, float32, float64.
    """

    _mode: ClassVar[str]
    _saveable_class: ClassVar[Any]

    def __init__(
        self,
        num_layers: int,
        num_units: int,
        input_mode: str = "linear_input",
        direction: str = "unidirectional",
        dropout: float = 0.0,
        seed: int | None = None,
        dtype: Any = dtypes.float32,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        for what, value, known in (
            ("direction", direction, DIRECTIONS),
            ("input_mode", input_mode, INPUT_MODES),
        ):
            if value not in known:
                raise ValueError(f"Invalid {what}: {value}, expecting {' or '.join(known)}")
        self._plain_dtype = dtypes.as_dtype(dtype)
        if self._plain_dtype not in (dtypes.float16, dtypes.float32, dtypes.float64):
            raise ValueError(f"Only support float16, float32, float64, provided {dtype}")
        self._num_layers, self._num_units = num_layers, num_units
        self._input_mode, self._direction = input_mode, direction
        self._dropout, self._seed = dropout, seed
        self._kernel_initializer, self._bias_initializer = kernel_initializer, bias_initializer
        self._input_size: int | None = None
        self._saveable: Any = None

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return self._num_layers

    @property
    def num_units(self) -> int:
        """The number of units of each direction of a layer."""
        return self._num_units

    @property
    def input_mode(self) -> str:
        """What becomes of the input of the first layer."""
        return self._input_mode

    @property
    def input_size(self) -> int:
        """The number of features. Raises ValueError: the layer has not been built yet."""
        if self._input_size is None:
            raise ValueError("'input_size' is unknown since layer has not been built.")
        return self._input_size

    @property
    def rnn_mode(self) -> str:
        """lstm, gru, rnn_relu or rnn_tanh."""
        return self._mode

    @property
    def direction(self) -> str:
        """unidirectional or bidirectional."""
        return self._direction

    @property
    def num_dirs(self) -> int:
        """The number of directions."""
        return 1 + DIRECTIONS.index(self._direction)

    @property
    def saveable(self) -> Any:
        """What a Saver saves of the layer besides its variable; None before it is built."""
        return self._saveable

    @property
    def canonical_weight_shapes(self) -> list[tuple[int, int]]:
        """The shapes of the weights one by one. Raises RuntimeError: the size of the input is not known yet."""
        if self._input_size is None:
            raise RuntimeError(
                f"{type(self).__name__}.canonical_weight_shapes invoked before input shape is known"
            )
        network = Network(
            self._mode, self._num_layers, self.num_dirs, self._input_size, self._num_units
        )
        return [
            shape
            for layer in range(self._num_layers)
            for shape in network.weight_shapes(layer) * self.num_dirs
        ]

    @property
    def canonical_bias_shapes(self) -> list[list[int]]:
        """The shapes of the biases one by one."""
        return [[self._num_units]] * (2 * GATES[self._mode] * self.num_dirs * self._num_layers)

    def state_shape(self, batch_size: Any) -> tuple[list[Any], ...]:
        """The shapes of the state: one for h, and for an LSTM one for c."""
        sizes = [self._num_layers * self.num_dirs, batch_size, self._num_units]
        return (sizes, list(sizes)) if self._mode == "lstm" else (sizes,)

    def build(self, input_shape: Any) -> None:
        """Makes the variable. Raises ValueError: not three axes, or an unknown number of features."""
        if self.built:
            return
        input_shape = as_shape(input_shape)
        if input_shape.ndims != 3:
            raise ValueError(f"Expecting input_shape with 3 dims, got {input_shape.ndims}")
        size = input_shape.as_list()[-1]
        if size is None:
            raise ValueError(
                "The last dimension of the inputs to `CudnnRNN` should be defined. Found `None`."
            )
        self._input_size = size
        self.input_spec = InputSpec(ndim=3, axes={-1: size})
        self._set_scope(None)
        with variable_scope(self._scope, reuse=self.built, custom_getter=self._noted):
            if get_variable_scope().partitioner is not None:
                warning("%s: its variable is made whole, whatever the partitioner", self.name)
            self.kernel = get_variable(
                "opaque_kernel",
                dtype=self._plain_dtype,
                initializer=self._first_params(),
                validate_shape=False,
            )
        # In the scope around the layer, so that cells in that scope find their variables in a checkpoint.
        scope = get_variable_scope()
        if scope.reuse is not True:
            self._saveable = self._saveable_class(
                opaque_params=self.kernel,
                num_layers=self._num_layers,
                num_units=self._num_units,
                input_size=size,
                input_mode=self._input_mode,
                direction=self._direction,
                scope=scope,
                name=f"{self.kernel.name.split(':')[0]}_saveable",
            )
            default.get_default_graph().add_to_collection(
                GraphKeys.SAVEABLE_OBJECTS, self._saveable
            )
        self.built = True

    def _noted(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        """A custom getter that files the variable among the layer's weights."""
        variable = getter(*args, **kwargs)
        self._file_weight(variable, self.trainable and kwargs.get("trainable", True) is not False)
        return variable

    def _first_params(self) -> Any:
        dtype = self._plain_dtype
        kernel = self._kernel_initializer or init_ops.GlorotUniform(self._seed, dtype)
        bias = self._bias_initializer or init_ops.Constant(0.0, dtype=dtype)
        weights = [kernel(list(shape), dtype=dtype) for shape in self.canonical_weight_shapes]
        biases = [bias(shape, dtype=dtype) for shape in self.canonical_bias_shapes]
        sizes = self._num_layers, self._num_units, self._input_size
        return raw.CudnnRNNCanonicalToParams(*sizes, weights, biases, **self._attrs())

    def _attrs(self) -> dict[str, Any]:
        seed, seed2 = get_seed(self._seed)
        return {
            "rnn_mode": self._mode,
            "input_mode": self._input_mode,
            "direction": self._direction,
            "dropout": self._dropout,
            "seed": seed or 0,
            "seed2": seed2 or 0,
        }

    def call(
        self,
        inputs: Any,
        initial_state: Any = None,
        sequence_lengths: Any = None,
        time_major: bool = True,
        training: bool = True,
    ) -> tuple[Any, tuple[Any, ...]]:
        """(outputs, last state) of the network on sequences.

        inputs: [time, batch, features], or with time_major=False [batch, time, features]; outputs likewise, both
        directions side by side. initial_state: a tuple, (h, c) of an LSTM or (h,), of the shapes `state_shape` tells (the
        first two axes swapped with time_major=False), by default zeros. sequence_lengths: int32 [batch]; outputs
        behind the end of a sequence are 0. training: False drops nothing, and has no gradient.
        Raises TypeError: initial_state is no tuple.
        """
        if initial_state is not None and not isinstance(initial_state, tuple):
            raise TypeError(f"Invalid initial_state type: {initial_state}, expecting tuple.")
        dtype = self._plain_dtype
        inputs = convert_to_tensor(inputs, dtype)
        if initial_state is None:
            batch = _size(inputs, 1 if time_major else 0)
            shapes = self.state_shape(batch)
            if not time_major:
                shapes = tuple([b, n, units] for n, b, units in shapes)
            initial_state = tuple(zeros(shape, dtype) for shape in shapes)
        states = [convert_to_tensor(state, dtype) for state in initial_state]
        if self._mode != "lstm":
            states.append(convert_to_tensor([], dtype))
        h, c = states
        attrs = {**self._attrs(), "is_training": training}
        if sequence_lengths is None and not time_major:
            sequence_lengths = fill([_size(inputs, 0)], _size(inputs, 1))
        if sequence_lengths is None:
            found = raw.CudnnRNN(inputs, h, c, self.kernel, **attrs)
        else:
            found = raw.CudnnRNNV3(
                inputs, h, c, self.kernel, sequence_lengths, time_major=time_major, **attrs
            )
        return found[0], (found[1], found[2]) if self._mode == "lstm" else (found[1],)


def _size(tensor: Any, axis: int) -> Any:
    """A size of a tensor: a number where it is known, else a scalar tensor."""
    known = tensor.shape.as_list()[axis]
    return raw.GatherV2(shape_of(tensor), axis, 0) if known is None else known


class CudnnLSTM(_CudnnLayer):
    """Layers of LSTMs; CudnnCompatibleLSTMCell computes the same step by step."""

    _mode = "lstm"
    _saveable_class = saveables.CudnnLSTMSaveable


class CudnnGRU(_CudnnLayer):
    """Layers of GRUs; CudnnCompatibleGRUCell computes the same step by step."""

    _mode = "gru"
    _saveable_class = saveables.CudnnGRUSaveable


class CudnnRNNTanh(_CudnnLayer):
    """Layers of plain networks with tanh, as of BasicRNNCells."""

    _mode = "rnn_tanh"
    _saveable_class = saveables.CudnnRNNTanhSaveable


class CudnnRNNRelu(_CudnnLayer):
    """Layers of plain networks with relu."""

    _mode = "rnn_relu"
    _saveable_class = saveables.CudnnRNNReluSaveable
