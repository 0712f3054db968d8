"""Attention mechanisms: how well a query fits each part of a memory, as alignments that sum to 1."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api import array_ops, init_ops
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC
from headrace.api.framework import control_dependencies, name_scope
from headrace.api.functional_ops import scan
from headrace.api.get_variable import get_variable
from headrace.api.join_ops import concat
from headrace.api.mask_ops import one_hot, sequence_mask, where
from headrace.api.math_ops import cast, sigmoid
from headrace.api.matmul_ops import matmul
from headrace.api.nn_ops import softmax
from headrace.api.random_ops import random_normal
from headrace.api.reduction import argmax, cumprod, cumsum
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes, nest
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.layers.base import Layer
from headrace.layers.core import Dense
from headrace.layers.rnn_cell_base import zeros_of_size

exp, log, tanh = PUBLIC["exp"], PUBLIC["log"], PUBLIC["tanh"]
reduce_sum, rsqrt, square = PUBLIC["reduce_sum"], PUBLIC["rsqrt"], PUBLIC["square"]

assert_positive = PUBLIC["assert_positive"]


def size_along(tensor: Tensor, axis: int) -> Any:
    """The size of `tensor` along `axis`: an int where it is known, else a tensor."""
    return tensor.shape._dims[axis] or array_ops.shape(tensor)[axis]


def hardmax(logits: Any, name: str | None = None) -> Tensor:
    """1 for the greatest of `logits` [..., classes], 0 for the others."""
    with name_scope(name, "Hardmax", [logits]):
        logits = convert.convert_to_tensor(logits, name="logits")
        return one_hot(argmax(logits, -1), size_along(logits, -1), dtype=logits.dtype)


# ---- the memory


def _masked_memory(memory: Any, lengths: Tensor | None, check_inner_dims: bool) -> Any:
    """The tensors of `memory` [batch, time, ...], with zeros beyond `lengths`."""
    memory = nest.map_structure(lambda m: convert.convert_to_tensor(m, name="memory"), memory)
    for m in nest.flatten(memory) if check_inner_dims else ():
        if not m.shape[2:].is_fully_defined():
            raise ValueError(
                f"Expected memory {m.name} to have fully defined inner dims, but saw shape: {m.shape}"
            )
    if lengths is None:
        return memory
    first = nest.flatten(memory)[0]
    mask = sequence_mask(lengths, maxlen=array_ops.shape(first)[1], dtype=first.dtype)

    def masked(m: Tensor) -> Tensor:
        ones = array_ops.ones([m.shape.rank - 2], dtypes.int32)
        return m * array_ops.reshape(mask, concat((array_ops.shape(mask), ones), 0))

    return nest.map_structure(masked, memory)


def _masked_score(score: Tensor, lengths: Any, value: Any) -> Tensor:
    """`score` [batch, time], with `value` beyond `lengths`."""
    if lengths is None:
        return score
    message = "All values in memory_sequence_length must be greater than zero."
    with control_dependencies([assert_positive(lengths, message=message)]):
        mask = sequence_mask(lengths, maxlen=array_ops.shape(score)[1])
    return where(mask, score, value * array_ops.ones_like(score))


class AttentionMechanism:
    """What an AttentionWrapper calls: `alignments, next_state = mechanism(query, state)`."""

    @property
    def alignments_size(self) -> Any:
        """The number of parts of the memory."""
        raise NotImplementedError

    @property
    def state_size(self) -> Any:
        """The size of the state that goes from step to step."""
        raise NotImplementedError


class _Attention(AttentionMechanism):
    """A mechanism over a memory [batch, time, depth], whose keys come of a layer.

    probability_fn(score, previous alignments): makes alignments of the scores. score_mask_value: the score beyond
    memory_sequence_length, by default minus infinity. custom_key_value_fn(keys, values): the keys and values to use.
    Raises TypeError: no layers, no function. ValueError: unknown inner sizes of the memory.
    """

    _num_units: int
    _name: str | None

    def __init__(
        self,
        query_layer: Any,
        memory: Any,
        probability_fn: Callable[[Any, Any], Any],
        memory_sequence_length: Any = None,
        memory_layer: Any = None,
        check_inner_dims_defined: bool = True,
        score_mask_value: Any = None,
        custom_key_value_fn: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        for what, layer in (("query_layer", query_layer), ("memory_layer", memory_layer)):
            if layer is not None and not isinstance(layer, Layer):
                raise TypeError(f"{what} is not a Layer: {type(layer).__name__}")
        if not callable(probability_fn):
            raise TypeError(
                f"probability_fn must be callable, saw type: {type(probability_fn).__name__}"
            )
        self._query_layer, self._memory_layer = query_layer, memory_layer
        self.dtype = memory_layer.dtype
        if memory_sequence_length is not None:
            memory_sequence_length = convert.convert_to_tensor(
                memory_sequence_length, name="memory_sequence_length"
            )
        if score_mask_value is None:
            score_mask_value = -math.inf
        self._probability_fn = lambda score, previous: probability_fn(
            _masked_score(score, memory_sequence_length, score_mask_value), previous
        )
        with name_scope(name, "BaseAttentionMechanismInit", nest.flatten(memory)):
            self._values = _masked_memory(memory, memory_sequence_length, check_inner_dims_defined)
            self._keys = memory_layer(self._values)
            if custom_key_value_fn is not None:
                self._keys, self._values = custom_key_value_fn(self._keys, self._values)
            self._batch_size = size_along(self._keys, 0)
            self._alignments_size = size_along(self._keys, 1)

    @property
    def memory_layer(self) -> Any:
        """The layer that makes the keys."""
        return self._memory_layer

    @property
    def query_layer(self) -> Any:
        """The layer over queries, or None."""
        return self._query_layer

    @property
    def values(self) -> Any:
        """The memory, zero beyond its lengths."""
        return self._values

    @property
    def keys(self) -> Any:
        """What queries are compared with: [batch, time, units]."""
        return self._keys

    @property
    def batch_size(self) -> Any:
        """The number of sequences in the memory."""
        return self._batch_size

    @property
    def alignments_size(self) -> Any:
        """The number of time steps of the memory."""
        return self._alignments_size

    @property
    def state_size(self) -> Any:
        """As alignments_size: the state is the alignments."""
        return self._alignments_size

    def initial_alignments(self, batch_size: Any, dtype: Any) -> Any:
        """Zeros [batch, time]."""
        return zeros_of_size(batch_size, self._alignments_size, dtype)

    def initial_state(self, batch_size: Any, dtype: Any) -> Any:
        """As initial_alignments."""
        return self.initial_alignments(batch_size, dtype)

    # How the kinds score a query.

    def _luong_score(self, query: Tensor) -> Tensor:
        depth, units = query.shape._dims[-1], self._keys.shape._dims[-1]
        if depth is None or depth != units:
            raise ValueError(
                f"Incompatible or unknown inner dimensions between query and keys.  Query ({query}) has units: {depth}.  "
                f"Keys ({self._keys}) have units: {units}.  Perhaps you need to set num_units to the keys' dimension ({units})?"
            )
        scale = None
        if self._scale:
            scale = get_variable(
                "attention_g", dtype=query.dtype, initializer=init_ops.Ones(), shape=()
            )
        score = matmul(array_ops.expand_dims(query, 1), self._keys, transpose_b=True)
        score = array_ops.squeeze(score, [1])
        return score if scale is None else scale * score

    def _bahdanau_score(self, query: Tensor) -> Tensor:
        processed = array_ops.expand_dims(self.query_layer(query), 1)
        v = get_variable("attention_v", [self._num_units], dtype=query.dtype)
        if not self._normalize:
            return reduce_sum(v * tanh(self._keys + processed), [2])
        g = get_variable(
            "attention_g",
            dtype=query.dtype,
            initializer=init_ops.Constant(math.sqrt(1.0 / self._num_units)),
            shape=(),
        )
        b = get_variable(
            "attention_b", [self._num_units], dtype=query.dtype, initializer=init_ops.Zeros()
        )
        normed = g * v * rsqrt(reduce_sum(square(v)))
        return reduce_sum(normed * tanh(self._keys + processed + b), [2])


def _layer(name: str, num_units: int, dtype: Any) -> Dense:
    return Dense(num_units, name=name, use_bias=False, dtype=dtype or dtypes.float32)


class LuongAttention(_Attention):
    """Scores by the product of query and keys. scale: times a trained scalar. num_units: the depth of the queries."""

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        probability_fn: Callable[[Any], Any] | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        custom_key_value_fn: Callable[..., Any] | None = None,
        name: str = "LuongAttention",
    ) -> None:
        function = probability_fn or softmax
        super().__init__(
            query_layer=None,
            memory_layer=_layer("memory_layer", num_units, dtype),
            memory=memory,
            probability_fn=lambda score, _: function(score),
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            custom_key_value_fn=custom_key_value_fn,
            name=name,
        )
        self._num_units, self._scale, self._name = num_units, scale, name

    def __call__(self, query: Any, state: Any) -> tuple[Any, Any]:
        """The alignments of `query` [batch, depth], twice: as next state too."""
        with variable_scope(None, "luong_attention", [query]):
            score = self._luong_score(query)
        alignments = self._probability_fn(score, state)
        return alignments, alignments


class BahdanauAttention(_Attention):
    """Scores by v * tanh(keys + a layer of the query). normalize: v has a trained length, the sum a bias."""

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        probability_fn: Callable[[Any], Any] | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        custom_key_value_fn: Callable[..., Any] | None = None,
        name: str = "BahdanauAttention",
    ) -> None:
        function = probability_fn or softmax
        super().__init__(
            query_layer=_layer("query_layer", num_units, dtype),
            memory_layer=_layer("memory_layer", num_units, dtype),
            memory=memory,
            probability_fn=lambda score, _: function(score),
            custom_key_value_fn=custom_key_value_fn,
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            name=name,
        )
        self._num_units, self._normalize, self._name = num_units, normalize, name

    def __call__(self, query: Any, state: Any) -> tuple[Any, Any]:
        """The alignments of `query` [batch, depth], twice: as next state too."""
        with variable_scope(None, "bahdanau_attention", [query]):
            score = self._bahdanau_score(query)
        alignments = self._probability_fn(score, state)
        return alignments, alignments


# ---- monotonic attention: alignments only ever move forward in the memory


def safe_cumprod(x: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The cumulative product of `x` in [0, 1], by logarithms; arguments as for `tf.cumsum`."""
    with name_scope(None, "SafeCumprod", [x]):
        x = convert.convert_to_tensor(x, name="x")
        tiny = np.finfo(x.dtype.as_numpy_dtype).tiny
        return exp(cumsum(log(clip_by_value(x, tiny, 1)), *args, **kwargs))


