"""Steps that became one call of one program: they still fail, and find new shapes and longer loops."""

import numpy as np
import pytest

import headrace as tf


def only_step(sess, fetch):
    (step,) = {
        id(p.step): p.step for p in sess._prepared.values() if fetch in p.step.fetches
    }.values()
    return step


def test_checks_of_a_single_call():
    rows = tf.placeholder(tf.int32, [None])
    taken = tf.gather(tf.constant([1.0, 2.0, 4.0]), rows)
    with tf.Session() as sess:
        for _ in range(2):
            for chosen in ([2], [], [0, 1]):
                for _ in range(3):
                    found = sess.run(taken, {rows: chosen})
                    assert found.tolist() == [[1.0, 2.0, 4.0][i] for i in chosen]
            assert only_step(sess, taken)._compiled is not None
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[1\] = 3 is not in"):
                sess.run(taken, {rows: [0, 3]})


def test_a_failure_leaves_variables_and_generators_as_they_were():
    rows = tf.placeholder(tf.int32, [None])
    w = tf.get_variable("w", [3], initializer=tf.zeros_initializer())
    noise = tf.random_uniform([], seed=3)
    added = tf.scatter_add(w, rows, tf.fill(tf.shape(rows), noise))
    found = {}
    for failing in (False, True):
        with tf.Session() as sess:
            sess.run(w.initializer)
            for _ in range(4):
                sess.run(added, {rows: [1]})
                if failing:
                    with pytest.raises(tf.errors.InvalidArgumentError):
                        sess.run(added, {rows: [9]})
            assert only_step(sess, added)._compiled is not None
            found[failing] = sess.run(w)
    assert found[True].tolist() == found[False].tolist()
    assert found[True][1] > 0


def test_a_loop_that_runs_longer_than_before():
    count = tf.placeholder(tf.int32, [])
    x = tf.get_variable("x", initializer=1.01)
    _, last = tf.while_loop(lambda i, y: i < count, lambda i, y: (i + 1, y * x), [0, x])
    (slope,) = tf.gradients(last, x)
    with tf.Session() as sess:
        sess.run(x.initializer)
        for n in (3, 3, 3, 3, 700, 2, 700):
            expected = (n + 1) * np.float64(1.01) ** n
            np.testing.assert_allclose(sess.run(slope, {count: n}), expected, rtol=1e-3)
