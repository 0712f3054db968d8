"""Device names such as `/job:worker/replica:0/task:17/device:GPU:3`, whole or in part."""

from __future__ import annotations

import functools
from typing import Any

# job, replica, task, device type, device index; None for what is not said.
Components = tuple[str | None, int | None, int | None, str | None, int | None]


def _str_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _type_or_none(value: Any) -> str | None:
    # The lower-case names of old programs.
    return value.upper() if value in ("cpu", "gpu") else _str_or_none(value)


@functools.lru_cache(maxsize=4096)
def parse(spec: str | None) -> Components:
    """Returns the components of the device name `spec`.

    spec: such as "/job:ps/task:1/device:GPU:*", "/cpu:0" or ""; None is the same as "".
    Raises ValueError: an unknown part, two device types, or an index that is not a number.
    """
    job = device_type = None
    replica = task = device_index = None
    for part in (spec or "").split("/"):
        words = part.split(":")
        key, count = words[0], len(words)
        kind = index = None
        if key == "job" and count == 2:
            job = words[1]
        elif key == "replica" and count == 2:
            replica = int(words[1])
        elif key == "task" and count == 2:
            task = int(words[1])
        elif key == "device" and count == 3:
            kind, index = words[1], words[2]
        elif key.upper() in ("CPU", "GPU") and count <= 2:
            kind, index = key.upper(), words[1] if count == 2 else "*"
        elif key:
            raise ValueError(f"Unknown attribute: '{key}' in '{spec}'")
        if kind is not None:
            if device_type is not None:
                raise ValueError(f"Cannot specify multiple device types: {spec}")
            device_type = kind
            device_index = None if index == "*" else int(index)  # pyright: ignore[reportArgumentType]
    return job, replica, task, _type_or_none(device_type), device_index


@functools.lru_cache(maxsize=4096)
def join(
    job: str | None,
    replica: int | None,
    task: int | None,
    device_type: str | None,
    device_index: int | None,
) -> str:
    """Returns the canonical name made of these components."""
    parts = []
    if job is not None:
        parts.append(f"/job:{job}")
    if replica is not None:
        parts.append(f"/replica:{replica}")
    if task is not None:
        parts.append(f"/task:{task}")
    if device_type is not None:
        parts.append(f"/device:{device_type}:{'*' if device_index is None else device_index}")
    return "".join(parts)


@functools.lru_cache(maxsize=16384)
def merge_names(base: str | None, override: str | None) -> str:
    """Returns the canonical name with the components of `override`, and `base`'s where it has none.

    Raises ValueError: either is not a device name.
    """
    pairs = zip(parse(base), parse(override), strict=True)
    return join(*[b if o is None else o for b, o in pairs])  # pyright: ignore[reportArgumentType]


class DeviceSpec:
    """A device name in parts, any of which may be missing (None).

    job: str.  replica, task, device_index: int.  device_type: str such as "CPU", "GPU", "TPU".
    """

    __slots__ = ("_device_index", "_device_type", "_job", "_replica", "_task")

    def __init__(
        self,
        job: Any = None,
        replica: Any = None,
        task: Any = None,
        device_type: Any = None,
        device_index: Any = None,
    ) -> None:
        self._job = _str_or_none(job)
        self._replica = _int_or_none(replica)
        self._task = _int_or_none(task)
        self._device_type = _type_or_none(device_type)
        self._device_index = _int_or_none(device_index)

    @property
    def job(self) -> str | None:
        """The name of the job."""
        return self._job

    @job.setter
    def job(self, job: Any) -> None:
        self._job = _str_or_none(job)

    @property
    def replica(self) -> int | None:
        """The number of the replica."""
        return self._replica

    @replica.setter
    def replica(self, replica: Any) -> None:
        self._replica = _int_or_none(replica)

    @property
    def task(self) -> int | None:
        """The number of the task within the job."""
        return self._task

    @task.setter
    def task(self, task: Any) -> None:
        self._task = _int_or_none(task)

    @property
    def device_type(self) -> str | None:
        """The type of the device."""
        return self._device_type

    @device_type.setter
    def device_type(self, device_type: Any) -> None:
        self._device_type = _type_or_none(device_type)

    @property
    def device_index(self) -> int | None:
        """The number of the device within its task and type."""
        return self._device_index

    @device_index.setter
    def device_index(self, device_index: Any) -> None:
        self._device_index = _int_or_none(device_index)

    def _components(self) -> Components:
        return self._job, self._replica, self._task, self._device_type, self._device_index

    def to_string(self) -> str:
        """Returns the canonical name."""
        return join(*self._components())

    @classmethod
    def from_string(cls, spec: str | None) -> DeviceSpec:
        """Returns the device named `spec`; raises ValueError if that is not a device name."""
        return cls(*parse(spec))

    def parse_from_string(self, spec: str | None) -> DeviceSpec:
        """Takes every component from `spec`, as `from_string` does, and returns itself."""
        self.job, self.replica, self.task, self.device_type, self.device_index = parse(spec)
        return self

    def merge_from(self, dev: DeviceSpec) -> None:
        """Takes the components that `dev` has."""
        merged = self.make_merged_spec(dev)
        self._job, self._replica, self._task, self._device_type, self._device_index = (
            merged._components()
        )

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """Returns a new device with the components of `dev`, and this one's where it has none."""
        pairs = zip(self._components(), dev._components(), strict=True)
        return type(self)(*[a if b is None else b for a, b in pairs])

    def replace(self, **kwargs: Any) -> DeviceSpec:
        """Returns a new device with the components that are named set to other values.

        Raises TypeError: a name that is not a component's.
        """
        names = ("job", "replica", "task", "device_type", "device_index")
        return type(self)(**{**dict(zip(names, self._components(), strict=True)), **kwargs})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_string() == other.to_string()

    def __hash__(self) -> int:
        return hash(self.to_string())

    def __repr__(self) -> str:
        return f"DeviceSpec({self.to_string()!r})"


def canonical_name(device: str | DeviceSpec | None) -> str:
    """Returns the canonical name of `device`, "" for None; raises ValueError if malformed."""
    if device is None:
        return ""
    return device.to_string() if isinstance(device, DeviceSpec) else join(*parse(device))


class MergeDevice:
    """A device function that gives a node the components of one device that it lacks."""

    __slots__ = ("_name",)

    def __init__(self, spec: str | DeviceSpec | None) -> None:
        self._name = canonical_name(spec)

    def __call__(self, node_def: Any) -> DeviceSpec:
        """Returns the device for `node_def`, anything with a `device`; the node's own parts win."""
        return DeviceSpec.from_string(merge_names(self._name, node_def.device or ""))

    def shortcut_string_merge(self, node_def: Any) -> str:
        """Returns the name of what the call returns, without making a `DeviceSpec`."""
        return merge_names(self._name, node_def.device or "")

    @property
    def is_null_merge(self) -> bool:
        """Whether the device has no component, so that nothing would change."""
        return not self._name

    def __repr__(self) -> str:
        return f"MergeDevice({self._name!r})"


@functools.lru_cache(maxsize=4096)
def _merger(name: str) -> MergeDevice:
    return MergeDevice(name)


def merge_device(spec: str | DeviceSpec | MergeDevice | None) -> MergeDevice:
    """Returns the device function that merges `spec` into a node's device.

    Raises ValueError: `spec` is not a device name.
    """
    return spec if isinstance(spec, MergeDevice) else _merger(canonical_name(spec))
