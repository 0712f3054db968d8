"""Values of which there is one for each replica, and nests of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import nest
from headrace.distribute import context
from headrace.graph import convert
from headrace.graph.tensor import OVERLOADABLE, Tensor


class DistributedValues:
    """One value for each device, in the order of the replicas."""

    def __init__(self, devices: Sequence[str], values: Sequence[Any]) -> None:
        """Raises ValueError: not as many values as devices."""
        if len(devices) != len(values):
            raise ValueError(f"{len(values)} values for {len(devices)} devices: {tuple(devices)}")
        self._devices, self._values = tuple(devices), tuple(values)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of the values."""
        return self._devices

    @property
    def values(self) -> tuple[Any, ...]:
        """The values by replica."""
        return self._values

    @property
    def primary(self) -> Any:
        """The first value."""
        return self._values[0]

    def get(self, device: str | None = None) -> Any:
        """The value of a device; of the replica that is being built or updated where None.

        Raises ValueError: there is none for this device, or the values differ and no replica is meant.
        """
        if device is not None:
            name = context.canonical_device(device)
            if name not in self._devices:
                raise ValueError(f"Device {name} not found in {self._devices}")
            return self._values[self._devices.index(name)]
        index = _replica_in_force()
        return self._across() if index is None else self._values[index]

    def _across(self) -> Any:
        raise ValueError(
            f"{type(self).__name__} has a value for each replica, and none for all: use `tf.distribute.Strategy.reduce` "
            "or `experimental_local_results`, or the function of a replica"
        )

    def __repr__(self) -> str:
        lines = [
            f"  {i} {d}: {v}"
            for i, (d, v) in enumerate(zip(self._devices, self._values, strict=True))
        ]
        return f"{type(self).__name__}:{{\n" + ",\n".join(lines) + "\n}"


def _replica_in_force() -> int | None:
    replica = context.get_replica_context()
    return context.update_replica() if replica is None else replica.index


class PerReplica(DistributedValues):
    """Values of replicas that need not be equal."""


class Mirrored(DistributedValues):
    """Copies of the same value. Across replicas, it stands for the copy on the current device, else for the first."""

    def _across(self) -> Any:
        device = context.current_device()
        name = context.canonical_device(device) if device else ""
        return self._values[self._devices.index(name) if name in self._devices else 0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.get(), name)

    def _as_graph_element(self) -> Any:
        value = self.get()
        convert = getattr(value, "_as_graph_element", None)
        return value if convert is None else convert()


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: Mirrored, *args: Any) -> Any:
        return getattr(Tensor, name)(self.get(), *args)

    return apply


for _name in OVERLOADABLE - {"__eq__", "__ne__"}:
    setattr(Mirrored, _name, _operator(_name))


def _to_tensor(
    value: Mirrored, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Any:
    return convert.convert_to_tensor(value.get(), dtype=dtype, name=name, as_ref=as_ref)


convert.register_tensor_conversion_function(Mirrored, _to_tensor)


def is_distributed(value: Any) -> bool:
    """Whether there is one value (or one copy of a variable) for each replica."""
    return isinstance(value, DistributedValues) or hasattr(value, "_distributed_values")


def local_values(value: Any) -> tuple[Any, ...]:
    """The values of the replicas; of what is not distributed, itself alone."""
    if isinstance(value, DistributedValues):
        return value.values
    return getattr(value, "_distributed_values", (value,))


def value_container(value: Any) -> Any:
    """The distributed variable of which `value` is one copy; anything else unchanged."""
    container = getattr(value, "_distributed_container", None)
    found = None if container is None else container()
    return value if found is None else found


def regroup(
    devices: Sequence[str],
    values: Sequence[Any],
    wrap: Callable[[Sequence[str], Sequence[Any]], Any] = PerReplica,
) -> Any:
    """One nest for each replica becomes one nest of distributed values. What is the same object for all stays itself.

    Raises ValueError: the replicas' nests differ.
    """
    first = values[0]
    if isinstance(first, (list, tuple)):
        if any(type(v) is not type(first) or len(v) != len(first) for v in values):
            raise ValueError(f"The replicas returned different structures: {list(values)}")
        parts = [regroup(devices, [v[i] for v in values], wrap) for i in range(len(first))]
        if hasattr(first, "_make"):
            return type(first)._make(parts)  # type: ignore[union-attr]
        return parts if isinstance(first, list) else tuple(parts)
    if isinstance(first, dict):
        if any(not isinstance(v, dict) or v.keys() != first.keys() for v in values):
            raise ValueError(f"The replicas returned different structures: {list(values)}")
        return {key: regroup(devices, [v[key] for v in values], wrap) for key in first}
    containers = [value_container(v) for v in values]
    if all(c is containers[0] for c in containers):
        return containers[0]
    return wrap(devices, values)


def select_replica(replica: int, structured: Any) -> Any:
    """A nest with the values of one replica."""

    def select(value: Any) -> Any:
        return local_values(value)[replica] if is_distributed(value) else value

    return nest.map_structure(select, structured)


def select_mirrored(replica: int, structured: Any) -> Any:
    """A nest with the copies of one replica. Raises TypeError: values that are not copies."""

    def select(value: Any) -> Any:
        if not is_distributed(value):
            return value
        if isinstance(value, PerReplica):
            raise TypeError(
                f"Expected value to be mirrored across replicas: {value} in {structured}."
            )
        return local_values(value)[replica]

    return nest.map_structure(select, structured)
