"""Networks as cuDNN defines them: against NumPy, against cells step by step, gradients, checkpoints, parameters."""

from __future__ import annotations

import numpy as np
import pytest

import headrace as tf
from headrace.graph import raw

cudnn = tf.contrib.cudnn_rnn
LAYERS = {
    "lstm": cudnn.CudnnLSTM,
    "gru": cudnn.CudnnGRU,
    "rnn_tanh": cudnn.CudnnRNNTanh,
    "rnn_relu": cudnn.CudnnRNNRelu,
}
TIMES, BATCH, FEATURES, UNITS = 5, 3, 4, 2
LENGTHS = np.array([3, 5, 1], np.int32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(mode, x, h, c, w, r, bw, br):
    """One step of one cell; w, r, bw, br: a matrix or vector for each gate, in cuDNN's order."""
    a = [x @ wi.T + b for wi, b in zip(w, bw)]
    s = [h @ ri.T + b for ri, b in zip(r, br)]
    if mode == "lstm":
        i, f, g, o = (p + q for p, q in zip(a, s))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if mode == "gru":
        reset, update = sigmoid(a[0] + s[0]), sigmoid(a[1] + s[1])
        return (1 - update) * np.tanh(a[2] + reset * s[2]) + update * h, c
    return (np.tanh if mode == "rnn_tanh" else lambda v: np.maximum(v, 0))(a[0] + s[0]), c


def numpy_network(mode, x, h, c, weights, biases, directions, lengths):
    """(outputs, last h, last c), sequence by sequence and step by step."""
    gates = {"lstm": 4, "gru": 3}.get(mode, 1)
    last_h, last_c = h.copy(), c.copy()
    for layer in range(len(h) // directions):
        out = np.zeros((*x.shape[:2], directions * h.shape[2]))
        for direction in range(directions):
            k = layer * directions + direction
            w = weights[2 * gates * k : 2 * gates * (k + 1)]
            b = biases[2 * gates * k : 2 * gates * (k + 1)]
            columns = slice(direction * h.shape[2], (direction + 1) * h.shape[2])
            for n, length in enumerate(lengths):
                for t in range(length)[:: -1 if direction else 1]:
                    last_h[k, n], last_c[k, n] = numpy_step(
                        mode,
                        x[t, n],
                        last_h[k, n],
                        last_c[k, n],
                        w[:gates],
                        w[gates:],
                        b[:gates],
                        b[gates:],
                    )
                    out[t, n, columns] = last_h[k, n]
        x = out
    return x, last_h, last_c


def network_graph(mode, layers, direction, seed=0):
    """(inputs, states, params, weights, biases) in float64, as constants and arrays."""
    rng = np.random.RandomState(seed)
    directions = 2 if direction == "bidirectional" else 1
    layer = LAYERS[mode](layers, UNITS, direction=direction)
    layer._input_size = FEATURES
    weights = [rng.randn(*s) * 0.7 for s in layer.canonical_weight_shapes]
    biases = [rng.randn(*s) * 0.3 for s in layer.canonical_bias_shapes]
    x = rng.randn(TIMES, BATCH, FEATURES)
    h, c = rng.randn(2, layers * directions, BATCH, UNITS)
    attrs = {"rnn_mode": mode, "direction": direction}
    params = raw.CudnnRNNCanonicalToParams(layers, UNITS, FEATURES, weights, biases, **attrs)
    return x, h, c, params, weights, biases, attrs


@pytest.mark.parametrize("direction", ["unidirectional", "bidirectional"])
@pytest.mark.parametrize("mode", LAYERS)
def test_values_and_gradients(mode, direction):
    layers, directions = 2, 2 if direction == "bidirectional" else 1
    x, h, c, params, weights, biases, attrs = network_graph(mode, layers, direction)
    tensors = [tf.constant(v) for v in (x, h, c if mode == "lstm" else np.zeros(0))]
    whole = raw.CudnnRNN(*tensors, params, **attrs)
    ragged = raw.CudnnRNNV3(*tensors, params, LENGTHS, **attrs)
    swapped = [tf.transpose(t, [1, 0, 2]) if t.shape.ndims == 3 else t for t in tensors]
    batch_major = raw.CudnnRNNV3(*swapped, params, LENGTHS, time_major=False, **attrs)
    rng = np.random.RandomState(1)
    outputs = 3 if mode == "lstm" else 2
    projections = [rng.randn(*t.shape.as_list()) for t in ragged[:outputs]]
    loss = sum(tf.reduce_sum(t * p) for t, p in zip(ragged[:outputs], projections))
    sources = [*tensors[:outputs], params]
    gradients = tf.gradients(loss, sources)
    with tf.Session() as sess:
        got = sess.run([whole, ragged, batch_major])
        for result, lengths in zip(got[:2], ([TIMES] * BATCH, LENGTHS)):
            expected = numpy_network(mode, x, h, c, weights, biases, directions, lengths)
            for value, wanted in zip(result[:outputs], expected):
                np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-12)
        for value, wanted in zip(got[2][:outputs], got[1]):
            np.testing.assert_allclose(value, wanted.transpose(1, 0, 2), rtol=1e-12)
        assert got[1].output_c.shape == (h.shape if mode == "lstm" else ())
        values, slopes = sess.run([sources, gradients])
        step = 1e-6
        ways = [rng.randn(*v.shape) for v in values]
        up, down = (
            sess.run(loss, {s: v + e * w for s, v, w in zip(sources, values, ways)})
            for e in (step, -step)
        )
        slope = sum(np.sum(g * w) for g, w in zip(slopes, ways))
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6)


