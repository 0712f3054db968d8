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
    pieces = pieces_of(rows, inner, columns)
    if packed_size(rows, inner, columns, pieces) < 0:
        return None
    multiply = jax.ffi.ffi_call(
        "headrace_packed_dot", jax.ShapeDtypeStruct((rows, columns), a.dtype)
    )
    return multiply(a, pack(b, rows, pieces, transpose_b), pieces=pieces)


def pieces_of(rows: int, inner: int, columns: int) -> int:
    """Into how many parts the columns of the matrix of such a product are cut."""
    most = min(2 * (os.cpu_count() or 1), max(columns // 128, 1))
    return int(min(max(2 * rows * inner * columns / _FLOPS_PER_PIECE, 1), most))


def packed_size(rows: int, inner: int, columns: int, pieces: int) -> int:
    """How many floats the packed matrix takes; -1 where there is no kernel."""
    return kernels().headrace_packed_size(rows, inner, columns, pieces)


def pack(b: Any, rows: int, pieces: int, transpose: bool) -> Any:
    """`b` [K, N] (or [N, K], transposed first) in the order that products of this many rows want."""
    inner, columns = b.shape[::-1] if transpose else b.shape
    size = packed_size(rows, inner, columns, pieces)
    call = jax.ffi.ffi_call("headrace_pack", jax.ShapeDtypeStruct((size,), b.dtype))
    return call(b, rows=rows, pieces=pieces, transpose=transpose)


def host_pack(b: np.ndarray, rows: int, pieces: int, transpose: bool) -> np.ndarray:
    """As `pack`, of a NumPy array."""
    b = np.ascontiguousarray(b)
    inner, columns = b.shape[::-1] if transpose else b.shape
    out = np.empty(packed_size(rows, inner, columns, pieces), np.float32)
    kernels().headrace_host_pack(
        b.ctypes.data, out.ctypes.data, rows, inner, columns, pieces, transpose
    )
    return out
