"""What every layer is, however it finds its variables: building, calling, weights, losses, updates, configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api import array_ops
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.math_ops import cast
from headrace.api.variable_arguments import VariableSynchronization
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import as_shape
from headrace.graph import default
from headrace.graph.convert import convert_to_tensor
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.layers.input_spec import check_inputs

_KNOWN_ARGUMENTS = {
    "input_shape",
    "batch_input_shape",
    "batch_size",
    "weights",
    "activity_regularizer",
    "autocast",
}


def snake_case(name: str) -> str:
    """The name of a class as layers are named: "BasicLSTMCell" gives "basic_lstm_cell"."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
    return f"private{words}" if words.startswith("_") else words


def unique_layer_name(base: str, zero_based: bool = False) -> str:
    """`base_1`, `base_2`, ... as counted in the default graph; with zero_based the first is `base`."""
    counts = default.get_default_graph().__dict__.setdefault("_layer_names", {})
    number = counts.get(base, 0)
    counts[base] = number + 1
    if zero_based:
        return f"{base}_{number}" if number else base
    return f"{base}_{number + 1}"


def checked_trainable(trainable: bool | None, synchronization: Any) -> bool | None:
    """Whether a variable is to be trained; not if its copies are read by replicas alone.

    Raises ValueError: it is to be both.
    """
    if synchronization != VariableSynchronization.ON_READ:
        return trainable
    if trainable:
        raise ValueError(
            "Synchronization value can be set to VariableSynchronization.ON_READ only for non-trainable variables. "
            "You have specified trainable=True and synchronization=VariableSynchronization.ON_READ."
        )
    return False


