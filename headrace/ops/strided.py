"""What `x[begin:end:stride, ..., newaxis, i]` means: the masks of StridedSlice worked out axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_NEW_AXIS, _SHRINK = -1, -2


@dataclass(slots=True)
class Axis:
    """One axis of the input. start, step: the elements taken; count: how many of them. None: not known.

    start_from: the position in the slice specification whose value is the start where `start` is not known.
    """

    start: int | None
    step: int
    count: int | None
    size: int | None
    start_from: int | None = None
    shrink: bool = False

    @property
    def lowest(self) -> int:
        """The smallest index taken (start is known, something is taken)."""
        return self.start if self.step > 0 else self.start + (self.count - 1) * self.step  # type: ignore


@dataclass(slots=True)
class Region:
    """The part of a tensor that a slice specification takes, and the shape that it comes out with."""

    axes: list[Axis]
    shape: tuple[int | None, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """The shape before new axes are added and single ones dropped."""
        return tuple(a.count for a in self.axes)  # type: ignore[misc]


class SliceError(Exception):
    """A specification that does not fit the tensor."""


def masks_of(op: Any) -> tuple[int, int, int, int, int]:
    """The five masks of a strided slice op: begin, end, ellipsis, new axis, shrink."""
    return tuple(
        op.attr(f"{m}_mask") for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    )  # type: ignore


def resolve(
    dims: Sequence[int | None],
    begin: Sequence[int | None],
    end: Sequence[int | None],
    strides: Sequence[int | None],
    masks: tuple[int, int, int, int, int],
) -> Region:
    """Works out which elements a specification takes of a tensor of shape `dims`; None where a number is not known.

    Raises SliceError: the specification does not fit.
    """
    begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_mask = masks
    count = len(begin)
    if len(end) != count or len(strides) != count:
        raise SliceError(
            f"begin, end and strides need the same length, got {count}, {len(end)} and {len(strides)}"
        )
    ellipsis = [i for i in range(count) if ellipsis_mask >> i & 1]
    if len(ellipsis) > 1:
        raise SliceError("Multiple ellipses in slice spec not allowed")
    at_ellipsis = ellipsis[0] if ellipsis else count
    taken = sum(1 for i in range(count) if i != at_ellipsis and not new_axis_mask >> i & 1)
    if taken > len(dims):
        raise SliceError(
            f"Index out of range using input dim {len(dims)}; input has only {len(dims)} dims"
        )
    axes: list[Axis] = []
    layout: list[int] = []
    for i in range(count + 1):
        if i == at_ellipsis:
            for _ in range(len(dims) - taken):
                size = dims[len(axes)]
                layout.append(len(axes))
                axes.append(Axis(0, 1, size, size))
        if i == count or i == at_ellipsis:
            continue
        if new_axis_mask >> i & 1:
            layout.append(_NEW_AXIS)
            continue
        shrink = bool(shrink_mask >> i & 1)
        axis = _axis(
            len(axes),
            dims[len(axes)],
            i,
            begin[i],
            end[i],
            strides[i],
            begin_mask,
            end_mask,
            shrink,
        )
        layout.append(_SHRINK if shrink else len(axes))
        axes.append(axis)
    shape = tuple(1 if at == _NEW_AXIS else axes[at].count for at in layout if at != _SHRINK)
    return Region(axes, shape)


def _axis(
    number: int,
    size: int | None,
    i: int,
    begin: int | None,
    end: int | None,
    stride: int | None,
    begin_mask: int,
    end_mask: int,
    shrink: bool,
) -> Axis:
    if stride == 0:
        raise SliceError(f"strides[{i}] must be non-zero")
    if shrink:
        if stride is not None and stride <= 0:
            raise SliceError("only stride 1 allowed on non-range indexing.")
        start = begin
        if begin is not None and size is not None:
            start = begin + size if begin < 0 else begin
            if not 0 <= start < size:
                raise SliceError(f"slice index {begin} of dimension {number} out of bounds.")
        elif begin is not None and begin < 0:
            start = None
        return Axis(start, 1, 1, size, i, True)
    if stride is None:
        return Axis(None, 1, None, size, i)
    whole_begin, whole_end = bool(begin_mask >> i & 1), bool(end_mask >> i & 1)
    first = last = None
    if size is not None:
        low, high = (0, size) if stride > 0 else (-1, size - 1)
        if whole_begin:
            first = low if stride > 0 else high
        elif begin is not None:
            first = min(max(begin + size if begin < 0 else begin, low), high)
        if whole_end:
            last = high if stride > 0 else low
        elif end is not None:
            last = min(max(end + size if end < 0 else end, low), high)
    elif whole_begin and whole_end:
        return Axis(0 if stride > 0 else None, stride, None, None, i)
    if first is None or last is None:
        return Axis(first, stride, None, size, i)
    length = last - first
    taken = -(-length // stride) if length and (length > 0) == (stride > 0) else 0
    return Axis(first if taken else 0, stride, taken, size, i)


def as_ints(values: np.ndarray) -> list[int]:
    """The elements of a vector as Python numbers."""
    return [int(v) for v in values]
