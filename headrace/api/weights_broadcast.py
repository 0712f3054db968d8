"""Shapes of labels, predictions and weights: what losses and metrics ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.cond import cond
from headrace.api.framework import name_scope
from headrace.graph import raw, shapes
from headrace.graph.convert import convert_to_tensor
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_CANNOT = "weights can not be broadcast to values."


def assert_broadcastable(weights: Any, values: Any) -> Operation:
    """An operation that fails unless `weights` is a scalar or has, for each axis of `values`, size 1 or the same size.

    Where the static shapes tell, nothing is left to check. Raises ValueError: they tell that it fails.
    """
    with name_scope(None, "assert_broadcastable", (weights, values)) as scope:
        weights = convert_to_tensor(weights, name="weights")
        values = convert_to_tensor(values, name="values")
        w, v = weights._dims, values._dims
        if w is not None and v is not None:
            if len(w) == 0:
                return raw.NoOp(name="static_scalar_check_success")
            if len(w) != len(v):
                raise ValueError(
                    f"{_CANNOT} values.rank={len(v)}. weights.rank={len(w)}. values.shape={values.shape}. "
                    f"weights.shape={weights.shape}."
                )
            if shapes.is_known(w) and shapes.is_known(v):
                for axis, (a, b) in enumerate(zip(w, v, strict=True)):
                    if a not in (1, b):
                        raise ValueError(
                            f"{_CANNOT} Mismatch at dim {axis}. values.shape={values.shape} "
                            f"weights.shape={weights.shape}."
                        )
                return raw.NoOp(name="static_dims_check_success")
        shape_of_weights, shape_of_values = raw.Shape(weights), raw.Shape(values)
        if w is not None and v is not None:
            valid = _sizes_fit(shape_of_weights, shape_of_values)
        else:
            rank = raw.Rank(weights)
            same_rank = raw.Equal(rank, raw.Rank(values))
            valid = cond(
                raw.Equal(rank, 0),
                lambda: convert_to_tensor(True),
                lambda: cond(
                    same_rank,
                    lambda: _sizes_fit(shape_of_weights, shape_of_values),
                    lambda: same_rank,
                ),
            )
        data = [_CANNOT, "weights.shape=", shape_of_weights, "values.shape=", shape_of_values]
        return raw.Assert(valid, data, name=scope)


def _sizes_fit(shape_of_weights: Tensor, shape_of_values: Tensor) -> Tensor:
    same = raw.Equal(shape_of_weights, shape_of_values)
    return raw.All(raw.LogicalOr(raw.Equal(shape_of_weights, 1), same), [0])


def broadcast_weights(weights: Any, values: Any) -> Tensor:
    """`weights` repeated to the shape of `values`; a scalar, or with size 1 or the same size along each axis."""
    with name_scope(None, "broadcast_weights", (weights, values)) as scope:
        values = convert_to_tensor(values, name="values")
        weights = convert_to_tensor(weights, dtype=values.dtype.base_dtype, name="weights")
        if shapes.is_known(weights._dims) and weights._dims == values._dims:
            return weights
        with values.graph.control_dependencies([assert_broadcastable(weights, values)]):
            return raw.Mul(weights, raw.OnesLike(values), name=scope)


def remove_squeezable_dimensions(
    labels: Any, predictions: Any, expected_rank_diff: int = 0, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """`labels` and `predictions`, without the last axis (of size 1) of the one whose rank is too high by one.

    expected_rank_diff: what the rank of predictions minus that of labels ought to be.
    """
    with name_scope(name, "remove_squeezable_dimensions", [labels, predictions]):
        predictions = convert_to_tensor(predictions)
        labels = convert_to_tensor(labels)
        p, n = predictions.shape.ndims, labels.shape.ndims
        if p is not None and n is not None:
            if p - n == expected_rank_diff + 1:
                predictions = squeeze_last(predictions)
            elif p - n == expected_rank_diff - 1:
                labels = squeeze_last(labels)
            return labels, predictions
        surplus = raw.Sub(raw.Rank(predictions), raw.Rank(labels))
        return (
            _squeeze_if(raw.Equal(surplus, expected_rank_diff - 1), labels),
            _squeeze_if(raw.Equal(surplus, expected_rank_diff + 1), predictions),
        )


def squeeze_last(x: Tensor) -> Tensor:
    """`x` without its last axis, which must have size 1."""
    return raw.Squeeze(x, squeeze_dims=[-1])


def _squeeze_if(condition: Tensor, x: Tensor) -> Tensor:
    dims = x._dims
    if dims is not None and (not dims or dims[-1] not in (1, None)):
        return x
    return cond(condition, lambda: squeeze_last(x), lambda: raw.Identity(x))


def remove_squeezable_weights(labels: Tensor, weights: Any) -> Tensor:
    """`weights` without its last axis (of size 1) where its rank is that of `labels` and one more."""
    weights = convert_to_tensor(weights)
    w, n = weights.shape.ndims, labels.shape.ndims
    if w is not None and n is not None:
        return squeeze_last(weights) if w - n == 1 else weights
    if w == 0:
        return weights
    surplus = raw.Sub(raw.Rank(weights), raw.Rank(labels))
    return _squeeze_if(raw.Equal(surplus, 1), weights)


def all_axes(x: Tensor, first: int = 0) -> Any:
    """The axes of `x` from `first`: a constant where the rank is known."""
    rank = x.shape.ndims
    return (
        raw.Range(first, raw.Rank(x), 1) if rank is None else np.arange(first, rank, dtype=np.int32)
    )
