"""Placement by cost: schedules, groups, and the switch in ConfigProto."""

import numpy as np

import headrace as tf
from headrace.passes.cost_placement import makespan, schedule
from headrace.passes.placer import Placer
from headrace.runtime.node_costs import NodeCosts, measured_seconds

PREFIX = "/job:localhost/replica:0/task:0/device:"
TWO = [f"{PREFIX}CPU:0", f"{PREFIX}CPU:1"]


class Costs:
    """Seconds by the first word of a name, and one second for each transfer."""

    def __init__(self, link=1.0, **seconds):
        self._seconds, self._link = seconds, link

    def seconds(self, op):
        return self._seconds.get(op.name.partition("_")[0], 0.0)

    def transfer(self, tensor):
        return self._link


def two_branches():
    x = tf.placeholder(tf.float32, [2], name="x")
    for branch in "ab":
        y = tf.square(x, name=f"light_{branch}")
        for i in range(3):
            y = tf.square(y, name=f"heavy_{branch}{i}")
    graph = tf.get_default_graph()
    tf.add(graph.get_tensor_by_name("heavy_a2:0"), y, name="end")
    return graph.get_operations()


def branch_devices(device_of):
    return {
        branch: {
            d[-5:] for op, d in device_of.items() if op.name[-2:-1] == branch and "heavy" in op.name
        }
        for branch in "ab"
    }


def test_branches_go_apart_where_that_pays():
    ops = two_branches()
    found = schedule(ops, Costs(heavy=10.0, light=0.1), lambda op: TWO)
    a, b = branch_devices(found.device_of).values()
    assert len(a) == len(b) == 1 and a != b
    assert found.makespan == 30.1 + 1.0
    assert makespan(ops, Costs(heavy=10.0, light=0.1), lambda op: TWO[0]) == 60.2
    assert makespan(ops, Costs(heavy=10.0), lambda op: found.device_of[op]) == 31.0
    dear = schedule(ops, Costs(link=100.0, heavy=10.0), lambda op: TWO)
    assert dear.makespan == 60.0 and set(dear.device_of.values()) == {TWO[0]}


def test_groups_and_demands_are_kept():
    with tf.device("/cpu:1"):
        v = tf.Variable([1.0, 2.0], name="v")
    two_branches()
    with tf.control_dependencies([tf.get_default_graph().get_operation_by_name("heavy_a0")]):
        update = tf.assign_add(v, [1.0, 1.0], name="update")
    text = tf.read_file("name", name="text")
    ops = tf.get_default_graph().get_operations()
    placer = Placer([*TWO, f"{PREFIX}GPU:0"], costs=Costs(heavy=10.0))
    placer.place(ops)
    found = {op: placer.device_of(op) for op in ops}
    assert found[update.op] == found[v.op] == TWO[1]
    assert found[text.op] in TWO and None not in found.values()
    a, b = branch_devices(found).values()
    assert a != b and placer.place(ops) == []


def test_estimates_grow_with_the_work():
    with tf.Graph().as_default():
        small, large = (tf.placeholder(tf.float32, [n, n]) for n in (16, 512))
        products = [tf.matmul(small, small), tf.matmul(large, large)]
        sums = [tf.add(large, large), tf.reshape(large, [-1])]
        free = [tf.constant(1.0), tf.Variable(1.0)]
        unknown = tf.matmul(tf.placeholder(tf.float32), small)
    costs = NodeCosts({products[0].op.name: 5.0})
    assert costs.seconds(products[0].op) == 5.0  # measured
    costs = NodeCosts()
    times = [costs.seconds(t.op) for t in (*products, *sums)]
    assert times[1] > 100 * times[0] and times[1] > 5 * times[2] and min(times) > 0
    assert [costs.seconds(t.op) for t in free] == [0.0, 0.0]
    assert costs.seconds(unknown.op) > 0
    assert costs.transfer(large) > costs.transfer(small) > costs.transfer(None) / 2


def test_a_session_places_by_cost_where_it_is_asked_to():
    x = tf.placeholder(tf.float32, [512, 512])
    ends = []
    for branch in range(2):
        y = x + float(branch)
        for _ in range(6):
            y = tf.matmul(y, x)
        ends.append(tf.reduce_mean(y))
    total = ends[0] + ends[1]
    value = np.full([512, 512], 1 / 512, np.float32)
    used = []
    for steps in (0, 1):
        options = tf.GraphOptions(build_cost_model=steps)
        config = tf.ConfigProto(device_count={"CPU": 2}, graph_options=options)
        with tf.Session(config=config) as sess:
            metadata = tf.RunMetadata()
            trace = tf.RunOptions(trace_level=tf.RunOptions.SOFTWARE_TRACE)
            np.testing.assert_allclose(
                sess.run(total, {x: value}, trace, metadata), 1 + 2 / 512, rtol=1e-4
            )
        assert metadata.HasField("cost_graph") == bool(steps)
        expected = {n.name: n for n in metadata.cost_graph.node}
        assert not steps or expected["MatMul"].compute_cost > 0
        nodes = {n.node_name: d.device for d in metadata.step_stats.dev_stats for n in d.node_stats}
        used.append({device for name, device in nodes.items() if name.startswith("MatMul")})
        seconds = measured_seconds(metadata.step_stats)
        assert seconds["MatMul"] > 0
    assert used[0] == {TWO[0]} and used[1] == set(TWO)
