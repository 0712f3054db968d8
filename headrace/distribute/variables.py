"""Variables with a copy on each device of a strategy."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from headrace.api import math_ops
from headrace.api.control_flow_basic import group
from headrace.api.framework import GraphKeys
from headrace.api.resource_variable import BaseResourceVariable
from headrace.api.variable_arguments import (
    VariableAggregation,
    VariableSynchronization,
    checked_modes,
)
from headrace.distribute import context
from headrace.graph import default, raw
from headrace.graph.convert import register_tensor_conversion_function
from headrace.graph.tensor import Tensor

_NEEDS_AGGREGATION = (
    "You must specify an aggregation method to update a MirroredVariable in Replica Context: the replicas must agree on "
    "one value. Pass `aggregation=tf.VariableAggregation.SUM` (or MEAN, or ONLY_FIRST_REPLICA) to tf.Variable, or "
    "update it in `tf.distribute.get_replica_context().merge_call(...)` with `strategy.extended.update`. Variable: {}"
)


class DistributedVariable(BaseResourceVariable):
    """A variable with a copy for each replica. In a replica, or in an update, it stands for that replica's copy."""

    def __init__(
        self, strategy: Any, devices: Sequence[str], copies: Sequence[Any], aggregation: Any
    ) -> None:
        self._strategy = strategy
        self._devices, self._distributed_values = tuple(devices), tuple(copies)
        self._dtype, self._shape = self.primary.dtype, self.primary.shape
        self._aggregation = aggregation
        for copy in copies:
            copy._distributed_container = weakref.ref(self)

    # ---- the copies

    @property
    def values(self) -> tuple[Any, ...]:
        """The copies by replica."""
        return self._distributed_values

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of the copies."""
        return self._devices

    @property
    def primary(self) -> Any:
        """The first copy."""
        return self._distributed_values[0]

    @property
    def distribute_strategy(self) -> Any:
        """The strategy in whose scope the variable was made."""
        return self._strategy

    @property
    def _distribute_strategy(self) -> Any:
        return self._strategy

    def _replica(self) -> int | None:
        """The replica in force: the one that is built or updated, None across replicas."""
        replica = context.get_replica_context()
        index = context.update_replica() if replica is None else replica.index
        return None if index is None else index % len(self.values)

    def _closest(self) -> Any:
        """The copy of the replica in force, else that on the current device, else the first."""
        index = self._replica()
        if index is None:
            device = context.current_device()
            name = context.canonical_device(device) if device else ""
            index = self._devices.index(name) if name in self._devices else 0
        return self.values[index]

    def get(self, device: str | None = None) -> Any:
        """The copy on a device (of the replica in force where None). Across replicas: the value of all.

        Raises ValueError: there is no copy on the device.
        """
        if device is not None:
            name = context.canonical_device(device)
            if name not in self._devices:
                raise ValueError(f"Device {name} not found in {self._devices}")
            return self.values[self._devices.index(name)]
        index = self._replica()
        return self._across() if index is None else self.values[index]

    def _across(self) -> Any:
        raise NotImplementedError

    # ---- what it is

    @property
    def handle(self) -> Tensor:
        """The handle of the copy of the replica in force. Raises ValueError: across replicas."""
        index = self._replica()
        if index is None:
            raise ValueError(
                "`handle` is not available outside the replica context or a `tf.distribute.Strategy.update()` call: "
                f"variable {self.name} has one for each replica."
            )
        return self.values[index].handle

    @property
    def _handle(self) -> Tensor:
        return self._closest().handle

    @property
    def _graph_element(self) -> Tensor:
        return self._closest()._graph_element

    @property
    def _cached_value(self) -> None:
        return None

    @property
    def name(self) -> str:
        return self.primary.name

    @property
    def op(self) -> Any:
        index = self._replica()
        return self.values[index or 0].op

    @property
    def graph(self) -> Any:
        return self.primary.graph

    @property
    def device(self) -> str:
        return self._closest().device

    @property
    def initializer(self) -> Any:
        return group(*[v.initializer for v in self.values])

    @property
    def create(self) -> Any:
        return self.initializer

    @property
    def initial_value(self) -> Any:
        return self._closest().initial_value

    @property
    def trainable(self) -> bool:
        return self.primary.trainable

    @property
    def synchronization(self) -> VariableSynchronization:
        return self.primary.synchronization

    @property
    def constraint(self) -> Any:
        return self.primary.constraint

    @property
    def _save_slice_info(self) -> Any:
        return self.primary._save_slice_info

    def _set_save_slice_info(self, save_slice_info: Any) -> None:
        for copy in self.values:
            copy._set_save_slice_info(save_slice_info)

    def initialized_value(self) -> Tensor:
        return self._closest().initialized_value()

    def is_initialized(self, name: str | None = None) -> Tensor:
        first, *rest = [v.is_initialized() for v in self.values]
        for i, other in enumerate(rest):
            first = raw.LogicalAnd(first, other, name=name if i == len(rest) - 1 else None)
        return first

    def to_proto(self, export_scope: str | None = None) -> Any:
        return self.primary.to_proto(export_scope)

    def eval(self, session: Any = None) -> Any:
        return self._closest().eval(session)

    def load(self, value: Any, session: Any = None) -> None:
        for copy in self.values:
            copy.load(value, session)

    def __repr__(self) -> str:
        lines = [
            f"  {i} {d}: {v!r}"
            for i, (d, v) in enumerate(zip(self._devices, self.values, strict=True))
        ]
        return f"{type(self).__name__}:{{\n" + ",\n".join(lines) + "\n}"

    # ---- reading

    def value(self) -> Tensor:
        return self._closest().value()

    def read_value(self) -> Tensor:
        with context.enter_or_assert(self._strategy):
            return raw.Identity(self.get())

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        return self._closest().sparse_read(indices, name)

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        return self._closest().gather_nd(indices, name)

    # ---- writing

    def _written(self, method: str, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def assign(self, *args: Any, **kwargs: Any) -> Any:
        return self._written("assign", *args, **kwargs)

    def assign_add(self, *args: Any, **kwargs: Any) -> Any:
        return self._written("assign_add", *args, **kwargs)

    def assign_sub(self, *args: Any, **kwargs: Any) -> Any:
        return self._written("assign_sub", *args, **kwargs)


class MirroredVariable(DistributedVariable):
    """A variable whose copies are kept equal: every write changes all of them."""

    def _across(self) -> Any:
        return raw.Identity(self._closest())

    def _as_graph_element(self) -> Any:
        index = self._replica()
        return self.values[index or 0]._as_graph_element()

    def _written(self, method: str, *args: Any, **kwargs: Any) -> Any:
        def write(copy: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(copy, method)(*args, **kwargs)

        with context.enter_or_assert(self._strategy):
            index = context.update_replica()
            replica = context.get_replica_context()
            if replica is None:
                if index is not None:
                    return write(self.values[index], *args, **kwargs)
                return self._strategy.extended.update(self, write, args=args, kwargs=kwargs)
            if self._aggregation is VariableAggregation.NONE:
                raise ValueError(_NEEDS_AGGREGATION.format(self.name))

            def merge(strategy: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
                extended = strategy.extended
                if self._aggregation is VariableAggregation.ONLY_FIRST_REPLICA:
                    first = strategy.experimental_local_results(value)[0]
                    value = extended.broadcast_to(first, self)
                else:
                    reduction = context.ReduceOp.from_variable_aggregation(self._aggregation)
                    value = extended.reduce_to(reduction, value, self)
                return extended.update(self, write, args=(value, *args), kwargs=kwargs)

            return replica.merge_call(merge, args=args, kwargs=kwargs)


class SyncOnReadVariable(DistributedVariable):
    """A variable whose copies change each for itself in the replicas; reading it across replicas aggregates them."""

    def _across(self) -> Any:
        if self._aggregation is VariableAggregation.ONLY_FIRST_REPLICA:
            return self.primary
        reduction = context.ReduceOp.from_variable_aggregation(self._aggregation)
        with context.enter_or_assert(self._strategy):
            return self._strategy.reduce(reduction, self, axis=None)

    def _as_graph_element(self) -> Any:
        if context.in_cross_replica_context():
            value = self._across()
            return value if isinstance(value, Tensor) else value._as_graph_element()
        return self.get()._as_graph_element()

    def _written(self, method: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        with context.enter_or_assert(self._strategy):
            if not context.in_cross_replica_context():
                return getattr(self.get(), method)(value, *args, **kwargs)
            if self._aggregation is VariableAggregation.SUM:
                if method != "assign":
                    raise ValueError(
                        f"SyncOnReadVariable does not support `{method}` in cross-replica context when aggregation is "
                        "set to `tf.VariableAggregation.SUM`."
                    )
                # So that the sum of the copies is what was assigned.
                value = value * (1.0 / len(self.values))
            writes = []
            for copy in self.values:
                with default.get_default_graph().device(copy.device):
                    writes.append(getattr(copy, method)(value))
            return group(*writes)


def _to_tensor(
    variable: SyncOnReadVariable, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Any:
    value = variable.get()
    value = value if isinstance(value, Tensor) else value.value()
    return math_ops.cast(value, dtype, name) if dtype is not None else value


# Before the one of variables, which reads a single copy.
register_tensor_conversion_function(SyncOnReadVariable, _to_tensor, priority=90)


def restored_everywhere(variable: DistributedVariable, value: Any) -> Any:
    """An operation that gives all copies what a checkpoint says."""
    if isinstance(variable, SyncOnReadVariable):
        if variable.aggregation is VariableAggregation.SUM:
            value = math_ops.cast(value / len(variable.values), variable.dtype)
    writes = []
    for copy in variable.values:
        with default.get_default_graph().device(copy.device):
            writes.append(copy.assign(value, read_value=False))
    return group(*writes)


def create(
    strategy: Any,
    devices: Sequence[str],
    next_creator: Callable[..., Any],
    arguments: dict[str, Any],
) -> DistributedVariable:
    """Makes the copies of a variable and files them as one.

    Raises ValueError: synchronization NONE, or a mode that does not exist.
    """
    name, graph = arguments.get("name"), default.get_default_graph()
    synchronization, aggregation, trainable = checked_modes(
        arguments.get("synchronization"),
        arguments.get("aggregation"),
        arguments.get("trainable"),
        name,
    )
    if synchronization is VariableSynchronization.NONE:
        raise ValueError(
            "`NONE` variable synchronization mode is not supported with `Mirrored` distribution strategy. "
            f"Please change the `synchronization` for variable: {name}"
        )
    collections = arguments.get("collections")
    collections = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
    arguments = {**arguments, "caching_device": None, "collections": [], "trainable": trainable}
    copies: list[Any] = []
    with _unfiled(graph):
        for i, device in enumerate(devices):
            if i:
                # The slash makes it the whole name, whatever scope is in force.
                arguments["name"] = f"{copies[0].op.name}/replica_{i}/"
                arguments["initial_value"] = _same_start(copies[0], device)
            with graph.device(device):
                copies.append(next_creator(**arguments))
    kind = (
        SyncOnReadVariable
        if synchronization is VariableSynchronization.ON_READ
        else MirroredVariable
    )
    variable = kind(strategy, devices, copies, aggregation)
    if trainable and GraphKeys.TRAINABLE_VARIABLES not in collections:
        collections.append(GraphKeys.TRAINABLE_VARIABLES)
    graph.add_to_collections(collections, variable)
    return variable


@contextlib.contextmanager
def _unfiled(graph: Any) -> Any:
    """A block after which the collection of trainable variables is as it was."""
    filed = graph.get_collection_ref(GraphKeys.TRAINABLE_VARIABLES)
    before = list(filed)
    try:
        yield
    finally:
        filed[:] = before


def _same_start(primary: Any, device: str) -> Callable[[], Tensor]:
    def initial_value() -> Tensor:
        with default.get_default_graph().device(device):
            return raw.Identity(primary.initial_value)

    return initial_value
