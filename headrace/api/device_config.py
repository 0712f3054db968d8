"""`tf.test.gpu_device_name` and the like, and the devices of `tf.config.experimental`: what this process can use."""

from __future__ import annotations

import collections
import contextlib
import importlib
import importlib.metadata
import pkgutil
from typing import Any

from headrace.api.export import export
from headrace.runtime.devices import local_devices

PhysicalDevice = collections.namedtuple("PhysicalDevice", ["name", "device_type"])
LogicalDevice = collections.namedtuple("LogicalDevice", ["name", "device_type"])


@export("test.gpu_device_name")
def gpu_device_name() -> str:
    """Returns the name of the first GPU, "/device:GPU:0", or "" where there is none."""
    for device in local_devices():
        if device.device_type == "GPU":
            return f"/device:GPU:{device.index}"
    return ""


@export("test.is_gpu_available")
def is_gpu_available(cuda_only: bool = False, min_cuda_compute_capability: Any = None) -> bool:
    """Returns whether there is a GPU.

    cuda_only: only NVIDIA's count. min_cuda_compute_capability: (major, minor) that one must have at least.
    """
    for device in local_devices():
        if device.device_type != "GPU":
            continue
        text = getattr(device.physical, "compute_capability", "")
        cuda = text.replace(".", "").isdigit()  # AMD's are names such as gfx90a
        if not cuda:
            if not cuda_only:
                return True
            continue
        found = tuple(int(part) for part in text.split("."))
        if min_cuda_compute_capability is None or found >= tuple(min_cuda_compute_capability):
            return True
    return False


def _has_plugin(name: str) -> bool:
    """Whether a plugin of JAX of this name, whatever its version, is installed."""
    names = [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
    with contextlib.suppress(ImportError):
        names += [
            m.name for m in pkgutil.iter_modules(importlib.import_module("jax_plugins").__path__)
        ]
    return any(n.startswith(f"xla_{name}") for n in names)


@export("test.is_built_with_cuda")
def is_built_with_cuda() -> bool:
    """Returns whether JAX is installed with its CUDA plugin."""
    return _has_plugin("cuda")


@export("test.is_built_with_rocm")
def is_built_with_rocm() -> bool:
    """Returns whether JAX is installed with its ROCm plugin."""
    return _has_plugin("rocm")


@export("test.is_built_with_gpu_support")
def is_built_with_gpu_support() -> bool:
    """Returns whether JAX is installed with a plugin for GPUs."""
    return is_built_with_cuda() or is_built_with_rocm()


@export("config.experimental.list_physical_devices")
def list_physical_devices(device_type: str | None = None) -> list[PhysicalDevice]:
    """Returns the hardware that JAX sees, as (name, device_type); device_type: only these ("GPU")."""
    found = {}
    for device in local_devices():
        found[device.physical] = PhysicalDevice(
            f"/physical_device:{device.device_type}:{device.index}", device.device_type
        )
    return [d for d in found.values() if device_type in (None, d.device_type)]


@export("config.experimental.list_logical_devices")
def list_logical_devices(device_type: str | None = None) -> list[LogicalDevice]:
    """Returns the devices that a session without a config has, as (name, device_type)."""
    return [
        LogicalDevice(d.name, d.device_type)
        for d in local_devices()
        if device_type in (None, d.device_type)
    ]


@export("config.experimental_list_devices")
def experimental_list_devices() -> list[str]:
    """Returns the full names of the devices that a session without a config has."""
    return [d.name for d in local_devices()]
