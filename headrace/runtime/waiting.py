"""What may take any time (a function of the program, a queue that fills) is called where a run can leave it.

A thread that is blocked cannot be ended. So the call is made in a thread of the host, and the one that runs the step waits
for it there: until it is done, or until the session is closed. The call that was left ends unheard.
"""

from __future__ import annotations

import _thread
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headrace.core import errors
from headrace.graph.func_graph import functions_of
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.lowering import context
from headrace.passes.segments import Segment
from headrace.passes.state_order import StateOrder, is_handle
from headrace.runtime import device_threads
from headrace.runtime.device_executor import timed_out
from headrace.runtime.resources import ResourceStore


def may_wait(op: Operation, order: StateOrder) -> bool:
    """Whether `op`, where it runs on the host, may wait for another step: no step may be locked out meanwhile."""
    definition = op._definition
    if definition.function_attrs or definition.waits:
        return True
    if not definition.host_only or not definition.effects & Effect.STATEFUL:
        return False
    return not any(is_handle(t) and order.key(t) is not None for t in op._inputs)


def alone_from(segments: Sequence[Segment], order: StateOrder) -> int | None:
    """The first segment from which a step that writes variables lets no other step in, so that no update is lost.

    An operation that may wait for another step (for a queue to fill) must not stand behind it. None: nothing is written.
    """
    if not order.writers:
        return None
    for number in range(len(segments) - 1, -1, -1):
        segment = segments[number]
        if not segment.is_island and any(may_wait(op, order) for op in segment.ops):
            return number + 1
    return 0


def calls_out(op: Operation) -> bool:
    """Whether a body that `op` calls holds an operation that waits: then the whole of `op` is called in one piece.

    A call costs about ten microseconds, half of what an iteration of a small loop takes.
    """
    return any(
        inner._definition.waits or calls_out(inner)
        for _, function in functions_of(op)
        for inner in function.graph.get_operations()
    )


def closed() -> errors.CancelledError:
    """The error of a run that was left because its session was closed."""
    return errors.CancelledError(None, None, "Session has been closed.")


class _Call:
    """One call in another thread. Its end is claimed once: by that thread, or by who closes the session."""

    __slots__ = ("_arguments", "_claim", "_done", "_function", "_step", "error", "left", "result")

    def __init__(self, step: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self._step, self._function, self._arguments = step, function, arguments
        # Bare locks: a threading.Event costs as much as all the rest.
        self._claim, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._done.acquire()
        self.result: Any = None
        self.error: BaseException | None = None
        self.left: BaseException | None = None

    def work(self) -> None:
        """Makes the call, in the thread that is there for it."""
        try:
            with context.running(self._step, self):
                self.result = self._function(*self._arguments)
        except BaseException as error:  # whatever it is, the one who waits must hear of it
            self.error = error
        if self._claim.acquire(False):
            self._done.release()

    def leave(self) -> None:
        """Has the one who waits go on without what the call gives."""
        if self._claim.acquire(False):
            self.left = closed()
            self._done.release()

    def wait(self, deadline: float = 0.0) -> Any:
        """What the function gives, or raises. Raises CancelledError: the session was closed before.

        deadline: when to stop waiting (of `time.monotonic`), with a DeadlineExceededError; 0: never.
        """
        try:
            seconds = max(0.0, deadline - time.monotonic()) if deadline else -1
            if not self._done.acquire(timeout=seconds) and self._claim.acquire(False):
                self.left = timed_out()
        except BaseException as error:  # the user's interrupt
            self.left = error
            raise
        error = self.left or self.error
        if error is None:
            return self.result
        self.error = None  # its traceback holds this object
        raise error

    # ---- a run, as it looks from inside of the call

    def check(self) -> None:
        """Raises what made the run leave the call, so that a loop in it ends."""
        if self.left is not None:
            raise self.left

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls the function here: this thread may be left as it is."""
        self.check()
        return function(*arguments)


def call_out(
    step: Any,
    resources: ResourceStore,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    deadline: float = 0.0,
) -> Any:
    """What `function(*arguments)` gives or raises. Raises CancelledError: the session is closed while it runs."""
    call = _Call(step, function, arguments)
    resources.when_closed(call, call.leave)
    try:
        device_threads.submit_to_host(call.work)
        return call.wait(deadline)
    finally:
        resources.forget(call)


class CallsAtOnce:
    """The calls of one segment, made at once, as TensorFlow's executor makes them: one may wait for another.

    evaluate(op) gives a function that gives the results of `op`, and store(op, results) files them.
    """

    def __init__(
        self,
        step: Any,
        resources: ResourceStore,
        evaluate: Callable[[Operation], Callable[[], Any]],
        store: Callable[[Operation, Any], None],
    ) -> None:
        self._step, self._resources, self._evaluate, self._store = step, resources, evaluate, store
        self._calls: dict[Operation, _Call] = {}
        self._ended: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()

    def run(self, ops: Sequence[Operation]) -> None:
        """Runs host operations, each as soon as what it takes is there. Raises CancelledError: the session is closed."""
        self._resources.when_closed(self, lambda: self._ended.put(None))
        left = dict.fromkeys(ops)
        try:
            while left:
                ready = [op for op in left if not any(s in left for s in _sources(op))]
                for op in ready:
                    if op not in self._calls:
                        work = self._evaluate(op)
                        if op._definition.waits:
                            self._start(op, work)
                        else:
                            self._store(op, work())
                            del left[op]
                if all(op in self._calls for op in ready):
                    op = self._ended.get()
                    if op is None:
                        raise closed()
                    self._store(op, self._calls.pop(op).wait())
                    del left[op]
        finally:
            self._resources.forget(self)
            for call in self._calls.values():  # one of them, or another operation, has failed
                call.leave()

    def _start(self, op: Operation, work: Callable[[], Any]) -> None:
        def noted() -> Any:
            try:
                return work()
            finally:
                self._ended.put(op)

        call = self._calls[op] = _Call(self._step, noted, ())
        device_threads.submit_to_host(call.work)


def _sources(op: Operation) -> Iterator[Operation]:
    yield from (t._op for t in op._inputs)
    yield from op._control_inputs
