"""Kernels for NumPy arrays, which no program of XLA has to do with: nothing is compiled for them.

Each has the arguments of its namesake that programs use, and gives None where no kernel here does it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from headrace.native.convolution import (
    FILTER_GRADIENT,
    FORWARD,
    INPUT_GRADIENT,
    Geometry,
    has_kernel,
    numbers_of,
)
from headrace.native.library import available, half_available, kernels

Array = np.ndarray


def convolve(x: Any, w: Any, geometry: Geometry, otherwise: Any = None) -> Array | None:
    """The convolution of `x` with the filters `w` [places..., channels / groups, features]."""
    return _apply(FORWARD, x, w, geometry.output_shape(x.shape, w.shape), geometry)


def input_gradient(
    dy: Any, w: Any, shape: Sequence[int], geometry: Geometry, otherwise: Any = None
) -> Array | None:
    """What the gradient `dy` of a convolution gives its input, of shape `shape`."""
    return _apply(INPUT_GRADIENT, dy, w, tuple(shape), geometry)


def filter_gradient(
    x: Any, dy: Any, shape: Sequence[int], geometry: Geometry, otherwise: Any = None
) -> Array | None:
    """What the gradient `dy` of a convolution of `x` gives its filters, of shape `shape`."""
    return _apply(FILTER_GRADIENT, x, dy, tuple(shape), geometry)


def _apply(
    direction: int, a: Array, b: Array, shape: tuple[int, ...], geometry: Geometry
) -> Array | None:
    if a.dtype != b.dtype or not available():
        return None
    half = a.dtype == ml_dtypes.bfloat16
    if a.dtype != np.float32 and not (half and half_available()):
        return None
    # Which of the three arrays are images: the kernels want their channels last.
    images = {FORWARD: (0, 2), INPUT_GRADIENT: (0, 2), FILTER_GRADIENT: (0, 1)}[direction]
    first = not geometry.channels_last
    if first:
        geometry = replace(geometry, channels_last=True)
        a = np.moveaxis(a, 1, -1)
        if 1 in images:
            b = np.moveaxis(b, 1, -1)
        if 2 in images:
            shape = (shape[0], *shape[2:], shape[1])
    x, w, y = {
        FORWARD: (a.shape, b.shape, shape),
        INPUT_GRADIENT: (shape, b.shape, a.shape),
        FILTER_GRADIENT: (a.shape, shape, b.shape),
    }[direction]
    if 0 in (*x, *w, *y) or not has_kernel(direction, x, w, y, geometry, half):
        return None
    a, b, out = np.ascontiguousarray(a), np.ascontiguousarray(b), np.empty(shape, a.dtype)
    operands = {
        FORWARD: (a, b, out),
        INPUT_GRADIENT: (out, b, a),
        FILTER_GRADIENT: (a, out, b),
    }[direction]
    numbers = numbers_of(direction, x, w, y, geometry, half)
    array = (ctypes.c_int64 * len(numbers))(*numbers)
    done = kernels().headrace_host_convolution(len(x) - 2, array, *map(_address, operands))
    if not done:
        return None
    return np.ascontiguousarray(np.moveaxis(out, -1, 1)) if first and 2 in images else out


def batch_norm(
    x: Array, scale: Array, offset: Array, statistics: tuple[Array, Array] | None, epsilon: float
) -> tuple[Array, Array, Array] | None:
    """`x` [..., channels] normalised with (mean, variance) of each channel: those given, else its own.

    Returns (y, mean, variance).
    """
    if any(v.dtype != np.float32 for v in (x, scale, offset)) or not x.size or not available():
        return None
    x = np.ascontiguousarray(x)
    given = statistics or (np.empty(scale.shape, np.float32),) * 2
    mean, variance = (np.array(v, np.float32) for v in given)
    y = np.empty_like(x)
    vectors = (np.ascontiguousarray(scale), np.ascontiguousarray(offset), mean, variance)
    rows, channels = x.size // x.shape[-1], x.shape[-1]
    kernels().headrace_host_batch_norm(
        *map(_address, (x, *vectors, y)), rows, channels, statistics is None, epsilon
    )
    return y, mean, variance


def batch_norm_gradient(
    dy: Array, x: Array, scale: Array, mean: Array, variance: Array, training: bool, epsilon: float
) -> tuple[Array, Array, Array] | None:
    """The gradients (dx, dscale, doffset) of `batch_norm`. training: mean and variance are those of `x`."""
    vectors = (scale, mean, variance)
    if any(v.dtype != np.float32 for v in (dy, x, *vectors)) or not x.size or not available():
        return None
    dy, x = np.ascontiguousarray(dy), np.ascontiguousarray(x)
    dx, dscale, doffset = np.empty_like(x), np.empty_like(scale), np.empty_like(scale)
    operands = (dy, x, *map(np.ascontiguousarray, vectors), dx, dscale, doffset)
    rows, channels = x.size // x.shape[-1], x.shape[-1]
    kernels().headrace_host_batch_norm_gradient(
        *map(_address, operands), rows, channels, training, epsilon
    )
    return dx, dscale, doffset


def _address(array: Array) -> int:
    return array.ctypes.data
