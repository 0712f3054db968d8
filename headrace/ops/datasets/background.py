"""Work done ahead of the consumer, in threads that end with their iterator: prefetching, and functions side by side."""

from __future__ import annotations

import collections
import os
import weakref
from collections.abc import Callable
from typing import Any

from headrace.ops.datasets.dataset import (
    AUTOTUNE,
    TYPES,
    Dataset,
    Element,
    GetNext,
    IteratorContext,
    dataset_of,
    define_dataset,
    scalar_argument,
)

# A function that takes less than this is called in place: handing it to another thread costs a part of it.
_QUICK_SECONDS = 2e-4
_MOST_TUNED = 2048


def processors() -> int:
    """How many threads can compute at once."""
    return os.cpu_count() or 1


class _Result:
    """What is being computed for the consumer: a value, or what was raised."""

    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def fill(self, compute: Callable[[], Any]) -> None:
        """Computes; what it raises waits for `get`."""
        try:
            self.value = compute()
        except BaseException as error:
            self.error = error

    def get(self) -> Any:
        """The value. Raises what computing it raised."""
        if self.error is not None:
            raise self.error
        return self.value


class _Buffer:
    """How many elements prefetching holds: so many as given, or twice as many each time the consumer had to wait."""

    def __init__(self, size: int) -> None:
        self.limit = max(1, size) if size != AUTOTUNE else 1
        self._tuned, self._was_full = size == AUTOTUNE, False

    def note(self, held: int) -> None:
        """Notes how many the consumer found."""
        if not self._tuned:
            return
        if held == self.limit:
            self._was_full = True
        elif held == 0 and self._was_full:
            self.limit = min(_MOST_TUNED, self.limit * 2)
            self._was_full = False


def prefetched(context: IteratorContext, source: GetNext, size: int) -> GetNext:
    """`source`, read ahead by a thread that begins with the first call."""
    condition = context.condition()
    buffer: collections.deque[_Result] = collections.deque()
    room = _Buffer(size)
    started = stopped = False

    def stop() -> None:
        """Ends the thread: nobody will ask for more."""
        nonlocal stopped
        with condition:
            stopped = True
            condition.notify_all()

    def read_ahead() -> None:
        while True:
            with condition:
                while len(buffer) >= room.limit and not (stopped or context.cancelled):
                    condition.wait()
            if stopped or context.cancelled:
                return
            result = _Result()
            result.fill(source)
            with condition:
                buffer.append(result)
                condition.notify_all()
            if result.error is None and result.value is None:
                return

    def get_next():
        nonlocal started
        if not started:
            started = True
            context.start(read_ahead)
        with condition:
            room.note(len(buffer))
            while not buffer and not context.cancelled:
                condition.wait()
            context.check()
            result = buffer[0]
            if result.error is None and result.value is None:
                return None  # stays there: the end is the end
            buffer.popleft()
            condition.notify_all()
        return result.get()

    weakref.finalize(get_next, stop)
    return get_next


class _Prefetch(Dataset):
    def __init__(self, op, source, buffer_size):
        super().__init__(op, source)
        self._size = scalar_argument(op, buffer_size, "buffer_size")
        if self._size < 0 and self._size != AUTOTUNE:
            raise op.invalid("buffer_size must be >= 0 or set buffer_size to be -1 for auto-tuning")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        return source if self._size == 0 else prefetched(context, source, self._size)

    def cardinality(self) -> int:
        return self.source.cardinality()


@define_dataset(
    "PrefetchDataset",
    "input_dataset: variant, buffer_size: int64",
    f"{TYPES}, slack_period: int = 0, legacy_autotune: bool = true",
)
def _prefetch_dataset(op, source, buffer_size):
    return _Prefetch(op, dataset_of(op, source), buffer_size)


class Workers:
    """Threads that compute results in the order in which they were asked for."""

    def __init__(self, context: IteratorContext, count: int) -> None:
        self._context, self._count = context, count
        self._condition = context.condition()
        self._waiting: collections.deque[tuple[_Result, Callable[[], Any]]] = collections.deque()
        self._threads = self._idle = 0
        self._stopped = False

    def submit(self, compute: Callable[[], Any]) -> _Result:
        """Has a thread compute."""
        result = _Result()
        with self._condition:
            self._waiting.append((result, compute))
            if not self._idle and self._threads < self._count:
                self._threads += 1
                self._context.start(self._work)
            else:
                self._condition.notify_all()
        return result

    def wait(self, result: _Result) -> None:
        """Returns when `result` is there. Raises CancelledError: the iterator is closed."""
        if result.done:
            return
        with self._condition:
            while not result.done and not self._context.cancelled:
                self._condition.wait()
        if not result.done:
            self._context.check()

    def wait_for_any(self, results: collections.deque[_Result]) -> _Result:
        """Takes the first result that is there out of `results`. Raises CancelledError: the iterator is closed."""
        with self._condition:
            while not self._context.cancelled:
                for result in results:
                    if result.done:
                        results.remove(result)
                        return result
                self._condition.wait()
        self._context.check()
        raise AssertionError

    def stop(self) -> None:
        """Ends the threads: nobody will ask for more."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._idle += 1
                while not self._waiting and not (self._stopped or self._context.cancelled):
                    self._condition.wait()
                self._idle -= 1
                if self._stopped or self._context.cancelled:
                    return
                result, compute = self._waiting.popleft()
            result.fill(compute)
            with self._condition:
                result.done = True
                self._condition.notify_all()


def parallel_map(
    context: IteratorContext,
    source: GetNext,
    apply: Callable[[Element], Any],
    count: int,
    step: Any,
    in_order: bool = True,
) -> GetNext:
    """`apply` to each element, up to `count` at a time; in_order: the results keep the order of the elements.

    step: what runs the function; while its calls are quick they are not worth a thread.
    """
    if count == AUTOTUNE:
        count = processors()
    workers = Workers(context, count)
    pending: collections.deque[_Result] = collections.deque()
    ended = False

    def get_next():
        nonlocal ended
        if not pending and not step.waits and step.seconds < _QUICK_SECONDS:
            element = None if ended else source()
            if element is None:
                ended = True
                return None
            return apply(element)
        while not ended and len(pending) < count:
            try:
                element = source()
            except Exception as error:
                failed = _Result()
                failed.error, failed.done = error, True
                pending.append(failed)
                break
            if element is None:
                ended = True
            else:
                pending.append(workers.submit(lambda element=element: apply(element)))
        if not pending:
            return None
        if not in_order:
            return workers.wait_for_any(pending).get()
        result = pending.popleft()
        workers.wait(result)
        return result.get()

    weakref.finalize(get_next, workers.stop)
    return get_next
