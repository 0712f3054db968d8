"""A step whose operations are on several devices: its segments run as soon as what they need is there.

Until it has succeeded a step changes nothing: its programs leave the buffers that they read alone, what they write goes into
the step's own view of the state, and that is filed at the end, while the session's lock is held. So a failure, a time limit
or a session that is closed leave every variable as it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.checks import RoomExceeded, raise_if_failed
from headrace.lowering.evaluate import Values, store_outputs
from headrace.lowering.functions import for_program
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.state import StateView
from headrace.lowering.tensor_list import DeviceList, HostList, double_room
from headrace.passes.device_split import DeviceSplit, split_by_device
from headrace.passes.partition import rendezvous_key
from headrace.passes.segments import Segment, Split
from headrace.passes.state_order import INITIAL, StateOrder, is_handle
from headrace.runtime.device_executor import Arrival, Execution, Node, timed_out
from headrace.runtime.devices import Device
from headrace.runtime.missing import uninitialised
from headrace.runtime.profile import Recorder
from headrace.runtime.rendezvous import LocalRendezvous
from headrace.runtime.resources import ResourceStore
from headrace.runtime.shared_writes import SharedWrites, keys_read_again
from headrace.runtime.step import Observer, Step, Watch, as_list
from headrace.runtime.waiting import closed, may_wait


class DeviceStep(Step):
    """The plan for one set of fetches, targets and feeds over several devices.

    device_of: the device of each operation.
    """

    def __init__(
        self,
        graph: Graph,
        fetches: Sequence[Tensor],
        targets: Sequence[Operation],
        feeds: Sequence[Tensor],
        resources: ResourceStore,
        partial: bool = False,
        *,
        device_of: Callable[[Operation], Device],
    ) -> None:
        self.device_of = device_of
        super().__init__(graph, fetches, targets, feeds, resources, partial)
        self._devices = {s.device: self.device_of(s.ops[0]) for s in self.split.segments}
        self._home = self._find_homes()
        self._nodes, self._arrivals = self._plan_nodes()
        # What runs before the lock of the session is taken, and the variables that it reads. None: something is written
        # before an operation that may wait; then each segment by itself is alone with the variables.
        early = self._find_early()
        self._early = early or set()
        self._early_keys = {
            key
            for op, key, version in self.order.reads()
            if version == INITIAL and self.split.segment_of.get(op) in self._early  # type: ignore[attr-defined]
        }
        for node in self._nodes:
            node.waits_for_state = bool(self._early) and node.number not in self._early
        self._needs_lock = bool(self.order.writers or self.order.initial_reads) and (
            not self._early or len(self._early) < len(self._nodes)
        )
        if early is None:
            self._needs_lock = False
            self._shared = keys_read_again(self.order, self.split.segment_of, self.fetches)  # type: ignore[attr-defined]
            for node in self._nodes:
                node.on_host = True  # it waits for the lock: the thread of a device never waits

    # ---- planning

    def _cut(self) -> Split:
        return split_by_device(
            self.ops, self.fed, self.fetches, self.order, lambda op: self.device_of(op).name
        )

    def _donates(self, number: int) -> bool:
        return False

    def _find_alone(self) -> int | None:
        return None

    def _find_homes(self) -> dict[str, Device]:
        """The device of each variable: that of its handle, or of a random operation that has a generator."""
        found = {key: self.device_of(op) for key, op in self.order.generators.items()}
        for op in self.ops:
            if self.is_handle(op):
                key = self.order.key(op._outputs[0])
                if key is not None:
                    found[key] = self.device_of(op)
        return found

    def _plan_nodes(self) -> tuple[list[Node], list[Arrival]]:
        split = self.split
        assert isinstance(split, DeviceSplit)
        nodes = [
            Node(number, self._devices[s.device], not s.is_island)
            for number, s in enumerate(split.segments)
        ]
        arrivals: list[Arrival] = []
        wanted: dict[tuple[Any, str], list[int]] = {}
        for node, sources in zip(nodes, split.waits_for, strict=True):
            heard_of: set[int] = set()
            for tensor in dict.fromkeys(
                t for op in split.segments[node.number].ops for t in op._inputs
            ):
                source = split.segment_of.get(tensor._op)
                if tensor in self.fed or source is None or nodes[source].device is node.device:
                    continue
                if not is_handle(tensor):
                    wanted.setdefault((tensor, node.device.name), []).append(node.number)
                    heard_of.add(source)
            for source in sources:
                if nodes[source].device is node.device:
                    nodes[source].followers.append(node.number)
                    node.waits += 1
                elif source not in heard_of:
                    wanted.setdefault((source, node.device.name), []).append(node.number)
        for count, ((what, name), followers) in enumerate(wanted.items(), 1):
            is_tensor = isinstance(what, Tensor)
            sender = nodes[split.segment_of[what._op] if is_tensor else what]
            op = what._op if is_tensor else split.segments[what].ops[-1]
            device = self._devices[name]
            key = rendezvous_key(
                sender.device.name, sender.device.incarnation, name, f"edge_{count}_{op._name}"
            )
            sender.sends.append((key, what if is_tensor else None, device))
            arrivals.append(Arrival(key, what if is_tensor else None, device, tuple(followers)))
            for number in followers:
                nodes[number].waits += 1
        return nodes, arrivals

    def _find_early(self) -> set[int] | None:
        """The segments that run without the lock of the session, on copies of the variables.

        A step holds the lock from reading variables to filing them, so what may wait for another step must come before.
        All of a step that writes nothing may. None: something must be written before an operation that may wait.
        """
        split = self.split
        assert isinstance(split, DeviceSplit)
        waiting = {
            number
            for number, segment in enumerate(split.segments)
            if not segment.is_island and any(may_wait(op, self.order) for op in segment.ops)
        }
        if not waiting:
            return set()
        if not self.order.writers:
            return set(range(len(split.segments)))
        early: set[int] = set()
        for number in range(len(split.segments) - 1, -1, -1):
            if number in waiting or number in early:
                early.add(number)
                early |= split.waits_for[number]
        writing = {split.segment_of.get(op) for ops in self.order.writers.values() for op in ops}
        return None if writing & early else early

    # ---- running

    def run(self, feed_values: list[Any]) -> list[Any]:
        """Runs the step. `feed_values` are arrays of the feeds' types; returns arrays of the fetches."""
        return self.run_until(feed_values, None)

    def run_until(
        self, feed_values: list[Any], deadline: float | None, watch: Watch | None = None
    ) -> list[Any]:
        """As `run`. Raises DeadlineExceededError: `deadline` (of `time.monotonic`) comes before the end."""
        key = tuple(v.shape for v in feed_values)
        interpreted = self._interpretable and key not in self._runs
        self.ensure_generators()
        run = _Run(self, feed_values, interpreted, deadline, watch)
        self.resources.when_closed(run, run.close)
        try:
            results = run.results()
        finally:
            self.resources.forget(run)
        self._runs[key] = 1
        return results

    def run_observed(
        self, feed_values: list[Any], observe: Observer | None, deadline: float | None
    ) -> list[Any]:
        """Runs the step, operation by operation where `observe` is given, which is told of each."""
        if observe is None:
            return self.run_until(feed_values, deadline)
        return super().run_observed(feed_values, observe, deadline)

    def run_traced(
        self, feed_values: list[Any], observe: Observer, recorder: Recorder
    ) -> list[Any]:
        """Runs the step the way it runs otherwise, programs of several devices at once (see `Step.run_traced`)."""
        watch = (observe, recorder)
        return recorder.profile(lambda: self.run_until(feed_values, None, watch))

    def evaluate(
        self, op: Operation, values: Values, state: StateView, order: StateOrder | None = None
    ) -> Any:
        """Runs one operation on its device; one of a body runs where the operation that calls it does."""
        if op._graph is not self.graph:
            return super().evaluate(op, values, state, order)
        device = self.device_of(op)
        here = {t: placed(values[t], device) for t in op._inputs if t in values}
        with jax.default_device(device.physical):
            return super().evaluate(op, here, StateOnDevice(state, device), order)

    def run_node(self, run: _Run, node: Node) -> None:
        """Runs a segment, as a program or operation by operation."""
        segment = self.split.segments[node.number]
        if run.shared is None:
            self._run_alone(run, node, segment)
        else:
            with run.shared.segment(alone=segment.is_island):
                self._run_alone(run, node, segment)

    def _run_alone(self, run: _Run, node: Node, segment: Segment) -> None:
        values, state, device = run.values[node.device.name], run.state_of(node), node.device
        with context.running(self, run), jax.default_device(device.physical):
            interpreted = run.interpreted or node.number in self._not_compilable
            if segment.is_island and not interpreted:
                island = self._islands.get(node.number) or self._make_island(node.number, segment)
                if not self._lacks_state_of_branches(island, state):
                    try:
                        self._run_program(island, values, state, device, run.watch)
                        return
                    except NotCompilable:
                        self._not_compilable.add(node.number)
            self._add_free(segment.ops, values)
            if segment.is_island and run.watch is not None:
                self._run_watched(segment.ops, values, state, run.watch[0])
                return
            if segment.is_island:
                self._run_ops(segment.ops, values, self.order, state, set(), self.fed)
                return
            local = StateOnDevice(state, device)
            for op in segment.ops:
                start = time.time()
                found = self._evaluate_on_host(op, values, local)
                if run.watch is not None:
                    run.watch[0](op, start, time.time(), as_list(found))
                store_outputs(op, found, values, self.fed)

    def _run_program(
        self,
        island: Island,
        values: Values,
        state: StateView,
        device: Device,
        watch: Watch | None,
    ) -> None:
        self._add_free(island.ops, values)
        while True:
            static = [np.asarray(values[t]) for t in island.static_inputs]
            inputs = tuple(for_program(t._op, values[t]) for t in island.inputs)
            kept = tuple(placed(state.read(*version), device) for version in island.kept)
            program, collector = island.program(static)
            try:
                arguments = ((), kept, inputs, island.constants)
                with jax.enable_x64(True):
                    if watch is not None:
                        results = watch[1].call(island, program, arguments, static)
                    else:
                        results = program(*arguments)
                written, outputs, outcome = results
                if outcome:
                    raise_if_failed(outcome, collector)
            except RoomExceeded as exceeded:
                double_room(exceeded.op)
                island.forget_programs()
                continue
            for (key, version), value in zip(island.writes, written, strict=True):
                state.write(key, version, value)
            values.update(zip(island.outputs, outputs, strict=True))
            return

    def value_of(self, tensor: Tensor, run: _Run) -> Any:
        """The value of a fetched tensor, from the device that computed it."""
        number = self.split.segment_of.get(tensor._op)  # type: ignore[attr-defined]
        values: Values = run.feeds
        if tensor not in self.fed and number is not None:
            values = run.values[self.split.segments[number].device]
        early = not self._needs_lock and run.shared is None
        return self.fetched(tensor, values, run.early_state if early else run.state)

    def at_home(self, key: str, value: Any) -> Any:
        """The value of a variable on the device of the variable: an operation elsewhere may have written it."""
        home = self._home.get(key)
        return value if home is None else placed(value, home)

    def load(self, key: str) -> Any:
        """The value of a variable from before the run."""
        value = self.resources.cell(key).value
        if value is None:
            raise uninitialised(self.order.initial_reads.get(key), key)
        return value

    def load_copy(self, key: str) -> Any:
        """As `load`, where the lock is not held from reading to filing: another step may write the buffer in place."""
        return Step.load(self, key)


