"""Losses over a sample of the classes, for models with very many of them: `tf.nn.nce_loss`,
`tf.nn.sampled_softmax_loss`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.candidate_sampling_ops import (
    compute_accidental_hits,
    log_uniform_candidate_sampler,
)
from headrace.api.embedding_ops import embedding_lookup
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.nn_impl import sigmoid_cross_entropy_with_logits
from headrace.api.nn_ops import softmax_cross_entropy_with_logits_v2
from headrace.api.partitioned_variables import PartitionedVariable
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _cast(x: Tensor, dtype: Any) -> Tensor:
    return x if x.dtype.base_dtype == dtype else raw.Cast(x, DstT=dtype)


def _sum_rows(x: Tensor) -> Tensor:
    """The sum of each row of a matrix, as a product with a vector of ones: its gradient is a product too."""
    columns = raw.Slice(raw.Shape(x), [1], [1])
    one = np.ones((), x.dtype.base_dtype.as_numpy_dtype)
    ones = raw.Fill(raw.ConcatV2([columns, [1]], 0), one)
    return raw.Reshape(raw.MatMul(x, ones), [-1])


def _sampled_logits(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    sampled_values: Any,
    remove_accidental_hits: bool,
    partition_strategy: str,
    name: str | None,
    seed: int | None,
) -> tuple[Tensor, Tensor]:
    """The logits of the true and of the sampled classes less log(expected count), and labels for them.

    Returns two tensors [batch, num_true + num_sampled].
    """
    if isinstance(weights, PartitionedVariable):
        weights = list(weights)
    weights = weights if isinstance(weights, list) else [weights]
    with name_scope(name, "compute_sampled_logits", [*weights, biases, inputs, labels]):
        labels, inputs = convert_to_tensor(labels), convert_to_tensor(inputs)
        kind = inputs.dtype.base_dtype
        labels = _cast(labels, dtypes.int64)
        flat_labels = raw.Reshape(labels, [-1])
        if sampled_values is None:
            sampled_values = log_uniform_candidate_sampler(
                labels, num_true, num_sampled, True, num_classes, seed=seed
            )
        sampled, true_count, sampled_count = (raw.StopGradient(v) for v in sampled_values)
        sampled = _cast(sampled, dtypes.int64)
        # One lookup for both, so that a table gets one gradient.
        ids = raw.ConcatV2([flat_labels, sampled], 0)
        rows = _cast(embedding_lookup(weights, ids, partition_strategy), kind)
        offsets = _cast(embedding_lookup(biases, ids, partition_strategy), kind)
        count = raw.Shape(flat_labels)
        true_rows = raw.Slice(rows, [0, 0], raw.ConcatV2([count, [-1]], 0))
        sampled_rows = raw.Slice(rows, raw.ConcatV2([count, [0]], 0), [-1, -1])
        true_offsets = raw.Reshape(raw.Slice(offsets, [0], count), [-1, num_true])
        sampled_offsets = raw.Slice(offsets, count, [-1])
        sampled_logits = raw.MatMul(inputs, sampled_rows, transpose_b=True)
        size = raw.Slice(raw.Shape(true_rows), [1], [1])
        by_example = raw.Reshape(true_rows, raw.ConcatV2([[-1, num_true], size], 0))
        products = raw.Mul(raw.ExpandDims(inputs, 1), by_example)
        dots = _sum_rows(raw.Reshape(products, raw.ConcatV2([[-1], size], 0)))
        true_logits = raw.AddV2(raw.Reshape(dots, [-1, num_true]), true_offsets)
        sampled_logits = raw.AddV2(sampled_logits, sampled_offsets)
        if remove_accidental_hits:
            sampled_logits = raw.AddV2(
                sampled_logits, _accidental(labels, sampled, num_true, num_sampled, kind)
            )
        true_logits = raw.Sub(true_logits, _cast(raw.Log(true_count), kind))
        sampled_logits = raw.Sub(sampled_logits, _cast(raw.Log(sampled_count), kind))
        share = np.array(1 / num_true, kind.as_numpy_dtype)
        targets = [raw.Mul(raw.OnesLike(true_logits), share), raw.ZerosLike(sampled_logits)]
        return raw.ConcatV2([true_logits, sampled_logits], 1), raw.ConcatV2(targets, 1)


def _accidental(
    labels: Tensor, sampled: Tensor, num_true: int, num_sampled: int, kind: Any
) -> Tensor:
    """A matrix [batch, num_sampled] that is hugely negative where a sampled class is a true one, else 0."""
    rows, columns, weights = compute_accidental_hits(labels, sampled, num_true=num_true)
    at = raw.Pack([_cast(rows, dtypes.int32), _cast(columns, dtypes.int32)], axis=1)
    batch = raw.Slice(raw.Shape(labels), [0], [1])
    return raw.ScatterNd(at, _cast(weights, kind), raw.ConcatV2([batch, [num_sampled]], 0))


@export("nn.nce_loss")
def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "mod",
    name: str | None = "nce_loss",
) -> Tensor:
    """The noise-contrastive loss of each example.

    weights: [num_classes, size], or a list of parts of it.  biases: [num_classes].  labels: [batch, num_true], int64.
    inputs: [batch, size].  sampled_values: what a candidate sampler returns; drawn log-uniformly where None.
    Returns [batch].
    """
    logits, targets = _sampled_logits(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
        None,
    )
    losses = sigmoid_cross_entropy_with_logits(labels=targets, logits=logits, name="sampled_losses")
    return _sum_rows(losses)


@export("nn.sampled_softmax_loss")
def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    partition_strategy: str = "mod",
    name: str | None = "sampled_softmax_loss",
    seed: int | None = None,
) -> Tensor:
    """The softmax cross entropy of each example over its true and some sampled classes: for training only.

    weights: [num_classes, size], or a list of parts of it.  biases: [num_classes].  labels: [batch, num_true], int64.
    inputs: [batch, size].  sampled_values: what a candidate sampler returns; drawn log-uniformly where None.
    Returns [batch].
    """
    logits, targets = _sampled_logits(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
        seed,
    )
    targets = raw.StopGradient(targets, name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)


@export("compat.v2.nn.nce_loss")
def nce_loss_v2(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    name: str | None = "nce_loss",
) -> Tensor:
    """See `tf.nn.nce_loss`; parts of a table hold blocks of consecutive classes."""
    return nce_loss(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        "div",
        name,
    )


@export("compat.v2.nn.sampled_softmax_loss")
def sampled_softmax_loss_v2(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    seed: int | None = None,
    name: str | None = "sampled_softmax_loss",
) -> Tensor:
    """See `tf.nn.sampled_softmax_loss`; parts of a table hold blocks of consecutive classes."""
    return sampled_softmax_loss(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        "div",
        name,
        seed,
    )
