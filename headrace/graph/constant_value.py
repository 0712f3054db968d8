"""What is known of a tensor's value while the graph is built: constants, and what the host rules make of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph import shapes
from headrace.graph.op_def import MAY_FAIL
from headrace.graph.operation import group_by_argument
from headrace.graph.tensor import Dims, Tensor

# Folding is for sizes, axes and permutations, not for data.
_MAX_ELEMENTS = 4096
_MAX_DEPTH = 64


def constant_value(tensor: Tensor, partial: bool = False, _depth: int = 0) -> Any:
    """The value of `tensor` as an array if it is known while the graph is built, else None.

    Once a tensor's value has been asked for it must not be fed: the shapes inferred from it would be wrong.
    partial: a `Pack` of partly known elements is an object array with None where nothing is known.
    """
    extra = tensor._extra
    if extra is not None and "_captured_from" in extra:
        return constant_value(extra["_captured_from"], partial, _depth + 1)
    op = tensor._op
    definition = op._definition
    if "value" in op._attrs and definition.name == "Const":
        return op._attrs["value"].array
    if definition.static_rule is not None:
        values = definition.static_rule(op)
        return None if values is None else _output(values, tensor)
    if partial and definition.partial_rule is not None and tensor._dtype.is_integer:
        sizes = definition.partial_rule(op)
        if isinstance(sizes, list):
            return np.array(sizes, dtype=object if None in sizes else tensor._dtype.as_numpy_dtype)
    if (
        definition.host_rule is None
        or definition.effects & ~MAY_FAIL
        or definition.host_only
        or definition.writes
        or not op._inputs
        or tensor._dtype is dtypes.variant
        or _depth > _MAX_DEPTH
    ):
        return None
    if (shapes.element_count(tensor._dims) or 0) > _MAX_ELEMENTS:
        return None
    known = op._graph.__dict__.setdefault("_known_values", {})
    if tensor in known:
        return known[tensor]
    arrays = []
    for source in op._inputs:
        if (
            source._dtype.is_ref_dtype
            or source._dtype is dtypes.resource
            or source._dtype is dtypes.variant
        ):
            return None
        array = constant_value(source, False, _depth + 1)
        if array is None or array.size > _MAX_ELEMENTS:
            return None
        arrays.append(array)
    with np.errstate(all="ignore"):
        try:
            values = definition.host_rule(op, *group_by_argument(op, arrays))
        except Exception:  # a failing op fails when it runs, with its own error
            return None
    result = known[tensor] = np.asarray(_output(values, tensor))
    return result if result.size <= _MAX_ELEMENTS else None


def _output(values: Any, tensor: Tensor) -> Any:
    return values[tensor._index] if isinstance(values, (list, tuple)) else values


def constant_value_as_shape(tensor: Tensor) -> Dims:
    """The sizes that a vector of int32 or int64 holds, as far as known; -1 counts as unknown.

    Raises ValueError: the tensor is not a vector (or a scalar -1, for an unknown rank).
    """
    sizes = partial_sizes(tensor)
    if sizes is not None:
        return tuple(None if s is None or s < 0 else int(s) for s in sizes)
    dims = tensor._dims
    if dims is None:
        return None
    if len(dims) == 0:
        value = constant_value(tensor)
        if value is not None and int(value) != -1:
            raise ValueError(
                f"Received a scalar {value} as shape; require a statically known scalar with value -1."
            )
        return None
    if len(dims) != 1:
        raise ValueError(f"Shape must be rank 1 but is rank {len(dims)}: {tensor!r}")
    return None if dims[0] is None else (None,) * dims[0]


def partial_sizes(tensor: Tensor) -> list[int | None] | None:
    """The elements of an integer vector, None for those unknown; None where not even their number is known."""
    value = constant_value(tensor)
    if value is not None:
        return [int(v) for v in value] if value.ndim == 1 else None
    rule = tensor._op._definition.partial_rule
    sizes = None if rule is None else rule(tensor._op)
    return sizes if isinstance(sizes, list) else None


def partial_size(tensor: Tensor) -> int | None:
    """The value of an integer scalar, such as one size of a shape that is partly known; None where it is not known."""
    value = constant_value(tensor)
    if value is not None:
        return int(value) if value.ndim == 0 and tensor._dtype.is_integer else None
    rule = tensor._op._definition.partial_rule
    size = None if rule is None else rule(tensor._op)
    return size if isinstance(size, int) else None
