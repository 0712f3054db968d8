"""How a loss for each element becomes one number: `tf.losses.compute_weighted_loss`, `tf.losses.Reduction`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.weights_broadcast import all_axes, assert_broadcastable, broadcast_weights
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor
from headrace.losses.collected import add_loss


@export("losses.Reduction")
class Reduction:
    """What happens to weighted losses: nothing, their sum, or the sum divided by weights, elements or
    nonzero weights."""

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """All reductions."""
        return (
            cls.NONE,
            cls.SUM,
            cls.MEAN,
            cls.SUM_OVER_BATCH_SIZE,
            cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )

    @classmethod
    def validate(cls, key: str) -> None:
        """Raises ValueError: `key` is not a reduction."""
        if key not in cls.all():
            raise ValueError(f"Invalid Reduction Key {key}.")


@export("losses.compute_weighted_loss")
def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """`losses` times `weights`, reduced to one number and filed in `loss_collection`.

    losses: of any shape. weights: a scalar, or of the same rank with size 1 or the same size along each axis.
    Returns the dtype of losses: a scalar, unless reduction is NONE. Raises ValueError: shapes that
    do not fit, or an unknown reduction.
    """
    Reduction.validate(reduction)
    with name_scope(scope, "weighted_loss", (losses, weights)):
        check = assert_broadcastable(weights, losses)
        with check.graph.control_dependencies([check]):
            losses = convert_to_tensor(losses)
            kind = losses.dtype.base_dtype
            losses, weights = to_float(losses), to_float(weights)
            loss = raw.Mul(losses, weights)
            if reduction != Reduction.NONE:
                loss = _reduce(losses, weights, loss, reduction)
            if kind != dtypes.float32:
                loss = raw.Cast(loss, DstT=kind)
            add_loss(loss, loss_collection)
            return loss


def _reduce(losses: Tensor, weights: Tensor, weighted: Tensor, reduction: str) -> Tensor:
    loss = raw.Sum(weighted, all_axes(weighted))
    if reduction == Reduction.MEAN:
        spread = raw.Mul(raw.OnesLike(losses), weights, name="mul")
        return _safe_mean(loss, raw.Sum(spread, all_axes(spread)))
    if reduction == Reduction.SUM_BY_NONZERO_WEIGHTS:
        return _safe_mean(loss, num_present(losses, weights))
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        with name_scope(None, "num_elements", values=[losses]) as scope:
            count = raw.Cast(raw.Size(losses, name=scope), DstT=dtypes.float32)
        return _safe_mean(loss, count)
    return loss


def _safe_mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count, 0 where the count is 0."""
    total = raw.Sum(total, np.zeros((0,), np.int32))
    return raw.DivNoNan(total, count, name="value")


def num_present(losses: Tensor, weights: Tensor, per_batch: bool = False) -> Tensor:
    """The number of elements of `losses` whose weight is not 0; for each index of the first axis where
    per_batch is set."""
    with name_scope(None, "num_present", (losses, weights)) as scope:
        present = raw.Select(
            raw.Equal(weights, np.float32(0)), raw.ZerosLike(weights), raw.OnesLike(weights)
        )
        present = broadcast_weights(present, losses)
        return raw.Sum(present, all_axes(present, int(per_batch)), keep_dims=per_batch, name=scope)


def to_float(x: Any) -> Tensor:
    """`x` as a float32 tensor."""
    x = convert_to_tensor(x)
    return x if x.dtype.base_dtype == dtypes.float32 else raw.Cast(x, DstT=dtypes.float32)
