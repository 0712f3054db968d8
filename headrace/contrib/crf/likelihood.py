"""The likelihood of tags under a linear-chain CRF: scores of sequences, and the norm over all of them.

Throughout, `inputs` are the unary scores [batch, time, tags], `tag_indices` the tags [batch, time], `sequence_lengths` [batch],
and `transition_params` [tags, tags] the scores of one tag (row) followed by another (column).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import array_ops
from headrace.api.cond import cond
from headrace.api.export import PUBLIC
from headrace.api.gather_ops import gather, gather_nd
from headrace.api.get_variable import get_variable
from headrace.api.mask_ops import sequence_mask, where
from headrace.api.math_ops import cast
from headrace.api.reduction import reduce_logsumexp
from headrace.core import dtypes
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn import dynamic_rnn
from headrace.layers.rnn_cell_base import RNNCell

reduce_sum = PUBLIC["reduce_sum"]


class TagCell(RNNCell):
    """A cell whose state and output have an element for each tag."""

    def __init__(self, transition_params: Any) -> None:
        super().__init__()
        params = convert.convert_to_tensor(transition_params)
        self._transition_params = array_ops.expand_dims(params, 0)
        self._num_tags = params.shape._dims[0]

    @property
    def state_size(self) -> Any:
        """The number of tags."""
        return self._num_tags

    @property
    def output_size(self) -> Any:
        """The number of tags."""
        return self._num_tags

    def _scores_from(self, state: Tensor) -> Tensor:
        """[batch, tag before, tag]."""
        return array_ops.expand_dims(state, 2) + self._transition_params


class CrfForwardRnnCell(TagCell):
    """One step of the forward algorithm: the logarithms of the sums over all sequences so far, by their last tag."""

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:
        """The new sums, twice."""
        sums = inputs + reduce_logsumexp(self._scores_from(state), [1])
        return sums, sums


# ---- what the functions share


def by_length(inputs: Tensor, single: Callable[[], Any], several: Callable[[], Any]) -> Any:
    """`single()` for sequences of one step, else `several()`."""
    known = inputs.shape._dims[1]
    if known is not None:
        return single() if known == 1 else several()
    return cond(raw.Equal(array_ops.shape(inputs)[1], 1), single, several)


def without_first(lengths: Tensor) -> Tensor:
    """The lengths less one, at least zero."""
    one = convert.constant_from_value(1, lengths.dtype, None)
    zero = convert.constant_from_value(0, lengths.dtype, None)
    return raw.Maximum(zero, lengths - one)


def _zero_if_empty(scores: Tensor, lengths: Tensor) -> Tensor:
    zero = convert.constant_from_value(0, lengths.dtype, None)
    return where(raw.LessEqual(lengths, zero), array_ops.zeros_like(scores), scores)


def _tensors(*values: Any) -> list[Tensor]:
    return [convert.convert_to_tensor(v) for v in values]


# ---- scores


def crf_unary_score(tag_indices: Any, sequence_lengths: Any, inputs: Any) -> Tensor:
    """The sums of the inputs of the tags: [batch]."""
    tags, lengths, inputs = _tensors(tag_indices, sequence_lengths, inputs)
    own = gather(inputs, array_ops.expand_dims(tags, 2), axis=2, batch_dims=2)
    mask = sequence_mask(lengths, maxlen=array_ops.shape(tags)[1], dtype=inputs.dtype)
    return reduce_sum(array_ops.squeeze(own, [2]) * mask, 1)


def crf_binary_score(tag_indices: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The sums of the transition scores from tag to tag: [batch]."""
    tags, lengths, params = _tensors(tag_indices, sequence_lengths, transition_params)
    number = convert.constant_from_value(params.shape._dims[0], tags.dtype, None)
    pairs = tags[:, :-1] * number + tags[:, 1:]
    scores = gather(array_ops.reshape(params, [-1]), pairs)
    mask = sequence_mask(lengths, maxlen=array_ops.shape(tags)[1], dtype=params.dtype)
    return reduce_sum(scores * mask[:, 1:], 1)


def crf_sequence_score(
    inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any
) -> Tensor:
    """The unnormalised scores of the tags: [batch]; 0 for empty sequences."""
    inputs, tags, lengths, params = _tensors(
        inputs, tag_indices, sequence_lengths, transition_params
    )

    def single() -> Tensor:
        rows = raw.Range(0, array_ops.shape(inputs)[0], 1)
        where_tags = raw.ConcatV2([array_ops.expand_dims(cast(rows, tags.dtype), 1), tags], 1)
        return _zero_if_empty(gather_nd(array_ops.squeeze(inputs, [1]), where_tags), lengths)

    def several() -> Tensor:
        return crf_unary_score(tags, lengths, inputs) + crf_binary_score(tags, lengths, params)

    return by_length(inputs, single, several)


def crf_log_norm(inputs: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The logarithm of the sum of exp(score) over all sequences of tags: [batch]; 0 for empty sequences."""
    inputs, lengths, params = _tensors(inputs, sequence_lengths, transition_params)
    first = inputs[:, 0]

    def several() -> Tensor:
        _, last = dynamic_rnn(
            CrfForwardRnnCell(params),
            inputs[:, 1:],
            sequence_length=without_first(lengths),
            initial_state=first,
            dtype=dtypes.float32,
        )
        return _zero_if_empty(reduce_logsumexp(last, [1]), lengths)

    return by_length(inputs, lambda: _zero_if_empty(reduce_logsumexp(first, [1]), lengths), several)


def crf_multitag_sequence_score(
    inputs: Any, tag_bitmap: Any, sequence_lengths: Any, transition_params: Any
) -> Tensor:
    """The logarithm of the sum of exp(score) over the sequences that `tag_bitmap` [batch, time, tags] (bool) allows: [batch]."""
    inputs, bitmap = _tensors(inputs, tag_bitmap)
    never = array_ops.fill(array_ops.shape(inputs), float("-inf"))
    allowed = where(bitmap, inputs, never)
    return by_length(
        inputs,
        lambda: reduce_logsumexp(allowed, axis=[1, 2], keepdims=False),
        lambda: crf_log_norm(allowed, sequence_lengths, transition_params),
    )


def crf_log_likelihood(
    inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any = None
) -> tuple[Tensor, Any]:
    """(the log-likelihoods of the tags [batch], the transition scores: a new variable `transitions` where not given)."""
    inputs = convert.convert_to_tensor(inputs)
    tags = inputs.shape._dims[2]
    if transition_params is None:
        transition_params = get_variable("transitions", [tags, tags])
    score = crf_sequence_score(inputs, tag_indices, sequence_lengths, transition_params)
    norm = crf_log_norm(inputs, sequence_lengths, transition_params)
    return score - norm, transition_params
