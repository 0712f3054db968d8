"""A tensor cut into several along an axis: Split, SplitV."""

from __future__ import annotations

import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static

# ---- Split, SplitV


def _cut(op, x, sizes: list[int], at: int):
    parts, start = [], 0
    for size in sizes:
        if is_static(x):
            parts.append(x[(slice(None),) * at + (slice(start, start + size),)])
        else:
            parts.append(lax.slice_in_dim(x, start, start + size, axis=at))
        start += size
    return tuple(parts)


def _split_axis(op, x, axis) -> int:
    if axis.size != 1:
        raise op.invalid(
            f"split_dim_tensor must have exactly one element, got shape {shapes.brackets(axis.shape)}"
        )
    rank, at = len(x.shape), int(axis.reshape(()))
    if not -rank <= at < rank:
        raise op.invalid(f"{-rank} <= split_dim < {rank}, but got {at}")
    return at % rank


split = define(
    "Split",
    "split_dim: int32, value: T -> output: num_split*T",
    "num_split: int >= 1, T: type",
    static_inputs=("split_dim",),
)


@split.shape
def _split_shape(op, axis, x) -> list[Dims]:
    count, at = op.attr("num_split"), op.static(0)
    if x is None:
        return [None] * count
    if at is None:
        return [(None,) * len(x)] * count
    at = shapes.axis_in_rank(op, int(at.reshape(())), len(x), "split_dim")
    size = x[at]
    if size is not None and size % count:
        raise op.error(
            f"Number of ways to split should evenly divide the split dimension: {count} and {size}, axis {at} of "
            f"{shapes.text(x)}."
        )
    return [(*x[:at], None if size is None else size // count, *x[at + 1 :])] * count


@split.host
@split.lower
def _split_lower(op, axis: np.ndarray, x):
    count, at = op.attr("num_split"), _split_axis(op, x, axis)
    if x.shape[at] % count:
        raise op.invalid(
            f"Number of ways to split should evenly divide the split dimension, but got split_dim {at} (size = "
            f"{x.shape[at]}) and num_split {count}"
        )
    return _cut(op, x, [x.shape[at] // count] * count, at)


@split.gradient
def _split_gradient(op, *grads):
    if len(grads) == 1:
        return None, grads[0]
    return None, raw.ConcatV2(list(grads), op.inputs[0])


split_v = define(
    "SplitV",
    "value: T, size_splits: Tlen, split_dim: int32 -> output: num_split*T",
    "num_split: int >= 1, T: type, Tlen: {int32, int64} = int64",
    static_inputs=("size_splits", "split_dim"),
)


@split_v.shape
def _split_v_shape(op, x, size_splits, axis) -> list[Dims]:
    count, at, sizes = op.attr("num_split"), op.static(2), op.static(1)
    if x is None:
        return [None] * count
    if at is None:
        return [(None,) * len(x)] * count
    at = shapes.axis_in_rank(op, int(at.reshape(())), len(x), "split_dim")
    if sizes is None:
        parts: list[int | None] = [None] * count
        if count == 1:
            parts = [x[at]]
    else:
        if sizes.ndim != 1 or len(sizes) != count:
            raise op.error(
                f"Length of size_splits should be equal to num_outputs: {sizes.size} and {count}."
            )
        parts = [None if s < 0 else int(s) for s in sizes]
        if x[at] is not None:
            total = sum(p for p in parts if p is not None)
            if parts.count(None) == 1:
                if total > x[at]:
                    raise op.error(
                        f"size_splits {list(sizes)} need {total} of axis {at}, {shapes.text(x)} has {x[at]}."
                    )
                parts = [x[at] - total if p is None else p for p in parts]
            elif None not in parts and total != x[at]:
                raise op.error(
                    "Determined shape must either match input shape along split_dim exactly: the sizes add up to "
                    f"{total}, axis {at} of {shapes.text(x)} is {x[at]}."
                )
    return [(*x[:at], p, *x[at + 1 :]) for p in parts]


@split_v.host
@split_v.lower
def _split_v_lower(op, x, size_splits: np.ndarray, axis: np.ndarray):
    at = _split_axis(op, x, axis)
    sizes = [int(s) for s in size_splits.reshape(-1)]
    if size_splits.ndim != 1 or len(sizes) != op.attr("num_split"):
        raise op.invalid(
            f"size of the split_tensor must be 1-D and have the same elements as outputs got {size_splits.ndim}-D and "
            f"{len(sizes)} elements"
        )
    unknown = [i for i, s in enumerate(sizes) if s == -1]
    total = sum(s for s in sizes if s != -1)
    if len(unknown) > 1:
        raise op.invalid("There can only be one -1 in the input.")
    if (not unknown and total != x.shape[at]) or (unknown and total > x.shape[at]):
        raise op.invalid(
            f"Determined shape must either match input shape along split_dim exactly if fully specified, or be "
            f"less than the size of the input along split_dim if not fully specified.  Got: {total}"
        )
    if unknown:
        sizes[unknown[0]] = x.shape[at] - total
    for i, s in enumerate(sizes):
        if s < 0:
            raise op.invalid(f"Split size at index {i} must be >= 0. Got: {s}")
    return _cut(op, x, sizes, at)


@split_v.gradient
def _split_v_gradient(op, *grads):
    if len(grads) == 1:
        return grads[0], None, None
    return raw.ConcatV2(list(grads), op.inputs[2]), None, None
