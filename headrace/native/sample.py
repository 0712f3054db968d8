"""Draws of class numbers for sampled losses, in a program: only where the kernels are `available`."""

from __future__ import annotations

import enum
from typing import Any

import jax
import numpy as np


class Distribution(enum.IntEnum):
    """What classes are drawn by; the kernel's own numbers."""

    UNIFORM = 0
    LOG_UNIFORM = 1
    WEIGHTED = 2
    ALIAS = 3


def sample(
    state: Any,
    count: int,
    unique: bool,
    distribution: Distribution,
    classes: int,
    counts: Any = None,
    share: Any = None,
    alias: Any = None,
) -> tuple[Any, Any, Any]:
    """`count` class numbers (distinct ones if `unique`), how many were drawn for them, and the state after them.

    state: uint32[6], of a generator. counts: uint32[classes], for WEIGHTED. share, alias: float32[classes] and
    int64[classes], for ALIAS. Returns int64[count], int64[] and uint32[6]. The number of draws is -1, after many, where
    too few classes have a probability.
    """
    tables = [
        np.zeros(0, kind) if table is None else table
        for table, kind in ((counts, np.uint32), (share, np.float32), (alias, np.int64))
    ]
    results = [
        jax.ShapeDtypeStruct((count,), np.int64),
        jax.ShapeDtypeStruct((), np.int64),
        jax.ShapeDtypeStruct((6,), np.uint32),
    ]
    call = jax.ffi.ffi_call("headrace_sample", results)
    sampled, tries, after = call(
        state,
        *tables,
        kind=np.int64(distribution),
        classes=np.int64(classes),
        unique=unique,
    )
    return sampled, tries, after
