"""Cells around cells: attention over past outputs, highway connections, compiled cells."""

from __future__ import annotations

from typing import Any

from headrace.api import array_ops, init_ops, join_ops, slicing
from headrace.api.export import PUBLIC
from headrace.api.framework import name_scope
from headrace.api.get_variable import get_variable
from headrace.api.logging import warning
from headrace.api.math_ops import sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import bias_add
from headrace.api.reduction import reduce_sum
from headrace.api.variable_scope import variable_scope
from headrace.contrib.rnn.parts import depth_of, linear
from headrace.core import nest
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import RNNCell, assert_like_rnncell

reshape = PUBLIC["reshape"]


class AttentionCellWrapper(RNNCell):
    """A cell whose inputs and outputs are joined with what it attends to among its last `attn_length` outputs.

    attn_size: the size of what is remembered, by default that of the outputs. attn_vec_size: of the vectors that are
    compared. input_size: of what the cell inside gets. state_is_tuple: False for states side by side.
    Raises ValueError: a structured state with state_is_tuple=False, attn_length that is not positive.
    """

    def __init__(
        self,
        cell: Any,
        attn_length: int,
        attn_size: int | None = None,
        attn_vec_size: int | None = None,
        input_size: int | None = None,
        state_is_tuple: bool = True,
        reuse: Any = None,
    ) -> None:
        super().__init__(_reuse=reuse)
        assert_like_rnncell("cell", cell)
        if nest.is_nested(cell.state_size) and not state_is_tuple:
            raise ValueError(
                "Cell returns tuple of states, but the flag state_is_tuple is not set. State size is: "
                f"{cell.state_size}"
            )
        if attn_length <= 0:
            raise ValueError(f"attn_length should be greater than zero, got {attn_length}")
        if not state_is_tuple:
            warning(
                "%s: Using a concatenated state is slower and will soon be deprecated.  Use state_is_tuple=True.",
                self,
            )
        self._cell, self._attn_length = cell, attn_length
        self._attn_size = cell.output_size if attn_size is None else attn_size
        self._attn_vec_size = self._attn_size if attn_vec_size is None else attn_vec_size
        self._input_size, self._state_is_tuple = input_size, state_is_tuple

    @property
    def state_size(self) -> Any:
        """The sizes of the cell's state, of what was attended to last, and of the outputs remembered; or their sum."""
        size = (self._cell.state_size, self._attn_size, self._attn_size * self._attn_length)
        return size if self._state_is_tuple else sum(size)

    @property
    def output_size(self) -> int:
        """That of what is remembered."""
        return self._attn_size

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One step."""
        length, size = self._attn_length, self._attn_size
        if self._state_is_tuple:
            state, attended, memory = state
        else:
            own = self._cell.state_size
            whole = state
            state = slicing.slice_(whole, [0, 0], [-1, own])
            attended = slicing.slice_(whole, [0, own], [-1, size])
            memory = slicing.slice_(whole, [0, own + size], [-1, size * length])
        memory = reshape(memory, [-1, length, size])
        inputs = linear([inputs, attended], self._input_size or inputs.shape.as_list()[1])
        output, new_state = self._cell(inputs, state)
        query = join_ops.concat(nest.flatten(new_state), 1) if self._state_is_tuple else new_state
        attended, rest = self._attention(query, memory)
        with variable_scope("attn_output_projection"):
            output = linear([output, attended], size)
        memory = join_ops.concat([rest, array_ops.expand_dims(output, 1)], 1)
        parts = (new_state, attended, reshape(memory, [-1, length * size]))
        return output, parts if self._state_is_tuple else join_ops.concat(list(parts), 1)

    def _attention(self, query: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(the mean of the memory weighted by how well it fits the query, the memory without its oldest part)."""
        length, size, width = self._attn_length, self._attn_size, self._attn_vec_size
        with variable_scope("attention"):
            kernel = get_variable("attn_w", [1, 1, size, width])
            v = get_variable("attn_v", [width])
            hidden = reshape(memory, [-1, length, 1, size])
            features = PUBLIC["nn.conv2d"](hidden, kernel, [1, 1, 1, 1], "SAME")
            y = reshape(linear(query, width), [-1, 1, 1, width])
            scores = reduce_sum(v * PUBLIC["tanh"](features + y), [2, 3])
            weights = reshape(PUBLIC["nn.softmax"](scores), [-1, length, 1, 1])
            mean = reshape(reduce_sum(weights * hidden, [1, 2]), [-1, size])
            return mean, slicing.slice_(memory, [0, 1, 0], [-1, -1, -1])


class _Around(RNNCell):
    """A cell that calls another one; sizes and first state are that one's."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self._cell = cell

    @property
    def state_size(self) -> Any:
        """That of the cell inside."""
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        """That of the cell inside."""
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """That of the cell inside."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            return self._cell.zero_state(batch_size, dtype)


class HighwayWrapper(_Around):
    """A cell whose outputs are mixed with its inputs by a gate that depends on these.

    couple_carry_transform_gates: the outputs get what the inputs leave; else a second gate. carry_bias_init: with which the
    gate begins: by default most of the inputs is carried on.
    """

    def __init__(
        self, cell: Any, couple_carry_transform_gates: bool = True, carry_bias_init: float = 1.0
    ) -> None:
        super().__init__(cell)
        self._couple, self._carry_bias_init = couple_carry_transform_gates, carry_bias_init

    @staticmethod
    def _gate(x: Tensor, name: str, first: float) -> Tensor:
        size = depth_of(x)
        weight = get_variable(f"{name}_w", [size, size])
        bias = get_variable(f"{name}_b", [size], initializer=init_ops.Constant(first))
        return sigmoid(bias_add(matmul(x, weight), bias))

    def _highway(self, x: Tensor, output: Tensor) -> Tensor:
        x.shape.assert_is_compatible_with(output.shape)
        carry = self._gate(x, "carry", self._carry_bias_init)
        transform = (
            1 - carry if self._couple else self._gate(x, "transform", -self._carry_bias_init)
        )
        return x * carry + output * transform

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """The output and the new state. Raises ValueError, TypeError: inputs and outputs of different shapes or structures."""
        outputs, new_state = self._cell(inputs, state, scope=scope)
        nest.assert_same_structure(inputs, outputs)
        return nest.map_structure(self._highway, inputs, outputs), new_state


class CompiledWrapper(_Around):
    """A cell that is to be compiled; here every cell is."""

    def __init__(self, cell: Any, compile_stateful: bool = False) -> None:
        super().__init__(cell)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        """The output and the new state of the cell inside."""
        return self._cell(inputs, state, scope=scope)
