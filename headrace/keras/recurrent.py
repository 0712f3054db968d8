"""`tf.keras.layers.RNN`: a cell over the steps of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.core import nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.keras import backend
from headrace.keras.base_layer import Layer
from headrace.keras.recurrent_cells import (
    StackedRNNCells,
    cell_from_config,
    is_multiple,
    output_size_of,
    zero_state,
)
from headrace.layers.input_spec import InputSpec
from headrace.layers.layer_base import LayerBase, accepts


def _as_size(size: Any) -> TensorShape:
    return as_shape(size if hasattr(size, "__len__") else [size])


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


@export("keras.layers.RNN")
class RNN(Layer):
    """A cell called for each step of sequences [batch, time, ...].

    cell: a cell, or a list of cells one on the other. return_sequences: the outputs of all steps, else of the last.
    return_state: the last states too, behind the outputs. go_backwards: from the last step to the first. stateful: the states
    begin where those of the last run ended. unroll: so many copies of the step in place of a loop.
    time_major: inputs and outputs are [time, batch, ...]. zero_output_for_mask: outputs of masked steps are zero.
    Raises ValueError: something that is no cell.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        for needed, kind in (("call", "method"), ("state_size", "attribute")):
            if not hasattr(cell, needed):
                raise ValueError(
                    f"`cell` should have a `{needed}` {kind}. The RNN was passed:", cell
                )
        self.zero_output_for_mask = kwargs.pop("zero_output_for_mask", False)
        if "input_shape" not in kwargs and ("input_dim" in kwargs or "input_length" in kwargs):
            kwargs["input_shape"] = (
                kwargs.pop("input_length", None),
                kwargs.pop("input_dim", None),
            )
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful = go_backwards, stateful
        self.unroll, self.time_major = unroll, time_major
        self.supports_masking = True
        self.state_spec: Any = None
        self._states: Any = None

    # ---- states

    @property
    def states(self) -> Any:
        """The states that a stateful layer keeps; None for each otherwise."""
        if self._states is None:
            empty = nest.map_structure(lambda _: None, self._sizes())
            return empty
        return self._states

    @states.setter
    def states(self, states: Any) -> None:
        self._states = states

    def _sizes(self) -> list[Any]:
        size = self.cell.state_size
        return list(size) if is_multiple(size) else [size]

    def get_initial_state(self, inputs: Any) -> list[Any]:
        """Zeros for the batch size and type of `inputs`, as the cell has them."""
        first = nest.flatten(inputs)[0]
        batch = backend.row_count(first, 1 if self.time_major else 0)
        own = getattr(self.cell, "get_initial_state", None)
        if own is not None:
            state = own(inputs=None, batch_size=batch, dtype=first.dtype)
        else:
            state = zero_state(self.cell, None, batch, first.dtype)
        return list(state) if nest.is_nested(state) else [state]

    def reset_states(self, states: Any = None) -> None:
        """Sets the states that a stateful layer keeps: to zeros, or to arrays, one for each.

        Raises AttributeError: not stateful. ValueError: the batch size is not known, other numbers or shapes of states.
        """
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        spec = None if self.input_spec is None else nest.flatten(self.input_spec[0])[0]
        batch = None if spec is None else spec.shape[1 if self.time_major else 0]
        if not batch:
            raise ValueError(
                "If a RNN is stateful, it needs to know its batch size. Specify the batch size of your input tensors: "
                "by passing a `batch_input_shape` argument to your first layer, or a `batch_shape` argument to your Input "
                "layer."
            )
        sizes: Any = [(batch, *_as_size(s).as_list()) for s in nest.flatten(self._sizes())]
        if self._states is None:
            made = [backend.zeros(shape) for shape in sizes]
            self._states = nest.pack_sequence_as(self._sizes(), made)
        kept = nest.flatten(self._states)
        values = [np.zeros(s) for s in sizes] if states is None else nest.flatten(states)
        if len(values) != len(kept):
            raise ValueError(
                f"Layer {self.name} expects {len(kept)} states, but it received {len(values)} state values."
            )
        for i, (value, shape) in enumerate(zip(values, sizes, strict=True)):
            if np.shape(value) != shape:
                raise ValueError(
                    f"State {i} is incompatible with layer {self.name}: expected shape={shape}, found shape={np.shape(value)}"
                )
        backend.batch_set_value(list(zip(kept, values, strict=True)))

    # ---- shapes

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs; a list with those of the states where these are returned."""
        shape = as_shape(
            nest.flatten(input_shape)[0] if isinstance(input_shape, list) else input_shape
        )
        dims = shape.as_list()
        batch, steps = (dims[1], dims[0]) if self.time_major else (dims[0], dims[1])
        head = [batch]
        if self.return_sequences:
            head = [steps, batch] if self.time_major else [batch, steps]
        sizes = nest.flatten(output_size_of(self.cell))
        outputs = [as_shape(head).concatenate(_as_size(s)) for s in sizes]
        if self.return_state:
            states = [
                as_shape([batch]).concatenate(_as_size(s)) for s in nest.flatten(self._sizes())
            ]
            return outputs + states
        return outputs[0] if len(outputs) == 1 else outputs

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        """The mask of the inputs where all steps are returned; none for states."""
        own = nest.flatten(mask)[0] if self.return_sequences else None
        return [own, *([None] * len(self._sizes()))] if self.return_state else own

    def build(self, input_shape: Any) -> None:
        """Builds the cell for one step of the inputs."""
        shape = nest.map_structure(as_shape, input_shape)
        batch_axis = 1 if self.time_major else 0

        def spec(shape: TensorShape) -> InputSpec:
            dims = shape.as_list()
            dims[1 - batch_axis] = None
            if not self.stateful:
                dims[batch_axis] = None
            return InputSpec(shape=tuple(dims))

        def step(shape: TensorShape) -> TensorShape:
            dims = shape.as_list()
            return as_shape([dims[batch_axis], *dims[2:]])

        self.input_spec = [nest.map_structure(spec, shape)]
        if isinstance(self.cell, LayerBase) and not self.cell.built:
            self.cell.build(nest.map_structure(step, shape))
            self.cell.built = True
        if self.stateful:
            self.reset_states()
        self.built = True

    # ---- calling

    def __call__(
        self, inputs: Any, initial_state: Any = None, constants: Any = None, **kwargs: Any
    ) -> Any:
        """The outputs. initial_state: the states to begin with. constants: what every step gets besides.

        Raises ValueError: states that do not fit the cell.
        """
        if isinstance(inputs, list) and initial_state is None and len(inputs) > 1:
            # The inputs, then the states to begin with.
            inputs, *initial_state = inputs
        if initial_state is not None:
            initial_state = _as_list(initial_state)
            self._check_states(initial_state)
            kwargs["initial_state"] = initial_state
        if constants is not None:
            kwargs["constants"] = _as_list(constants)
        return super().__call__(inputs, **kwargs)

    def _check_states(self, states: list[Any]) -> None:
        flat, sizes = nest.flatten(states), nest.flatten(self._sizes())
        fit = len(flat) == len(sizes) and all(
            s.shape[1:].is_compatible_with(_as_size(size))
            for s, size in zip(flat, sizes, strict=True)
        )
        if not fit:
            raise ValueError(
                "An `initial_state` was passed that is not compatible with `cell.state_size`. Received "
                f"`state_spec`={[s.shape for s in flat]}; however `cell.state_size` is {self.cell.state_size}"
            )

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: Any = None,
        initial_state: Any = None,
        constants: Any = None,
    ) -> Any:
        """The outputs of the cell over the steps of `inputs`."""
        states = self._first_states(inputs, initial_state)
        if mask is not None:
            mask = nest.flatten(mask)[0]
        steps = nest.flatten(inputs)[0].shape.as_list()[0 if self.time_major else 1]
        if self.unroll and steps is None:
            raise ValueError(
                "Cannot unroll a RNN if the time dimension is undefined: give the layer an `input_shape` or the Input a "
                "`shape` with it."
            )
        for cell in getattr(self.cell, "cells", [self.cell]):
            for reset in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):
                if hasattr(cell, reset):
                    getattr(cell, reset)()
        last, outputs, states = backend.rnn(
            self._step(training, len(states), constants),
            inputs,
            states,
            constants=constants,
            go_backwards=self.go_backwards,
            mask=mask,
            unroll=self.unroll,
            time_major=self.time_major,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        if self.stateful:
            pairs = zip(nest.flatten(self._states), nest.flatten(states), strict=True)
            self.add_update([kept.assign(new) for kept, new in pairs])
        output = outputs if self.return_sequences else last
        return [output, *_as_list(states)] if self.return_state else output

    def _first_states(self, inputs: Any, initial_state: Any) -> list[Any]:
        if initial_state is not None:
            return list(initial_state)
        if self.stateful:
            return nest.map_structure(lambda v: v.read_value(), _as_list(self._states))
        return self.get_initial_state(inputs)

    def _step(self, training: Any, count: int, constants: Any) -> Any:
        cell = self.cell
        extra = {}
        if accepts(cell.call, "training") or isinstance(cell, StackedRNNCells):
            extra["training"] = training
        if constants and not accepts(cell.call, "constants"):
            raise ValueError("RNN cell does not support constants")
        plain = getattr(cell, "_is_tf_rnn_cell", None) is not None

        def step(inputs: Any, states: Any) -> tuple[Any, Any]:
            own: Any = states[:count]
            if plain and count == 1:
                own = own[0]
            if constants:
                extra["constants"] = states[count:]
            output, new = cell.call(inputs, own, **extra)
            return output, new if nest.is_nested(new) else [new]

        return step

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        return {
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "time_major": self.time_major,
            **({"zero_output_for_mask": True} if self.zero_output_for_mask else {}),
            "cell": {"class_name": type(self.cell).__name__, "config": self.cell.get_config()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RNN:
        """A layer as `config` describes it."""
        config = dict(config)
        return cls(cell_from_config(config.pop("cell"), custom_objects), **config)
