"""The devices of a session as TensorFlow's API lists them."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.core import device_spec
from headrace.runtime.devices import Device


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


def attributes(device: Device) -> DeviceAttributes:
    """What `list_devices` says of a device."""
    return DeviceAttributes(
        device.name, device.device_type, device.memory_limit, device.incarnation
    )
