"""Losses of logits: `tf.losses.softmax_cross_entropy`, `tf.losses.sigmoid_cross_entropy`, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.nn_impl import sigmoid_cross_entropy_with_logits
from headrace.api.nn_ops import (
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)
from headrace.api.weights_broadcast import remove_squeezable_dimensions, remove_squeezable_weights
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor
from headrace.losses.distance import check_given
from headrace.losses.weighted import Reduction, compute_weighted_loss


def _labels_like(labels: Any, logits: Tensor) -> Tensor:
    labels, kind = convert_to_tensor(labels), logits.dtype.base_dtype
    if labels.dtype.base_dtype != kind:
        labels = raw.Cast(labels, DstT=kind)
    logits.shape.assert_is_compatible_with(labels.shape)
    return labels


@export("losses.sigmoid_cross_entropy")
def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """The cross entropy of independent labels and sigmoid(logits), weighted and reduced.

    multi_class_labels, logits: [batch, classes]. label_smoothing: how far labels are moved towards 1/2, from 0 to 1.
    """
    check_given(multi_class_labels=multi_class_labels, logits=logits)
    with name_scope(
        scope, "sigmoid_cross_entropy_loss", (logits, multi_class_labels, weights)
    ) as scope:
        logits = convert_to_tensor(logits)
        labels = _labels_like(multi_class_labels, logits)
        if label_smoothing > 0:
            labels = raw.AddV2(
                raw.Mul(labels, 1 - label_smoothing, name="mul"), 0.5 * label_smoothing, name="add"
            )
        losses = sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, name="xentropy")
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


@export("losses.softmax_cross_entropy")
def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """The cross entropy of labels (which get no gradient) and softmax(logits), weighted and reduced.

    onehot_labels, logits: [batch, classes]. weights: a scalar, or [batch]. label_smoothing: how far labels are moved
    towards 1 / classes, from 0 to 1.
    """
    check_given(onehot_labels=onehot_labels, logits=logits)
    with name_scope(scope, "softmax_cross_entropy_loss", (logits, onehot_labels, weights)) as scope:
        logits = convert_to_tensor(logits)
        labels = _labels_like(onehot_labels, logits)
        if label_smoothing > 0:
            labels = _smooth(labels, label_smoothing)
        labels = raw.StopGradient(labels, name="labels_stop_gradient")
        losses = softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits, name="xentropy")
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)


def _smooth(labels: Tensor, smoothing: float) -> Tensor:
    kind = labels.dtype.base_dtype
    classes = None if labels._dims is None else labels._dims[-1]
    if classes is None:
        last = raw.StridedSlice(raw.Shape(labels), [-1], [0], [1], end_mask=1, shrink_axis_mask=1)
        share = raw.RealDiv(np.array(smoothing, kind.as_numpy_dtype), raw.Cast(last, DstT=kind))
    else:
        share = np.array(smoothing / classes, kind.as_numpy_dtype)
    return raw.AddV2(raw.Mul(labels, 1.0 - smoothing, name="mul"), share, name="add")


@export("losses.sparse_softmax_cross_entropy")
def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:
    """The cross entropy of softmax(logits) for labels that are indices of classes, weighted and reduced.

    labels: [D...], or [D..., 1]: int32 or int64.  logits: [D..., classes].  weights: a scalar, or as labels.
    """
    check_given(labels=labels, logits=logits)
    with name_scope(scope, "sparse_softmax_cross_entropy_loss", (logits, labels, weights)) as scope:
        labels, logits = remove_squeezable_dimensions(labels, logits, expected_rank_diff=1)
        weights = remove_squeezable_weights(labels, weights)
        losses = sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits, name="xentropy"
        )
        return compute_weighted_loss(losses, weights, scope, loss_collection, reduction)
