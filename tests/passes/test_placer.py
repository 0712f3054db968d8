"""Placement: what programs ask for, groups that stay together, refusals."""

import re

import pytest

import headrace as tf
from headrace.passes.placer import Placer

PREFIX = "/job:localhost/replica:0/task:0/device:"
TWO = [f"{PREFIX}CPU:0", f"{PREFIX}CPU:1"]
WITH_GPU = [*TWO, f"{PREFIX}GPU:0", f"{PREFIX}GPU:1"]


def placed(names=TWO, **kwargs):
    """The device (without its prefix) of each operation of the default graph."""
    placer = Placer(names, **kwargs)
    ops = tf.get_default_graph().get_operations()
    placer.place(ops)
    return {op.name: placer.device_of(op).removeprefix(PREFIX) for op in ops}


def test_the_rules_of_tensorflow():
    with tf.device("/cpu:1"):
        x = tf.placeholder_with_default([1.0, 2.0], [2], name="x")
        y = tf.multiply(x, 2.0, name="y")
    free = tf.constant(2.0, name="free")
    _, _ = tf.add(y, free, name="z"), tf.raw_ops.Shape(input=y, name="shape")
    with tf.device("/cpu:1"):
        tf.identity(tf.constant(3.0, name="generator"), name="consumer")
    shared = tf.constant(3.0, name="shared")
    tf.negative(shared, name="here")
    with tf.device("/device:CPU:1"):
        tf.negative(shared, name="there")
    with tf.control_dependencies([y.op]):
        tf.no_op(name="last")
    assert placed() == {
        "x/input": "CPU:1",
        "x": "CPU:1",
        "y/y": "CPU:1",
        "y": "CPU:1",
        "free": "CPU:0",
        "z": "CPU:0",
        "shape": "CPU:1",  # it looks at the shape alone
        "generator": "CPU:1",  # where all its consumers are
        "consumer": "CPU:1",
        "shared": "CPU:0",
        "here": "CPU:0",
        "there": "CPU:1",
        "last": "CPU:0",
    }


def test_device_functions_and_scopes_that_merge():
    def spread(op):
        return "/cpu:1" if op.type == "Neg" else "/cpu:0"

    with tf.device("/job:localhost"), tf.device("/task:0"), tf.device(spread):
        a = tf.constant(1.0, name="a")
        b = tf.negative(a, name="b")
    assert b.device == "/job:localhost/task:0/device:CPU:1"
    assert placed() == {"a": "CPU:0", "b": "CPU:1"}


def test_what_touches_a_variable_is_where_the_variable_is():
    with tf.device("/cpu:1"):
        ref = tf.Variable(1.0, use_resource=False, name="ref")
        resource = tf.Variable(1.0, use_resource=True, name="resource")
    ref.assign_add(1.0, name="add_ref")
    with tf.device("/cpu:0"):
        resource.assign_add(1.0)
        tf.negative(resource, name="minus")
    found = placed()
    together = [n for n in found if re.match("ref|resource|add_ref$|Assign.*VariableOp|Read", n)]
    assert {n: found[n] for n in together if "nitial" not in n} == {
        n: "CPU:1" for n in together if "nitial" not in n
    }
    assert found["minus"] == "CPU:0" and "AssignAddVariableOp" in found


def test_colocation_joins_what_comes_later():
    with tf.device("/cpu:1"):
        anchor = tf.constant(1.0, name="anchor")
    with tf.colocate_with(anchor):
        beside = tf.add(anchor, 1.0, name="beside")
    with tf.device("/cpu:0"), tf.colocate_with(beside):
        third = tf.negative(anchor, name="third")
    assert third.op.colocation_groups() == [b"loc:@anchor"]
    assert placed() == {"anchor": "CPU:1", "beside": "CPU:1", "beside/y": "CPU:1", "third": "CPU:1"}


