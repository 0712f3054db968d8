"""The devices of a session, and which of them each operation is placed on.

What JAX finds besides the CPU is listed as GPU devices. Everything that XLA compiles runs on JAX's default device; the
placement says what TensorFlow's placer would say of the same graph, and refuses the same device names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax

from headrace.core import device_spec, errors
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation

PREFIX = "/job:localhost/replica:0/task:0/device:"
_CPU_BYTES = 256 << 20


@dataclass(frozen=True)
class DeviceAttributes:
    """One device: its full name, its type, how much memory it may use (bytes), and a number for this incarnation."""

    name: str
    device_type: str
    memory_limit_bytes: int
    incarnation: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", device_spec.canonical_name(self.name))

    def __repr__(self) -> str:
        return f"_DeviceAttributes({self.name}, {self.device_type}, {self.memory_limit_bytes}, {self.incarnation})"


def configure_gpus(options: Any) -> None:
    """Hands GPUOptions on to JAX, which looks at them when it is first used in the process; later it does not."""
    if options.allow_growth:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.per_process_gpu_memory_fraction > 0:
        os.environ.setdefault(
            "XLA_PYTHON_CLIENT_MEM_FRACTION", str(options.per_process_gpu_memory_fraction)
        )
    if options.visible_device_list:
        jax.config.update("jax_cuda_visible_devices", options.visible_device_list)


def list_devices(session: Any) -> list[DeviceAttributes]:
    """The devices of `session`: as many CPU devices as its config asks for (one where it says nothing), then GPUs."""
    wanted = session._config.device_count if session._config is not None else {}
    found = [
        DeviceAttributes(f"{PREFIX}CPU:{i}", "CPU", _CPU_BYTES, i + 1)
        for i in range(max(1, wanted.get("CPU", 1)))
    ]
    gpus = [d for d in jax.devices() if d.platform == "gpu"]
    for i, device in enumerate(gpus[: wanted.get("GPU", len(gpus))]):
        limit = (device.memory_stats() or {}).get("bytes_limit", 0)
        found.append(DeviceAttributes(f"{PREFIX}GPU:{i}", "GPU", limit, len(found) + 1))
    return found


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
            self._names = [d.name for d in list_devices(self._session)]
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