def monotonic_attention(p_choose_i: Any, previous_attention: Any, mode: str) -> Tensor:
    """The alignments after a step, for the probabilities to stop at each part of the memory and the alignments before.

    Both [batch, time]. mode: "recursive" (exact), "parallel" (fast, less exact), "hard" (for probabilities of 0 and 1).
    Raises ValueError: another mode.
    """
    p = convert.convert_to_tensor(p_choose_i, name="p_choose_i")
    previous = convert.convert_to_tensor(previous_attention, name="previous_attention")
    if mode == "recursive":
        batch_size = size_along(p, 0)
        shifted = concat([array_ops.ones((batch_size, 1), p.dtype), 1 - p[:, :-1]], 1)
        passed = scan(
            lambda x, yz: array_ops.reshape(yz[0] * x + yz[1], (batch_size,)),
            [array_ops.transpose(shifted), array_ops.transpose(previous)],
            array_ops.zeros((batch_size,), p.dtype),
        )
        return p * array_ops.transpose(passed)
    if mode == "parallel":
        product = safe_cumprod(1 - p, axis=1, exclusive=True)
        return p * product * cumsum(previous / clip_by_value(product, 1e-10, 1.0), axis=1)
    if mode == "hard":
        p *= cumsum(previous, axis=1)
        return p * cumprod(1 - p, axis=1, exclusive=True)
    raise ValueError("mode must be 'recursive', 'parallel', or 'hard'.")


