"""`tf.distribute.Strategy`: what all strategies have in common, and the default one."""

from __future__ import annotations

import contextlib
import enum
import functools
from collections.abc import Callable, Iterator
from typing import Any

from headrace.api import array_ops, gather_ops, math_ops
from headrace.api import reduction as reduction_ops
from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.get_variable import get_variable_scope
from headrace.api.variable_base import Variable
from headrace.api.variable_scope import variable_creator_scope, variable_scope
from headrace.core import dtypes
from headrace.data.dataset import DatasetV2
from headrace.distribute import context, reduction
from headrace.distribute.context import ReduceOp
from headrace.distribute.inputs import CallableIterator, DatasetIterator
from headrace.distribute.replica import ReplicaContext, in_one_replica
from headrace.distribute.values import (
    Mirrored,
    PerReplica,
    local_values,
    regroup,
    select_mirrored,
    value_container,
)
from headrace.graph import default, raw
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


@export("distribute.InputReplicationMode")
class InputReplicationMode(enum.Enum):
    """How often the function of `make_input_fn_iterator` is called: once for each worker."""

    PER_WORKER = "PER_WORKER"


@export("distribute.InputContext")
class InputContext:
    """What the function of `make_input_fn_iterator` is told about the pipelines and the replicas."""

    def __init__(
        self,
        num_input_pipelines: int = 1,
        input_pipeline_id: int = 0,
        num_replicas_in_sync: int = 1,
    ) -> None:
        self._pipelines, self._pipeline = num_input_pipelines, input_pipeline_id
        self._replicas = num_replicas_in_sync

    @property
    def num_replicas_in_sync(self) -> int:
        """How many replicas take part in a step."""
        return self._replicas

    @property
    def input_pipeline_id(self) -> int:
        """The number of this pipeline."""
        return self._pipeline

    @property
    def num_input_pipelines(self) -> int:
        """How many pipelines there are."""
        return self._pipelines

    def get_per_replica_batch_size(self, global_batch_size: int) -> int:
        """The share of one replica in a batch. Raises ValueError: the batch does not divide evenly."""
        if global_batch_size % self._replicas:
            raise ValueError(
                f"The global_batch_size {global_batch_size} is not divisible by num_replicas_in_sync {self._replicas}"
            )
        return global_batch_size // self._replicas


