"""Programs that are kept: those that were used last, up to a number. Each takes 1.4 MB and more, however small it is."""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key; the one that has not been used for longest goes when there are more than `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: collections.OrderedDict[Hashable, Value] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def find(self, key: Hashable) -> Value | None:
        """The value of `key`, which counts as used now; None where there is none."""
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
            return found

    def add(self, key: Hashable, value: Value) -> None:
        """Sets the value of `key`."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)

    def values(self) -> list[Value]:
        """All values, the one used last at the end."""
        with self._lock:
            return list(self._values.values())

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._values.clear()
