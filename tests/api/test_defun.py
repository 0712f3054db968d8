"""Functions called by name: what they capture and share, their gradients, their effects, what is refused.

Values of whole programs, and graphs that go from here to TensorFlow and back, are in tests/graph/test_against_tensorflow.py.
"""

import numpy as np
import pytest

import headrace as tf
from headrace.api import defun
from headrace.api.defun import Declare, Defun


def _run(fetches, feeds=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def test_calls_captures_and_attrs():
    """Calls are nodes of the function's name; captured tensors are arguments, also of a function in another."""
    k = tf.constant([1.0, 2.0], name="k")

    @Defun(tf.float32, func_name="Outer", noinline=True, experimental_tag=3)
    def outer(x):
        @Defun(tf.float32, func_name="Inner")
        def inner(y):
            assert defun.get_extra_inputs() == [] and defun.get_extra_vars() == []
            return y * k, tf.cast(tf.size(k), tf.int32)

        total, count = inner(x)
        return total + tf.cast(count, tf.float32)

    a, b = outer([3.0, 4.0]), outer([1.0, 1.0], name="mine")
    assert (a.op.type, a.op.name, b.op.name) == ("Outer", "Outer", "mine")
    assert outer.captured_inputs == [k] and a.op.inputs[1] is k
    assert a.shape.rank is None
    definition = outer.definition
    assert definition.attr["_noinline"].b and definition.attr["experimental_tag"].i == 3
    assert [arg.name for arg in definition.signature.input_arg] == ["x", "k"]
    assert sorted(
        f.signature.name for f in tf.get_default_graph().as_graph_def().library.function
    ) == [
        "Inner",
        "Outer",
    ]
    for value, expected in zip(_run([a, b]), ([5.0, 10.0], [3.0, 4.0]), strict=True):
        np.testing.assert_allclose(value, expected)


def test_types_of_calls_shapes_and_names():
    """Without declared types each call's types make an instance; names follow from bodies; shapes from `shape_func`."""

    @Defun(shape_func=lambda op: [op.inputs[0].shape])
    def twice(x):
        return x + x

    f, i = twice(tf.constant([1.5])), twice(tf.constant([2]))
    assert f.shape.as_list() == [1] and f.op.type != i.op.type and f.op.type.startswith("twice_")
    assert [v.tolist() for v in _run([f, i])] == [[3.0], [4]]
    assert Defun(tf.float32)(lambda x: x + 1).name == Defun(tf.float32)(lambda x: x + 1).name
    assert Defun(tf.float32)(lambda x: x + 1).name != Defun(tf.float32)(lambda x: x + 2).name
    named = Defun(tf.float32, func_name="Named", out_names=["first", "second"])(lambda x: (x, -x))
    assert [arg.name for arg in named.definition.signature.output_arg] == ["first", "second"]


def test_variables():
    """Variables are made around the function, once; values of resource variables are arguments; gradients reach them."""
    for use_resource in (False, True):
        with tf.Graph().as_default(), tf.variable_scope("a", use_resource=use_resource):

            @Defun(tf.float32)
            def layer(x):
                with tf.variable_scope("b"):
                    w = tf.get_variable("w", [2], initializer=tf.constant_initializer(3.0))
                return x * w

            y = layer([1.0, 2.0]) + layer([10.0, 20.0])
            (w,) = tf.global_variables()
            assert w.name == "a/b/w:0" and tf.trainable_variables() == [w]
            (dw,) = tf.gradients(y, [w])
            values = _run([y, dw])
            np.testing.assert_allclose(values, [[33.0, 66.0], [11.0, 22.0]])


def test_gradients():
    """Derived to any order, declared as a function, given in Python; none for integers."""
    x = tf.constant([0.5, -1.0])

    @Defun(tf.float32, tf.int32)
    def power(v, n):
        return tf.while_loop(lambda i, p: i < n, lambda i, p: (i + 1, p * v), [0, tf.ones_like(v)])[
            1
        ]

    y = power(x, 3)
    first, of_n = tf.gradients(y, [x, y.op.inputs[1]])
    second = tf.gradients(first, x)[0]
    assert of_n is None
    cube = Defun(tf.float32)(lambda v: v * v * v)
    plain = tf.gradients(tf.gradients(tf.gradients(cube(x), x)[0], x)[0], x)[0]
    assert tf.gradients(cube(x), x)[0].op.type == "SymbolicGradient"
    declared = Defun(tf.float32, grad_func=Defun(tf.float32, tf.float32)(lambda v, d: 7.0 * d))(
        lambda v: tf.exp(v)
    )
    given = Defun(tf.float32, python_grad_func=lambda op, d: d * op.outputs[0])(lambda v: tf.sin(v))
    assert declared.grad_func_name
    values = _run(
        [first, second, plain, tf.gradients(declared(x), x)[0], tf.gradients(given(x), x)[0]]
    )
    v = np.array([0.5, -1.0], np.float32)
    for value, expected in zip(
        values, (3 * v**2, 6 * v, 6 + 0 * v, 7 + 0 * v, np.sin(v)), strict=True
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    wrong = Defun(tf.float32, grad_func=Defun(tf.float32, tf.float32)(lambda v, d: (v, d)))(
        lambda v: v * 2
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="SymGrad expects to return 1"):
        _run(tf.gradients(wrong(x), x))


def test_in_loops_and_branches():
    """A call in the body of a loop, in a branch, and after import by name, with its gradient."""
    x = tf.placeholder(tf.float32, [2], name="x")
    square = Defun(tf.float32, func_name="Square_", shape_func=lambda op: [[2]])(
        lambda v: v * v + 0.5
    )
    y = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, square(v)), [0, x])[1]
    z = tf.cond(tf.reduce_sum(x) > 0, lambda: square(y), lambda: y, name="z")
    tf.identity(z, name="out")
    graph_def = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default():
        x, out = tf.import_graph_def(graph_def, return_elements=["x:0", "out:0"], name="")
        values = _run([out, tf.gradients(out, x)[0]], {x: [0.1, 0.2]})
    v = np.array([0.1, 0.2])
    slope = np.ones(2)
    for _ in range(4):
        v, slope = v * v + 0.5, slope * 2 * v
    np.testing.assert_allclose(values, [v, slope], rtol=1e-5)


