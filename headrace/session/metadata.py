"""Runs with options: step statistics for each node, partition graphs, a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto import config_pb2, graph_pb2, step_stats_pb2

from headrace.graph.operation import Operation
from headrace.passes.fold import folded, to_nodes

if TYPE_CHECKING:
    from headrace.session.session import BaseSession


class NodeTimes:
    """Times and sizes of the operations of one run, for `RunMetadata.step_stats`, by the devices they are placed on."""

    def __init__(self, device_of: Callable[[Operation], str]) -> None:
        self._device_of = device_of
        self._stats: dict[str, Any] = {}

    @property
    def stats(self) -> list[Any]:
        """A DeviceStepStats for each device."""
        return list(self._stats.values())

    def __call__(self, op: Operation, start: float, end: float, outputs: list[Any]) -> None:
        """Adds one operation that ran from `start` to `end` (seconds since the epoch)."""
        device = self._device_of(op)
        stats = self._stats.get(device)
        if stats is None:
            stats = self._stats[device] = step_stats_pb2.DeviceStepStats(device=device)
        micros, duration = int(start * 1e6), max(1, int((end - start) * 1e6))
        node = stats.node_stats.add(
            node_name=op._name,
            all_start_micros=micros,
            op_start_rel_micros=0,
            op_end_rel_micros=duration,
            all_end_rel_micros=duration,
            timeline_label=f"{op._name} = {op.type}({', '.join(t._op._name for t in op._inputs)})",
            scheduled_micros=micros,
        )
        total = 0
        for slot, value in enumerate(outputs):
            size = int(getattr(value, "nbytes", 0))
            total += size
            output = node.output.add(slot=slot)
            tensor = output.tensor_description
            tensor.dtype = op._outputs[slot]._dtype.base_dtype.as_datatype_enum
            for dim in getattr(value, "shape", ()):
                tensor.shape.dim.add(size=dim)
            tensor.allocation_description.requested_bytes = size
            tensor.allocation_description.allocated_bytes = size
            tensor.allocation_description.allocator_name = "cpu"
        node.memory.add(allocator_name="cpu", total_bytes=total, peak_bytes=total)


def run(session: BaseSession, fetches: Any, feed_dict: Any, options: Any, run_metadata: Any) -> Any:
    """`Session.run` with RunOptions and RunMetadata protos (either may be None).

    With a trace level above NO_TRACE the step is run operation by operation, so that each has a time of its own.
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
    if run_metadata is not None:
        run_metadata.Clear()
    if traced or deadline is not None:
        times = NodeTimes(device_of) if traced else None
        results = step.run_observed(arrays, times, deadline)
        if run_metadata is not None and times is not None:
            run_metadata.step_stats.dev_stats.extend(times.stats)
    else:
        results = step.run(arrays)
    if run_metadata is not None and options is not None and options.output_partition_graphs:
        partitions: dict[str, dict[Operation, Any]] = {}
        for op, value in folded(step.ops, step.fetches, step.targets, step.fed).items():
            partitions.setdefault(device_of(op), {})[op] = value
        for device, nodes in partitions.items():
            graph = graph_pb2.GraphDef(versions=session.graph.graph_def_versions)
            to_nodes(nodes, graph, device)
            run_metadata.partition_graphs.add().CopyFrom(graph)
    return session._finish(prepared, results)
