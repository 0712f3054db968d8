"""`tf.switch_case` and its node: which branch runs, gradients, GraphDefs of TensorFlow 1.15."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.compat.proto.graph_pb2 import GraphDef

import headrace as tf

# What `make_control_flow.py` had TensorFlow 1.15 write: y = switch_case(k, [x, x * w, x * x + w]), and its gradient by x.
FROM_TENSORFLOW = Path(__file__).parents[1] / "data" / "graphs" / "case.pbtxt"
INDICES = {-1: 2, 0: 0, 1: 1, 2: 2, 7: 2}
VALUES = [3.0, 6.0, 11.0]
SLOPES = [1.0, 2.0, 6.0]


def _build(k, x, w):
    return tf.switch_case(k, [lambda: x, lambda: x * w, lambda: x * x + w])


def _results(session, fetches, k, x):
    return [session.run(fetches, {k: index, x: 3.0}) for index in INDICES]


def _expected(*parts):
    return [[part[i] for part in parts] for i in INDICES.values()]


@pytest.mark.parametrize("fed", [True, False])
def test_values_and_gradients(fed):
    """Any other number means the last branch; interpreted, compiled, and with a number that is known."""
    k, x = tf.placeholder(tf.int32, []), tf.placeholder(tf.float32, [])
    y = _build(k, x, 2.0)
    (slope,) = tf.gradients(y, x)
    (curve,) = tf.gradients(slope, x)
    assert y.op.inputs[0].op.type == "Case" and y.shape.as_list() == []
    with tf.Session() as session:
        for _ in range(3):
            found = _results(session, [y, slope], k, x)
            np.testing.assert_allclose(found, _expected(VALUES, SLOPES))
        assert session.run(curve, {k: 5, x: 3.0}) == 2.0
        if not fed:
            for index, branch in INDICES.items():
                assert session.run(_build(tf.constant(index), x, 2.0), {x: 3.0}) == VALUES[branch]


def test_graphs_of_tensorflow_and_our_own():
    theirs = text_format.Parse(FROM_TENSORFLOW.read_text(encoding="utf-8"), GraphDef())
    assert "Case" in {node.op for node in theirs.node}
    with tf.Graph().as_default() as graph:
        _build(
            tf.placeholder(tf.int32, [], name="k"), tf.placeholder(tf.float32, [], name="x"), 2.0
        )
        ours = graph.as_graph_def()
    names = {"k": "k:0", "x": "x:0", "y": "y:0", "slope": "slope:0"}
    with tf.Graph().as_default():
        k, x, y, slope = tf.import_graph_def(theirs, return_elements=list(names.values()), name="")
        (anew,) = tf.gradients(y, x)
        with tf.Session() as session:
            found = _results(session, [y, slope, anew], k, x)
            np.testing.assert_allclose(found, _expected(VALUES, SLOPES, SLOPES))
    with tf.Graph().as_default():
        result = "switch_case/indexed_case/Identity:0"
        k, x, y = tf.import_graph_def(ours, return_elements=["k:0", "x:0", result], name="")
        with tf.Session() as session:
            np.testing.assert_allclose(_results(session, [y], k, x), _expected(VALUES))


def test_a_value_or_nothing():
    raw, k = tf.raw_ops, tf.placeholder(tf.int32, [])
    x = tf.constant([1.0, 2.0])
    kept = tf.switch_case(
        k, [lambda: raw.OptionalFromValue(components=[x * x]), lambda: raw.OptionalNone()]
    )
    has = raw.OptionalHasValue(optional=kept)
    value = raw.OptionalGetValue(optional=kept, output_types=[tf.float32], output_shapes=[[2]])[0]
    (slope,) = tf.gradients(value, x)
    with tf.Session() as session:
        for _ in range(3):
            assert [session.run(has, {k: i}) for i in (0, 1)] == [True, False]
            for fetch, expected in ((value, [1.0, 4.0]), (slope, [2.0, 4.0])):
                np.testing.assert_allclose(session.run(fetch, {k: 0}), expected)


def test_branches_write_and_return_operations():
    v = tf.Variable(0, use_resource=True)
    k = tf.placeholder(tf.int32, [])
    which = tf.switch_case(
        k, [lambda: v.assign_add(1).op, tf.no_op, lambda: tf.group(v.assign_add(100))]
    )
    with tf.Session() as session:
        session.run(v.initializer)
        assert [(session.run(which, {k: i}), session.run(v)) for i in (0, 1, 2, 0)] == [
            *((0, 1), (1, 1), (2, 101), (0, 102))
        ]


def test_refused():
    k, x = tf.constant(0), tf.constant(1.0)
    with pytest.raises(ValueError, match="branch 0 and branch 1 must have the same type"):
        tf.switch_case(k, [lambda: x, lambda: 1])
    with pytest.raises(ValueError, match="branch 0 and branch 2"):
        tf.switch_case(k, [lambda: x, lambda: x, lambda: (x, x)])
    kept = []
    with pytest.raises(ValueError, match="in branch 0 is accessed from branch 1"):
        tf.switch_case(k, [lambda: kept.append(tf.identity(x)) or kept[0], lambda: kept[0] + 1.0])
