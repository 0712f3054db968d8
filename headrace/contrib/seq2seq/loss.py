"""`sequence_loss`: the weighted cross-entropy of sequences of logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import array_ops
from headrace.api.export import PUBLIC
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast, div_no_nan
from headrace.api.nn_ops import sparse_softmax_cross_entropy_with_logits
from headrace.api.reduction import count_nonzero

reduce_sum = PUBLIC["reduce_sum"]


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Any:
    """The cross-entropy of `logits` [batch, time, classes] for `targets` [batch, time], weighted by `weights` [batch, time].

    average_across_*: the sum over that axis, divided by the sum of the weights; sum_over_*: divided by the number of weights
    that are not zero. Axes for which neither is asked remain. softmax_loss_function(labels=, logits=): in place of softmax.
    Raises ValueError: other ranks, both kinds for one axis.
    """
    if len(logits.shape) != 3:
        raise ValueError("Logits must be a [batch_size x sequence_length x logits] tensor")
    if len(targets.shape) != 2:
        raise ValueError("Targets must be a [batch_size x sequence_length] tensor")
    if len(weights.shape) != 2:
        raise ValueError("Weights must be a [batch_size x sequence_length] tensor")
    for axis, average, total in (
        ("timesteps", average_across_timesteps, sum_over_timesteps),
        ("batch", average_across_batch, sum_over_batch),
    ):
        if average and total:
            raise ValueError(
                f"average_across_{axis} and sum_over_{axis} cannot be set to True at same time."
            )
    with name_scope(name, "sequence_loss", [logits, targets, weights]):
        flat_logits = array_ops.reshape(logits, [-1, array_ops.shape(logits)[2]])
        targets = array_ops.reshape(targets, [-1])
        loss = softmax_loss_function or sparse_softmax_cross_entropy_with_logits
        crossent = loss(labels=targets, logits=flat_logits)
        crossent *= array_ops.reshape(weights, [-1])
        if average_across_timesteps and average_across_batch:
            return div_no_nan(reduce_sum(crossent), reduce_sum(weights))
        if sum_over_timesteps and sum_over_batch:
            return div_no_nan(reduce_sum(crossent), cast(count_nonzero(weights), crossent.dtype))
        crossent = array_ops.reshape(crossent, array_ops.shape(logits)[0:2])
        if average_across_timesteps or average_across_batch:
            axis = [0] if average_across_batch else [1]
            return div_no_nan(reduce_sum(crossent, axis=axis), reduce_sum(weights, axis=axis))
        if sum_over_timesteps or sum_over_batch:
            axis = [0] if sum_over_batch else [1]
            count = cast(count_nonzero(weights, axis=axis), crossent.dtype)
            return div_no_nan(reduce_sum(crossent, axis=axis), count)
        return crossent
