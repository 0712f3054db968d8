"""Where the parts of a step on different devices meet: what one sends under a key, another receives under it.

This is the only thing that has to differ between devices of one process and devices of several.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

Arrived = Callable[[Any], None]


class Rendezvous(Protocol):
    """What the executor asks of a transport. Every key is sent once and received once."""

    def send(self, key: str, value: Any) -> None:
        """Hands over the value of `key`; does not wait for the receiver."""

    def receive(self, key: str, arrived: Arrived) -> None:
        """Has `arrived(value)` called once `key` has been sent, perhaps at once and in any thread."""


class LocalRendezvous:
    """The rendezvous of one step whose devices are all in this process."""

    __slots__ = ("_lock", "_sent", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, Any] = {}
        self._waiting: dict[str, Arrived] = {}

    def send(self, key: str, value: Any) -> None:
        """Hands over the value of `key`."""
        with self._lock:
            arrived = self._waiting.pop(key, None)
            if arrived is None:
                self._sent[key] = value
        if arrived is not None:
            arrived(value)

    def receive(self, key: str, arrived: Arrived) -> None:
        """Has `arrived(value)` called once `key` has been sent."""
        with self._lock:
            if key not in self._sent:
                self._waiting[key] = arrived
                return
            value = self._sent.pop(key)
        arrived(value)
