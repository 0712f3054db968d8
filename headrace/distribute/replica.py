"""The function of a step, built once for each replica; where the replicas meet, the graph is built for all of them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.custom_gradient import custom_gradient
from headrace.api.export import export
from headrace.api.get_variable import get_variable_scope
from headrace.api.variable_scope import variable_creator_scope, variable_scope
from headrace.core import dtypes, nest
from headrace.distribute import context
from headrace.distribute.values import local_values, regroup, select_replica
from headrace.graph import default
from headrace.graph.convert import constant_from_value
from headrace.graph.tensor import Tensor


@export("distribute.ReplicaContext", "contrib.distribute.ReplicaContext")
class ReplicaContext:
    """What the function of a replica can ask: which replica it is, and what the others have."""

    def __init__(self, strategy: Any, replica_id_in_sync_group: Any) -> None:
        self._strategy, self._id = strategy, replica_id_in_sync_group
        self._index = 0

    @property
    def index(self) -> int:
        """The number of the replica."""
        return self._index

    @property
    def replica_id_in_sync_group(self) -> Any:
        """The number of the replica: a tensor in the function of a strategy with several replicas."""
        return self._id

    @property
    def num_replicas_in_sync(self) -> int:
        """How many replicas take part in a step."""
        return self._strategy.num_replicas_in_sync

    @property
    def strategy(self) -> Any:
        """The strategy of the replica."""
        return self._strategy

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of the replica, in a tuple. Raises RuntimeError: in another context."""
        context.require_replica_context(self)
        return (self._strategy.extended.worker_devices[self._index],)

    def __enter__(self) -> ReplicaContext:
        self._block = context.enter_mode(self._strategy, self)
        self._block.__enter__()
        return self

    def __exit__(self, *unused: Any) -> None:
        self._block.__exit__(None, None, None)

    def merge_call(self, merge_fn: Callable[..., Any], args: Any = (), kwargs: Any = None) -> Any:
        """What merge_fn(strategy, *args, **kwargs) returns for this replica; it is called once for all of them.

        The arguments reach it as distributed values; where they are the same object in all replicas, as that.
        Raises RuntimeError: in another context.
        """
        context.require_replica_context(self)
        return self._merge_call(merge_fn, args, kwargs or {})

    def _merge_call(self, merge_fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with context.enter_mode(self._strategy, None):
            return merge_fn(self._strategy, *args, **kwargs)

    def all_reduce(self, reduce_op: Any, value: Any) -> Any:
        """The nest `value` with each tensor summed (averaged) over the replicas. Gradients pass, reduced likewise."""

        def reduce_all(strategy: Any, *flat: Any) -> Any:
            pairs = [(v, v.device if isinstance(v, Tensor) else v) for v in flat]
            return strategy.extended.batch_reduce_to(reduce_op, pairs)

        @custom_gradient
        def reduced(*flat: Any) -> Any:
            result = self.merge_call(reduce_all, args=flat)
            return result, lambda *grads: self.all_reduce(reduce_op, list(grads))

        result = reduced(*nest.flatten(value))
        flat = list(result) if isinstance(result, (list, tuple)) else [result]
        return nest.pack_sequence_as(value, flat)


class _Stopped(Exception):
    """Ends the thread of a replica after another one failed."""


class _ThreadedContext(ReplicaContext):
    """The context of one replica among several, each built in a thread of its own."""

    def __init__(self, strategy: Any, thread: _Replica) -> None:
        super().__init__(strategy, constant_from_value(thread.index, dtypes.int32, None))
        self._index, self._thread = thread.index, thread

    def _merge_call(self, merge_fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return self._thread.meet(merge_fn, args, kwargs)


class _Replica(threading.Thread):
    """Builds one replica. Only one thread runs at a time: whoever holds the baton."""

    def __init__(
        self,
        strategy: Any,
        index: int,
        device: str,
        call: Callable[[], Any],
        creator: Callable[..., Any],
    ) -> None:
        super().__init__(name=f"replica_{index}", daemon=True)
        self.strategy, self.index, self.device = strategy, index, device
        self.call, self.creator = call, creator
        self.done, self.result, self.error = False, None, None
        self.asked: Any = None  # (merge_fn, args, kwargs) of the meeting that the replica waits at
        self.answer: Any = None
        self._go, self._paused = threading.Event(), threading.Event()
        self._stop_asked = False
        # What the thread takes over from that which calls.
        self.graph = default.get_default_graph()
        with default.init_scope():
            self._outer_graph = default.get_default_graph()
        self._creators = self.graph._variable_creator_stack
        self._scope = get_variable_scope()
        name = self.graph.get_name_scope()
        self._name = f"{name}/" if name else ""
        if index:
            self._name += f"replica_{index}/"

    def resume(self) -> None:
        """Lets the replica run until it ends or meets the others."""
        self._go.set()
        self._paused.wait()
        self._paused.clear()

    def stop(self) -> None:
        """Ends the thread wherever it waits."""
        self._stop_asked = True
        self._go.set()
        if self.ident is not None:
            self.join()

    def meet(self, merge_fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Gives the baton back until all replicas are here and `merge_fn` was called."""
        if default.get_default_graph() is not self.graph:
            raise RuntimeError(
                "`merge_call` called while defining a new graph or a function: gradients are aggregated, and mirrored "
                "variables updated, in the graph of the replica itself"
            )
        scopes = self.graph._scopes
        self.asked = (merge_fn, args, kwargs)
        self.name_scope = self.graph.get_name_scope()
        self.variable_scope = get_variable_scope()
        self.control_inputs = [op for block in scopes.control for op in block.control_inputs]
        self._wait()
        return self.answer

    def _wait(self) -> None:
        self._paused.set()
        self._go.wait()
        self._go.clear()
        if self._stop_asked:
            raise _Stopped

    def run(self) -> None:
        self._go.wait()
        self._go.clear()
        try:
            if not self._stop_asked:
                self._build()
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._paused.set()

    def _build(self) -> None:
        with contextlib.ExitStack() as blocks:
            if self._outer_graph is not self.graph:
                blocks.enter_context(self._outer_graph.as_default())
            blocks.enter_context(self.graph.as_default())
            self.graph._variable_creator_stack = self._creators
            blocks.enter_context(_ThreadedContext(self.strategy, self))
            blocks.enter_context(self.graph.device(self.device))
            blocks.enter_context(self.graph.name_scope(self._name or None))
            blocks.enter_context(variable_scope(self._scope, reuse=True if self.index else None))
            blocks.enter_context(variable_creator_scope(self.creator))
            self.result = self.call()


def call_for_each(
    strategy: Any, devices: Sequence[str], fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """What `fn` returns for each replica, as distributed values. It sees the values of its replica.

    Raises RuntimeError: the replicas met a different number of times. Whatever `fn` raises.
    """
    shared: dict[str, list[Any]] = {}
    replicas = []
    for i, device in enumerate(devices):
        own_args, own_kwargs = select_replica(i, args), select_replica(i, kwargs)
        replicas.append(
            _Replica(
                strategy,
                i,
                device,
                lambda a=own_args, k=own_kwargs: fn(*a, **k),
                _sharing_creator(shared, i),
            )
        )
    try:
        for replica in replicas:
            replica.start()
        while True:
            for replica in replicas:
                replica.resume()
                if replica.error is not None:
                    raise replica.error
            done = [r.done for r in replicas]
            if all(done):
                break
            if any(done):
                raise RuntimeError(
                    "Some replicas made a different number of replica_context().merge_call() calls."
                )
            _merge(strategy, devices, replicas)
    finally:
        for replica in replicas:
            replica.stop()
    return regroup(devices, [r.result for r in replicas])


def _merge(strategy: Any, devices: Sequence[str], replicas: list[_Replica]) -> None:
    """Calls the function that the replicas met for, in the scopes of the first one."""
    first = replicas[0]
    merge_fn = first.asked[0]
    args = regroup(devices, [r.asked[1] for r in replicas])
    kwargs = regroup(devices, [r.asked[2] for r in replicas])
    before = [op for r in replicas for op in r.control_inputs]
    graph = first.graph
    with (
        graph.name_scope(f"{first.name_scope}/" if first.name_scope else None),
        graph.control_dependencies(before),
        variable_scope(first.variable_scope),
    ):
        result = merge_fn(strategy, *args, **kwargs)
    for replica in replicas:
        replica.answer = select_replica(replica.index, result)


_NUMBER = re.compile(r"_\d(?=/|$)")


def _sharing_creator(shared: dict[str, list[Any]], index: int) -> Callable[..., Any]:
    """Stands between `tf.Variable` and the making: the first replica makes variables, the others get the same ones."""
    taken: dict[str, int] = {}

    def create(next_creator: Callable[..., Any], **arguments: Any) -> Any:
        name = arguments.get("name")
        key = "Variable" if name is None else _NUMBER.sub("", name)
        made = shared.setdefault(key, [])
        if index == 0:
            made.append(next_creator(**arguments))
            return made[-1]
        place = taken.get(key, 0)
        if place >= len(made):
            raise RuntimeError(
                f"Tried to create variable {name} with mismatching name on device {index}: the first replica made no "
                "such variable"
            )
        taken[key] = place + 1
        return made[place]

    return create


def in_one_replica(
    strategy: Any, device: str | None, fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """What `fn` returns in the only replica of a strategy."""
    graph = default.get_default_graph()
    identity = constant_from_value(0, dtypes.int32, None)
    with graph.device(device) if device else contextlib.nullcontext():
        with ReplicaContext(strategy, identity):
            return fn(*[_only(a) for a in args], **{k: _only(v) for k, v in kwargs.items()})


def _only(structured: Any) -> Any:
    def select(value: Any) -> Any:
        values = local_values(value)
        return (
            values[0] if len(values) == 1 and not hasattr(value, "_distributed_values") else value
        )

    return nest.map_structure(select, structured)
