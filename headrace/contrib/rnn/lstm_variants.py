"""LSTMs with gates of other kinds: coupled, in groups, timed, found by search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import init_ops, join_ops, slicing
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC
from headrace.api.get_variable import get_variable, get_variable_scope
from headrace.api.logging import warning
from headrace.api.mask_ops import where
from headrace.api.math_ops import cast, sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.random_ops import random_uniform
from headrace.api.variable_scope import variable_scope
from headrace.contrib.rnn.parts import depth_of, in_pieces, linear, normalized
from headrace.core import dtypes
from headrace.core.tensor_shape import as_shape
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell import LSTMStateTuple
from headrace.layers.rnn_cell_base import LayerRNNCell, RNNCell

tanh = PUBLIC["tanh"]
relu = PUBLIC["nn.relu"]


class _SizedLSTM(RNNCell):
    """An LSTM with `num_units` columns of c, and a projection of h where `num_proj` says so."""

    def __init__(self, num_units: int, num_proj: int | None, reuse: Any) -> None:
        super().__init__(_reuse=reuse)
        self._num_units, self._num_proj = num_units, num_proj

    @property
    def state_size(self) -> Any:
        """The sizes of c and h."""
        return LSTMStateTuple(self._num_units, self.output_size)

    @property
    def output_size(self) -> int:
        """The number of units, or that of the projection."""
        return self._num_proj or self._num_units


class CoupledInputForgetGateLSTMCell(_SizedLSTM):
    """The LSTM that takes in what it forgets: the input gate is one minus the forget gate.

    num_unit_shards, num_proj_shards: into how many variables the kernels are cut. layer_norm: normalise gates and state over
    the units. state_is_tuple: False for a state that is c and h side by side.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        initializer: Any = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: int = 1,
        num_proj_shards: int = 1,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Callable[..., Any] = tanh,
        reuse: Any = None,
        layer_norm: bool = False,
        norm_gain: float = 1.0,
        norm_shift: float = 0.0,
    ) -> None:
        super().__init__(num_units, num_proj, reuse)
        if not state_is_tuple:
            warning(
                "%s: Using a concatenated state is slower and will soon be deprecated.  Use state_is_tuple=True.",
                self,
            )
        self._use_peepholes, self._proj_clip = use_peepholes, proj_clip
        # TensorFlow takes an initializer here and makes the variables with the scope's.
        self._initializer = initializer
        self._num_unit_shards, self._num_proj_shards = num_unit_shards, num_proj_shards
        self._forget_bias, self._state_is_tuple = forget_bias, state_is_tuple
        self._activation, self._layer_norm = activation, layer_norm
        self._norm_gain, self._norm_shift = norm_gain, norm_shift

    @property
    def state_size(self) -> Any:
        """The sizes of c and h, or their sum."""
        return super().state_size if self._state_is_tuple else self._num_units + self.output_size

    def _norm(self, x: Tensor, scope: str) -> Tensor:
        return normalized(x, scope, self._norm_gain, self._norm_shift) if self._layer_norm else x

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, Any]:
        """One step: h, and (c, h)."""
        units, width, dtype = self._num_units, self.output_size, inputs.dtype
        if self._state_is_tuple:
            c, h = state
        else:
            c = slicing.slice_(state, [0, 0], [-1, units])
            h = slicing.slice_(state, [0, units], [-1, width])
        rows = depth_of(inputs) + width
        kernel = in_pieces("W", [rows, 3 * units], dtype, self._num_unit_shards)
        bias = get_variable("B", [3 * units], dtype, initializer=init_ops.Zeros())
        gates = matmul(join_ops.concat([inputs, h], 1), kernel)
        if not self._layer_norm:
            gates = bias_add(gates, bias)
        j, f, o = join_ops.split(value=gates, num_or_size_splits=3, axis=1)
        j, f, o = self._norm(j, "transform"), self._norm(f, "forget"), self._norm(o, "output")
        if self._use_peepholes:
            f_diagonal = get_variable("W_F_diag", [units], dtype)
            o_diagonal = get_variable("W_O_diag", [units], dtype)
            f = f + self._forget_bias + f_diagonal * c
        else:
            f = f + self._forget_bias
        f = sigmoid(f)
        c = self._norm(f * c + (1 - f) * self._activation(j), "state")
        h = sigmoid(o + o_diagonal * c if self._use_peepholes else o) * self._activation(c)
        if self._num_proj is not None:
            h = matmul(h, in_pieces("W_P", [units, self._num_proj], dtype, self._num_proj_shards))
            if self._proj_clip is not None:
                h = clip_by_value(h, -self._proj_clip, self._proj_clip)
        return h, LSTMStateTuple(c, h) if self._state_is_tuple else join_ops.concat([c, h], 1)


