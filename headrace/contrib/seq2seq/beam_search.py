"""`BeamSearchDecoder`: keeps the best few sequences of each batch entry in every step."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from headrace.api import array_ops
from headrace.api.cond import cond
from headrace.api.diagnostic import Assert
from headrace.api.export import PUBLIC
from headrace.api.framework import control_dependencies, name_scope
from headrace.api.gather_ops import gather
from headrace.api.join_ops import concat, stack
from headrace.api.logging import warning
from headrace.api.mask_ops import one_hot, where
from headrace.api.math_ops import cast, floordiv
from headrace.api.nn_ops import log_softmax
from headrace.api.reduction import reduce_all, reduce_max
from headrace.api.tensor_array import TensorArray
from headrace.contrib.seq2seq.attention_wrapper import AttentionWrapperState
from headrace.contrib.seq2seq.basic_decoder import checked_output_layer, size_after
from headrace.contrib.seq2seq.decoder import Decoder
from headrace.contrib.seq2seq.gather_tree import gather_tree, gather_tree_from_array
from headrace.contrib.seq2seq.helper import _embedding_function
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_cell_base import assert_like_rnncell

log, minimum, top_k = PUBLIC["log"], PUBLIC["minimum"], PUBLIC["nn.top_k"]
reduce_mean, reduce_sum = PUBLIC["reduce_mean"], PUBLIC["reduce_sum"]


class BeamSearchDecoderState(
    collections.namedtuple(
        "BeamSearchDecoderState",
        ("cell_state", "log_probs", "finished", "lengths", "accumulated_attention_probs"),
    )
):
    """The state of the cell for each beam, and what is known of each beam's sequence."""

    __slots__ = ()


class BeamSearchDecoderOutput(
    collections.namedtuple("BeamSearchDecoderOutput", ("scores", "predicted_ids", "parent_ids"))
):
    """A step: the best scores, their words, and the beams they go on from; [batch, beam] each."""

    __slots__ = ()


class FinalBeamSearchDecoderOutput(
    collections.namedtuple(
        "FinalBeamDecoderOutput", ("predicted_ids", "beam_search_decoder_output")
    )
):
    """The sequences [batch, time, beam], best first, and the outputs of the steps."""

    __slots__ = ()


# ---- batches of beams


def tile_batch(t: Any, multiplier: int, name: str | None = None) -> Any:
    """Each row of the tensors of `t` `multiplier` times, one after the other: [batch * multiplier, ...].

    Raises ValueError: unknown ranks, scalars.
    """
    flat = nest.flatten(t)
    with name_scope(name, "tile_batch", [*flat, multiplier]):
        return nest.map_structure(lambda x: _tiled(x, multiplier), t)


def _tiled(t: Any, multiplier: int) -> Tensor:
    t = convert.convert_to_tensor(t, name="t")
    dims = t._dims
    if not dims:
        raise ValueError("t must have statically known rank")
    shape = array_ops.shape(t)
    copies = raw.Tile(array_ops.expand_dims(t, 1), [1, multiplier, *[1] * (len(dims) - 1)])
    tiled = array_ops.reshape(copies, concat(([shape[0] * multiplier], shape[1:]), 0))
    known = isinstance(multiplier, int) and dims[0] is not None
    tiled.set_shape([dims[0] * multiplier if known else None, *dims[1:]])
    return tiled


def _known_rank(t: Tensor) -> int:
    if t._dims is None:
        raise ValueError(f"Expected tensor ({t}) to have known rank, but ndims == None.")
    return len(t._dims)


def _of_beams(values: Tensor, beams: Tensor) -> Tensor:
    """`values` [batch, beam, ...] for the beams chosen in each batch entry, [batch, beam]."""
    picked = gather(values, beams, axis=1, batch_dims=1)
    picked.set_shape(values.shape)
    return picked


# ---- the decoder


