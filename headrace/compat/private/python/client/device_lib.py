"""`device_lib.list_local_devices`: the devices of this process."""

import dataclasses

import headrace as tf


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
    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        devices = session.list_devices()
    return [
        DeviceAttributes(
            name="/device:" + device.name.rpartition("/device:")[2],
            device_type=device.device_type,
            memory_limit=device.memory_limit_bytes,
            incarnation=device.incarnation,
        )
        for device in devices
    ]