class LayerBase:
    """A function with variables, which it makes in `build` when it is first called, and uses in `call`.

    Subclasses say how they are named (`_init_set_name`), under which scope their operations go (`_name_scope`) and how a
    variable is made (`_make_variable`).
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        for argument in kwargs:
            if argument not in _KNOWN_ARGUMENTS:
                raise TypeError("Keyword argument not understood:", argument)
        self._trainable = trainable
        self._init_set_name(name)
        self._dtype = None if dtype is None else dtypes.as_dtype(dtype).name
        self.built = False
        self.stateful = False
        self.supports_masking = False
        self.input_spec: Any = None
        self._trainable_weights: list[Any] = []
        self._non_trainable_weights: list[Any] = []
        self._losses: list[tuple[Tensor, bool]] = []  # with whether they depend on the inputs
        self._updates: list[tuple[Any, bool]] = []
        self._activity_regularizer = kwargs.get("activity_regularizer")
        shape = kwargs.get("batch_input_shape")
        if shape is None and kwargs.get("input_shape") is not None:
            shape = (kwargs.get("batch_size"), *kwargs["input_shape"])
        if shape is not None:
            self._batch_input_shape = tuple(shape)
        self._initial_weights = kwargs.get("weights")

    # ---- names and types

    def _init_set_name(self, name: str | None) -> None:
        self._name = name if name else unique_layer_name(snake_case(type(self).__name__), True)

    def _name_scope(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        """The name of the layer."""
        return self._name

    @property
    def dtype(self) -> str | None:
        """The name of the type of the weights; None as long as nobody has said and the layer has not been called."""
        return self._dtype

    @property
    def trainable(self) -> bool:
        """Whether the weights are to be trained."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value

    @property
    def activity_regularizer(self) -> Any:
        """A function of the outputs whose result becomes a loss, or None."""
        return self._activity_regularizer

    @activity_regularizer.setter
    def activity_regularizer(self, regularizer: Any) -> None:
        self._activity_regularizer = regularizer

    # ---- weights

    @property
    def trainable_weights(self) -> list[Any]:
        """The variables that are trained: none while the layer is not trainable."""
        return list(self._trainable_weights) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The variables that are not trained."""
        if self.trainable:
            return list(self._non_trainable_weights)
        return [*self._trainable_weights, *self._non_trainable_weights]

    @property
    def weights(self) -> list[Any]:
        """All variables: those that are trained first."""
        return [*self.trainable_weights, *self.non_trainable_weights]

    @property
    def trainable_variables(self) -> list[Any]:
        """As `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Any]:
        """As `non_trainable_weights`."""
        return self.non_trainable_weights

    @property
    def variables(self) -> list[Any]:
        """As `weights`."""
        return self.weights

    def count_params(self) -> int:
        """The number of elements of all weights. Raises ValueError: the layer has not been built."""
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on {self.name}, but the layer isn't built. You can build it manually via: "
                f"`{self.name}.build(batch_input_shape)`."
            )
        return sum(int(np.prod(w.shape.as_list(), dtype=np.int64)) for w in self.weights)

    def _file_weight(self, variable: Any, trainable: bool) -> None:
        """Notes a variable of the layer, once."""
        kept = self._trainable_weights if trainable else self._non_trainable_weights
        if all(variable is not w for w in kept):
            kept.append(variable)

    def add_variable(self, *args: Any, **kwargs: Any) -> Any:
        """As `add_weight`."""
        return self.add_weight(*args, **kwargs)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a variable of the layer: said by the kinds of layers."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it makes variables")

    # ---- losses and updates

    @property
    def losses(self) -> list[Tensor]:
        """The losses that the layer added, of its weights and of its outputs."""
        return [loss for loss, _ in self._losses]

    @property
    def updates(self) -> list[Any]:
        """The operations that the layer wants to be run with each step of training."""
        return [update for update, _ in self._updates] if self.trainable else []

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Adds losses: scalars, or functions without arguments that give them. inputs: what they depend on, if anything."""
        for loss in nest.flatten(losses):
            value = loss() if callable(loss) else loss
            if value is not None:
                self._losses.append((convert_to_tensor(value), inputs is not None))

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Adds operations, or functions without arguments that give them. inputs: what they depend on, if anything."""
        for update in nest.flatten(updates):
            value = update() if callable(update) else update
            self._updates.append((value, inputs is not None))

    def get_losses_for(self, inputs: Any) -> list[Any]:
        """The losses that depend on `inputs`; with None those that depend on no input."""
        return _reached(self._losses, inputs)

    def get_updates_for(self, inputs: Any) -> list[Any]:
        """The updates that depend on `inputs`; with None those that depend on no input."""
        return _reached(self._updates if self.trainable else [], inputs)

    # ---- building and calling

    def build(self, input_shape: Any) -> None:
        """Makes the variables for inputs of this shape."""
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        """The outputs for `inputs`: what the layer computes."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for inputs of this shape. Raises NotImplementedError: the layer does not say."""
        raise NotImplementedError(f"{type(self).__name__} does not say the shape of its outputs")

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As calling the layer."""
        return self.__call__(inputs, *args, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds the layer if need be, and gives `call(inputs, ...)` under the layer's name scope.

        Raises ValueError: inputs that do not fit `input_spec`, a `call` that gives nothing.
        """
        inputs = nest.map_structure(_as_input, inputs)
        check_inputs(self.input_spec, inputs, self.name)
        with open_name_scope(self._name_scope()):
            if not self.built:
                self._build_for(inputs)
            outputs = self.call(inputs, *args, **kwargs)
            if outputs is None:
                raise ValueError(
                    "A layer's `call` method should return a Tensor or a list of Tensors, not None (layer: "
                    f"{self.name})."
                )
            if self._activity_regularizer is not None:
                self._regularize(outputs, inputs)
        return outputs

    def _build_for(self, inputs: Any) -> None:
        flat = nest.flatten(inputs)
        if self._dtype is None and flat and hasattr(flat[0], "dtype"):
            self._dtype = flat[0].dtype.base_dtype.name
        shapes = None
        if all(hasattr(x, "shape") for x in flat):
            shapes = nest.map_structure(lambda x: as_shape(x.shape), inputs)
        self.build(shapes)
        self.built = True
        check_inputs(self.input_spec, inputs, self.name)
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)
            self._initial_weights = None

    def set_weights(self, weights: Any) -> None:
        """Sets the values of the weights in the default session. Raises ValueError: other numbers or shapes of arrays."""
        variables = self.weights
        if len(variables) != len(weights):
            raise ValueError(
                f"You called `set_weights(weights)` on layer {self.name!r} with a weight list of length {len(weights)}, but "
                f"the layer was expecting {len(variables)} weights."
            )
        for variable, value in zip(variables, weights, strict=True):
            if tuple(variable.shape.as_list()) != np.shape(value):
                raise ValueError(
                    f"Layer weight shape {variable.shape} not compatible with provided weight shape {np.shape(value)}"
                )
        self._load(list(zip(variables, weights, strict=True)))

    def _load(self, pairs: list[tuple[Any, Any]]) -> None:
        """Gives variables their values."""
        for variable, value in pairs:
            variable.load(value, default.get_default_session())

    def get_weights(self) -> list[np.ndarray]:
        """The values of the weights in the default session."""
        return default.get_default_session().run(self.weights)

    def _regularize(self, outputs: Any, inputs: Any) -> None:
        with open_name_scope("ActivityRegularizer"):
            for output in nest.flatten(outputs):
                loss = self._activity_regularizer(output)
                # The mean over the batch, so that the loss does not grow with it.
                self.add_loss(loss / cast(array_ops.shape(output)[0], loss.dtype), inputs=inputs)

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        config = {"name": self.name, "trainable": self.trainable}
        if hasattr(self, "_batch_input_shape"):
            config["batch_input_shape"] = self._batch_input_shape
        config["dtype"] = self.dtype
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayerBase:
        """A layer as `config` (of `get_config`) describes it."""
        return cls(**config)


def accepts(function: Callable[..., Any], argument: str) -> bool:
    """Whether `function` has an argument of that name."""
    try:
        return argument in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _as_input(value: Any) -> Any:
    return convert_to_tensor(value) if isinstance(value, (np.ndarray, float, int)) else value


def _reached(entries: list[tuple[Any, bool]], inputs: Any) -> list[Any]:
    """Of (value, whether it depends on inputs): those that depend on none, or those to which `inputs` lead."""
    if inputs is None:
        return [value for value, depends in entries if not depends]
    sources = {t._op for t in nest.flatten(inputs) if isinstance(t, Tensor)}
    found = []
    for value, depends in entries:
        if depends and _leads(sources, value):
            found.append(value)
    return found


def _leads(sources: set[Operation], value: Any) -> bool:
    seen: set[Operation] = set()
    stack = [value if isinstance(value, Operation) else value.op]
    while stack:
        op = stack.pop()
        if op in sources:
            return True
        if op not in seen:
            seen.add(op)
            stack += [t._op for t in op._inputs]
            stack += list(op.control_inputs)
    return False