def cell_of(mode):
    if mode == "lstm":
        return cudnn.CudnnCompatibleLSTMCell(UNITS)
    if mode == "gru":
        return cudnn.CudnnCompatibleGRUCell(UNITS)
    return tf.nn.rnn_cell.BasicRNNCell(UNITS, activation=tf.nn.relu if mode == "rnn_relu" else None)


def cells_on(mode, layers, direction, x):
    """The outputs of cells, driven step by step."""
    make = lambda: [cell_of(mode) for _ in range(layers)]  # noqa: E731
    if direction == "unidirectional":
        cell = tf.nn.rnn_cell.MultiRNNCell(make())
        return tf.nn.dynamic_rnn(cell, x, LENGTHS, dtype=tf.float32, time_major=True)[0]
    return tf.contrib.rnn.stack_bidirectional_dynamic_rnn(
        make(), make(), x, dtype=tf.float32, sequence_length=LENGTHS, time_major=True
    )[0]


@pytest.mark.parametrize("direction", ["unidirectional", "bidirectional"])
@pytest.mark.parametrize("mode", LAYERS)
def test_checkpoints_are_those_of_cells(mode, direction, tmp_path):
    x = np.random.RandomState(2).randn(TIMES, BATCH, FEATURES).astype(np.float32)
    random = tf.random_uniform_initializer(-0.7, 0.7, seed=4)

    def network_in(graph):
        with graph.as_default():
            layer = LAYERS[mode](
                2, UNITS, direction=direction, kernel_initializer=random, bias_initializer=random
            )
            layer.build(x.shape)
            return layer(x, sequence_lengths=LENGTHS)[0]

    first = tf.Graph()
    output = network_in(first)
    with tf.Session(graph=first) as sess:
        sess.run(
            first.get_operation_by_name(output.op.name.rpartition("/")[0] + "/opaque_kernel/Assign")
        )
        expected = sess.run(output)
        with first.as_default():
            saver = tf.train.Saver()
        path = saver.save(sess, str(tmp_path / "network"))
        assert np.abs(expected).sum() > 0.1
    with tf.Graph().as_default(), tf.Session() as sess:
        outputs = cells_on(mode, 2, direction, x)
        tf.train.Saver().restore(sess, path)
        np.testing.assert_allclose(sess.run(outputs), expected, rtol=1e-4, atol=1e-6)
        path = tf.train.Saver().save(sess, str(tmp_path / "cells"))
    second = tf.Graph()
    output = network_in(second)
    with tf.Session(graph=second) as sess, second.as_default():
        tf.train.Saver(tf.get_collection("saveable_objects")).restore(sess, path)
        np.testing.assert_allclose(sess.run(output), expected, rtol=1e-4, atol=1e-6)


