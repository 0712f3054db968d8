"""`tf.GradientTape` and `tf.function` while graphs are built."""

import numpy as np
import pytest

import headrace as tf


def test_tape_gives_gradients_and_jacobians():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float64, [3])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = tf.stack([x[0] * x[1], tf.sin(x[2])])
        grad = tape.gradient(y, {"x": x})
        jacobian = tape.jacobian(y, x)
        assert jacobian.shape.as_list() == [2, 3]
        value = np.array([2.0, 3.0, 0.5])
        for _ in range(3):
            g, j = sess.run([grad, jacobian], {x: value})
            np.testing.assert_allclose(g["x"], [3.0, 2.0, np.cos(0.5)])
            np.testing.assert_allclose(j, [[3.0, 2.0, 0.0], [0.0, 0.0, np.cos(0.5)]])


def test_a_tape_that_is_not_persistent_answers_once():
    with tf.Graph().as_default():
        x = tf.constant(2.0)
        with tf.GradientTape() as tape:
            y = x * x
        assert tape.gradient(y, [x, tf.constant(1.0)])[1] is None
        with pytest.raises(RuntimeError, match="only be called once"):
            tape.gradient(y, x)
        with pytest.raises(ValueError, match="not recording"), tape.stop_recording():
            pass


def test_function_runs_what_it_does_in_order_and_has_gradients():
    with tf.Graph().as_default(), tf.Session() as sess:
        v = tf.Variable(1.0, use_resource=True)
        traces = []

        @tf.function
        def step(x, scale=2.0):
            traces.append(x.shape)
            v.assign_add(1.0)
            return {"y": x * v.read_value() * scale}, v.read_value()

        x = tf.placeholder(tf.float32, [2])
        (first, after) = step(x)
        step(x)
        assert len(traces) == 1, "the same kind of arguments is not traced again"
        step(tf.zeros([3]))
        assert len(traces) == 2
        grads = tf.gradients(first["y"], [x])
        sess.run(tf.global_variables_initializer())
        for expected in (2.0, 3.0, 4.0):
            y, value, (gx,) = sess.run([first, after, grads], {x: [1.0, 10.0]})
            assert value == expected
            np.testing.assert_allclose(y["y"], [2 * expected, 20 * expected])
            np.testing.assert_allclose(gx, [2 * expected, 2 * expected])


def test_function_refuses_what_its_signature_does_not_allow():
    with tf.Graph().as_default():

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def total(x):
            return tf.reduce_sum(x)

        with tf.Session() as sess:
            assert sess.run(total([1.0, 2.0])) == 3.0
        with pytest.raises(ValueError, match="input_signature"):
            total(tf.zeros([2, 2]))


def test_effects_in_branches_and_loops_of_functions():
    """In a function they happen whether or not a result needs them; outside of one they are lost, as in TensorFlow 1.15."""
    v = tf.Variable(0, use_resource=True)

    def add(amount, result):
        return lambda: (v.assign_add(amount), tf.constant(result))[1]

    @tf.function
    def branches(pred):
        return tf.cond(pred, add(1, 2), add(10, 3))

    @tf.function
    def nothing(pred):
        tf.cond(pred, lambda: (v.assign_add(1), None)[1], lambda: (v.assign_add(10), None)[1])
        return tf.constant(5)

    @tf.function
    def loop(count):
        return tf.while_loop(lambda i: i < count, lambda i: add(100, 1)() + i, [0])

    def runs(result, pred, feeds):
        with tf.Session() as session:
            session.run(v.initializer)
            return [(session.run(result, {pred: f}), session.run(v)) for f in feeds]

    pred, count = tf.placeholder(tf.bool, []), tf.placeholder(tf.int32, [])
    assert runs(branches(pred), pred, [True, False]) == [(2, 1), (3, 11)]
    assert runs(nothing(pred), pred, [True, False]) == [(5, 1), (5, 11)]
    assert runs(loop(count), count, [3, 2]) == [(3, 300), (2, 500)]
    assert runs(tf.cond(pred, add(1, 2), add(10, 3)), pred, [True, False]) == [(2, 0), (3, 0)]
    with pytest.raises(ValueError, match="true_fn must have a return value"):
        tf.cond(pred, lambda: None, lambda: None)
    with pytest.raises(ValueError, match="must return at least one result"):
        tf.cond(pred, lambda: [], lambda: [])
