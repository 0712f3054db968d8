"""Which elements: `tf.where`, `tf.one_hot`, `tf.sequence_mask`, `tf.unique`, `tf.nn.top_k`, `tf.searchsorted`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import dense_shape_of, expand_dims, rank, reshape, shape_internal
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.source import constant
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _positions_of_true(condition: Any, name: str | None) -> Tensor:
    with name_scope(name, "Where", [condition]) as scope:
        condition = convert_to_tensor(condition, preferred_dtype=dtypes.bool, name="condition")
        return raw.Where(condition, name=scope)


@export("where")
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """Elements of `x` where `condition` is true, of `y` where not; without x and y the positions of what is true.

    condition: booleans of the shape of x and y, or a vector that chooses rows. Without x and y it may be numbers (true
    where not zero) and the result is int64 [number of true, rank].
    Raises ValueError: only one of x and y is given, or shapes that do not fit.
    """
    if x is None and y is None:
        return _positions_of_true(condition, name)
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    return raw.Select(condition, x, y, name=name)


@export("where_v2")
def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """As `where`, but condition, x and y broadcast."""
    if x is None and y is None:
        return _positions_of_true(condition, name)
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    return raw.SelectV2(condition, x, y, name=name)


@export("one_hot")
def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """`indices` with a new axis of size `depth` that has on_value (1) at the index and off_value (0) elsewhere.

    axis: where the new axis goes, -1 (default) at the end. dtype: of the result; that of the values, or float32.
    Raises TypeError: the types of on_value, off_value and dtype differ.
    """
    with name_scope(name, "one_hot", [indices, depth, on_value, off_value, axis, dtype]) as scope:
        kinds = {
            word: convert_to_tensor(value).dtype.base_dtype
            for word, value in (("on_value", on_value), ("off_value", off_value))
            if value is not None
        }
        if dtype is not None:
            dtype = dtypes.as_dtype(dtype)
            for word, kind in kinds.items():
                if kind != dtype:
                    raise TypeError(
                        f"dtype {kind} of {word} does not match dtype parameter {dtype}"
                    )
        else:
            dtype = next(iter(kinds.values()), dtypes.float32)
        if on_value is None:
            on_value = convert_to_tensor(1, dtype, name="on_value")
        if off_value is None:
            off_value = convert_to_tensor(0, dtype, name="off_value")
        on_kind, off_kind = kinds.get("on_value", dtype), kinds.get("off_value", dtype)
        if on_kind != off_kind:
            raise TypeError(
                f"dtype {on_kind} of on_value does not match dtype {off_kind} of off_value"
            )
        return raw.OneHot(
            indices, depth, on_value, off_value, axis=-1 if axis is None else axis, name=scope
        )


@export("sequence_mask")
def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool, name: str | None = None
) -> Tensor:
    """True at the first lengths[i] of maxlen places, for each element of `lengths`: [..., maxlen].

    maxlen: a scalar; the largest length where None. dtype: of the result.
    Raises ValueError: maxlen is not a scalar.
    """
    with name_scope(name, "SequenceMask", [lengths, maxlen]):
        lengths = convert_to_tensor(lengths)
        if maxlen is None:
            axes = (
                constant(np.arange(len(lengths._dims), dtype=np.int32))
                if lengths._dims is not None
                else raw.Range(0, rank(lengths), 1)
            )
            maxlen = raw.Max(lengths, axes)
            maxlen = raw.Maximum(constant(0, maxlen.dtype), maxlen)
        else:
            maxlen = convert_to_tensor(maxlen)
        if maxlen._dims is not None and len(maxlen._dims) != 0:
            raise ValueError("maxlen must be scalar for sequence_mask")
        places = raw.Range(constant(0, maxlen.dtype), maxlen, constant(1, maxlen.dtype))
        ends = raw.Cast(expand_dims(lengths, -1), DstT=maxlen.dtype)
        mask = raw.Less(places, ends)
        if dtype is None or dtypes.as_dtype(dtype).base_dtype is dtypes.bool:
            return mask
        return raw.Cast(mask, DstT=dtypes.as_dtype(dtype))


@export("unique")
def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """The different elements of the vector `x` in the order of their first appearance, and for each element its number.

    Returns (y, idx) with y[idx[i]] == x[i]; idx is int32 or int64 (out_idx).
    """
    return raw.Unique(x, out_idx=out_idx, name=name)


@export("unique_with_counts")
def unique_with_counts(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Any:
    """As `unique`, and how often each different element appears: (y, idx, count)."""
    return raw.UniqueWithCounts(x, out_idx=out_idx, name=name)


@export("setdiff1d")
def setdiff1d(x: Any, y: Any, index_dtype: Any = dtypes.int32, name: str | None = None) -> Any:
    """The elements of the vector `x` that are not in the vector `y`, in order, and where they are there: (out, idx)."""
    return raw.ListDiff(x, y, out_idx=index_dtype, name=name)


export_op(
    "TopKV2",
    "input, k=1, sorted=True",
    "nn.top_k",
    "math.top_k",
    doc="The k largest elements along the last axis, largest first, and their indices: (values, indices).",
)


@export("nn.in_top_k", "math.in_top_k")
def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether the class targets[i] is among the k classes with the largest predictions[i].

    predictions: [batch, classes] float32. targets: [batch] int32 or int64. Returns booleans [batch].
    """
    with name_scope(name, "in_top_k"):
        return raw.InTopKV2(predictions, targets, k)


@export("searchsorted")
def searchsorted(
    sorted_sequence: Any,
    values: Any,
    side: str = "left",
    out_type: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """Where `values` would have to be put into the sorted rows of `sorted_sequence` (along the last axis).

    side: "left", before elements that are equal, or "right", after them. Returns the shape of `values`.
    Raises ValueError: another side.
    """
    length = shape_internal(sorted_sequence)[-1]
    count = shape_internal(values)[-1]
    rows = reshape(sorted_sequence, [-1, length])
    wanted = reshape(values, [-1, count])
    if side == "right":
        found = raw.UpperBound(rows, wanted, out_type=out_type, name=name)
    elif side == "left":
        found = raw.LowerBound(rows, wanted, out_type=out_type, name=name)
    else:
        raise ValueError(f"side must be either 'right' or 'left'.  Saw: {side}.")
    return reshape(found, shape_internal(values))


@export("edit_distance")
def edit_distance(
    hypothesis: Any, truth: Any, normalize: bool = True, name: str = "edit_distance"
) -> Tensor:
    """The Levenshtein distance between the sequences of two sparse tensors, by the length of `truth` if normalised.

    Sequences lie along the last axis. Returns float32 of the other axes. Raises TypeError: not sparse tensors.
    """
    if dense_shape_of(hypothesis) is None:
        raise TypeError("Hypothesis must be a SparseTensor.")
    if dense_shape_of(truth) is None:
        raise TypeError("Truth must be a SparseTensor.")
    return raw.EditDistance(
        hypothesis.indices,
        hypothesis.values,
        hypothesis.dense_shape,
        truth.indices,
        truth.values,
        truth.dense_shape,
        normalize=normalize,
        name=name,
    )
