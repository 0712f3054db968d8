"""Structures of tensors: the tensors that IndexedSlices, SparseTensors and TensorArrays consist of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.core import nest
from headrace.graph import convert
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor


def flatten_composites(structure: Any) -> list[Any]:
    """The leaves of nested structures; IndexedSlices, SparseTensors and TensorArrays give their parts."""
    flat: list[Any] = []
    for leaf in nest.flatten(structure):
        parts = parts_of(leaf)
        flat += parts if parts is not None else [leaf]
    return flat


def parts_of(leaf: Any) -> list[Any] | None:
    """The tensors that a composite leaf consists of; None for a leaf that is no composite."""
    if isinstance(leaf, IndexedSlices):
        parts = [leaf.values, leaf.indices]
        return parts if leaf.dense_shape is None else [*parts, leaf.dense_shape]
    method = getattr(leaf, "_composite_parts", None)
    return method() if method is not None else None


def pack_composites(structure: Any, flat: Sequence[Any]) -> Any:
    """The inverse of `flatten_composites`: leaves as in `structure`, with the tensors of `flat`."""
    rest = iter(flat)

    def leaf(old: Any) -> Any:
        parts = parts_of(old)
        if parts is None:
            return next(rest)
        new = [next(rest) for _ in parts]
        if isinstance(old, IndexedSlices):
            return IndexedSlices(*new)
        return old._with_parts(new)

    return nest.map_structure(leaf, structure)


def as_tensor(value: Any, what: str) -> Any:
    """`value` as a tensor inside the body that is being built; None for an operation's result stays None."""
    if isinstance(value, Tensor):
        return value
    try:
        return convert.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must give tensors or what can be converted to them, got {value!r}: {error}"
        ) from None
