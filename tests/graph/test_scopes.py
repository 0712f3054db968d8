"""The scopes of a graph: names, devices, control dependencies, colocation, attrs, collections; threads."""

import threading

import pytest
from tensorboard.compat.proto import attr_value_pb2

import headrace as tf


def names(*values):
    return [v.name if isinstance(v, tf.Operation) else v.op.name for v in values]


def test_name_scopes_nest_repeat_and_are_entered_again():
    with tf.name_scope("a") as a:
        x = tf.constant(1, name="x")
        with tf.name_scope("b") as b:
            y = tf.constant(1, name="x")
        with tf.name_scope(None), tf.name_scope(""):
            z = tf.constant(1, name="x")
        with tf.name_scope("b"):
            u = tf.constant(1, name="x")
    with tf.name_scope(b):
        v = tf.constant(1, name="x")
    with tf.name_scope("A"), tf.name_scope("/") as root:
        w = tf.constant(1, name="x")
    assert (a, b, root) == ("a/", "a/b/", "/")
    assert names(x, y, z, u, v, w) == ["a/x", "a/b/x", "x", "a/b_1/x", "a/b/x_1", "x_1"]
    with tf.name_scope("A") as other_case:
        assert other_case == "A_2/"
    for wrong in ("_x", "a b", "ä", "-x"):
        with pytest.raises(ValueError, match="is not a valid scope name"), tf.name_scope(wrong):
            pass
    with pytest.raises(TypeError, match="is not a string type"):
        tf.name_scope("x", [x, y])
    with pytest.raises(ValueError, match="At least one of name"):
        tf.name_scope(None, values=[x])


def test_unique_names_may_be_looked_up_without_being_taken():
    graph = tf.get_default_graph()
    assert [graph.unique_name("f") for _ in range(3)] == ["f", "f_1", "f_2"]
    assert graph.unique_name("f", mark_as_used=False) == graph.unique_name("f") == "f_3"
    assert graph.unique_name("f_1") == "f_1_1"


def test_devices_merge_from_the_inside_out():
    with tf.device("/job:worker/replica:1"), tf.device("/device:GPU:*"), tf.device("/gpu:2"):
        inner = tf.no_op()
        with tf.device(None), tf.device("/cpu:0"):
            lifted = tf.no_op()
    with tf.device(lambda op: f"/task:{len(op.name)}"), tf.device("/job:ps"):
        function = tf.no_op(name="four")
    assert inner.device == "/job:worker/replica:1/device:GPU:2"
    assert lifted.device == "/device:CPU:0" and function.device == "/task:4"
    assert [t.obj for t in inner._device_assignments] == [
        "/job:worker/replica:1",
        "/device:GPU:*",
        "/gpu:2",
    ]
    assert all(t.filename == __file__ for t in inner._device_assignments)
    scope = tf.device("/cpu:0")
    scope.__enter__()
    with tf.device("/cpu:1"), pytest.raises(RuntimeError, match="without proper scope nesting"):
        scope.__exit__(None, None, None)
    scope.__exit__(None, None, None)


def test_control_dependencies_leave_out_what_data_orders():
    a, b = tf.constant(1), tf.constant(2)
    with tf.control_dependencies([a, b.op, a]):
        c = tf.identity(a)
        d = tf.identity(c)
        with tf.control_dependencies(None):
            free = tf.no_op()
        with tf.control_dependencies([d]):
            e = tf.no_op()
    assert c.op.control_inputs == [b.op] and d.op.control_inputs == [] == free.control_inputs
    assert e.control_inputs == [a.op, b.op, d.op]
    assert b.op._control_outputs_list == [c.op, e]
    with pytest.raises(TypeError, match="Can not convert a int into a Tensor or Operation"):
        with tf.control_dependencies([3]):
            pass