class BeamSearchDecoder(Decoder):
    """Decodes with a beam of `beam_width` for each of `start_tokens` (a vector of int32), until `end_token`.

    embedding: a function of ids, or the table. initial_state: for batch * beam_width rows (see `tile_batch`). output_layer: over
    the cell's outputs. length_penalty_weight, coverage_penalty_weight: 0 for none. reorder_tensor_arrays: TensorArrays in the
    cell's state come back stacked, each beam's values in the order of its sequence.
    Raises TypeError: no cell, no layer. ValueError: other ranks.
    """

    def __init__(
        self,
        cell: Any,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        initial_state: Any,
        beam_width: int,
        output_layer: Any = None,
        length_penalty_weight: Any = 0.0,
        coverage_penalty_weight: Any = 0.0,
        reorder_tensor_arrays: bool = True,
    ) -> None:
        assert_like_rnncell("cell", cell)
        self._cell, self._output_layer = cell, checked_output_layer(output_layer)
        self._beam_width, self._reorder_tensor_arrays = beam_width, reorder_tensor_arrays
        self._length_penalty_weight = length_penalty_weight
        self._coverage_penalty_weight = coverage_penalty_weight
        self._embedding_fn = _embedding_function(embedding)
        start_tokens = convert.convert_to_tensor(start_tokens, dtypes.int32, name="start_tokens")
        if start_tokens.shape.rank != 1:
            raise ValueError("start_tokens must be a vector")
        self._end_token = convert.convert_to_tensor(end_token, dtypes.int32, name="end_token")
        if self._end_token.shape.rank != 0:
            raise ValueError("end_token must be a scalar")
        self._batch_size = array_ops.size(start_tokens)
        self._known_batch = start_tokens.shape._dims[0]
        self._initial_cell_state = nest.map_structure(self._split, initial_state)
        start_tokens = raw.Tile(array_ops.expand_dims(start_tokens, 1), [1, beam_width])
        self._start_inputs = self._embedding_fn(start_tokens)
        # At first the beams are equal: all but one are finished, with probability 0.
        self._first_beam = array_ops.zeros([self._batch_size], dtypes.int32)

    @property
    def batch_size(self) -> Any:
        """The number of start tokens."""
        return self._batch_size

    @property
    def tracks_own_finished(self) -> bool:
        """True: beams change places from step to step."""
        return True

    @property
    def output_size(self) -> BeamSearchDecoderOutput:
        """beam_width for each."""
        size = TensorShape([self._beam_width])
        return BeamSearchDecoderOutput(size, size, size)

    @property
    def output_dtype(self) -> BeamSearchDecoderOutput:
        """The type of the state for the scores, int32 for words and beams."""
        dtype = nest.flatten(self._initial_cell_state)[0].dtype
        sizes = size_after(self._output_layer, self._cell.output_size)
        scores = nest.map_structure(lambda _: dtype, sizes)
        return BeamSearchDecoderOutput(scores, dtypes.int32, dtypes.int32)

    # [batch, beam, ...] and [batch * beam, ...]

    def _split(self, t: Any) -> Any:
        if isinstance(t, TensorArray) or _known_rank(t) == 0:
            return t
        shape = array_ops.shape(t)
        head = raw.Pack([self._batch_size, self._beam_width], axis=0)
        split = array_ops.reshape(t, raw.ConcatV2([head, shape[1:]], 0))
        expected = TensorShape([self._known_batch, self._beam_width, *t._dims[1:]])
        if not split.shape.is_compatible_with(expected):
            raise ValueError(
                "Unexpected behavior when reshaping between beam width and batch size.  The reshaped tensor has shape: "
                f"{split.shape}.  We expected it to have shape (batch_size, beam_width, depth) == {expected}.  Perhaps you "
                "forgot to create a zero_state with batch_size=encoder_batch_size * beam_width?"
            )
        split.set_shape(expected)
        return split

    def _merge(self, t: Any) -> Any:
        if isinstance(t, TensorArray) or _known_rank(t) < 2:
            return t
        shape = array_ops.shape(t)
        rows = raw.Reshape(self._batch_size * self._beam_width, [1])
        merged = array_ops.reshape(t, raw.ConcatV2([rows, shape[2:]], 0))
        known = None if self._known_batch is None else self._known_batch * self._beam_width
        merged.set_shape([known, *t._dims[2:]])
        return merged

    # The steps

    def initialize(self, name: str | None = None) -> tuple[Any, Any, BeamSearchDecoderState]:
        """(finished, embeddings of the start tokens, the state with one beam in play)."""
        dtype = nest.flatten(self._initial_cell_state)[0].dtype
        width, first = self._beam_width, self._first_beam
        finished = one_hot(first, width, on_value=False, off_value=True, dtype=dtypes.bool)
        numbers = dtype.as_numpy_dtype
        log_probs = one_hot(
            first, width, on_value=numbers(0.0), off_value=numbers(-np.inf), dtype=dtype
        )
        attention = _attention_of(self._initial_cell_state, self._coverage_penalty_weight)
        state = BeamSearchDecoderState(
            cell_state=self._initial_cell_state,
            log_probs=log_probs,
            finished=finished,
            lengths=array_ops.zeros([self._batch_size, width], dtypes.int64),
            accumulated_attention_probs=() if attention is None else attention,
        )
        state.lengths.set_shape([self._known_batch, width])
        return finished, self._start_inputs, state

    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """(outputs, next state, next inputs, finished)."""
        with name_scope(name, "BeamSearchDecoderStep", (time, inputs, state)):
            logits, cell_state = self._cell(
                nest.map_structure(self._merge, inputs),
                nest.map_structure(self._merge, state.cell_state),
            )
            logits = nest.map_structure(self._split, logits)
            cell_state = nest.map_structure(self._split, cell_state)
            if self._output_layer is not None:
                logits = self._output_layer(logits)
            output, next_state = self._best(logits, cell_state, state)
            next_inputs = cond(
                reduce_all(next_state.finished),
                lambda: self._start_inputs,
                lambda: self._embedding_fn(output.predicted_ids),
            )
        return output, next_state, next_inputs, next_state.finished

    def _best(
        self, logits: Tensor, cell_state: Any, state: BeamSearchDecoderState
    ) -> tuple[BeamSearchDecoderOutput, BeamSearchDecoderState]:
        """The best words over all beams, for `logits` [batch, beam, words]."""
        width, end_token = self._beam_width, self._end_token
        words = logits.shape._dims[-1] or array_ops.shape(logits)[-1]
        going_on = raw.LogicalNot(state.finished)
        log_probs = _only_end(log_softmax(logits), end_token, state.finished)
        total = array_ops.expand_dims(state.log_probs, 2) + log_probs
        # The end token does not count.
        not_end = raw.NotEqual(range_of(words), end_token)
        added = cast(raw.LogicalAnd(array_ops.expand_dims(going_on, 2), not_end), dtypes.int64)
        lengths = added + array_ops.expand_dims(state.lengths, 2)
        attention = _attention_of(cell_state, self._coverage_penalty_weight)
        if attention is not None:
            attention *= array_ops.expand_dims(cast(going_on, attention.dtype), 2)
            attention = state.accumulated_attention_probs + attention
        scores = _with_penalties(
            total,
            lengths,
            self._length_penalty_weight,
            self._coverage_penalty_weight,
            state.finished,
            attention,
        )
        flat_shape = raw.Pack([self._batch_size, -1], axis=0)
        best, where_best = top_k(array_ops.reshape(scores, flat_shape), k=width)
        for chosen in (best, where_best):
            chosen.set_shape([self._known_batch, width])
        probs = gather(array_ops.reshape(total, flat_shape), where_best, axis=1, batch_dims=1)
        probs.set_shape([self._known_batch, width])
        beams = floordiv(where_best, words, name="next_beam_parent_ids")
        ids = raw.FloorMod(where_best, words, name="next_beam_word_ids")
        was_finished = _of_beams(state.finished, beams)
        finished = raw.LogicalOr(was_finished, raw.Equal(ids, end_token), name="next_beam_finished")
        length = _of_beams(state.lengths, beams)
        length += cast(raw.LogicalNot(was_finished), dtypes.int64)
        next_state = BeamSearchDecoderState(
            cell_state=nest.map_structure(
                lambda t: (
                    t if isinstance(t, TensorArray) or _known_rank(t) < 2 else _of_beams(t, beams)
                ),
                cell_state,
            ),
            log_probs=probs,
            lengths=length,
            finished=finished,
            accumulated_attention_probs=() if attention is None else _of_beams(attention, beams),
        )
        return BeamSearchDecoderOutput(best, ids, beams), next_state

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> tuple[Any, Any]:
        """(FinalBeamSearchDecoderOutput, the state with its TensorArrays in the order of the sequences)."""
        longest = cast(reduce_max(final_state.lengths, axis=1), dtypes.int32)
        ids = gather_tree(outputs.predicted_ids, outputs.parent_ids, longest, self._end_token)
        if self._reorder_tensor_arrays:
            cell_state = nest.map_structure(
                lambda t: self._in_order(t, outputs.parent_ids, final_state.lengths),
                final_state.cell_state,
            )
            final_state = final_state._replace(cell_state=cell_state)
        return FinalBeamSearchDecoderOutput(ids, outputs), final_state

    def _in_order(self, t: Any, parent_ids: Tensor, lengths: Tensor) -> Any:
        if not isinstance(t, TensorArray):
            return t
        dims = t.element_shape._dims
        if not dims:
            warning(
                f"The TensorArray {t.handle.name} in the cell state is not sorted by the beam search: the shape of its "
                f"elements must be known, of rank 1 or more, but is {t.element_shape}"
            )
            return t
        batch, width = self._known_batch, self._beam_width
        if batch is not None and dims[0] is not None:
            # As TensorFlow decides it: elements of two known sizes are left alone, too.
            if dims[0] != batch * width or dims[1:2] not in ((), (None,)):
                warning(
                    f"TensorArray reordering expects elements that can be reshaped to {[batch, width, None]}, which the shape "
                    f"{t.element_shape} cannot. Consider reorder_tensor_arrays=False."
                )
                return t
        stacked = t.stack()
        shape = array_ops.shape(stacked)
        fits = raw.Equal(shape[1], self._batch_size * width)
        if len(dims) > 1:
            both = raw.Equal(shape[1:3], stack([self._batch_size, width]))
            fits = raw.LogicalOr(fits, reduce_all(both))
        check = Assert(
            fits,
            [
                "TensorArray reordering expects elements to be reshapable to [batch_size, beam_size, -1]; consider "
                f"reorder_tensor_arrays=False. Elements of {t.handle.name} are",
                shape,
            ],
        )
        with control_dependencies([check]):
            return gather_tree_from_array(stacked, parent_ids, lengths)