class GLSTMCell(_SizedLSTM):
    """The LSTM whose inputs and outputs fall into groups, each with a kernel of its own.

    Raises ValueError: sizes that the number of groups does not divide.
    """

    def __init__(
        self,
        num_units: int,
        initializer: Any = None,
        num_proj: int | None = None,
        number_of_groups: int = 1,
        forget_bias: float = 1.0,
        activation: Callable[..., Any] = tanh,
        reuse: Any = None,
    ) -> None:
        super().__init__(num_units, num_proj, reuse)
        self._initializer, self._groups = initializer, number_of_groups
        self._forget_bias, self._activation = forget_bias, activation
        if num_units % number_of_groups:
            raise ValueError("num_units must be divisible by number_of_groups")
        if num_proj and num_proj % number_of_groups:
            raise ValueError("num_proj must be divisible by number_of_groups")

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, LSTMStateTuple]:
        """One step: h, and (c, h)."""
        c, h = state
        depth = depth_of(inputs)
        if depth % self._groups:
            raise ValueError(
                f"input size ({depth}) must be divisible by number_of_groups ({self._groups})"
            )
        units, dtype = self._num_units, inputs.dtype
        with variable_scope(get_variable_scope(), initializer=self._initializer):
            columns: list[list[Tensor]] = []
            for number, (x, own) in enumerate(
                zip(
                    join_ops.split(value=inputs, num_or_size_splits=self._groups, axis=1),
                    join_ops.split(value=h, num_or_size_splits=self._groups, axis=1),
                    strict=True,
                )
            ):
                with variable_scope(f"group{number}"):
                    part = linear(
                        join_ops.concat([x, own], 1), 4 * units // self._groups, with_bias=False
                    )
                columns.append(join_ops.split(value=part, num_or_size_splits=4, axis=1))
            biases = [
                get_variable(
                    f"bias_{n}", [units], dtype, initializer=init_ops.Constant(0.0, dtype=dtype)
                )
                for n in "ijfo"
            ]
            i, j, f, o = (
                bias_add(join_ops.concat(list(parts), 1), bias)
                for parts, bias in zip(zip(*columns, strict=True), biases, strict=True)
            )
        c = sigmoid(f + self._forget_bias) * c + sigmoid(i) * tanh(j)
        h = sigmoid(o) * self._activation(c)
        if self._num_proj is not None:
            with variable_scope("projection"):
                h = linear(h, self._num_proj, with_bias=False)
        return h, LSTMStateTuple(c, h)


class NASCell(LayerRNNCell):
    """The cell that a search over architectures found (Zoph and Le, 2016)."""

    def __init__(
        self,
        num_units: int,
        num_proj: int | None = None,
        use_bias: bool = False,
        reuse: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(_reuse=reuse, **kwargs)
        self._num_units, self._num_proj, self._use_bias = num_units, num_proj, use_bias

    @property
    def state_size(self) -> LSTMStateTuple:
        """The sizes of c and h."""
        return LSTMStateTuple(self._num_units, self.output_size)

    @property
    def output_size(self) -> int:
        """The number of units, or that of the projection."""
        return self._num_proj or self._num_units

    def build(self, input_shape: Any) -> None:
        """Makes the kernels of state and inputs, the bias and the projection."""
        depth = as_shape(input_shape).with_rank(2).as_list()[1]
        if depth is None:
            raise ValueError("Could not infer input size from inputs.get_shape()[-1]")
        columns = 8 * self._num_units
        self.recurrent_kernel = self.add_variable("recurrent_kernel", [self.output_size, columns])
        self.kernel = self.add_variable("kernel", [depth, columns])
        if self._use_bias:
            self.bias = self.add_variable("bias", [columns], initializer=init_ops.Zeros())
        if self._num_proj is not None:
            self.projection_weights = self.add_variable(
                "projection_weights", [self._num_units, self._num_proj]
            )
        self.built = True

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, LSTMStateTuple]:
        """One step: h, and (c, h)."""
        c, h = state
        own = matmul(h, self.recurrent_kernel)
        if self._use_bias:
            own = bias_add(own, self.bias)
        pairs = list(
            zip(
                join_ops.split(value=matmul(inputs, self.kernel), num_or_size_splits=8, axis=1),
                join_ops.split(value=own, num_or_size_splits=8, axis=1),
                strict=True,
            )
        )
        sums = [x + m for x, m in pairs]
        first = tanh(sigmoid(sums[0]) * relu(sums[1]))
        second = tanh(sigmoid(sums[2]) + relu(pairs[3][0] * pairs[3][1]))
        third = tanh(tanh(sums[4]) * sigmoid(sums[5]))
        fourth = sigmoid(tanh(sums[6]) + sigmoid(sums[7]))
        c = tanh(first + c) * second
        h = tanh(c * tanh(third + fourth))
        if self._num_proj is not None:
            h = matmul(h, self.projection_weights)
        return h, LSTMStateTuple(c, h)


