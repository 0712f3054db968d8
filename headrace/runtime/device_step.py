"""A step whose operations are on several devices: its segments run as soon as what they need is there.

Until it has succeeded a step changes nothing: its programs leave the buffers that they read alone, what they write goes into
the step's own view of the state, and that is filed at the end, while the session's lock is held. So a failure, a time limit
or a session that is closed leave every variable as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.bundled import take
from headrace.lowering.checks import RoomExceeded, raise_if_failed
from headrace.lowering.evaluate import Values
from headrace.lowering.functions import for_program
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.state import StateView
from headrace.lowering.tensor_list import double_room
from headrace.passes.device_split import DeviceSplit, split_by_device
from headrace.passes.partition import rendezvous_key
from headrace.passes.segments import Segment, Split
from headrace.passes.state_order import INITIAL, StateOrder, is_handle, names_variable
from headrace.runtime.device_executor import Arrival, Node
from headrace.runtime.device_run import Run, StateOnDevice, placed
from headrace.runtime.devices import Device
from headrace.runtime.interpreter import Interpreter, Observer
from headrace.runtime.missing import uninitialised
from headrace.runtime.owned import apart_from
from headrace.runtime.profile import Recorder
from headrace.runtime.programs import Programs, Watch
from headrace.runtime.region import Region
from headrace.runtime.resources import ResourceStore
from headrace.runtime.shared_writes import keys_read_again
from headrace.runtime.step import Step
from headrace.runtime.waiting import may_wait

_log = logging.getLogger("headrace")


class DeviceStep(Step):
    """The plan for one set of fetches, targets and feeds over several devices.

    device_of: the device of each operation. together: whether the replicas of a mirrored program may run as one.
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
        together: bool = True,
    ) -> None:
        self.device_of, self._together = device_of, together
        super().__init__(graph, fetches, targets, feeds, resources, partial)
        found = (self.device_of(op) for s in self.split.segments for op in s.ops)
        self._devices = {device.name: device for device in found}
        self.regions = self._make_regions()
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
        only = self.regions.get(0) if len(self._nodes) == 1 and not self._early else None
        self._alone = only
        self._needs_lock = bool(self.order.writers or self.order.initial_reads) and (
            not self._early or len(self._early) < len(self._nodes)
        )
        if early is None:
            self._needs_lock = False
            self._shared = keys_read_again(self.order, self.device_split.segment_of, self.fetches)
            for node in self._nodes:
                node.on_host = True  # it waits for the lock: the thread of a device never waits

    # ---- planning

    def _cut(self) -> Split:
        return split_by_device(
            self.ops,
            self.fed,
            self.fetches,
            self.order,
            lambda op: self.device_of(op).name,
            self._can_join if self._together else None,
        )

    def _make_interpreter(self) -> Interpreter:
        return _InterpreterOnDevices(self)

    def _make_programs(self) -> Programs:
        # The kernels of bundles belong to one kind of device.
        return Programs(self, donate=False, bundle=False)

    @property
    def device_split(self) -> DeviceSplit:
        """The segments, and which devices they are on."""
        assert isinstance(self.split, DeviceSplit)
        return self.split

    def _can_join(self, names: tuple[str, ...]) -> bool:
        """Whether the devices of these names can run one program: of one kind, and each a device of JAX of its own."""
        by_name = {d.name: d.physical for d in map(self.device_of, self.ops)}
        physical = {by_name[name] for name in names}
        if len(physical) < len(names):
            _log.info(
                "replicas run one by one: JAX has fewer devices than the session (see JAX_NUM_CPU_DEVICES)"
            )
            return False
        return len({device.platform for device in physical}) == 1

    def _make_regions(self) -> dict[int, Region]:
        split = self.device_split
        devices = [self._devices[name] for name in split.replicas]
        regions = {number: Region(self, number, devices) for number in split.together}
        if regions:
            inside = sum(len(r.island.ops) for r in regions.values())
            outside = len(split.segment_of) - inside
            _log.debug(
                "%d replicas run together: %d programs of %d nodes for %d operations; %d operations run outside",
                len(devices),
                len(regions),
                sum(len(r.island.nodes) for r in regions.values()),
                inside,
                outside,
            )
        return regions

    def _find_alone(self) -> int | None:
        return None

    def _find_homes(self) -> dict[str, Device]:
        """The device of each variable: that of its handle, or of a random operation that has a generator."""
        found = {key: self.device_of(op) for key, op in self.order.generators.items()}
        for op in self.ops:
            if names_variable(op):
                key = self.order.key(op._outputs[0])
                if key is not None:
                    found[key] = self.device_of(op)
        return found

    def _plan_nodes(self) -> tuple[list[Node], list[Arrival]]:
        split = self.device_split
        nodes = [
            Node(number, self._place_of(number), not s.is_island)
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
                if tensor in self.fed or source is None or node.number in self.regions:
                    continue
                if self.device_of(tensor._op) is node.device:
                    continue
                if not is_handle(tensor):
                    wanted.setdefault((tensor, node.device.name), []).append(node.number)
                    heard_of.add(source)
            for source in sources:
                # The program of all replicas takes values where they are, and leaves them where they belong.
                joined = node.number in self.regions or source in self.regions
                if source in heard_of:
                    continue
                if joined or nodes[source].device is node.device:
                    nodes[source].followers.append(node.number)
                    node.waits += 1
                else:
                    wanted.setdefault((source, node.device.name), []).append(node.number)
        for count, ((what, name), followers) in enumerate(wanted.items(), 1):
            is_tensor = isinstance(what, Tensor)
            sender = nodes[split.segment_of[what._op] if is_tensor else what]
            op = what._op if is_tensor else split.segments[what].ops[-1]
            device = self._devices[name]
            home = self.device_of(op)
            key = rendezvous_key(home.name, home.incarnation, name, f"edge_{count}_{op._name}")
            sender.sends.append((key, what if is_tensor else None, device))
            arrivals.append(Arrival(key, what if is_tensor else None, device, tuple(followers)))
            for number in followers:
                nodes[number].waits += 1
        return nodes, arrivals

    def _place_of(self, number: int) -> Device:
        """The device of a segment; for the program of all replicas, what stands for all of theirs."""
        if number not in self.regions:
            return self._devices[self.split.segments[number].device]
        devices = self.regions[number].devices
        name = "+".join(d.name.rpartition(":")[2] for d in devices)
        physical = tuple(d.physical for d in devices)
        return Device(f"{devices[0].name}+{name}", "", 0, 0, devices[0].incarnation, physical)

    def _find_early(self) -> set[int] | None:
        """The segments that run without the lock of the session, on copies of the variables.

        A step holds the lock from reading variables to filing them, so what may wait for another step must come before.
        All of a step that writes nothing may. None: something must be written before an operation that may wait.
        """
        split = self.device_split
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
        if self._alone is not None and deadline is None and watch is None:
            results = self._run_alone(self._alone, feed_values, interpreted)
            self._runs[key] = 1
            return results
        run = Run(self, feed_values, interpreted, deadline, watch)
        self.resources.when_closed(run, run.close)
        try:
            results = run.results()
        finally:
            self.resources.forget(run)
            run.release()
        self._runs[key] = 1
        return results

    def _run_alone(self, region: Region, feed_values: list[Any], interpreted: bool) -> list[Any]:
        """Runs a step that is one program of all replicas, in the thread that asks for it."""
        feeds = dict(zip(self.feeds, feed_values, strict=True))
        values: dict[str, Values] = {name: dict(feeds) for name in self._devices}
        state = StateView(self.load)
        with self.resources.lock, context.running(self):
            region.run(values, state, interpreted, alone=True)
            results = [self._fetched_from(t, feeds, values, state) for t in self.fetches]
            written = {k: self.at_home(k, v) for k, v in state.written.items()}
            stored = [*written.values(), *self.stored_values()]
            self.commit(written)
        return apart_from(results, stored)

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

    def run_node(self, run: Run, node: Node) -> None:
        """Runs a segment, as a program or operation by operation."""
        segment = self.split.segments[node.number]
        shared = run.shared
        if shared is None:
            self._run_here(run, node, segment)
        else:
            with shared.segment(alone=segment.is_island):
                self._run_here(run, node, segment)

    def _run_here(self, run: Run, node: Node, segment: Segment) -> None:
        region = self.regions.get(node.number)
        if region is None:
            self._run_on_device(run, node, segment)
        else:
            with context.running(self, run):
                region.run(run.values, run.state_of(node), run.interpreted, run.watch)

    def _run_on_device(self, run: Run, node: Node, segment: Segment) -> None:
        values, state, device = run.values[node.device.name], run.state_of(node), node.device
        with context.running(self, run), jax.default_device(device.physical):
            if segment.is_island and not run.interpreted:
                island = self.programs.ready(node.number, state)
                if island is not None:
                    try:
                        self._run_program(island, values, state, device, run.watch)
                        return
                    except NotCompilable:
                        self.programs.not_compilable.add(node.number)
            self.interpreter.add_free(segment.ops, values)
            observe = run.watch and run.watch[0]
            if not segment.is_island:
                local = StateOnDevice(state, device)
                for op in segment.ops:
                    self.interpreter.run_on_host(op, values, local, observe)
            elif observe is None:
                self.interpreter.run_step(segment.ops, values, state)
            else:
                self.interpreter.run_watched(segment.ops, values, state, observe)

    def _run_program(
        self,
        island: Island,
        values: Values,
        state: StateView,
        device: Device,
        watch: Watch | None,
    ) -> None:
        self.interpreter.add_free(island.ops, values)
        while True:
            static = [np.asarray(values[t]) for t in island.static_inputs]
            inputs = tuple(for_program(t._op, values[t]) for t in island.inputs)
            arguments = island.arguments(lambda *v: placed(state.read(*v), device), inputs)
            program, collector = island.program(static)
            try:
                with jax.enable_x64(True):
                    if watch is not None:
                        results = watch[1].call(island, program, arguments, static)
                    else:
                        results = program(*arguments)
                written, changed, results = results
                outputs, outcome = take(results)
                if outcome:
                    raise_if_failed(outcome, collector)
            except RoomExceeded as exceeded:
                double_room(exceeded.op)
                island.forget_programs()
                continue
            for (key, version), value in island.arrangement.written(written, changed):
                state.write(key, version, value)
            values.update(zip(island.outputs, outputs, strict=True))
            return

    def value_of(self, tensor: Tensor, run: Run) -> Any:
        """The value of a fetched tensor, from the device that computed it."""
        early = not self._needs_lock and run.shared is None
        state = run.early_state if early else run.state
        return self._fetched_from(tensor, run.feeds, run.values, state)

    def _fetched_from(
        self, tensor: Tensor, feeds: Values, values: dict[str, Values], state: StateView
    ) -> Any:
        if tensor in self.fed or tensor._op not in self.device_split.segment_of:
            return self.fetched(tensor, feeds, state)
        return self.fetched(tensor, values[self.device_of(tensor._op).name], state)

    def stored_values(self) -> list[Any]:
        """The arrays of variables that the step reads, as they are stored."""
        cells = map(self.resources.cell, self.order.initial_reads)
        return [c.value for c in cells if c.value.__class__ is ARRAY]

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


class _InterpreterOnDevices(Interpreter):
    """What runs each operation on its device; one of a body runs where the operation that calls it does."""

    def __init__(self, step: DeviceStep) -> None:
        super().__init__(step.ops, step.order, step.split.free, step.fed, step.fetches)
        self._graph, self._device_of = step.graph, step.device_of

    def evaluate(
        self, op: Operation, values: Values, state: StateView, order: StateOrder | None = None
    ) -> Any:
        """As Interpreter's, with what the operation takes on its device."""
        if op._graph is not self._graph:
            return super().evaluate(op, values, state, order)
        device = self._device_of(op)
        here = {t: placed(values[t], device) for t in op._inputs if t in values}
        with jax.default_device(device.physical):
            return super().evaluate(op, here, StateOnDevice(state, device), order)
