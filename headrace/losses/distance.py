"""Losses of predictions that should equal their labels: `tf.losses.mean_squared_error`, `tf.losses.huber_loss`, ..."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.renamed_argument import renamed
from headrace.api.weights_broadcast import all_axes, assert_broadcastable
from headrace.graph import raw
from headrace.graph.tensor import Tensor
from headrace.losses.collected import add_loss
from headrace.losses.weighted import Reduction, compute_weighted_loss, num_present, to_float


def check_given(**values: Any) -> None:
    """Raises ValueError: one of the values is None."""
    for name, value in values.items():
        if value is None:
            raise ValueError(f"{name} must not be None.")


@contextmanager
def _compared(
    name: str,
    labels: Any,
    predictions: Any,
    weights: Any,
    scope: str | None,
    what: str = "predictions",
) -> Iterator[tuple[Tensor, Tensor, str]]:
    """A block in the scope of a loss: (labels, predictions, scope), the first two as float32 of compatible shapes."""
    check_given(labels=labels, **{what: predictions})
    with name_scope(scope, name, (predictions, labels, weights)) as scope_of_loss:
        predictions, labels = to_float(predictions), to_float(labels)
        predictions.shape.assert_is_compatible_with(labels.shape)
        yield labels, predictions, scope_of_loss


@export("losses.absolute_difference")
def absolute_difference(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """|predictions - labels|, weighted and reduced as by `compute_weighted_loss`."""
    with _compared("absolute_difference", labels, predictions, weights, scope) as (
        labels,
        predictions,
        scope,
    ):
        losses = raw.Abs(raw.Sub(predictions, labels))
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.mean_squared_error")
def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """(predictions - labels)^2, weighted and reduced as by `compute_weighted_loss`."""
    with _compared("mean_squared_error", labels, predictions, weights, scope) as (
        labels,
        predictions,
        scope,
    ):
        losses = raw.SquaredDifference(predictions, labels)
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.cosine_distance")
def cosine_distance(
    labels: Any,
    predictions: Any,
    axis: int | None = None,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    dim: int | None = None,
) -> Tensor:
    """1 - the inner product of predictions and labels (both of unit length) along `axis`, weighted and reduced.

    Raises ValueError: no axis.
    """
    axis = renamed("axis", axis, "dim", dim)
    if axis is None:
        raise ValueError("You must specify 'axis'.")
    with _compared("cosine_distance_loss", labels, predictions, weights, scope) as (
        labels,
        predictions,
        scope,
    ):
        inner = raw.Sum(raw.Mul(predictions, labels), np.array([axis], np.int32), keep_dims=True)
        losses = raw.Sub(np.float32(1), inner, name="sub")
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.hinge_loss")
def hinge_loss(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """max(1 - s logits, 0), weighted and reduced; s is 1 where a label is 1, and -1 where it is 0."""
    with _compared("hinge_loss", labels, logits, weights, scope, "logits") as (
        labels,
        logits,
        scope,
    ):
        ones = raw.OnesLike(labels, name="ones_like")
        signs = raw.Sub(raw.Mul(np.float32(2), labels, name="mul"), ones)
        losses = raw.Relu(raw.Sub(ones, raw.Mul(signs, logits)))
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.huber_loss")
def huber_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    delta: float = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """e^2 / 2 where the error e = |predictions - labels| is at most `delta`, and linear beyond,
    weighted and reduced."""
    with _compared("huber_loss", labels, predictions, weights, scope) as (
        labels,
        predictions,
        scope,
    ):
        error = raw.Abs(raw.Sub(predictions, labels))
        quadratic = raw.Minimum(error, delta)
        linear = raw.Sub(error, quadratic)
        losses = raw.Add(
            raw.Mul(np.float32(0.5), raw.Mul(quadratic, quadratic)), raw.Mul(linear, delta)
        )
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.log_loss")
def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """-labels log(predictions + epsilon) - (1 - labels) log(1 - predictions + epsilon), weighted and reduced."""
    with _compared("log_loss", labels, predictions, weights, scope) as (labels, predictions, scope):
        one = np.float32(1)
        of_ones = raw.Mul(labels, raw.Log(raw.AddV2(predictions, epsilon, name="add")))
        complement = raw.AddV2(raw.Sub(one, predictions, name="sub"), epsilon, name="add")
        of_zeros = raw.Mul(raw.Sub(one, labels, name="sub"), raw.Log(complement))
        losses = raw.Sub(raw.Neg(of_ones), of_zeros, name="sub")
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.mean_pairwise_squared_error")
def mean_pairwise_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
) -> Tensor:
    """The mean over pairs of elements of one example of ((p_i - p_j) - (l_i - l_j))^2, summed over the batch.

    labels, predictions: [batch, ...]. weights: a scalar, one for each example, or as `predictions`.
    """
    check_given(labels=labels, predictions=predictions)
    with name_scope(scope, "mean_pairwise_squared_error", (predictions, labels, weights)):
        weights, labels = to_float(weights), to_float(labels)
        check = assert_broadcastable(weights, labels)
        with check.graph.control_dependencies([check]):
            predictions = to_float(predictions)
            predictions.shape.assert_is_compatible_with(labels.shape)
            difference = raw.Sub(predictions, labels)
            axes = all_axes(difference, 1)
            present = num_present(difference, weights, per_batch=True)
            others = raw.Maximum(raw.Sub(present, np.float32(1)), np.float32(0))
            # With n elements d: the sum over pairs of (d_i - d_j)^2 is n sum(d^2) - sum(d)^2.
            squares = raw.Sum(raw.Square(difference), axes, keep_dims=True)
            square = raw.Square(raw.Sum(difference, axes, keep_dims=True))
            first = raw.DivNoNan(squares, others, name="value")
            pairs = raw.Maximum(raw.Mul(present, raw.Sub(present, np.float32(1))), np.float32(0))
            second = raw.DivNoNan(square, pairs, name="value")
            twice = raw.Mul(raw.Sub(first, second), np.float32(2))
            weighted = raw.Mul(twice, weights)
            loss = raw.Sum(weighted, all_axes(weighted))
            any_present = raw.Greater(raw.Sum(present, all_axes(present)), np.float32(0))
            loss = raw.Select(any_present, loss, raw.ZerosLike(loss), name="value")
            add_loss(loss, loss_collection)
            return loss
