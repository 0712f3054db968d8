"""ConfigProto's options that save memory: gradients from values that are computed again."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboard.compat.proto import rewriter_config_pb2

import headrace as tf

OPTIONS = rewriter_config_pb2.RewriterConfig
FULL = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
ROWS, UNITS, DEPTH = 512, 32, 16


def config(budget=None, **options):
    made = tf.ConfigProto()
    rewrite = made.graph_options.rewrite_options
    for name, value in options.items():
        setattr(rewrite, name, value)
    if budget is not None:
        rewrite.custom_optimizers.add(name="rematerialize").parameter_map["budget_bytes"].i = budget
    return made


def stack(dropout=False, marks=False):
    """(fetches, feed) of a training step of a deep stack with residual connections."""
    x = tf.placeholder(tf.float32, [ROWS, UNITS])
    h = x
    for i in range(6 if dropout else DEPTH):
        w = tf.Variable(tf.random_normal([UNITS, UNITS], seed=i) * 0.2)
        with tf.name_scope(f"block{i}"):
            inner = tf.tanh(tf.matmul(h, w))
            inner = tf.exp(-inner * inner)
            if dropout:
                inner = tf.nn.dropout(inner, rate=0.3, seed=i)
            h = h + tf.sin(inner)
    if marks:
        for op in tf.get_default_graph().get_operations():
            if op.type in ("Tanh", "Exp", "Sin", "Mul", "Neg", "MatMul"):
                op._set_attr("_recompute_hint", tf.AttrValue(i=1))
    loss = tf.reduce_mean(h * h)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    return [loss, train], {x: np.random.RandomState(0).randn(ROWS, UNITS)}


def run(config, steps=3, **kwargs):
    """(losses, temporary bytes of the program)."""
    with tf.Graph().as_default(), tf.Session(config=config) as sess:
        tf.set_random_seed(1)
        fetches, feed = stack(**kwargs)
        sess.run(tf.global_variables_initializer())
        losses = [sess.run(fetches, feed)[0] for _ in range(steps)]
        metadata = tf.RunMetadata()
        losses.append(sess.run(fetches, feed, options=FULL, run_metadata=metadata)[0])
        nodes = metadata.step_stats.dev_stats[0].node_stats
        return losses, sum(n.memory_stats.temp_memory_size for n in nodes)


def test_heuristics_take_half_the_memory():
    losses, plain = run(None)
    for options in ("RECOMPUTATION_HEURISTICS", "HEURISTICS"):
        again, less = run(config(memory_optimization=options))
        np.testing.assert_allclose(again, losses, rtol=1e-5)
        assert less < 0.5 * plain
    # Gradients that are not in this scope are left alone.
    elsewhere = config(
        memory_optimization="RECOMPUTATION_HEURISTICS",
        memory_optimizer_target_node_name_scope="nowhere/",
    )
    assert run(elsewhere)[1] == plain


def test_what_was_dropped_is_dropped_again():
    losses, plain = run(None, dropout=True)
    again, less = run(config(memory_optimization="RECOMPUTATION_HEURISTICS"), dropout=True)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    assert less < 0.7 * plain


def test_a_budget_takes_what_it_may():
    value = ROWS * UNITS * 4
    _, plain = run(None)
    found = [run(config(budget))[1] for budget in (0, 40 * value, 10**9)]
    assert found == sorted(found) and found[0] < 0.5 * plain and found[-1] == plain
    assert found[0] < found[1] < plain


def test_marked_operations_are_computed_again():
    manual = config(memory_optimization="MANUAL")
    losses, plain = run(manual)
    again, less = run(manual, marks=True)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    assert less < 0.7 * plain


def test_unknown_parameters_are_refused():
    wrong = config(5)
    wrong.graph_options.rewrite_options.custom_optimizers[0].parameter_map["bytes"].i = 3
    with pytest.raises(ValueError, match="has the parameter 'budget_bytes', got bytes"):
        tf.Session(config=wrong)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        tf.Session(config=config(-1))
