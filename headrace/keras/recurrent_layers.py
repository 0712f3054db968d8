"""`SimpleRNN`, `GRU` and `LSTM`: layers that make their cell themselves."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.api.logging import warning
from headrace.keras.recurrent import RNN
from headrace.keras.recurrent_cells import GRUCell, LSTMCell, SimpleRNNCell

_OF_THE_CELL = tuple(
    "units activation use_bias kernel_initializer recurrent_initializer bias_initializer kernel_regularizer "
    "recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint bias_constraint dropout "
    "recurrent_dropout".split()
)
_OF_GATES = ("recurrent_activation", "implementation")
_OF_RNN = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "time_major")


class _OwnCell(RNN):
    """A layer whose cell is made of its own arguments, which are its attributes and its configuration too."""

    cell_class: Any = None
    arguments: tuple[str, ...] = ()

    def __init__(self, arguments: dict[str, Any]) -> None:
        kwargs = arguments.pop("kwargs")
        arguments = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        regularizer = arguments.pop("activity_regularizer")
        if arguments.get("implementation") == 0:
            warning(
                "`implementation=0` has been deprecated, and now defaults to `implementation=1`."
            )
            arguments["implementation"] = 1
        of_rnn = {k: arguments.pop(k) for k in _OF_RNN if k in arguments}
        own = {k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs}
        cell = self.cell_class(**arguments, **own)
        super().__init__(cell, **of_rnn, activity_regularizer=regularizer, **kwargs)

    def call(
        self, inputs: Any, mask: Any = None, training: Any = None, initial_state: Any = None
    ) -> Any:
        """As RNN's."""
        return super().call(inputs, mask, training, initial_state)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal layer of."""
        config = super().get_config()
        del config["cell"]
        if not self.time_major:
            del config["time_major"]
        cell = self.cell.get_config()
        config.update({name: cell[name] for name in self.arguments})
        config["activity_regularizer"] = self.activity_regularizer
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> _OwnCell:
        """A layer as `config` describes it."""
        return cls(**config)


def _shows_arguments_of_cell(cls: Any) -> Any:
    for name in cls.arguments:
        setattr(
            cls,
            name,
            property(lambda self, name=name: getattr(self.cell, name), doc=f"The cell's `{name}`."),
        )
    return cls


@export("keras.layers.SimpleRNN")
@_shows_arguments_of_cell
class SimpleRNN(_OwnCell):
    """SimpleRNNCell over sequences [batch, time, depth]; arguments as for the cell and for RNN."""

    cell_class = SimpleRNNCell
    arguments = _OF_THE_CELL

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dict(locals()))


@export("keras.layers.GRU")
@_shows_arguments_of_cell
class GRU(_OwnCell):
    """GRUCell over sequences [batch, time, depth]; arguments as for the cell and for RNN."""

    cell_class = GRUCell
    arguments = (*_OF_THE_CELL, *_OF_GATES, "reset_after")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dict(locals()))


@export("keras.layers.LSTM")
@_shows_arguments_of_cell
class LSTM(_OwnCell):
    """LSTMCell over sequences [batch, time, depth]; arguments as for the cell and for RNN."""

    cell_class = LSTMCell
    arguments = (*_OF_THE_CELL, *_OF_GATES, "unit_forget_bias")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dict(locals()))
