"""Arrays whose elements are all going to be written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headrace.native.library import available

# Below this many elements filling costs less than a call.
_FEW_ELEMENTS = 1 << 14
_numbers = itertools.count()


def empty(shape: Sequence[int], dtype: Any) -> Any:
    """An array for a program to write: of anything at all, or of zeros where that costs nothing or nothing else is had."""
    size = 1
    for length in shape:
        size *= length
    if size < _FEW_ELEMENTS or not available():
        return jnp.zeros(shape, dtype)
    # Each call has a number: XLA would make one array of equal calls, and copy it for each who writes into it.
    call = jax.ffi.ffi_call("headrace_empty", jax.ShapeDtypeStruct(tuple(shape), dtype))
    return call(number=next(_numbers))
