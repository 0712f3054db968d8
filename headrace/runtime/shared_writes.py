"""What a step writes before it calls out: other steps see it while the call is made, as in TensorFlow.

A step holds the lock of its session from reading variables to filing them. It cannot while it waits for a function of the
program, which may run a step of the same session. So where something is written before (by edges, or because the program
that computes the arguments writes as well), every segment up to the last call is a step of its own to others: it reads
what is there, and what it writes is filed at its end. If the run fails, the old values are filed again, except where
another step has written since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.evaluate import Values
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.state import StateView
from headrace.passes.segments import Segment
from headrace.passes.state_order import INITIAL, StateOrder
from headrace.runtime.resources import ResourceStore


def keys_read_again(
    order: StateOrder, segment_of: dict[Operation, int], fetches: tuple[Tensor, ...]
) -> frozenset[str]:
    """The variables of which a segment, or a fetch, sees a version that another segment has written."""
    found = {order.key(t) for t in order.fetch_version if t in fetches}
    for op, key, version in order.reads():
        if version != INITIAL:
            writer = order.writers[key][version]
            if segment_of.get(writer) != segment_of.get(op):
                found.add(key)
    return frozenset(k for k in found if k is not None)


def segments_by_op(segments: list[Segment]) -> dict[Operation, int]:
    """The number of the segment of each operation."""
    return {op: number for number, segment in enumerate(segments) for op in segment.ops}


class SharedWrites:
    """The state of one run, of which others see what is written.

    Another step may write a filed buffer in place. So the run keeps a copy of the variables that it looks at `again`, and
    files a copy of what is among its values (dictionaries of tensors). home: puts the value of a variable where it belongs.
    is_over: whether the run has ended already; then nothing more is filed.
    """

    def __init__(
        self,
        resources: ResourceStore,
        state: StateView,
        again: frozenset[str],
        values: Collection[Values],
        home: Callable[[str, Any], Any] = lambda key, value: value,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._resources, self._state, self._again, self._values = resources, state, again, values
        self._home, self._is_over = home, is_over
        self._filed: dict[str, tuple[int, Any]] = {}
        self._old: dict[str, Any] = {}

    @contextlib.contextmanager
    def segment(self, alone: bool) -> Iterator[None]:
        """A block that is a segment; alone: no other step runs meanwhile (it must not wait for one)."""
        lock = self._resources.lock
        with lock if alone else contextlib.nullcontext():
            self.refresh()
            yield
            with lock:
                self._file()

    def refresh(self) -> None:
        """Takes over what other steps have written into variables that this run has filed."""
        with self._resources.lock:
            for key, (version, filed) in self._filed.items():
                cell = self._resources.cell(key)
                if not cell.holds(filed):
                    value = cell.value
                    self._filed[key] = version, value
                    self._old.pop(key, None)  # that step built on ours: there is no way back
                    if key in self._again:
                        self._state.write(key, version, _copy(value))

    def _file(self) -> None:
        if self._is_over():
            return
        left = self.left
        used = {id(v) for values in self._values for v in list(values.values())} if left else ()
        for key, value in left.items():
            version = self._state.newest(key)
            value = self._home(key, _copy(value) if id(value) in used else value)
            cell = self._resources.cell(key)
            if key not in self._filed:
                self._old[key] = cell.value
                if not self._state.has(key, INITIAL) and cell.value is not None:
                    self._state.put(key, INITIAL, cell.value)
            cell.value = value
            self._filed[key] = version, value
            if key in self._again:
                self._state.write(key, version, _copy(value))

    @property
    def left(self) -> dict[str, Any]:
        """What has been written and is not filed yet."""
        return {
            key: value
            for key, value in self._state.written.items()
            if key not in self._filed or self._filed[key][0] != self._state.newest(key)
        }

    def keep(self) -> None:
        """Says that the run has succeeded."""
        self._old.clear()

    def take_back(self) -> None:
        """Files the old values again, where nobody has written since."""
        with self._resources.lock:
            for key, old in self._old.items():
                cell = self._resources.cell(key)
                if cell.holds(self._filed[key][1]):
                    cell.value = old
            self._old.clear()


def _copy(value: Any) -> Any:
    if value is None:  # the session has been closed
        raise errors.CancelledError(None, None, "Session has been closed.")
    return value.copy() if value.__class__ is ARRAY or isinstance(value, np.ndarray) else value
