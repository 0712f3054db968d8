"""Clipping: `tf.clip_by_value`, by norm, by the global norm of many tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.api.array_ops import ones_like, rank, size
from headrace.api.export import export
from headrace.api.framework import colocate_with, name_scope
from headrace.api.join_ops import stack
from headrace.api.math_ops import cast
from headrace.api.reduction import range, reduce_sum
from headrace.api.source import constant
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor


def _values(t: Any, name: str) -> Tensor:
    return convert_to_tensor(t.values if isinstance(t, IndexedSlices) else t, name=name)


def _like(t: Any, values: Tensor) -> Any:
    return (
        IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values
    )


@export("clip_by_value")
def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """`t` with its elements brought into [clip_value_min, clip_value_max].

    t: a tensor or an IndexedSlices. The limits broadcast to its shape. Raises ValueError: they would enlarge it.
    """
    with name_scope(name, "clip_by_value", [t, clip_value_min, clip_value_max]) as scope:
        values = _values(t, "t")
        lower = raw.Minimum(values, clip_value_max)
        values.shape.merge_with(lower.shape)
        clipped = raw.Maximum(lower, clip_value_min, name=scope)
        values.shape.merge_with(clipped.shape)
        return _like(t, clipped)


@export("clip_by_norm")
def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """`t` scaled down so that its Euclidean norm over `axes` (all where None) is at most `clip_norm`.

    t: a tensor or an IndexedSlices. clip_norm: a positive scalar.
    """
    with name_scope(name, "clip_by_norm", [t, clip_norm]) as scope:
        values = _values(t, "t")
        squares = reduce_sum(values * values, axes, keepdims=True)
        # Where the norm is 0 the root has no gradient: it is taken of 1 there, and 0 is used.
        positive = squares > 0
        root = raw.Sqrt(raw.Select(positive, squares, ones_like(squares)))
        norm = raw.Select(positive, root, squares)
        scaled = values * clip_norm
        values.shape.merge_with(scaled.shape)
        return _like(t, raw.Identity(scaled / raw.Maximum(norm, clip_norm), name=scope))


def _check_list(t_list: Any) -> list[Any]:
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise TypeError("t_list should be a sequence")
    return list(t_list)


@export("global_norm", "linalg.global_norm")
def global_norm(t_list: Any, name: str | None = None) -> Tensor:
    """The root of the sum of the squares of all elements of all tensors in a list.

    t_list: tensors, IndexedSlices, and None, which counts nothing. Raises TypeError: no sequence.
    """
    t_list = _check_list(t_list)
    with name_scope(name, "global_norm", t_list):
        halves = []
        for i, t in enumerate(t_list):
            if t is not None:
                values = _values(t, f"t_{i}")
                with colocate_with(values):
                    halves.append(raw.L2Loss(values))
        half = reduce_sum(stack(halves))
        two = convert_to_tensor(2.0, half.dtype, name="Const")
        return raw.Sqrt(half * two, name="global_norm")


@export("clip_by_global_norm")
def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> Any:
    """The tensors of a list scaled down together so that their global norm is at most `clip_norm`, and that norm.

    t_list: tensors, IndexedSlices, and None, which stays. use_norm: the global norm, if it is known already.
    Where the norm is infinite or NaN, all become NaN. Raises TypeError: no sequence.
    """
    t_list = _check_list(t_list)
    if use_norm is None:
        use_norm = global_norm(t_list, name)
    with name_scope(name, "clip_by_global_norm", [*t_list, clip_norm]) as scope:
        use_norm = convert_to_tensor(use_norm, name="use_norm")
        inverse = 1.0 / use_norm
        limit = raw.Minimum(inverse, constant(1.0, use_norm.dtype) / clip_norm)
        scale_if_finite = clip_norm * limit
        finite = raw.IsFinite(use_norm)
        scale = raw.Select(finite, scale_if_finite, constant(float("nan"), use_norm.dtype))
        clipped = []
        for i, t in enumerate(t_list):
            if t is None:
                clipped.append(None)
                continue
            values = _values(t, f"t_{i}")
            with colocate_with(values):
                clipped.append(_like(t, raw.Identity(values * scale, name=f"{scope}_{i}")))
        return clipped, use_norm


@export("clip_by_average_norm")
def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Tensor:
    """`t` scaled down so that its Euclidean norm divided by its number of elements is at most `clip_norm`."""
    with name_scope(name, "clip_by_average_norm", [t, clip_norm]) as scope:
        t = convert_to_tensor(t, name="t")
        count = cast(size(t), dtypes.float32)
        inverse = raw.Rsqrt(reduce_sum(t * t, range(rank(t))))
        scaled = t * clip_norm
        limit = raw.Minimum(inverse * count, constant(1.0) / clip_norm)
        return raw.Identity(scaled * limit, name=scope)
