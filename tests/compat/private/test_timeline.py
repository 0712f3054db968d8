"""Timeline: a run's times as chrome://tracing reads them."""

import json

from tensorboard.compat.proto import step_stats_pb2

from headrace.compat.private.python.client.timeline import Timeline


def step_stats():
    stats = step_stats_pb2.StepStats()
    device = stats.dev_stats.add(device="/job:localhost/replica:0/task:0/device:CPU:0")
    rows = [
        ("a", 100, 50, "a = Const()"),
        ("b", 120, 40, "b = Const()"),  # while a runs: another lane
        ("c", 160, 0, "c = Add(a, b:0)"),
    ]
    for name, start, duration, label in rows:
        node = device.node_stats.add(
            node_name=name,
            all_start_micros=start,
            all_end_rel_micros=duration,
            timeline_label=label,
        )
        memory = node.memory.add(allocator_name="cpu")
        memory.allocation_records.add(alloc_micros=start, alloc_bytes=8)
    return stats


def trace(**options):
    return json.loads(Timeline(step_stats()).generate_chrome_trace_format(**options))["traceEvents"]


def test_every_node_is_a_bar_in_a_lane_of_its_own_while_it_runs():
    bars = [e for e in trace() if e["ph"] == "X"]
    assert [(e["args"]["name"], e["name"], e["tid"], e["ts"], e["dur"]) for e in bars] == [
        ("a", "Const", 0, 100, 50),
        ("b", "Const", 1, 120, 40),
        ("c", "Add", 0, 160, 1),
    ]
    assert bars[2]["args"] == {"name": "c", "op": "Add", "input0": "a", "input1": "b"}


def test_arrows_and_memory_are_shown_when_asked_for():
    phases = [e["ph"] for e in trace(show_dataflow=False)]
    assert set(phases) == {"M", "X"}
    arrows = [(e["ph"], e["name"]) for e in trace() if e["ph"] in "st"]
    assert arrows == [("s", "a"), ("t", "a"), ("s", "b"), ("t", "b")]
    counted = [e["args"]["cpu"] for e in trace(show_memory=True) if e["ph"] == "C"]
    assert counted == [8, 16, 24]
