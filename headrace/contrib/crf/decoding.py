"""The best tags under a linear-chain CRF, by the Viterbi algorithm: in the graph, and for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api import array_ops
from headrace.api.gather_ops import gather, reverse_sequence
from headrace.api.reduction import argmax, reduce_max
from headrace.contrib.crf.likelihood import TagCell, by_length, without_first
from headrace.core import dtypes
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn import dynamic_rnn
from headrace.layers.rnn_cell_base import RNNCell


class CrfDecodeForwardRnnCell(TagCell):
    """One step forwards: the best score of a sequence by its last tag, and the tag that it had before."""

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:
        """(the tags before, int32; the new best scores)."""
        scores = self._scores_from(state)
        best = inputs + reduce_max(scores, [1])
        return argmax(scores, 1, output_type=dtypes.int32), best


class CrfDecodeBackwardRnnCell(RNNCell):
    """One step backwards: from a tag to the one before it."""

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self._num_tags = num_tags

    @property
    def state_size(self) -> int:
        """1: the tag."""
        return 1

    @property
    def output_size(self) -> int:
        """1: the tag."""
        return 1

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:
        """The tag before, twice."""
        before = gather(inputs, state, axis=1, batch_dims=1)
        return before, before


def crf_decode(
    potentials: Any, transition_params: Any, sequence_length: Any
) -> tuple[Tensor, Tensor]:
    """(the best tags [batch, time], int32; their scores [batch]).

    potentials: [batch, time, tags], the unary scores. sequence_length: [batch]; tags beyond it mean nothing.
    """
    potentials = convert.convert_to_tensor(potentials)
    params = convert.convert_to_tensor(transition_params)
    lengths = convert.convert_to_tensor(sequence_length)
    first = potentials[:, 0]

    def single() -> tuple[Tensor, Tensor]:
        tags = argmax(first, axis=1, output_type=dtypes.int32)
        return array_ops.expand_dims(tags, 1), reduce_max(first, axis=1)

    def several() -> tuple[Tensor, Tensor]:
        rest = without_first(lengths)
        before, best = dynamic_rnn(
            CrfDecodeForwardRnnCell(params),
            potentials[:, 1:],
            sequence_length=rest,
            initial_state=first,
            dtype=dtypes.int32,
        )
        last = array_ops.expand_dims(argmax(best, axis=1, output_type=dtypes.int32), 1)
        backwards, _ = dynamic_rnn(
            CrfDecodeBackwardRnnCell(potentials.shape._dims[2]),
            reverse_sequence(before, rest, seq_axis=1),
            sequence_length=rest,
            initial_state=last,
            dtype=dtypes.int32,
        )
        tags = raw.ConcatV2([last, array_ops.squeeze(backwards, axis=[2])], 1)
        return reverse_sequence(tags, lengths, seq_axis=1), reduce_max(best, axis=1)

    return by_length(potentials, single, several)


def viterbi_decode(score: Any, transition_params: Any) -> tuple[list[Any], Any]:
    """(the best tags, their score) for arrays: `score` [time, tags], `transition_params` [tags, tags]."""
    best = np.array(score[0])
    before = []
    for now in score[1:]:
        scores = np.expand_dims(best, 1) + transition_params
        before.append(np.argmax(scores, 0))
        best = now + np.max(scores, 0)
    tags = [np.argmax(best)]
    for back in reversed(before):
        tags.append(back[tags[-1]])
    return tags[::-1], np.max(best)
