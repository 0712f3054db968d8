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
