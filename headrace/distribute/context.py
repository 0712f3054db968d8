"""Where the program stands: in the scope of which strategy, in which replica, in the update of which device."""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headrace.api.export import export
from headrace.api.variable_arguments import VariableAggregation
from headrace.core import device_spec
from headrace.graph import default

if TYPE_CHECKING:
    from headrace.distribute.replica import ReplicaContext
    from headrace.distribute.strategy import Strategy


@export("distribute.ReduceOp")
class ReduceOp(enum.Enum):
    """How the values of the replicas become one."""

    SUM = "SUM"
    MEAN = "MEAN"

    @staticmethod
    def from_variable_aggregation(aggregation: Any) -> ReduceOp:
        """The reduction that a variable's aggregation asks for. Raises ValueError: it is neither SUM nor MEAN."""
        found = {VariableAggregation.SUM: ReduceOp.SUM, VariableAggregation.MEAN: ReduceOp.MEAN}
        if aggregation not in found:
            raise ValueError(
                f"Could not convert from `tf.VariableAggregation` {aggregation} to `tf.distribute.ReduceOp` type"
            )
        return found[aggregation]


class _Mode:
    """An entry of the stack: a graph, a strategy, and the replica's context (None across replicas)."""

    __slots__ = ("graph", "replica", "strategy")

    def __init__(self, graph: Any, strategy: Any, replica: Any) -> None:
        self.graph, self.strategy, self.replica = graph, strategy, replica


class _State(threading.local):
    def __init__(self) -> None:
        self.modes: list[_Mode] = []
        self.update_replica: int | None = None


_state = _State()
_global_scope: Any = None  # what `experimental_set_strategy` entered


def _mode() -> _Mode | None:
    """The mode in force. A scope belongs to the graph that it was entered in, and to functions built within."""
    graph = default.get_default_graph()
    for mode in reversed(_state.modes):
        if mode.graph is graph or graph.building_function:
            return mode
    return None


@contextlib.contextmanager
def enter_mode(strategy: Any, replica: Any) -> Iterator[None]:
    """A block in a replica (or across replicas, where None) of `strategy`."""
    _state.modes.append(_Mode(default.get_default_graph(), strategy, replica))
    old, _state.update_replica = _state.update_replica, None
    try:
        yield
    finally:
        _state.modes.pop()
        _state.update_replica = old


def _default_strategy() -> Strategy:
    from headrace.distribute import strategy

    return strategy.default_strategy()


@export(
    "distribute.get_strategy",
    "contrib.distribute.get_strategy",
    "contrib.distribute.get_distribution_strategy",
)
def get_strategy() -> Strategy:
    """The strategy in whose scope the program is, else the default one, which has one replica."""
    mode = _mode()
    return _default_strategy() if mode is None else mode.strategy


@export(
    "distribute.has_strategy",
    "contrib.distribute.has_strategy",
    "contrib.distribute.has_distribution_strategy",
)
def has_strategy() -> bool:
    """Whether the program is in the scope of a strategy other than the default one."""
    mode = _mode()
    return mode is not None and mode.strategy is not _default_strategy()


@export("distribute.get_replica_context", "contrib.distribute.get_replica_context")
def get_replica_context() -> ReplicaContext | None:
    """The context of the replica that is being built; the default one outside strategies; None across replicas."""
    mode = _mode()
    if mode is None:
        from headrace.distribute import strategy

        return strategy.default_replica_context()
    return mode.replica


@export("distribute.in_cross_replica_context", "contrib.distribute.in_cross_replica_context")
def in_cross_replica_context() -> bool:
    """Whether what is built now is for all replicas: in a scope, and not in the function of a replica."""
    mode = _mode()
    return mode is not None and mode.replica is None


@export("contrib.distribute.get_cross_replica_context")
def get_cross_replica_context() -> Strategy | None:
    """The strategy in force across replicas, None in a replica."""
    return get_strategy() if in_cross_replica_context() else None


@export("distribute.experimental_set_strategy")
def experimental_set_strategy(strategy: Any) -> None:
    """Enters the scope of a strategy without a block, and leaves the one that was entered so before.

    strategy: None to leave only. Raises RuntimeError: within a block of a strategy.
    """
    global _global_scope
    if _global_scope is not None:
        _global_scope.__exit__(None, None, None)
        _global_scope = None
    if has_strategy():
        raise RuntimeError("Must not be called inside a `tf.distribute.Strategy` scope.")
    if strategy is not None:
        scope = strategy.scope()
        scope.__enter__()
        _global_scope = scope


@export("distribute.get_loss_reduction", "contrib.distribute.get_loss_reduction")
def get_loss_reduction() -> ReduceOp:
    """How the losses of replicas make the loss of the step: a sum, as gradients are added up."""
    return ReduceOp.SUM


@export("contrib.distribute.require_replica_context")
def require_replica_context(replica_context: Any) -> None:
    """Raises RuntimeError: the program is not in the replica of `replica_context`."""
    current = get_replica_context()
    if current is replica_context:
        return
    if current is None:
        raise RuntimeError(
            "Need to be inside `call_for_each_replica()`: the program is in a cross-replica context"
        )
    raise RuntimeError("Mismatching ReplicaContext: the method is of another replica's context")


def require_cross_replica(strategy: Any) -> None:
    """Raises RuntimeError: the program is not across the replicas of `strategy`."""
    mode = _mode()
    if mode is None:
        if strategy is _default_strategy():
            return
        raise RuntimeError(f'Need to be inside "with strategy.scope()" for {strategy}')
    if mode.strategy is not strategy:
        raise RuntimeError(
            f"Mixing different tf.distribute.Strategy objects: {mode.strategy} is not {strategy}"
        )
    if mode.replica is not None:
        raise RuntimeError(
            "Method requires being in cross-replica context, use get_replica_context().merge_call()"
        )


def require_cross_replica_or_none(strategy: Any) -> None:
    """Raises RuntimeError: the program is in a replica, or in the scope of another strategy."""
    if has_strategy():
        require_cross_replica(strategy)


@contextlib.contextmanager
def enter_or_assert(strategy: Any) -> Iterator[None]:
    """A block in the scope of `strategy`. Raises RuntimeError: in that of another."""
    if not has_strategy():
        with strategy.scope():
            yield
        return
    current = get_strategy()
    if current is not strategy:
        raise RuntimeError(
            f"Mixing different tf.distribute.Strategy objects: {current} is not {strategy}"
        )
    yield


# ---- updates and devices


def update_replica() -> int | None:
    """The replica whose copies are being updated (`extended.update`), or None."""
    return _state.update_replica


@contextlib.contextmanager
def enter_update(replica: int) -> Iterator[None]:
    """A block that updates the copies of one replica."""
    old, _state.update_replica = _state.update_replica, replica
    try:
        yield
    finally:
        _state.update_replica = old


class _Bare:
    """An operation that has nothing yet, to ask device functions about."""

    def __init__(self) -> None:
        self.device = self.type = self.name = ""


def current_device() -> str:
    """The device that an operation made now would ask for, "" where none."""
    op = _Bare()
    for entry in reversed(default.get_default_graph()._scopes.devices):
        if entry.function is None:
            break
        op.device = device_spec.canonical_name(entry.function(op))
    return op.device


def canonical_device(device: str) -> str:
    """The full name of a device but for its job: kind CPU and number 0 where they are left out."""
    spec = device_spec.DeviceSpec.from_string(device)
    return device_spec.DeviceSpec(
        job=spec.job,
        replica=spec.replica or 0,
        task=spec.task or 0,
        device_type=spec.device_type or "CPU",
        device_index=spec.device_index or 0,
    ).to_string()
