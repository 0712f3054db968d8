"""The devices of a session, as `list_devices` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DeviceAttributes:
    """One device: its full name, its type, how much memory it may use (bytes), and a number for this incarnation."""

    name: str
    device_type: str
    memory_limit_bytes: int
    incarnation: int

    def __repr__(self) -> str:
        return (
            f"_DeviceAttributes({self.name}, {self.device_type}, {self.memory_limit_bytes}, {self.incarnation})"
        )


def list_devices(session: Any) -> list[DeviceAttributes]:
    """The devices of `session`: as many CPU devices as its config asks for, one where it says nothing."""
    config = session._config
    count = config.device_count.get("CPU", 1) if config is not None else 1
    prefix = "/job:localhost/replica:0/task:0/device:CPU:"
    return [DeviceAttributes(f"{prefix}{i}", "CPU", 256 << 20, i + 1) for i in range(max(1, count))]
