"""Keras' recurrent layers against TensorFlow's answers; states, dropout, configurations, weights, what is refused."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api.rnn_programs import FEEDS, evaluate
from tests.keras.recurrent_programs import PROGRAMS

with np.load(Path(__file__).parent.parent / "data" / "keras_recurrent.npz") as _file:
    ANSWERS = dict(_file)


@pytest.mark.parametrize("key", PROGRAMS)
def test_program(key):
    """Names, and values and gradients when interpreted and when compiled."""
    names, runs = evaluate(tf, PROGRAMS[key], FEEDS[:2])
    assert names == ANSWERS[f"{key}/names"].tolist()
    for number, arrays in enumerate(runs):
        assert f"{key}/{number}/{len(arrays)}" not in ANSWERS
        for i, array in enumerate(arrays):
            expected = ANSWERS[f"{key}/{number}/{i}"]
            assert array.dtype == expected.dtype
            np.testing.assert_allclose(
                array, expected, rtol=2e-4, atol=2e-5, err_msg=f"run {number}, output {i}"
            )


def _ones(*shape):
    return np.ones(shape, np.float32)


def test_a_stateful_layer_goes_on_where_it_ended():
    """Its updates keep the states; `reset_states` sets them."""
    layer = tf.keras.layers.GRU(3, stateful=True)
    x = tf.keras.Input(batch_shape=(2, 4, 5))
    y = layer(x)
    half = tf.keras.layers.RNN(layer.cell)(x)
    session = tf.keras.backend.get_session()
    first = session.run([y, half, layer.updates], {x: _ones(2, 4, 5)})
    np.testing.assert_array_equal(first[0], first[1])
    second = session.run(y, {x: _ones(2, 4, 5)})
    assert np.abs(second - first[0]).max() > 1e-4
    layer.reset_states()
    np.testing.assert_allclose(session.run(y, {x: _ones(2, 4, 5)}), first[0], rtol=1e-4)
    layer.reset_states([first[0]])
    np.testing.assert_allclose(session.run(y, {x: _ones(2, 4, 5)}), second, rtol=1e-4)
    with pytest.raises(ValueError, match="State 0 is incompatible"):
        layer.reset_states([_ones(3, 3)])
    with pytest.raises(AttributeError, match="must be stateful"):
        tf.keras.layers.GRU(3).reset_states()


@pytest.mark.parametrize("implementation", [1, 2])
def test_dropout_is_the_same_in_all_steps_and_for_training_only(implementation):
    """With inputs and kernels that show what was dropped."""
    layer = tf.keras.layers.LSTM(
        50,
        activation="linear",
        recurrent_activation=lambda x: x,
        kernel_initializer=tf.zeros_initializer(),
        recurrent_initializer="zeros",
        dropout=0.5,
        recurrent_dropout=0.5,
        implementation=implementation,
        return_sequences=True,
    )
    layer.cell.kernel_initializer = lambda shape, dtype=None: tf.tile(
        tf.eye(50, dtype=dtype), [1, 4]
    )
    x = tf.keras.Input((3, 50))
    y = layer(x)
    session = tf.keras.backend.get_session()
    still = session.run(y, {x: _ones(2, 3, 50)})
    assert (still != 0).all()
    phase = tf.keras.backend.learning_phase()
    trained, again = (session.run(y, {x: _ones(2, 3, 50), phase: True}) for _ in range(2))
    dropped = trained[:, 0] == 0
    share = dropped.mean()
    assert (0.3 < share < 0.7) if implementation == 2 else (0.6 < share)
    assert (trained[:, 1:][:, :, :] == 0).any() and (trained != again).any()
    if implementation == 2:
        assert ((trained[:, 2] == 0) >= dropped).all()


def test_weights_and_configurations():
    """Weights are set and read without a session of the program's own; a configuration makes an equal layer."""
    layers = tf.keras.layers
    regular = lambda w: tf.reduce_sum(tf.square(w))  # noqa: E731
    made = layers.LSTM(2, return_sequences=True, name="mine", kernel_regularizer=regular)
    x = tf.keras.Input((None, 3), batch_size=2)
    made(x)
    assert [w.name for w in made.weights] == [
        "mine/kernel:0",
        "mine/recurrent_kernel:0",
        "mine/bias:0",
    ]
    values = made.get_weights()
    assert values[2].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(values[1] @ values[1].T, np.eye(2), atol=1e-6)
    assert len(made.losses) == 1 and made.units == 2 and made.recurrent_dropout == 0.0
    made.set_weights([w + 1 for w in values])
    np.testing.assert_array_equal(made.get_weights()[0], values[0] + 1)
    assert made.compute_output_shape((2, 7, 3)).as_list() == [2, 7, 2]
    made.trainable = False
    assert made.trainable_weights == [] and len(made.non_trainable_weights) == 3
    for layer in (
        layers.GRU(3, reset_after=True, dropout=0.25),
        layers.SimpleRNN(3, activation="hard_sigmoid", return_state=True),
        layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.GRUCell(4)]), unroll=True),
    ):
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config


def test_refusals():
    """No cells, states that do not fit, unknown steps, masks without support."""
    layers = tf.keras.layers
    x = tf.keras.Input((None, 3))
    for make, message in (
        (lambda: layers.RNN(object()), "should have a `call`"),
        (lambda: layers.StackedRNNCells([3]), "must have a `call`"),
        (lambda: layers.LSTM(2, unroll=True)(x), "Cannot unroll"),
        (lambda: layers.GRU(2)(x, initial_state=tf.ones([2, 5])), "not compatible"),
        (lambda: layers.GRU(2, stateful=True)(x), "needs to know its batch size"),
        (
            lambda: layers.RNN(layers.GRUCell(2))(x, constants=tf.ones([2])),
            "does not support constants",
        ),
        (lambda: tf.keras.Input(), "`shape`"),
        (lambda: layers.GRUCell(2).get_initial_state(), "cannot be None"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    assert tf.keras.utils.to_categorical([[0], [2]]).tolist() == [[1, 0, 0], [0, 0, 1]]
