"""Whether the elements of a tensor rise: `tf.is_non_decreasing`, `tf.is_strictly_increasing`."""

from __future__ import annotations

from typing import Any

from headrace.api.array_ops import reshape
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.reduction import reduce_all
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _steps(x: Any) -> Tensor:
    """The differences of neighbours among the elements in order. Raises TypeError: not numeric."""
    x = reshape(convert_to_tensor(x, name="x"), [-1])
    if not (x.dtype.is_floating or x.dtype.is_integer or x.dtype.is_complex):
        raise TypeError(f"Expected x to be numeric, instead found: {x}")
    return x[1:] - x[:-1]


@export("is_non_decreasing", "math.is_non_decreasing", "debugging.is_non_decreasing")
def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """Whether no element is less than the one before it, in row-major order. Raises TypeError: not numeric."""
    with name_scope(name, "is_non_decreasing", [x]):
        steps = _steps(x)
        return reduce_all(raw.LessEqual(convert_to_tensor(0, steps.dtype), steps))


@export("is_strictly_increasing", "math.is_strictly_increasing", "debugging.is_strictly_increasing")
def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """Whether each element is greater than the one before it, in row-major order. Raises TypeError: not numeric."""
    with name_scope(name, "is_strictly_increasing", [x]):
        steps = _steps(x)
        return reduce_all(raw.Less(convert_to_tensor(0, steps.dtype), steps))
