"""Traces of compiled steps: times and memory of the operations in a program, and what tools read of them."""

from __future__ import annotations

import json

import numpy as np
from tensorboard.compat.proto import config_pb2, event_pb2

import headrace as tf
from headrace.compat.private.python.client import timeline
from headrace.io import tf_record
from headrace.runtime.profile import instructions, node_and_body

FULL = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
TEXT = """\
HloModule jit_island_0, is_scheduled=true

%fused_computation (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %t.1 = f32[4]{0} tanh(%p), metadata={op_name="jit(island_0)/a/Tanh#Tanh/tanh" stack_frame_id=1}
  ROOT %m.1 = f32[4]{0} multiply(%t.1, %t.1), metadata={op_name="jit(island_0)/mul#Mul/mul" stack_frame_id=2}
}

%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  ROOT %add.2 = f32[4]{0} add(%x, %x), metadata={op_name="jit(island_0)/loop/While#While/while/body/add#AddV2/add"}
}

ENTRY %main.3 (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0), metadata={op_name="inputs[0]"}
  %fusion = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused_computation, metadata={op_name="jit(island_0)/mul#Mul/mul"}
  %both = f32[4]{0} add(%x, %x), metadata={op_name="jit(island_0)/b#B/add;jit(island_0)/c#C/add"}
  ROOT %while.1 = f32[4]{0} while(%fusion), condition=%cond, body=%body, metadata={op_name="jit(island_0)/loop/While#While/while"}
}
"""


def test_instructions_are_of_operations():
    found = instructions(TEXT)
    named = {name: ([node_and_body(s) for s in i.scopes], i.on_top) for name, i in found.items()}
    assert named == {
        "x": ([], True),
        "fusion": ([("a/Tanh", "", "Tanh"), ("mul", "", "Mul")], True),
        "both": ([("b", "", "B"), ("c", "", "C")], True),
        "while.1": ([("loop/While", "", "While")], True),
        "add.2": ([("loop/While", "add", "AddV2")], False),
    }


def network():
    """(fetches, feed) of a step of two layers, a loop and an update."""
    x = tf.placeholder(tf.float32, [64, 64], name="x")
    h = x
    for i in range(2):
        with tf.name_scope(f"layer{i}"):
            w = tf.Variable(tf.random_normal([64, 64], seed=i) * 0.1, name="w")
            h = tf.nn.relu(tf.matmul(h, w) + 1.0)
    with tf.name_scope("loop"):
        _, h = tf.while_loop(
            lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, h))), [0, h]
        )
    loss = tf.reduce_mean(h * h, name="loss")
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    return [loss, train], {x: np.random.RandomState(0).randn(64, 64)}


def traced(sess, fetches, feed, options=FULL):
    metadata = tf.RunMetadata()
    sess.run(fetches, feed, options=options, run_metadata=metadata)
    (device,) = metadata.step_stats.dev_stats
    return metadata, device.node_stats


def test_a_program_is_told_by_its_operations():
    fetches, feed = network()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run(fetches, feed)
        before = tf.compilations().count
        metadata, nodes = traced(sess, fetches, feed)
        assert tf.compilations().count == before  # the step's own program was run
        _, alone = traced(
            sess, fetches, feed, tf.RunOptions(trace_level=tf.RunOptions.SOFTWARE_TRACE)
        )
    whole = next(n for n in nodes if n.node_name == "island_0")
    begin, end = whole.all_start_micros, whole.all_start_micros + whole.all_end_rel_micros
    timed = [n for n in nodes if n.all_end_rel_micros and n is not whole]
    names = {n.node_name for n in timed}
    assert {"layer0/MatMul", "layer1/MatMul", "loop/while/While"} <= names
    assert "loop/while/While/loop/MatMul" in names  # of the loop's body
    assert all(begin - 2 <= n.all_start_micros <= end + 2 for n in timed)
    # On one lane nothing overlaps but a loop and its body, so sums are at most the program's time.
    on_top = [n for n in timed if "/While/" not in n.node_name and "times" not in n.timeline_label]
    assert 0 < sum(n.op_end_rel_nanos for n in on_top) <= 2 * whole.op_end_rel_nanos
    body = next(n for n in timed if n.node_name == "loop/while/While/loop/MatMul")
    assert body.timeline_label.startswith("loop/while/While/loop/MatMul = MatMul() [3 times")
    product = next(n for n in nodes if n.node_name == "layer0/MatMul")
    sizes = [d.size for d in product.output[0].tensor_description.shape.dim]
    assert sizes == [64, 64] and product.memory[0].total_bytes == 64 * 64 * 4
    assert product.timeline_label.startswith("layer0/MatMul = MatMul(x, layer0/w/read)")
    assert whole.memory[0].peak_bytes > whole.memory[0].total_bytes >= 64 * 64 * 4
    # Everything with a value is there, with its shape, where XLA left no instruction of it too.
    assert {n.node_name for n in alone if n.output} - {"x"} <= {n.node_name for n in nodes}
    check_trace(metadata)