def _monotonic_probability(
    score: Tensor, previous: Tensor, sigmoid_noise: float, mode: str, seed: int | None = None
) -> Tensor:
    if sigmoid_noise > 0:
        noise = random_normal(array_ops.shape(score), dtype=score.dtype, seed=seed)
        score += sigmoid_noise * noise
    p = cast(raw.Greater(score, 0.0), score.dtype) if mode == "hard" else sigmoid(score)
    return monotonic_attention(p, previous, mode)


class _MonotonicAttention(_Attention):
    def __init__(
        self,
        sigmoid_noise: float,
        sigmoid_noise_seed: int | None,
        score_bias_init: float,
        mode: str,
        **given: Any,
    ) -> None:
        probability_fn = functools.partial(
            _monotonic_probability, sigmoid_noise=sigmoid_noise, mode=mode, seed=sigmoid_noise_seed
        )
        super().__init__(probability_fn=probability_fn, **given)
        self._score_bias_init = score_bias_init

    def initial_alignments(self, batch_size: Any, dtype: Any) -> Any:
        """All on the first part of the memory."""
        first = array_ops.zeros((batch_size,), dtypes.int32)
        return one_hot(first, self._alignments_size, dtype=dtype)

    def _biased(self, score: Tensor) -> Tensor:
        return score + get_variable(
            "attention_score_bias", dtype=score.dtype, initializer=self._score_bias_init
        )


