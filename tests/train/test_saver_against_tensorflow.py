"""Savers against TensorFlow's: the same nodes and bytes, either one's checkpoints restored (oracle/make_saver.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.io import open_checkpoint
from tests.train import saver_cases

# The programs place some variables on a second CPU device.
TWO_CPUS = tf.ConfigProto(device_count={"CPU": 2})

STORED = Path(__file__).resolve().parents[1] / "data" / "saver"
KINDS = sorted(saver_cases.SAVERS)


def stored_prefix(kind):
    return str(STORED / kind / "model-7")


@pytest.fixture(params=KINDS)
def saved(request, tmp_path, monkeypatch):
    """(kind, graph, saver, session, folder) after `save`, as the script that wrote the stored files did it."""
    kind = request.param
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph, tf.Session(config=TWO_CPUS) as sess:
        saver_cases.build(tf, v1=kind == "v1")
        saver = tf.train.Saver(**saver_cases.SAVERS[kind])
        sess.run(tf.global_variables_initializer())
        assert saver.save(sess, "./model", global_step=7) == "./model-7"
        yield kind, graph, saver, sess, tmp_path


def values_of(prefix):
    with open_checkpoint(prefix) as reader:
        return {name: (reader.dtype_and_shape(name), reader.read(name)) for name in reader.keys()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name][0] == b[name][0], name
        assert a[name][1].tobytes() == b[name][1].tobytes() or (
            a[name][1].tolist() == b[name][1].tolist() and a[name][1].dtype == object
        ), name


def test_nodes(saved):
    kind, graph, *_ = saved
    own = [
        [
            op.name,
            op.type,
            [t.name for t in op.inputs],
            sorted(c.name for c in op.control_inputs),
            op.device,
        ]
        for op in graph.get_operations()
        if op.name.startswith("save/")
    ]
    expected = json.loads((STORED / "nodes.json").read_text())[kind]
    assert own == [[*node[:3], sorted(node[3]), node[4]] for node in expected]


def test_files(saved):
    kind, _, _, _, folder = saved
    expected = {p.name: p.read_bytes() for p in (STORED / kind).iterdir() if p.suffix != ".meta"}
    own = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".meta"}
    assert own.keys() == expected.keys()
    if kind == "v1":
        # TensorFlow lists the slices of a variable in whatever order an unstable sort leaves them.
        same(values_of(str(folder / "model-7")), values_of(stored_prefix(kind)))
        expected.pop("model-7")
    for name, content in expected.items():
        assert own[name] == content, name


def test_restores_what_tensorflow_saved(saved):
    kind, _, saver, sess, folder = saved
    before = sess.run([v.value() for v in tf.global_variables()])
    for variable in tf.global_variables():
        zero = np.zeros(variable.shape.as_list(), variable.dtype.base_dtype.as_numpy_dtype)
        variable.load(zero, sess)
    for _ in range(2):  # interpreted, then compiled
        saver.restore(sess, stored_prefix(kind))
    assert saver.save(sess, str(folder / "again"), write_meta_graph=False) == str(folder / "again")
    same(values_of(str(folder / "again")), values_of(stored_prefix(kind)))
    for a, b in zip(before, sess.run([v.value() for v in tf.global_variables()])):
        assert np.array_equal(a, b) and a.dtype == b.dtype


def test_meta_graph_of_tensorflow():
    """Its `.meta` alone: nodes, collections, and the Saver; exported again, it says the same."""
    with tf.Session(config=TWO_CPUS) as sess:
        saver = tf.train.import_meta_graph(stored_prefix("v2") + ".meta")
        saver.restore(sess, stored_prefix("v2"))
        variables = {v.name: v for v in tf.global_variables()}
        assert len(variables) == 26 and len(tf.trainable_variables()) == 24
        part = variables["cut/resource_parts/part_1:0"]
        assert part._save_slice_info.spec == "5 4 3,2:0,4" and part.shape.as_list() == [2, 4]
        expected = saver_cases.pattern("float32", [5, 4], 8)[3:]
        assert np.array_equal(sess.run(part), expected)
        assert sess.run("global_step:0") == 1234567890123
        sess.run("init")
        theirs = tf.MetaGraphDef.FromString(Path(stored_prefix("v2") + ".meta").read_bytes())
        own = saver.export_meta_graph()
        assert own.saver_def == theirs.saver_def
        assert own.collection_def == theirs.collection_def
        assert own.meta_info_def.tensorflow_version == "1.15.5"
        assert [op.name for op in own.meta_info_def.stripped_op_list.op] == [
            op.name for op in theirs.meta_info_def.stripped_op_list.op
        ]
        same_nodes(own.graph_def, theirs.graph_def)


def same_nodes(own, theirs):
    nodes = {n.name: n for n in own.node}
    for node in theirs.node:
        again = nodes.pop(node.name)
        assert (again.op, sorted(again.input), again.device) == (
            node.op,
            sorted(node.input),
            node.device,
        )
        assert again.attr.keys() == node.attr.keys(), node.name
        for key, value in node.attr.items():
            # Constants may be written in another form.
            assert key == "value" or again.attr[key] == value, (node.name, key)
    assert not nodes


def test_meta_graph_of_the_same_program():
    saver_cases.build(tf)
    saver = tf.train.Saver()
    tf.global_variables_initializer()
    own = saver.export_meta_graph()
    theirs = tf.MetaGraphDef.FromString(Path(stored_prefix("v2") + ".meta").read_bytes())
    same_nodes(own.graph_def, theirs.graph_def)
    assert own.collection_def == theirs.collection_def
    own_ops, their_ops = (m.meta_info_def.stripped_op_list.op for m in (own, theirs))
    for a, b in zip(own_ops, their_ops, strict=True):
        b.is_commutative = b.is_aggregate = b.allows_uninitialized_input = False
        assert a == b, a.name


def test_checkpoint_by_objects():
    """A Saver finds its variables in what `tf.train.Checkpoint` wrote."""
    prefix = str(STORED / "objects" / "model")
    first, second = saver_cases.build_few(tf)
    with tf.Session(config=TWO_CPUS) as sess:
        saver = tf.train.Saver()
        for _ in range(2):
            first.load(np.zeros(4, np.float32), sess)
            saver.restore(sess, prefix)
            assert np.array_equal(sess.run(first), saver_cases.pattern("float32", [4], 1))
            assert sess.run(second) == 5
        nodes = len(sess.graph.get_operations())
        saver.restore(sess, prefix)
        assert len(sess.graph.get_operations()) == nodes
        tf.get_variable("third", initializer=0.0)
        with pytest.raises(tf.errors.NotFoundError, match="not in the checkpoint: third") as caught:
            tf.train.Saver().restore(sess, prefix)
        assert "(2 variable name(s) did match)" in str(caught.value)
