"""Recurrent networks against TensorFlow's answers; cells as layers; loops that must be programs; what is refused."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api.rnn_programs import PROGRAMS, evaluate

with np.load(Path(__file__).parent.parent / "data" / "rnn.npz") as _file:
    ANSWERS = dict(_file)


@pytest.mark.parametrize("key", PROGRAMS)
def test_program(key):
    """Names, and values and gradients when interpreted, when compiled, and with another number of steps."""
    names, runs = evaluate(tf, PROGRAMS[key])
    assert names == ANSWERS[f"{key}/names"].tolist()
    for number, arrays in enumerate(runs):
        assert f"{key}/{number}/{len(arrays)}" not in ANSWERS
        for i, array in enumerate(arrays):
            expected = ANSWERS[f"{key}/{number}/{i}"]
            assert array.dtype == expected.dtype
            np.testing.assert_allclose(
                array, expected, rtol=2e-4, atol=2e-5, err_msg=f"run {number}, output {i}"
            )


# ---- cells as layers


def test_initial_values_and_sharing():
    """Gates' biases begin as TensorFlow's; a cell called again, or one that reuses, shares its variables."""
    x = tf.ones([2, 3])
    gru = tf.nn.rnn_cell.GRUCell(4)
    lstm = tf.nn.rnn_cell.BasicLSTMCell(4, name="mine")
    with tf.variable_scope("a"):
        _, state = gru(x, gru.zero_state(2, tf.float32))
        gru(x, state)
        lstm(x, lstm.zero_state(2, tf.float32))
        again = tf.nn.rnn_cell.BasicLSTMCell(4, name="mine", reuse=True)
        again(x, again.zero_state(2, tf.float32))
        other = tf.nn.rnn_cell.BasicLSTMCell(4, name="mine")
        other(x, lstm.zero_state(2, tf.float32))
    assert [v.name for v in gru.weights] == [
        "a/gru_cell/gates/kernel:0",
        "a/gru_cell/gates/bias:0",
        "a/gru_cell/candidate/kernel:0",
        "a/gru_cell/candidate/bias:0",
    ]
    assert again.weights[0] is lstm.weights[0] and lstm.scope_name == "a/mine"
    assert other.scope_name == "a/mine_1"
    assert (gru.dtype, gru.built, gru.count_params()) == ("float32", True, 7 * 8 + 8 + 7 * 4 + 4)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        gates, candidate, lstm_bias = session.run([gru.weights[1], gru.weights[3], lstm.weights[1]])
    assert gates.tolist() == [1.0] * 8 and not candidate.any() and not lstm_bias.any()


def test_custom_getter_decides_what_is_trained():
    """A getter that makes variables untrainable is heard."""

    def getter(getter, *args, **kwargs):
        kwargs["trainable"] = False
        return getter(*args, **kwargs)

    with tf.variable_scope("s", custom_getter=getter):
        cell = tf.nn.rnn_cell.BasicRNNCell(2)
        cell(tf.ones([1, 2]), tf.ones([1, 2]))
    assert cell.trainable_variables == [] and len(cell.non_trainable_variables) == 2
    assert tf.trainable_variables() == []


CONFIGS = [
    lambda c: c.BasicRNNCell(3, activation="relu", name="x"),
    lambda c: c.GRUCell(3, kernel_initializer=tf.constant_initializer(2.0)),
    lambda c: c.BasicLSTMCell(3, forget_bias=0.5),
    lambda c: c.LSTMCell(3, use_peepholes=True, num_proj=2, initializer="zeros", dtype="float64"),
]


@pytest.mark.parametrize("make", CONFIGS)
def test_configurations(make):
    """A cell made of a cell's configuration has the same one."""
    cell = make(tf.nn.rnn_cell)
    config = cell.get_config()
    assert type(cell).from_config(config).get_config() == config
    assert config["num_units"] == 3


def test_wrapped_configurations():
    cell = tf.nn.rnn_cell.DropoutWrapper(tf.nn.rnn_cell.GRUCell(3), 0.5, seed=1)
    config = cell.get_config()
    assert config["cell"]["class_name"] == "GRUCell" and config["input_keep_prob"] == 0.5
    with pytest.raises(ValueError, match="cannot reconstruct"):
        type(cell).from_config(config)
    config["cell"] = cell.wrapped_cell
    assert type(cell).from_config(config).wrapped_cell is cell.wrapped_cell


