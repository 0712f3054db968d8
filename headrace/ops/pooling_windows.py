"""How pooling sees its input: as the values at each offset inside a window, and back.

XLA's select-and-scatter, which the transpose of a windowed maximum would be, is one or two orders
of magnitude slower on a CPU than what is here: the offset of the maximum is found first (the first
in row-major order, as in TensorFlow), and the gradient of a window goes there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from headrace.ops.windows import pad_sizes

# Up to this many values in a window, slices that XLA fuses with their neighbours beat a windowed reduction.
_MAX_SLICES = 9


@dataclass(frozen=True)
class Windows:
    """Windows over an array of shape `sizes`, for each axis.

    ksize: the number of values in a window. strides, places: how far apart windows are, and how many. pads: before and
    after. dilations: how far apart the values of a window are.
    """

    sizes: tuple[int, ...]
    ksize: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    places: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of values in a window."""
        return math.prod(self.ksize)

    @property
    def is_tiling(self) -> bool:
        """Whether the windows lie side by side."""
        return self.ksize == self.strides and set(self.dilations) == {1}

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """The offsets inside a window, in row-major order."""
        for index in np.ndindex(*self.ksize):
            yield tuple(i * d for i, d in zip(index, self.dilations, strict=True))

    def padded(self, x: Any, fill: Any) -> Any:
        """`x` with `fill` around it."""
        if not any(any(p) for p in self.pads):
            return x
        return lax.pad(
            x, np.asarray(fill, x.dtype), [(before, after, 0) for before, after in self.pads]
        )

    def slices(self, x: Any, fill: Any) -> Iterator[Any]:
        """For each offset the values there, one for each place."""
        x = self.padded(x, fill)
        for offset in self.offsets():
            limits = [
                o + (p - 1) * s + 1
                for o, p, s in zip(offset, self.places, self.strides, strict=True)
            ]
            yield lax.slice(x, offset, limits, self.strides)

    def spread(self, parts: Sequence[Any]) -> Any:
        """The transpose of `slices`: an array of shape `sizes` to which each offset's part was added
        where it was from."""
        total = None
        for offset, part in zip(self.offsets(), parts, strict=True):
            config = []
            for o, (before, _), p, s, size in zip(
                offset, self.pads, self.places, self.strides, self.sizes, strict=True
            ):
                low = o - before
                config.append((low, size - low - ((p - 1) * s + 1), s - 1))
            padded = lax.pad(part, np.zeros((), part.dtype), config)
            total = padded if total is None else total + padded
        return total

    def tile(self, values: Any) -> Any:
        """For windows side by side: each place's value repeated over its window (by broadcasting; see `untile`)."""
        rank = len(self.sizes)
        return lax.broadcast_in_dim(
            values,
            [n for p, k in zip(self.places, self.ksize, strict=True) for n in (p, k)],
            range(0, 2 * rank, 2),
        )

    def untile(self, tiles: Any) -> Any:
        """What `tile` (place, offset, place, offset, ...) holds as an array of shape `sizes`; zero
        where no window is."""
        whole = tiles.reshape([p * k for p, k in zip(self.places, self.ksize, strict=True)])
        config = []
        for (before, _), size, length in zip(self.pads, self.sizes, whole.shape, strict=True):
            config.append((-before, size + before - length, 0))
        if any(low or high for low, high, _ in config):
            whole = lax.pad(whole, np.zeros((), whole.dtype), config)
        return whole


