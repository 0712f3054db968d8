"""Some results of branches and loops: what they need, compute and do, as TensorFlow 1.15's runs of the same programs."""

import json
from pathlib import Path

import numpy as np

import headrace as tf
from tests.api.control_flow_programs import effects, pure_runs

_FLOATS = (("x", tf.float32), ("y", tf.float32))
ANSWERS = json.loads(
    (Path(__file__).parents[1] / "data" / "control_flow.json").read_text(encoding="utf-8")
)


def test_only_what_is_needed_is_asked_for():
    found, expected = pure_runs(tf), ANSWERS["pure"]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, str):
            assert found[key] == value, key
        else:
            np.testing.assert_allclose(found[key], value, rtol=1e-6, err_msg=key)


def test_only_what_is_needed_has_effects():
    assert effects(tf) == ANSWERS["effects"]


def test_values_are_kept_only_for_gradients_that_are_asked_for():
    x = tf.placeholder(tf.float32, [])
    _, y = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * tf.sin(v)), [0, x])
    (slope,) = tf.gradients(y, x)

    def types_of_loop(fetch):
        with tf.Session() as session:
            session.run(fetch, {x: 0.5})
            prepared = next(iter(session._prepared.values()))
            loop = next(op for op in prepared.step.ops if op.type == "While")
            return [t.dtype for t in loop.outputs]

    assert tf.variant in types_of_loop(slope)
    assert types_of_loop(y) == [tf.int32, tf.float32]


def test_imported_nodes_without_state():
    with tf.Graph().as_default() as graph:
        p, x, y = (tf.placeholder(t, [], name=n) for n, t in (("p", tf.bool), *_FLOATS))
        a, b = tf.cond(p, lambda: (x + 1.0, y + 1.0), lambda: (x, y))
        _, u, v = tf.while_loop(
            lambda i, *_: i < 3, lambda i, u, v: (i + 1, u * x, v * y), [0, a, b]
        )
        tf.identity(u, name="u"), tf.identity(v, name="v")
        graph_def = graph.as_graph_def()
    for node in graph_def.node:
        if node.op in ("If", "While"):
            node.op = f"Stateless{node.op}"
    with tf.Graph().as_default():
        p, x, y, u, v = tf.import_graph_def(
            graph_def, return_elements=["p:0", "x:0", "y:0", "u:0", "v:0"], name=""
        )
        with tf.Session() as session:
            for _ in range(3):
                assert session.run(u, {p: True, x: 2.0}) == 24.0
                assert session.run(v, {p: False, y: 2.0}) == 16.0
            kinds = {op.type for step in session._prepared.values() for op in step.step.ops}
        assert {"StatelessIf", "StatelessWhile"} <= kinds
