"""Runs with options: step statistics for each node, partition graphs, a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto import config_pb2, graph_pb2, step_stats_pb2

from headrace.graph.operation import Operation
from headrace.passes.fold import folded
from headrace.passes.partition import partition_graphs
from headrace.runtime.profile import ProgramTimes, Recorder
from headrace.runtime.step import Step
from headrace.session import cost_graph

if TYPE_CHECKING:
    from headrace.session.session import BaseSession


class NodeTimes:
    """Times and sizes of the operations of one run, for `RunMetadata.step_stats`, by the devices they are placed on."""

    def __init__(self, device_of: Callable[[Operation], str]) -> None:
        self._device_of = device_of
        self._stats: dict[str, Any] = {}
        self._lock = threading.Lock()  # operations of several devices run at once

    @property
    def stats(self) -> list[Any]:
        """A DeviceStepStats for each device, in the order of their names."""
        return [self._stats[device] for device in sorted(self._stats)]

    def __call__(self, op: Operation, start: float, end: float, outputs: list[Any]) -> None:
        """Adds one operation that ran by itself from `start` to `end` (seconds since the epoch)."""
        with self._lock:
            self._add_alone(op, start, end, outputs)

    def _add_alone(self, op: Operation, start: float, end: float, outputs: list[Any]) -> None:
        node = self._add(op, op._name, start, end, _label(op._name, op))
        total = 0
        for slot, value in enumerate(outputs):
            size = int(getattr(value, "nbytes", 0))
            total += size
            described = _add_output(node, op, slot, getattr(value, "shape", ()), size)
            described.allocated_bytes = size
            described.allocator_name = "cpu"
        node.memory.add(allocator_name="cpu", total_bytes=total, peak_bytes=total)

    def add_program(self, times: ProgramTimes) -> None:
        """Adds a program, and the operations in it: with the time of their instructions where there is a profile."""
        island = times.island
        self._add_whole(times)
        by_name = {op._name: op for op in island.ops}
        described: set[Operation] = set()
        for part in times.nodes:
            op = by_name.get(part.node)
            name = (
                "/".join(filter(None, (part.node, part.body)))
                or f"{island.label}/{part.instruction}"
            )
            notes = [f"{part.count} times"] if part.count > 1 else []
            notes += [f"fused with {', '.join(part.fused)}"] if part.fused else []
            if op is None or part.body:
                label = f"{name} = {part.type or part.instruction}()"
            else:
                label = _label(name, op)
            node = self._add(
                op or island.ops[0], name, part.start, part.end, _with_notes(label, notes)
            )
            node.thread_id = part.lane
            if op is not None and not part.body and op not in described:
                described.add(op)
                self._describe(node, op, times, is_stored=part.is_result)
        given = {t._op for t in (*island.inputs, *island.static_inputs)}
        for op in dict.fromkeys([*island.ops, *(t._op for t in times.sizes if t._op not in given)]):
            if op not in described:
                notes = ["no instruction of its own"] if times.nodes else ["in the program"]
                label = _with_notes(_label(op._name, op), notes)
                node = self._add(op, op._name, times.start, times.start, label)
                self._describe(node, op, times, is_stored=False)

    def _add_whole(self, times: ProgramTimes) -> None:
        island = times.island
        inputs = ", ".join(t._op._name for t in island.inputs)
        label = f"{island.label} = XlaProgram({inputs})"
        node = self._add(island.ops[0], island.label, times.start, times.end, label)
        memory = node.memory.add(
            allocator_name="xla",
            total_bytes=times.temporary + times.results,
            peak_bytes=times.temporary + times.results + times.arguments,
        )
        begun, ended = int(times.start * 1e6), int(times.end * 1e6)
        memory.allocation_records.add(alloc_micros=begun, alloc_bytes=times.temporary)
        memory.allocation_records.add(alloc_micros=begun, alloc_bytes=times.results)
        memory.allocation_records.add(alloc_micros=ended, alloc_bytes=-times.temporary)
        node.memory_stats.temp_memory_size = times.temporary

    def _add(self, op: Operation, name: str, start: float, end: float, label: str) -> Any:
        device = self._device_of(op)
        stats = self._stats.get(device)
        if stats is None:
            stats = self._stats[device] = step_stats_pb2.DeviceStepStats(device=device)
        micros, duration = int(start * 1e6), max(1, round((end - start) * 1e6))
        if end == start:
            duration = 0
        return stats.node_stats.add(
            node_name=name,
            all_start_micros=micros,
            op_start_rel_micros=0,
            op_end_rel_micros=duration,
            all_end_rel_micros=duration,
            timeline_label=label,
            scheduled_micros=micros,
            all_start_nanos=int(start * 1e9),
            op_end_rel_nanos=int((end - start) * 1e9),
            all_end_rel_nanos=int((end - start) * 1e9),
            scheduled_nanos=int(start * 1e9),
        )

    @staticmethod
    def _describe(node: Any, op: Operation, times: ProgramTimes, is_stored: bool) -> None:
        """Adds the shapes of what `op` gave in a program; it has memory of its own where it `is_stored`."""
        total = 0
        for slot, tensor in enumerate(op._outputs):
            if tensor in times.sizes:
                shape, size = times.sizes[tensor]
                _add_output(node, op, slot, shape, size)
                total += size
        if is_stored:
            node.memory.add(allocator_name="xla", total_bytes=total, peak_bytes=total)


def _label(name: str, op: Operation) -> str:
    return f"{name} = {op.type}({', '.join(t._op._name for t in op._inputs)})"


def _with_notes(label: str, notes: list[str]) -> str:
    return f"{label} [{'; '.join(notes)}]" if notes else label


def _add_output(node: Any, op: Operation, slot: int, shape: Any, size: int) -> Any:
    """Adds an output's type, shape and size; returns its AllocationDescription."""
    tensor = node.output.add(slot=slot).tensor_description
    tensor.dtype = op._outputs[slot]._dtype.base_dtype.as_datatype_enum
    for dim in shape:
        tensor.shape.dim.add(size=dim)
    tensor.allocation_description.requested_bytes = size
    return tensor.allocation_description


