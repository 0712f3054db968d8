"""IndexedSlices in gradients: as tensors, and several as one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph import convert, raw, shapes
from headrace.graph.constant_value import constant_value_as_shape
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor

# Densifying at least so many elements draws a warning with their number.
_LARGE_ELEMENTS = 100_000_000


def to_tensor(
    value: IndexedSlices, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    """The dense tensor of `value`: repeated rows added up, zeros where no row is named.

    Raises ValueError: another dtype is asked for, or the dense shape is not known.
    """
    if dtype is not None and not dtypes.as_dtype(dtype).is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {dtypes.as_dtype(dtype).name} for IndexedSlices with dtype "
            f"{value.dtype.name}"
        )
    if value.dense_shape is None:
        raise ValueError(
            f"Tensor conversion requested for IndexedSlices without dense_shape: {value}"
        )
    known = constant_value_as_shape(value.dense_shape)
    elements = shapes.element_count(known)
    if elements is None:
        warnings.warn(
            "Converting sparse IndexedSlices to a dense Tensor of unknown shape. This may consume a large amount of "
            "memory.",
            stacklevel=2,
        )
    elif elements >= _LARGE_ELEMENTS:
        warnings.warn(
            f"Converting sparse IndexedSlices to a dense Tensor with {elements} elements. This may consume a large "
            "amount of memory.",
            stacklevel=2,
        )
    rows: Any
    if known is not None and known and known[0] is not None:
        rows = np.array(known[0], value.dense_shape.dtype.as_numpy_dtype)
    else:
        rows = raw.StridedSlice(value.dense_shape, [0], [1], [1], shrink_axis_mask=1)
    return raw.UnsortedSegmentSum(value.values, value.indices, rows, name=name)


convert.register_tensor_conversion_function(IndexedSlices, to_tensor)


def convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Any:
    """`value` itself where it is a Tensor or IndexedSlices (or has parts, as a SparseTensor), else a tensor of it.

    Raises ValueError: of another dtype than asked for.
    """
    if isinstance(value, IndexedSlices) or hasattr(value, "dense_shape"):
        if dtype is not None and not dtypes.as_dtype(dtype).is_compatible_with(value.dtype):
            raise ValueError(
                f"Tensor conversion requested dtype {dtypes.as_dtype(dtype).name} for Tensor with dtype "
                f"{value.dtype.name}: {str(value)!r}"
            )
        return value
    return convert.convert_to_tensor(value, dtype, name, as_ref=as_ref)


def convert_n(
    values: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> list[Any]:
    """`convert_to_tensor_or_indexed_slices` for a list; None stays None, names get `_0`, `_1`, ...

    Raises TypeError: not a sequence.
    """
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise TypeError(f"values must be a list, got {type(values).__name__}.")
    return [
        None
        if value is None
        else convert_to_tensor_or_indexed_slices(
            value, dtype, None if name is None else f"{name}_{i}", as_ref
        )
        for i, value in enumerate(values)
    ]


def concatenated(parts: Sequence[IndexedSlices]) -> IndexedSlices:
    """The rows of several IndexedSlices of one dense shape, one after the other; int64 indices where they are mixed."""
    flat = [_flattened(part) for part in parts]
    indices = [part.indices for part in flat]
    if len({i.dtype for i in indices}) > 1:
        indices = [
            raw.Cast(i, DstT=dtypes.int64) if i.dtype != dtypes.int64 else i for i in indices
        ]
    return IndexedSlices(
        raw.ConcatV2([part.values for part in flat], np.int32(0), name="concat"),
        raw.ConcatV2(indices, np.int32(0), name="concat"),
        flat[0].dense_shape,
    )


def _flattened(slices: IndexedSlices) -> IndexedSlices:
    """Rows of rows as rows of the whole."""
    if not isinstance(slices.values, IndexedSlices):
        return slices
    inner = _flattened(slices.values)
    return IndexedSlices(
        inner.values,
        raw.GatherV2(slices.indices, inner.indices, np.int32(0), name="Gather"),
        slices.dense_shape,
    )