def windows_of(
    op: Any,
    sizes: Sequence[int],
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int] | None = None,
) -> Windows:
    """The windows over an array of shape `sizes`. Raises InvalidArgumentError: they do not fit."""
    if len(ksize) != len(sizes):
        raise op.invalid(f"tensor_in must be {len(ksize)}-dimensional, got shape {tuple(sizes)}")
    dilations = [1] * len(sizes) if dilations is None else dilations
    pads, places = [], []
    for size, k, s, d in zip(sizes, ksize, strides, dilations, strict=True):
        before, after = pad_sizes(op, size, k, s, d, padding)
        pads.append((before, after))
        places.append(max((size + before + after - (k - 1) * d - 1 + s) // s, 0))
    return Windows(
        tuple(sizes), tuple(ksize), tuple(strides), tuple(pads), tuple(places), tuple(dilations)
    )


def lowest(dtype: np.dtype) -> Any:
    """The value that no maximum lets through."""
    if np.issubdtype(dtype, np.integer):
        return np.iinfo(dtype).min
    return -np.inf if dtype.kind == "f" else ml_dtypes.finfo(dtype).dtype.type(-np.inf)


def _as_slices(windows: Windows) -> bool:
    # With strides that are neither 1 nor the window's size the slices are read with gaps and more than once.
    return windows.count <= _MAX_SLICES and (windows.is_tiling or set(windows.strides) == {1})


def maximum(x: Any, windows: Windows) -> Any:
    """The maximum of each window."""
    fill = lowest(x.dtype)
    if not _as_slices(windows):
        return _axis_by_axis(x, np.asarray(fill, x.dtype), lax.max, windows)
    result = None
    for values in windows.slices(x, fill):
        result = values if result is None else jnp.maximum(result, values)
    return result


def _axis_by_axis(x: Any, start: Any, combine: Any, windows: Windows) -> Any:
    """The values of each window combined: along one axis after the other, which takes a quarter of the time that XLA
    needs for all at once."""
    for axis, (k, s, pads) in enumerate(
        zip(windows.ksize, windows.strides, windows.pads, strict=True)
    ):
        if (k, s, *pads) != (1, 1, 0, 0):
            along = [((k, s, pads) if i == axis else (1, 1, (0, 0))) for i in range(x.ndim)]
            x = lax.reduce_window(x, start, combine, *zip(*along, strict=True))
    return x


def total(x: Any, windows: Windows) -> Any:
    """The sum of each window."""
    if not _as_slices(windows):
        return _axis_by_axis(x, np.zeros((), x.dtype), lax.add, windows)
    result = None
    for values in windows.slices(x, 0):
        result = values if result is None else result + values
    return result


def add_back(dy: Any, windows: Windows) -> Any:
    """The transpose of `total`: each place's value added to all of its window."""
    if windows.is_tiling:
        return windows.untile(windows.tile(dy))
    x = jax.ShapeDtypeStruct(windows.sizes, dy.dtype)

    def windowed(x):
        return lax.reduce_window(
            x, np.zeros((), x.dtype), lax.add, windows.ksize, windows.strides, windows.pads
        )

    return jax.linear_transpose(windowed, x)(dy)[0]


def first_maximum(x: Any, y: Any, windows: Windows) -> Any:
    """For each place the number of the first offset whose value is the maximum `y`, 0 where there is none (NaN)."""
    which = jnp.zeros(windows.places, jnp.int32)
    numbered = list(enumerate(windows.slices(x, lowest(x.dtype))))
    for number, values in reversed(numbered):
        which = jnp.where(values == y, jnp.int32(number), which)
    return which


def to_maximum(dy: Any, which: Any, windows: Windows) -> Any:
    """An array of shape `sizes` with each place's value added at the offset `which` of its window."""
    zero = jnp.zeros((), dy.dtype)
    if windows.is_tiling:
        numbers = np.arange(windows.count, dtype=np.int32).reshape(
            [n for k in windows.ksize for n in (1, k)]
        )
        return windows.untile(jnp.where(windows.tile(which) == numbers, windows.tile(dy), zero))
    # Without the barrier XLA finds the maximum anew for every offset.
    which = lax.optimization_barrier(which)
    return windows.spread([jnp.where(which == i, dy, zero) for i in range(windows.count)])


def at_maximum(values: Any, which: Any, windows: Windows) -> Any:
    """For each place the one of `values` (of shape `sizes`) at the offset `which` of its window."""
    result = jnp.zeros(windows.places, values.dtype)
    for number, candidates in enumerate(windows.slices(values, 0)):
        result = jnp.where(which == number, candidates, result)
    return result


def position_of_maximum(which: Any, windows: Windows) -> list[Any]:
    """For each axis the index in the input of the offset `which` of each place's window."""
    positions, rest = [], which
    for axis in reversed(range(len(windows.sizes))):
        rest, offset = rest // windows.ksize[axis], rest % windows.ksize[axis]
        start = (
            np.arange(windows.places[axis], dtype=np.int32) * windows.strides[axis]
            - windows.pads[axis][0]
        )
        shape = [1] * len(windows.sizes)
        shape[axis] = -1
        positions.append(offset + start.reshape(shape))
    return positions[::-1]


def counts(windows: Windows) -> np.ndarray:
    """The number of values of the input (not of padding) in each window, as an array that broadcasts
    over the places."""
    result = np.ones((1,) * len(windows.sizes), np.int64)
    for axis, (size, k, s, (before, _), p) in enumerate(
        zip(
            windows.sizes, windows.ksize, windows.strides, windows.pads, windows.places, strict=True
        )
    ):
        start = np.arange(p) * s - before
        inside = np.minimum(start + k, size) - np.maximum(start, 0)
        if p and (inside != inside[0]).any():
            shape = [1] * len(windows.sizes)
            shape[axis] = -1
            result = result * inside.reshape(shape)
        elif p:
            result = result * inside[0]
    return result
