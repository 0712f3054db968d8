"""Cells whose units have no product with each other's states, and small relatives of the GRU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import init_ops, join_ops
from headrace.api.export import PUBLIC
from headrace.api.get_variable import get_variable_scope
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.variable_scope import variable_scope
from headrace.contrib.rnn.parts import depth_of, linear
from headrace.core.tensor_shape import as_shape
from headrace.graph.tensor import Tensor
from headrace.layers.input_spec import InputSpec
from headrace.layers.rnn_cell import LSTMStateTuple
from headrace.layers.rnn_cell_base import LayerRNNCell, RNNCell

tanh = PUBLIC["tanh"]
relu = PUBLIC["nn.relu"]
tile = PUBLIC["tile"]


class _Simple(LayerRNNCell):
    """A cell on matrices whose output and state have `num_units` columns."""

    def __init__(
        self, num_units: int, activation: Any, reuse: Any, name: Any, dtype: Any, **kwargs: Any
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self.input_spec = InputSpec(ndim=2)
        self._num_units = num_units
        self._activation = activation or tanh

    @property
    def state_size(self) -> Any:
        """The number of units."""
        return self._num_units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def _columns(self, input_shape: Any) -> int:
        dims = as_shape(input_shape).as_list()
        if dims[1] is None:
            raise ValueError(f"Expected inputs.shape[-1] to be known, saw shape: {input_shape}")
        return dims[1]

    def _row(self, name: str, columns: int) -> Any:
        """The weights with which each unit takes its own state."""
        initializer = init_ops.RandomUniform(-1, 1, dtype=self.dtype)
        return self.add_variable(name, shape=[1, columns], initializer=initializer)


class SRUCell(_Simple):
    """The simple recurrent unit: the state is a running mean of projected inputs, with a gate for forgetting and one for output."""

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_units, activation, reuse, name, kwargs.pop("dtype", None), **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        depth = self._columns(input_shape)
        self._kernel = self.add_variable("kernel", shape=[depth, 4 * self._num_units])
        self._bias = self.add_variable(
            "bias", shape=[2 * self._num_units], initializer=self._zeros()
        )
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the output, and the state."""
        x, f, r, passed = join_ops.split(
            value=matmul(inputs, self._kernel), num_or_size_splits=4, axis=1
        )
        gates = sigmoid(bias_add(join_ops.concat([f, r], 1), self._bias))
        f, r = join_ops.split(value=gates, num_or_size_splits=2, axis=1)
        c = f * state + (1.0 - f) * x
        return r * self._activation(c) + (1.0 - r) * passed, c


class IndRNNCell(_Simple):
    """output = state = activation(inputs @ kernel + state * weights + bias), each unit with its own state alone."""

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_units, activation, reuse, name, dtype)

    def build(self, input_shape: Any) -> None:
        """Makes kernel, weights of the state and bias."""
        units = self._num_units
        self._kernel = self.add_variable("kernel_w", shape=[self._columns(input_shape), units])
        self._weights = self._row("kernel_u", units)
        self._bias = self.add_variable("bias", shape=[units], initializer=self._zeros())
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        sums = matmul(inputs, self._kernel) + state * self._weights
        output = self._activation(bias_add(sums, self._bias))
        return output, output


class IndyGRUCell(_Simple):
    """The GRU where each unit takes its own state alone."""

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: Any = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_units, activation, reuse, name, dtype)
        self._kernel_initializer, self._bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape: Any) -> None:
        """Makes kernels, weights of the state and biases of the gates and of the candidate."""
        depth, units = self._columns(input_shape), self._num_units
        ones = init_ops.Constant(1.0, dtype=self.dtype)
        made: list[Any] = []
        for part, columns, kernel, first in (
            ("gates", 2 * units, "kernel_w", ones),
            ("candidate", units, "kernel", self._zeros()),
        ):
            made.append(
                self.add_variable(
                    f"{part}/{kernel}", [depth, columns], initializer=self._kernel_initializer
                )
            )
            made.append(self._row(f"{part}/kernel_u", columns))
            bias = first if self._bias_initializer is None else self._bias_initializer
            made.append(self.add_variable(f"{part}/bias", [columns], initializer=bias))
        self._gates, self._candidate = made[:3], made[3:]
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        kernel, weights, bias = self._gates
        sums = matmul(inputs, kernel) + tile(state, [1, 2]) * weights
        gates = sigmoid(bias_add(sums, bias))
        r, u = join_ops.split(value=gates, num_or_size_splits=2, axis=1)
        kernel, weights, bias = self._candidate
        c = self._activation(bias_add(matmul(inputs, kernel) + r * state * weights, bias))
        new = u * state + (1 - u) * c
        return new, new


