"""The state of a session: variables, generators of random numbers, and resources of the host."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.native.bundle import Layout


class Bundle:
    """The values of several cells in one buffer, as a program takes and returns them.

    `whole`: all the cells still have their values here. A new `buffer` gives new values to the cells; none is ever
    written to.
    """

    __slots__ = ("_keys", "_layout", "_seen", "_shapes", "buffer", "whole")

    def __init__(self, keys: tuple[str, ...], layout: Layout, buffer: Any) -> None:
        self._keys, self._layout, self.buffer = keys, layout, buffer
        self.whole = True
        self._seen: tuple[Any, dict[str, np.ndarray]] = (None, {})
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def value_of(self, key: str) -> np.ndarray:
        """The value of the cell of this key, read-only."""
        buffer = self.buffer
        seen, values = self._seen
        if seen is not buffer:
            values = dict(zip(self._keys, self._layout.split(buffer)))
            self._seen = (buffer, values)
        return values[key]

    def shape_of(self, key: str) -> tuple[int, ...]:
        """The shape of the value of the cell of this key."""
        if self._shapes is None:
            kinds = self._layout.kinds
            self._shapes = {k: shape for k, (shape, _) in zip(self._keys, kinds, strict=True)}
        return self._shapes[key]


class Cell:
    """Where the value of one variable lives.

    `value`: a NumPy or JAX array, None before the variable is initialised. `held`: that, or the `Bundle` that it is in.
    """

    __slots__ = ("_moved", "held", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.held: Any = None
        # (what was moved, by identity, and where it is now)
        self._moved: tuple[int, weakref.ref] | None = None

    @property
    def value(self) -> Any:
        """The array, taken out of its bundle where it is in one; None before the variable is initialised."""
        held = self.held
        return held.value_of(self.key) if held.__class__ is Bundle else held

    @value.setter
    def value(self, value: Any) -> None:
        if self.held.__class__ is Bundle:
            self.held.whole = False
        self.held = value

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the value; None where there is none, or no array."""
        held = self.held
        if held.__class__ is Bundle:
            return held.shape_of(self.key)
        return getattr(held, "shape", None)

    def move(self, value: Any) -> None:
        """Sets the same value as another array, or as part of a bundle."""
        self._moved = id(self.held), weakref.ref(_memory(value))
        self.value = value

    def holds(self, value: Any) -> bool:
        """Whether `value`, which was filed here, is what is here still: nothing has been written since."""
        if self.value is value:
            return True
        if self._moved is None or self.held is None:
            return False
        old, new = self._moved
        return old == id(value) and new() is _memory(self.held)


def _memory(held: Any) -> Any:
    """The array that something which a cell holds lies in."""
    return held.buffer if held.__class__ is Bundle else held


class ResourceStore:
    """Variables and other resources by name. `lock` is held while a step reads and commits state.

    A step may hold `lock` in one thread while others run its operations: what they need of the store has a lock of its own.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._guard = threading.RLock()
        self.closed = False
        self._when_closed: dict[Any, Callable[[], None]] = {}
        self._cells: dict[str, Cell] = {}
        self._objects: dict[Any, Any] = {}

    def cell(self, key: str) -> Cell:
        """The cell of `key`, made where there is none."""
        found = self._cells.get(key)
        if found is None:
            with self._guard:
                found = self._cells.setdefault(key, Cell(key))
        return found

    def get_or_make(self, key: Any, make: Callable[[], Any]) -> Any:
        """The host's resource of this key (a queue, a table), made by `make` the first time."""
        with self._guard:
            if key not in self._objects:
                self._objects[key] = make()
            return self._objects[key]

    def find(self, key: Any) -> Any:
        """The host's resource of this key, or None."""
        return self._objects.get(key)

    def objects(self) -> dict[Any, Any]:
        """A copy of the host's resources by key."""
        with self._guard:
            return dict(self._objects)

    def clear(self, containers: tuple[str, ...] = ()) -> None:
        """Forgets everything, or what lives in the containers of these names."""
        with self._guard:
            if not containers:
                self._cells.clear()
                self._objects.clear()
                return
            for key in [k for k in self._cells if k.partition("|")[0] in containers and "|" in k]:
                self._cells[key].value = None

    def when_closed(self, key: Any, callback: Callable[[], None]) -> None:
        """Has `callback` called when the session is closed (now, if it is), unless `forget(key)` comes first."""
        with self._guard:
            if not self.closed:
                self._when_closed[key] = callback
                return
        callback()

    def forget(self, key: Any) -> None:
        """Takes back `when_closed(key, ...)`."""
        with self._guard:
            self._when_closed.pop(key, None)

    def stop(self) -> None:
        """Stops what waits or runs."""
        with self._guard:
            self.closed = True
            callbacks = list(self._when_closed.values())
            self._when_closed.clear()
        for callback in callbacks:
            callback()

    def close(self) -> None:
        """Stops what waits or runs, and forgets everything."""
        self.stop()
        self.clear()


def handle_bytes(key: str) -> np.ndarray:
    """What fetching a resource handle gives: bytes that name the variable."""
    container, _, name = key.rpartition("|")
    text = f"{container or 'localhost'}/{name}"
    return np.frombuffer(text.encode(), dtype=[("resource", np.ubyte)])
