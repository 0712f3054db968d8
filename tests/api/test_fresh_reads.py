"""Variables that loops and branches write are read anew there; tensors of bodies are not used outside of them."""

import numpy as np
import pytest

import headrace as tf


@pytest.mark.parametrize("use_resource", [False, True])
def test_an_optimizer_inside_a_loop_trains(use_resource):
    """Five steps in one loop are five steps; TensorFlow 1.15's numbers."""
    with tf.variable_scope("s", use_resource=use_resource):
        w = tf.get_variable("w", initializer=np.array([1.0, 2.0], np.float32))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.5)

    def body(i):
        step = optimizer.minimize(tf.reduce_sum(tf.square(w - [3.0, 5.0])))
        with tf.control_dependencies([step]):
            return i + 1

    loop = tf.while_loop(lambda i: i < 5, body, [0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for expected in ([2.98324, 4.9748597], [3.0650907, 5.0976357]):
            assert session.run(loop) == 5
            np.testing.assert_allclose(session.run(w), expected, rtol=1e-6)


def test_a_condition_sees_what_the_body_writes():
    """A loop that ends by the value of a variable; a branch that reads after it has written."""
    a, b = tf.Variable(0), tf.Variable(0)

    def body(i):
        step = tf.cond(tf.equal(i % 2, 0), lambda: tf.assign_add(b, 3), lambda: tf.assign_add(b, 1))
        with tf.control_dependencies([step]):
            return tf.identity(b)

    def branch():
        with tf.control_dependencies([tf.assign_add(a, 5)]):
            return tf.identity(a) + 0

    loop = tf.while_loop(lambda _: tf.less(b, 10), body, [b])
    value = tf.cond(a < 100, branch, lambda: a)
    graph_def = tf.get_default_graph().as_graph_def()
    names = {n.name for f in graph_def.library.function for n in f.node_def}
    assert any(name.endswith("/read") for name in names)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run([loop, value]) == [11, 5]
        assert session.run([a, b]) == [5, 11]


def test_tensors_of_bodies_stay_there():
    """Their use outside is refused, with where they are from; constants may be used anywhere inside functions."""
    inside = []

    def keep(value):
        inside.append(value)
        return value

    tf.while_loop(lambda i: i < 3, lambda i: keep(i + 1), [0])
    tf.cond(tf.constant(True), lambda: keep(tf.ones([2]) * 2.0), lambda: tf.ones([2]))
    constant = []
    tf.cond(tf.constant(True), lambda: constant.append(tf.constant(4)) or constant[0], lambda: 5)
    for make, message in (
        (lambda: inside[0] + 1, "is in a while loop"),
        (lambda: inside[1] + 1, "is in true_fn"),
        (lambda: tf.while_loop(lambda i: i < 3, lambda i: i + inside[0], [0]), "different while"),
        (
            lambda: tf.cond(tf.constant(True), lambda: tf.ones([2]), lambda: inside[1] * 1.0),
            "in true_fn is accessed from false_fn",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    again = tf.cond(tf.constant(False), lambda: 1, lambda: constant[0])
    with tf.Session() as session:
        assert session.run(again) == 4
