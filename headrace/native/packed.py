"""Products with a matrix that a loop multiplies by in each iteration, packed once before the loop."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np

from headrace.native.library import available, kernels

# With more rows than this the kernel packs for itself in no time that shows.
_MOST_ROWS = 128
# What one thread computes in about 15 microseconds.
_FLOPS_PER_PIECE = 3e6


def packed_dot(a: Any, b: Any, transpose_b: bool) -> Any:
    """`a` [M, K] times `b` [K, N] (or [N, K]), the same matrix in all iterations of a loop; None where that is no gain.

    XLA moves the packing out of the loop, as it does with each call whose operands do not change.
    """
    if a.ndim != 2 or b.ndim != 2 or a.dtype != np.float32 or b.dtype != np.float32:
        return None
    rows, inner = a.shape
    columns = b.shape[0 if transpose_b else 1]
    if rows > _MOST_ROWS or not available():
        return None
    cores = os.cpu_count() or 1
    pieces = int(
        min(
            max(2 * rows * inner * columns / _FLOPS_PER_PIECE, 1), 2 * cores, max(columns // 128, 1)
        )
    )
    size = kernels().headrace_packed_size(rows, inner, columns, pieces)
    if size < 0:
        return None
    pack = jax.ffi.ffi_call("headrace_pack", jax.ShapeDtypeStruct((size,), b.dtype))
    packed = pack(b, rows=rows, pieces=pieces, transpose=transpose_b)
    multiply = jax.ffi.ffi_call(
        "headrace_packed_dot", jax.ShapeDtypeStruct((rows, columns), a.dtype)
    )
    return multiply(a, packed, pieces=pieces)