class BahdanauMonotonicAttention(_MonotonicAttention):
    """As BahdanauAttention, but monotonic. score_bias_init: of a trained bias. sigmoid_noise: added noise's deviation."""

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        score_mask_value: Any = None,
        sigmoid_noise: float = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "BahdanauMonotonicAttention",
    ) -> None:
        super().__init__(
            sigmoid_noise,
            sigmoid_noise_seed,
            score_bias_init,
            mode,
            query_layer=_layer("query_layer", num_units, dtype),
            memory_layer=_layer("memory_layer", num_units, dtype),
            memory=memory,
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            name=name,
        )
        self._num_units, self._normalize, self._name = num_units, normalize, name

    def __call__(self, query: Any, state: Any) -> tuple[Any, Any]:
        """The alignments of `query` [batch, depth], twice: as next state too."""
        with variable_scope(None, "bahdanau_monotonic_attention", [query]):
            score = self._biased(self._bahdanau_score(query))
        alignments = self._probability_fn(score, state)
        return alignments, alignments


class LuongMonotonicAttention(_MonotonicAttention):
    """As LuongAttention, but monotonic. score_bias_init: of a trained bias. sigmoid_noise: added noise's deviation."""

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        score_mask_value: Any = None,
        sigmoid_noise: float = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "LuongMonotonicAttention",
    ) -> None:
        super().__init__(
            sigmoid_noise,
            sigmoid_noise_seed,
            score_bias_init,
            mode,
            query_layer=None,
            memory_layer=_layer("memory_layer", num_units, dtype),
            memory=memory,
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            name=name,
        )
        self._num_units, self._scale, self._name = num_units, scale, name

    def __call__(self, query: Any, state: Any) -> tuple[Any, Any]:
        """The alignments of `query` [batch, depth], twice: as next state too."""
        with variable_scope(None, "luong_monotonic_attention", [query]):
            score = self._biased(self._luong_score(query))
        alignments = self._probability_fn(score, state)
        return alignments, alignments