def test_a_layer_trains_and_shares_its_variable():
    layer = cudnn.CudnnLSTM(2, 8, dropout=0.2, seed=3, name="encoder")
    rng = np.random.RandomState(0)
    x = rng.randn(6, 4, 3).astype(np.float32)
    outputs, (h, c) = layer(x, training=True)
    again, _ = layer(x, training=False)
    assert [v.name for v in tf.trainable_variables()] == ["encoder/opaque_kernel:0"]
    assert layer.variables == tf.trainable_variables() and layer.input_size == 3
    assert h.shape.as_list() == c.shape.as_list() == [2, 4, 8]
    loss = tf.reduce_mean(tf.square(outputs[-1] - 0.5))
    train = tf.train.AdamOptimizer(0.05).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(tf.reduce_mean(tf.square(again[-1] - 0.5)))
        for _ in range(40):
            sess.run(train)
        assert sess.run(tf.reduce_mean(tf.square(again[-1] - 0.5))) < before / 4
        assert (sess.run(again) == sess.run(again)).all()
        assert (sess.run(outputs) != sess.run(outputs)).any()


def test_dropout_between_layers():
    x, h, _, params, _, _, attrs = network_graph("gru", 2, "bidirectional")
    attrs |= {"dropout": 0.5, "seed": 7, "seed2": 1}
    x = tf.constant(x)
    run = raw.CudnnRNN(x, h, np.zeros(0), params, **attrs)
    loss = tf.reduce_sum(tf.sin(run.output))
    (slope,) = tf.gradients(loss, x)

    def loss_at(value):
        with tf.Session() as sess:  # each session draws the same numbers first
            return sess.run([loss, slope], {x: value})

    with tf.Session() as sess:
        at = sess.run(x)
    _, gradient = loss_at(at)
    way, step = np.random.RandomState(5).randn(*at.shape), 1e-6
    difference = (loss_at(at + step * way)[0] - loss_at(at - step * way)[0]) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * way), difference, rtol=1e-6)
    ones = raw.CudnnRNN(
        np.ones([50, 40, 1], np.float32),
        np.zeros([2, 40, 1], np.float32),
        np.zeros(0, np.float32),
        np.array([1, 0, 1, 0, 0, 0, 0, 0], np.float32),
        rnn_mode="rnn_relu",
        dropout=0.25,
        seed=1,
    )
    with tf.Session() as sess:
        dropped = sess.run(ones.output)
    assert set(np.unique(dropped.round(5))) == {0, np.float32(1.33333)}
    np.testing.assert_allclose((dropped == 0).mean(), 0.25, atol=0.04)


def test_parameters_there_and_back():
    rng = np.random.RandomState(0)
    sizes = {"num_layers": 2, "num_units": 4, "input_size": 3}
    attrs = {"rnn_mode": "lstm", "direction": "bidirectional", "num_proj": 2}
    size = raw.CudnnRNNParamsSize(**sizes, T=tf.float32, S=tf.int32, **attrs)
    # Of each cell of the first layer 4 * 4 * (3 + 2) + 2 * 4 weights, of the second 4 * 4 * (4 + 2) + 2 * 4.
    with tf.Session() as sess:
        (size,) = sess.run(size)
        assert size == 2 * 88 + 2 * 104 + 4 * 8 * 4
        params = rng.randn(size).astype(np.float32)
        weights, biases = raw.CudnnRNNParamsToCanonicalV2(
            **sizes, params=params, num_params_weights=36, num_params_biases=32, **attrs
        )
        assert [w.shape.as_list() for w in weights[6:10]] == [[4, 2], [4, 2], [2, 4], [4, 3]]
        back = raw.CudnnRNNCanonicalToParamsV2(**sizes, weights=weights, biases=biases, **attrs)
        assert (sess.run(back) == params).all() and back.shape == (size,)
        converter = cudnn.CudnnParamsFormatConverterLSTM(2, 4, 3, 2, direction="bidirectional")
        kernels, sums, projections = converter.opaque_to_tf_canonical(params)
        again = converter.tf_canonical_to_opaque([*kernels, *sums], projections)
        kernels_again, sums_again, _ = converter.opaque_to_tf_canonical(again)
        for a, b in zip(*sess.run([[*kernels, *sums], [*kernels_again, *sums_again]])):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        (slope,) = tf.gradients(
            raw.CudnnRNNCanonicalToParams(
                1, 2, 2, [tf.ones([2, 2])] * 2, [tf.ones([2])] * 2, rnn_mode="rnn_tanh"
            ),
            [tf.ones([2])],
        ) or [None]
        assert slope is None


