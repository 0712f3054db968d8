"""Convolutions of images and volumes, and the gradients of their inputs and filters."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax import lax

from headrace.native.library import available, half_available, kernels
from headrace.native.noted import note

FORWARD, INPUT_GRADIENT, FILTER_GRADIENT = range(3)

# Fewer multiplications than this cost about what the call does.
_LEAST_MULTIPLICATIONS = 1 << 18

# The kernels compute input gradients for blocks of 16 channels: with few channels and large windows most is for nothing.
_FEW_CHANNELS, _LARGE_WINDOW = 8, 16


# Types of 16 bits: the kernels compute in them, or in float32 between two conversions.
_HALVES = (ml_dtypes.bfloat16, np.float16)

Otherwise = Callable[[], Any] | None


@dataclass(frozen=True)
class Geometry:
    """How a window moves over its input: one entry for each spatial axis, `padding` in pairs (before, after).

    groups: into how many parts the channels are cut, each with filters of its own.
    channels_last: [batch, places..., channels], else [batch, channels, places...].
    """

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    groups: int = 1
    channels_last: bool = True

    @property
    def image_axes(self) -> tuple[int, ...]:
        """The axes of batch, channels and places."""
        n = len(self.strides)
        return (0, n + 1, *range(1, n + 1)) if self.channels_last else tuple(range(n + 2))

    def output_shape(self, x: Sequence[int], w: Sequence[int]) -> tuple[int, ...]:
        """The shape of the convolution of `x` with `w`."""
        axes = self.image_axes
        shape = list(x)
        shape[axes[1]] = w[-1]
        for i, axis in enumerate(axes[2:]):
            room = x[axis] + sum(self.padding[i]) - (w[i] - 1) * self.dilations[i] - 1
            shape[axis] = max(room // self.strides[i] + 1, 0)
        return tuple(shape)


def convolve(x: Any, w: Any, geometry: Geometry, otherwise: Otherwise = None) -> Any:
    """The convolution of `x` with the filters `w` [places..., channels / groups, features], in the type of `x`.

    otherwise: gives the result where no kernel here does; without it XLA's convolution.
    """
    shape = geometry.output_shape(x.shape, w.shape)
    return _apply(FORWARD, x, w, shape, geometry, otherwise)


def input_gradient(
    dy: Any, w: Any, shape: Sequence[int], geometry: Geometry, otherwise: Otherwise = None
) -> Any:
    """What the gradient `dy` of a convolution gives its input, of shape `shape`."""
    return _apply(INPUT_GRADIENT, dy, w, tuple(shape), geometry, otherwise)


def filter_gradient(
    x: Any, dy: Any, shape: Sequence[int], geometry: Geometry, otherwise: Otherwise = None
) -> Any:
    """What the gradient `dy` of a convolution of `x` gives its filters, of shape `shape`."""
    return _apply(FILTER_GRADIENT, x, dy, tuple(shape), geometry, otherwise)


def _apply(
    direction: int,
    a: Any,
    b: Any,
    shape: tuple[int, ...],
    geometry: Geometry,
    otherwise: Otherwise,
) -> Any:
    if chosen(direction, a, b, shape, geometry):
        return note(_native(direction, shape, geometry, a, b))
    if a.dtype in _HALVES and b.dtype == a.dtype:
        # Kernels for float32 between two conversions, which is what XLA does too, with slower ones.
        wide = a.astype(np.float32), b.astype(np.float32)
        if chosen(direction, *wide, shape, geometry):
            return note(_native(direction, shape, geometry, *wide).astype(a.dtype))
    return note(otherwise() if otherwise else _by_xla(direction, shape, geometry, a, b))


def reference(x: Any, w: Any, geometry: Geometry) -> Any:
    """As `convolve`, by XLA."""
    return _by_xla(FORWARD, geometry.output_shape(x.shape, w.shape), geometry, x, w)


def chosen(direction: int, a: Any, b: Any, shape: tuple[int, ...], geometry: Geometry) -> bool:
    """Whether a kernel here computes the result, of shape `shape`, from the operands of a direction."""
    x, w, y = _images_and_filter(direction, tuple(a.shape), tuple(b.shape), shape)
    return (
        a.dtype == b.dtype
        and (a.dtype == np.float32 or (a.dtype == ml_dtypes.bfloat16 and half_available()))
        and _is_worth_it(direction, x, w, y, geometry)
        and available()
        and has_kernel(direction, x, w, y, geometry, a.dtype == ml_dtypes.bfloat16)
    )


def _images_and_filter(
    direction: int, first: tuple[int, ...], second: tuple[int, ...], result: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """The shapes of input, filter and output, from those of the operands of a direction and of its result."""
    return {
        FORWARD: (first, second, result),
        INPUT_GRADIENT: (result, second, first),
        FILTER_GRADIENT: (first, result, second),
    }[direction]


def _is_worth_it(
    direction: int, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], geometry: Geometry
) -> bool:
    if not geometry.channels_last or 0 in x + w + y:
        return False
    if math.prod(y) * math.prod(w[:-1]) < _LEAST_MULTIPLICATIONS:
        return False
    if direction != INPUT_GRADIENT:
        return True
    if geometry.groups > 1:
        # The kernel of depthwise convolutions reads all of a window at each place of the input, strides or not.
        return w[-2] > 1 or set(geometry.strides) == {1}
    return w[-2] >= _FEW_CHANNELS or math.prod(w[:-2]) < _LARGE_WINDOW


@functools.lru_cache(maxsize=4096)
def has_kernel(
    direction: int,
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    geometry: Geometry,
    half: bool = False,
) -> bool:
    """Whether oneDNN has a kernel, and not only its reference implementation. half: for bfloat16, and fast."""
    for k, dilation, pads in zip(w, geometry.dilations, geometry.padding, strict=False):
        # Windows that see nothing but padding: some of its kernels for input gradients are wrong there.
        if max(pads) > (k - 1) * dilation:
            return False
    numbers = numbers_of(direction, x, w, y, geometry, half)
    array = (ctypes.c_int64 * len(numbers))(*numbers)
    return bool(kernels().headrace_has_convolution(len(x) - 2, array))


def numbers_of(
    direction: int,
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    geometry: Geometry,
    half: bool = False,
) -> list[int]:
    """A convolution as the kernels are told of it."""
    before, after = zip(*geometry.padding, strict=True)
    parts = (x, w, y, geometry.strides, geometry.dilations, before, after)
    return [half, direction, geometry.groups, *(n for part in parts for n in part)]


def _by_xla(direction: int, shape: tuple[int, ...], geometry: Geometry, a: Any, b: Any) -> Any:
    image = geometry.image_axes
    n = len(geometry.strides)

    def forward(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x,
            w,
            geometry.strides,
            geometry.padding,
            rhs_dilation=geometry.dilations,
            dimension_numbers=lax.ConvDimensionNumbers(image, (n + 1, n, *range(n)), image),
            feature_group_count=geometry.groups,
        )

    # A convolution is linear in its input and in its filter.
    wanted = jax.ShapeDtypeStruct(shape, a.dtype)
    if direction == INPUT_GRADIENT:
        return jax.linear_transpose(lambda x: forward(x, b), wanted)(a)[0]
    if direction == FILTER_GRADIENT:
        return jax.linear_transpose(lambda w: forward(a, w), wanted)(b)[0]
    return forward(a, b)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _native(direction: int, shape: tuple[int, ...], geometry: Geometry, a: Any, b: Any) -> Any:
    before, after = zip(*geometry.padding, strict=True)
    call = jax.ffi.ffi_call(
        "headrace_convolution", jax.ShapeDtypeStruct(shape, a.dtype), vmap_method="sequential"
    )
    return call(
        a,
        b,
        direction=np.int64(direction),
        groups=np.int64(geometry.groups),
        strides=np.array(geometry.strides, np.int64),
        dilations=np.array(geometry.dilations, np.int64),
        pads_before=np.array(before, np.int64),
        pads_after=np.array(after, np.int64),
    )


@_native.defjvp
def _native_jvp(
    direction: int, shape: tuple[int, ...], geometry: Geometry, primals: Any, tangents: Any
) -> Any:
    # The gradients of graphs are operations of their own; this is for whoever differentiates a rule by JAX.
    (a, b), (da, db) = primals, tangents
    known = direction, shape, geometry
    return _native(*known, a, b), _by_xla(*known, da, b) + _by_xla(*known, a, db)
