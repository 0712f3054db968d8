"""Filters that are kept in the order in which kernels want them, for as long as a variable has the same value."""

import gc

import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.native import library

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

C = 48
SIZE = 4 * 9 * C * C


def kept():
    gc.collect()
    return library.kernels().headrace_kept_bytes()


@pytest.fixture
def network():
    """(session, images, filter, output, feeds, what the output is for a filter)"""
    random = np.random.default_rng(0)
    image = random.standard_normal((2, 10, 10, C)).astype(np.float32)
    x = tf.placeholder(tf.float32, [2, 10, 10, C])
    w = tf.Variable(random.standard_normal((3, 3, C, C)).astype(np.float32) * 0.1)
    y = tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME"))
    given = tf.placeholder(tf.float32, w.shape)
    plain = tf.nn.conv2d(x, given, 1, "SAME")
    feeds = {x: image}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())

        def wanted(value):
            return np.maximum(session.run(plain, {**feeds, given: value}), 0)

        yield session, w, y, feeds, wanted


def test_it_is_kept_until_the_variable_changes(network):
    session, w, y, feeds, wanted = network
    before = kept()
    new = tf.placeholder(tf.float32, w.shape)
    change = w.assign(new), tf.assign_add(w, new)
    for i in range(6):
        for _ in range(4):
            np.testing.assert_allclose(session.run(y, feeds), wanted(session.run(w)), atol=1e-4)
        assert SIZE <= kept() - before < 2 * SIZE
        session.run(change[i % 2], {new: np.full(w.shape, 0.1 * i, np.float32)})
        assert kept() == before


def test_training_keeps_nothing(network):
    session, w, y, feeds, wanted = network
    before = kept()
    train = tf.train.GradientDescentOptimizer(1e-6).minimize(tf.reduce_sum(tf.square(y)))
    for _ in range(4):
        for _ in range(3):
            session.run(train, feeds)
        session.run(y, feeds)
        assert kept() == before
    for _ in range(2):
        np.testing.assert_allclose(session.run(y, feeds), wanted(session.run(w)), atol=1e-4)
    assert kept() > before
    session.run(train, feeds)
    assert kept() == before


def test_other_batches_share_it_and_the_end_of_the_session_frees_it():
    random = np.random.default_rng(0)
    before = kept()
    x = tf.placeholder(tf.float32, [None, 10, 10, C])
    w = tf.Variable(random.standard_normal((3, 3, C, C)).astype(np.float32))
    y = tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME"))
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    for batch in (1, 1, 1, 2, 2, 2, 3, 3, 3):
        session.run(y, {x: np.ones((batch, 10, 10, C), np.float32)})
    assert SIZE <= kept() - before < 2 * SIZE
    session.close()
    assert kept() == before


def test_filters_that_are_constants():
    random = np.random.default_rng(0)
    before = kept()
    value = random.standard_normal((3, 3, C, C)).astype(np.float32)
    results = []
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2, 10, 10, C])
        convolved = tf.nn.conv2d(x, tf.constant(value), 1, "SAME")
        y = tf.nn.relu(convolved)
        with tf.Session() as session:
            feeds = {x: np.ones(x.shape.as_list(), np.float32)}
            for _ in range(4):
                results.append(session.run(y, feeds))
            assert SIZE <= kept() - before < 2 * SIZE
            wanted = np.maximum(session.run(convolved, feeds), 0)
    for result in results:
        np.testing.assert_allclose(result, wanted, atol=1e-3)


def test_what_does_not_pay_is_not_kept():
    before = kept()
    x = tf.placeholder(tf.float32, [2, 96, 96, 16])
    w = tf.Variable(np.ones((3, 3, 16, 32), np.float32))
    y = tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME"))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(4):
            session.run(y, {x: np.ones(x.shape.as_list(), np.float32)})
        assert kept() == before
