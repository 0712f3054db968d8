"""Runs the nodes of a plan over devices: what has all it waits for starts, until all have run, one fails, or time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.core import errors
from headrace.runtime import device_threads
from headrace.runtime.devices import Device
from headrace.runtime.rendezvous import Rendezvous


@dataclass(slots=True)
class Node:
    """One segment of a step, as the executor sees it.

    waits: how many nodes of its device and how many arrivals it waits for. followers: nodes of its device that wait for it.
    sends: (key, what, target device), what it sends when it has run. waits_for_state: starts only when the step has its
    variables.
    """

    number: int
    device: Device
    on_host: bool
    waits: int = 0
    followers: list[int] = field(default_factory=list)
    sends: list[tuple[str, Any, Device]] = field(default_factory=list)
    waits_for_state: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a device receives: under which key, what it is, and the nodes that wait for it."""

    key: str
    what: Any
    device: Device
    followers: tuple[int, ...]


class Execution:
    """One run of a plan.

    execute(node) does the work of a node. take(node, what, target) gives a value to send to a device, and
    put(device, what, value) files one that has arrived.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        arrivals: Sequence[Arrival],
        rendezvous: Rendezvous,
        execute: Callable[[Node], None],
        take: Callable[[Node, Any, Device], Any],
        put: Callable[[Device, Any, Any], None],
    ) -> None:
        self._nodes, self._arrivals, self._rendezvous = nodes, arrivals, rendezvous
        self._execute, self._take, self._put = execute, take, put
        self._lock = threading.Lock()
        # Those that must wait for the state of the step wait for one thing more.
        self._pending = [n.waits + n.waits_for_state for n in nodes]
        self._left = len(nodes)
        self._left_before_state = sum(not n.waits_for_state for n in nodes)
        self._stateless_done = threading.Event()
        self._done = threading.Event()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Starts what waits for nothing."""
        if not self._left:
            self._done.set()
        if not self._left_before_state:
            self._stateless_done.set()
        # Counted before anything can arrive: an arrival may start a node at once.
        ready = [n for n, p in zip(self._nodes, self._pending, strict=True) if not p]
        for arrival in self._arrivals:
            self._rendezvous.receive(arrival.key, self._arrived(arrival))
        for node in ready:
            self._submit(node)

    def give_state(self) -> None:
        """Lets those start that waited for the state of the step."""
        self._lower(n.number for n in self._nodes if n.waits_for_state)

    def wait_for_others(self, seconds: float | None = None) -> bool:
        """Waits until everything that does not need the state has run, or the run is over; False: time is up first."""
        return self._stateless_done.wait(seconds)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until everything has run, or the run has failed; False: time is up first."""
        return self._done.wait(seconds)

    def abort(self, error: BaseException) -> None:
        """Ends the run with `error`, unless it is over or has failed before. What has started runs to its end unheard."""
        with self._lock:
            if self.error is not None or not self._left:
                return
            self.error = error
        self._stateless_done.set()
        self._done.set()

    # ---- in the threads of devices and of the host

    def _submit(self, node: Node) -> None:
        def task() -> None:
            self._run(node)

        if node.on_host:
            device_threads.submit_to_host(task)
        else:
            device_threads.submit_to_device(node.device.name, node.device.physical, task)

    def _run(self, node: Node) -> None:
        if self.error is not None:
            return
        try:
            self._execute(node)
            for key, what, target in node.sends:
                self._rendezvous.send(key, self._take(node, what, target))
        except BaseException as error:  # whatever it is, the one who called `run` must hear of it
            self.abort(error)
            return
        self._finish(node)

    def _finish(self, node: Node) -> None:
        self._lower(node.followers)
        with self._lock:
            self._left -= 1
            done = not self._left
            if not node.waits_for_state:
                self._left_before_state -= 1
                if not self._left_before_state:
                    self._stateless_done.set()
        if done:
            self._done.set()

    def _arrived(self, arrival: Arrival) -> Callable[[Any], None]:
        def arrived(value: Any) -> None:
            self._put(arrival.device, arrival.what, value)
            self._lower(arrival.followers)

        return arrived

    def _lower(self, numbers: Any) -> None:
        """Counts down what these nodes wait for, and starts those that wait for nothing more."""
        ready: list[Node] = []
        with self._lock:
            for number in numbers:
                self._pending[number] -= 1
                if not self._pending[number]:
                    ready.append(self._nodes[number])
        for node in ready:
            self._submit(node)


def timed_out(op: Any = None) -> errors.DeadlineExceededError:
    """The error of a run that took longer than it may."""
    return errors.DeadlineExceededError(
        None, op, "Timed out waiting for the step to end: no variable has changed"
    )
