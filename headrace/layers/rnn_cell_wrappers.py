"""Cells around cells: dropout, residual connections, devices."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Callable
from typing import Any

from headrace.api.export import PUBLIC, export
from headrace.api.framework import device as open_device
from headrace.api.framework import name_scope
from headrace.api.nn_v2 import dropout as dropout_v2
from headrace.api.random_ops import random_uniform
from headrace.api.tensor_array import TensorArray
from headrace.core import nest
from headrace.core.tensor_shape import as_shape
from headrace.graph import convert
from headrace.graph.constant_value import constant_value
from headrace.layers.layer_base import LayerBase
from headrace.layers.rnn_cell import LSTMStateTuple
from headrace.layers.rnn_cell_base import RNNCell, assert_like_rnncell


class _Wrapper(RNNCell):
    """A cell that calls another one, with something before or after; sizes and weights are that one's."""

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert_like_rnncell("cell", cell)
        self.cell = cell

    @property
    def wrapped_cell(self) -> Any:
        """The cell inside."""
        return self.cell

    @property
    def state_size(self) -> Any:
        """That of the cell inside."""
        return self.cell.state_size

    @property
    def output_size(self) -> Any:
        """That of the cell inside."""
        return self.cell.output_size

    @property
    def trainable_weights(self) -> list[Any]:
        """Those of the cell inside."""
        inside = self.cell.trainable_weights if isinstance(self.cell, LayerBase) else []
        return list(inside) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        """Those of the cell inside."""
        if not isinstance(self.cell, LayerBase):
            return []
        return list(self.cell.non_trainable_weights if self.trainable else self.cell.weights)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """That of the cell inside."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            return self.cell.zero_state(batch_size, dtype)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """The output and the new state."""
        return self._call_wrapped_cell(inputs, state, self.cell.__call__, scope=scope)

    def call(self, inputs: Any, state: Any, **kwargs: Any) -> tuple[Any, Any]:
        """One step, by the `call` of the cell inside."""
        return self._call_wrapped_cell(inputs, state, self.cell.call, **kwargs)

    def _call_wrapped_cell(
        self, inputs: Any, state: Any, cell_call_fn: Callable[..., Any], **kwargs: Any
    ) -> tuple[Any, Any]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of, once the cell inside is put in place of its configuration."""
        inside = {"class_name": type(self.cell).__name__, "config": self.cell.get_config()}
        return {**super().get_config(), "cell": inside}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> _Wrapper:
        """A cell as `config` describes it, where "cell" must be a cell. Raises ValueError: it is not."""
        config = dict(config)
        cell = config.pop("cell")
        try:
            assert_like_rnncell("cell", cell)
            return cls(cell, **config)
        except TypeError:
            raise ValueError(
                "RNNCellWrapper cannot reconstruct the wrapped cell. Please overwrite the cell in the config with a RNNCell "
                "instance."
            ) from None


def _keeps_memory(part: Any) -> Any:
    """Dropout leaves alone what an LSTM remembers, and arrays."""
    if isinstance(part, LSTMStateTuple):
        return LSTMStateTuple(c=False, h=True)
    return not isinstance(part, TensorArray)


def _numbered_map_up_to(shallow: Any, function: Callable[..., Any], *structures: Any) -> Any:
    number = iter(range(1 << 30))
    return nest.map_structure_up_to(shallow, lambda *v: function(next(number), *v), *structures)


