"""Helpers: what a BasicDecoder feeds its cell, and how it chooses from the outputs."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from headrace.api import array_ops
from headrace.api.cond import cond
from headrace.api.embedding_ops import embedding_lookup
from headrace.api.export import PUBLIC
from headrace.api.framework import name_scope
from headrace.api.gather_ops import gather_nd
from headrace.api.join_ops import concat
from headrace.api.mask_ops import where
from headrace.api.math_ops import cast
from headrace.api.random_ops import multinomial, random_uniform
from headrace.api.reduction import argmax, reduce_all, reduce_any
from headrace.api.tensor_array import TensorArray
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.rnn_step import swap_batch_and_time

scatter_nd = PUBLIC["scatter_nd"]


# ---- what helpers share


def _elements(x: Tensor) -> TensorArray:
    """The parts of `x` along its first axis, time."""
    array = TensorArray(x.dtype, size=array_ops.shape(x)[0], element_shape=x.shape[1:])
    return array.unstack(x)


def _embedding_function(embedding: Any) -> Callable[[Any], Any]:
    return embedding if callable(embedding) else lambda ids: embedding_lookup(embedding, ids)


def _chosen(probability: Tensor, count: Any, dtype: Any, seed: int | None) -> Tensor:
    """[count, ...] of `dtype`: 1 with `probability` (a scalar, or a vector, which gives [count, its size])."""
    shape = raw.ConcatV2([raw.Reshape(count, [1]), array_ops.shape(probability)], 0)
    return cast(
        raw.Less(random_uniform(shape, seed=seed, dtype=probability.dtype), probability), dtype
    )


def _sampled(logits: Tensor, seed: int | None) -> Tensor:
    """One class, drawn by `logits` [..., classes], as int32."""
    logits = convert.convert_to_tensor(logits, name="logits")
    shape = array_ops.shape(logits)
    rows = logits
    if logits._dims is None or len(logits._dims) != 2:
        rows = array_ops.reshape(logits, [-1, shape[-1]])
    draws = multinomial(rows, 1, seed=seed, output_dtype=dtypes.int32)
    sample = array_ops.reshape(draws, shape[:-1])
    if logits._dims is not None:
        sample.set_shape(TensorShape.of(logits._dims[:-1]))
    return sample


def _probability(value: Any) -> Tensor:
    tensor = convert.convert_to_tensor(value, name="sampling_probability")
    if tensor._dims is None or len(tensor._dims) > 1:
        raise ValueError(
            f"sampling_probability must be either a scalar or a vector. saw shape: {tensor.shape}"
        )
    return tensor


def _single_tensor(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(f"Expected outputs to be a single Tensor, got: {type(outputs)}")
    return outputs


def _none_finished(batch_size: Any) -> Tensor:
    return array_ops.fill([batch_size], False)


def _rows_where(mask: Tensor) -> Tensor:
    return cast(where(mask), dtypes.int32)


def _merged(into: Tensor, *parts: tuple[Tensor, Tensor]) -> Tensor:
    """A tensor like `into` made of (row numbers, rows)."""
    shape = array_ops.shape(into)
    merged = sum(scatter_nd(rows, values, shape) for rows, values in parts[1:])
    merged = scatter_nd(*parts[0], shape) + merged
    merged.set_shape(into.shape)
    return merged


# ---- the interface


class Helper(abc.ABC):
    """What a BasicDecoder asks: which inputs come first and next, what is chosen from outputs, which sequences are finished."""

    @property
    @abc.abstractmethod
    def batch_size(self) -> Any:
        """The number of sequences."""

    @property
    @abc.abstractmethod
    def sample_ids_shape(self) -> TensorShape:
        """The shape of what `sample` gives for one sequence."""

    @property
    @abc.abstractmethod
    def sample_ids_dtype(self) -> Any:
        """The type of what `sample` gives."""

    @abc.abstractmethod
    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """(finished, first inputs)."""

    @abc.abstractmethod
    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """What is chosen from the outputs."""

    @abc.abstractmethod
    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """(finished, next inputs, next state)."""


class _ScalarSamples(Helper):
    """A helper that chooses one int32 for each sequence."""

    _batch_size: Any

    @property
    def batch_size(self) -> Any:
        """The number of sequences."""
        return self._batch_size

    @property
    def sample_ids_shape(self) -> TensorShape:
        """Scalars."""
        return TensorShape([])

    @property
    def sample_ids_dtype(self) -> Any:
        """int32."""
        return dtypes.int32


class CustomHelper(Helper):
    """A helper made of functions, which get the arguments of the methods by name."""

    def __init__(
        self,
        initialize_fn: Callable[[], tuple[Any, Any]],
        sample_fn: Callable[..., Any],
        next_inputs_fn: Callable[..., tuple[Any, Any, Any]],
        sample_ids_shape: Any = None,
        sample_ids_dtype: Any = None,
    ) -> None:
        self._initialize_fn, self._sample_fn = initialize_fn, sample_fn
        self._next_inputs_fn = next_inputs_fn
        self._batch_size: Any = None
        self._sample_ids_shape = as_shape(sample_ids_shape or [])
        self._sample_ids_dtype = sample_ids_dtype or dtypes.int32

    @property
    def batch_size(self) -> Any:
        """As many as `initialize` said. Raises ValueError: it has not been called."""
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called")
        return self._batch_size

    @property
    def sample_ids_shape(self) -> TensorShape:
        """As given."""
        return self._sample_ids_shape

    @property
    def sample_ids_dtype(self) -> Any:
        """As given."""
        return self._sample_ids_dtype

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """(finished, first inputs)."""
        with name_scope(name, f"{type(self).__name__}Initialize"):
            finished, inputs = self._initialize_fn()
            if self._batch_size is None:
                self._batch_size = array_ops.size(finished)
        return finished, inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """What is chosen from the outputs."""
        with name_scope(name, f"{type(self).__name__}Sample", (time, outputs, state)):
            return self._sample_fn(time=time, outputs=outputs, state=state)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """(finished, next inputs, next state)."""
        with name_scope(name, f"{type(self).__name__}NextInputs", (time, outputs, state)):
            return self._next_inputs_fn(
                time=time, outputs=outputs, state=state, sample_ids=sample_ids
            )


# ---- for training


class TrainingHelper(_ScalarSamples):
    """Feeds `inputs` [batch, time, ...] ([time, batch, ...] where time_major) up to `sequence_length`, a vector.

    Raises ValueError: sequence_length is no vector.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        time_major: bool = False,
        name: str | None = None,
    ) -> None:
        with name_scope(name, "TrainingHelper", [inputs, sequence_length]):
            self._inputs = inputs = convert.convert_to_tensor(inputs, name="inputs")
            if not time_major:
                inputs = swap_batch_and_time(inputs)
            self._input_array = _elements(inputs)
            self._sequence_length = convert.convert_to_tensor(
                sequence_length, name="sequence_length"
            )
            if self._sequence_length.shape.rank != 1:
                raise ValueError(
                    "Expected sequence_length to be a vector, but received shape: "
                    f"{self._sequence_length.shape}"
                )
            self._zero_inputs = array_ops.zeros_like(inputs[0, :])
            self._batch_size = array_ops.size(self._sequence_length)

    @property
    def inputs(self) -> Tensor:
        """The inputs as given."""
        return self._inputs

    @property
    def sequence_length(self) -> Tensor:
        """The lengths as given."""
        return self._sequence_length

    def _input_at(self, time: Any, finished: Tensor) -> Tensor:
        return cond(
            reduce_all(finished), lambda: self._zero_inputs, lambda: self._input_array.read(time)
        )

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """(sequences without elements, the first inputs)."""
        with name_scope(name, "TrainingHelperInitialize"):
            zero = convert.constant_from_value(0, self._sequence_length.dtype, None)
            finished = raw.Equal(zero, self._sequence_length)
            return finished, self._input_at(0, finished)

    def sample(
        self, time: Any, outputs: Any, state: Any = None, name: str | None = None, **_: Any
    ) -> Any:
        """The number of the greatest output."""
        with name_scope(name, "TrainingHelperSample", [time, outputs]):
            return argmax(outputs, axis=-1, output_type=dtypes.int32)

    def next_inputs(
        self,
        time: Any,
        outputs: Any,
        state: Any,
        sample_ids: Any = None,
        name: str | None = None,
        **_: Any,
    ) -> tuple[Any, Any, Any]:
        """(sequences at their end, the inputs of the next step, the state)."""
        with name_scope(name, "TrainingHelperNextInputs", [time, outputs, state]):
            next_time = time + 1
            finished = next_time >= cast(self._sequence_length, dtypes.int32)
            return finished, self._input_at(next_time, finished), state


