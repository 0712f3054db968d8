"""Which step is running in this thread: rules of the host that need the session's resources find them here.

Whatever may take any time asks here too: it is called so that the run can be left (the session is closed, time is up).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class Run(Protocol):
    """A run of a step, as the rules of its operations see it."""

    def check(self) -> None:
        """Raises the error with which the run has ended already, if it has."""
        ...

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls a function that may take any time."""
        ...


class _Current(threading.local):
    step: Any = None
    run: Run | None = None


_current = _Current()


@contextlib.contextmanager
def running(step: Any, run: Run | None = None) -> Iterator[None]:
    """A block in which `step` is the running one of this thread; run: which run of it, itself where it has but one."""
    current = _current
    old = current.step, current.run
    current.step, current.run = step, step if run is None else run
    try:
        yield
    finally:
        current.step, current.run = old


def current_step() -> Any:
    """The step that this thread is running, or None."""
    return _current.step


def current_run() -> Run | None:
    """The run that this thread works for, or None."""
    return _current.run


def call_out(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` gives, which may take any time: the run can be left meanwhile.

    Raises CancelledError, DeadlineExceededError: it was left.
    """
    run = _current.run
    return function(*arguments) if run is None else run.call_out(function, arguments)


def check() -> None:
    """Raises the error with which this thread's run has ended already: what loops on the host asks in each iteration."""
    run = _current.run
    if run is not None:
        run.check()
