"""Loops that are interpreted as one native call, against the same loops interpreted operation by operation."""

import gc
import logging
import weakref

import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.lowering import host_loops
from headrace.native import library

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

LENGTHS = [5, 3, 7, 1, 4, 12]
BATCH, FEATURES = 3, 8


@pytest.fixture
def at_once(monkeypatch):
    """Loops are planned the first time they are interpreted; gives the numbers of iterations of those that ran."""
    monkeypatch.setattr(host_loops, "_SECONDS_BEFORE_PLANNING", 0.0)
    ran = []
    run = native.HostLoop.run

    def spy(self, carried, constants, trips, targets):
        ran.append(trips)
        return run(self, carried, constants, trips, targets)

    monkeypatch.setattr(native.HostLoop, "run", spy)
    return ran


def recurrent(cell, with_lengths):
    x = tf.placeholder(tf.float32, [BATCH, None, FEATURES])
    lengths = tf.minimum([2, 99, 4], tf.shape(x)[1]) if with_lengths else None
    outputs, _ = tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32)
    loss = tf.reduce_sum(tf.square(outputs))
    weights = tf.trainable_variables()
    return x, [loss, outputs, *tf.gradients(loss, [*weights, x])], weights


def by_hand():
    """A loop over arrays: elements set, pushed, and read; the sum of what it multiplied."""
    x = tf.placeholder(tf.float32, [BATCH, None, FEATURES])
    w = tf.get_variable("w", [FEATURES, FEATURES])
    steps = tf.shape(x)[1]
    source = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(x, [1, 0, 2]))
    made = tf.TensorArray(tf.float32, steps, element_shape=[BATCH, FEATURES])

    def body(t, h, made):
        h = tf.tanh(tf.matmul(h, w) + source.read(t)) * tf.cast(t + 1, tf.float32)
        return t + 2, h, made.write(t, h)

    start = [0, tf.ones([BATCH, FEATURES]), made]
    _, h, made = tf.while_loop(lambda t, *_: t < steps, body, start)
    loss = tf.reduce_sum(h * h)
    return x, [loss, h, made.read(0), *tf.gradients(loss, [w, x])], [w]


def in_scope(build):
    """With resource variables, which the loops read through their handles."""
    with tf.variable_scope("resources", use_resource=True):
        return build()


NETWORKS = {
    "lstm": lambda: recurrent(tf.nn.rnn_cell.LSTMCell(6), False),
    "gru": lambda: recurrent(tf.nn.rnn_cell.GRUCell(5), True),
    "layers": lambda: recurrent(
        tf.nn.rnn_cell.MultiRNNCell([tf.nn.rnn_cell.BasicLSTMCell(4) for _ in range(2)]), True
    ),
    "by hand": by_hand,
    "resources": lambda: in_scope(lambda: recurrent(tf.nn.rnn_cell.GRUCell(4), False)),
}


