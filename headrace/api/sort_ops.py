"""Sorting: `tf.sort`, `tf.argsort`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import rank, shape, transpose
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.join_ops import concat
from headrace.graph import raw
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


@export("sort")
def sort(
    values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None
) -> Tensor:
    """`values` sorted along `axis`, "ASCENDING" or "DESCENDING".

    values: real numbers, of any shape but a scalar. axis: a number, or a constant scalar.
    Raises ValueError: another direction, or an axis that is not known.
    """
    with name_scope(name, "sort"):
        return _sorted(values, axis, direction)[0]


@export("argsort")
def argsort(
    values: Any,
    axis: Any = -1,
    direction: str = "ASCENDING",
    stable: bool = False,
    name: str | None = None,
) -> Tensor:
    """The indices (int32) along `axis` that sort `values`; equal elements stay in order, whatever `stable` says.

    Raises ValueError: another direction, or an axis that is not known.
    """
    del stable
    with name_scope(name, "argsort"):
        return _sorted(values, axis, direction)[1]


def _sorted(values: Any, axis: Any, direction: str) -> tuple[Tensor, Tensor]:
    """(values in order, their indices)."""
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"{direction} should be one of ASCENDING, DESCENDING")
    axis = convert_to_tensor(axis, name="axis")
    at = constant_value(axis)
    if axis._dims != () or at is None:
        raise ValueError("axis must be a constant scalar")
    values = convert_to_tensor(values, name="values")
    order = _to_last(values, int(at))
    moved = values if order is None else transpose(values, order)
    rising = direction == "ASCENDING"
    found, indices = raw.TopKV2(_mirrored(moved) if rising else moved, shape(moved)[-1])
    if rising:
        found = _mirrored(found)
    if order is None:
        return found, indices
    return transpose(found, order), transpose(indices, order)


def _to_last(values: Tensor, axis: int) -> Any:
    """The permutation that exchanges `axis` and the last one; None where it is the last one."""
    if values._dims is None:
        if axis == -1:
            return None
        count = rank(values)
        at = axis if axis >= 0 else axis + count
        return concat([raw.Range(0, at, 1), [count - 1], raw.Range(at + 1, count - 1, 1), [at]], 0)
    count = len(values._dims)
    if not -count <= axis < count:
        raise ValueError(f"axis {axis} is out of range for values of shape {values.shape}")
    axis %= count
    if axis == count - 1:
        return None
    order = np.arange(count, dtype=np.int32)
    order[[axis, -1]] = order[[-1, axis]]
    return convert_to_tensor(order, name="transposition")


def _mirrored(values: Tensor) -> Tensor:
    """The values in the opposite order: negated, or of integers their complement, which always exists."""
    kind = values.dtype.base_dtype
    if not kind.is_integer:
        return raw.Neg(values)
    if kind.is_unsigned:
        return raw.Sub(np.array(kind.max, kind.as_numpy_dtype), values)
    return raw.Sub(np.array(-1, kind.as_numpy_dtype), values)
