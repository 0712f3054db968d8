"""Row numbers that point outside a tensor: TensorFlow's error, for values known or traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from headrace.lowering import checks


def _array_module(*values: Any) -> Any:
    return np if all(isinstance(v, (np.ndarray, np.generic)) for v in values) else jnp


def _first_bad(bad: Any, xp: Any) -> tuple[Any, list[Any]]:
    """The flat position of the first true element and its position along each axis."""
    flat = xp.argmax(bad.reshape(-1))
    return flat, list(xp.unravel_index(flat, bad.shape)) if bad.ndim else []


def _position(rank: int) -> str:
    return f"[{','.join(['{}'] * rank)}]" if rank else ""


def padding_row(kind: np.dtype) -> Any:
    """The row number that stands for padding: no row has it."""
    return np.iinfo(kind).max


def check_rows(op: Any, indices: Any, limit: int, padded: bool = False) -> None:
    """Makes the run fail where an element of `indices` is not in [0, limit), nor padding if `padded` is set."""
    if indices.size == 0:
        return
    xp = _array_module(indices)
    bad = xp.logical_or(indices < 0, indices >= limit)
    if padded:
        bad = xp.logical_and(bad, indices != padding_row(indices.dtype))
    flat, where = _first_bad(bad, xp)
    checks.fail_if(
        op,
        xp.any(bad),
        f"indices{_position(len(where))} = {{}} is not in [0, {limit})",
        *where,
        indices.reshape(-1)[flat],
    )


def check_positions(op: Any, indices: Any, shape: Sequence[int], what: str = "shape") -> None:
    """Makes the run fail where a row of `indices` ([..., depth]) is not a position in the first axes of `shape`."""
    depth = indices.shape[-1]
    if indices.size == 0:
        return
    xp = _array_module(indices)
    limits = np.asarray(shape[:depth], dtype=indices.dtype)
    bad = xp.any(xp.logical_or(indices < 0, indices >= limits), axis=-1)
    flat, where = _first_bad(bad, xp)
    row = indices.reshape(-1, depth)[flat]
    sizes = ",".join(str(s) for s in shape)
    checks.fail_if(
        op,
        xp.any(bad),
        f"indices{_position(len(where))} = [{', '.join(['{}'] * depth)}] does not index into {what} [{sizes}]",
        *where,
        *[row[i] for i in range(depth)],
    )
