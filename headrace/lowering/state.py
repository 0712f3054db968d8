"""The state of a run: versions of variables, and the slots through which rules read and write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StateView:
    """The versions of each variable during one run or one trace.

    `load(key)` gives the version from before the run; it is asked once for each key that is read.
    """

    __slots__ = ("_initial", "_load", "_written")

    def __init__(self, load: Callable[[str], Any]) -> None:
        self._load = load
        self._initial: dict[str, Any] = {}
        self._written: dict[str, list[Any]] = {}

    def read(self, key: str, version: int) -> Any:
        """The value that write number `version` left; -1: from before the run."""
        if version < 0:
            value = self._initial.get(key)
            if value is None:
                value = self._initial[key] = self._load(key)
            return value
        return self._written[key][version]

    def write(self, key: str, value: Any) -> None:
        """Adds a version."""
        self._written.setdefault(key, []).append(value)

    def latest(self, key: str) -> Any:
        """The newest version; None where nothing was written."""
        versions = self._written.get(key)
        return versions[-1] if versions else None

    @property
    def written(self) -> dict[str, Any]:
        """The newest version of everything that was written."""
        return {key: versions[-1] for key, versions in self._written.items()}


class Slot:
    """A variable (or a generator of random numbers) as one operation sees it."""

    __slots__ = ("_version", "_view", "key")

    def __init__(self, view: StateView, key: str, version: int) -> None:
        self._view, self.key, self._version = view, key, version

    def read(self) -> Any:
        """The value that this operation sees; after `write`, what was written."""
        return self._view.read(self.key, self._version)

    def write(self, value: Any) -> None:
        """Makes `value` the newest version, seen by whatever comes after this operation."""
        self._view.write(self.key, value)
        self._version += 1

    @property
    def initialized(self) -> bool:
        """Whether there is a value to read (only on the host, not while tracing)."""
        from headrace.core.errors import FailedPreconditionError

        try:
            return self.read() is not None
        except FailedPreconditionError:
            return False
