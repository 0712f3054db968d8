"""Which device of a session each operation is placed on; logged or refused where the config asks for it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from headrace.core import device_spec, errors
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation


class Placement:
    """Puts the operations of a graph on the devices of a session, and logs or refuses where its config asks for it."""

    def __init__(self, session: Any) -> None:
        config = session._config
        self._session = session
        self._soft = config is not None and config.allow_soft_placement
        self._log = config is not None and config.log_device_placement
        self._pruned = config is not None and config.graph_options.place_pruned_graph
        self._names: list[str] = []
        self._parsed: list[tuple[Any, ...]] = []
        self._by_spec: dict[str, str | None] = {}
        self._seen = 0  # operations of the graph looked at
        self._logged: set[Operation] = set()

    def place(self, graph: Graph, ops: Iterable[Operation]) -> None:
        """Looks at the graph's new operations before a run; with `place_pruned_graph` only at `ops`.

        Raises InvalidArgumentError: a device that the session does not have, without `allow_soft_placement`.
        """
        if self._pruned:
            for op in ops:
                self._check(op)
            return
        count = len(graph._operations)
        for op in graph._operations[self._seen : count]:
            self._check(op)
            self._seen += 1

    def device_of(self, op: Operation) -> str:
        """The full name of the device of `op`. Raises InvalidArgumentError: the session does not have it."""
        spec = op._device or self._colocated(op)
        found = self._by_spec.get(spec)
        if found is None:
            found = self._by_spec[spec] = self._match(op, spec)
        return found

    def _check(self, op: Operation) -> None:
        if op._device:
            self.device_of(op)
        if self._log and op not in self._logged:
            self._logged.add(op)
            print(f"{op._name}: ({op.type}): {self.device_of(op)}", file=sys.stderr, flush=True)

    @staticmethod
    def _colocated(op: Operation) -> str:
        """The device of the first operation that `op` is colocated with, "" where that has none."""
        for group in op._attrs.get("_class") or ():
            text = group.decode() if isinstance(group, bytes) else group
            anchor = op._graph._by_name.get(text.removeprefix("loc:@"))
            if anchor is not None and anchor is not op and anchor._device:
                return anchor._device
        return ""

    def _match(self, op: Operation, spec: str) -> str:
        if not self._names:
            self._names = [d.name for d in self._session._devices]
            self._parsed = [device_spec.parse(name) for name in self._names]
        wanted = device_spec.parse(spec)
        fitting = self._fitting(wanted)
        if not fitting and self._soft:
            # The kind and the number may give way, the machine may not.
            fitting = self._fitting((*wanted[:3], None, None))
            fitting = [name for name in fitting if "CPU" in name] or fitting
        if fitting:
            # TensorFlow prefers a GPU where the program leaves it open.
            gpus = [name for name in fitting if "device:GPU" in name]
            return gpus[0] if gpus and not op._definition.host_only else fitting[0]
        raise errors.InvalidArgumentError(
            None,
            op,
            f"Cannot assign a device for operation {op._name}: {op.type} op {op._name!r} was explicitly "
            f"assigned to {spec} but available devices are [ {', '.join(self._names)} ]. Make sure "
            "the device specification refers to a valid device, or pass "
            "tf.ConfigProto(allow_soft_placement=True) to the session.",
        )

    def _fitting(self, wanted: tuple[Any, ...]) -> list[str]:
        return [
            name
            for name, parts in zip(self._names, self._parsed, strict=True)
            if all(w is None or w == p for w, p in zip(wanted, parts, strict=True))
        ]
