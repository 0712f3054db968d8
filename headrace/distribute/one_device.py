"""`tf.distribute.OneDeviceStrategy`: everything on one device, to try out a program that uses strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.export import export
from headrace.distribute import context
from headrace.distribute.strategy import Strategy, StrategyExtended
from headrace.graph import default


class _OneDeviceExtended(StrategyExtended):
    def __init__(self, strategy: Any, device: str) -> None:
        super().__init__(strategy)
        self._device = context.canonical_device(device)

    @property
    def worker_devices(self) -> tuple[str, ...]:
        return (self._device,)

    def _create_variable(self, next_creator: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        with default.get_default_graph().device(self._device):
            variable = next_creator(**{**arguments, "distribute_strategy": self._strategy})
        variable._strategy_of_one_device = self._strategy
        return variable

    def variable_created_in_scope(self, v: Any) -> bool:
        """Whether a variable was made in the scope of this strategy."""
        return getattr(v, "_strategy_of_one_device", None) is self._strategy


@export("distribute.OneDeviceStrategy", "contrib.distribute.OneDeviceStrategy")
class OneDeviceStrategy(Strategy):
    """One replica, and all variables, on one device."""

    def __init__(self, device: str) -> None:
        super().__init__(_OneDeviceExtended(self, device))
