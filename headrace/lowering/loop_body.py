"""What is the same in all iterations of the loop whose body is being traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax

from headrace.lowering import jax_adapter

_local = threading.local()


@contextlib.contextmanager
def traced() -> Iterator[None]:
    """The block in which the body of a loop is traced, by the function that JAX calls for that."""
    before = getattr(_local, "trace", None)
    _local.trace = jax_adapter.current_trace()
    try:
        yield
    finally:
        _local.trace = before


def is_invariant(value: Any) -> bool:
    """Whether `value` comes from outside the loop that is being traced. False outside loops, and in a branch inside one."""
    trace = getattr(_local, "trace", None)
    if trace is None or jax_adapter.current_trace() is not trace:
        return False
    return not isinstance(value, jax.core.Tracer) or jax_adapter.trace_of(value) is not trace
