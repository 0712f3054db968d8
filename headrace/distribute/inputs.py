"""Where the replicas' inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import device_spec
from headrace.distribute.values import regroup
from headrace.graph import default


class CallableIterator:
    """Gives each replica the tensors that a function makes, called once for each, on the host."""

    def __init__(self, function: Callable[[], Any], devices: Sequence[str]) -> None:
        self._function, self._devices = function, tuple(devices)

    def initialize(self) -> list[Any]:
        """What to run before the first element: nothing."""
        return []

    def get_next(self, name: str | None = None) -> Any:
        """The next element: distributed values."""
        first = device_spec.DeviceSpec.from_string(self._devices[0])
        host = first.replace(device_type="CPU", device_index=0)
        with default.get_default_graph().device(host):
            return regroup(self._devices, [self._function() for _ in self._devices])
