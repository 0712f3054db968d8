"""Products that a loop leaves to its surroundings: which are found, and that nothing changes but the time."""

import numpy as np
import pytest

import headrace as tf
from headrace.graph.func_graph import function_named
from headrace.passes.loop_products import find_loop_products

BATCH, UNITS, WIDTH = 3, 5, 4


def cell_of(kind):
    if kind == "lstm":
        return tf.nn.rnn_cell.BasicLSTMCell(UNITS)
    if kind == "gru":
        return tf.nn.rnn_cell.GRUCell(UNITS)
    if kind == "two lstm":
        return tf.nn.rnn_cell.MultiRNNCell([tf.nn.rnn_cell.BasicLSTMCell(UNITS) for _ in range(2)])
    return tf.nn.rnn_cell.BasicRNNCell(UNITS)


def loops(graph):
    """(products found, op) for each loop, the forward one first."""
    found = []
    for op in graph.get_operations():
        if op.type == "While":
            body = function_named(op, op.get_attr("body").name).graph
            condition = function_named(op, op.get_attr("cond").name).graph
            found.append(find_loop_products(body, condition, body.get_operations()))
    return found


# kind -> (input products, weight gradients, whether the gradient of the input is moved)
EXPECTED = {
    "rnn": (1, 1, True),
    "lstm": (1, 1, True),
    "gru": (2, 2, True),
    "two lstm": (1, 2, True),
}


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("lengths", [None, [2, 7, 4]])
def test_recurrent_cells(kind, lengths, use_resource):
    random = np.random.RandomState(0)
    data = random.randn(BATCH, 7, WIDTH)
    x = tf.placeholder(tf.float64, [BATCH, None, WIDTH])
    with tf.variable_scope("net", use_resource=use_resource, dtype=tf.float64) as scope:
        cell = cell_of(kind)
        outputs, _ = tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float64, scope=scope)
        weights = tf.constant(random.randn(BATCH, 7, UNITS))
        loss = tf.reduce_sum(outputs * weights)
        variables = tf.trainable_variables()
        gradients = tf.gradients(loss, [x, *variables])
    with tf.variable_scope(scope, reuse=True):
        unrolled, _ = tf.nn.static_rnn(
            cell, tf.unstack(x, 7, 1), sequence_length=lengths, dtype=tf.float64, scope=scope
        )
        expected_loss = tf.reduce_sum(tf.stack(unrolled, 1) * weights)
        expected = tf.gradients(expected_loss, [x, *variables])

    forward, backward = loops(tf.get_default_graph())
    inputs, weight_gradients, moves_input = EXPECTED[kind]
    assert len(forward.inputs) == inputs
    assert sum(len(g.products) for g in backward.weights) == weight_gradients
    assert bool(backward.input_gradients) is moves_input

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            found, wanted = session.run([[loss, *gradients], [expected_loss, *expected]], {x: data})
        for value, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-9)


def test_an_index_that_comes_twice():
    """The gradient of a list adds up where iterations read the same element."""
    w = tf.get_variable("w", initializer=np.random.RandomState(1).randn(2, 2))
    x = tf.placeholder(tf.float64, [4, 3, 2])
    array = tf.TensorArray(tf.float64, 4, element_shape=[3, 2]).unstack(x)

    def step(i, h):
        return i + 1, tf.tanh(tf.matmul(array.read(i // 2), w) + h)

    _, h = tf.while_loop(lambda i, h: i < 8, step, [0, tf.zeros([3, 2], tf.float64)])
    gradients = tf.gradients(tf.reduce_sum(h), [x, w])
    state = tf.zeros([3, 2], tf.float64)
    for i in range(8):
        state = tf.tanh(tf.matmul(x[i // 2], w) + state)
    expected = tf.gradients(tf.reduce_sum(state), [x, w])
    data = np.random.RandomState(2).randn(4, 3, 2)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            found, wanted = session.run([gradients, expected], {x: data})
    for value, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_the_loop_writes_stays_inside():
    """A variable that changes from iteration to iteration is no fixed factor."""
    w = tf.get_variable("w", initializer=np.eye(2), use_resource=True)
    x = tf.constant(np.arange(8.0).reshape(4, 1, 2))
    array = tf.TensorArray(tf.float64, 4, element_shape=[1, 2]).unstack(x)

    def step(i, total):
        product = tf.matmul(array.read(i), w.read_value())
        with tf.control_dependencies([product]):
            with tf.control_dependencies([w.assign_add(tf.ones([2, 2], tf.float64))]):
                return i + 1, total + product

    _, total = tf.while_loop(lambda i, t: i < 4, step, [0, tf.zeros([1, 2], tf.float64)])
    with tf.Session() as session:
        for _ in range(2):
            session.run(tf.global_variables_initializer())
            value = session.run(total)
    expected = sum(
        np.arange(8.0).reshape(4, 1, 2)[i] @ (np.eye(2) + i * np.ones((2, 2))) for i in range(4)
    )
    np.testing.assert_allclose(value, expected)


def test_a_sum_that_is_looked_at_stays_inside():
    """A sum that the loop itself uses is computed in each iteration."""
    x = tf.constant(np.random.RandomState(3).randn(3, 2, 2))
    array = tf.TensorArray(tf.float64, 3, element_shape=[2, 2]).unstack(x)

    def step(i, total, seen):
        a = array.read(i)
        total = tf.add_n([total, tf.matmul(a, a, transpose_a=True)])
        return i + 1, total, seen + tf.reduce_sum(total)

    zero = tf.zeros([2, 2], tf.float64)
    loop = tf.while_loop(lambda i, *_: i < 3, step, [0, zero, tf.constant(0.0, tf.float64)])
    with tf.Session() as session:
        for _ in range(2):
            _, total, seen = session.run(loop)
    data = np.random.RandomState(3).randn(3, 2, 2)
    sums = np.cumsum([a.T @ a for a in data], axis=0)
    np.testing.assert_allclose(total, sums[-1])
    np.testing.assert_allclose(seen, sums.sum())
