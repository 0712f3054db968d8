"""Failures that depend on values: collected while a program is traced, looked at after it ran."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.core import errors


class Check:
    """One condition of a traced program: which op fails, with which message, `{}` filled by the values."""

    __slots__ = ("error", "message", "op", "payload_size")

    def __init__(
        self,
        op: Any,
        message: str | Callable[..., str],
        error: Callable[..., errors.OpError],
        payload_size: int,
    ) -> None:
        self.op, self.message, self.error, self.payload_size = op, message, error, payload_size

    def failure(self, payload: list[Any], op: Any = None) -> errors.OpError:
        """The error to raise, as the error of `op` where one is given."""
        op = self.op if op is None else op
        if callable(self.message):
            text = self.message(*payload)
        else:
            text = self.message.format(*payload) if payload else self.message
        return self.error(None, _real(op), f"{op.type} op {op.name!r}: {text}")


class RoomExceeded(Exception):
    """A loop made more iterations than the lists that it collects had room for: the program runs again with more."""

    def __init__(self, op: Any) -> None:
        super().__init__(f"{op.type} op {op.name!r} needs room for more elements")
        self.op = op


class RoomCheck:
    """The condition that the lists of a loop had room for all iterations."""

    __slots__ = ("op",)

    def __init__(self, op: Any) -> None:
        self.op = op

    def failure(self, payload: list[Any], op: Any = None) -> Exception:
        """What to raise: nobody but the one who runs the program sees it."""
        return RoomExceeded(self.op)


def need_room(op: Any, exceeded: Any) -> None:
    """Makes the program run again with more room for the lists of the loop `op` if `exceeded` is true."""
    collector = _active.collector
    if collector is None:
        raise AssertionError(f"{op.type}: a guessed room outside a collecting trace")
    collector.add(RoomCheck(op), exceeded)


class TableCheck:
    """The checks inside a branch or a loop as one: its only value is the number of the one that failed."""

    __slots__ = ("op", "table")

    def __init__(self, table: list[Any]) -> None:
        self.op, self.table = table[0].op, table

    def failure(self, payload: list[Any], op: Any = None) -> errors.OpError:
        """The error to raise. The values that its message speaks of stayed inside."""
        check = self.table[int(payload[0]) - 1]
        if not isinstance(check, Check):
            return check.failure([1], op)
        return check.failure(["?"] * check.payload_size, op)


def fail_with(code: Any, table: list[Any]) -> None:
    """Makes the run fail with check number `code` (from 1) of `table`, unless `code` is 0."""
    collector = _active.collector
    if isinstance(code, (int, np.ndarray, np.generic)) or collector is None:
        if int(code):
            raise TableCheck(table).failure([int(code)])
        return
    collector.add(TableCheck(table), code > 0, code)


def _real(op: Any) -> Any:
    return op if hasattr(op, "graph") else None


# Results from this size on are worth the care of handing them out without a copy.
LARGE_BYTES = 1 << 16


class Collector:
    """The checks of one traced program with their traced flags and values, and which of its outputs are their own memory.

    conditional: the program is a body that may not be called, so that what is sure to fail must not fail while it is traced.
    """

    def __init__(self, conditional: bool = False) -> None:
        self.conditional = conditional
        self.checks: list[Any] = []
        self.flags: list[Any] = []
        self.payloads: list[tuple[Any, ...]] = []
        # The checks of each trace that had so many: a size of zero needs fewer of them.
        self.by_count: dict[int, list[Any]] = {}
        # The numbers of outputs that are large, and those whose memory may be that of something else, in any trace.
        self._large: set[int] = set()
        self._shared: set[int] = set()
        self.own_outputs: frozenset[int] = frozenset()

    def add(self, check: Any, flag: Any, *payload: Any) -> None:
        """Adds a check, with the traced bool that says whether it failed and the values for its message."""
        self.checks.append(check)
        self.flags.append(flag)
        self.payloads.append(payload)

    def note_outputs(self, outputs: Sequence[Any], others: Sequence[Any]) -> None:
        """Notes which outputs are large values that a call makes anew, none of `others` nor of one another."""
        count = Counter(id(v) for v in (*outputs, *others))
        for i, value in enumerate(outputs):
            if not isinstance(value, jax.core.Tracer) or count[id(value)] > 1:
                self._shared.add(i)
            elif value.size * value.dtype.itemsize >= LARGE_BYTES:
                self._large.add(i)
        self.own_outputs = frozenset(self._large - self._shared)


class _Active(threading.local):
    collector: Collector | None = None


_active = _Active()


@contextlib.contextmanager
def collecting(collector: Collector | None) -> Iterator[Collector | None]:
    """A block whose `fail_if` calls are collected instead of raised."""
    old, _active.collector = _active.collector, collector
    try:
        yield collector
    finally:
        _active.collector = old


def fail_if(
    op: Any,
    bad: Any,
    message: str | Callable[..., str],
    *values: Any,
    error: type[errors.OpError] = errors.InvalidArgumentError,
) -> None:
    """Makes the run fail with `error` if `bad` (a scalar bool, traced or not) is true; the message names `op`.

    message: `{}` stands for each of `values` (scalars or small arrays, traced or not); or a function of the values, which
    gets "?" for those inside of a branch or a loop.
    """
    collector = _active.collector
    if isinstance(bad, (bool, np.bool_, np.ndarray)):
        if not bool(bad):
            return
        if collector is None or not collector.conditional:
            raise Check(op, message, error, len(values)).failure([np.asarray(v) for v in values])
    if collector is None:
        raise AssertionError(f"{op.type}: a check on traced values outside a collecting trace")
    check = Check(op, message, error, len(values))
    collector.add(check, jnp.asarray(bad), *(jnp.asarray(v) for v in values))


def outcome_of(collector: Collector) -> tuple:
    """What a traced program returns of its checks: () where there are none, else (any failed, flags, values)."""
    if not collector.flags:
        return ()
    collector.by_count[len(collector.flags)] = list(collector.checks)
    flags = jnp.stack(collector.flags)
    outcome = (jnp.any(flags), flags, tuple(collector.payloads))
    collector.flags.clear()
    collector.payloads.clear()
    return outcome


def raise_if_failed(outcome: tuple, collector: Collector, op: Any = None) -> None:
    """Raises the error of the first check of a program that failed (as the error of `op`, where one is given)."""
    if not outcome or not bool(outcome[0]):
        return
    flags = np.asarray(outcome[1])
    first = int(np.argmax(flags))
    raise collector.by_count[len(flags)][first].failure(
        [np.asarray(v) for v in outcome[2][first]], op
    )
