"""Changing some rows of an array, with NumPy or in a traced program, where it is done in place if the buffer is donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Where = tuple[Any, ...]
"""Row numbers along the first axes, one array of them for each axis."""


def updated(kind: str, rows: Any, where: Where, updates: Any) -> Any:
    """`rows` with `updates` (or a scalar for all) written, added, ... at `where`; a row may be named more than once.

    kind: Update, Add, Sub, Mul, Div, Min, Max. Rows outside of `rows` are left alone when traced.
    """
    in_place, traced = _KINDS[kind]
    if all(isinstance(v, (np.ndarray, np.generic)) for v in (rows, updates, *where)):
        rows = np.array(rows)
        in_place(rows, where, updates)
        return rows
    if where and not np.prod(where[0].shape, dtype=np.int64):
        return rows
    return traced(jnp.asarray(rows), where, updates)


def outside(rows: Any, where: Where, left_out: Any) -> Where:
    """`where`, moved outside of `rows` if `left_out` (a traced bool) is true."""
    first = jnp.where(left_out, jnp.asarray(rows.shape[0], where[0].dtype), where[0])
    return (first, *where[1:])


def _numpy_update(ufunc: Any) -> Callable[..., None]:
    def update(rows: np.ndarray, where: Where, updates: np.ndarray) -> None:
        if ufunc is None:
            rows[where] = updates
        else:
            ufunc.at(rows, where, updates)

    return update


def _divide_in_place(rows: np.ndarray, where: Where, updates: np.ndarray) -> None:
    """Divides one row after the other; integers are cut off."""
    updates = np.broadcast_to(updates, rows[where].shape)
    count = int(np.prod(where[0].shape, dtype=np.int64))
    columns = [column.reshape(-1) for column in where]
    updates = updates.reshape(count, *updates.shape[where[0].ndim :])
    for i in range(count):
        at = tuple(column[i] for column in columns)
        if rows.dtype.kind in "iu":
            quotient = np.abs(rows[at]) // np.abs(updates[i])
            rows[at] = (quotient * np.sign(rows[at]) * np.sign(updates[i])).astype(rows.dtype)
        else:
            rows[at] = rows[at] / updates[i]


def _divide_traced(rows: Any, where: Where, updates: Any) -> Any:
    """As `_divide_in_place`, as a loop of the program."""
    count = int(np.prod(where[0].shape, dtype=np.int64))
    row_shape = rows.shape[len(where) :]
    columns = [jnp.asarray(column).reshape(-1) for column in where]
    updates = jnp.broadcast_to(updates, (*where[0].shape, *row_shape)).reshape(count, *row_shape)

    def divide_row(i: Any, rows: Any) -> Any:
        at = tuple(column[i] for column in columns)
        return rows.at[at].set(
            jax.lax.div(rows[at], updates[i]), mode="drop", wrap_negative_indices=False
        )

    return jax.lax.fori_loop(0, count, divide_row, rows)


def _traced(method: str) -> Callable[..., Any]:
    def update(rows: Any, where: Where, updates: Any) -> Any:
        change = getattr(rows.at[where], method)
        return change(updates, mode="drop", wrap_negative_indices=False)

    return update


_KINDS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    "Update": (_numpy_update(None), _traced("set")),
    "Add": (_numpy_update(np.add), _traced("add")),
    "Sub": (_numpy_update(np.subtract), _traced("subtract")),
    "Mul": (_numpy_update(np.multiply), _traced("multiply")),
    "Div": (_divide_in_place, _divide_traced),
    "Min": (_numpy_update(np.minimum), _traced("min")),
    "Max": (_numpy_update(np.maximum), _traced("max")),
}
