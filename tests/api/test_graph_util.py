"""tf.graph_util, tf.io.write_graph and tf.raw_ops."""

import inspect

import numpy as np
import pytest
from google.protobuf import text_format

import headrace as tf


def names(graph_def):
    return [n.name for n in graph_def.node]


def test_extract_sub_graph_keeps_what_the_nodes_depend_on():
    anchor = tf.constant(0, name="anchor")
    before = tf.no_op(name="before")
    with tf.control_dependencies([before]), tf.get_default_graph().colocate_with(anchor):
        a = tf.constant(1.0, name="a")
    tf.exp(tf.identity(a, name="b"), name="c")
    tf.sin(a, name="aside")
    graph_def = tf.get_default_graph().as_graph_def()
    assert names(tf.graph_util.extract_sub_graph(graph_def, ["b"])) == [
        "anchor",
        "before",
        "a",
        "b",
    ]
    assert tf.graph_util.extract_sub_graph(graph_def, ["c"]).versions == graph_def.versions
    with pytest.raises(AssertionError, match="nonsense is not in graph"):
        tf.graph_util.extract_sub_graph(graph_def, ["nonsense"])
    with pytest.raises(TypeError, match="dest_nodes must be a list"):
        tf.graph_util.extract_sub_graph(graph_def, "b")
    with pytest.raises(TypeError, match=r"must be a graph_pb2\.GraphDef"):
        tf.graph_util.extract_sub_graph(tf.get_default_graph(), ["b"])


@pytest.mark.parametrize("use_resource", [False, True])
def test_variables_become_constants(use_resource):
    with tf.variable_scope("s", use_resource=use_resource):
        w = tf.get_variable("w", initializer=np.array([[1.0], [2.0]], np.float32))
        table = tf.get_variable("table", initializer=np.eye(3, 2, dtype=np.float32))
    x = tf.placeholder(tf.int32, [None], name="x")
    tf.matmul(tf.gather(table, x), w + 1.0, name="y")
    tf.assign(w, w * 0.0, name="train")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        given = tf.get_default_graph().as_graph_def()
        frozen = tf.graph_util.convert_variables_to_constants(sess, given, ["y"])
        part = tf.graph_util.convert_variables_to_constants(sess, given, ["y"], ["s/w"])
        other = tf.graph_util.convert_variables_to_constants(sess, given, ["y"], None, ["s/w"])
        expected = sess.run("y:0", {"x:0": [1, 0]})
    kinds = {n.name: n.op for n in frozen.node}
    assert kinds["s/w"] == kinds["s/table"] == "Const" and "train" not in kinds
    assert not {"VariableV2", "VarHandleOp", "ReadVariableOp", "ResourceGather"} & set(
        kinds.values()
    )
    variable = "VarHandleOp" if use_resource else "VariableV2"
    for kept, converted, graph_def in (("s/table", "s/w", part), ("s/w", "s/table", other)):
        kinds = {n.name: n.op for n in graph_def.node}
        assert (kinds[kept], kinds[converted]) == (variable, "Const")
    with tf.Graph().as_default(), tf.Session() as sess:
        (y,) = tf.import_graph_def(frozen, return_elements=["y:0"])
        assert sess.run(y, {"import/x:0": [1, 0]}).tolist() == expected.tolist()


def test_remove_training_nodes_splices_identities():
    a = tf.constant(1.0, name="a")
    checked = tf.check_numerics(a, "no", name="checked")
    with tf.control_dependencies([checked]):
        c = tf.identity(a, name="b")
    d = tf.identity(tf.identity(c, name="c"), name="d")
    waited = tf.identity(a, name="waited")
    with tf.control_dependencies([waited]):
        tf.add(d, d, name="sum")
    tf.identity(a, name="output")
    graph_def = tf.graph_util.remove_training_nodes(
        tf.get_default_graph().as_graph_def(), ["output"]
    )
    assert {n.name: list(n.input) for n in graph_def.node} == {
        "a": [],
        "waited": ["a"],
        "sum": ["a", "a", "^waited"],
        "output": ["a"],
    }


def test_small_helpers():
    assert tf.graph_util.must_run_on_cpu(tf.constant(["a"]).op)
    assert tf.graph_util.must_run_on_cpu(tf.constant(1).op.node_def)
    assert not tf.graph_util.must_run_on_cpu(tf.constant(1.0).op)
    assert tf.graph_util.must_run_on_cpu(tf.cast(tf.constant(1), tf.float32).op)
    v = tf.Variable(1.0, use_resource=False)
    assert not tf.graph_util.must_run_on_cpu(v.op) and tf.graph_util.must_run_on_cpu(v.op, True)
    tf.placeholder(tf.float32, [None, 3], name="p")
    graph = tf.get_default_graph()
    for name in ("p", "p:0"):
        assert tf.graph_util.tensor_shape_from_node_def_name(graph, name).as_list() == [None, 3]


def test_write_graph_in_both_forms(tmp_path):
    tf.constant([1.5, 2.5], name="a")
    graph = tf.get_default_graph()
    text = tf.io.write_graph(graph, str(tmp_path / "new" / "folder"), "g.pbtxt")
    binary = tf.train.write_graph(graph.as_graph_def(), str(tmp_path), "g.pb", as_text=False)
    assert text_format.Parse(open(text).read(), tf.GraphDef()) == graph.as_graph_def()
    assert tf.GraphDef.FromString(open(binary, "rb").read()) == graph.as_graph_def()


def test_raw_ops_take_the_ops_arguments_by_name():
    y = tf.raw_ops.Sum(input=tf.constant([[1.0, 2.0]]), axis=[1], name="total")
    assert y.op.type == "Sum" and y.name == "total:0"
    assert list(inspect.signature(tf.raw_ops.MatMul).parameters) == [
        "a",
        "b",
        "transpose_a",
        "transpose_b",
        "name",
    ]
    with pytest.raises(TypeError, match=r"MatMul only takes keyword args \(possible keys: a, b,"):
        tf.raw_ops.MatMul(y, y)
    with pytest.raises(AttributeError, match="no op type 'Nonsense'"):
        _ = tf.raw_ops.Nonsense
    assert "MatMul" in dir(tf.raw_ops) and "IntOutput" not in dir(tf.raw_ops)
