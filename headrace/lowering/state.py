"""The state of a run: versions of variables, and the slots through which rules read and write them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headrace.lowering.row_updates import Where, outside, updated
from headrace.lowering.together import Together

INITIAL = -1

Version = tuple[str, int]
"""A variable's key, and the number of the write that left the value."""


class StateView:
    """The versions of each variable during one run or one trace, numbered as in `passes.state_order`.

    `load(key)` gives the version from before the run; it is asked once for each key that is read.
    """

    __slots__ = ("_guarded", "_later", "_load", "_newest", "_row_writes", "_values")

    def __init__(self, load: Callable[[str], Any]) -> None:
        self._load = load
        self._values: dict[Version, Any] = {}
        self._newest: dict[str, int] = {}
        # (key, version) -> how it differs from the version before: rows that were changed
        self._row_writes: dict[Version, list[tuple[str, Where, Any]]] = {}
        # (key, version) -> what computes it once it is read
        self._later: dict[Version, Together] = {}
        # (key, version) -> the version that it is where the program has failed
        self._guarded: dict[Version, int] = {}

    def read(self, key: str, version: int) -> Any:
        """The value that write number `version` left; -1: from before the run.

        A write that did not happen (of a branch not taken) leaves what was there before it.
        """
        while True:
            try:
                return self._values[key, version]
            except KeyError:
                if (key, version) in self._later:
                    self._compute(self._later[key, version])
                    continue
                if version == INITIAL:
                    break
                version -= 1
        value = self._values[key, INITIAL] = self._load(key)
        return value

    def write(self, key: str, version: int, value: Any) -> None:
        """Sets what write number `version` leaves."""
        self._values[key, version] = value
        self._row_writes.pop((key, version), None)
        if version > self._newest.get(key, INITIAL):
            self._newest[key] = version

    def has(self, key: str, version: int) -> bool:
        """Whether the version is known to this view."""
        return (key, version) in self._values or (key, version) in self._later

    def put(self, key: str, version: int, value: Any) -> None:
        """Notes a version that comes from elsewhere: it is read, and not one of this view's writes."""
        self._values[key, version] = value

    def write_rows(
        self, key: str, before: int, version: int, kind: str, where: Where, updates: Any
    ) -> None:
        """Sets what write number `version` leaves: version `before` with some rows changed."""
        steps = None
        if before == version:
            steps = self._row_writes.get((key, version))
        elif before == version - 1:
            steps = []
        self.write(key, version, updated(kind, self.read(key, before), where, updates))
        if steps is not None and where:
            self._row_writes[key, version] = [*steps, (kind, where, updates)]

    def write_later(self, together: Together) -> None:
        """Notes new versions that are computed when one of them is read, or by `settle`."""
        for key, version in together.versions:
            self._later[key, version] = together
            if version > self._newest.get(key, INITIAL):
                self._newest[key] = version

    def settle(
        self,
        failed: Any,
        bases: Mapping[str, int],
        readers: Callable[[Sequence[Together], Container[str]], Sequence[Sequence[Any]]],
    ) -> None:
        """Computes what was left for later: where all else is known, and may come before it.

        failed: a traced bool, or None where nothing can fail.  bases: the versions of what is donated.  readers: gives for
        each of what is computed the values that read what it replaces, of these variables.
        """
        waiting = list(dict.fromkeys(self._later.values()))
        for together, after in zip(waiting, readers(waiting, bases), strict=True):
            guards = failed is not None and all(
                bases.get(key) == version - 1 for key, version in together.versions
            )
            self._compute(together, failed if guards else None, after)
            if guards:
                self._guarded.update((version, bases[version[0]]) for version in together.versions)

    def _compute(self, together: Together, failed: Any = None, after: Sequence[Any] = ()) -> None:
        values = together.values(failed, after)
        for version, value in zip(together.versions, values, strict=True):
            self._later.pop(version, None)
            self._values[version] = value

    def unless(self, failed: Any, key: str, version: int, base: int) -> Any:
        """Version `version` if `failed` (a traced bool) is false, version `base` if it is true.

        Changed rows are changed again under the condition, so that a donated buffer is still updated in place. None
        where the two differ in shape.
        """
        if version == base:
            return self.read(key, base)
        if self._guarded.get((key, version)) == base:
            return self.read(key, version)
        steps = self._row_writes.get((key, version))
        if steps is None:
            old, new = self.read(key, base), self.read(key, version)
            return jnp.where(failed, old, new) if old.shape == new.shape else None
        rows = self.unless(failed, key, version - 1, base)
        for kind, where, updates in steps:
            if rows is not None:
                rows = updated(kind, rows, outside(rows, where, failed), updates)
        return rows

    def newest(self, key: str) -> int:
        """The number of the last write of `key`, INITIAL where there is none."""
        return self._newest.get(key, INITIAL)

    @property
    def written(self) -> dict[str, Any]:
        """The newest version of everything that was written."""
        return {key: self.read(key, version) for key, version in list(self._newest.items())}


class Slot:
    """A variable (or a generator of random numbers) as one operation sees it."""

    __slots__ = ("_base", "_version", "_view", "key")

    def __init__(self, view: StateView, key: str, version: int) -> None:
        self._view, self.key, self._version = view, key, version
        self._base = version

    def read(self) -> Any:
        """The value that this operation sees; after `write`, what was written."""
        return self._view.read(self.key, self._version)

    def write(self, value: Any) -> None:
        """Makes `value` the version that this operation leaves, seen by whatever comes after it."""
        self._version = self._base + 1
        self._view.write(self.key, self._version, value)

    def write_rows(self, kind: str, where: Where, updates: Any) -> None:
        """As `write`, of the present value with rows changed: see `row_updates.updated`.

        What changes few rows of a large variable does it this way: in a program the buffer is then changed in place.
        """
        before, self._version = self._version, self._base + 1
        self._view.write_rows(self.key, before, self._version, kind, where, updates)

    def update(
        self, op: Any, function: Callable[..., Any], *others: Any, slots: Sequence[Slot] = ()
    ) -> None:
        """Makes `function` of the present value and `others` the version that this operation leaves.

        With further `slots` (all those of the operation) it is a function of all their values that returns one for each. In
        a program it is computed when it is read, or when all else has been: then it can be done in place.
        """
        if not slots:
            return self.update(op, lambda *v: (function(*v),), *others, slots=(self,))
        old = [slot.read() for slot in slots]
        if not all(isinstance(value, jax.core.Tracer) for value in old):
            for slot, value in zip(slots, function(*old, *others), strict=True):
                slot.write(value)
            return
        for slot in slots:
            slot._version = slot._base + 1
        versions = tuple((slot.key, slot._version) for slot in slots)
        self._view.write_later(Together(versions, op, function, old, others))

    @property
    def initialized(self) -> bool:
        """Whether there is a value to read (only on the host, not while tracing)."""
        from headrace.core.errors import FailedPreconditionError

        try:
            return self.read() is not None
        except FailedPreconditionError:
            return False