def test_colocation_takes_device_and_groups():
    with tf.device("/cpu:3"):
        a = tf.constant(1, name="a")
    b = tf.constant(1, name="b")
    graph = tf.get_default_graph()
    with tf.device("/gpu:0"), graph.colocate_with(a), graph.colocate_with(b.op):
        c = tf.no_op()
        with graph.colocate_with(None, ignore_existing=True):
            d = tf.no_op()
    assert c.colocation_groups() == [b"loc:@a", b"loc:@b"] and c.device == "/device:CPU:3"
    assert d.colocation_groups() == [b"loc:@NoOp_1"] and d.device == ""
    assert c._colocation_dict["a"].filename == __file__
    with pytest.raises(ValueError, match="ignore_existing is not True"):
        graph.colocate_with(None)


def test_attr_scopes_and_gradient_overrides_mark_operations():
    graph = tf.get_default_graph()
    with graph._attr_scope({"_mark": attr_value_pb2.AttrValue(i=5)}):
        marked = tf.no_op()
        with graph._attr_scope({"_mark": None}):
            plain = tf.no_op()
    with graph.gradient_override_map({"NoOp": "Mine"}):
        overridden = tf.no_op()
    assert marked.get_attr("_mark") == 5 and overridden.get_attr("_gradient_op_type") == b"Mine"
    with pytest.raises(ValueError, match="has no attr named '_mark'"):
        plain.get_attr("_mark")
    with pytest.raises(TypeError, match="must be a dictionary mapping strings to strings"):
        with graph.gradient_override_map({"NoOp": 3}):
            pass


def test_collections():
    graph = tf.get_default_graph()
    a, b = tf.constant(1, name="in/a"), tf.constant(1, name="b")
    tf.add_to_collections(["x", "y", "x"], a)
    tf.add_to_collection("x", b)
    tf.add_to_collection(("key", 1), "hidden from the list of names")
    assert tf.get_collection("x") == [a, b] and tf.get_collection("x", "in") == [a]
    assert graph.get_all_collection_keys() == ["x", "y"]
    tf.get_collection("x").clear()
    tf.get_collection_ref("y").append(b)
    assert tf.get_collection("x") == [a, b] and tf.get_collection("y") == [a, b]
    graph.clear_collection("x")
    assert tf.get_collection("x") == []


def test_a_finalized_graph_refuses_operations():
    graph = tf.get_default_graph()
    graph.finalize()
    with pytest.raises(RuntimeError, match="Graph is finalized"):
        tf.no_op()
    assert graph.get_operations() == []


def test_init_scope_leaves_control_dependencies_and_function_bodies():
    outer, body = tf.Graph(), tf.Graph()
    body._building_function = True
    with outer.as_default(), body.as_default(), tf.device("/cpu:1"), tf.name_scope("s"):
        with tf.control_dependencies([tf.no_op()]), tf.init_scope():
            lifted = tf.no_op()
        assert tf.get_default_graph() is body
    assert lifted.graph is outer and lifted.control_inputs == []
    assert (lifted.name, lifted.device) == ("s/NoOp", "/device:CPU:1")


def test_threads_add_to_one_graph_under_scopes_of_their_own():
    graph, errors = tf.Graph(), []
    start = threading.Barrier(8)

    def work(i):
        try:
            with graph.as_default(), graph.name_scope(f"t{i}"), graph.device(f"/cpu:{i}"):
                start.wait()
                anchor = tf.no_op(name="anchor")
                with graph.control_dependencies([anchor]):
                    for _ in range(50):
                        x = tf.constant(i, name="c")
                        tf.add_to_collection("all", x)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    ops = graph.get_operations()
    assert len(ops) == len({op.name for op in ops}) == len(graph.get_collection("all")) + 8 == 408
    assert [op._id for op in ops] == list(range(1, 409))
    for op in ops:
        scope = op.name.partition("/")[0]
        assert op.device == f"/device:CPU:{scope[1:]}"
        assert all(c.name == f"{scope}/anchor" for c in op.control_inputs)
    assert {op.name for op in ops if op.name.startswith("t3/c")} >= {"t3/c", "t3/c_1", "t3/c_49"}
