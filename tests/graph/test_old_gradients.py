"""Meta graphs of TensorFlow 1.15 with the gradients of their loops: they load, compute and train as there.

The numbers are TensorFlow's (tests/oracle/make_old_graphs.py).
"""

import gzip
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
import headrace.contrib.seq2seq  # where GatherTree is
from headrace.passes.segments import runs_on_host

DATA = Path(__file__).parents[1] / "data/old_graphs"


def load(name):
    return tf.MetaGraphDef.FromString(gzip.decompress((DATA / f"{name}.meta.gz").read_bytes()))


def arrays_of(name, kind):
    """What is stored under `kind` ("before", "feed/0", ...), by name."""
    with np.load(DATA / f"{name}.npz") as stored:
        return {k[len(kind) + 1 :]: stored[k] for k in stored.files if k.startswith(f"{kind}/")}


def initialise(sess, name, scope=""):
    for variable, value in arrays_of(name, "before").items():
        op = sess.graph.get_operation_by_name(f"{scope}{variable}")
        if op.type == "VarHandleOp":
            sess.run(tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value))
        else:
            sess.run(tf.assign(op.outputs[0], value))


def run(sess, name, number, targets=(), scope=""):
    """Run `number` of a program: checks what it fetches against TensorFlow's values."""
    graph = sess.graph
    feeds = {f"{scope}{k}": v for k, v in arrays_of(name, f"feed/{number}").items()}
    expected = arrays_of(name, f"fetch/{number}")
    fetches = [f"{scope}{k}" for k in expected]
    operations = [graph.get_operation_by_name(f"{scope}{t}") for t in targets]
    found, _ = sess.run([fetches, operations], feeds)
    for key, value in zip(expected, found, strict=True):
        np.testing.assert_allclose(value, expected[key], rtol=2e-5, atol=1e-6, err_msg=key)


def check_variables(sess, name):
    """What a program leaves in its variables."""
    for variable, value in arrays_of(name, "after").items():
        op = sess.graph.get_operation_by_name(variable)
        found = op.outputs[0]
        if op.type == "VarHandleOp":
            found = tf.raw_ops.ReadVariableOp(resource=found, dtype=value.dtype)
        np.testing.assert_allclose(sess.run(found), value, rtol=1e-4, atol=1e-6, err_msg=variable)


def loops(graph):
    return [op for op in graph.get_operations() if op.type == "While"]


def test_a_recurrent_network_trains_on():
    tf.train.import_meta_graph(load("training"))
    with tf.Session() as sess:
        initialise(sess, "training")
        for number in range(5):
            run(sess, "training", number, ["train"])
        check_variables(sess, "training")
        assert len(loops(sess.graph)) == 2  # there and back
        assert not any(runs_on_host(op) for op in loops(sess.graph))


# Arrays of pieces that differ in size are nothing for a program.
@pytest.mark.parametrize(
    "name, runs, compiles", [("beam_search", 3, True), ("branches", 3, True), ("arrays", 2, False)]
)
def test_it_computes_the_same(name, runs, compiles):
    tf.train.import_meta_graph(load(name))
    with tf.Session() as sess:
        initialise(sess, name)
        for number in range(runs):
            run(sess, name, number)
        assert not any(runs_on_host(op) for op in loops(sess.graph))
        check_variables(sess, name)
        steps = [prepared.step for prepared in sess._prepared.values()]
        assert compiles != any(step.programs.not_compilable for step in steps)


def test_gradients_of_loops_in_branches_in_loops():
    tf.train.import_meta_graph(load("nested"))
    with tf.Session() as sess:
        initialise(sess, "nested")
        for number in range(4):
            run(sess, "nested", number)
        assert not any(runs_on_host(op) for op in loops(sess.graph))


def test_our_gradients_of_an_imported_loop_equal_the_imported_ones():
    tf.train.import_meta_graph(load("nested"))
    graph = tf.get_default_graph()
    loss, w, b, *theirs = map(graph.get_tensor_by_name, ("loss:0", "w:0", "b:0", "dw:0", "db:0"))
    ours = tf.gradients(loss, [w, b])
    # Of these, which are loops that went backwards, too: TensorFlow 1.15 refused that.
    second = [tf.gradients(tf.reduce_sum(tf.square(g[0])), w)[0] for g in (ours, theirs)]
    with tf.Session() as sess:
        initialise(sess, "nested")
        found = sess.run([ours, theirs, second], arrays_of("nested", "feed/0"))
    for mine, imported in (*zip(*found[:2], strict=True), found[2]):
        np.testing.assert_allclose(mine, imported, rtol=1e-4, atol=1e-5)


def test_imported_twice():
    meta = load("training")
    for scope in ("a", "b"):
        tf.train.import_meta_graph(meta, import_scope=scope)
    with tf.Session() as sess:
        for scope in ("a/", "b/"):
            initialise(sess, "training", scope)
            run(sess, "training", 0, ["train"], scope)
        run(sess, "training", 1, ["train"], "b/")
        kernel = "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel:0"
        once, twice = sess.run([f"a/{kernel}", f"b/{kernel}"])
        assert 1e-3 < np.abs(once - twice).max() < 0.2
