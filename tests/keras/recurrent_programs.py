"""Keras' recurrent cells and layers, whose values and gradients are compared with TensorFlow's: `tf` is either of the two.

This file also runs under Python 3.7. The programs are as those of tests/api/rnn_programs.py, which evaluates them.
"""

PROGRAMS = {}


def _define(name):
    def file(function):
        PROGRAMS[name] = function
        return function

    return file


def _cells(tf):
    layers = tf.keras.layers
    return {
        "simple": lambda: layers.SimpleRNNCell(6),
        "simple_plain": lambda: layers.SimpleRNNCell(6, activation=None, use_bias=False),
        "gru": lambda: layers.GRUCell(5),
        "gru_after": lambda: layers.GRUCell(5, reset_after=True, recurrent_activation="sigmoid"),
        "gru_2": lambda: layers.GRUCell(5, activation="relu", use_bias=False, implementation=2),
        "lstm": lambda: layers.LSTMCell(5),
        "lstm_2": lambda: layers.LSTMCell(
            5, activation="softsign", unit_forget_bias=False, implementation=2
        ),
        "stacked": lambda: layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(4)]),
        "tensorflows": lambda: tf.nn.rnn_cell.GRUCell(4),
    }


CELLS = "simple simple_plain gru gru_after gru_2 lstm lstm_2 stacked".split()
for _cell in CELLS:

    @_define("rnn/" + _cell)
    def _rnn(tf, x, lengths, cell=_cell):
        layer = tf.keras.layers.RNN(_cells(tf)[cell](), return_sequences=True, return_state=True)
        return layer(x)


for _cell in ("simple", "stacked"):

    @_define("dynamic_rnn/" + _cell)
    def _dynamic(tf, x, lengths, cell=_cell):
        return tf.nn.dynamic_rnn(_cells(tf)[cell](), x, lengths, dtype=tf.float32)


@_define("rnn/of_tensorflow")
def _of_tensorflow(tf, x, lengths):
    return tf.keras.layers.RNN(_cells(tf)["tensorflows"](), return_state=True)(x)


@_define("layers/simple_backwards")
def _simple_backwards(tf, x, lengths):
    return tf.keras.layers.SimpleRNN(4, go_backwards=True, name="mine")(x)


@_define("layers/masked")
def _masked(tf, x, lengths):
    mask = tf.sequence_mask(lengths, tf.shape(x)[1])
    layers = tf.keras.layers
    first = layers.GRU(4, return_sequences=True, return_state=True)(x, mask=mask)
    second = layers.LSTM(3, return_sequences=True, zero_output_for_mask=True)(first[0], mask=mask)
    return first, second, layers.SimpleRNN(2, go_backwards=True)(second, mask=mask)


@_define("layers/initial_state")
def _initial_state(tf, x, lengths):
    state = [tf.ones([3, 4]), x[:, 0] * 0.5]
    return tf.keras.layers.LSTM(4, return_state=True)(x, initial_state=state)


@_define("layers/time_major")
def _time_major(tf, x, lengths):
    turned = tf.transpose(x, [1, 0, 2])
    return tf.keras.layers.RNN(_cells(tf)["gru"](), time_major=True, return_sequences=True)(turned)


@_define("layers/unrolled")
def _unrolled(tf, x, lengths):
    x = x[:, :3]
    x.set_shape([3, 3, 4])
    mask = tf.sequence_mask(lengths, 3)
    layers = tf.keras.layers
    first = layers.LSTM(4, unroll=True, return_sequences=True, go_backwards=True)(x)
    return first, layers.GRU(3, unroll=True)(first, mask=mask)
