"""Random numbers from the Philox stream."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from headrace.native.library import available, kernels

# Fewer numbers than this are made by the fusion that uses them.
_LEAST_NUMBERS = 4096


def random_numbers(state: Any, size: int, normal: bool, stride: int = 1) -> Any:
    """`size` float32 numbers from the blocks after `state`, four from each: [size], or None where no kernel makes them.

    state: uint32[6], traced, or of NumPy, which then the result is too. normal: of mean 0 and deviation 1, else uniform in
    [0, 1). stride: from block to block.
    """
    if size < _LEAST_NUMBERS or not available() or not _has_kernel():
        return None
    if isinstance(state, np.ndarray):
        state, numbers = np.ascontiguousarray(state, np.uint32), np.empty(size, np.float32)
        addresses = state.ctypes.data, numbers.ctypes.data
        kernels().headrace_host_random(*addresses, size, normal, stride)
        return numbers
    result = jax.ShapeDtypeStruct((size,), np.float32)
    call = jax.ffi.ffi_call("headrace_random", result, vmap_method="sequential")
    return call(state, normal=normal, stride=np.int64(stride))


def truncated_numbers(state: np.ndarray, groups: int, stride: int, most: float) -> Any:
    """Four float32 normals less than `most` from 0 from each of `groups` stretches of `stride` blocks: [groups, 4].

    What is out of range is drawn again from the stretch's next blocks. None where no kernel makes them.
    """
    if 4 * groups < _LEAST_NUMBERS or not available() or not _has_kernel():
        return None
    state, numbers = np.ascontiguousarray(state, np.uint32), np.empty((groups, 4), np.float32)
    kernels().headrace_host_truncated(state.ctypes.data, numbers.ctypes.data, groups, stride, most)
    return numbers


@functools.cache
def _has_kernel() -> bool:
    """Whether the processor has AVX-512."""
    return bool(kernels().headrace_has_random())
