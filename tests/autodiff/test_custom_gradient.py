"""tf.custom_gradient and its kin."""

import numpy as np
import pytest

import headrace as tf


def run(*fetches):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(list(fetches))


@tf.custom_gradient
def log1pexp(x):
    """log(1 + exp(x)), whose plain gradient is NaN for large x."""
    e = tf.exp(x)

    def grad(dy):
        return dy * (1 - 1 / (1 + e))

    return tf.math.log(1 + e), grad


def test_values_are_the_functions_and_gradients_its_own():
    x = tf.constant([0.0, 100.0])
    y = log1pexp(x)
    value, dx = run(y, tf.gradients(y, x)[0])
    assert value[0] == pytest.approx(np.log(2)) and dx.tolist() == [0.5, 1.0]
    assert log1pexp.__name__ == "log1pexp" and log1pexp.__doc__.startswith("log(1")
    assert y.op.type == "IdentityN" and y.op.get_attr("_gradient_op_type").startswith(
        b"CustomGradient-"
    )


def test_several_arguments_results_and_keywords():
    @tf.custom_gradient
    def pair(a, b, scale=1.0):
        def grad(da, dboth):
            return da * 10.0, [dboth["b"] * 100.0] if isinstance(dboth, dict) else dboth * 100.0

        return (a * scale, {"b": b + a}), grad

    a, b = tf.constant(2.0), tf.constant(3.0)
    first, second = pair(a, b, scale=4.0)
    assert run(first, second["b"], *tf.gradients([first, second["b"]], [a, b])) == [8, 5, 10, 100]

    @tf.custom_gradient
    def too_few(a, b):
        return a + b, lambda dy: dy

    with pytest.raises(ValueError, match="too_few must return 2 gradients, got 1"):
        tf.gradients(too_few(a, b), a)


def test_nested_and_second_order():
    @tf.custom_gradient
    def inner(x):
        return x * x, lambda dy: dy * 7.0 * x

    @tf.custom_gradient
    def outer(x):
        y = inner(x)

        def grad(dy):
            return tf.gradients(y, x, dy)[0] + 1.0

        return y, grad

    x = tf.constant(3.0)
    (dx,) = tf.gradients(outer(x), x)
    (ddx,) = tf.gradients(inner(x), x)
    assert run(dx, tf.gradients(ddx, x)[0]) == [22.0, 7.0]


def test_variables_used_inside_get_gradients():
    v = tf.Variable(2.0, use_resource=True)
    frozen = tf.Variable(5.0, use_resource=True, trainable=False)
    asked = []

    @tf.custom_gradient
    def scaled(x):
        def grad(dy, variables=None):
            asked.extend(variables)
            return dy * v, [dy * 100.0]

        return x * v + frozen, grad

    x = tf.constant(3.0)
    y = scaled(x)
    assert run(y, *tf.gradients(y, [x, v, frozen], unconnected_gradients="zero")) == [11, 2, 100, 0]
    assert asked == [v]

    @tf.custom_gradient
    def forgets(x):
        return x * v, lambda dy: dy

    with pytest.raises(
        TypeError, match="grad_fn must accept a keyword argument 'variables': forgets uses"
    ):
        forgets(x)

    @tf.custom_gradient
    def passed(x, w):
        return x * w, lambda dy: (dy, dy * 9.0)

    assert run(tf.gradients(passed(x, v), v)[0]) == [9.0]


def test_grad_pass_through():
    x = tf.constant([0.2, 1.7])
    y = tf.grad_pass_through(tf.round)(x)
    value, dx = run(y, tf.gradients(y * 3.0, x)[0])
    assert value.tolist() == [0, 2] and dx.tolist() == [3, 3]


def test_recompute_grad_computes_again():
    v = tf.Variable(2.0, use_resource=True)

    @tf.recompute_grad
    def block(x):
        return tf.tanh(x * v)

    x = tf.constant([0.5, -1.0])
    y = block(x)
    plain = tf.tanh(x * v)
    for mine, theirs in zip(tf.gradients(y, [x, v]), tf.gradients(plain, [x, v])):
        np.testing.assert_allclose(*run(mine, theirs), rtol=1e-6)
    tanhs = [op for op in tf.get_default_graph().get_operations() if op.type == "Tanh"]
    assert len(tanhs) == 3  # forward, again for the gradient, the plain one


def test_gradients_survive_a_copy_of_the_graph_in_this_process():
    @tf.custom_gradient
    def clipped(x):
        return x * 5.0, lambda dy: tf.clip_by_value(dy, -1.0, 1.0)

    x = tf.placeholder(tf.float32, [], name="x")
    original = clipped(x)
    tf.identity(original, name="y")
    exported = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default():
        x, y = tf.import_graph_def(exported, return_elements=["x:0", "y:0"])
        (dx,) = tf.gradients(y * 3.0, x)
        with tf.Session() as sess:
            assert sess.run(dx, {x: 100.0}) == 1.0
    assert original.graph is not dx.graph
