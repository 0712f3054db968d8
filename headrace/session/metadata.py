"""Runs with options: step statistics for each node, partition graphs, a time limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto import config_pb2, graph_pb2, step_stats_pb2

from headrace.graph.operation import Operation
from headrace.passes.fold import folded, to_nodes

if TYPE_CHECKING:
    from headrace.session.session import BaseSession

_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"


class NodeTimes:
    """Times and sizes of the operations of one run, for `RunMetadata.step_stats`."""

    def __init__(self) -> None:
        self.stats = step_stats_pb2.DeviceStepStats(device=_DEVICE)

    def __call__(self, op: Operation, start: float, end: float, outputs: list[Any]) -> None:
        """Adds one operation that ran from `start` to `end` (seconds since the epoch)."""
        micros, duration = int(start * 1e6), max(1, int((end - start) * 1e6))
        node = self.stats.node_stats.add(
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
    step = prepared.step
    traced = options is not None and options.trace_level != config_pb2.RunOptions.NO_TRACE
    limit = options.timeout_in_ms if options is not None else 0
    deadline = time.monotonic() + limit / 1000 if limit > 0 else None
    if traced or deadline is not None:
        times = NodeTimes() if traced else None
        results = step.run_observed(arrays, times, deadline)
        if run_metadata is not None and times is not None:
            run_metadata.step_stats.dev_stats.add().CopyFrom(times.stats)
    else:
        results = step.run(arrays)
    if run_metadata is not None and options is not None and options.output_partition_graphs:
        graph = graph_pb2.GraphDef(versions=session.graph.graph_def_versions)
        to_nodes(folded(step.ops, step.fetches, step.targets, step.fed), graph, _DEVICE)
        run_metadata.partition_graphs.add().CopyFrom(graph)
    return session._finish(prepared, results)