class IndyLSTMCell(_Simple):
    """The LSTM where each unit takes its own state alone."""

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        activation: Any = None,
        reuse: Any = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_units, activation, reuse, name, dtype)
        self._forget_bias = forget_bias
        self._kernel_initializer, self._bias_initializer = kernel_initializer, bias_initializer

    @property
    def state_size(self) -> LSTMStateTuple:
        """The sizes of c and h."""
        return LSTMStateTuple(self._num_units, self._num_units)

    def build(self, input_shape: Any) -> None:
        """Makes kernel, weights of the state and bias."""
        columns = 4 * self._num_units
        self._kernel = self.add_variable(
            "kernel_w",
            [self._columns(input_shape), columns],
            initializer=self._kernel_initializer,
        )
        self._weights = self._row("kernel_u", columns)
        zeros = self._zeros() if self._bias_initializer is None else self._bias_initializer
        self._bias = self.add_variable("bias", [columns], initializer=zeros)
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, LSTMStateTuple]:
        """One step: h, and (c, h)."""
        c, h = state
        sums = matmul(inputs, self._kernel) + tile(h, [1, 4]) * self._weights
        i, j, f, o = join_ops.split(value=bias_add(sums, self._bias), num_or_size_splits=4, axis=1)
        c = c * sigmoid(f + self._forget_bias) + sigmoid(i) * self._activation(j)
        h = self._activation(c) * sigmoid(o)
        return h, LSTMStateTuple(c, h)


# ---- relatives of the GRU


class UGRNNCell(RNNCell):
    """The update-gate network: the new state is mixed of the old one and a candidate, by one gate."""

    def __init__(
        self,
        num_units: int,
        initializer: Any = None,
        forget_bias: float = 1.0,
        activation: Callable[..., Any] = tanh,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        self._num_units, self._initializer = num_units, initializer
        self._forget_bias, self._activation = forget_bias, activation

    @property
    def state_size(self) -> int:
        """The number of units."""
        return self._num_units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the new state, twice."""
        depth_of(inputs)
        with variable_scope(get_variable_scope(), initializer=self._initializer):
            both = linear(join_ops.concat([inputs, state], 1), 2 * self._num_units)
            g, c = join_ops.split(value=both, num_or_size_splits=2, axis=1)
            g = sigmoid(g + self._forget_bias)
            new = g * state + (1.0 - g) * self._activation(c)
        return new, new


class IntersectionRNNCell(RNNCell):
    """The +RNN: one gate mixes the state over time, another the output over depth, with the inputs.

    num_in_proj: where the inputs have another size than `num_units`, what to project them to: num_units.
    """

    def __init__(
        self,
        num_units: int,
        num_in_proj: int | None = None,
        initializer: Any = None,
        forget_bias: float = 1.0,
        y_activation: Callable[..., Any] = relu,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        self._num_units, self._num_input_proj = num_units, num_in_proj
        self._initializer, self._forget_bias = initializer, forget_bias
        self._y_activation = y_activation

    @property
    def state_size(self) -> int:
        """The number of units."""
        return self._num_units

    @property
    def output_size(self) -> int:
        """The number of units."""
        return self._num_units

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Tensor]:
        """One step: the output, and the state. Raises ValueError: inputs of another size, and no projection."""
        with variable_scope(get_variable_scope(), initializer=self._initializer):
            if depth_of(inputs) != self._num_units:
                if not self._num_input_proj:
                    raise ValueError(
                        "Must have input size == output size for Intersection RNN. To fix, num_in_proj should be set to "
                        "num_units at cell init."
                    )
                with variable_scope("in_projection"):
                    inputs = linear(inputs, self._num_units)
            all_ = linear(join_ops.concat([inputs, state], 1), 4 * self._num_units)
            gate_h, h, gate_y, y = join_ops.split(value=all_, num_or_size_splits=4, axis=1)
            gate_h = sigmoid(gate_h + self._forget_bias)
            gate_y = sigmoid(gate_y + self._forget_bias)
            new = gate_h * state + (1.0 - gate_h) * tanh(h)
            return gate_y * inputs + (1.0 - gate_y) * self._y_activation(y), new