def check_trace(metadata):
    """The trace has what viewers need: bars in named lanes that do not overlap, arrows, counters."""
    made = timeline.Timeline(metadata.step_stats)
    events = json.loads(made.generate_chrome_trace_format(show_memory=True))["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    lanes = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    bars = [e for e in events if e["ph"] == "X"]
    assert processes[bars[0]["pid"]].endswith("device:CPU:0 Compute")
    until = {}
    for bar in bars:
        assert set(bar) == {"ph", "name", "pid", "tid", "cat", "ts", "dur", "args"}
        lane = (bar["pid"], bar["tid"])
        assert lane in lanes and bar["dur"] > 0 and bar["ts"] >= until.get(lane, 0)
        until[lane] = bar["ts"] + bar["dur"]
    for event in events:
        assert event["ph"] in "MXstC" and event["pid"] in processes
        assert event["ph"] == "M" or {"ts", "tid"} <= set(event)
    starts = {e["id"]: e["ts"] for e in events if e["ph"] == "s"}
    ends = {e["id"]: e["ts"] for e in events if e["ph"] == "t"}
    assert starts and starts.keys() == ends.keys()
    assert all(starts[i] <= ends[i] for i in starts)
    assert [e for e in events if e["ph"] == "C"][-1]["args"]["xla"] >= 0
    without = json.loads(made.generate_chrome_trace_format(show_dataflow=False))["traceEvents"]
    assert {e["ph"] for e in without} == {"M", "X"}
    assert made.analyze_step_stats().allocator_maximums["xla"].num_bytes > 64 * 64 * 4


def test_host_operations_stand_between_programs():
    x = tf.placeholder(tf.float32, [32, 32])
    seen = tf.py_func(lambda a: a + 1, [tf.tanh(tf.matmul(x, x))], tf.float32, name="look")
    seen.set_shape([32, 32])
    y = tf.exp(tf.matmul(seen, seen) * -1.0, name="y")
    with tf.Session() as sess:
        for _ in range(2):
            sess.run(y, {x: np.ones([32, 32])})
        _, nodes = traced(sess, y, {x: np.ones([32, 32])})
    first, host, last = (
        next(n for n in nodes if n.node_name == name) for name in ("island_0", "look", "island_2")
    )
    assert first.all_start_micros <= host.all_start_micros <= last.all_start_micros
    assert host.output[0].tensor_description.allocation_description.requested_bytes == 32 * 32 * 4


def test_programs_of_several_devices():
    x = tf.placeholder(tf.float32, [64, 64])
    with tf.device("/cpu:0"):
        a = tf.matmul(tf.tanh(tf.matmul(x, x)), x, name="a")
    with tf.device("/cpu:1"):
        b = tf.matmul(tf.exp(tf.matmul(x, x)), x, name="b")
        seen = tf.py_func(lambda v: v + 1, [b], tf.float32, name="look")
    with tf.device("/cpu:0"):
        total = tf.reduce_sum(a + tf.reshape(seen, [64, 64]), name="total")
    metadata = tf.RunMetadata()
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as sess:
        for _ in range(2):
            expected = sess.run(total, {x: np.eye(64)})
        got = sess.run(total, {x: np.eye(64)}, options=FULL, run_metadata=metadata)
    np.testing.assert_allclose(got, expected)
    nodes = {
        d.device[-5:]: {n.node_name for n in d.node_stats if n.all_end_rel_micros}
        for d in metadata.step_stats.dev_stats
    }
    assert "a" in nodes["CPU:0"] and "b" in nodes["CPU:1"]
    assert all(any(name.startswith("island_") for name in found) for found in nodes.values())
    assert "look" in nodes["CPU:0"] | nodes["CPU:1"]


def test_a_busy_profiler_leaves_the_programs():
    from headrace.lowering.jax_adapter import profiled

    x = tf.placeholder(tf.float32, [32, 32])
    y = tf.exp(tf.matmul(tf.tanh(x), x), name="y")
    with tf.Session() as sess:
        for _ in range(2):
            sess.run(y, {x: np.ones([32, 32])})
        (_, nodes), _ = profiled(lambda: traced(sess, y, {x: np.ones([32, 32])}))
    assert nodes[0].node_name == "island_0" and nodes[0].all_end_rel_micros > 0
    assert "y = Exp(MatMul) [in the program]" in [n.timeline_label for n in nodes]


def test_tensorboard_reads_the_run(tmp_path):
    fetches, feed = network()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run(fetches, feed)
        metadata, nodes = traced(sess, fetches, feed)
        writer = tf.summary.FileWriter(str(tmp_path), sess.graph)
        writer.add_run_metadata(metadata, "step 7", 7)
        writer.close()
    (path,) = tmp_path.iterdir()
    events = [event_pb2.Event.FromString(r) for r in tf_record.tf_record_iterator(str(path))]
    tagged = [
        e.tagged_run_metadata for e in events if e.WhichOneof("what") == "tagged_run_metadata"
    ]
    assert [t.tag for t in tagged] == ["step 7"]
    read = config_pb2.RunMetadata.FromString(tagged[0].run_metadata)
    assert read.step_stats.dev_stats[0].node_stats == nodes
    from tensorboard.backend.event_processing import event_accumulator

    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    graph_nodes = {n.name for n in tf.get_default_graph().as_graph_def().node}
    shown = accumulator.RunMetadata("step 7").step_stats.dev_stats[0].node_stats
    timed = {n.node_name for n in shown if n.all_end_rel_micros} & graph_nodes
    assert len(timed) > 10  # of the graph's own nodes, which the page colours by time and memory
