"""tf.gradients: the nodes that it adds and their names, its answers, its refusals; values are for the op tests."""

import sys

import numpy as np
import pytest

import headrace as tf
from headrace.autodiff import registry


def run(*fetches):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(list(fetches))


def new_names(before):
    return [op.name for op in tf.get_default_graph().get_operations()[before:]]


def size():
    return tf.get_default_graph().version


@pytest.fixture
def registered():
    """Names registered in a test are forgotten after it."""
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


def test_nodes_only_along_the_path_under_tensorflows_names():
    x = tf.constant([[1.0, 2.0]], name="x")
    w = tf.constant([[3.0], [4.0]], name="w")
    with tf.name_scope("layer"):
        y = tf.matmul(x, w, name="y")
    tf.exp(x, name="aside")
    z = tf.add(y, y, name="z")
    before = size()
    (dw,) = tf.gradients(z, w)
    assert new_names(before) == [
        "gradients/Shape",
        "gradients/grad_ys_0",
        "gradients/Fill",
        "gradients/AddN",
        "gradients/layer/y_grad/MatMul",
        "gradients/layer/y_grad/MatMul_1",
    ]
    assert dw.op.name == "gradients/layer/y_grad/MatMul_1" and dw.shape.as_list() == [2, 1]
    again = tf.gradients(z, w, name="mine")[0]
    assert again.op.name.startswith("mine/layer/y_grad/")
    assert tf.gradients(z, w)[0].op.name.startswith("gradients_1/")
    np.testing.assert_allclose(run(dw)[0], [[2], [4]])


def test_several_ys_grad_ys_and_ys_among_each_other():
    x = tf.constant([1.0, 2.0])
    y = x * x
    z = y * 3.0
    found = run(*tf.gradients([y, z], [x, y, z], [None, tf.constant([10.0, 100.0])]))
    np.testing.assert_allclose(found, [[62, 1204], [31, 301], [10, 100]])
    np.testing.assert_allclose(run(*tf.gradients(y, x, 2.0 * y))[0], [4, 32])


def test_none_zero_and_the_missing_rule():
    x, other = tf.constant([1.0, 2.0]), tf.constant([[5.0]])
    y = tf.stop_gradient(x) + tf.cast(tf.argmax(x), tf.float32)
    assert tf.gradients(y, [x, other]) == [None, None]
    zeros = tf.gradients(y, [x, other], unconnected_gradients="zero")
    assert [v.tolist() for v in run(*zeros)] == [[0, 0], [[0]]]
    assert tf.gradients(tf.constant(3) * 2, tf.constant(1)) == [None]
    with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'nonsense'"):
        tf.gradients(y, x, unconnected_gradients="nonsense")
    lost = tf.get_default_graph().create_op("Unary", [x], name="lost").outputs[0]
    with pytest.raises(
        LookupError, match=r"No gradient defined for operation 'lost' \(op type: Unary\)"
    ) as info:
        tf.gradients(lost * 2.0, x)
    assert __file__ in str(info.value)


def test_integers_have_no_gradient_but_pass_none_of_it():
    n = tf.constant([1, 2])
    y = tf.cast(n, tf.float32) * 2.0
    assert tf.gradients(y, n) == [None]
    z = tf.constant(2) + 3
    (ones,) = tf.gradients(z, z)
    assert ones.dtype == tf.int32 and run(ones)[0] == 1


def test_complex_ys_need_grad_ys():
    x = tf.constant([1 + 2j], tf.complex64)
    with pytest.raises(TypeError, match="Gradients of complex tensors must set grad_ys"):
        tf.gradients(x * x, x)
    (dx,) = tf.gradients(x * x, x, tf.constant([1j], tf.complex64))
    np.testing.assert_allclose(run(dx)[0], [np.conj(2 * (1 + 2j)) * 1j])
    with pytest.raises(TypeError, match="must be complex"):
        tf.gradients(x * x, x, tf.constant([1.0]))
    with pytest.raises(TypeError, match="must be real or integer"):
        tf.gradients(tf.real(x), x, x)
    with pytest.raises(ValueError, match="Passed 2 grad_ys for 1 ys"):
        tf.gradients(x, x, [x, x])


def test_stop_gradients_make_constants():
    a = tf.constant(2.0)
    b = a * 3.0
    total = a + b
    assert run(*tf.gradients(total, [a, b], stop_gradients=[a, b])) == [1.0, 1.0]
    assert run(*tf.gradients(total, [a, b])) == [4.0, 1.0]


def test_a_gradient_of_another_shape_is_refused(registered):
    @tf.RegisterGradient("WrongShape")
    def wrong(op, dy):
        return tf.constant([1.0, 2.0, 3.0])

    x = tf.constant([1.0, 2.0])
    with tf.get_default_graph().gradient_override_map({"Tanh": "WrongShape"}):
        y = tf.tanh(x, name="y")
    words = (
        r"Incompatible shapes between op input and calculated input gradient\.  Forward operation: y\.  "
        r"Input index: 0\. Original input shape: \(2,\)\.  Calculated input gradient shape: \(3,\)"
    )
    with pytest.raises(ValueError, match=words):
        tf.gradients(y, x)