@export("nn.rnn_cell.DropoutWrapper")
class DropoutWrapper(_Wrapper):
    """A cell with dropout on its inputs, states and outputs.

    *_keep_prob: the probability to keep an element, a float or a scalar tensor; 1.0 for no dropout. variational_recurrent: the
    same elements are dropped in every step; then dtype, and for inputs input_size (without the batch), must be given.
    dropout_state_filter_visitor: says of a part of the state whether dropout is for it; by default not for an LSTM's `c`.
    Raises ValueError: probabilities outside [0, 1], something missing. TypeError: no cell, a visitor that is not callable.
    """

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        dropout_state_filter_visitor: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cell, dtype=dtype, **kwargs)
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError("dropout_state_filter_visitor must be callable")
        self._dropout_state_filter = dropout_state_filter_visitor or _keeps_memory
        with name_scope("DropoutWrapperInit"):
            self._input_keep_prob = _probability("input_keep_prob", input_keep_prob)
            self._state_keep_prob = _probability("state_keep_prob", state_keep_prob)
            self._output_keep_prob = _probability("output_keep_prob", output_keep_prob)
            self._variational_recurrent = variational_recurrent
            self._input_size, self._seed = input_size, seed
            self._input_noise = self._state_noise = self._output_noise = None
            if variational_recurrent:
                self._make_noise(dtype)

    def _make_noise(self, dtype: Any) -> None:
        if dtype is None:
            raise ValueError("When variational_recurrent=True, dtype must be provided")

        def noise(salt: str, sizes: Any) -> Any:
            return _numbered_map_up_to(
                sizes,
                lambda i, size: random_uniform(
                    [1, *as_shape(size if not isinstance(size, int) else [size]).as_list()],
                    seed=self._gen_seed(salt, i),
                    dtype=dtype,
                ),
                sizes,
            )

        if _drops(self._input_keep_prob):
            if self._input_size is None:
                raise ValueError(
                    "When variational_recurrent=True and input_keep_prob < 1.0 or is unknown, input_size must be provided"
                )
            self._input_noise = noise("input", self._input_size)
        self._state_noise = noise("state", self.cell.state_size)
        self._output_noise = noise("output", self.cell.output_size)

    def _gen_seed(self, salt: str, index: int) -> int | None:
        """The seed of one dropout, by TensorFlow's rule, so that the same seed drops the same elements."""
        if self._seed is None:
            return None
        digest = hashlib.md5(f"{self._seed}{salt}_{index}".encode()).hexdigest()
        return int(digest[:8], 16) & 0x7FFFFFFF

    def _dropout(self, values: Any, salt: str, noise: Any, keep: Any, shallow: Any) -> Any:
        if not self._variational_recurrent:
            return _numbered_map_up_to(
                shallow,
                lambda i, wanted, v: (
                    v
                    if wanted is False
                    else dropout_v2(v, rate=1.0 - keep, seed=self._gen_seed(salt, i))
                ),
                shallow,
                values,
            )

        def drop(_: int, wanted: Any, value: Any, own_noise: Any) -> Any:
            if wanted is False:
                return value
            # The noise is in [0, 1): the sum reaches 1 with probability `keep`.
            kept = value / keep * PUBLIC["floor"](keep + own_noise)
            kept.set_shape(value.shape)
            return kept

        return _numbered_map_up_to(shallow, drop, shallow, values, noise)

    def _call_wrapped_cell(
        self, inputs: Any, state: Any, cell_call_fn: Callable[..., Any], **kwargs: Any
    ) -> tuple[Any, Any]:
        if _drops(self._input_keep_prob):
            inputs = self._dropout(
                inputs, "input", self._input_noise, self._input_keep_prob, inputs
            )
        output, new_state = cell_call_fn(inputs, state, **kwargs)
        if _drops(self._state_keep_prob):
            chosen = nest.get_traverse_shallow_structure(self._dropout_state_filter, new_state)
            new_state = self._dropout(
                new_state, "state", self._state_noise, self._state_keep_prob, chosen
            )
        if _drops(self._output_keep_prob):
            output = self._dropout(
                output, "output", self._output_noise, self._output_keep_prob, output
            )
        return output, new_state

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        config = {
            **super().get_config(),
            "input_keep_prob": self._input_keep_prob,
            "output_keep_prob": self._output_keep_prob,
            "state_keep_prob": self._state_keep_prob,
            "variational_recurrent": self._variational_recurrent,
            "input_size": self._input_size,
            "seed": self._seed,
        }
        if self._dropout_state_filter is not _keeps_memory:
            config["dropout_state_filter_visitor"] = self._dropout_state_filter
        return config


def _probability(name: str, value: Any) -> Any:
    """`value` as a float where it is known, else the tensor."""
    tensor = convert.convert_to_tensor(value)
    known = constant_value(tensor)
    if known is None:
        return tensor
    if known < 0 or known > 1:
        raise ValueError(f"Parameter {name} must be between 0 and 1: {known}")
    return float(known)


def _drops(keep: Any) -> bool:
    return not isinstance(keep, numbers.Real) or keep < 1


@export("nn.rnn_cell.ResidualWrapper")
class ResidualWrapper(_Wrapper):
    """A cell whose inputs are added to its outputs, or `residual_fn(inputs, outputs)`.

    Raises ValueError, TypeError: inputs and outputs of different structures or shapes.
    """

    def __init__(
        self, cell: Any, residual_fn: Callable[..., Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cell, **kwargs)
        self._residual_fn = residual_fn

    def _call_wrapped_cell(
        self, inputs: Any, state: Any, cell_call_fn: Callable[..., Any], **kwargs: Any
    ) -> tuple[Any, Any]:
        outputs, new_state = cell_call_fn(inputs, state, **kwargs)
        return (self._residual_fn or _sum)(inputs, outputs), new_state

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        config = super().get_config()
        if self._residual_fn is not None:
            config["residual_fn"] = self._residual_fn
        return config


def _sum(inputs: Any, outputs: Any) -> Any:
    nest.assert_same_structure(inputs, outputs)
    nest.map_structure(lambda i, o: i.shape.assert_is_compatible_with(o.shape), inputs, outputs)
    return nest.map_structure(lambda i, o: i + o, inputs, outputs)


@export("nn.rnn_cell.DeviceWrapper")
class DeviceWrapper(_Wrapper):
    """A cell that runs on a device of its own."""

    def __init__(self, cell: Any, device: Any, **kwargs: Any) -> None:
        super().__init__(cell, **kwargs)
        self._device = device

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """That of the cell inside, on the device."""
        with open_device(self._device):
            return super().zero_state(batch_size, dtype)

    def _call_wrapped_cell(
        self, inputs: Any, state: Any, cell_call_fn: Callable[..., Any], **kwargs: Any
    ) -> tuple[Any, Any]:
        with open_device(self._device):
            return cell_call_fn(inputs, state, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {**super().get_config(), "device": self._device}
