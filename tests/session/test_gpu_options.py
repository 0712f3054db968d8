"""GPUOptions, as far as they can be seen without a GPU: what reaches JAX, and which devices are made of what is there."""

from __future__ import annotations

import types

import jax
import pytest

import headrace as tf
from headrace.runtime import devices


@pytest.fixture
def visible():
    """JAX's own list of visible devices, put back afterwards."""
    before = jax.config.read("jax_cuda_visible_devices")
    yield
    jax.config.update("jax_cuda_visible_devices", before)


def gpu(number):
    return types.SimpleNamespace(
        local_hardware_id=number, device_kind="H", memory_stats=lambda: {"bytes_limit": 1 << 30}
    )


def test_memory_options_reach_jax(monkeypatch):
    names = ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    environment = {}
    monkeypatch.setattr(devices.os, "environ", environment)
    tf.Session(config=tf.ConfigProto()).close()
    assert not any(name in environment for name in names)
    options = tf.GPUOptions(allow_growth=True, per_process_gpu_memory_fraction=0.25)
    tf.Session(config=tf.ConfigProto(gpu_options=options)).close()
    assert [environment[name] for name in names] == ["false", "0.25"]
    environment[names[1]] = "0.9"  # the user's own word stands
    tf.Session(config=tf.ConfigProto(gpu_options=options)).close()
    assert environment[names[1]] == "0.9"


def test_visible_devices_in_their_order(monkeypatch, visible):
    machine = [gpu(0), gpu(1), gpu(2)]
    monkeypatch.setattr(
        devices, "_of_platform", lambda p: machine if p == "gpu" else jax.local_devices()[:1]
    )
    config = tf.ConfigProto(gpu_options=tf.GPUOptions(visible_device_list="2,0"))
    found = [d for d in devices.local_devices(config) if d.device_type == "GPU"]
    assert [d.physical.local_hardware_id for d in found] == [2, 0]
    assert [d.name[-5:] for d in found] == ["GPU:0", "GPU:1"]
    devices.configure(config)
    assert jax.config.read("jax_cuda_visible_devices") == "2,0"
    config.gpu_options.visible_device_list = "7"
    with pytest.raises(tf.errors.InvalidArgumentError, match="invalid GPU id '7'"):
        devices.local_devices(config)


def test_virtual_devices(monkeypatch):
    machine = [gpu(0), gpu(1)]
    monkeypatch.setattr(
        devices, "_of_platform", lambda p: machine if p == "gpu" else jax.local_devices()[:1]
    )
    config = tf.ConfigProto()
    config.gpu_options.experimental.virtual_devices.add(memory_limit_mb=[100, 200])
    found = [d for d in devices.local_devices(config) if d.device_type == "GPU"]
    assert [(d.physical.local_hardware_id, d.memory_limit) for d in found] == [
        (0, 100 << 20),
        (0, 200 << 20),
        (1, 1 << 30),
    ]
