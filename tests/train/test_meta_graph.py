"""Graphs as MetaGraphDefs: exported, imported, by scope, stripped."""

import numpy as np
import pytest

import headrace as tf
from headrace.graph import meta_graph


def test_a_program_without_its_code(tmp_path):
    path = str(tmp_path / "m")
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        w = tf.get_variable(
            "w", initializer=np.array([[1.0], [2.0]], np.float32), use_resource=True
        )
        y = tf.add(tf.matmul(x, w), 1.0, name="y")
        tf.add_to_collection("outputs", y)
        for key, value in (("words", "text"), ("numbers", 3), ("fractions", 0.5), ("ops", y.op)):
            tf.add_to_collection(key, value)
        tf.add_to_collection(("a tuple",), 1)
        tf.add_to_collection("unknown", object())
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.train.Saver().save(sess, path)
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        saver = tf.train.import_meta_graph(path + ".meta")
        saver.restore(sess, path)
        assert [v.name for v in tf.trainable_variables()] == ["w:0"]
        assert tf.trainable_variables()[0] is tf.global_variables()[0]
        assert tf.get_collection("words") == [b"text"] and tf.get_collection("numbers") == [3]
        assert tf.get_collection("fractions") == [0.5]
        assert tf.get_collection("ops") == [graph.get_operation_by_name("y")]
        assert "unknown" not in graph.get_all_collection_keys()
        (y,) = tf.get_collection("outputs")
        assert y.shape.as_list() == [None, 1]
        assert sess.run(y, {"x:0": [[1.0, 1.0]]}).tolist() == [[4.0]]
        saver.save(sess, path)
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        saver = tf.train.import_meta_graph(path + ".meta", import_scope="again")
        saver.restore(sess, path)
        assert [v.name for v in tf.global_variables()] == ["again/w:0"]
        assert sess.run("again/y:0", {"again/x:0": [[1.0, 1.0]]}).tolist() == [[4.0]]
        twice = tf.train.import_meta_graph(path + ".meta", import_scope="again")
        assert twice.saver_def.restore_op_name == "again_1/save/restore_all"


def test_files(tmp_path):
    tf.Variable(1.0, name="v")
    tf.train.export_meta_graph(
        str(tmp_path / "new" / "text.meta"), as_text=True, save_debug_info=True
    )
    assert (tmp_path / "new" / "text.meta").read_text().startswith("meta_info_def {")
    assert b"test_meta_graph.py" in (tmp_path / "new" / "text.debug").read_bytes()
    with tf.Graph().as_default():
        assert tf.train.import_meta_graph(str(tmp_path / "new" / "text.meta")) is not None
        assert [v.name for v in tf.global_variables()] == ["v:0"]
    with tf.Graph().as_default():
        assert tf.train.import_meta_graph(tf.MetaGraphDef()) is None
    (tmp_path / "bad").write_bytes(b"\xff\xff")
    for name, message in (("none", "does not exist"), ("bad", "Cannot parse")):
        with pytest.raises(OSError, match=message):
            tf.train.import_meta_graph(str(tmp_path / name))


def test_scopes_and_unbound_inputs():
    with tf.Graph().as_default() as graph:
        outside = tf.placeholder(tf.float32, [2], name="outside")
        with tf.variable_scope("inner"):
            v = tf.get_variable("v", initializer=[1.0, 2.0])
            with tf.device("/cpu:3"):
                tf.add(outside, v, name="sum")
        meta, variables = meta_graph.export_scoped_meta_graph(
            export_scope="inner", clear_devices=True
        )
        assert list(variables) == ["v:0"]
        assert graph.get_collection("unbound_inputs") == ["$unbound_inputs_outside"]
    names = {n.name: n for n in meta.graph_def.node}
    assert {"v", "v/read", "sum"} <= names.keys() and names["sum"].device == ""
    assert list(names["sum"].input) == ["$unbound_inputs_outside", "v/read"]
    with tf.Graph().as_default(), tf.Session() as sess:
        with pytest.raises(ValueError, match="unbound inputs"):
            meta_graph.import_scoped_meta_graph(meta, import_scope="b")
        variables = meta_graph.import_scoped_meta_graph(
            meta, import_scope="b", input_map={"$unbound_inputs_outside": tf.constant([10.0, 20.0])}
        )
        assert [v.name for v in variables.values()] == ["b/v:0"] and list(variables) == ["v:0"]
        sess.run(tf.global_variables_initializer())
        assert sess.run("b/sum:0").tolist() == [11.0, 22.0]
        with tf.name_scope("c"):
            tf.Variable(3.0, name="w")
        assert list(meta_graph.copy_scoped_meta_graph("c", "d")) == ["w:0"]
        with pytest.raises(ValueError, match="different"):
            meta_graph.copy_scoped_meta_graph("c", "c")


def test_other_savers_are_left_out():
    v = tf.Variable(1.0, name="v")
    tf.train.Saver(name="other")
    saver = tf.train.Saver([v])
    tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver(name="third"))
    meta = saver.export_meta_graph(clear_extraneous_savers=True)
    names = [n.name for n in meta.graph_def.node]
    assert "save/restore_all" in names
    assert not any(n.startswith(("other/", "third/")) for n in names)
    (kept,) = meta.collection_def["savers"].bytes_list.value
    assert tf.train.SaverDef.FromString(kept) == saver.saver_def


def test_default_attrs_are_stripped():
    tf.matmul([[1.0]], [[1.0]], transpose_b=True, name="m")
    plain = tf.train.export_meta_graph()
    stripped = tf.train.export_meta_graph(strip_default_attrs=True)
    assert (
        not plain.meta_info_def.stripped_default_attrs
        and stripped.meta_info_def.stripped_default_attrs
    )
    (full,) = (n for n in plain.graph_def.node if n.name == "m")
    (node,) = (n for n in stripped.graph_def.node if n.name == "m")
    assert full.attr.keys() - node.attr.keys() == {"transpose_a"} and node.attr["transpose_b"].b
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        tf.train.import_meta_graph(stripped)
        assert graph.get_operation_by_name("m").get_attr("transpose_a") is False
        assert sess.run("m:0").tolist() == [[1.0]]


def test_what_create_refuses():
    for kwargs in ({"graph": 1}, {"graph_def": 1}, {"saver_def": 1}, {"meta_info_def": 1}):
        with pytest.raises(TypeError, match=f"^{next(iter(kwargs))}"):
            meta_graph.create_meta_graph_def(**kwargs)
    unknown = tf.GraphDef()
    unknown.node.add(name="a", op="NoSuchOp")
    with pytest.raises(ValueError, match="NoSuchOp"):
        meta_graph.create_meta_graph_def(graph_def=unknown)
