"""The devices that the operations of a session's graph are on; printed where the config asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.passes.placer import Placer


class Placement:
    """Puts the operations of a graph on the devices of a session."""

    def __init__(self, session: Any) -> None:
        config = session._config
        self._session = session
        self._soft = config is not None and config.allow_soft_placement
        self._log = config is not None and config.log_device_placement
        self._pruned = config is not None and config.graph_options.place_pruned_graph
        self._placer: Placer | None = None
        self._seen = 0  # operations of the graph looked at
        if self._log:
            self._print_mapping()

    def place(self, graph: Graph, ops: Iterable[Operation]) -> None:
        """Places the graph's new operations before a run; with `place_pruned_graph` only `ops`.

        Raises InvalidArgumentError: a device that the session does not have, without `allow_soft_placement`.
        """
        count = len(graph._operations)
        placer = self._placer or self._make_placer()
        wanted = ops if self._pruned else graph._operations[self._seen : count]
        if len(self._session._devices) == 1 and not self._log:
            # There is one answer for all; only what a program asks for can be wrong.
            wanted = [op for op in wanted if op._device]
        for op in placer.place(wanted):
            if self._log:
                print(f"{op._name}: ({op.type}): {placer.device_of(op)}", flush=True)
        if not self._pruned:
            self._seen = count

    def device_of(self, op: Operation) -> str:
        """The full name of the device of `op`, which has been placed."""
        found = self._placer.device_of(op) if self._placer is not None else None
        return found or self._session._devices[0].name

    def _make_placer(self) -> Placer:
        names = [device.name for device in self._session._devices]
        self._placer = Placer(names, self._soft)
        return self._placer

    def _print_mapping(self) -> None:
        lines = [f"{d.name} -> {d.description}" for d in self._session._devices if d.description]
        text = (
            "\n".join(["Device mapping:", *lines]) if lines else "Device mapping: no known devices."
        )
        print(text, flush=True)
