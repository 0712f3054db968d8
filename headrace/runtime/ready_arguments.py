"""Arguments that a program need not wait for.

JAX copies large NumPy arrays to its device in other threads, and a program that has to wait for one runs in another thread
too: see `jax_adapter.run_where_called` for what that costs. Where the copy is made here, nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from headrace.lowering.jax_adapter import x64
from headrace.runtime.resources import Cell

# Smaller ones XLA copies at once, and those that begin at a multiple of so many bytes not at all.
_LARGE = 100 << 10
_ALIGNMENT = 64


def ready_input(value: Any) -> Any:
    """`value`, or a copy that XLA takes as it is."""
    if (
        value.__class__ is not np.ndarray
        or value.nbytes < _LARGE
        or (_place(value) == 0 and value.flags.c_contiguous)
    ):
        return value
    return aligned_copy(value)


def aligned_copy(value: np.ndarray) -> np.ndarray:
    """A copy of `value` that XLA takes as it is."""
    return _copied(value, 0)


def _place(value: np.ndarray) -> int:
    """Where the array begins: how many bytes behind a multiple of the alignment."""
    return value.__array_interface__["data"][0] % _ALIGNMENT


def _copied(value: np.ndarray, place: int) -> np.ndarray:
    """A copy that begins at that place."""
    memory = np.empty(value.nbytes + 2 * _ALIGNMENT, np.uint8)
    start = -_place(memory) % _ALIGNMENT + place
    copy = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    np.copyto(copy, value)
    return copy


def _on_device(value: Any) -> jax.Array:
    """A copy on JAX's default device, compiling nothing: `jnp.array` compiles a program for each shape."""
    value = np.asarray(value)
    if value.nbytes and _place(value) == 0:
        # XLA would take the memory as it is, which may be a constant's, or a caller's.
        value = _copied(value, value.itemsize)
    return jax.device_put(value)


def to_device(cells: Iterable[Cell]) -> bool:
    """Moves what NumPy holds of these variables to JAX's default device, and waits until it is there; whether it was any.

    Programs would copy it at every call. What is in a bundle stays there: it is small.
    """
    moved = [cell for cell in cells if isinstance(cell.held, (np.ndarray, np.generic))]
    if not moved:
        return False
    with x64():
        for cell in moved:
            cell.move(_on_device(cell.value))
    jax.block_until_ready([cell.value for cell in moved])
    return True


def wait_for(written: Sequence[Any]) -> None:
    """Waits for a program that only writes variables: the caller may change what was fed, which the program may look at.

    It is done already where programs run in the thread that calls them.
    """
    if written:  # one for all: they come at once
        written[0].block_until_ready()