@export("distribute.Strategy", "contrib.distribute.DistributionStrategy")
class Strategy:
    """How a computation is spread over devices. Use a subclass: `tf.distribute.MirroredStrategy()`."""

    def __init__(self, extended: Any) -> None:
        """extended: a StrategyExtended, which does the work."""
        self._extended = extended

    @property
    def extended(self) -> Any:
        """What is not for every program: the device-level methods."""
        return self._extended

    def scope(self) -> Any:
        """A block in which variables are the strategy's, and `tf.distribute.get_strategy()` returns it."""
        return self._extended._scope(self)

    def experimental_run_v2(
        self, fn: Callable[..., Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        """What fn(*args, **kwargs) returns for each replica, as distributed values.

        Distributed values among the arguments reach a replica as its own value.
        """
        with self.scope():
            return self._extended.call_for_each_replica(fn, args=args, kwargs=kwargs)

    def experimental_run(self, fn: Callable[..., Any], input_iterator: Any = None) -> Any:
        """`experimental_run_v2` of `fn` on the next element of an iterator of the strategy."""
        with self.scope():
            args = () if input_iterator is None else (input_iterator.get_next(),)
            return self.experimental_run_v2(fn, args=args)

    def make_input_fn_iterator(
        self,
        input_fn: Callable[..., Any],
        replication_mode: InputReplicationMode = InputReplicationMode.PER_WORKER,
    ) -> Any:
        """An iterator over what a function makes for each replica.

        input_fn: called with an InputContext, returns a dataset of a replica's batches, or a function without arguments,
        which returns the tensors of one replica. Raises ValueError: another mode, or input_fn returned something else.
        """
        if replication_mode is not InputReplicationMode.PER_WORKER:
            raise ValueError(
                f"Input replication mode not supported: {replication_mode}; it must be PER_WORKER"
            )
        made = input_fn(InputContext(1, 0, self.num_replicas_in_sync))
        if isinstance(made, DatasetV2):
            return DatasetIterator(made, self._extended.worker_devices, split=False)
        if not callable(made):
            raise ValueError(f"input_fn must return a tf.data.Dataset or a callable, got {made!r}")
        return CallableIterator(made, self._extended.worker_devices)

    def make_dataset_iterator(self, dataset: Any) -> Any:
        """An iterator over a dataset of batches, of each of which every replica gets a part.

        The number of replicas has to divide the size of the batches. Raises TypeError: no dataset. ValueError: elements
        that are no batches of dense tensors, or batches of another size.
        """
        if not isinstance(dataset, DatasetV2):
            raise TypeError(f"make_dataset_iterator needs a tf.data.Dataset, got {dataset!r}")
        return DatasetIterator(dataset, self._extended.worker_devices, split=True)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """The sum or mean of the values of the replicas, as one tensor.

        axis: reduced within each replica too; a mean is then that of all elements along it, whatever their number in
        each replica. Raises TypeError: not a ReduceOp, or an axis that is no integer. ValueError: axis out of range.
        """
        if isinstance(reduce_op, str):
            reduce_op = ReduceOp(reduce_op.upper())
        if not isinstance(reduce_op, ReduceOp):
            raise TypeError(
                f"Expected `reduce_op` to be a `tf.distribute.ReduceOp`, not: {reduce_op!r}"
            )
        context.require_cross_replica_or_none(self)
        if axis is None:
            return self._extended._reduce(reduce_op, value)
        if not isinstance(axis, int):
            raise TypeError(f"Expected `axis` to be an integer not: {axis!r}")
        if reduce_op is ReduceOp.SUM:
            sums = self.experimental_run_v2(
                lambda v: reduction_ops.reduce_sum(v, axis=axis), args=(value,)
            )
            return self._extended._reduce(reduce_op, sums)
        parts = self.experimental_run_v2(
            functools.partial(_sum_and_count, axis=axis), args=(value,)
        )
        total, count = (self._extended._reduce(ReduceOp.SUM, part) for part in parts)
        return math_ops.truediv(total, math_ops.cast(count, total.dtype))

    def experimental_local_results(self, value: Any) -> tuple[Any, ...]:
        """The values of the replicas; `(value,)` where there is but one."""
        return local_values(value)

    def unwrap(self, value: Any) -> tuple[Any, ...]:
        """The older name of `experimental_local_results`."""
        return local_values(value)

    def group(self, value: Any, name: str | None = None) -> Any:
        """An operation that is done when the values of all replicas are."""
        return self._extended._group(value, name)

    @property
    def num_replicas_in_sync(self) -> int:
        """How many replicas take part in a step."""
        return self._extended._num_replicas_in_sync

    def colocate_vars_with(self, colocate_with_variable: Any) -> Any:
        """See `extended.colocate_vars_with`."""
        return self._extended.colocate_vars_with(colocate_with_variable)

    def configure(
        self,
        session_config: Any = None,
        cluster_spec: Any = None,
        task_type: str | None = None,
        task_id: int | None = None,
    ) -> None:
        """Changes the ConfigProto of a session in place, as `update_config_proto` does in a copy.

        Raises ValueError: a cluster; one machine is all there is.
        """
        if cluster_spec:
            raise ValueError(f"{type(self).__name__} runs on one machine: no cluster_spec")
        if session_config is not None:
            session_config.CopyFrom(self.update_config_proto(session_config))

    def update_config_proto(self, config_proto: Any) -> Any:
        """A copy of the ConfigProto of a session with what the strategy needs."""
        copy = type(config_proto)()
        copy.CopyFrom(config_proto)
        copy.isolate_session_state = True
        return copy


def _sum_and_count(value: Any, axis: int) -> tuple[Tensor, Any]:
    """The sum along an axis, and how many elements it has there."""
    rank, sizes = value.shape.ndims, array_ops.shape(value, out_type=dtypes.int64)
    if rank is not None and not -rank <= axis < rank:
        raise ValueError(f"`axis` = {axis!r} out of range for `value` with rank {rank}")
    place: Any = axis if rank is None or axis >= 0 else axis + rank
    if axis < 0 and rank is None:
        place = axis + array_ops.rank(value)
    # A tensor even where the size is known: replicas with the same number must not look like a common value.
    return reduction_ops.reduce_sum(value, axis=axis), gather_ops.gather(sizes, place)


@export("distribute.StrategyExtended", "contrib.distribute.DistributionStrategyExtended")
class StrategyExtended:
    """The device-level methods of a strategy; subclasses say what its devices are and how variables are made."""

    def __init__(self, container_strategy: Any) -> None:
        self._strategy = container_strategy

    # ---- what a subclass says

    @property
    def worker_devices(self) -> tuple[str, ...]:
        """The device of each replica."""
        raise NotImplementedError

    def _create_variable(self, next_creator: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _call_for_each_replica(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return in_one_replica(self._strategy, self.worker_devices[0] or None, fn, args, kwargs)

    # ---- scopes

    @contextlib.contextmanager
    def _scope(self, strategy: Any) -> Iterator[Any]:
        if context.has_strategy():
            context.require_cross_replica(strategy)
            yield strategy
            return

        def creator(next_creator: Callable[..., Any], **arguments: Any) -> Any:
            with context.enter_or_assert(strategy):
                arguments["use_resource"] = True
                return self._create_variable(next_creator, arguments)

        def getter(getter: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            # A variable in parts and in copies would be too much.
            kwargs.pop("partitioner", None)
            return getter(*args, **kwargs)

        with (
            context.enter_mode(strategy, None),
            variable_scope(get_variable_scope(), custom_getter=getter),
            variable_creator_scope(creator),
        ):
            yield strategy

    def colocate_vars_with(self, colocate_with_variable: Any) -> Any:
        """A block in which variables have their copies where those of another variable are.

        Raises ValueError: a variable of another strategy.
        """
        if not self.variable_created_in_scope(colocate_with_variable):
            raise ValueError(
                "`colocate_vars_with` must only be passed a variable created in this tf.distribute.Strategy.scope(), "
                f"not: {colocate_with_variable!r}"
            )
        return contextlib.nullcontext()

    def variable_created_in_scope(self, v: Any) -> bool:
        """Whether a variable was made in the scope of this strategy."""
        return getattr(value_container(v), "_distribute_strategy", None) is self._strategy

    # ---- running, reducing, updating

    def call_for_each_replica(
        self, fn: Callable[..., Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        """What fn(*args, **kwargs) returns for each replica. Raises RuntimeError: within a replica."""
        context.require_cross_replica(self._strategy)
        return self._call_for_each_replica(fn, args, kwargs or {})

    @property
    def _cross_device_ops(self) -> reduction.CrossDeviceOps:
        return _TO_ONE_DEVICE

    def _reduce(self, reduce_op: ReduceOp, value: Any) -> Any:
        where = context.current_device() or "/device:CPU:0"
        return local_values(self._reduce_to(reduce_op, value, where))[0]

    def reduce_to(self, reduce_op: Any, value: Any, destinations: Any) -> Any:
        """The sum or mean of the values of the replicas, on `destinations`.

        destinations: a distributed value or variable, whose devices are meant, a tensor, or the name of a device.
        """
        context.require_cross_replica(self._strategy)
        return self._reduce_to(ReduceOp(reduce_op), value, destinations)

    def _reduce_to(self, reduce_op: ReduceOp, value: Any, destinations: Any) -> Any:
        if isinstance(value, Mirrored) and reduce_op is ReduceOp.MEAN:
            return value
        if isinstance(value, PerReplica) or hasattr(value, "_distributed_values"):
            return self._cross_device_ops.reduce(reduce_op, value, destinations)
        if isinstance(value, Mirrored):
            raise ValueError(f"A sum of copies of the same value means nothing: {value}")
        return reduction.same_for_all(reduce_op, self._num_replicas_in_sync, value, destinations)

    def batch_reduce_to(self, reduce_op: Any, value_destination_pairs: Any) -> list[Any]:
        """`reduce_to` of several (value, destinations) pairs."""
        context.require_cross_replica(self._strategy)
        return self._cross_device_ops.batch_reduce(ReduceOp(reduce_op), value_destination_pairs)

    def broadcast_to(self, tensor: Any, destinations: Any) -> Any:
        """Copies of `tensor` on `destinations`, the devices of all replicas where None. Numbers stay numbers."""
        context.require_cross_replica(self._strategy)
        if isinstance(tensor, (int, float)):
            return tensor
        if destinations is None:
            devices = self.worker_devices
            destinations = PerReplica(devices, devices)
        return self._cross_device_ops.broadcast(tensor, destinations)

    def update(
        self,
        var: Any,
        fn: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        group: bool = True,
    ) -> Any:
        """Calls fn(copy, *args, **kwargs) for each copy of a variable, on its device.

        Mirrored values among the arguments reach it as the copy on the device. group: whether the result is one
        operation (or copies that wait for all updates); a list of the results otherwise.
        """
        context.require_cross_replica(self._strategy)
        copies, devices = local_values(var), reduction.devices_of(var)
        return self._on_each(devices, lambda i, a, k: fn(copies[i], *a, **k), args, kwargs, group)

    def update_non_slot(
        self,
        colocate_with: Any,
        fn: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        group: bool = True,
    ) -> Any:
        """Calls fn(*args, **kwargs) on each of the devices `colocate_with`, otherwise as `update`."""
        context.require_cross_replica(self._strategy)
        return self._on_each(tuple(colocate_with), lambda i, a, k: fn(*a, **k), args, kwargs, group)

    def _on_each(
        self, devices: tuple[str, ...], call: Callable[..., Any], args: Any, kwargs: Any, join: bool
    ) -> Any:
        graph, results = default.get_default_graph(), []
        for i, device in enumerate(devices):
            with graph.device(device), context.enter_update(i), graph.name_scope(f"update_{i}"):
                own = select_mirrored(i, args)
                results.append(call(i, own, select_mirrored(i, kwargs or {})))
        if not join:
            return list(local_values(regroup(devices, results, Mirrored)))
        return regroup(devices, results, _joined)

    def _group(self, value: Any, name: str | None = None) -> Any:
        values = local_values(value)
        if len(values) != 1 or name is not None:
            return group(*values, name=name)
        return values[0].op if isinstance(values[0], Tensor) else values[0]

    def read_var(self, v: Any) -> Any:
        """The value of a variable: that of all copies where they differ."""
        value = v.get() if hasattr(v, "_distributed_values") else v
        return raw.Identity(value)

    def value_container(self, value: Any) -> Any:
        """The distributed variable that `value` is a copy of, else `value`."""
        return value_container(value)

    # ---- facts

    @property
    def _num_replicas_in_sync(self) -> int:
        return len(self.worker_devices)

    @property
    def parameter_devices(self) -> tuple[str, ...]:
        """The devices of the variables."""
        return self.worker_devices

    def non_slot_devices(self, var_list: Any) -> Any:
        """Where to keep what an optimizer has but once, for variables `var_list`."""
        return tuple(self.worker_devices)

    @property
    def experimental_between_graph(self) -> bool:
        """Whether every worker has a graph of its own."""
        return False

    @property
    def experimental_should_init(self) -> bool:
        """Whether this process runs the initializers."""
        return True

    @property
    def should_checkpoint(self) -> bool:
        """Whether this process writes checkpoints."""
        return True

    @property
    def should_save_summary(self) -> bool:
        """Whether this process writes summaries."""
        return True

    @property
    def experimental_require_static_shapes(self) -> bool:
        """Whether the replicas must know all shapes beforehand."""
        return False


_TO_ONE_DEVICE = reduction.ReductionToOneDevice()


def _joined(devices: Any, results: Any) -> Any:
    """The results of updates such that whoever runs one has run all."""
    if len(results) == 1:
        return Mirrored(devices, results)
    all_done = group(*[_waited_for(r) for r in results])
    if not all(isinstance(r, (Tensor, Variable)) for r in results):
        return all_done
    graph, copies = default.get_default_graph(), []
    for result, device in zip(results, devices, strict=True):
        with graph.device(device), graph.control_dependencies([all_done]):
            copies.append(raw.Identity(result))
    return Mirrored(devices, copies)


def _waited_for(result: Any) -> Operation | Any:
    return result.op if isinstance(result, Variable) else result


# ---- without a strategy


class _DefaultExtended(StrategyExtended):
    """One replica, wherever the program says; variables are as ever."""

    @property
    def worker_devices(self) -> tuple[str, ...]:
        return ("",)

    @contextlib.contextmanager
    def _scope(self, strategy: Any) -> Iterator[Any]:
        if context.has_strategy():
            raise RuntimeError("Must not nest tf.distribute.Strategy scopes.")
        with context.enter_mode(strategy, None):
            yield strategy

    def colocate_vars_with(self, colocate_with_variable: Any) -> Any:
        """A block in which variables are where another is."""
        return default.get_default_graph().colocate_with(colocate_with_variable)

    def variable_created_in_scope(self, v: Any) -> bool:
        """Whether a variable was made in no scope."""
        return v._distribute_strategy is None

    def _reduce_to(self, reduce_op: ReduceOp, value: Any, destinations: Any) -> Any:
        return raw.Identity(value)

    def batch_reduce_to(self, reduce_op: Any, value_destination_pairs: Any) -> list[Any]:
        """The values themselves."""
        return [value for value, _ in value_destination_pairs]

    def broadcast_to(self, tensor: Any, destinations: Any) -> Any:
        """The tensor itself. Raises ValueError: destinations, of which there are none here."""
        if destinations is not None:
            raise ValueError("Only destination=None is supported by the default strategy")
        return tensor

    def update(
        self,
        var: Any,
        fn: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        group: bool = True,
    ) -> Any:
        """Calls fn(var, *args, **kwargs) where the variable is."""
        return self.update_non_slot(var, fn, (var, *args), kwargs, group)

    def update_non_slot(
        self,
        colocate_with: Any,
        fn: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        group: bool = True,
    ) -> Any:
        """Calls fn(*args, **kwargs) where `colocate_with` is."""
        with default.get_default_graph().colocate_with(colocate_with), context.enter_update(0):
            result = fn(*args, **(kwargs or {}))
        return result if group else list(local_values(result))

    def non_slot_devices(self, var_list: Any) -> Any:
        """The variable with the first name."""
        return min(var_list, key=lambda v: v.name)


@functools.cache
def default_strategy() -> Strategy:
    """The strategy outside all scopes: one replica, nothing changed."""
    strategy = Strategy(None)
    strategy._extended = _DefaultExtended(strategy)
    return strategy


@functools.cache
def default_replica_context() -> ReplicaContext:
    """The replica outside all scopes."""
    return ReplicaContext(default_strategy(), 0)
