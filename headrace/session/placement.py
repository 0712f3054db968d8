"""The devices that the operations of a session's graph are on; printed where the config asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.passes.partial_calls import original
from headrace.passes.placer import Placer, cpu_only
from headrace.passes.segments import is_constant
from headrace.runtime.devices import Device, default_device
from headrace.runtime.node_costs import NodeCosts


class Placement:
    """Puts the operations of a graph on the devices of a session."""

    def __init__(self, session: Any) -> None:
        config = session._config
        self._session = session
        self._soft = config is not None and config.allow_soft_placement
        self._log = config is not None and config.log_device_placement
        self._pruned = config is not None and config.graph_options.place_pruned_graph
        by_cost = config is not None and config.graph_options.build_cost_model > 0
        self.costs = NodeCosts() if by_cost else None
        self._placer: Placer | None = None
        self._by_name: dict[str, Device] = {}
        self._seen = 0  # operations of the graph looked at
        if self._log:
            self._print_mapping()

    def place(self, graph: Graph, ops: Iterable[Operation]) -> None:
        """Places the graph's new operations before a run; with `place_pruned_graph` only `ops`.

        Raises InvalidArgumentError: a device that the session does not have, without `allow_soft_placement`.
        """
        count = len(graph._operations)
        placer = self._placer or self._make_placer()
        wanted = (
            [original(op) for op in ops] if self._pruned else graph._operations[self._seen : count]
        )
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
        found = self._placer.device_of(original(op)) if self._placer is not None else None
        return found or self._session._devices[0].name

    def device(self, op: Operation) -> Device:
        """The device of `op`, which has been placed."""
        return self._by_name[self.device_of(op)]

    def on_default_device(self, ops: Iterable[Operation]) -> bool:
        """Whether `ops` are on the device that JAX uses where nobody says another, what only the host can do on CPU:0."""
        devices = self._session._devices
        default = default_device()
        if len(devices) == 1:
            return devices[0].physical is default
        first = next((d for d in devices if d.physical is default), None)
        return first is not None and all(
            self.device_of(op) == first.name
            or is_constant(op)
            or (self.device_of(op) == devices[0].name and cpu_only(op))
            for op in ops
        )

    def _make_placer(self) -> Placer:
        self._by_name = {device.name: device for device in self._session._devices}
        names = list(self._by_name)
        self._placer = Placer(names, self._soft, self.costs)
        return self._placer

    def _print_mapping(self) -> None:
        lines = [f"{d.name} -> {d.description}" for d in self._session._devices if d.description]
        text = (
            "\n".join(["Device mapping:", *lines]) if lines else "Device mapping: no known devices."
        )
        print(text, flush=True)
