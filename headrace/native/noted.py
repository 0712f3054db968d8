"""Which values are products and convolutions while a program is traced: arrays in memory, computed once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class _Active(threading.local):
    results: list[Any] | None = None


_active = _Active()


@contextlib.contextmanager
def results() -> Iterator[list[Any]]:
    """A block in which the products and convolutions that this thread traces are collected."""
    before, found = _active.results, []
    _active.results = found
    try:
        yield found
    finally:
        _active.results = before


def note(result: Any) -> Any:
    """Notes that `result` is one, and returns it."""
    if _active.results is not None:
        _active.results.append(result)
    return result
