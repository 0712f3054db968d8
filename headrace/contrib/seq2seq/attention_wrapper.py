"""`AttentionWrapper`: a cell that looks at a memory, by attention mechanisms, after each step."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

from headrace.api import array_ops
from headrace.api.diagnostic import Assert
from headrace.api.export import PUBLIC
from headrace.api.framework import control_dependencies, name_scope
from headrace.api.join_ops import concat
from headrace.api.matmul_ops import matmul
from headrace.api.reduction import reduce_all
from headrace.api.source import identity
from headrace.api.tensor_array import TensorArray
from headrace.contrib.seq2seq.attention import AttentionMechanism, size_along
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import raw
from headrace.graph.tensor import Tensor
from headrace.layers.core import Dense
from headrace.layers.rnn_cell_base import RNNCell, assert_like_rnncell, zeros_of_size

assert_equal = PUBLIC["assert_equal"]


class AttentionWrapperState(
    collections.namedtuple(
        "AttentionWrapperState",
        (
            "cell_state",
            "attention",
            "time",
            "alignments",
            "alignment_history",
            "attention_state",
        ),
    )
):
    """The state of an AttentionWrapper: that of its cell, and what the attention of the last step was."""

    __slots__ = ()

    def clone(self, **kwargs: Any) -> AttentionWrapperState:
        """The state with some parts replaced. Raises ValueError: a part of another shape than what it replaces."""
        return nest.map_structure(_with_same_shape, self, self._replace(**kwargs))


def _with_same_shape(old: Any, new: Any) -> Any:
    if not (isinstance(old, Tensor) and isinstance(new, Tensor)):
        return new
    if old.shape.is_fully_defined() and new.shape.is_fully_defined():
        if old.shape.as_list() != new.shape.as_list():
            raise ValueError(
                f"Shape mismatch: a part of the state has shape {new.shape}, what it replaces has shape {old.shape}."
            )
        return new
    shapes = [array_ops.shape(old), array_ops.shape(new)]
    same = Assert(
        reduce_all(raw.Equal(*shapes)), ["Shape of a replaced part of the state:", *shapes]
    )
    with control_dependencies([same]):
        checked = identity(new)
    checked.set_shape(old.shape)
    return checked


def _attend(
    mechanism: AttentionMechanism, cell_output: Tensor, state: Any, attention_layer: Any
) -> tuple[Tensor, Tensor, Any]:
    """(attention, alignments, next state of the mechanism): the values weighted by the alignments, through the layer if any."""
    alignments, next_state = mechanism(cell_output, state=state)  # type: ignore[operator]
    context = matmul(array_ops.expand_dims(alignments, 1), mechanism.values)  # type: ignore[attr-defined]
    context = array_ops.squeeze(context, [1])
    if attention_layer is None:
        return context, alignments, next_state
    return attention_layer(concat([cell_output, context], 1)), alignments, next_state


class AttentionWrapper(RNNCell):
    """A cell that gets its inputs together with the last attention, and gives the new attention as its output.

    attention_mechanism: one, or a list, whose attentions are put side by side. attention_layer_size, attention_layer: a layer
    over output and context, for each mechanism; without, the context is the attention. alignment_history: the state keeps the
    alignments of all steps, in TensorArrays. cell_input_fn(inputs, attention): by default puts them side by side.
    output_attention: False gives the cell's output. initial_cell_state: what `zero_state` begins with. attention_fn: in place of
    the weighted sum. Raises TypeError: no cell, mechanisms or function. ValueError: other numbers of layers.
    """

    def __init__(
        self,
        cell: Any,
        attention_mechanism: Any,
        attention_layer_size: Any = None,
        alignment_history: bool = False,
        cell_input_fn: Callable[[Any, Any], Any] | None = None,
        output_attention: bool = True,
        initial_cell_state: Any = None,
        name: str | None = None,
        attention_layer: Any = None,
        attention_fn: Callable[..., Any] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        assert_like_rnncell("cell", cell)
        self._is_multi = isinstance(attention_mechanism, (list, tuple))
        mechanisms = tuple(attention_mechanism) if self._is_multi else (attention_mechanism,)
        for mechanism in mechanisms:
            if not isinstance(mechanism, AttentionMechanism):
                raise TypeError(
                    "attention_mechanism must be an AttentionMechanism or list of multiple AttentionMechanism instances, "
                    f"saw type: {type(mechanism).__name__}"
                )
        if cell_input_fn is not None and not callable(cell_input_fn):
            raise TypeError(
                f"cell_input_fn must be callable, saw type: {type(cell_input_fn).__name__}"
            )
        self._cell, self._attention_mechanisms = cell, mechanisms
        self._set_layers(attention_layer_size, attention_layer)
        self._attention_fn = attention_fn or _attend
        self._cell_input_fn = cell_input_fn or _side_by_side
        self._output_attention = output_attention
        self._alignment_history = alignment_history
        self._initial_cell_state = None
        if initial_cell_state is not None:
            with name_scope(name, "AttentionWrapperInit"):
                size = size_along(nest.flatten(initial_cell_state)[-1], 0)
                self._initial_cell_state = self._of_batch(
                    size,
                    initial_cell_state,
                    f"When constructing AttentionWrapper {self._base_name}: Non-matching batch sizes between the memory "
                    "(encoder output) and initial_cell_state.",
                    "check_initial_cell_state",
                )

    def _set_layers(self, sizes: Any, layers: Any) -> None:
        mechanisms = self._attention_mechanisms
        depths = [m.values.shape._dims[-1] for m in mechanisms]
        if sizes is not None and layers is not None:
            raise ValueError("Only one of attention_layer_size and attention_layer should be set")
        given = sizes if sizes is not None else layers
        if given is None:
            self._attention_layers = None
            self._attention_layer_size = sum(depths)
            return
        given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if len(given) != len(mechanisms):
            what = "integer" if sizes is not None else "layer"
            raise ValueError(
                f"If provided, attention_layer{'_size' if what == 'integer' else ''} must contain exactly one {what} per "
                f"attention_mechanism, saw: {len(given)} vs {len(mechanisms)}"
            )
        if sizes is not None:
            self._attention_layers = tuple(
                Dense(size, name="attention_layer", use_bias=False, dtype=mechanism.dtype)
                for size, mechanism in zip(given, mechanisms, strict=True)
            )
            self._attention_layer_size = sum(given)
            return
        self._attention_layers = given
        output_size = self._cell.output_size
        self._attention_layer_size = sum(
            layer.compute_output_shape(TensorShape([None, output_size + depth]))._dims[-1]
            for layer, depth in zip(given, depths, strict=True)
        )

    def _of_batch(self, size: Any, values: Any, message: str, name: str) -> Any:
        """`values`, once `size` is known to be the batch size of all memories."""
        message += (
            "  Are you using the BeamSearchDecoder?  Then tile what depends on the batch with "
            "tf.contrib.seq2seq.tile_batch, with beam_width as its multiplier."
        )
        checks = [
            assert_equal(size, mechanism.batch_size, message=message)
            for mechanism in self._attention_mechanisms
        ]
        # In graphs, what holds already gives a node all the same.
        with control_dependencies([c for c in checks if c is not None]):
            return nest.map_structure(lambda s: identity(s, name=name), values)

    def _item_or_tuple(self, items: Iterable[Any]) -> Any:
        items = tuple(items)
        return items if self._is_multi else items[0]

    @property
    def output_size(self) -> Any:
        """The size of the attention, or of the cell's output."""
        return self._attention_layer_size if self._output_attention else self._cell.output_size

    @property
    def state_size(self) -> AttentionWrapperState:
        """The sizes of the parts of the state."""
        mechanisms = self._attention_mechanisms
        return AttentionWrapperState(
            cell_state=self._cell.state_size,
            time=TensorShape([]),
            attention=self._attention_layer_size,
            alignments=self._item_or_tuple(m.alignments_size for m in mechanisms),
            attention_state=self._item_or_tuple(m.state_size for m in mechanisms),
            alignment_history=self._item_or_tuple(
                m.alignments_size if self._alignment_history else () for m in mechanisms
            ),
        )

    def zero_state(self, batch_size: Any, dtype: Any) -> AttentionWrapperState:
        """The state to begin with: that of the cell (or initial_cell_state), no attention."""
        with name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            cell_state = self._initial_cell_state
            if cell_state is None:
                cell_state = self._cell.get_initial_state(batch_size=batch_size, dtype=dtype)
            cell_state = self._of_batch(
                batch_size,
                cell_state,
                f"When calling zero_state of AttentionWrapper {self._base_name}: Non-matching batch sizes between the "
                "memory (encoder output) and the requested batch size.",
                "checked_cell_state",
            )
            mechanisms = self._attention_mechanisms
            alignments = [m.initial_alignments(batch_size, dtype) for m in mechanisms]
            return AttentionWrapperState(
                cell_state=cell_state,
                time=array_ops.zeros([], dtypes.int32),
                attention=zeros_of_size(batch_size, self._attention_layer_size, dtype),
                alignments=self._item_or_tuple(alignments),
                attention_state=self._item_or_tuple(
                    m.initial_state(batch_size, dtype) for m in mechanisms
                ),
                alignment_history=self._item_or_tuple(
                    TensorArray(dtype, size=0, dynamic_size=True, element_shape=a.shape)
                    if self._alignment_history
                    else ()
                    for a in alignments
                ),
            )

    def call(self, inputs: Any, state: Any) -> tuple[Any, AttentionWrapperState]:
        """One step of the cell, then of the mechanisms. Raises TypeError: another kind of state."""
        if not isinstance(state, AttentionWrapperState):
            raise TypeError(
                f"Expected state to be instance of AttentionWrapperState. Received type {type(state)} instead."
            )
        cell_inputs = self._cell_input_fn(inputs, state.attention)
        cell_output, cell_state = self._cell(cell_inputs, state.cell_state)
        cell_output = self._of_batch(
            size_along(cell_output, 0),
            cell_output,
            f"When applying AttentionWrapper {self.name}: Non-matching batch sizes between the memory (encoder output) and "
            "the query (decoder output).",
            "checked_cell_output",
        )
        states, histories = state.attention_state, state.alignment_history
        if not self._is_multi:
            states, histories = [states], [histories]
        attentions, alignments, next_states, next_histories = [], [], [], []
        for i, mechanism in enumerate(self._attention_mechanisms):
            layer = self._attention_layers[i] if self._attention_layers else None
            attention, aligned, next_state = self._attention_fn(
                mechanism, cell_output, states[i], layer
            )
            attentions.append(attention)
            alignments.append(aligned)
            next_states.append(next_state)
            next_histories.append(
                histories[i].write(state.time, aligned) if self._alignment_history else ()
            )
        attention = concat(attentions, 1)
        new_state = AttentionWrapperState(
            time=state.time + 1,
            cell_state=cell_state,
            attention=attention,
            attention_state=self._item_or_tuple(next_states),
            alignments=self._item_or_tuple(alignments),
            alignment_history=self._item_or_tuple(next_histories),
        )
        return (attention if self._output_attention else cell_output), new_state


def _side_by_side(inputs: Any, attention: Any) -> Tensor:
    return concat([inputs, attention], -1)
