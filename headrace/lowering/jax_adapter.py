"""The parts of JAX that are not its stable API, each in one place with what it stands for.

Checked with jax 0.10; a release that moves one of them needs a change here and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from jax._src import array as _array
from jax._src import config as _config
from jax._src import core as _core

# The class of concrete arrays: `value.__class__ is ARRAY` costs a tenth of `isinstance(value, jax.Array)`.
ARRAY: type = _array.ArrayImpl

# Entering 64-bit mode by its context manager costs 1.2 microseconds of each run, swapping the thread's setting 0.2.
swap_x64 = _config.enable_x64.swap_local
restore_x64 = _config.enable_x64.set_local


def current_trace() -> Any:
    """The trace that records what is computed now."""
    return _core.trace_ctx.trace


def trace_of(tracer: Any) -> Any:
    """The trace that a tracer belongs to."""
    return tracer._trace


@contextlib.contextmanager
def x64() -> Iterator[None]:
    """A block in which int64 and float64 are real (JAX's own default stays as the user set it)."""
    with jax.enable_x64(True):
        yield