class _Run:
    """One run of a DeviceStep: the values on each device, its view of the state, and its end."""

    def __init__(
        self,
        step: DeviceStep,
        feed_values: list[Any],
        interpreted: bool,
        deadline: float | None,
        watch: Watch | None = None,
    ) -> None:
        self.step, self.interpreted, self._deadline = step, interpreted, deadline
        self.watch = watch
        self.feeds: Values = dict(zip(step.feeds, feed_values, strict=True))
        self.values: dict[str, Values] = {
            name: {t: placed(v, device) for t, v in self.feeds.items()}
            for name, device in step._devices.items()
        }
        self.shared: SharedWrites | None = None
        self.state = StateView(step.load)
        if step._shared is not None:
            self.state = StateView(step.load_copy)
            self.shared = SharedWrites(
                step.resources,
                self.state,
                step._shared,
                self.values.values(),
                step.at_home,
                lambda: self._execution.error is not None,
            )
        self._copies: dict[str, Any] = {}
        self.early_state = StateView(self._copy_of)
        self._execution = Execution(
            step._nodes,
            step._arrivals,
            LocalRendezvous(),
            lambda node: step.run_node(self, node),
            self._take,
            self._put,
        )

    def close(self) -> None:
        """Ends the run because the session is closed."""
        self._execution.abort(closed())

    # ---- as the rules of operations see it

    def check(self) -> None:
        """Raises the error that ended the run, if one has."""
        if self._execution.error is not None:
            raise self._execution.error

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls a function that may take any time, here: nobody waits for this thread who could not leave."""
        self.check()
        return function(*arguments)

    # ---- from the beginning to the end

    def results(self) -> list[Any]:
        """Runs everything and files what was written. Raises the first error; nothing has changed then."""
        step, execution = self.step, self._execution
        try:
            if step._early:
                with self._locked(bool(step._early_keys)):
                    self._copy_state()
                execution.start()
                self._check(execution.wait_for_others(self._remaining()))
                with self._locked(step._needs_lock):
                    execution.give_state()
                    return self._end()
            with self._locked(step._needs_lock):
                execution.start()
                return self._end()
        except BaseException as error:
            execution.abort(error)  # whatever has not started need not
            if self.shared is not None:
                self.shared.take_back()
            raise

    @contextlib.contextmanager
    def _locked(self, needed: bool) -> Iterator[None]:
        """Holds the lock of the session where it is needed."""
        if not needed:
            yield
            return
        remaining = self._remaining()
        if not self.step.resources.lock.acquire(timeout=-1 if remaining is None else remaining):
            raise timed_out()
        try:
            yield
        finally:
            self.step.resources.lock.release()

    def state_of(self, node: Node) -> StateView:
        """The state as a node sees it."""
        return self.early_state if node.number in self.step._early else self.state

    def _end(self) -> list[Any]:
        step = self.step
        self._check(self._execution.wait(self._remaining()))
        newest = self.state.written if self.shared is None else {}  # filed segment by segment
        written = {k: step.at_home(k, v) for k, v in newest.items()}
        results = [step.value_of(t, self) for t in step.fetches]
        if self._deadline is not None:
            self._wait_for_values([*results, *written.values()])
        # A buffer that is a variable's may be used up by the next step.
        stored = {id(v) for v in (*written.values(), *self._initial_values())}
        results = [np.array(r) if id(r) in stored else r for r in results]
        if self._execution.error is not None:
            raise self._execution.error
        step.commit(written)
        if self.shared is not None:
            self.shared.keep()
        return results

    def _initial_values(self) -> list[Any]:
        cells = map(self.step.resources.cell, self.step.order.initial_reads)
        return [c.value for c in cells if c.value.__class__ is ARRAY]

    def _copy_state(self) -> None:
        for key in self.step._early_keys:
            value = self.step.resources.cell(key).value
            if value is not None:
                self._copies[key] = np.asarray(value) if value.__class__ is ARRAY else value

    def _copy_of(self, key: str) -> Any:
        if key not in self._copies:
            raise uninitialised(self.step.order.initial_reads.get(key), key)
        return self._copies[key]

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _check(self, in_time: bool) -> None:
        if not in_time:
            self._execution.abort(timed_out())
        if self._execution.error is not None:
            raise self._execution.error

    def _wait_for_values(self, values: Sequence[Any]) -> None:
        """Waits for what devices still compute; a program cannot be stopped, but it need not be waited for."""
        waiting = [v for v in values if v.__class__ is ARRAY]
        while waiting := [v for v in waiting if not v.is_ready()]:
            self._check(self._remaining() != 0.0)
            time.sleep(0.0005)

    def _take(self, node: Node, what: Tensor | None, target: Device) -> Any:
        return None if what is None else placed(self.values[node.device.name][what], target)

    def _put(self, device: Device, what: Tensor | None, value: Any) -> None:
        if what is not None:
            self.values[device.name][what] = value


class StateOnDevice(StateView):
    """The state of a run as operations on one device see it: values that are elsewhere come to them."""

    __slots__ = ("_device", "_whole")

    def __init__(self, whole: StateView, device: Device) -> None:
        self._whole, self._device = whole, device

    def read(self, key: str, version: int) -> Any:
        """The value that write number `version` left, on the device."""
        return placed(self._whole.read(key, version), self._device)

    def write(self, key: str, version: int, value: Any) -> None:
        """Sets what write number `version` leaves."""
        self._whole.write(key, version, value)

    def has(self, key: str, version: int) -> bool:
        """Whether the version is known to the run."""
        return self._whole.has(key, version)

    def write_rows(
        self, key: str, before: int, version: int, kind: str, where: Any, updates: Any
    ) -> None:
        """Sets what write number `version` leaves: version `before` with some rows changed."""
        self._whole.write_rows(key, before, version, kind, where, updates)


def placed(value: Any, device: Device) -> Any:
    """`value` on `device`; what NumPy holds is on every device."""
    kind = value.__class__
    if kind is ARRAY:
        here, there = value.device, device.physical
        if here is there:
            return value
        if here.platform == "cpu" and there.platform == "cpu":
            # One memory. This waits for the value, but costs a twentieth of `device_put`; a buffer that NumPy looks at
            # is never written in place.
            return np.asarray(value)
        return jax.device_put(value, there)
    if kind is HostList:
        return HostList(value.dtype, tuple(placed(item, device) for item in value.items))
    if kind is DeviceList:
        return jax.device_put(value, device.physical)
    return value
