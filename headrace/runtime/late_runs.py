"""Runs that return before they are done: one thread of the process runs a step while the program goes on.

When `hand_over` returns, the run holds the lock of its session's variables and has read them. So whatever looks at a
variable afterwards, in any thread, waits for it as for any run. At most one such run is under way in the process: what
comes meanwhile runs in the thread that calls it. What the run raises is kept for the next call that waits for it.

The thread uses the heap of the main thread, where that can be had: a second one would hold scratch memory of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.core.site import Site, capture
from headrace.lowering.jax_adapter import on_device, restore_x64, settings_of_thread, swap_x64
from headrace.runtime import allocator
from headrace.runtime.device_executor import timed_out
from headrace.runtime.ready_arguments import aligned_copy
from headrace.runtime.resources import ResourceStore

Run = Callable[[list[Any]], list[Any]]

_logger = logging.getLogger("headrace")

_tasks: queue.SimpleQueue[_LateRun] = queue.SimpleQueue()
# Taken while a run is under way, or about to be.
_taken = threading.Lock()
_starting = threading.Lock()
_started = False
_under_way: _LateRun | None = None
# Those that failed, while nobody has heard of it.
_unheard: set[_LateRun] = set()

# glibc gives threads the heaps in turn: after so many, there is none for which the next one would have another.
_MOST_THREADS = 16


class LateFailure(Exception):
    """What a run raised that had returned already. name: what was run. site: the line of the program that ran it."""

    def __init__(self, error: BaseException, name: str, site: Site) -> None:
        super().__init__(f"{name}, run at {site}: {error}")
        self.error, self.name, self.site = error, name, site


class _LateRun:
    """One run. Whether it happens is claimed once: by the thread that is to run it, or by who gives up waiting for that."""

    __slots__ = (
        "_arguments",
        "_begun",
        "_call",
        "_claim",
        "_done",
        "_heard",
        "_late",
        "_over",
        "_settings",
        "_token",
        "failure",
        "name",
        "refused",
        "seconds",
        "site",
    )

    def __init__(self, late: LateRuns, call: Run, arguments: list[Any], name: str) -> None:
        self._late, self._call, self._arguments, self.name = late, call, arguments, name
        self.site = capture()
        self._settings = settings_of_thread()
        self._claim, self._token, self._heard = (threading.Lock() for _ in range(3))
        self._begun, self._done = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._done.acquire()
        self.refused = self._over = False
        self.seconds = 0.0
        self.failure: LateFailure | None = None

    # ---- in the thread that hands over

    def wait_until_begun(self) -> bool:
        """Waits until the run has read what it needs; whether it goes on from there."""
        self._begun.acquire()
        return not self.refused

    def give_up(self) -> None:
        """Has the run not happen, if it has not begun."""
        if self._claim.acquire(False):
            self._let_others()

    def wait(self, seconds: float = -1) -> bool:
        """Waits until the run is over, or for so many seconds; whether it is over."""
        try:
            return self._over or self._done.acquire(timeout=seconds)
        finally:
            # Wherever the user's interrupt came: others may wait too.
            if self._over:
                with contextlib.suppress(RuntimeError):
                    self._done.release()

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._over

    def hear(self) -> LateFailure | None:
        """What the run raised, to the first that asks."""
        if self.failure is None or not self._heard.acquire(False):
            return None
        if self._late.pending is self:
            self._late.pending = None
        _unheard.discard(self)
        return self.failure

    def report(self) -> None:
        """Logs what the run raised, since nobody is going to ask."""
        failure = self.hear()
        if failure is not None:
            _logger.error("A run failed after it had returned: %s", failure)

    # ---- in the thread that runs

    def work(self) -> None:
        """Runs, unless that was given up or must be left to the thread that hands over."""
        global _under_way
        late = self._late
        with late.store.lock:
            if not self._claim.acquire(False):
                return
            # One that failed must be heard of first. Settings of JAX that hold in a block hold in its thread only.
            if late.pending is not None or settings_of_thread() != self._settings:
                self.refused = True
            else:
                late.pending = _under_way = self
                self._run(late)
        if self.refused:
            self._let_others()
            self._begun.release()

    def _run(self, late: LateRuns) -> None:
        global _under_way
        call, arguments = self._call, self._arguments
        del self._call, self._arguments
        start = time.perf_counter()
        self._begun.release()
        try:
            # The thread that has handed over goes on when the program begins, or anything else gives it its turn.
            call(arguments)
        except BaseException as error:  # whatever it is, the next one who waits must hear of it
            self.failure = LateFailure(error, self.name, self.site)
            _unheard.add(self)
        del arguments
        self.seconds = time.perf_counter() - start
        self._let_others()
        if self.failure is None:
            late.pending = None
        _under_way = None
        self._over = True
        with contextlib.suppress(RuntimeError):  # who has seen it already has opened the door
            self._done.release()
        if late.store.closed:
            self.report()

    def _let_others(self) -> None:
        if self._token.acquire(False):
            _taken.release()


class LateRuns:
    """The runs of one session that return before they are done.

    pending: the one that is under way, or that failed and nobody has heard of; None: there is nothing to wait for.
    """

    __slots__ = ("pending", "store")

    def __init__(self, store: ResourceStore) -> None:
        self.store = store
        self.pending: _LateRun | None = None

    def hand_over(self, call: Run, feed_values: Sequence[Any], name: str) -> _LateRun | None:
        """Has `call` run with copies of `feed_values` while the caller goes on; returns once it has read the variables.

        call: what reads and writes variables, and fetches nothing. name: what it runs, for messages. Returns the run, or
        None where it must be made here: another one is under way, or a step that holds the variables makes this one.
        """
        if self.store.lock._is_owned() or not _taken.acquire(False):  # type: ignore[attr-defined]
            return None
        run = None
        try:
            run = _LateRun(self, call, list(map(_own, feed_values)), name)
            if not (_started or _start()):
                run.give_up()
                return None
            _tasks.put(run)
            return run if run.wait_until_begun() else None
        except BaseException:  # the user's interrupt
            if run is None:
                _taken.release()
            else:
                run.give_up()
            raise

    def settle(self, deadline: float = 0.0, wait: bool = True) -> None:
        """Waits for the run that is under way. Raises LateFailure: it failed, or an earlier one; said once.

        deadline: when to stop waiting (of `time.monotonic`), with a DeadlineExceededError; 0: never. wait: else only what
        is over is looked at.
        """
        run = self.pending
        if run is None or not (wait or run.is_over):
            return
        left = max(0.0, deadline - time.monotonic()) if deadline else -1
        if not run.wait(min(left, threading.TIMEOUT_MAX)):
            raise timed_out()
        failure = run.hear()
        if failure is not None:
            raise failure

    def report(self) -> None:
        """Logs what nobody is going to wait for any more."""
        if self.pending is not None and self.pending.is_over:
            self.pending.report()


def _own(value: Any) -> Any:
    """A fed array as one on the device that nobody else can write to."""
    if not isinstance(value, np.ndarray) or value.dtype.kind == "O":
        return value
    previous = swap_x64(True)
    try:
        # On the device already: a program that has to move an argument there lets other threads of Python run before it.
        return on_device(aligned_copy(value))
    finally:
        restore_x64(previous)


def _start() -> bool:
    """Starts the thread, where there is none; whether there is one."""
    global _started
    with _starting:
        if _started:
            return True
        answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        try:
            for i in range(_MOST_THREADS):
                any_heap = i == _MOST_THREADS - 1 or not allocator.keep_freed_memory()
                threading.Thread(
                    target=_serve, args=(any_heap, answers), name="headrace late", daemon=True
                ).start()
                if answers.get():
                    break
        except RuntimeError:  # no more threads
            return False
        _started = True
        atexit.register(_finish, os.getpid())
        os.register_at_fork(after_in_child=_forget_thread)
        return True


def _serve(any_heap: bool, answers: queue.SimpleQueue[bool]) -> None:
    fits = any_heap or allocator.in_first_heap()
    answers.put(fits)
    while fits:
        run = _tasks.get()
        run.work()
        del run  # nothing of a finished step is kept


def _forget_thread() -> None:
    """Notes that a process that was forked has none of its parent's threads."""
    global _started
    _started = False


def _finish(process: int) -> None:
    """Waits for the run that is under way: Python must not end while a thread of its own is in XLA."""
    if os.getpid() != process:
        return
    run = _under_way
    if run is not None:
        run.wait()
    _taken.acquire(False)
    for failed in list(_unheard):
        failed.report()