def range_of(count: Any) -> Tensor:
    """0, 1, ... count - 1."""
    return raw.Range(0, count, 1)


def _only_end(log_probs: Tensor, end_token: Tensor, finished: Tensor) -> Tensor:
    """`log_probs` [batch, beam, words], but certainty of the end token for beams that are finished."""
    numbers = log_probs.dtype.as_numpy_dtype
    row = one_hot(
        end_token,
        array_ops.shape(log_probs)[2],
        dtype=log_probs.dtype,
        on_value=numbers(0.0),
        off_value=np.finfo(numbers).min,
    )
    mask = raw.LogicalAnd(
        array_ops.expand_dims(finished, 2), array_ops.ones_like(log_probs, dtypes.bool)
    )
    return where(mask, row + array_ops.zeros_like(log_probs), log_probs)


def _attention_of(cell_state: Any, coverage_penalty_weight: Any) -> Tensor | None:
    """The mean of the alignments in the state; None where there is no penalty for them.

    Raises ValueError: a penalty, but no attention.
    """
    if not isinstance(coverage_penalty_weight, Tensor) and coverage_penalty_weight == 0.0:
        return None
    states = [cell_state] if isinstance(cell_state, AttentionWrapperState) else cell_state
    probs = [
        _mean(s.alignments if isinstance(s.alignments, tuple) else (s.alignments,))
        for s in (states if isinstance(states, (list, tuple)) else ())
        if isinstance(s, AttentionWrapperState)
    ]
    if not probs:
        raise ValueError("coverage_penalty_weight must be 0.0 if no cell is attentional.")
    return _mean(probs)


