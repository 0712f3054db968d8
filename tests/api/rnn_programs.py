"""Recurrent networks whose variables, values and gradients are compared with TensorFlow's: `tf` is either of the two.

This file also runs under Python 3.7. A program builds a network on the placeholders `x` [batch, time, depth] and `lengths` and
returns its tensors, floats first; the gradients of the sum of squares of the floats for `x` and all variables are compared too.
"""

import numpy as np

_rng = np.random.RandomState(7)
BATCH, TIME, DEPTH, UNITS = 3, 5, 4, 6
X = _rng.randn(BATCH, TIME, DEPTH).astype(np.float32)
# The second batch has another time: what was compiled for the first does not fit.
FEEDS = [(X, [5, 2, 0]), (X, [3, 3, 3]), (X[:, :3], [1, 3, 2])]

PROGRAMS = {}


def _initializer(tf):
    return tf.random_uniform_initializer(-0.5, 0.5, seed=3)


def _define(name):
    def file(function):
        PROGRAMS[name] = function
        return function

    return file


def _flat(tf, *structures):
    return [t for s in structures for t in tf.nest.flatten(s)]


def _cells(tf):
    rnn = tf.nn.rnn_cell
    return {
        "basic_rnn": lambda: rnn.BasicRNNCell(UNITS),
        "basic_rnn_relu": lambda: rnn.BasicRNNCell(UNITS, activation="relu", name="named"),
        "gru": lambda: rnn.GRUCell(UNITS),
        "basic_lstm": lambda: rnn.BasicLSTMCell(UNITS),
        "basic_lstm_joined": lambda: rnn.BasicLSTMCell(
            UNITS, forget_bias=0.5, state_is_tuple=False
        ),
        "lstm": lambda: rnn.LSTMCell(UNITS),
        "lstm_all": lambda: rnn.LSTMCell(
            UNITS, use_peepholes=True, cell_clip=0.3, num_proj=3, proj_clip=0.2, forget_bias=0.7
        ),
        "lstm_joined_shards": lambda: rnn.LSTMCell(
            UNITS, num_proj=2, num_unit_shards=2, num_proj_shards=3, state_is_tuple=False
        ),
        "multi": lambda: rnn.MultiRNNCell([rnn.BasicLSTMCell(UNITS), rnn.GRUCell(2)]),
        "multi_joined": lambda: rnn.MultiRNNCell(
            [rnn.GRUCell(3), rnn.BasicRNNCell(2)], state_is_tuple=False
        ),
        "residual_fn": lambda: rnn.ResidualWrapper(rnn.GRUCell(DEPTH), lambda i, o: i * o),
        "device": lambda: rnn.DeviceWrapper(rnn.BasicLSTMCell(UNITS), "/cpu:0"),
        "dropout": lambda: rnn.DropoutWrapper(
            rnn.BasicLSTMCell(UNITS), 0.5, 0.6, state_keep_prob=0.7, seed=11
        ),
        "dropout_variational": lambda: rnn.DropoutWrapper(
            rnn.BasicLSTMCell(UNITS), 0.5, 0.6, 0.7, True, DEPTH, tf.float32, seed=11
        ),
    }


CELLS = (
    "basic_rnn basic_rnn_relu gru basic_lstm basic_lstm_joined lstm lstm_all lstm_joined_shards multi multi_joined "
    "residual_fn device dropout dropout_variational"
).split()
for _cell in CELLS:

    @_define("dynamic/" + _cell)
    def _dynamic(tf, x, lengths, cell=_cell):
        # TensorFlow's iterations overlap: its random numbers come in order only one by one.
        return tf.nn.dynamic_rnn(
            _cells(tf)[cell](), x, lengths, dtype=tf.float32, parallel_iterations=1
        )


@_define("dynamic/no_lengths")
def no_lengths(tf, x, lengths):
    return tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(UNITS), x, dtype=tf.float32)


@_define("dynamic/time_major")
def time_major(tf, x, lengths):
    cell = tf.nn.rnn_cell.BasicLSTMCell(UNITS)
    state = cell.zero_state(BATCH, tf.float32)
    start = tf.nn.rnn_cell.LSTMStateTuple(state.c + 0.5, state.h - 0.25)
    x = tf.transpose(x, [1, 0, 2])
    return tf.nn.dynamic_rnn(
        cell, x, lengths, initial_state=start, time_major=True, swap_memory=True, scope="scope"
    )


@_define("bidirectional")
def bidirectional(tf, x, lengths):
    rnn = tf.nn.rnn_cell
    return tf.nn.bidirectional_dynamic_rnn(
        rnn.GRUCell(UNITS), rnn.BasicRNNCell(2), x, sequence_length=lengths, dtype=tf.float32
    )


