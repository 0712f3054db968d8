"""`tf.confusion_matrix`: how often each class was taken for each other."""

from __future__ import annotations

from typing import Any

from headrace.api.control_flow_basic import with_dependencies
from headrace.api.diagnostic import Assert
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast
from headrace.api.reduction import reduce_all, reduce_max
from headrace.api.weights_broadcast import remove_squeezable_dimensions
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _checked(x: Tensor, condition: Tensor, message: str) -> Tensor:
    return with_dependencies([Assert(reduce_all(condition), [message, x])], x)


@export("confusion_matrix", "math.confusion_matrix")
def confusion_matrix(
    labels: Any,
    predictions: Any,
    num_classes: Any = None,
    dtype: Any = dtypes.int32,
    name: str | None = None,
    weights: Any = None,
) -> Tensor:
    """The matrix whose element [i, j] counts how often class i was predicted as class j.

    labels, predictions: vectors of integers from 0 on. num_classes: one more than the greatest of them where None.
    weights: what each pair counts instead of 1. Fails when it runs: a class below 0 or not below num_classes.
    """
    with name_scope(name, "confusion_matrix", [predictions, labels, num_classes, weights]):
        labels, predictions = remove_squeezable_dimensions(
            convert_to_tensor(labels, name="labels"),
            convert_to_tensor(predictions, name="predictions"),
        )
        labels, predictions = cast(labels, dtypes.int64), cast(predictions, dtypes.int64)
        zero = convert_to_tensor(0, dtypes.int64)
        labels = _checked(labels, labels >= zero, "`labels` contains negative values")
        predictions = _checked(
            predictions, predictions >= zero, "`predictions` contains negative values"
        )
        if num_classes is None:
            count = raw.Maximum(reduce_max(predictions), reduce_max(labels)) + 1
        else:
            count = cast(num_classes, dtypes.int64)
            labels = _checked(labels, labels < count, "`labels` out of bound: x < y did not hold")
            predictions = _checked(
                predictions, predictions < count, "`predictions` out of bound: x < y did not hold"
            )
        if weights is None:
            values = cast(raw.OnesLike(predictions), dtype)
        else:
            weights = convert_to_tensor(weights, name="weights")
            predictions.shape.assert_is_compatible_with(weights.shape)
            values = cast(weights, dtype)
        indices = raw.Pack([labels, predictions], axis=1)
        return raw.ScatterNd(indices, values, raw.Pack([count, count]))
