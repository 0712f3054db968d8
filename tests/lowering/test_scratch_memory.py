"""How much scratch memory the program of a training step takes: activations once, and little beside them."""

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.lowering.jax_adapter import x64

ROWS, WIDTH, LAYERS = 512, 128, 8
ACTIVATION = 4 * ROWS * WIDTH


def dense(x):
    """One array is kept of each layer."""
    for _ in range(LAYERS):
        w = tf.Variable(tf.random_normal([WIDTH, WIDTH]))
        x = tf.tanh(tf.matmul(x, w))
    return x, LAYERS


def dropout(x):
    """Of each layer what the dropout gave, and which elements it kept."""
    for _ in range(LAYERS):
        w = tf.Variable(tf.random_normal([WIDTH, WIDTH]))
        x = tf.nn.dropout(tf.tanh(tf.matmul(x, w)), rate=0.25)
    return x, 2.25 * LAYERS


def attention(x):
    """Heads of 32, sequences of 64: queries, keys, values and their transposes, scores, weights, mixture and its transpose."""
    for _ in range(LAYERS // 4):
        w = tf.Variable(tf.random_normal([WIDTH, 3 * WIDTH]))
        q, k, v = [
            tf.transpose(tf.reshape(part, [ROWS // 64, 64, WIDTH // 32, 32]), [0, 2, 1, 3])
            for part in tf.split(tf.matmul(x, w), 3, 1)
        ]
        weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
        mixed = tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3])
        x = x + tf.reshape(mixed, [ROWS, WIDTH])
    scores = 64 / 32  # in activations
    return x, (LAYERS // 4) * (3 + 3 + 2 * scores + 2)


@pytest.mark.parametrize("model", [dense, dropout, attention])
def test_a_training_step_keeps_its_activations_once(model):
    x = tf.placeholder(tf.float32, [ROWS, WIDTH])
    y, kept = model(x)
    step = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(tf.square(y)))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        fed = np.ones((ROWS, WIDTH), np.float32)
        for _ in range(6):
            sess.run(step, {x: fed})
        plan = next(p.step for p in sess._prepared.values() if x in p.step.feeds)
        (island,) = plan.programs.islands.values()
        with x64():
            arguments = island.arguments(lambda key, _: plan.resources.cell(key).value, (fed,))
            donated = arguments[0]
            program, _ = island.program([])
            lowered = program.lower(*arguments)
        memory = lowered.compile().memory_analysis()
    assert isinstance(donated[0], jax.Array)
    # Gradients on their way, and those of the weights.
    beside = 6 * ACTIVATION + sum(v.nbytes for v in donated)
    assert memory.temp_size_in_bytes < kept * ACTIVATION + beside
    # What is written lies where the old values lay.
    assert memory.alias_size_in_bytes >= sum(v.nbytes for v in donated)
