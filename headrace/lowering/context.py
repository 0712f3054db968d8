"""Which step is running in this thread: rules of the host that need the session's resources find them here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class _Current(threading.local):
    step: Any = None


_current = _Current()


@contextlib.contextmanager
def running(step: Any) -> Iterator[None]:
    """A block in which `step` is the running one of this thread."""
    old, _current.step = _current.step, step
    try:
        yield
    finally:
        _current.step = old


def current_step() -> Any:
    """The step that this thread is running, or None."""
    return _current.step