@_define("raw")
def raw(tf, x, lengths):
    cell = tf.nn.rnn_cell.LSTMCell(UNITS)
    array = tf.TensorArray(tf.float32, size=tf.shape(x)[1]).unstack(tf.transpose(x, [1, 0, 2]))

    def loop_fn(time, output, state, loop_state):
        if output is None:
            state, emit = cell.zero_state(BATCH, tf.float32), None
            loop_state = tf.constant(0)
        else:
            emit, loop_state = output, loop_state + time
        finished = time >= lengths
        now = tf.cond(
            tf.reduce_all(finished), lambda: tf.zeros([BATCH, DEPTH]), lambda: array.read(time)
        )
        return finished, now, state, emit, loop_state

    outputs, state, loop_state = tf.nn.raw_rnn(cell, loop_fn)
    return outputs.stack(), state, loop_state


def _steps(tf, x):
    return tf.unstack(x[:, :3], num=3, axis=1)


@_define("static")
def static(tf, x, lengths):
    return tf.nn.static_rnn(tf.nn.rnn_cell.BasicLSTMCell(UNITS), _steps(tf, x), dtype=tf.float32)


@_define("static_lengths")
def static_lengths(tf, x, lengths):
    return tf.nn.static_rnn(
        tf.nn.rnn_cell.LSTMCell(UNITS), _steps(tf, x), dtype=tf.float32, sequence_length=lengths
    )


@_define("static_bidirectional")
def static_bidirectional(tf, x, lengths):
    rnn = tf.nn.rnn_cell
    return tf.nn.static_bidirectional_rnn(
        rnn.GRUCell(UNITS),
        rnn.GRUCell(2),
        _steps(tf, x),
        dtype=tf.float32,
        sequence_length=tf.minimum(lengths, 3),
    )


@_define("contrib")
def contrib(tf, x, lengths):
    rnn = tf.contrib.rnn
    one = rnn.LayerNormBasicLSTMCell(UNITS, norm_gain=0.9)
    two = rnn.OutputProjectionWrapper(rnn.LSTMBlockCell(3, use_peephole=True, cell_clip=0.4), 2)
    three = rnn.InputProjectionWrapper(rnn.GRUBlockCell(3), 5, activation=tf.tanh)
    cell = rnn.MultiRNNCell([one, two, three])
    first = tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32, scope="first")
    fw, bw = [rnn.GRUBlockCellV2(2), rnn.GRUCell(3)], [rnn.GRUCell(2), rnn.BasicRNNCell(3)]
    return first, rnn.stack_bidirectional_dynamic_rnn(fw, bw, x, dtype=tf.float32)


@_define("own_cell")
def own_cell(tf, x, lengths):
    class Counting(tf.nn.rnn_cell.RNNCell):
        """Makes its variables with get_variable; nested sizes."""

        state_size = (UNITS, tf.TensorShape([]))
        output_size = (UNITS, tf.TensorShape([2, 2]))

        def call(self, inputs, state):
            h, count = state
            kernel = tf.get_variable("own", [DEPTH, UNITS])
            fixed = tf.get_variable("fixed", [], trainable=False)
            h = tf.tanh(tf.matmul(inputs, kernel) + h) * fixed
            square = tf.reshape(h[:, :4], [-1, 2, 2])
            return (h, square), (h, count + 1)

    cell = Counting()
    result = tf.nn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float32)
    assert len(cell.trainable_weights) == 1 and len(cell.non_trainable_weights) == 1
    return result


def evaluate(tf, function, feeds=FEEDS):
    """([names of variables and of the first outputs], [[arrays of one run], ...])."""
    with tf.Graph().as_default():
        tf.set_random_seed(5)
        x = tf.placeholder(tf.float32, [BATCH, None, DEPTH])
        lengths = tf.placeholder(tf.int32, [BATCH])
        with tf.variable_scope("net", initializer=_initializer(tf)):
            outputs = _flat(tf, function(tf, x, lengths))
        floats = [t for t in outputs if t.dtype.is_floating]
        variables = [v for v in tf.global_variables()]
        trained = tf.trainable_variables()
        loss = tf.add_n([tf.reduce_sum(tf.square(t)) for t in floats])
        grads = [g for g in tf.gradients(loss, [x, *trained]) if g is not None]
        names = [v.name for v in variables] + [t.name for t in trained]
        names += [str(t.shape.as_list()) for t in outputs]
        runs = []
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            # Values to begin with that do not depend on the initializers of either.
            for number, v in enumerate(variables):
                shape = v.shape.as_list()
                values = np.random.RandomState(number).uniform(-0.5, 0.5, shape)
                v.load(values.astype(np.float32), session)
            for data, sizes in feeds:
                runs.append(session.run(outputs + grads, {x: data, lengths: sizes}))
        return names, runs