def _mean(tensors: Any) -> Tensor:
    return tensors[0] if len(tensors) == 1 else reduce_mean(stack(list(tensors), -1), -1)


def _with_penalties(
    log_probs: Tensor,
    lengths: Tensor,
    length_weight: Any,
    coverage_weight: Any,
    finished: Tensor,
    attention: Tensor | None,
) -> Tensor:
    """The scores of `log_probs` [batch, beam, words]: by length, and for parts of the memory that got little attention."""
    scores = log_probs
    factor = convert.convert_to_tensor(length_weight, name="penalty_factor")
    factor.set_shape([])
    if constant_value(factor) is None or constant_value(factor) != 0:
        penalty = (5.0 + cast(lengths, dtypes.float32)) ** factor / 6.0**factor
        scores = scores / cast(penalty, scores.dtype)
    weight = convert.convert_to_tensor(coverage_weight, name="coverage_penalty_weight")
    if weight.shape.rank != 0:
        raise ValueError(
            f"coverage_penalty_weight should be a scalar, but saw shape: {weight.shape}"
        )
    if attention is None:
        return scores
    ones = array_ops.ones_like(attention)
    seen = where(raw.Equal(attention, array_ops.zeros_like(attention)), ones, attention)
    coverage = reduce_sum(log(minimum(seen, 1.0)), 2) * cast(finished, dtypes.float32)
    return scores + array_ops.expand_dims(coverage * weight, 2)
