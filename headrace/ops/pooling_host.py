"""Pooling of NumPy arrays: as `pooling_windows`, without a program. Each gives None where a program had better do it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.ops.choose import choose
from headrace.ops.pooling_windows import Windows, counts, lowest

# All places of a window are visited at each of its offsets: so many visits take as long as compiling a kernel.
_MOST_VISITS = 1 << 25


def _is_too_much(windows: Windows) -> bool:
    return math.prod(windows.places) * windows.count > _MOST_VISITS


def _wide(dtype: Any) -> Any:
    """The type in which values are added up."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


class _Padded:
    """An array with its padding, and the view of it at each offset of the windows."""

    def __init__(self, x: Any, windows: Windows, fill: Any) -> None:
        self._windows = windows
        self._inside = tuple(
            slice(before, before + size)
            for (before, _), size in zip(windows.pads, windows.sizes, strict=True)
        )
        if x is not None and not any(map(any, windows.pads)):
            self.array = x
            return
        sizes = [
            # With strides the last window may end beyond the padding's end, or before it.
            max(before + size + after, (p - 1) * s + (k - 1) * d + 1)
            for (before, after), size, p, s, k, d in zip(
                windows.pads,
                windows.sizes,
                windows.places,
                windows.strides,
                windows.ksize,
                windows.dilations,
                strict=True,
            )
        ]
        self.array = np.full(sizes, fill[0], fill[1])
        if x is not None:
            self.array[self._inside] = x

    def views(self) -> Iterator[Any]:
        windows = self._windows
        for offset in windows.offsets():
            yield self.array[
                tuple(
                    slice(o, o + (p - 1) * s + 1, s)
                    for o, p, s in zip(offset, windows.places, windows.strides, strict=True)
                )
            ]

    def without_padding(self) -> Any:
        return np.ascontiguousarray(self.array[self._inside])


def maximum(x: Any, windows: Windows) -> Any:
    """The maximum of each window."""
    if _is_too_much(windows):
        return None
    result = None
    for values in _Padded(x, windows, (lowest(x.dtype), x.dtype)).views():
        result = values.copy() if result is None else np.maximum(result, values, out=result)
    return result


def to_maximum(dy: Any, x: Any, y: Any, windows: Windows) -> Any:
    """An array as `x` with each place's value added where the window's first maximum `y` is; its first value for NaN."""
    if _is_too_much(windows):
        return None
    target = _Padded(None, windows, (0, dy.dtype))
    views = list(target.views())
    missing = np.ones(windows.places, np.bool_)
    for values, view in zip(
        _Padded(x, windows, (lowest(x.dtype), x.dtype)).views(), views, strict=True
    ):
        here = (values == y) & missing
        missing ^= here
        view += choose(here, dy)
    views[0] += choose(missing, dy)
    return target.without_padding()


def average(x: Any, windows: Windows) -> Any:
    """The mean of each window; padding does not count."""
    if _is_too_much(windows):
        return None
    wide = _wide(x.dtype)
    result = None
    for values in _Padded(x, windows, (0, x.dtype)).views():
        result = values.astype(wide) if result is None else np.add(result, values, out=result)
    return (result / counts(windows).astype(wide)).astype(x.dtype)


def average_gradient(dy: Any, windows: Windows) -> Any:
    """What the gradient `dy` of `average` gives its input."""
    if _is_too_much(windows):
        return None
    wide = _wide(dy.dtype)
    shares = dy.astype(wide) / counts(windows).astype(wide)
    target = _Padded(None, windows, (0, wide))
    for view in target.views():
        view += shares
    return target.without_padding().astype(dy.dtype)
