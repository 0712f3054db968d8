"""Segments of several devices and graphs for each: no cycles, nothing lost, one pair for a tensor and a target."""

import pytest

import headrace as tf
from headrace.passes.device_split import split_by_device
from headrace.passes.fold import folded
from headrace.passes.partition import partition_graphs, rendezvous_key
from headrace.passes.prune import prune
from headrace.passes.state_order import order_state
from tests.runtime.layered_dags import LayeredDag

PREFIX = "/job:localhost/replica:0/task:0"
DEVICES = [f"{PREFIX}/device:CPU:{i}" for i in range(4)]


def planned(dag):
    fed = frozenset([dag.x, dag.index, dag.mode])
    fetches = dag.fetches[0]
    ops = prune([t.op for t in fetches], fed)
    order = order_state(ops, fetches, fed)

    def device_of(op):
        return PREFIX + (op.device or "/device:CPU:0")

    return ops, fed, fetches, order, device_of


@pytest.mark.parametrize("seed", range(4))
def test_segments_of_random_graphs(seed):
    dag = LayeredDag(seed, 150, 4, faults=seed % 2 == 1)
    ops, fed, fetches, order, device_of = planned(dag)
    split = split_by_device(ops, fed, fetches, order, device_of)
    in_segments = [op for s in split.segments for op in s.ops]
    assert len(in_segments) == len(set(in_segments))
    left_out = set(ops) - set(in_segments)
    assert all(not op.inputs for op in left_out)  # constants, handles, what is fed
    for number, segment in enumerate(split.segments):
        assert {device_of(op) for op in segment.ops} == {segment.device}
        assert all(before < number for before in split.waits_for[number])  # an order exists
        for op in segment.ops:
            for source in (*(t.op for t in op.inputs), *op.control_inputs):
                if source in split.segment_of and source not in left_out:
                    before = split.segment_of[source]
                    assert before == number or before in split.waits_for[number]
    # Versions of variables count as edges.
    for op, key, version in order.reads():
        if version >= 0:
            writer = split.segment_of[order.writers[key][version]]
            assert writer <= split.segment_of[op]
    assert len(split.segments) < len(in_segments)


@pytest.mark.parametrize("seed", range(3))
def test_graphs_of_devices(seed):
    dag = LayeredDag(seed, 150, 4)
    ops, fed, fetches, _, device_of = planned(dag)
    plan = folded(ops, fetches, [], fed)
    incarnations = {device: 7 + i for i, device in enumerate(DEVICES)}
    graphs = partition_graphs(
        plan, fetches, [dag.x, dag.index, dag.mode], device_of, incarnations, tf.GraphDef
    )
    assert len(graphs) == 4
    sent, received, kept = [], [], []
    for device, graph in zip(DEVICES, graphs, strict=True):
        names = {node.name for node in graph.node}
        assert len(names) == len(graph.node)
        kept += names
        for node in graph.node:
            assert node.device == device
            for name in node.input:  # every graph is complete in itself
                assert name.removeprefix("^").split(":")[0] in names, (node.name, name)
            if node.op in ("_Send", "_Recv"):
                a = node.attr
                assert a["send_device_incarnation"].i == incarnations[a["send_device"].s.decode()]
                assert (
                    device == a["send_device" if node.op == "_Send" else "recv_device"].s.decode()
                )
                pair = (a["tensor_name"].s, a["recv_device"].s)
                (sent if node.op == "_Send" else received).append((pair, list(node.input)))
    assert sorted(p for p, _ in sent) == sorted(p for p, _ in received)
    tensors = [(pair[1], tuple(source)) for pair, source in sent]
    assert len(set(tensors)) == len(tensors)  # a tensor goes to a device once
    assert {op.name for op in plan} <= set(kept)


def test_the_form_of_keys():
    key = rendezvous_key(DEVICES[0], 0xAB, DEVICES[1], "edge_3_b")
    assert key == f"{DEVICES[0]};00000000000000ab;{DEVICES[1]};edge_3_b;0:0"


def test_what_others_wait_for_is_apart_from_what_they_do_not():
    x = tf.placeholder(tf.float32, [None, 64], name="x")
    with tf.device("/cpu:0"):
        shared = tf.square(x, name="shared")
        heavy = tf.matmul(shared, shared, transpose_b=True, name="heavy")
    with tf.device("/cpu:1"):
        other = tf.reduce_sum(shared, name="other")
    with tf.device("/cpu:0"):
        end = tf.reduce_sum(heavy) + other
    fed = frozenset([x])
    ops = prune([end.op], fed)
    order = order_state(ops, [end], fed)
    split = split_by_device(ops, fed, [end], order, lambda op: op.device or "/device:CPU:0")
    first, second, third, _ = split.segments
    assert [op.name for op in first.ops] == ["shared"]
    assert {second.device, third.device} == {"/device:CPU:0", "/device:CPU:1"}
    assert split.waits_for == [set(), {0}, {0}, {1, 2}]
