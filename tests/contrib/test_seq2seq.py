"""tf.contrib.seq2seq against TensorFlow 1.15: the programs of seq2seq_programs.py; what it refuses; training."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.contrib.seq2seq_programs import PROGRAMS, evaluate

ANSWERS = np.load(Path(__file__).parents[1] / "data" / "seq2seq.npz")


@pytest.mark.parametrize("key", [k for k in PROGRAMS if not k.startswith("crf")])
def test_program(key):
    check(key)


def check(key):
    names, values = evaluate(tf, PROGRAMS[key])
    assert names == ANSWERS[key + "/names"].tolist()
    for name, value in values.items():
        for i, got in enumerate(value if isinstance(value, (list, tuple)) else (value,)):
            got = got.values if hasattr(got, "values") else got
            if f"{key}/{name}.{i}" not in ANSWERS:
                # TF differs: behind a loop it tells "not connected" from a gradient of zeros.
                assert name.startswith("grad") and not got.any(), name
                continue
            wanted = ANSWERS[f"{key}/{name}.{i}"]
            assert got.dtype == wanted.dtype, name
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6, err_msg=name)


# ---- what is refused, and training


def mechanism(depth=4, batch=2):
    return tf.contrib.seq2seq.LuongAttention(depth, tf.zeros([batch, 5, depth]))


S = tf.contrib.seq2seq
REFUSED = {
    "decoder": (lambda: S.dynamic_decode(1), TypeError, "Expected decoder to be type Decoder"),
    "helper": (
        lambda: S.BasicDecoder(tf.nn.rnn_cell.GRUCell(2), 1, None),
        TypeError,
        "helper must be a Helper",
    ),
    "output layer": (
        lambda: S.BasicDecoder(
            tf.nn.rnn_cell.GRUCell(2), S.GreedyEmbeddingHelper(tf.zeros([2, 2]), [0], 1), None, 1
        ),
        TypeError,
        "output_layer must be a Layer",
    ),
    "lengths": (
        lambda: S.TrainingHelper(tf.zeros([2, 3, 4]), 3),
        ValueError,
        "Expected sequence_length to be a vector",
    ),
    "start": (
        lambda: S.GreedyEmbeddingHelper(tf.zeros([2, 2]), 0, 1),
        ValueError,
        "start_tokens must be a vector",
    ),
    "probability": (
        lambda: S.ScheduledOutputTrainingHelper(tf.zeros([1, 1, 1]), [1], tf.zeros([1, 1])),
        ValueError,
        "must be either a scalar or a vector",
    ),
    "mechanism": (
        lambda: S.AttentionWrapper(tf.nn.rnn_cell.GRUCell(2), 1),
        TypeError,
        "attention_mechanism must be",
    ),
    "layers": (
        lambda: S.AttentionWrapper(tf.nn.rnn_cell.GRUCell(2), mechanism(), [2, 3]),
        ValueError,
        "exactly one integer per attention_mechanism, saw: 2 vs 1",
    ),
    "depth": (
        lambda: mechanism()(tf.zeros([2, 3]), None),
        ValueError,
        "Incompatible or unknown inner dimensions",
    ),
    "batch": (
        lambda: S.AttentionWrapper(tf.nn.rnn_cell.GRUCell(2), mechanism()).zero_state(
            3, tf.float32
        ),
        tf.errors.InvalidArgumentError,
        "Non-matching batch sizes between the memory",
    ),
    "clone": (
        lambda: (
            S.AttentionWrapper(tf.nn.rnn_cell.GRUCell(2), mechanism())
            .zero_state(2, tf.float32)
            .clone(attention=tf.zeros([2, 3]))
        ),
        ValueError,
        "Shape mismatch",
    ),
    "coverage": (
        lambda: S.BeamSearchDecoder(
            tf.nn.rnn_cell.GRUCell(2),
            tf.zeros([4, 2]),
            [0],
            1,
            tf.zeros([2, 2]),
            2,
            coverage_penalty_weight=1.0,
        ).initialize(),
        ValueError,
        "must be 0.0 if no cell is attentional",
    ),
    "mode": (
        lambda: S.monotonic_attention(tf.zeros([1, 2]), tf.zeros([1, 2]), "soft"),
        ValueError,
        "mode must be",
    ),
    "both sums": (
        lambda: S.sequence_loss(
            tf.zeros([1, 1, 2]), tf.zeros([1, 1]), tf.zeros([1, 1]), sum_over_batch=True
        ),
        ValueError,
        "cannot be set to True at same time",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    build, error, message = REFUSED[what]
    with tf.Graph().as_default(), pytest.raises(error, match=message):
        build()


def test_gather_tree():
    ids = np.array([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]]], np.int32)
    parents = np.array([[[0, 0, 0]], [[0, 1, 1]], [[2, 1, 2]]], np.int32)
    with tf.Graph().as_default(), tf.Session() as sess:
        tree = S.gather_tree(ids, parents, [3], 10)
        assert tree.shape.as_list() == [3, 1, 3]
        assert sess.run(tree).tolist() == [[[2, 2, 2]], [[6, 5, 6]], [[7, 8, 9]]]
        assert sess.run(S.gather_tree(ids, parents, [2], 4)).tolist() == [
            [[1, 2, 2]],
            [[4, 5, 6]],
            [[4, 4, 4]],
        ]
        fed = tf.placeholder(tf.int32, [3, 1, 3])
        bad = S.gather_tree(ids, fed, [3], 10)
        for _ in range(2):  # interpreted, then compiled
            with pytest.raises(tf.errors.InvalidArgumentError, match="invalid parent id 7"):
                sess.run(bad, {fed: np.where(parents == 2, 7, parents)})


def test_training_lowers_the_loss():
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(1)
        lengths = tf.placeholder(tf.int32, [None])
        memory = tf.placeholder(tf.float32, [None, None, 4])
        cell = S.AttentionWrapper(
            tf.nn.rnn_cell.GRUCell(8), S.BahdanauAttention(8, memory, lengths), 8
        )
        batch = tf.shape(memory)[0]
        helper = S.TrainingHelper(memory, lengths)
        decoder = S.BasicDecoder(
            cell, helper, cell.zero_state(batch, tf.float32), tf.layers.Dense(3)
        )
        outputs, _, found = S.dynamic_decode(decoder, impute_finished=True)
        assert outputs.rnn_output.shape.as_list() == [None, None, 3]
        weights = tf.sequence_mask(lengths, dtype=tf.float32)
        targets = tf.cast(memory[:, :, 0] > 0, tf.int32)
        loss = S.sequence_loss(outputs.rnn_output, targets, weights)
        train = tf.train.AdamOptimizer(0.05).minimize(loss)
        sess.run(tf.global_variables_initializer())
        feed = {lengths: [3, 1], memory: np.random.RandomState(0).randn(2, 3, 4)}
        losses = [sess.run([loss, train], feed)[0] for _ in range(12)]
        assert losses[-1] < 0.3 * losses[0]
        assert sess.run(found, feed).tolist() == [3, 1]
