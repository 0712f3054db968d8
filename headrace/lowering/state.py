"""The state of a run: versions of variables, and the slots through which rules read and write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

INITIAL = -1


class StateView:
    """The versions of each variable during one run or one trace, numbered as in `passes.state_order`.

    `load(key)` gives the version from before the run; it is asked once for each key that is read.
    """

    __slots__ = ("_load", "_newest", "_values")

    def __init__(self, load: Callable[[str], Any]) -> None:
        self._load = load
        self._values: dict[tuple[str, int], Any] = {}
        self._newest: dict[str, int] = {}

    def read(self, key: str, version: int) -> Any:
        """The value that write number `version` left; -1: from before the run."""
        try:
            return self._values[key, version]
        except KeyError:
            if version != INITIAL:
                raise
        value = self._values[key, INITIAL] = self._load(key)
        return value

    def write(self, key: str, version: int, value: Any) -> None:
        """Sets what write number `version` leaves."""
        self._values[key, version] = value
        if version > self._newest.get(key, INITIAL):
            self._newest[key] = version

    def has(self, key: str, version: int) -> bool:
        """Whether the version is known to this view."""
        return (key, version) in self._values

    def put(self, key: str, version: int, value: Any) -> None:
        """Notes a version that comes from elsewhere: it is read, and not one of this view's writes."""
        self._values[key, version] = value

    @property
    def written(self) -> dict[str, Any]:
        """The newest version of everything that was written."""
        return {key: self._values[key, version] for key, version in self._newest.items()}


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

    @property
    def initialized(self) -> bool:
        """Whether there is a value to read (only on the host, not while tracing)."""
        from headrace.core.errors import FailedPreconditionError

        try:
            return self.read() is not None
        except FailedPreconditionError:
            return False
