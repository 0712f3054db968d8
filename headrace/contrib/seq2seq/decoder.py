"""`Decoder`, what makes one step of decoding, and `dynamic_decode`, the loop around it."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np

from headrace.api.mask_ops import where
from headrace.api.reduction import reduce_all
from headrace.api.tensor_array import TensorArray
from headrace.api.variable_scope import variable_scope
from headrace.api.while_loop import while_loop
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import static_shape, zeros_of_size
from headrace.layers.rnn_step import swap_batch_and_time


class Decoder(abc.ABC):
    """One step of decoding: subclasses say what they begin with (`initialize`) and how they go on (`step`).

    `output_size` and `output_dtype` are structures like that of the outputs.
    """

    @property
    def batch_size(self) -> Any:
        """The number of sequences."""
        raise NotImplementedError

    @property
    def output_size(self) -> Any:
        """The sizes of the outputs without the batch's: an int or a TensorShape each."""
        raise NotImplementedError

    @property
    def output_dtype(self) -> Any:
        """The types of the outputs."""
        raise NotImplementedError

    @abc.abstractmethod
    def initialize(self, name: str | None = None) -> tuple[Any, Any, Any]:
        """(finished, first inputs, first state)."""
        raise NotImplementedError

    @abc.abstractmethod
    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """(outputs, next state, next inputs, finished) for the step number `time`."""
        raise NotImplementedError

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> tuple[Any, Any]:
        """(outputs, state) as `dynamic_decode` is to return them. Raises NotImplementedError: as they are."""
        raise NotImplementedError

    @property
    def tracks_own_finished(self) -> bool:
        """Whether `finished` of a step counts for itself; else a sequence that was finished stays so."""
        return False


def dynamic_decode(
    decoder: Decoder,
    output_time_major: bool = False,
    impute_finished: bool = False,
    maximum_iterations: Any = None,
    parallel_iterations: int = 32,
    swap_memory: bool = False,
    scope: Any = None,
    **kwargs: Any,
) -> tuple[Any, Any, Any]:
    """(outputs, last state, sequence lengths) of the steps of `decoder` until all sequences are finished.

    outputs: [batch, time, ...], or [time, batch, ...] where output_time_major. impute_finished: a finished sequence gives
    zeros and keeps its state. maximum_iterations: a scalar, the most steps to make. parallel_iterations, swap_memory: accepted.
    Raises TypeError: no Decoder. ValueError: maximum_iterations is no scalar.
    """
    if not isinstance(decoder, Decoder):
        raise TypeError(f"Expected decoder to be type Decoder, but saw: {type(decoder)}")
    if kwargs:
        raise TypeError(f"dynamic_decode has no arguments {sorted(kwargs)} for a Decoder")
    with variable_scope(scope, "decoder"):
        if maximum_iterations is not None:
            maximum_iterations = convert.convert_to_tensor(
                maximum_iterations, dtypes.int32, "maximum_iterations"
            )
            if maximum_iterations._dims != ():
                raise ValueError("maximum_iterations must be a scalar")
        finished, inputs, state = decoder.initialize()
        finished = convert.convert_to_tensor(finished)
        if maximum_iterations is not None:
            finished = raw.LogicalOr(finished, raw.LessEqual(maximum_iterations, 0))
        batch_size, sizes, types = decoder.batch_size, decoder.output_size, decoder.output_dtype
        kinds, shapes = nest.flatten(types), _element_shapes(batch_size, sizes)
        # Steps come one after the other: a list that is pushed to compiles where an array that grows does not.
        lists = [
            raw.EmptyTensorList(_sizes(shape), -1, element_dtype=kind)
            for kind, shape in zip(kinds, shapes, strict=True)
        ]
        zero_outputs = None
        if impute_finished:
            zero_outputs = nest.map_structure(
                lambda size, dtype: zeros_of_size(batch_size, size, dtype), sizes, types
            )
        emitted: list[TensorShape] = []

        def step(
            time: Any, lists: Any, state: Any, inputs: Any, finished: Any, lengths: Any
        ) -> tuple[Any, ...]:
            outputs, new_state, new_inputs, ends = decoder.step(time, inputs, state)
            if not decoder.tracks_own_finished:
                ends = raw.LogicalOr(ends, finished)
            next_time = time + 1
            lengths = where(
                raw.LogicalNot(finished), raw.Fill(raw.Shape(lengths), next_time), lengths
            )
            nest.assert_same_structure(state, new_state)
            nest.assert_same_structure(types, outputs)
            nest.assert_same_structure(inputs, new_inputs)
            if impute_finished:
                outputs = nest.map_structure(
                    lambda out, zero: where(finished, zero, out), outputs, zero_outputs
                )
                new_state = nest.map_structure(
                    lambda new, old: _kept(finished, new, old), new_state, state
                )
            flat = [
                convert.convert_to_tensor(out, kind)
                for out, kind in zip(nest.flatten(outputs), kinds, strict=True)
            ]
            emitted[:] = [
                shape.merge_with(out.shape) for shape, out in zip(shapes, flat, strict=True)
            ]
            lists = [raw.TensorListPushBack(a, out) for a, out in zip(lists, flat, strict=True)]
            return next_time, lists, new_state, new_inputs, ends, lengths

        time = convert.constant_from_value(0, dtypes.int32, "time")
        lengths = raw.Fill(raw.Shape(finished), convert.constant_from_value(0, dtypes.int32, None))
        _, lists, state, _, _, lengths = while_loop(
            lambda time, lists, state, inputs, finished, lengths: raw.LogicalNot(
                reduce_all(finished)
            ),
            step,
            (time, lists, state, inputs, finished, lengths),
            parallel_iterations=parallel_iterations,
            maximum_iterations=maximum_iterations,
            swap_memory=swap_memory,
        )
        flat = [
            raw.TensorListStack(a, _sizes(shape), element_dtype=kind, num_elements=-1)
            for a, shape, kind in zip(lists, emitted, kinds, strict=True)
        ]
        for output, shape in zip(flat, emitted, strict=True):
            output.set_shape(TensorShape([None]).concatenate(shape))
        outputs = nest.pack_sequence_as(types, flat)
        try:
            outputs, state = decoder.finalize(outputs, state, lengths)
        except NotImplementedError:
            pass
        if not output_time_major:
            outputs = nest.map_structure(swap_batch_and_time, outputs)
    return outputs, state, lengths


def _element_shapes(batch_size: Any, sizes: Any) -> list[TensorShape]:
    """The shapes of the outputs of a step, as far as they are declared."""
    return [
        # What is declared a scalar for each sequence may be more: then its first value says the shape.
        TensorShape(None)
        if isinstance(size, TensorShape) and size.rank == 0
        else static_shape(batch_size, size)
        for size in nest.flatten(sizes)
    ]


def _sizes(shape: TensorShape) -> np.ndarray:
    dims = shape._dims
    return np.array(-1 if dims is None else [-1 if d is None else d for d in dims], np.int32)


def _kept(finished: Tensor, new: Any, old: Any) -> Any:
    """`new`, but `old` for the sequences that are finished; arrays and scalars are new."""
    if isinstance(old, TensorArray):
        return new
    new.set_shape(old.shape)
    return new if new._dims == () else where(finished, old, new)
