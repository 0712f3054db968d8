"""GraphDefs with Switch, Merge and Enter nodes: what becomes of them (test_against_tensorflow.py has values)."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf

DATA = Path(__file__).parents[1] / "data/graphs"


def load(name):
    return tf.GraphDef.FromString((DATA / f"{name}.pb").read_bytes())


def kinds(graph):
    return {op.type for op in graph.get_operations()}


@pytest.mark.parametrize(
    "name, functional",
    [("old_loops", "While"), ("old_branches", "If"), ("old_arrays", "TensorListGetItem")],
)
def test_they_become_functions_and_results_keep_their_names(name, functional):
    tf.import_graph_def(load(name), name="in")
    graph = tf.get_default_graph()
    assert functional in kinds(graph)
    assert not kinds(graph) & {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"}
    assert not any(kind.startswith("TensorArray") for kind in kinds(graph))
    result = {
        "old_loops": "loop/Exit_1",
        "old_branches": "pair/Merge",
        "old_arrays": "sums/Exit_2",
    }[name]
    assert graph.get_operation_by_name(f"in/{result}").type == "Identity"
    # What is exported now loads again, here and elsewhere.
    again = graph.as_graph_def()
    with tf.Graph().as_default() as other:
        tf.import_graph_def(again, name="")
    assert kinds(other) == kinds(graph)


def test_an_old_loop_may_be_imported_inside_branches_and_loops():
    exported = load("old_loops")

    def run_loop():
        (after,) = tf.import_graph_def(
            exported, {"limit:0": tf.constant(1), "w/read:0": tf.zeros([2, 2])}, ["after:0"]
        )
        return after

    flag = tf.placeholder(tf.bool, [])
    y = tf.cond(flag, run_loop, lambda: tf.zeros([2, 2]))
    with tf.Session() as sess:
        assert sess.run(y, {flag: False}).tolist() == [[0, 0], [0, 0]]
        # One iteration: 2 (tanh(x) + 0.5), with x from the GraphDef.
        x = tf.make_ndarray({n.name: n for n in exported.node}["x"].attr["value"].tensor)
        np.testing.assert_allclose(sess.run(y, {flag: True}), 2 * (np.tanh(x) + 0.5), rtol=1e-6)


def test_gradients_pass_through_an_old_loop():
    w = tf.constant(np.full((2, 2), 0.1, np.float32))
    (after,) = tf.import_graph_def(load("old_loops"), {"w/read:0": w}, ["after:0"])
    (dw,) = tf.gradients(after, w)
    with tf.Session():
        error = tf.test.compute_gradient_error(
            w, [2, 2], after, [2, 2], np.full((2, 2), 0.1, np.float32)
        )
        assert error < 2e-2 and np.abs(dw.eval()).max() > 1


def test_gradients_of_what_enters_an_old_loop():
    exported = load("old_loops")
    before, x, after = tf.import_graph_def(exported, return_elements=["w:0", "x:0", "after:0"])
    dx, dw = tf.gradients(after, [x, before])
    with tf.Session() as sess:
        sess.run(tf.get_default_graph().get_operation_by_name("import/w/Assign"))
        found = sess.run([dx, dw])
    assert all(np.abs(value).max() > 0.1 for value in found)


def test_a_training_graph_trains_with_its_own_gradients():
    (loss,) = tf.import_graph_def(load("old_training"), return_elements=["loss:0"], name="")
    graph = tf.get_default_graph()
    assert {"While", "If"} <= kinds(graph)
    assert not any(kind.startswith(("Stack", "TensorArray")) for kind in kinds(graph))
    (kernel,) = [
        op.outputs[0] for op in graph.get_operations() if op.name == "rnn/rnn/cell/gates/kernel"
    ]
    (gradient,) = tf.gradients(loss, kernel)  # by us, of the loop that was imported
    with tf.Session() as sess:
        sess.run([op for op in graph.get_operations() if op.type == "Assign"])
        found, first, before = sess.run([gradient, loss, kernel])
        sess.run(graph.get_operation_by_name("train"))
        after, second = sess.run([kernel, loss])
        np.testing.assert_allclose(after, before - 0.1 * found, rtol=1e-5, atol=1e-7)
        assert second < first


def test_collections_of_a_meta_graph_go_without_what_lies_inside_of_loops():
    meta = tf.MetaGraphDef(graph_def=load("old_training"))
    meta.meta_info_def.tensorflow_version = "1.15.5"
    for name in ("train", "loss:0", "rnn/rnn/while/Switch"):
        meta.collection_def["mine"].node_list.value.append(name)
    tf.train.import_meta_graph(meta)
    assert [t.name for t in tf.get_collection("mine")] == ["train", "loss:0"]


def test_loops_that_no_function_made_are_refused():
    graph_def = tf.GraphDef()
    x = graph_def.node.add(name="x", op="Placeholder")
    e = graph_def.node.add(name="e", op="Enter", input=["x"])
    for node, attr in ((x, "dtype"), (e, "T")):
        node.attr[attr].type = tf.float32.as_datatype_enum
    e.attr["frame_name"].s = b"f"
    with pytest.raises(tf.errors.UnimplementedError, match="frame 'f' of the GraphDef is no loop"):
        tf.import_graph_def(graph_def)


def test_branches_that_no_function_made_stay_as_they_are():
    with tf.Graph().as_default() as graph:
        p, x = tf.placeholder(tf.bool, [], name="p"), tf.placeholder(tf.float32, [], name="x")
        sides = tf.raw_ops.Switch(data=x, pred=p)
        tf.raw_ops.Merge(inputs=[sides[0] * 2.0, sides[0] + 1.0, sides[1]], name="m")
        graph_def = graph.as_graph_def()
    with tf.Graph().as_default():
        p, x, m, i = tf.import_graph_def(graph_def, return_elements=["p:0", "x:0", "m:0", "m:1"])
        with tf.Session() as session:
            assert session.run([m, i], {p: True, x: 3.0}) == [3.0, 2]
            assert session.run([m, i], {p: False, x: 3.0}) in ([6.0, 0], [4.0, 1])


def test_stacks_that_no_gradient_made_are_refused():
    graph_def = tf.GraphDef()
    handle = graph_def.node.add(name="handle", op="Placeholder")
    handle.attr["dtype"].type = tf.resource.as_datatype_enum
    pop = graph_def.node.add(name="pop", op="StackPopV2", input=["handle"])
    pop.attr["elem_type"].type = tf.float32.as_datatype_enum
    with pytest.raises(
        tf.errors.UnimplementedError,
        match=r"StackPopV2 node 'pop' of the GraphDef is none of a loop's gradient: its handle",
    ):
        tf.import_graph_def(graph_def)
