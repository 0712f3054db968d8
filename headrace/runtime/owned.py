"""Results that belong to the caller: programs' as NumPy arrays without a copy, variables' as copies."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from headrace.lowering.checks import LARGE_BYTES
from headrace.lowering.jax_adapter import ARRAY

# Types of NumPy's own; others are structures to the protocol.
_KINDS = "biufc"


class Buffer:
    """The memory of an array of JAX on the CPU, as NumPy's array protocol tells of it; lives as long as a view of it."""

    __slots__ = ("__array_interface__", "_array")

    def __init__(self, array: Any) -> None:
        self._array = array
        self.__array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.unsafe_buffer_pointer(), False),
        }


def owned(values: list[Any], place: int) -> Any:
    """A writable NumPy array of the memory of `values[place]`, if the list alone refers to that array, else the value.

    Also where copying it is quick, where it is not on a CPU, or of a type that NumPy does not have.
    """
    value = values[place]
    # JAX gives an argument itself where a result is equal to it: then the caller of the program refers to it too.
    # The list, this variable and the argument of getrefcount are three.
    if value.__class__ is not ARRAY or sys.getrefcount(value) > 3 or value.nbytes < LARGE_BYTES:
        return value
    if value.dtype.kind not in _KINDS or value.device.platform != "cpu":
        return value
    value.block_until_ready()
    return np.asarray(Buffer(value))


def is_owned(array: np.ndarray) -> bool:
    """Whether `array` came from `owned`: nobody but who holds it can see its memory."""
    return array.base.__class__ is Buffer


def apart_from(results: Sequence[Any], stored: Iterable[Any]) -> list[Any]:
    """`results`, with copies of those that are `stored`: another step may write their buffers in place, or use them up."""
    held = {id(value) for value in stored}
    return [np.array(r) if id(r) in held else r for r in results]