def test_effects():
    """What a body does besides its outputs is done in each call; random numbers differ between calls."""

    @Defun(tf.float32)
    def checked(v):
        tf.Assert(tf.reduce_all(v > 0), ["not positive"])
        return v + 1

    x = tf.placeholder(tf.float32, [None])
    y = checked(x)
    draw = Defun()(lambda: tf.random_uniform([20]))
    first, second = draw(), draw()
    with tf.Session() as session:
        assert session.run(y, {x: [1.0]}) == [2.0]
        with pytest.raises(tf.errors.InvalidArgumentError, match="not positive"):
            session.run(y, {x: [-1.0]})
        a, b = session.run([first, second])
        assert (a != b).all() and (session.run(first) != a).all()
    assert draw.stateful_ops[0][1] == "RandomUniform" and draw.definition.signature.is_stateful


def test_one_function_called_twice_with_different_gradients():
    """A tf.function whose calls are differentiated for different outputs: each call gets its own values."""

    @tf.function
    def both(x):
        return tf.exp(x), tf.sin(x) * tf.tanh(x)

    x = tf.constant(0.3)
    a, b = both(x), both(x)
    da, db = tf.gradients(a[1], x)[0], tf.gradients(b[0], x)[0]
    slope = np.cos(0.3) * np.tanh(0.3) + np.sin(0.3) / np.cosh(0.3) ** 2
    np.testing.assert_allclose(
        _run([da, db, a[0], b[1]]),
        [slope, np.exp(0.3), np.exp(0.3), np.sin(0.3) * np.tanh(0.3)],
        rtol=1e-6,
    )


def test_by_value_and_declared():
    """Captured tensors as part of the body; a call of what is defined later; a library of functions read back."""
    k = tf.constant([2.0]) * 3.0
    copied = Defun(tf.float32, capture_by_value=True)(lambda v: v * k)
    later = Declare("Later", [("v", tf.float32)], [("out", tf.float32)])
    early = later(tf.constant([1.0]))
    Defun(tf.float32, func_name="Later")(lambda v: v - 9.0).add_to_graph(tf.get_default_graph())
    assert [v.tolist() for v in _run([copied([5.0]), early])] == [[30.0], [-8.0]]
    assert copied.captured_inputs == []
    random = tf.random_uniform([])
    with pytest.raises(ValueError, match="Cannot capture a stateful node"):
        Defun(capture_by_value=True)(lambda: random + 1)()
    library = defun.from_library(tf.get_default_graph().as_graph_def().library)
    assert sorted(f.name for f in library) == sorted([copied.name, "Later"])


def test_refusals():
    """Arguments of other numbers and types, defaults, None as a result, unknown attrs."""
    one = Defun(tf.float32)(lambda v: v)
    for make, message in (
        (lambda: one(1.0, 2.0), "Expected number of arguments: 1, received: 2"),
        (lambda: one(1), "of type"),
        (lambda: one(1.0, unknown=3), "Unknown keyword arguments"),
        (lambda: Defun(tf.float32)(lambda v=1: v), "defaults"),
        (lambda: Defun(tf.float32, tf.float32)(lambda v: v), "fewer arguments"),
        (lambda: Defun(tf.float32)(lambda v: [v, None])(1.0), "can not return None"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(tf.errors.InvalidArgumentError, match="output names size = 2"):
        Defun(tf.float32, out_names=["a", "b"])(lambda v: v)(1.0)
