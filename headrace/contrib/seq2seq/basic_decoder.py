"""`BasicDecoder`: a cell, what feeds it (a Helper), and perhaps a layer over its outputs."""

from __future__ import annotations

import collections
from typing import Any

from headrace.api.framework import name_scope
from headrace.contrib.seq2seq.decoder import Decoder
from headrace.contrib.seq2seq.helper import Helper
from headrace.core import nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.layers.layer_base import LayerBase
from headrace.layers.rnn_cell_base import assert_like_rnncell


class BasicDecoderOutput(collections.namedtuple("BasicDecoderOutput", ("rnn_output", "sample_id"))):
    """What the cell (or the layer over it) gave, and what the helper chose from that."""

    __slots__ = ()


def checked_output_layer(layer: Any) -> Any:
    """`layer`. Raises TypeError: neither None nor a layer."""
    if layer is not None and not isinstance(layer, LayerBase):
        raise TypeError(f"output_layer must be a Layer, received: {type(layer)}")
    return layer


def size_after(layer: Any, size: Any) -> Any:
    """The sizes of a cell's output (in the structure of `size`) once `layer`, if any, was applied to it."""
    if layer is None:
        return size

    def leaf(size: Any) -> TensorShape:
        inner = as_shape(size if isinstance(size, (TensorShape, list, tuple)) else [size])
        return layer.compute_output_shape(TensorShape([None]).concatenate(inner))[1:]

    return nest.map_structure(leaf, size)


class BasicDecoder(Decoder):
    """Calls `cell`, then `output_layer`, lets `helper` choose from the output, and takes the next inputs from it.

    Raises TypeError: no cell, no Helper, no layer.
    """

    def __init__(
        self, cell: Any, helper: Helper, initial_state: Any, output_layer: Any = None
    ) -> None:
        assert_like_rnncell("cell", cell)
        if not isinstance(helper, Helper):
            raise TypeError(f"helper must be a Helper, received: {type(helper)}")
        self._cell, self._helper, self._initial_state = cell, helper, initial_state
        self._output_layer = checked_output_layer(output_layer)

    @property
    def batch_size(self) -> Any:
        """That of the helper."""
        return self._helper.batch_size

    @property
    def output_size(self) -> BasicDecoderOutput:
        """The sizes of the cell's (the layer's) output, and of what the helper chooses."""
        return BasicDecoderOutput(
            size_after(self._output_layer, self._cell.output_size), self._helper.sample_ids_shape
        )

    @property
    def output_dtype(self) -> BasicDecoderOutput:
        """The type of the state, and that of what the helper chooses."""
        dtype = nest.flatten(self._initial_state)[0].dtype
        return BasicDecoderOutput(
            nest.map_structure(lambda _: dtype, self.output_size.rnn_output),
            self._helper.sample_ids_dtype,
        )

    def initialize(self, name: str | None = None) -> tuple[Any, Any, Any]:
        """(finished, first inputs) of the helper, and the initial state."""
        return (*self._helper.initialize(), self._initial_state)

    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """(outputs, next state, next inputs, finished)."""
        with name_scope(name, "BasicDecoderStep", (time, inputs, state)):
            output, state = self._cell(inputs, state)
            if self._output_layer is not None:
                output = self._output_layer(output)
            sample_ids = self._helper.sample(time=time, outputs=output, state=state)
            finished, next_inputs, next_state = self._helper.next_inputs(
                time=time, outputs=output, state=state, sample_ids=sample_ids
            )
        return BasicDecoderOutput(output, sample_ids), next_state, next_inputs, finished