def _run_watched(
    step: Step, arrays: list[Any], options: Any, times: NodeTimes | None, deadline: float | None
) -> list[Any]:
    software = options is not None and options.trace_level == config_pb2.RunOptions.SOFTWARE_TRACE
    if times is None or deadline is not None or software:
        return step.run_observed(arrays, times, deadline)
    recorder = Recorder()
    results = step.run_traced(arrays, times, recorder)
    for program in recorder.times():
        times.add_program(program)
    return results


def _costs_are_due(session: BaseSession, step: Step) -> bool:
    """Whether this run is one of those of which `build_cost_model` and `build_cost_model_after` tell; counts them."""
    options = session._config.graph_options
    count = session._run_counts[step] = session._run_counts.get(step, 0) + 1
    measured = count - options.build_cost_model_after
    return measured > 0 and measured % options.build_cost_model == 0


def run(session: BaseSession, fetches: Any, feed_dict: Any, options: Any, run_metadata: Any) -> Any:
    """`Session.run` with RunOptions and RunMetadata protos (either may be None).

    SOFTWARE_TRACE runs the step operation by operation, so that each has a time of its own; higher levels run it as it runs
    otherwise, and take the times of the operations in a program from XLA's profile.
    Raises TypeError: not these protos. DeadlineExceededError: longer than `timeout_in_ms`; no variable has changed.
    """
    if options is not None and not isinstance(options, config_pb2.RunOptions):
        raise TypeError(f"options must be a tf.RunOptions, got {type(options).__name__}")
    if run_metadata is not None and not isinstance(run_metadata, config_pb2.RunMetadata):
        raise TypeError(f"run_metadata must be a tf.RunMetadata, got {type(run_metadata).__name__}")
    if run_metadata is not None and options is None:
        options = config_pb2.RunOptions()
    prepared, arrays = session._prepare_run(fetches, feed_dict)
    step, device_of = prepared.step, session._placement.device_of
    traced = options is not None and options.trace_level != config_pb2.RunOptions.NO_TRACE
    limit = options.timeout_in_ms if options is not None else 0
    if limit <= 0 and session._limit > 0 and step.may_wait:
        # The limit for every run of a session is there for what waits; a program of XLA cannot be stopped.
        limit = session._limit
    deadline = time.monotonic() + limit / 1000 if limit > 0 else None
    if deadline is not None and not traced:
        step = session._interruptible(step)
    if run_metadata is not None:
        run_metadata.Clear()
    session._late.settle(deadline or 0.0)
    if traced or deadline is not None:
        times = NodeTimes(device_of) if traced else None
        results = _run_watched(step, arrays, options, times, deadline)
        if run_metadata is not None and times is not None:
            run_metadata.step_stats.dev_stats.extend(times.stats)
    else:
        results = step.run(arrays)
    costs = session._placement.costs
    if costs is not None and _costs_are_due(session, prepared.step) and run_metadata is not None:
        cost_graph.fill(run_metadata.cost_graph, step.ops, costs, device_of)
    if run_metadata is not None and options is not None and options.output_partition_graphs:
        plan = folded(step.ops, step.fetches, step.targets, step.fed)
        run_metadata.partition_graphs.extend(
            partition_graphs(
                plan,
                step.fetches,
                step.feeds,
                device_of,
                {device.name: device.incarnation for device in session._devices},
                lambda: graph_pb2.GraphDef(versions=session.graph.graph_def_versions),
            )
        )
    return session._finish(prepared, results)