def results_of(network, lengths=LENGTHS):
    """What each length gives."""
    random = np.random.RandomState(0)
    with tf.Graph().as_default():
        x, fetches, weights = network()
        values = [0.3 * random.randn(*w.shape).astype(np.float32) for w in weights]
        start = [w.assign(v) for w, v in zip(weights, values, strict=True)]
        with tf.Session() as session:
            session.run(start)
            return [
                session.run(fetches, {x: random.randn(BATCH, n, FEATURES).astype(np.float32)})
                for n in lengths
            ]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_and_their_gradients(name, at_once, monkeypatch):
    got = results_of(NETWORKS[name])
    # Every length has a loop each for the network and its gradient.
    trips = [-(-n // 2) if name == "by hand" else n for n in LENGTHS]
    assert set(at_once) >= set(trips), at_once
    monkeypatch.setattr(library, "_loaded", False)
    at_once.clear()
    for g, w in zip(got, results_of(NETWORKS[name]), strict=True):
        for a, b in zip(g, w, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * (1 + np.abs(b).max()))
    assert not at_once


def test_a_list_that_came_in_stays_as_it_was(at_once):
    """Both loops write to the same array: neither sees what the other wrote."""
    w = tf.constant(np.eye(4, dtype=np.float32))
    x = tf.placeholder(tf.float32, [None, 2, 4])
    steps = tf.shape(x)[0]
    array = tf.TensorArray(tf.float32, steps, clear_after_read=False).unstack(x)

    def loop(factor):
        def body(t, h, values):
            h = tf.matmul(h, w) * factor
            return t + 1, h, values.write(t, values.read(t) + h)

        return tf.while_loop(lambda t, *_: t < steps, body, [0, tf.ones([2, 4]), array])[2].stack()

    fetches = [loop(2.0), loop(3.0), array.stack()]
    with tf.Session() as session:
        for n in (4, 3, 5):
            value = np.random.RandomState(n).randn(n, 2, 4).astype(np.float32)
            twice, thrice, same = session.run(fetches, {x: value})
            for got, base in ((twice, 2.0), (thrice, 3.0)):
                powers = (base ** np.arange(1, n + 1))[:, None, None]
                np.testing.assert_allclose(got, value + powers, rtol=1e-5)
            np.testing.assert_array_equal(same, value)


def test_nothing_is_compiled_and_nothing_is_kept(monkeypatch):
    """A new length costs no program, and what its loops filled is free at the end of the run, before Python looks for cycles."""
    filled = []
    run = native.HostLoop.run

    def spy(self, *arguments):
        results = run(self, *arguments)
        filled.extend(weakref.ref(r) for r in results if isinstance(r, np.ndarray) and r.size > 64)
        return results

    monkeypatch.setattr(native.HostLoop, "run", spy)
    x, fetches, _ = recurrent(tf.nn.rnn_cell.LSTMCell(32), False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        feeds = [np.ones((BATCH, n, FEATURES), np.float32) for n in (40, 50, 30)]
        gc.disable()
        try:
            before = tf.compilations()
            for feed in feeds:
                session.run(fetches[0], {x: feed})
                session.run(fetches[2], {x: feed})
            kept = [r for r in filled if r() is not None]
        finally:
            gc.enable()
        assert len(filled) >= 3 * 3, (
            "each length is long enough for its loops to be planned at once"
        )
        assert not kept
        assert tf.compilations().count == before.count


@pytest.mark.parametrize("steps, native_loops", [(3, 0), (60, 2)])
def test_a_loop_is_planned_where_interpreting_it_takes_longer(steps, native_loops, monkeypatch):
    """The first run decides by the length and the operations of the body, not by the clock."""
    ran = []
    run = native.HostLoop.run
    monkeypatch.setattr(native.HostLoop, "run", lambda *a: ran.append(a) or run(*a))
    x, fetches, _ = recurrent(tf.nn.rnn_cell.LSTMCell(8), False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(fetches, {x: np.ones((BATCH, steps, FEATURES), np.float32)})
    assert len(ran) == native_loops


def test_the_end_may_depend_on_a_list(at_once):
    """The loop goes on while the list of numbers says so."""
    goes_on = tf.placeholder(tf.int32, [None])
    x = tf.placeholder(tf.float32, [2, 4])
    w = tf.constant(np.eye(4, dtype=np.float32) * 2)
    count = tf.shape(goes_on)[0]
    array = tf.TensorArray(tf.int32, count, clear_after_read=False).unstack(goes_on)

    def condition(t, h):
        return tf.logical_and(t < count, array.read(tf.minimum(t, count - 1)) > 0)

    result = tf.while_loop(condition, lambda t, h: [t + 1, tf.matmul(h, w)], [0, x])[1]
    with tf.Session() as session:
        for given in ([1, 1, 0, 1], [1, 1, 1], [0, 1], [5, 4, 3, -1, 7]):
            trips = next((i for i, n in enumerate(given) if n <= 0), len(given))
            got = session.run(result, {goes_on: given, x: np.ones((2, 4), np.float32)})
            np.testing.assert_array_equal(got, np.full((2, 4), 2.0**trips))
    assert set(at_once) == {2, 3}


def test_what_is_not_covered_is_interpreted(at_once, caplog):
    x = tf.placeholder(tf.float32, [None, 4])
    w = tf.constant(np.eye(4, dtype=np.float32) * 2)
    doubled = tf.while_loop(lambda h: tf.reduce_sum(h) < 100.0, lambda h: [tf.matmul(h, w)], [x])
    rounds = tf.while_loop(lambda t, s: t < 3, lambda t, s: [t + 1, s * 2.0], [0, x])[1]
    with tf.Session() as session, caplog.at_level(logging.DEBUG, "headrace"):
        for n in (1, 2, 3):
            got = session.run([doubled, rounds], {x: np.ones((n, 4), np.float32)})
            want = np.ones((n, 4), np.float32)
            while want.sum() < 100:
                want *= 2
            np.testing.assert_array_equal(got[0], want)
            np.testing.assert_array_equal(got[1], np.full((n, 4), 8.0))
    assert not at_once
