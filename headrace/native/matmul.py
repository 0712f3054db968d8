"""Matrix products."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax import lax

from headrace.native.library import available, half_available, kernels
from headrace.native.noted import note
from headrace.native.packed import packed_dot

# Fewer multiplications than this cost about what the call does; a product with a vector waits for memory either way.
_LEAST_MULTIPLICATIONS = {np.float32: 1 << 19, ml_dtypes.bfloat16: 1 << 16, np.float16: 1 << 16}
_LEAST_SIZE = 4

_TARGETS = {np.float32: "headrace_dot", ml_dtypes.bfloat16: "headrace_half_dot"}
_HOST_FUNCTIONS = {
    np.float32: "headrace_host_dot",
    ml_dtypes.bfloat16: "headrace_host_half_dot",
}


def dot(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    b_is_invariant: bool = False,
) -> Any:
    """The product of the matrices in the last two axes, transposed first where asked.

    a: [B..., M, K] (or [B..., K, M]).  b: [B..., K, N] (or [B..., N, K]), of the same type. b_is_invariant: in a loop, and
    `b` is the same in all its iterations.
    Returns [B..., M, N] of that type.
    """
    if not (_is_worth_it(a, b, transpose_a, transpose_b) and available()):
        return note(_xla_dot(a, b, transpose_a, transpose_b))
    if a.dtype != np.float32 and not has_kernels_for(a.dtype):
        # Kernels for float32 between two conversions, which is what XLA does too, with slower ones.
        wide = dot(
            a.astype(np.float32), b.astype(np.float32), transpose_a, transpose_b, b_is_invariant
        )
        return note(wide.astype(a.dtype))
    if b_is_invariant and not transpose_a:
        product = packed_dot(a, b, bool(transpose_b))
        if product is not None:
            return note(product)
    return note(_native_dot(a, b, bool(transpose_a), bool(transpose_b)))


def host_dot(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool) -> Any:
    """As `dot`, of NumPy arrays with the same leading axes; None where NumPy had better do it.

    NumPy's own library shares the work between threads that wait for one another in a busy loop, and takes a hundred times
    as long when the machine has other work.
    """
    if a.ndim < 2 or a.shape[:-2] != b.shape[:-2]:
        return None
    if not _is_worth_it(a, b, transpose_a, transpose_b) or not available():
        return None
    if not has_kernels_for(a.dtype):
        wide = host_dot(a.astype(np.float32), b.astype(np.float32), transpose_a, transpose_b)
        return None if wide is None else wide.astype(a.dtype)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    rows, columns = _sizes(a, b, transpose_a, transpose_b)
    out = np.empty((*a.shape[:-2], rows, columns), a.dtype)
    batch, inner = math.prod(a.shape[:-2]), a.shape[-2 if transpose_a else -1]
    arrays = (x.ctypes.data for x in (a, b, out))
    multiply = getattr(kernels(), _HOST_FUNCTIONS[a.dtype.type])
    multiply(*arrays, batch, rows, columns, inner, transpose_a, transpose_b)
    return out


def has_kernels_for(dtype: Any) -> bool:
    """Whether the kernels, which are available, compute in this type and are fast."""
    kind = np.dtype(dtype).type
    return kind is np.float32 or (kind is ml_dtypes.bfloat16 and half_available())


def _is_worth_it(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> bool:
    least = _LEAST_MULTIPLICATIONS.get(np.dtype(a.dtype).type)
    if least is None or a.dtype != b.dtype:
        return False
    inner = a.shape[-2 if transpose_a else -1]
    rows, columns = _sizes(a, b, transpose_a, transpose_b)
    if min(rows, columns, inner) < _LEAST_SIZE:
        return False
    return a.size * columns >= least


def _sizes(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> tuple[int, int]:
    return a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1]


def _xla_dot(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    rank = a.ndim
    batch = tuple(range(rank - 2))
    contract = (rank - 2 if transpose_a else rank - 1, rank - 1 if transpose_b else rank - 2)
    return lax.dot_general(
        a, b, (((contract[0],), (contract[1],)), (batch, batch)), preferred_element_type=a.dtype
    )


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _native_dot(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    shape = a.shape[:-2] + _sizes(a, b, transpose_a, transpose_b)
    call = jax.ffi.ffi_call(
        _TARGETS[np.dtype(a.dtype).type],
        jax.ShapeDtypeStruct(shape, a.dtype),
        vmap_method="broadcast_all",
    )
    return call(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


@_native_dot.defjvp
def _native_dot_jvp(transpose_a: bool, transpose_b: bool, primals: Any, tangents: Any) -> Any:
    # The gradients of graphs are operations of their own; this is for whoever differentiates a rule by JAX.
    (a, b), (da, db) = primals, tangents
    flags = transpose_a, transpose_b
    return _native_dot(a, b, *flags), _xla_dot(da, b, *flags) + _xla_dot(a, db, *flags)