class PhasedLSTMCell(_SizedLSTM):
    """The LSTM whose units are open only during a part of a period, which each learns (Neil et al., 2016).

    inputs: (times [batch, 1], values [batch, depth]). leak: how much a closed unit lets through. ratio_on: the part of the
    period during which a unit is open. period_init_min, period_init_max: between which the periods begin.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        leak: float = 0.001,
        ratio_on: float = 0.1,
        trainable_ratio_on: bool = True,
        period_init_min: float = 1.0,
        period_init_max: float = 1000.0,
        reuse: Any = None,
    ) -> None:
        super().__init__(num_units, None, reuse)
        self._use_peepholes, self._leak = use_peepholes, leak
        self._ratio_on, self._trainable_ratio_on = ratio_on, trainable_ratio_on
        self._period_init_min, self._period_init_max = period_init_min, period_init_max

    def _first_periods(self, shape: Any, dtype: Any = dtypes.float32, **_: Any) -> Tensor:
        """Spread evenly on a logarithmic scale."""
        log = PUBLIC["log"]
        low, high = log(self._period_init_min), log(self._period_init_max)
        return PUBLIC["exp"](random_uniform(shape, low, high, dtype))

    def _cycle_ratio(self, time: Tensor, phase: Tensor, period: Tensor) -> Tensor:
        phase, period = cast(phase, time.dtype), cast(period, time.dtype)
        shifted = time - phase
        # The gradient of the remainder is that of what it is the remainder of.
        remainder = PUBLIC["stop_gradient"](PUBLIC["mod"](shifted, period) - shifted) + shifted
        return cast(remainder / period, dtypes.float32)

    def call(self, inputs: Any, state: Any) -> tuple[Tensor, LSTMStateTuple]:
        """One step: h, and (c, h)."""
        c_before, h_before = state
        time, x = inputs
        units = self._num_units
        peep = self._use_peepholes
        with variable_scope("mask_gates"):
            gates = linear([x, h_before, c_before] if peep else [x, h_before], 2 * units)
            i, f = join_ops.split(value=sigmoid(gates), num_or_size_splits=2, axis=1)
        with variable_scope("new_input"):
            new = tanh(linear([x, h_before], units))
        c = c_before * f + i * new
        with variable_scope("output_gate"):
            o = sigmoid(linear([x, h_before, c] if peep else [x, h_before], units))
        h = tanh(c) * o
        period = get_variable("period", [units], initializer=self._first_periods)
        phase = get_variable(
            "phase", [units], initializer=init_ops.RandomUniform(0.0, period.initial_value)
        )
        ratio_on = get_variable(
            "ratio_on",
            [units],
            initializer=init_ops.Constant(self._ratio_on),
            trainable=self._trainable_ratio_on,
        )
        ratio = self._cycle_ratio(time, phase, period)
        up = 2 * ratio / ratio_on
        k = where(ratio < ratio_on, 2 - up, self._leak * ratio)
        k = where(ratio < 0.5 * ratio_on, up, k)
        c = k * c + (1 - k) * c_before
        h = k * h + (1 - k) * h_before
        return h, LSTMStateTuple(c, h)