def test_new_operations_join_what_has_been_placed():
    placer = Placer(TWO)
    graph = tf.get_default_graph()
    v = tf.Variable(1.0, use_resource=True, name="v")
    placer.place(graph.get_operations())
    before = len(graph.get_operations())
    with tf.device("/cpu:1"):
        late = v.assign_add(2.0, read_value=False)
        plain = tf.constant(1.0)
    new = placer.place(graph.get_operations())
    assert len(new) == len(graph.get_operations()) - before
    assert placer.device_of(late) == TWO[0] and placer.device_of(plain.op) == TWO[1]
    plain.op._set_attr("_class", tf.AttrValue(list=tf.AttrValue.ListValue(s=[b"loc:@v"])))
    assert placer.place(graph.get_operations()) == []  # what is placed stays


def test_accelerators_are_preferred_where_they_have_a_kernel():
    x = tf.placeholder(tf.float32, [2], name="x")
    tf.square(x, name="square")
    text = tf.read_file("name", name="text")
    tf.py_func(lambda v: v, [x], tf.float32, name="python")
    with tf.device("/gpu:1"):
        tf.negative(x, name="second")
    found = placed(WITH_GPU)
    assert [found[n] for n in ("x", "square", "text", "python", "second")] == [
        "GPU:0",
        "GPU:0",
        "CPU:0",
        "CPU:0",
        "GPU:1",
    ]
    assert placed([*WITH_GPU, f"{PREFIX}TPU:0"])["square"] == "TPU:0"
    v = tf.Variable([1.0], name="v")
    asked = tf.is_variable_initialized(v)
    assert placed(WITH_GPU)["v"] == placed(WITH_GPU)[asked.op.name] == "GPU:0"
    with tf.device("/gpu:0"):
        tf.read_file(text, name="cannot")
    words = "no supported kernel for GPU devices is available: ReadFile"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        placed(WITH_GPU)
    assert placed(WITH_GPU, soft=True)["cannot"] == "CPU:0"


REFUSALS = [
    (
        "/cpu:5",
        r"Cannot assign a device for operation a: .*explicitly assigned to /device:CPU:5 but available "
        r"devices are \[ /job:localhost/replica:0/task:0/device:CPU:0, .*CPU:1 \]. Make sure the device "
        r"specification refers to a valid device",
        "CPU:0",
    ),
    ("/gpu:0", "appears to be a GPU, but CUDA is not enabled", "CPU:0"),
    ("/device:TPU:0", "explicitly assigned to /device:TPU:0", "CPU:0"),
    ("/job:worker/task:3", "explicitly assigned to /job:worker/task:3", None),
]


@pytest.mark.parametrize(("device", "words", "soft"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_refusals(device, words, soft):
    with tf.device(device):
        a = tf.constant(1.0, name="a")
    for _ in range(2):
        with pytest.raises(tf.errors.InvalidArgumentError, match=words) as caught:
            placed()
        assert caught.value.op is a.op and "test_placer.py" in str(caught.value)
    if soft:
        assert placed(soft=True) == {"a": soft}
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            placed(soft=True)


def colocated(first, second):
    x = tf.constant(1.0, name="x")
    x.op._set_device(first)
    z = tf.negative(x, name="z")
    z.op._set_device(second)
    z.op._set_attr("_class", tf.AttrValue(list=tf.AttrValue.ListValue(s=[b"loc:@x"])))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("/cpu:0", "/cpu:1", "incompatible ids: '/device:CPU:1' and '/device:CPU:0'"),
        ("/cpu:0", "/gpu:0", "incompatible types: '/device:GPU:0' and '/device:CPU:0'"),
        ("/job:a", "/job:b", "incompatible jobs: '/job:b' and '/job:a'"),
    ],
)
def test_colocation_that_cannot_be(first, second, words):
    colocated(first, second)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"Cannot colocate nodes 'z' and 'x' .*{words}"
    ):
        placed(WITH_GPU)
    if "job" not in first:
        soft = placed(WITH_GPU, soft=True)
        assert soft["x"] == soft["z"]


def test_a_group_is_told_of_the_member_that_asks():
    colocated("/cpu:7", "")
    words = "'z' was colocated with a group of nodes that required incompatible device '/device:CPU:7', among them 'x'"
    graph = tf.get_default_graph()
    placer = Placer(TWO)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        placer.place(list(reversed(graph.get_operations())))
