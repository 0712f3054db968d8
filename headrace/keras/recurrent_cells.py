"""Keras' recurrent cells: one step each, with states in lists, and dropout that is the same in all steps."""

from __future__ import annotations

from typing import Any

from headrace.api import array_ops, init_ops, join_ops
from headrace.api.export import export
from headrace.api.logging import warning
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.nn_v2 import dropout as dropout_v2
from headrace.core import nest
from headrace.core.tensor_shape import as_shape
from headrace.graph.tensor import Tensor
from headrace.keras import activations, backend
from headrace.keras.backend import row_count
from headrace.keras.base_layer import Layer
from headrace.layers.layer_base import LayerBase, accepts
from headrace.layers.named import config_of_initializer, initializer_named
from headrace.layers.rnn_cell_base import zeros_of_size

_WEIGHTS = ("kernel", "recurrent", "bias")


def _function(what: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f"Could not interpret {what} identifier: {value!r}")
    return value


def _config_of(function: Any) -> Any:
    if hasattr(function, "get_config"):
        return {"class_name": type(function).__name__, "config": function.get_config()}
    return getattr(function, "__name__", function)


def is_multiple(state_size: Any) -> bool:
    """Whether a cell has several states."""
    return hasattr(state_size, "__len__") and not hasattr(state_size, "as_list")


def zero_state(cell: Any, inputs: Any, batch_size: Any, dtype: Any) -> Any:
    """Zeros for each size of `cell.state_size`; batch size and type those of `inputs` where there are any.

    Raises ValueError: neither inputs nor batch_size and dtype.
    """
    if inputs is not None:
        batch_size, dtype = row_count(inputs), inputs.dtype
    if batch_size is None or dtype is None:
        raise ValueError(
            f"batch_size and dtype cannot be None while constructing initial state: batch_size={batch_size}, dtype={dtype}"
        )

    def one(size: Any) -> Tensor:
        return zeros_of_size(
            batch_size, as_shape(size if hasattr(size, "__len__") else [size]), dtype
        )

    if is_multiple(cell.state_size):
        return nest.map_structure(one, cell.state_size)
    return one(cell.state_size)