def test_projection_runs_and_trains():
    rng = np.random.RandomState(0)
    x, h, c = rng.randn(4, 2, 3), rng.randn(2, 2, 2), rng.randn(2, 2, 4)
    params = tf.constant(rng.randn(4 * 4 * (3 + 2) + 8 + 4 * 4 * (2 + 2) + 8 + 2 * 32) * 0.5)
    run = raw.CudnnRNNV3(x, h, c, params, [4, 2], num_proj=2)
    loss = tf.reduce_sum(tf.sin(run.output)) + tf.reduce_sum(run.output_c * run.output_c)
    (slope,) = tf.gradients(loss, params)
    with tf.Session() as sess:
        value, gradient, output = sess.run([params, slope, run.output])
        assert output.shape == (4, 2, 2)
        way, step = rng.randn(*value.shape), 1e-6
        up, down = (sess.run(loss, {params: value + e * way}) for e in (step, -step))
        np.testing.assert_allclose(np.sum(gradient * way), (up - down) / (2 * step), rtol=1e-6)


def test_skipped_input_is_the_identity():
    rng = np.random.RandomState(0)
    x, h = rng.randn(4, 2, 3), np.zeros([2, 2, 3])
    sizes = (2, 3, 3)
    size = raw.CudnnRNNParamsSize(
        *sizes, T=tf.float64, S=tf.int64, rnn_mode="gru", input_mode="auto_select"
    )
    with tf.Session() as sess:
        params = rng.randn(*sess.run(size))
        skipping = {"rnn_mode": "gru", "input_mode": "skip_input"}
        weights, biases = raw.CudnnRNNParamsToCanonical(*sizes, params, num_params=12, **skipping)
        whole = raw.CudnnRNNCanonicalToParams(*sizes, weights, biases, rnn_mode="gru")
        a = raw.CudnnRNN(x, h, np.zeros(0), params, **skipping)
        b = raw.CudnnRNN(x, h, np.zeros(0), whole, rnn_mode="gru")
        assert whole.shape[0] == len(params) + 27
        np.testing.assert_allclose(*sess.run([a.output, b.output]), rtol=1e-12)


def test_half_precision_computes_in_float32():
    x, h, _, params, _, _, attrs = network_graph("gru", 1, "unidirectional")
    run = raw.CudnnRNN(x, h, np.zeros(0), params, **attrs)
    halves = [tf.cast(v, tf.float16) for v in (x, h, np.zeros(0), params)]
    half = raw.CudnnRNNV2(*halves, **attrs)
    (slope,) = tf.gradients(half.output, halves[3])
    with tf.Session() as sess:
        wanted, got, gradient = sess.run([run.output, half.output, slope])
    assert got.dtype == gradient.dtype == np.float16
    np.testing.assert_allclose(got, wanted, atol=4e-3)


def test_what_does_not_fit_is_refused():
    x, h = np.zeros([4, 2, 3], np.float32), np.zeros([1, 2, 5], np.float32)
    network = lambda size, **attrs: raw.CudnnRNN(x, h, h, np.zeros(size, np.float32), **attrs)  # noqa: E731
    cases = [
        (
            network(7),
            r"params must have shape \(200,\) for 1 layers of 5 units on inputs of 3, got \(7,\)",
        ),
        (network(7, input_mode="skip_input"), "needs an input of 5 units and no projection"),
        (network(7, direction="bidirectional"), "Invalid input_h shape"),
    ]
    with tf.Session() as sess:
        for run, message in cases:
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                sess.run(run.output)
    idle = network(200, is_training=False)
    with pytest.raises(ValueError, match="is_training must be set to True"):
        tf.gradients(
            idle.output, idle.op.inputs[0] if hasattr(idle, "op") else idle.output.op.inputs[0]
        )
    for make, message in [
        (lambda: cudnn.CudnnLSTM(1, 2, direction="up"), "Invalid direction: up"),
        (lambda: cudnn.CudnnLSTM(1, 2, dtype=tf.int32), "Only support float16, float32, float64"),
        (lambda: cudnn.CudnnLSTM(1, 2).build([2, 3]), "Expecting input_shape with 3 dims, got 2"),
        (lambda: cudnn.CudnnLSTM(1, 2).build([2, 3, None]), "should be defined. Found `None`"),
        (lambda: cudnn.CudnnLSTM(1, 2).input_size, "layer has not been built"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="expecting tuple"):
        cudnn.CudnnGRU(1, 2)(x, initial_state=h)
