"""The devices of this process: logical ones, with TensorFlow's names, each on a device of JAX.

A session may ask for any number of CPU devices. JAX must be told of them before it starts, which it does when it is first
used, and then their number stands for the life of the process: where it has fewer, several logical devices share one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from headrace.core import errors
from headrace.lowering.jax_adapter import run_where_called
from headrace.runtime import allocator

PREFIX = "/job:localhost/replica:0/task:0/device:"
_CPU_BYTES = 256 << 20
# XLA's names of platforms, and TensorFlow's types of devices; what stands first is preferred for an operation.
_ACCELERATORS = (("tpu", "TPU"), ("gpu", "GPU"))

# How many threads XLA's pool for the CPU gets, and that of the kernels that the host calls (`native/src/host_pool.h`).
_THREADS = "PJRT_NPROC"


@dataclass(frozen=True, slots=True)
class Device:
    """One logical device: its full name, type and number, how much memory it may use (bytes), and what it runs on.

    incarnation: a number that rendezvous keys carry. description: of the hardware, "" for a CPU.
    """

    name: str
    device_type: str
    index: int
    memory_limit: int
    incarnation: int
    physical: Any
    description: str = ""


def request_cpus(count: int) -> None:
    """Asks JAX for `count` CPU devices.

    A number that the program or the environment (JAX_NUM_CPU_DEVICES) gave JAX stays if it is larger. Once JAX has started
    nothing changes.
    """
    flag = re.search(
        r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    given = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if count > max(1, given, int(flag[1]) if flag and given < 0 else 1):
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError:  # too late: `cpu_devices` shares out what there is
            return


def configure(config: Any) -> None:
    """Hands a ConfigProto (or None) on to JAX, which looks at most of it when it starts; later it does not."""
    allocator.keep_freed_memory()
    run_where_called()
    request_cpus(config.device_count.get("CPU", 1) if config is not None else 1)
    if config is None:
        return
    if config.intra_op_parallelism_threads > 0:
        os.environ.setdefault(_THREADS, str(config.intra_op_parallelism_threads))
    if not config.HasField("gpu_options"):
        return
    options = config.gpu_options
    if options.allow_growth:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.per_process_gpu_memory_fraction > 0:
        os.environ.setdefault(
            "XLA_PYTHON_CLIENT_MEM_FRACTION", str(options.per_process_gpu_memory_fraction)
        )
    if options.visible_device_list:
        jax.config.update("jax_cuda_visible_devices", options.visible_device_list)


def _of_platform(platform: str) -> list[Any]:
    """JAX's devices of this process and platform, none where it does not have the platform."""
    try:
        return jax.local_devices(backend=platform)
    except RuntimeError:
        return []


def cpu_devices(count: int) -> list[Any]:
    """A device of JAX for each of `count` logical CPU devices, in turn where there are fewer.

    JAX may have been told to leave the CPU alone (JAX_PLATFORMS=cuda): then its first device stands in.
    """
    found = _of_platform("cpu") or jax.local_devices()[:1]
    return [found[i % len(found)] for i in range(count)]


def default_device() -> Any:
    """The device of JAX that computes where nothing says another."""
    return jax.config.jax_default_device or jax.local_devices()[0]  # type: ignore[attr-defined]


def local_devices(config: Any = None) -> tuple[Device, ...]:
    """The devices of a session with this ConfigProto: as many CPU devices as it asks for (1), then the accelerators.

    Raises InvalidArgumentError: a `visible_device_list` that names a GPU which is not there.
    """
    wanted = config.device_count if config is not None else {}
    found = [
        Device(f"{PREFIX}CPU:{i}", "CPU", i, _CPU_BYTES, i + 1, physical)
        for i, physical in enumerate(cpu_devices(max(1, wanted.get("CPU", 1))))
    ]
    for platform, kind in _ACCELERATORS:
        physicals = _of_platform(platform)
        options = config.gpu_options if config is not None else None
        if kind == "GPU" and options is not None and options.visible_device_list:
            physicals = _visible(physicals, options.visible_device_list)
        physicals = physicals[: wanted.get(kind, len(physicals))]
        limits = _memory_limits(physicals, options if kind == "GPU" else None)
        for index, (physical, limit) in enumerate(limits):
            found.append(
                Device(
                    f"{PREFIX}{kind}:{index}",
                    kind,
                    index,
                    limit,
                    len(found) + 1,
                    physical,
                    _describe(physical),
                )
            )
    return tuple(found)


def _visible(physicals: Sequence[Any], listed: str) -> list[Any]:
    """The GPUs that `listed` ("1,0") names, in its order, by the numbers that they have on the machine."""
    by_number = {d.local_hardware_id: d for d in physicals}
    if len(physicals) == listed.count(",") + 1 and not by_number.keys() - range(len(physicals)):
        # JAX was started with this very list, and counts what it sees from zero.
        if jax.config.read("jax_cuda_visible_devices") == listed:
            return list(physicals)
    chosen = []
    for text in listed.split(","):
        number = int(text) if text.strip().isdigit() else None
        if number in by_number:
            chosen.append(by_number[number])
        elif physicals:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"'visible_device_list' listed an invalid GPU id {text.strip()!r}: the GPUs here have the numbers "
                f"{sorted(by_number)}",
            )
    return chosen


def _memory_limits(physicals: Sequence[Any], options: Any) -> list[tuple[Any, int]]:
    """(device of JAX, bytes) for each logical accelerator: several on one where the config divides it up."""
    found = []
    virtual = options.experimental.virtual_devices if options is not None else ()
    for position, physical in enumerate(physicals):
        parts = virtual[position].memory_limit_mb if position < len(virtual) else ()
        if parts:
            found += [(physical, int(part) << 20) for part in parts]
        else:
            found.append((physical, (physical.memory_stats() or {}).get("bytes_limit", 0)))
    return found


def _describe(physical: Any) -> str:
    text = f"device: {physical.local_hardware_id}, name: {physical.device_kind}"
    capability = getattr(physical, "compute_capability", None)
    return f"{text}, compute capability: {capability}" if capability else text
