"""`tf.distribute.MirroredStrategy`: a copy of the variables and a replica on each device of a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.export import export
from headrace.distribute import context, reduction, variables
from headrace.distribute.replica import call_for_each
from headrace.distribute.strategy import Strategy, StrategyExtended
from headrace.runtime import devices as machine


class _MirroredExtended(StrategyExtended):
    def __init__(self, strategy: Any, devices: Sequence[str], cross_device_ops: Any) -> None:
        super().__init__(strategy)
        names = tuple(context.canonical_device(d) for d in devices)
        if not names:
            raise ValueError("MirroredStrategy: got an empty `devices` list")
        if len(set(names)) != len(names):
            raise ValueError(f"No duplicates allowed in `devices` argument: {names}")
        self._devices, self._chosen_ops = names, cross_device_ops

    @property
    def worker_devices(self) -> tuple[str, ...]:
        return self._devices

    @property
    def _cross_device_ops(self) -> reduction.CrossDeviceOps:
        return super()._cross_device_ops if self._chosen_ops is None else self._chosen_ops

    def _create_variable(self, next_creator: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return variables.create(self._strategy, self._devices, next_creator, arguments)

    def _call_for_each_replica(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return call_for_each(self._strategy, self._devices, fn, args, kwargs)


@export("distribute.MirroredStrategy")
class MirroredStrategy(Strategy):
    """Every device has a replica and a copy of all variables, which change together.

    devices: their names; all GPUs of the machine where None, the CPU where it has none. cross_device_ops: how
    gradients are added up, a `CrossDeviceOps`; on the first device where None.
    Raises ValueError: no devices, or one of them twice.
    """

    def __init__(self, devices: Sequence[str] | None = None, cross_device_ops: Any = None) -> None:
        if devices is None:
            devices = _accelerators()
        super().__init__(_MirroredExtended(self, devices, cross_device_ops))


def _accelerators(count: int | None = None) -> list[str]:
    found = [d.name for d in machine.local_devices() if d.device_type != "CPU"]
    return found[:count] or ["/device:CPU:0"]


@export("contrib.distribute.MirroredStrategy")
class ContribMirroredStrategy(MirroredStrategy):
    """`tf.distribute.MirroredStrategy` with the arguments of `tf.contrib.distribute`.

    num_gpus (or num_gpus_per_worker): takes the first GPUs, instead of `devices`. cross_tower_ops: the older name of
    `cross_device_ops`. auto_shard_dataset: has no meaning on one machine.
    Raises ValueError: two of the arguments that exclude each other.
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        num_gpus: int | None = None,
        num_gpus_per_worker: int | None = None,
        cross_device_ops: Any = None,
        auto_shard_dataset: bool = False,
        cross_tower_ops: Any = None,
    ) -> None:
        if num_gpus is not None and num_gpus_per_worker is not None:
            raise ValueError("You cannot specify both `num_gpus` and `num_gpus_per_worker`.")
        if cross_device_ops is not None and cross_tower_ops is not None:
            raise ValueError("You cannot specify both `cross_device_ops` and `cross_tower_ops`.")
        count = num_gpus_per_worker if num_gpus is None else num_gpus
        if devices is None:
            devices = [f"/device:GPU:{i}" for i in range(count)] if count else _accelerators(count)
        elif count is not None:
            raise ValueError("Must only specify one of `devices` and `num_gpus_per_worker`.")
        super().__init__(devices, cross_device_ops or cross_tower_ops)
