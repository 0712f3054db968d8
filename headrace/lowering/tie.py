"""Values that wait: equal to what they are, but for XLA only known once another value is.

Used to compute something a second time. Left alone XLA would see that it has computed it already, or compute it again at
once, and keep it; `optimization_barrier` stops only the first on a CPU, where it is gone before buffers are planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def tied(values: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """The `values`, each to the bit, that an XLA program has only after those of `after`.

    What is known while tracing (a NumPy array) stays so; with nothing traced in `after` all values stay as they are.
    """
    zeros = [_zero(value) for value in after if isinstance(value, jax.Array) and value.size]
    if not zeros:
        return list(values)
    zero = zeros[0]
    for other in zeros[1:]:
        zero = zero | other
    return [_with(value, zero) if isinstance(value, jax.Array) else value for value in values]


def _zero(value: Any) -> Any:
    """0, from the first element of `value`: its highest bit, moved one further than the lowest place."""
    first = value.reshape(-1)[0]
    if jnp.issubdtype(first.dtype, jnp.complexfloating):
        first = first.real
    if first.dtype == jnp.bool_:
        first = first.astype(np.uint8)
    bits = lax.bitcast_convert_type(first, _UNSIGNED[first.dtype.itemsize])
    # Two shifts: XLA computes one by the full width at once, and so would find the 0.
    top = lax.shift_right_logical(bits, np.asarray(bits.dtype.itemsize * 8 - 1, bits.dtype))
    return lax.shift_right_logical(top, np.asarray(1, bits.dtype)).astype(np.uint32)


def _with(value: Any, zero: Any) -> Any:
    """`value`, with a 0 put into its bits."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return lax.complex(_with(value.real, zero), value.imag)
    if value.dtype == jnp.bool_:
        return value ^ (zero != 0)
    unsigned = _UNSIGNED[value.dtype.itemsize]
    bits = lax.bitcast_convert_type(value, unsigned) | zero.astype(unsigned)
    return lax.bitcast_convert_type(bits, value.dtype)
