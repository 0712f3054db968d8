"""`device_lib.list_local_devices`: the devices of this process."""

import dataclasses

from headrace.runtime.devices import configure, local_devices


@dataclasses.dataclass(frozen=True)
class DeviceAttributes:
    """What TensorFlow's message of that name says about a device."""

    name: str
    device_type: str
    memory_limit: int
    incarnation: int
    physical_device_desc: str = ""


def list_local_devices(session_config=None):
    """Returns a DeviceAttributes for every device, named as in a process of its own: `/device:CPU:0`."""
    configure(session_config)
    return [
        DeviceAttributes(
            name=f"/device:{device.device_type}:{device.index}",
            device_type=device.device_type,
            memory_limit=device.memory_limit,
            incarnation=device.incarnation,
            physical_device_desc=device.description,
        )
        for device in local_devices(session_config)
    ]
