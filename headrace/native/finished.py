"""Convolutions that one call computes together with what follows them: factors, shifts, a sum, bounds.

`convolve` stands for the function of that name that computes: what it returns is yet to be computed, and grows by `times`,
`plus` and `between`, each of which gives None where the call cannot do it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.native import convolution
from headrace.native.convolution import FORWARD, Geometry, Otherwise, chosen
from headrace.native.kept import number_in_program

_NOTHING = np.zeros((0,), np.float32)
_NO_NUMBERS = np.zeros((0,), np.int64)

# A filter is rearranged at about a nanosecond a number, and used in a hundredth of that at each place of the output: with
# more places than these, or few numbers, it does not pay to keep it so.
_MOST_PLACES, _LEAST_NUMBERS = 8192, 4096


@dataclass(frozen=True)
class Unfinished:
    """The images min(max(convolution of x and w * scale + shift + residual, lowest), highest), yet to be computed.

    shape: theirs, channels last. scale, shift: of each channel. residual: of that shape. None: there is none.
    """

    x: Any
    w: Any
    shape: tuple[int, ...]
    geometry: Geometry
    scale: Any = None
    shift: Any = None
    residual: Any = None
    lowest: float = -math.inf
    highest: float = math.inf

    dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def _is_bounded(self) -> bool:
        return self.lowest > -math.inf or self.highest < math.inf

    def times(self, factor: Any) -> Unfinished | None:
        """The product with `factor`, which has one number for each channel."""
        vector = self._of_channels(factor)
        if vector is None or self._is_bounded or self.residual is not None:
            return None
        scale = vector if self.scale is None else self.scale * vector
        return replace(self, scale=scale, shift=None if self.shift is None else self.shift * vector)

    def plus(self, term: Any) -> Unfinished | None:
        """The sum with `term`, which has one number for each channel, or is as large as this."""
        if self._is_bounded or self.residual is not None or term.dtype != self.dtype:
            return None
        vector = self._of_channels(term)
        if vector is not None:
            return replace(self, shift=vector if self.shift is None else self.shift + vector)
        return replace(self, residual=term) if tuple(term.shape) == self.shape else None

    def between(self, lowest: float, highest: float = math.inf) -> Unfinished | None:
        """The numbers that are below `lowest` or above `highest` replaced by these."""
        return None if self._is_bounded else replace(self, lowest=lowest, highest=highest)

    def _of_channels(self, value: Any) -> Any:
        """`value` as a vector over the channels, None where it is something else."""
        shape, channels = tuple(value.shape), self.shape[-1]
        one_each = shape[-1:] == (channels,) and math.prod(shape) == channels
        if not one_each or len(shape) > self.ndim or value.dtype != self.dtype:
            return None
        return value.reshape(channels)

    def finish(self) -> Any:
        """The images."""
        if not self._is_bounded and all(v is None for v in (self.scale, self.shift, self.residual)):
            return convolution.convolve(self.x, self.w, self.geometry)
        scale = _NOTHING if self.scale is None else self.scale
        shift = _NOTHING if self.shift is None else self.shift
        residual = _NOTHING if self.residual is None else self.residual
        numbers, place = self._number_of_filter()
        known = self.shape, self.geometry, self.lowest, self.highest, place
        return _finished(*known, self.x, self.w, scale, shift, residual, numbers)

    def _number_of_filter(self) -> tuple[Any, int]:
        """The argument of the program that has the number of the filter, and where in it (-1: nowhere)."""
        places = math.prod(self.shape[:-1])
        pays = places <= _MOST_PLACES and math.prod(self.w.shape) >= _LEAST_NUMBERS
        found = number_in_program(self.w) if pays else None
        return found or (_NO_NUMBERS, -1)


def convolve(x: Any, w: Any, geometry: Geometry, otherwise: Otherwise = None) -> Unfinished | None:
    """What `native.convolve` computes of the same arguments; None where no kernel here does it."""
    shape = geometry.output_shape(x.shape, w.shape)
    if x.dtype != np.float32 or not chosen(FORWARD, x, w, shape, geometry):
        return None
    return Unfinished(x, w, shape, geometry)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3, 4))
def _finished(
    shape: tuple[int, ...],
    geometry: Geometry,
    lowest: float,
    highest: float,
    place: int,
    x: Any,
    w: Any,
    scale: Any,
    shift: Any,
    residual: Any,
    numbers: Any,
) -> Any:
    before, after = zip(*geometry.padding, strict=True)
    call = jax.ffi.ffi_call(
        "headrace_finished_convolution",
        jax.ShapeDtypeStruct(shape, np.float32),
        vmap_method="sequential",
    )
    return call(
        *(x, w, scale, shift, residual, numbers),
        groups=np.int64(geometry.groups),
        strides=np.array(geometry.strides, np.int64),
        dilations=np.array(geometry.dilations, np.int64),
        pads_before=np.array(before, np.int64),
        pads_after=np.array(after, np.int64),
        lowest=np.float32(lowest),
        highest=np.float32(highest),
        place=np.int64(place),
    )


@_finished.defjvp
def _finished_jvp(
    shape: tuple[int, ...],
    geometry: Geometry,
    lowest: float,
    highest: float,
    place: int,
    primals: Any,
    tangents: Any,
) -> Any:
    # As with `native.convolve`: for whoever differentiates a rule by JAX.
    def in_parts(x: Any, w: Any, scale: Any, shift: Any, residual: Any) -> Any:
        y = convolution.reference(x, w, geometry)
        y = y * scale if scale.size else y
        for term in (shift, residual):
            y = y + term if term.size else y
        return jnp.clip(y, lowest, highest)

    _, tangent = jax.jvp(in_parts, primals[:-1], tangents[:-1])
    return _finished(shape, geometry, lowest, highest, place, *primals), tangent
