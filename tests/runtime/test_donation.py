"""A training step updates variables in their own buffers, however many have the same shape."""

import numpy as np

import headrace as tf


def _buffers(session):
    """Where the value of each variable lies."""
    values = {key: cell.value for key, cell in session._resources._cells.items()}
    return {
        key: v.unsafe_buffer_pointer() for key, v in values.items() if v is not None and v.ndim == 2
    }


def test_each_variable_keeps_its_buffer():
    x = tf.placeholder(tf.float32, [64, 64])
    weights = [tf.get_variable(f"w{i}", [64, 64]) for i in range(3)]
    out = x
    for w in reversed(weights):  # read in another order than they are written in
        out = tf.tanh(tf.matmul(out, w))
    loss = tf.reduce_sum(out)
    gradient = tf.gradients(loss, weights[0])[0]  # a result of the same shape as the variables
    train = tf.train.AdamOptimizer(0.01).minimize(loss, var_list=weights)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        feeds = {x: np.ones([64, 64], np.float32)}
        for _ in range(3):
            session.run([gradient, train], feeds)
        before = _buffers(session)
        session.run([gradient, train], feeds)
        assert len(before) == 9
        assert _buffers(session) == before


def test_tables_around_a_host_operation_are_neither_copied_nor_passed_on():
    table, other = [tf.get_variable(name, [512, 8]) for name in ("table", "other")]
    rows = tf.placeholder(tf.int64, [4])
    drawn = tf.py_func(lambda r: (r + 1) % 512, [rows], tf.int64)
    drawn.set_shape([4])
    picked = tf.gather(table, drawn) * tf.gather(other, rows)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(picked))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i in range(3):
            session.run(train, {rows: [i, 1, 2, 3]})
        before = _buffers(session)
        session.run(train, {rows: [4, 5, 6, 7]})
        assert len(before) == 2
        assert _buffers(session) == before
        steps = {id(p.step): p.step for p in session._prepared.values()}.values()
        (step,) = [s for s in steps if len(s.programs.islands) > 0 and len(s.split.segments) > 1]
        for island in step.programs.islands.values():
            shapes = [t.shape.as_list() for t in island.inputs]
            assert [512, 8] not in shapes


def test_a_large_variable_is_changed_by_a_program_from_the_first_step_on():
    table = tf.get_variable("table", [1 << 20, 16], initializer=tf.zeros_initializer())
    added = tf.scatter_add(table, [5], np.ones([1, 16], np.float32))
    with tf.Session() as session:
        session.run(table.initializer)
        before = tf.compilations().count
        session.run(added.op)
        assert tf.compilations().count == before + 1
        assert session.run(tf.reduce_sum(table)) == 16.0
