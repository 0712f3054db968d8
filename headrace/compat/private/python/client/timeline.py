"""`timeline.Timeline`: the times of a traced run, in the format of chrome://tracing and Perfetto."""

import collections
import json
import re

# "name = Op(input, input) [notes]", the label of a node in StepStats.
_LABEL = re.compile(r"^(?P<name>\S+) = (?P<op>[^\s(]+)\((?P<inputs>.*?)\)(?: \[(?P<notes>.*)\])?$")

# When the most memory was in use: the time in microseconds, the bytes, and the names of the tensors.
AllocationMaximum = collections.namedtuple("AllocationMaximum", "timestamp num_bytes tensors")
# The trace (see ChromeTrace), and the AllocationMaximum of each allocator.
StepStatsAnalysis = collections.namedtuple("StepStatsAnalysis", "chrome_trace allocator_maximums")


class ChromeTrace:
    """The events of a trace."""

    def __init__(self):
        self.events = []

    def add(self, phase, name, pid, **rest):
        """Adds an event. phase: X for a bar, M for a name, s and t for the ends of an arrow, C for a counter."""
        self.events.append({"ph": phase, "name": name, "pid": pid, **rest})

    def format_to_string(self, pretty=False):
        """The trace as JSON text."""
        return json.dumps({"traceEvents": self.events}, indent=4 if pretty else None)


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
        return self.analyze_step_stats(show_dataflow, show_memory).chrome_trace.format_to_string(
            pretty=True
        )

    def analyze_step_stats(self, show_dataflow=True, show_memory=True):
        """Returns the trace, and when each allocator had given out the most memory, as a StepStatsAnalysis."""
        trace = ChromeTrace()
        bars = {}  # node name -> (pid, lane, start, end)
        uses = []  # (input name, pid, lane, time at which a node takes it, time at which it is done)
        for pid, device in enumerate(self._step_stats.dev_stats):
            trace.add("M", "process_name", pid, args={"name": f"{device.device} Compute"})
            trace.add("M", "process_sort_index", pid, args={"sort_index": pid})
            lanes = []  # the end of the last node in each lane
            # Of those that begin together the longest first: a program stands above its operations.
            order = lambda n: (n.all_start_micros, -n.all_end_rel_micros)  # noqa: E731
            for node in sorted(device.node_stats, key=order):
                name, op, inputs, notes = self._node(node)
                if notes and not node.all_end_rel_micros:
                    continue  # a part of a program that took no time of its own
                start, duration = node.all_start_micros, max(1, node.all_end_rel_micros)
                lane = _free_lane(lanes, start, start + duration)
                arguments = {"name": name, "op": op}
                arguments |= {f"input{i}": value for i, value in enumerate(inputs)}
                if notes:
                    arguments["notes"] = notes
                trace.add("X", op, pid, cat="Op", tid=lane, ts=start, dur=duration, args=arguments)
                bars[name] = (pid, lane, start, start + duration)
                uses += [(value, pid, lane, start, start + duration) for value in inputs]
            for lane in range(len(lanes)):
                trace.add("M", "thread_name", pid, tid=lane, args={"name": f"lane {lane}"})
        if show_dataflow:
            _add_arrows(trace, bars, uses)
        maximums = {}
        if show_memory:
            maximums = self._add_memory(trace, len(self._step_stats.dev_stats), uses)
        return StepStatsAnalysis(trace, maximums)

    def _node(self, node):
        """(name, op type, names of input nodes, notes) of a NodeExecStats."""
        found = _LABEL.match(node.timeline_label)
        if found:
            inputs = [_node_of(i) for i in found["inputs"].split(",") if i.strip()]
            return found["name"], found["op"], inputs, found["notes"] or ""
        if self._graph is not None:
            try:
                op = self._graph.get_operation_by_name(node.node_name)
            except KeyError:  # a program made of several nodes
                pass
            else:
                return op.name, op.type, [tensor.op.name for tensor in op.inputs], ""
        return node.node_name, node.timeline_label.partition(":")[2] or node.node_name, [], ""

    def _add_memory(self, trace, pid, uses):
        """Adds counters, and returns the maximum of each allocator."""
        changes = collections.defaultdict(list)  # allocator -> (time, bytes, name)
        last_use = {}
        for name, _, _, _, end in uses:
            last_use[name] = max(end, last_use.get(name, 0))
        for device in self._step_stats.dev_stats:
            for node in device.node_stats:
                recorded = [
                    (m.allocator_name, r) for m in node.memory for r in m.allocation_records
                ]
                for allocator, record in recorded:
                    change = (record.alloc_micros, record.alloc_bytes, node.node_name)
                    changes[allocator].append(change)
                start, end = node.all_start_micros, node.all_start_micros + node.all_end_rel_micros
                for output in node.output if not recorded else ():
                    described = output.tensor_description.allocation_description
                    if described.allocator_name:
                        gone = max(end, last_use.get(node.node_name, 0))
                        name, size = node.node_name, described.requested_bytes
                        changes[described.allocator_name] += [
                            (start, size, name),
                            (gone, -size, name),
                        ]
        if changes:
            trace.add("M", "process_name", pid, args={"name": "Memory"})
        maximums = {}
        for allocator, steps in changes.items():
            total, held = 0, set()
            maximums[allocator] = AllocationMaximum(0, 0, set())
            for time, size, name in sorted(steps):
                total += size
                held = held | {name} if size > 0 else held - {name}
                if total > maximums[allocator].num_bytes:
                    maximums[allocator] = AllocationMaximum(time, total, held)
                arguments = {allocator: total}
                trace.add("C", allocator, pid, cat="Memory", tid=0, ts=time, args=arguments)
        return maximums


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


def _add_arrows(trace, bars, uses):
    for number, (name, pid, lane, time, _) in enumerate(uses):
        from_pid, from_lane, start, end = bars.get(name, (0, 0, 0, 0))
        if name in bars and time >= start:
            common = {"cat": "DataFlow", "id": number}
            # Within the bar that it leaves: viewers take what begins at its end for the next one's.
            trace.add("s", name, from_pid, tid=from_lane, ts=min(end - 1, time), **common)
            trace.add("t", name, pid, tid=lane, ts=time, **common)
