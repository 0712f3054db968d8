"""RunOptions, RunMetadata and the devices of a session."""

import os
import subprocess
import sys

import numpy as np
import pytest

import headrace as tf
from headrace.session.devices import DeviceAttributes

CPU = "/job:localhost/replica:0/task:0/device:CPU:"


def traced(**kwargs):
    return tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, **kwargs)


def test_devices():
    sess = tf.Session(config=tf.ConfigProto(device_count={"CPU": 3}))
    assert [d.name for d in sess.list_devices() if d.device_type == "CPU"] == [
        f"{CPU}{i}" for i in range(3)
    ]
    attributes = DeviceAttributes("/job:worker/replica:0/task:3/cpu:1", "TYPE", 1337, 9)
    assert attributes.name == "/job:worker/replica:0/task:3/device:CPU:1"
    assert str(attributes) == f"_DeviceAttributes({attributes.name}, TYPE, 1337, 9)"
    sess.close()
    with pytest.raises(RuntimeError, match="closed"):
        sess.list_devices()


def test_a_device_that_is_not_there_is_refused():
    with tf.device("/cpu:1"):
        a = tf.constant(1.0, name="a")
    b = tf.constant(2.0, name="b")
    with tf.device("/job:worker/task:3"):
        far = tf.constant(3.0, name="far")
    one, two = tf.ConfigProto(), tf.ConfigProto(device_count={"CPU": 2})
    words = r"Cannot assign a device for operation {}: .*available devices are \[ .*CPU:0.*\n  defined at .*test_o"
    sess = tf.Session(config=one)
    for _ in range(2):  # the whole graph is placed, and goes on being refused
        with pytest.raises(tf.errors.InvalidArgumentError, match=words.format("a")) as caught:
            sess.run(b)
        assert caught.value.op is a.op
    for config in (one, two):
        config.graph_options.place_pruned_graph = True
        pruned = tf.Session(config=config)
        assert pruned.run(b) == 2.0
        with pytest.raises(tf.errors.InvalidArgumentError, match=words.format("far")):
            pruned.run(far)
    assert tf.Session(config=two).run(a) == 1.0
    one.allow_soft_placement = True
    assert tf.Session(config=one).run([a, b]) == [1.0, 2.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words.format("far")):
        tf.Session(config=one).run(far)  # soft placement moves nothing to another machine
    del a


def test_placement_is_logged(capfd):
    with tf.device("/gpu:5"):
        a = tf.constant([[2.0]], name="a")
    b = tf.matmul(a, a, name="b")
    v = tf.Variable(1.0, name="v")
    sess = tf.Session(config=tf.ConfigProto(allow_soft_placement=True, log_device_placement=True))
    sess.run([b, v.initializer])
    first = capfd.readouterr().out.splitlines()
    assert first[0].startswith("Device mapping:")
    assert f"a: (Const): {CPU}0" in first and f"v: (VariableV2): {CPU}0" in first
    assert [line for line in first if line.startswith("b: (MatMul): /job:localhost/")]
    sess.run([b + 1.0])
    second = capfd.readouterr().out
    assert "(AddV2)" in second and "MatMul" not in second  # each op once


def test_traces_tell_each_op_on_its_device():
    with tf.device("/cpu:1"):
        x = tf.placeholder(tf.float32, [2, 3])
        a = x * 2.0
    b = tf.reduce_sum(a, name="b")
    sess = tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}))
    feed = {x: np.ones([2, 3])}
    for _ in range(3):
        metadata = tf.RunMetadata()
        assert sess.run(b, feed, traced(output_partition_graphs=True), metadata) == 12.0
        stats = {
            d.device: {n.node_name: n for n in d.node_stats} for d in metadata.step_stats.dev_stats
        }
        assert "mul" in stats[CPU + "1"] and "b" not in stats[CPU + "1"]
        assert stats[CPU + "1"]["mul"].output[0].tensor_description.shape.dim[1].size == 3
        assert any("b" in nodes for nodes in stats.values())
        assert {n.device for g in metadata.partition_graphs for n in g.node} >= {CPU + "1"}
    # What an earlier run left in the proto goes.
    sess.run(b, feed, run_metadata=metadata)
    assert not metadata.partition_graphs and not metadata.step_stats.dev_stats


def test_a_traced_step_changes_variables_as_any_other():
    v = tf.Variable(1.0)
    x = tf.placeholder(tf.float32, [])
    up = v.assign_add(x)
    sess = tf.Session()
    sess.run(v.initializer)
    for i in range(4):
        sess.run(up, {x: 1.0}, options=traced() if i % 2 else None)
    assert sess.run(v) == 5.0


def test_a_limit_of_time():
    v = tf.Variable(0.0)
    slow = tf.py_func(lambda: __import__("time").sleep(0.05) or np.float32(1.0), [], tf.float32)
    slow.set_shape([])
    up = v.assign(slow + 1.0)
    sess = tf.Session()
    sess.run(v.initializer)
    with pytest.raises(tf.errors.DeadlineExceededError):
        sess.run(up, options=tf.RunOptions(timeout_in_ms=10))
    assert sess.run(v) == 0.0
    assert sess.run(up, options=tf.RunOptions(timeout_in_ms=60000)) == 2.0
    assert tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=60000)).run(slow) == 1.0


def test_what_is_no_proto_is_refused():
    c = tf.constant(1.0)
    sess = tf.Session()
    with pytest.raises(TypeError, match=r"options must be a tf\.RunOptions"):
        sess.run(c, options=3)
    with pytest.raises(TypeError, match=r"run_metadata must be a tf\.RunMetadata"):
        sess.run(c, run_metadata=3)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_an_op(threads):
    """XLA's pool has as many threads; it can be seen in a process that has not started JAX."""
    program = f"""
import os
import numpy as np
import headrace as tf
x = tf.placeholder(tf.float32, [300, 300])
y = tf.matmul(x, x) + 1
with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads={threads})) as sess:
    assert sess.run(y, {{x: np.ones((300, 300))}})[0, 0] == 301
    sess.run(y, {{x: np.ones((300, 300))}})
names = [open(f"/proc/self/task/{{t}}/comm").read().strip() for t in os.listdir("/proc/self/task")]
print(names.count("tf_XLAEigen"), os.environ["PJRT_NPROC"])
"""
    # A pool has at least as many threads as there are devices.
    others = ("PJRT_NPROC", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in others}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [str(threads)] * 2, done.stderr


def test_a_step_with_a_limit_is_planned_once():
    x = tf.placeholder(tf.float32, [8, 8])
    y = tf.matmul(x, x)
    with tf.Session() as sess:
        for _ in range(4):
            sess.run(y, {x: np.eye(8)}, tf.RunOptions(timeout_in_ms=60000))
        (step,) = sess._interruptible_steps.values()
        assert step._runs == {((8, 8),): 1} and len(step.programs.islands) == 1


def test_the_cost_model_is_told_of_every_so_many_runs():
    x = tf.placeholder(tf.float32, [4])
    y = tf.square(x)
    graph_options = tf.GraphOptions(build_cost_model=3, build_cost_model_after=2)
    with tf.Session(config=tf.ConfigProto(graph_options=graph_options)) as sess:
        told = []
        for i in range(9):
            metadata = tf.RunMetadata() if i != 3 else None
            sess.run(y, {x: np.ones(4)}, run_metadata=metadata)
            told.append(metadata is not None and metadata.HasField("cost_graph"))
    assert [i for i, given in enumerate(told) if given] == [4, 7]
