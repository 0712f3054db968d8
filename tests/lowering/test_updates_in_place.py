"""The program of a training step changes variables where they lie: XLA copies none, to read the old value later."""

import re

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.lowering.jax_adapter import x64

ROWS, WIDTH, WORDS = 64, 64, 256  # large enough for products by kernels, and not to be bundled


def dense():
    x = tf.placeholder(tf.float32, [ROWS, WIDTH])
    out = x
    for _ in range(3):
        w = tf.Variable(tf.random_normal([WIDTH, WIDTH], stddev=0.1, seed=1))
        out = tf.nn.relu(tf.matmul(out, w))
    return x, np.ones((ROWS, WIDTH), np.float32), out


def checked():
    """The program may fail (of an index out of range), and must then leave the old values."""
    rows = tf.placeholder(tf.int32, [ROWS])
    table = tf.constant(np.ones((WORDS, WIDTH), np.float32))
    out = tf.gather(table, rows)
    for _ in range(3):
        w = tf.Variable(tf.random_normal([WIDTH, WIDTH], stddev=0.1, seed=1))
        out = tf.nn.relu(tf.matmul(out, w))
    return rows, np.arange(ROWS, dtype=np.int32), out


def by_hand(loss):
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    return tf.group(*(tf.assign_sub(v, 0.1 * g) for v, g in zip(variables, gradients)))


STEPS = {
    "descent": lambda loss: tf.train.GradientDescentOptimizer(0.1).minimize(loss),
    "momentum": lambda loss: tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss),
    "adam": lambda loss: tf.train.AdamOptimizer(0.1).minimize(loss),
    "rms": lambda loss: tf.train.RMSPropOptimizer(0.1).minimize(loss),
    "by_hand": by_hand,
}


def compiled(session, fed, values):
    """The text of the program of the last step, and how many buffers are donated to it."""
    plan = next(p.step for p in session._prepared.values() if fed in p.step.feeds)
    (island,) = plan.programs.islands.values()
    with x64():
        arguments = island.arguments(lambda key, _: plan.resources.cell(key).value, (values,))
        program, _ = island.program([])
        text = program.lower(*arguments).compile().as_text()
    return text, len(jax.tree.leaves(arguments[0]))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("model", [dense, checked])
def test_no_variable_is_copied(model, step):
    fed, values, out = model()
    loss = tf.reduce_mean(tf.square(out))
    train = STEPS[step](loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run([train, loss], {fed: values})
        text, count = compiled(session, fed, values)
    entry = text[text.index("\nENTRY ") :]
    donated = re.findall(rf"%(\S+) = f32\[{WIDTH},{WIDTH}\]\S* parameter\((\d+)\)", entry)
    names = {name for name, number in donated if int(number) < count}
    assert len(names) in (3, 6, 9)
    copied = re.findall(r" copy\(%([^)\s]+)\)", entry)
    assert not names & set(copied)


def test_a_failed_step_leaves_every_variable_as_it_was():
    rows, values, out = checked()
    loss = tf.reduce_mean(tf.square(out))
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(train, {rows: values})
        before = session.run(tf.global_variables())
        wrong = values.copy()
        wrong[3] = WORDS
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(train, {rows: wrong})
        for old, now in zip(before, session.run(tf.global_variables()), strict=True):
            np.testing.assert_array_equal(now, old)
        session.run(train, {rows: values})
        after = session.run(tf.trainable_variables())
        assert all(np.any(a != b) for a, b in zip(after, before))


def test_what_is_read_between_two_updates_is_the_value_between_them():
    w = tf.Variable(np.ones((WIDTH, WIDTH), np.float32))
    x = tf.placeholder(tf.float32, [ROWS, WIDTH])
    first = tf.assign_add(w, tf.matmul(x, x))
    with tf.control_dependencies([first]):
        between = tf.identity(w.read_value()) * 2.0
        second = tf.assign_sub(w, between)
    with tf.Session() as session:
        values = np.eye(WIDTH, dtype=np.float32)
        expected = np.ones_like(values)
        session.run(w.initializer)
        for _ in range(3):
            seen, _ = session.run([between, second.op], {x: values})
            expected = expected + values
            np.testing.assert_allclose(seen, 2 * expected)
            expected = -expected
            np.testing.assert_allclose(session.run(w), expected)