def _given(local: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor by name, from its `locals()`."""
    named = {k: v for k, v in local.items() if k not in ("self", "__class__", "kwargs")}
    return {**local["kwargs"], **named}


class _Cell(Layer):
    """What the cells share: kernels, activations, and dropout of inputs and states."""

    bias_initializer: Any
    gates = 1  # how many blocks of `units` columns the kernels have

    def __init__(self, given: dict[str, Any]) -> None:
        units, activation, use_bias = (given.pop(k) for k in ("units", "activation", "use_bias"))
        options = {
            key: given.pop(key)
            for weight in _WEIGHTS
            for key in (f"{weight}_initializer", f"{weight}_regularizer", f"{weight}_constraint")
        }
        dropout, recurrent_dropout = given.pop("dropout"), given.pop("recurrent_dropout")
        super().__init__(**given)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        for key, value in options.items():
            kind = key.rpartition("_")[2]
            made = initializer_named(value) if kind == "initializer" else _function(kind, value)
            setattr(self, key, made)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self.state_size: Any = units
        self.output_size = units
        self._masks: dict[str, list[Tensor]] = {}

    def _weight(self, name: str, shape: Any, prefix: str, initializer: Any = None) -> Any:
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{prefix}_initializer"),
            regularizer=getattr(self, f"{prefix}_regularizer"),
            constraint=getattr(self, f"{prefix}_constraint"),
        )

    def build(self, input_shape: Any) -> None:
        """Makes kernel, recurrent_kernel and bias."""
        columns = self.gates * self.units
        depth = as_shape(input_shape).as_list()[-1]
        self.kernel = self._weight("kernel", (depth, columns), "kernel")
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, columns), "recurrent")
        self.bias = self._bias() if self.use_bias else None
        self.built = True

    def _bias(self) -> Any:
        return self._weight("bias", (self.gates * self.units,), "bias")

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> Any:
        """Zeros: see `zero_state`."""
        return zero_state(self, inputs, batch_size, dtype)

    # ---- dropout

    def reset_dropout_mask(self) -> None:
        """The next step drops other elements of the inputs."""
        self._masks.pop("inputs", None)

    def reset_recurrent_dropout_mask(self) -> None:
        """The next step drops other elements of the states."""
        self._masks.pop("states", None)

    def get_dropout_mask_for_cell(self, inputs: Tensor, training: Any, count: int = 1) -> Any:
        """`count` masks for inputs, the same until `reset_dropout_mask`; None without dropout."""
        return self._mask("inputs", inputs, self.dropout, training, count)

    def get_recurrent_dropout_mask_for_cell(
        self, inputs: Tensor, training: Any, count: int = 1
    ) -> Any:
        """`count` masks for states, the same until `reset_recurrent_dropout_mask`; None without dropout."""
        return self._mask("states", inputs, self.recurrent_dropout, training, count)

    def _mask(self, key: str, like: Tensor, rate: float, training: Any, count: int) -> Any:
        if rate == 0:
            return None
        if key not in self._masks:
            ones = array_ops.ones_like(like)
            self._masks[key] = [
                backend.in_train_phase(lambda: dropout_v2(ones, rate=rate), ones, training)
                for _ in range(count)
            ]
        return self._masks[key]

    def _per_gate(self, x: Tensor, masks: Any) -> list[Tensor]:
        """What each gate gets of `x`."""
        if masks is None:
            return [x] * self.gates
        return [x * m for m in (masks if len(masks) == self.gates else masks * self.gates)]

    def _blocks(self, kernel: Any) -> list[Tensor]:
        return join_ops.split(kernel, num_or_size_splits=self.gates, axis=1)

    def _projected(self, values: list[Tensor], kernel: Any) -> list[Tensor]:
        """Each gate's part of the kernel applied to its part of `values`; one product where these are the same."""
        if all(v is values[0] for v in values):
            return join_ops.split(matmul(values[0], kernel), num_or_size_splits=self.gates, axis=1)
        return [matmul(v, k) for v, k in zip(values, self._blocks(kernel), strict=True)]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        config: dict[str, Any] = {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }
        for weight in _WEIGHTS:
            config[f"{weight}_initializer"] = config_of_initializer(
                getattr(self, f"{weight}_initializer")
            )
            for kind in ("regularizer", "constraint"):
                config[f"{weight}_{kind}"] = _config_of(getattr(self, f"{weight}_{kind}"))
        config.update(dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        return {**super().get_config(), **config}


@export("keras.layers.SimpleRNNCell")
class SimpleRNNCell(_Cell):
    """output = state = activation(inputs @ kernel + bias + state @ recurrent_kernel).

    activation: a function or a name, None for none. dropout, recurrent_dropout: the share of the inputs, of the states, that
    is dropped while training. The others: how the variables begin, and what is asked of them.
    """

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(_given(locals()))

    def call(self, inputs: Any, states: Any, training: Any = None) -> tuple[Any, Any]:
        """One step: the output, and [output]."""
        masks = self.get_dropout_mask_for_cell(inputs, training)
        (x,) = self._per_gate(inputs, masks)
        (before,) = self._per_gate(
            states[0], self.get_recurrent_dropout_mask_for_cell(states[0], training)
        )
        h = matmul(x, self.kernel)
        if self.bias is not None:
            h = bias_add(h, self.bias)
        output = self.activation(h + matmul(before, self.recurrent_kernel))
        return output, [output]


class _GatedCell(_Cell):
    """A cell with gates, and two ways to compute them, which differ only in dropout: for each gate its own, or one."""

    def __init__(self, given: dict[str, Any]) -> None:
        recurrent_activation = given.pop("recurrent_activation")
        implementation = given.pop("implementation")
        super().__init__(given)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.implementation = implementation

    def _inputs_and_state(
        self, inputs: Tensor, state: Tensor, training: Any
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each gate gets of the inputs and of the state, dropout done."""
        count = self.gates if self.implementation == 1 else 1
        return (
            self._per_gate(inputs, self.get_dropout_mask_for_cell(inputs, training, count)),
            self._per_gate(state, self.get_recurrent_dropout_mask_for_cell(state, training, count)),
        )

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {
            **super().get_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "implementation": self.implementation,
        }


@export("keras.layers.GRUCell")
class GRUCell(_GatedCell):
    """The gated recurrent unit: update gate z, reset gate r, and a candidate, in this order of columns.

    reset_after: the reset gate acts on the product of state and kernel, which then has a bias of its own (bias is
    [2, 3 units]), as cuDNN does; else on the state. implementation: 1 with dropout of its own for each gate, 2 with one.
    The others: as for SimpleRNNCell.
    """

    gates = 3

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        reset_after: bool = False,
        **kwargs: Any,
    ) -> None:
        given = _given(locals())
        del given["reset_after"]
        super().__init__(given)
        self.reset_after = reset_after

    def _bias(self) -> Any:
        columns = 3 * self.units
        return self._weight("bias", (2, columns) if self.reset_after else (columns,), "bias")

    def call(self, inputs: Any, states: Any, training: Any = None) -> tuple[Any, Any]:
        """One step: the new state, and [new state]."""
        state = states[0]
        xs, hs = self._inputs_and_state(inputs, state, training)
        x = self._projected(xs, self.kernel)
        bias = recurrent_bias = None
        if self.bias is not None:
            bias = self.bias
            if self.reset_after:
                bias, recurrent_bias = join_ops.unstack(self.bias, num=2)
            x = _biased(x, bias)
        if self.reset_after:
            h_z, h_r, h_h = _biased(self._projected(hs, self.recurrent_kernel), recurrent_bias)
            z, r = self.recurrent_activation(x[0] + h_z), self.recurrent_activation(x[1] + h_r)
            candidate = self.activation(x[2] + r * h_h)
        else:
            k_z, k_r, k_h = self._blocks(self.recurrent_kernel)
            z = self.recurrent_activation(x[0] + matmul(hs[0], k_z))
            r = self.recurrent_activation(x[1] + matmul(hs[1], k_r))
            candidate = self.activation(x[2] + matmul(r * hs[2], k_h))
        # With one dropout for all gates the state that is mixed in has gone through it too.
        kept = hs[0] if self.implementation != 1 else state
        new = z * kept + (1 - z) * candidate
        return new, [new]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {**super().get_config(), "reset_after": self.reset_after}


def _biased(parts: list[Tensor], bias: Any) -> list[Tensor]:
    if bias is None:
        return parts
    biases = join_ops.split(bias, num_or_size_splits=len(parts), axis=0)
    return [bias_add(p, b) for p, b in zip(parts, biases, strict=True)]


@export("keras.layers.LSTMCell")
class LSTMCell(_GatedCell):
    """The LSTM: gates i and f, the candidate c, and the output gate o, in this order of columns; states [h, c].

    unit_forget_bias: the bias of the forget gate begins with ones. implementation: 1 with dropout of its own for each gate, 2
    with one. The others: as for SimpleRNNCell.
    """

    gates = 4

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        **kwargs: Any,
    ) -> None:
        given = _given(locals())
        del given["unit_forget_bias"]
        super().__init__(given)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [units, units]

    def _bias(self) -> Any:
        units = self.units
        if not self.unit_forget_bias:
            return super()._bias()
        made = self.bias_initializer

        def initializer(_: Any, dtype: Any = None, **kwargs: Any) -> Any:
            ones = init_ops.Ones()((units,), dtype=dtype, **kwargs)
            rest = made((2 * units,), dtype=dtype, **kwargs)
            return join_ops.concat([made((units,), dtype=dtype, **kwargs), ones, rest], 0)

        return self._weight("bias", (4 * units,), "bias", initializer)

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> Any:
        """Zeros, as a list: see `zero_state`."""
        return list(zero_state(self, inputs, batch_size, dtype))

    def call(self, inputs: Any, states: Any, training: Any = None) -> tuple[Any, Any]:
        """One step: h, and [h, c]."""
        h, c = states
        xs, hs = self._inputs_and_state(inputs, h, training)
        x = _biased(self._projected(xs, self.kernel), self.bias)
        sums = [a + b for a, b in zip(x, self._projected(hs, self.recurrent_kernel), strict=True)]
        i, f, o = (self.recurrent_activation(sums[k]) for k in (0, 1, 3))
        c = f * c + i * self.activation(sums[2])
        h = o * self.activation(c)
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal cell of."""
        return {**super().get_config(), "unit_forget_bias": self.unit_forget_bias}


@export("keras.layers.StackedRNNCells")
class StackedRNNCells(Layer):
    """Cells one on the other, as one cell whose state is the tuple of theirs.

    reverse_state_order: the states of the last cell come first. Raises ValueError: something that is no cell.
    """

    def __init__(self, cells: Any, **kwargs: Any) -> None:
        for cell in cells:
            for needed in ("call", "state_size"):
                if not hasattr(cell, needed):
                    raise ValueError(
                        f"All cells must have a `{needed}` {'method' if needed == 'call' else 'attribute'}. received cells:",
                        cells,
                    )
        self.cells = cells
        self.reverse_state_order = kwargs.pop("reverse_state_order", False)
        if self.reverse_state_order:
            warning("reverse_state_order=True in StackedRNNCells will soon be deprecated.")
        super().__init__(**kwargs)

    def _in_order_of_states(self) -> list[Any]:
        return list(self.cells[::-1] if self.reverse_state_order else self.cells)

    @property
    def state_size(self) -> tuple[Any, ...]:
        """The sizes of the cells' states."""
        return tuple(cell.state_size for cell in self._in_order_of_states())

    @property
    def output_size(self) -> Any:
        """That of the last cell."""
        return output_size_of(self.cells[-1])

    def get_initial_state(
        self, inputs: Any = None, batch_size: Any = None, dtype: Any = None
    ) -> tuple[Any, ...]:
        """Those of the cells."""
        states = []
        for cell in self._in_order_of_states():
            own = getattr(cell, "get_initial_state", None)
            if own is not None:
                states.append(own(inputs=inputs, batch_size=batch_size, dtype=dtype))
            else:
                states.append(zero_state(cell, inputs, batch_size, dtype))
        return tuple(states)

    def build(self, input_shape: Any) -> None:
        """Builds the cells, each for the outputs of the one below."""
        shape = as_shape(input_shape)
        for cell in self.cells:
            if isinstance(cell, LayerBase) and not cell.built:
                cell.build(shape)
                cell.built = True
            size = output_size_of(cell)
            shape = as_shape([shape.as_list()[0]]).concatenate(
                as_shape(size if hasattr(size, "__len__") else [size])
            )
        self.built = True

    def call(
        self, inputs: Any, states: Any, constants: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """One step of each cell."""
        sizes = tuple(cell.state_size for cell in self.cells)
        given = nest.pack_sequence_as(self.state_size, nest.flatten(states))
        if self.reverse_state_order:
            given = given[::-1]
        after = []
        for cell, own in zip(self.cells, given, strict=True):
            own = own if nest.is_nested(own) else [own]
            if getattr(cell, "_is_tf_rnn_cell", None) is not None and len(own) == 1:
                own = own[0]
            extra = {key: v for key, v in kwargs.items() if accepts(cell.call, key)}
            if accepts(cell.call, "constants"):
                extra["constants"] = constants
            inputs, new = cell.call(inputs, own, **extra)
            after.append(new)
        packed = nest.pack_sequence_as(sizes, nest.flatten(after))
        return inputs, packed[::-1] if self.reverse_state_order else packed

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal stack of."""
        cells = [{"class_name": type(c).__name__, "config": c.get_config()} for c in self.cells]
        return {**super().get_config(), "cells": cells}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StackedRNNCells:
        """A stack as `config` describes it."""
        config = dict(config)
        cells = [cell_from_config(c, custom_objects) for c in config.pop("cells")]
        return cls(cells, **config)


def output_size_of(cell: Any) -> Any:
    """The size of a cell's outputs: as it says, else that of its first state."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    return cell.state_size[0] if is_multiple(cell.state_size) else cell.state_size


def cell_from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
    """The cell of {"class_name": ..., "config": ...}. custom_objects: further classes. Raises ValueError: unknown."""
    known = {c.__name__: c for c in (SimpleRNNCell, GRUCell, LSTMCell, StackedRNNCells)}
    name = config["class_name"]
    found = (custom_objects or {}).get(name) or known.get(name)
    if found is None:
        raise ValueError(f"Unknown layer: {name}")
    return found.from_config(config["config"])
