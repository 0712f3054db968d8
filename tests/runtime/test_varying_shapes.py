"""Batches of many lengths: interpreted at first, compiled in the background when they come again, always the same numbers."""

import threading
import time

import numpy as np
import pytest

import headrace as tf
from headrace.lowering.compilations import compilations
from headrace.runtime.varying_shapes import VaryingShapes


def build():
    x = tf.placeholder(tf.float64, [3, None, 4])
    cell = tf.nn.rnn_cell.BasicLSTMCell(5)
    outputs, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64)
    loss = tf.reduce_mean(tf.square(outputs))
    train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    return x, loss, train


def test_interpreted_and_compiled_runs_give_the_same():
    x, loss, train = build()
    random = np.random.RandomState(0)
    batches = [random.randn(3, n, 4) for n in [5, 9, 2, 7, 12, 1, 4]]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for batch in batches:
            with (
                tf.Session() as other
            ):  # there the shape is the only one: its second run is compiled
                for variable in tf.trainable_variables():
                    variable.load(session.run(variable), other)
                before = compilations().count
                other.run(loss, {x: batch})
                compiled = other.run(loss, {x: batch})
                assert compilations().count > before
            interpreted, _ = session.run([loss, train], {x: batch})
            np.testing.assert_allclose(interpreted, compiled, rtol=1e-12)


def test_a_length_that_comes_again_gets_its_program():
    x, _, train = build()
    random = np.random.RandomState(1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(5):  # of which the first four are interpreted
            session.run(train, {x: random.randn(3, 6, 4)})
        before = compilations().count
        for length in (4, 5, 4, 5):
            session.run(train, {x: random.randn(3, length, 4)})
        assert compilations().count == before
        prepared = session._prepared.values()
        step = next(p.step for p in prepared if p.step._shapes and p.step._compiled)
        deadline = time.monotonic() + 120
        while not step._shapes.has_program(((3, 4, 4),)):
            assert time.monotonic() < deadline
            session.run(train, {x: random.randn(3, 4, 4)})
        step._shapes._at_work.join(60)
        before = compilations().count
        session.run(train, {x: random.randn(3, 4, 4)})
        assert compilations().count == before


class TestVaryingShapes:
    ONE, OTHER = ((1,),), ((2,),)

    def test_the_first_shape_is_compiled_at_once(self):
        shapes = VaryingShapes()
        assert not shapes.is_interpreted(self.ONE, None)
        shapes.note_program(self.ONE)
        assert shapes.has_program(self.ONE) and not shapes.has_program(self.OTHER)

    def test_the_third_run_of_another_shape_starts_the_compiler(self):
        shapes = VaryingShapes()
        shapes.note_program(self.ONE)
        done, called = threading.Event(), threading.Event()

        def compile():
            called.set()
            done.wait(10)

        for _ in range(2):
            assert shapes.is_interpreted(self.OTHER, compile)
        assert not called.is_set()
        assert shapes.is_interpreted(self.OTHER, compile)
        assert called.wait(10)
        assert shapes.is_interpreted(self.OTHER, compile)
        done.set()
        shapes._at_work.join(10)
        assert shapes.has_program(self.OTHER)
        assert not shapes.is_interpreted(self.OTHER, compile)

    def test_what_cannot_be_compiled_ahead_is_compiled_by_the_third_run(self):
        shapes = VaryingShapes()
        shapes.note_program(self.ONE)
        assert [shapes.is_interpreted(self.OTHER, None) for _ in range(3)] == [True, True, False]

    def test_a_compiler_that_fails_leaves_the_error_to_a_run(self):
        shapes = VaryingShapes()
        shapes.note_program(self.ONE)
        for _ in range(3):
            shapes.is_interpreted(self.OTHER, lambda: 1 / 0)
        shapes._at_work.join(10)
        assert not shapes.is_interpreted(self.OTHER, None)


@pytest.mark.parametrize("shape, dtype", [((70, 90), np.float32), ((3, 4), np.float64)])
def test_products_of_the_interpreter(shape, dtype):
    random = np.random.RandomState(2)
    a, b = random.randn(*shape).astype(dtype), random.randn(*shape).astype(dtype)
    with tf.Session() as session:
        for flags in ((False, True), (True, False)):
            first, second = tf.placeholder(dtype, shape), tf.placeholder(dtype, shape)
            product = tf.matmul(first, second, *flags)
            value = session.run(product, {first: a, second: b})
            expected = (a.T if flags[0] else a).astype(np.float64) @ (b.T if flags[1] else b)
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_the_first_run_gives_the_bits_of_later_ones():
    """The first run is interpreted, later ones are compiled: sums and products are made by the same kernels."""
    random = np.random.RandomState(0)
    x = tf.placeholder(tf.float32, [64, 1000])
    w1 = tf.constant(random.randn(1000, 100).astype(np.float32))
    w2 = tf.constant(random.randn(100, 1000).astype(np.float32))
    y = tf.matmul(tf.maximum(tf.matmul(x, w1), 0), w2) - x
    loss = tf.reduce_mean(tf.reduce_sum(y**2, axis=1))
    batch = random.randn(64, 1000)
    with tf.Session() as session:
        assert len({float(session.run(loss, {x: batch})) for _ in range(4)}) == 1