class ScheduledEmbeddingTrainingHelper(TrainingHelper):
    """As TrainingHelper, but with `sampling_probability` the next input of a sequence is the embedding of a drawn output.

    sampling_probability: a scalar, or a vector of one. Chosen ids are -1 where the given inputs go on.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        embedding: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        scheduling_seed: int | None = None,
        name: str | None = None,
    ) -> None:
        with name_scope(name, "ScheduledEmbeddingSamplingWrapper", [sampling_probability]):
            self._embedding_fn = _embedding_function(embedding)
            self._sampling_probability = _probability(sampling_probability)
            self._seed, self._scheduling_seed = seed, scheduling_seed
            super().__init__(inputs, sequence_length, time_major=time_major, name=name)

    def sample(
        self, time: Any, outputs: Any, state: Any = None, name: str | None = None, **_: Any
    ) -> Any:
        """A drawn output, or -1."""
        with name_scope(name, "ScheduledEmbeddingTrainingHelperSample", [time, outputs, state]):
            select = _chosen(
                self._sampling_probability, self._batch_size, dtypes.bool, self._scheduling_seed
            )
            nothing = array_ops.fill([self._batch_size], -1)
            return where(select, _sampled(outputs, self._seed), nothing)

    def next_inputs(
        self,
        time: Any,
        outputs: Any,
        state: Any,
        sample_ids: Any = None,
        name: str | None = None,
        **_: Any,
    ) -> tuple[Any, Any, Any]:
        """(sequences at their end, the inputs of the next step, the state)."""
        with name_scope(
            name,
            "ScheduledEmbeddingTrainingHelperNextInputs",
            [time, outputs, state, sample_ids],
        ):
            finished, base, state = super().next_inputs(time, outputs, state)

            def maybe_sampled() -> Tensor:
                drawn, given = _rows_where(sample_ids > -1), _rows_where(sample_ids <= -1)
                embedded = self._embedding_fn(gather_nd(sample_ids, drawn))
                return _merged(base, (drawn, embedded), (given, gather_nd(base, given)))

            return finished, cond(reduce_all(finished), lambda: base, maybe_sampled), state


class ScheduledOutputTrainingHelper(TrainingHelper):
    """As TrainingHelper, but with `sampling_probability` the next input of a sequence is its output.

    next_inputs_fn: makes the inputs of the outputs. auxiliary_inputs: further inputs, appended to either.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        next_inputs_fn: Callable[[Any], Any] | None = None,
        auxiliary_inputs: Any = None,
        name: str | None = None,
    ) -> None:
        with name_scope(name, "ScheduledOutputTrainingHelper", [inputs, sampling_probability]):
            self._sampling_probability = _probability(sampling_probability)
            self._auxiliary: TensorArray | None = None
            if auxiliary_inputs is not None:
                inputs = convert.convert_to_tensor(inputs, name="inputs")
                more = convert.convert_to_tensor(auxiliary_inputs, name="auxiliary_inputs")
                inputs = concat((inputs, more), -1)
                self._auxiliary = _elements(more if time_major else swap_batch_and_time(more))
            self._seed, self._next_inputs_fn = seed, next_inputs_fn
            super().__init__(inputs, sequence_length, time_major=time_major, name=name)

    def sample(
        self, time: Any, outputs: Any, state: Any = None, name: str | None = None, **_: Any
    ) -> Any:
        """1 for the sequences that go on with their output."""
        with name_scope(name, "ScheduledOutputTrainingHelperSample", [time, outputs, state]):
            return _chosen(self._sampling_probability, self._batch_size, dtypes.int32, self._seed)

    def next_inputs(
        self,
        time: Any,
        outputs: Any,
        state: Any,
        sample_ids: Any = None,
        name: str | None = None,
        **_: Any,
    ) -> tuple[Any, Any, Any]:
        """(sequences at their end, the inputs of the next step, the state)."""
        with name_scope(
            name, "ScheduledOutputTrainingHelperNextInputs", [time, outputs, state, sample_ids]
        ):
            finished, base, state = super().next_inputs(time, outputs, state)
            drawn = cast(sample_ids, dtypes.bool)

            def with_auxiliary(values: Tensor, rows: Tensor | None = None) -> Tensor:
                if self._auxiliary is None:
                    return values
                more = self._auxiliary.read(time + 1)
                return concat((values, more if rows is None else gather_nd(more, rows)), -1)

            def maybe_sampled() -> Tensor:
                if self._next_inputs_fn is None:
                    return where(drawn, with_auxiliary(outputs), base)
                rows, given = _rows_where(drawn), _rows_where(raw.LogicalNot(drawn))
                made = with_auxiliary(self._next_inputs_fn(gather_nd(outputs, rows)), rows)
                return _merged(base, (rows, made), (given, gather_nd(base, given)))

            nothing_drawn = raw.LogicalNot(reduce_any(drawn))
            as_given = raw.LogicalOr(reduce_all(finished), nothing_drawn)
            return finished, cond(as_given, lambda: base, maybe_sampled), state