def test_regularizers_and_activity():
    """A layer's losses: of its weights once, of its outputs each call; both in the collection."""

    class Scale(tf.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight("w", shape[1:], regularizer=lambda v: tf.reduce_sum(v) * 0.5)

        def call(self, x):
            return x * self.w

    layer = Scale(activity_regularizer=lambda y: tf.reduce_sum(y))
    layer(tf.ones([2, 3]))
    y = tf.ones([2, 3])
    layer(y)
    assert len(layer.losses) == 3 == len(tf.get_collection("regularization_losses"))
    assert layer.get_losses_for(None) == layer.losses[:1]
    assert layer.get_losses_for(y) == layer.losses[2:]
    with tf.Session() as session:
        session.run(layer.w.assign([1.0, 2.0, 3.0]))
        assert session.run(layer.losses) == [3.0, 6.0, 6.0]  # of outputs: means over the batch


# ---- loops are programs


@pytest.mark.parametrize("with_lengths", [False, True])
def test_training_step_is_one_program(with_lengths):
    """Forward and backward loops, with lists of what was kept, compile into a single island."""
    x = tf.placeholder(tf.float32, [2, None, 3])
    lengths = tf.placeholder(tf.int32, [2])
    cell = tf.nn.rnn_cell.LSTMCell(4)
    outputs, _ = tf.nn.dynamic_rnn(
        cell, x, sequence_length=lengths if with_lengths else None, dtype=tf.float32
    )
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(outputs))
    data = np.ones((2, 6, 3), np.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(train, {x: data, lengths: [6, 2]})
        trained = max((p.step for p in session._prepared.values()), key=lambda s: len(s.ops))
        assert len(trained.split.segments) == 1 and not trained.programs.not_compilable


# ---- what is refused

REFUSED = [
    (lambda c: tf.nn.dynamic_rnn(None, tf.ones([1, 2, 3])), TypeError, "is not an RNNCell"),
    (lambda c: tf.nn.dynamic_rnn(c, tf.ones([1, 2, 3])), ValueError, "must give a dtype"),
    (
        lambda c: tf.nn.dynamic_rnn(c, tf.placeholder(tf.float32, [1, 2, None]), dtype="float32"),
        ValueError,
        "depth of inputs",
    ),
    (
        lambda c: tf.nn.dynamic_rnn(c, tf.ones([1, 2, 3]), [[1]], dtype=tf.float32),
        ValueError,
        "must be a vector",
    ),
    (lambda c: tf.nn.static_rnn(c, tf.ones([1, 2]), dtype=tf.float32), TypeError, "be a sequence"),
    (lambda c: tf.nn.static_rnn(c, [], dtype=tf.float32), ValueError, "not be empty"),
    (lambda c: tf.nn.raw_rnn(c, 3), TypeError, "loop_fn must be a callable"),
    (lambda c: c(tf.ones([2, 3, 4]), tf.ones([2, 3])), ValueError, "expected ndim=2, found ndim=3"),
    (lambda c: c(tf.ones([2, 3], tf.int32), tf.ones([2, 3])), ValueError, "only supports floating"),
    (lambda c: c.scope_name, ValueError, "has not been used yet"),
    (lambda c: tf.nn.rnn_cell.GRUCell(3, units=2), TypeError, "not understood"),
    (lambda c: tf.nn.rnn_cell.GRUCell(3, activation="wrong"), ValueError, "Unknown activation"),
    (lambda c: tf.nn.rnn_cell.MultiRNNCell([]), ValueError, "at least one cell"),
    (lambda c: tf.nn.rnn_cell.DropoutWrapper(c, 1.5), ValueError, "between 0 and 1"),
    (
        lambda c: tf.nn.rnn_cell.DropoutWrapper(c, variational_recurrent=True),
        ValueError,
        "dtype must be provided",
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number):
    call, error, words = REFUSED[number]
    with pytest.raises(error, match=words):
        call(tf.nn.rnn_cell.GRUCell(3))


def test_lengths_that_do_not_fit_the_batch():
    """A sequence_length for another batch size is an error when the graph runs."""
    x = tf.placeholder(tf.float32, [None, None, 2])
    lengths = tf.placeholder(tf.int32, [None])
    outputs, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(2), x, lengths, dtype=tf.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected shape for Tensor"):
                session.run(outputs, {x: np.ones((2, 3, 2)), lengths: [1, 2, 3]})
            assert session.run(outputs, {x: np.ones((2, 3, 2)), lengths: [1, 2]}).shape == (2, 3, 2)
