"""The state of a session: variables, generators of random numbers, and resources of the host."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np


class Cell:
    """Where the value of one variable lives: a NumPy or JAX array, None before it is initialised."""

    __slots__ = ("_moved", "key", "value")

    def __init__(self, key: str) -> None:
        self.key = key
        self.value: Any = None
        # (what was moved, by identity, and where it is now)
        self._moved: tuple[int, weakref.ref] | None = None

    def move(self, value: Any) -> None:
        """Sets the same value as another array."""
        self._moved = id(self.value), weakref.ref(value)
        self.value = value

    def holds(self, value: Any) -> bool:
        """Whether `value`, which was filed here, is what is here still: nothing has been written since."""
        if self.value is value:
            return True
        if self._moved is None or self.value is None:
            return False
        old, new = self._moved
        return old == id(value) and new() is self.value


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