# ---- for inference


class GreedyEmbeddingHelper(_ScalarSamples):
    """Feeds the embedding of the greatest output, from `start_tokens` (a vector of int32) to `end_token` (a scalar).

    embedding: a function of ids, or the table. Raises ValueError: other ranks.
    """

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any) -> None:
        self._embedding_fn = _embedding_function(embedding)
        self._start_tokens = convert.convert_to_tensor(
            start_tokens, dtypes.int32, name="start_tokens"
        )
        self._end_token = convert.convert_to_tensor(end_token, dtypes.int32, name="end_token")
        if self._start_tokens.shape.rank != 1:
            raise ValueError("start_tokens must be a vector")
        self._batch_size = array_ops.size(self._start_tokens)
        if self._end_token.shape.rank != 0:
            raise ValueError("end_token must be a scalar")
        self._start_inputs = self._embedding_fn(self._start_tokens)

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """(no sequence finished, the embeddings of the start tokens)."""
        return _none_finished(self._batch_size), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """The number of the greatest output. Raises TypeError: outputs are no tensor."""
        return argmax(_single_tensor(outputs), axis=-1, output_type=dtypes.int32)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """(sequences that chose the end token, the embeddings of what was chosen, the state)."""
        finished = raw.Equal(sample_ids, self._end_token)
        inputs = cond(
            reduce_all(finished),
            lambda: self._start_inputs,
            lambda: self._embedding_fn(sample_ids),
        )
        return finished, inputs, state


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """As GreedyEmbeddingHelper, but an output is drawn. softmax_temperature: what the logits are divided by."""

    def __init__(
        self,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        softmax_temperature: Any = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(embedding, start_tokens, end_token)
        self._softmax_temperature, self._seed = softmax_temperature, seed

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """A drawn output. Raises TypeError: outputs are no tensor."""
        logits = _single_tensor(outputs)
        if self._softmax_temperature is not None:
            logits = logits / self._softmax_temperature
        return _sampled(logits, self._seed)


class InferenceHelper(Helper):
    """Feeds what `sample_fn(outputs)` gives, or `next_inputs_fn` of it, until `end_fn` of it holds.

    sample_shape, sample_dtype: of what sample_fn gives for one sequence.
    """

    def __init__(
        self,
        sample_fn: Callable[[Any], Any],
        sample_shape: Any,
        sample_dtype: Any,
        start_inputs: Any,
        end_fn: Callable[[Any], Any],
        next_inputs_fn: Callable[[Any], Any] | None = None,
    ) -> None:
        self._sample_fn, self._end_fn = sample_fn, end_fn
        self._sample_shape, self._sample_dtype = as_shape(sample_shape), sample_dtype
        self._next_inputs_fn = next_inputs_fn
        self._start_inputs = convert.convert_to_tensor(start_inputs, name="start_inputs")
        self._batch_size = array_ops.shape(self._start_inputs)[0]

    @property
    def batch_size(self) -> Any:
        """The number of start inputs."""
        return self._batch_size

    @property
    def sample_ids_shape(self) -> TensorShape:
        """As given."""
        return self._sample_shape

    @property
    def sample_ids_dtype(self) -> Any:
        """As given."""
        return self._sample_dtype

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """(no sequence finished, the start inputs)."""
        return _none_finished(self._batch_size), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """What sample_fn gives."""
        return self._sample_fn(outputs)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """(sequences at their end, the next inputs, the state)."""
        inputs = sample_ids if self._next_inputs_fn is None else self._next_inputs_fn(sample_ids)
        return self._end_fn(sample_ids), inputs, state
