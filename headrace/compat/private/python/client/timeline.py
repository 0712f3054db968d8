"""`timeline.Timeline`: the times of a traced run, in the format of chrome://tracing and Perfetto."""

import json
import re

# "name = Op(input, input)", the label of a node in StepStats.
_LABEL = re.compile(r"^(?P<name>\S+) = (?P<op>\w+)\((?P<inputs>.*)\)$")


class Timeline:
    """The steps of one run. step_stats: StepStats, as in `run_metadata.step_stats`."""

    def __init__(self, step_stats, graph=None):
        self._step_stats = step_stats
        self._graph = graph

    def generate_chrome_trace_format(self, show_dataflow=True, show_memory=False):
        """Returns the trace as JSON text.

        show_dataflow: arrows from the node that makes a tensor to those that take it.
        show_memory: a counter of allocated bytes for every allocator.
        """
        events = []
        ends = {}  # node name -> (pid, lane, time at which its outputs are there)
        uses = []  # (input name, pid, lane, time at which a node takes it)
        for pid, device in enumerate(self._step_stats.dev_stats):
            events.append(
                _event("M", "process_name", pid, args={"name": f"{device.device} Compute"})
            )
            lanes = []  # the end of the last node in each lane
            for node in sorted(device.node_stats, key=lambda n: n.all_start_micros):
                start, duration = node.all_start_micros, max(1, node.all_end_rel_micros)
                lane = _free_lane(lanes, start, start + duration)
                name, op, inputs = self._node(node)
                arguments = {"name": name, "op": op}
                arguments |= {f"input{i}": value for i, value in enumerate(inputs)}
                events.append(
                    _event("X", op, pid, cat="Op", tid=lane, ts=start, dur=duration, args=arguments)
                )
                ends[name] = (pid, lane, start + duration)
                uses += [(value, pid, lane, start) for value in inputs]
        if show_dataflow:
            events += _arrows(ends, uses)
        if show_memory:
            events += self._memory(len(self._step_stats.dev_stats))
        return json.dumps({"traceEvents": events}, indent=4)

    def _node(self, node):
        """(name, op type, names of input nodes) of a NodeExecStats."""
        found = _LABEL.match(node.timeline_label)
        if found:
            inputs = [_node_of(i) for i in found["inputs"].split(",") if i.strip()]
            return found["name"], found["op"], inputs
        if self._graph is not None:
            try:
                op = self._graph.get_operation_by_name(node.node_name)
            except KeyError:  # a program made of several nodes
                pass
            else:
                return op.name, op.type, [tensor.op.name for tensor in op.inputs]
        return node.node_name, node.timeline_label.partition(":")[2] or node.node_name, []

    def _memory(self, pid):
        totals, changes = {}, []
        for device in self._step_stats.dev_stats:
            for node in device.node_stats:
                for memory in node.memory:
                    for record in memory.allocation_records:
                        changes.append(
                            (record.alloc_micros, memory.allocator_name, record.alloc_bytes)
                        )
        events = [_event("M", "process_name", pid, args={"name": "Memory"})] if changes else []
        for time, allocator, size in sorted(changes):
            totals[allocator] = totals.get(allocator, 0) + size
            events.append(
                _event(
                    "C", allocator, pid, cat="Memory", ts=time, args={allocator: totals[allocator]}
                )
            )
        return events


def _event(phase, name, pid, **rest):
    return {"ph": phase, "name": name, "pid": pid, **rest}


def _free_lane(lanes, start, end):
    """The first lane that is free at `start`; it is taken until `end`."""
    for lane, busy_until in enumerate(lanes):
        if busy_until <= start:
            lanes[lane] = end
            return lane
    lanes.append(end)
    return len(lanes) - 1


def _node_of(tensor_name):
    return tensor_name.strip().lstrip("^").partition(":")[0]


def _arrows(ends, uses):
    for number, (name, pid, lane, time) in enumerate(uses):
        if name in ends:
            from_pid, from_lane, end = ends[name]
            common = {"cat": "DataFlow", "id": number}
            yield _event("s", name, from_pid, tid=from_lane, ts=min(end, time), **common)
            yield _event("t", name, pid, tid=lane, ts=time, **common)
