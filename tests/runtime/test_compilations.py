"""What compiles and what does not: the table of docs/compilation.md, row by row."""

import logging

import numpy as np

import headrace as tf
from headrace.lowering import compilations as counter


def compiled(call):
    before = tf.compilations().count
    call()
    return tf.compilations().count - before


def test_only_the_second_run_of_a_small_step_compiles():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 3])
        y = tf.reduce_sum(tf.tanh(x) * 2.0)
        feed = {x: np.ones((2, 3))}
        assert [compiled(lambda: sess.run(y, feed)) for _ in range(4)] == [0, 1, 0, 0]
        other = {x: np.ones((5, 3))}
        assert sum(compiled(lambda: sess.run(y, other)) for _ in range(3)) == 1
        assert compiled(lambda: sess.run(y, feed)) == 0, "programs for earlier shapes are kept"
        tf.identity(y)
        assert compiled(lambda: sess.run(y, feed)) == 0, "the graph grew"


def test_places_are_values_and_sizes_are_not():
    with tf.Graph().as_default(), tf.Session() as sess:
        i = tf.placeholder(tf.int32, [])
        x = tf.constant(np.arange(12.0).reshape(4, 3))
        row, span = x[i] * 2.0, tf.range(i) * 2
        for _ in range(2):
            sess.run(row, {i: 0})
            sess.run(span, {i: 2})
        assert [compiled(lambda k=k: sess.run(row, {i: k})) for k in (1, 2, 3)] == [0, 0, 0]
        assert sess.run(row, {i: 3}).tolist() == [18.0, 20.0, 22.0]
        assert [sess.run(span, {i: k}).tolist() for k in (3, 1)] == [[0, 2, 4], [0]]


def test_the_length_of_a_loop_is_a_value_and_its_room_doubles():
    with tf.Graph().as_default(), tf.Session() as sess:
        n = tf.placeholder(tf.int32, [])
        x = tf.placeholder(tf.float64, [])
        _, y = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * tf.cos(x)), [0, x])
        (grad,) = tf.gradients(y, [x])

        def check(count):
            value, slope = sess.run([y, grad], {x: 0.3, n: count})
            c, s = np.cos(0.3), np.sin(0.3)
            np.testing.assert_allclose(value, 0.3 * c**count, rtol=1e-9)
            np.testing.assert_allclose(
                slope, c**count - 0.3 * count * c ** (count - 1) * s, rtol=1e-9, atol=1e-12
            )

        for _ in range(2):
            check(5)
        assert compiled(lambda: check(7)) == 0
        assert compiled(lambda: check(60)) == 0
        assert compiled(lambda: check(100)) >= 1, "more than the first room"
        assert compiled(lambda: check(120)) == 0
        assert compiled(lambda: check(3)) == 0


def test_long_compilations_leave_a_line(monkeypatch, caplog):
    monkeypatch.setattr(counter, "_LONG_SECONDS", 0.0)
    with tf.Graph().as_default(), tf.Session() as sess, caplog.at_level(logging.INFO, "headrace"):
        y = tf.tanh(tf.placeholder_with_default(0.5, []), name="squashed")
        for _ in range(3):
            sess.run(y)
    assert any(
        "squashed:0" in r.getMessage() and "operations" in r.getMessage() for r in caplog.records
    )