def test_registered_names_override_and_are_unique(registered):
    @tf.RegisterGradient("Tenfold")
    def tenfold(op, dy):
        assert op.type == "Square"
        return dy * 10.0

    graph = tf.get_default_graph()
    x = tf.constant(3.0)
    with graph.gradient_override_map({"Square": "Tenfold"}):
        y = tf.square(x)
    plain = tf.square(x)
    with graph._override_gradient_function({"Square": lambda op, dy: dy * 5.0}):
        direct = tf.square(x)
    assert run(*(tf.gradients(t, x)[0] for t in (y, plain, direct))) == [10.0, 6.0, 5.0]
    for name in ("Tenfold", "MatMul"):
        with pytest.raises(KeyError, match=f"Registering two gradient with name '{name}'"):
            tf.RegisterGradient(name)(tenfold)
    with pytest.raises(TypeError, match="must be a string"):
        tf.RegisterGradient(tenfold)
    tf.NotDifferentiable("Unary")
    lost = graph.create_op("Unary", [x]).outputs[0]
    assert tf.gradients(lost, x) == [None]

    @tf.RegisterGradient("TooMany")
    def too_many(op, dy):
        return dy, dy

    with graph.gradient_override_map({"Square": "TooMany"}):
        y = tf.square(x)
    with pytest.raises(ValueError, match="Num gradients 2 generated for op 'Square_3'"):
        tf.gradients(y, x)


def test_an_output_without_gradient_gets_zeros():
    x = tf.constant([[1.0, 2.0, 3.0]])
    parts = tf.split(x, 3, axis=1)
    before = size()
    (dx,) = tf.gradients(parts[1] * 5.0, x)
    assert "gradients/zeros_like" in new_names(before)
    assert run(dx)[0].tolist() == [[0, 5, 0]]


def test_ways_to_add_up():
    method = tf.AggregationMethod
    kinds = {}
    for number in (method.ADD_N, method.EXPERIMENTAL_TREE, method.EXPERIMENTAL_ACCUMULATE_N):
        x = tf.constant([1.0, 2.0])
        y = x * 2.0 + tf.tanh(x) * 0.0 + tf.sin(x) * 0.0
        before = size()
        (dx,) = tf.gradients(y, x, aggregation_method=number)
        assert run(dx)[0].tolist() == [2, 2]
        ops = tf.get_default_graph().get_operations()[before:]
        kinds[number] = [op.type for op in ops if op.type in ("AddN", "AccumulateNV2")]
    assert kinds == {0: ["AddN"], 1: ["AddN", "AddN"], 2: ["AccumulateNV2"]}
    with pytest.raises(ValueError, match="Invalid aggregation_method specified 7"):
        tf.gradients(y, x, aggregation_method=7)


def test_gates_and_colocation():
    with tf.device("/cpu:1"):
        a, b = tf.constant([[1.0]], name="a"), tf.constant([[2.0]], name="b")
        y = tf.matmul(a, b, name="y")
    da, db = tf.gradients(y, [a, b], gate_gradients=True, colocate_gradients_with_ops=True)
    assert [g.op.name for g in (da, db)] == [
        "gradients/y_grad/tuple/control_dependency",
        "gradients/y_grad/tuple/control_dependency_1",
    ]
    (gate,) = da.op.control_inputs
    assert gate.name == "gradients/y_grad/tuple/group_deps"
    assert {op.name for op in gate.control_inputs} == {
        da.op.inputs[0].op.name,
        db.op.inputs[0].op.name,
    }
    assert b"loc:@y" in da.op.inputs[0].op.colocation_groups()
    assert da.op.inputs[0].op.device == "/device:CPU:1"


def test_variables_of_both_kinds_references_and_handles():
    ref = tf.Variable([1.0, 2.0], use_resource=False)
    res = tf.Variable([3.0, 4.0], use_resource=True)
    y = ref * res + ref._ref() + res.read_value()
    grads = tf.gradients(y, [ref, ref._ref(), res, res.handle])
    found = run(*grads)
    np.testing.assert_allclose(found, [[4, 5], [4, 5], [2, 3], [2, 3]])
    zeros = tf.gradients(
        tf.constant(1.0), [ref, res], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    assert [z.tolist() for z in run(*zeros)] == [[0, 0], [0, 0]]


def test_graphs_are_not_mixed():
    x = tf.constant(1.0)
    with tf.Graph().as_default():
        other = tf.constant(1.0)
        (inside,) = tf.gradients(x * 2.0, x)
        assert inside.graph is x.graph
        with pytest.raises(ValueError, match="must be from the same graph"):
            tf.gradients(x, other)


def test_the_work_of_gradients_grows_with_the_graph():
    """Twice the operations take twice the calls of functions, not four times."""

    def calls(length):
        with tf.Graph().as_default():
            x = y = tf.constant(np.ones((2, 2), np.float32))
            for _ in range(length):
                y = tf.tanh(tf.matmul(y, x) + 1.0)
            count, counted = size(), [0]

            def note(frame, event, argument):
                counted[0] += event in ("call", "c_call")

            sys.setprofile(note)
            try:
                tf.gradients(y, x)
            finally:
                sys.setprofile(None)
            assert size() > count + 3 * length
            return counted[0]

    assert calls(500) < 2.3 * calls(250)


def test_hessians():
    x = tf.placeholder(tf.float32, [None])
    m = np.array([[1, 2], [3, 4]], np.float32)
    y = tf.reduce_sum(x * tf.reshape(tf.matmul(tf.constant(m), tf.reshape(x, [-1, 1])), [-1]))
    (h,) = tf.hessians(y, x)
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(h, {x: [5.0, -1.0]}), m + m.T)
    with pytest.raises(ValueError, match="does not depend on it"):
        tf.hessians(x, x)
