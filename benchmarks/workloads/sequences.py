"""Sequences: LSTM language models and a Transformer."""

import numpy as np

from benchmarks.workloads.registry import EVENT, workload
from benchmarks.workloads.training import (
    jax_adam,
    jax_cross_entropy,
    jax_sgd,
    jax_steps,
    tf_steps,
    torch_parameters,
    torch_steps,
    weights,
)

CLIP = 5.0


def _text(size, steps, count=8, seed=3):
    """Batches (characters, next characters) [batch, steps] of an invented text whose letters follow one another by rule."""
    random = np.random.RandomState(seed)
    letters = np.cumsum(random.randint(0, 4, 20_000)) % size.symbols
    batches = []
    for _ in range(count):
        starts = random.randint(0, len(letters) - steps - 1, size.batch)
        rows = letters[starts[:, None] + np.arange(steps + 1)].astype(np.int32)
        batches.append((rows[:, :-1], rows[:, 1:]))
    return batches


def _lstm_arrays(size):
    """Embedding; kernel [2 * units, 4 * units] and bias of each layer, the gates in TensorFlow's order: i, j, f, o; projection."""
    units = size.units
    arrays = weights((size.symbols, units), scale=0.1)
    for layer in range(size.layers):
        arrays += weights((2 * units, 4 * units), (4 * units,), seed=layer + 1, scale=0.05)
    return arrays + weights((units, size.symbols), (size.symbols,), seed=9, scale=0.05)


class TFCell:
    """The LSTM by hand: TensorFlow 2 has no cells without Keras 2."""

    def __init__(self, tf, kernel, bias, units):
        self.tf, self.kernel, self.bias = tf, kernel, bias
        self.state_size, self.output_size = (units, units), units

    def zero_state(self, batch_size, dtype):
        return tuple(self.tf.zeros([batch_size, self.output_size], dtype) for _ in range(2))

    def __call__(self, x, state, scope=None):
        tf, (c, h) = self.tf, state
        gates = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), self.kernel), self.bias)
        i, j, f, o = tf.split(gates, 4, 1)
        c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, (c, h)


def _lstm_tf(tf, size, optimizer, static=False):
    """(placeholders, loss, training step)."""
    variables = [tf.Variable(array) for array in _lstm_arrays(size)]
    embedding, *layers, weight, bias = variables
    x, y = [tf.placeholder(tf.int32, [size.batch, size.steps if static else None]) for _ in "xy"]
    outputs = tf.nn.embedding_lookup(embedding, x)
    cells = [TFCell(tf, *layers[i : i + 2], size.units) for i in range(0, len(layers), 2)]
    if static:
        outputs = tf.unstack(outputs, axis=1)
        for number, cell in enumerate(cells):
            with tf.variable_scope(f"layer_{number}"):
                outputs, _ = tf.nn.static_rnn(cell, outputs, dtype=tf.float32)
        outputs = tf.stack(outputs, axis=1)
    else:
        for number, cell in enumerate(cells):
            with tf.variable_scope(f"layer_{number}"):
                outputs, _ = tf.nn.dynamic_rnn(cell, outputs, dtype=tf.float32)
    logits = tf.matmul(tf.reshape(outputs, [-1, size.units]), weight) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(y, [-1]), logits=logits
    )
    loss = tf.reduce_mean(losses)
    grads, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), CLIP)
    return [x, y], loss, optimizer.apply_gradients(zip(grads, variables))


def _lstm_torch(torch, size):
    """(parameters, loss of a batch): PyTorch's own LSTM, with the same values in its order of gates (i, f, j, o)."""
    arrays = _lstm_arrays(size)
    units = size.units
    lstm = torch.nn.LSTM(units, units, size.layers, batch_first=True)

    def reordered(array):
        i, j, f, o = np.split(array, 4, -1)
        return torch.from_numpy(np.concatenate([i, f, j, o], -1).T.copy())

    with torch.no_grad():
        for layer in range(size.layers):
            kernel, bias = arrays[1 + 2 * layer : 3 + 2 * layer]
            getattr(lstm, f"weight_ih_l{layer}").copy_(reordered(kernel[:units]))
            getattr(lstm, f"weight_hh_l{layer}").copy_(reordered(kernel[units:]))
            held = getattr(lstm, f"bias_ih_l{layer}")
            held.copy_(reordered(bias))
            held[units : 2 * units] += 1.0  # the forget gate's
            getattr(lstm, f"bias_hh_l{layer}").zero_().requires_grad_(False)
    embedding, weight, bias = torch_parameters(torch, [arrays[0], *arrays[-2:]])

    def loss_of(x, y):
        outputs, _ = lstm(torch.nn.functional.embedding(x, embedding))
        logits = torch.addmm(bias, outputs.reshape(-1, units), weight)
        return torch.nn.functional.cross_entropy(logits, y.reshape(-1).long())

    trained = [p for p in lstm.parameters() if p.requires_grad]
    return [embedding, *trained, weight, bias], loss_of


def _lstm_jax(jax, size):
    jnp = jax.numpy

    def loss_of(arrays, x, y):
        embedding, *layers, weight, bias = arrays
        outputs = embedding[x].swapaxes(0, 1)
        zeros = jnp.zeros((x.shape[0], size.units))
        for i in range(0, len(layers), 2):
            kernel, shift = layers[i : i + 2]

            def cell(state, x, kernel=kernel, shift=shift):
                c, h = state
                i, j, f, o = jnp.split(jnp.concatenate([x, h], 1) @ kernel + shift, 4, 1)
                c = c * jax.nn.sigmoid(f + 1.0) + jax.nn.sigmoid(i) * jnp.tanh(j)
                h = jnp.tanh(c) * jax.nn.sigmoid(o)
                return (c, h), h

            _, outputs = jax.lax.scan(cell, (zeros, zeros), outputs)
        logits = outputs.swapaxes(0, 1).reshape(-1, size.units) @ weight + bias
        return jax_cross_entropy(jax, logits, y.reshape(-1))

    return loss_of


static = workload(
    "lstm_static",
    "LSTM language model, static_rnn: 2 x 200, batch 20, 20 steps, 10k words, clipping, gradient descent",
    full={"symbols": 10_000, "units": 200, "layers": 2, "batch": 20, "steps": 20},
    tiny={"symbols": 11, "units": 4, "batch": 2, "steps": 3},
    train=True,
)
CHARACTERS = {"symbols": 96, "units": 256, "layers": 2, "batch": 32, "steps": 64}
TINY_CHARACTERS = {"symbols": 7, "units": 4, "batch": 2, "steps": 5}
characters = workload(
    "char_rnn",
    "character LSTM, dynamic_rnn: 2 x 256, batch 32, 64 steps, clipping, Adam",
    full=CHARACTERS,
    tiny=TINY_CHARACTERS,
    train=True,
)
lengths = workload(
    "lengths",
    "character LSTM, a stream of 30 distinct lengths, compilation included",
    full={**CHARACTERS, "lengths": range(20, 50)},
    tiny={**TINY_CHARACTERS, "lengths": range(2, 5)},
    kind=EVENT,
    tolerance=0.02,  # the loss after thirty steps of Adam, whose epsilons stand in different places
)


@static.tf
def _static_tf(tf, size):
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    x, loss, train = _lstm_tf(tf, size, optimizer, static=True)
    return tf_steps(tf, x, _text(size, size.steps), loss, train)


@static.torch
def _static_torch(torch, size):
    parameters, loss_of = _lstm_torch(torch, size)
    optimizer = torch.optim.SGD(parameters, 1.0, fused=True)
    return torch_steps(torch, optimizer, loss_of, _text(size, size.steps), CLIP)


@static.jax
def _static_jax(jax, size):
    batches = _text(size, size.steps)
    return jax_steps(jax, _lstm_jax(jax, size), _lstm_arrays(size), jax_sgd(1.0), batches, CLIP)


@characters.tf
def _characters_tf(tf, size):
    x, loss, train = _lstm_tf(tf, size, tf.train.AdamOptimizer(2e-3))
    return tf_steps(tf, x, _text(size, size.steps), loss, train)


@characters.torch
def _characters_torch(torch, size):
    parameters, loss_of = _lstm_torch(torch, size)
    optimizer = torch.optim.Adam(parameters, 2e-3, fused=True)
    return torch_steps(torch, optimizer, loss_of, _text(size, size.steps), CLIP)


@characters.jax
def _characters_jax(jax, size):
    batches = _text(size, size.steps)
    return jax_steps(jax, _lstm_jax(jax, size), _lstm_arrays(size), jax_adam(2e-3), batches, CLIP)


def _stream(size):
    """One batch of each length, in a mixed order."""
    order = np.random.RandomState(5).permutation(list(size.lengths))
    return [_text(size, steps, count=1, seed=int(steps))[0] for steps in order]


def _whole(step, size):
    """A step that goes through the stream: its last loss."""

    def run():
        value = None
        for _ in size.lengths:
            value = step()
        return value

    return run


@lengths.tf
def _lengths_tf(tf, size):
    x, loss, train = _lstm_tf(tf, size, tf.train.AdamOptimizer(2e-3))
    return _whole(tf_steps(tf, x, _stream(size), loss, train), size)


@lengths.torch
def _lengths_torch(torch, size):
    parameters, loss_of = _lstm_torch(torch, size)
    optimizer = torch.optim.Adam(parameters, 2e-3, fused=True)
    return _whole(torch_steps(torch, optimizer, loss_of, _stream(size), CLIP), size)


@lengths.jax
def _lengths_jax(jax, size):
    arrays, batches = _lstm_arrays(size), _stream(size)
    return _whole(jax_steps(jax, _lstm_jax(jax, size), arrays, jax_adam(2e-3), batches, CLIP), size)


transformer = workload(
    "transformer",
    "Transformer, 4 layers, width 256, 4 heads, batch 16, 64 steps, 2k words, Adam",
    full={"symbols": 2000, "units": 256, "heads": 4, "layers": 4, "batch": 16, "steps": 64},
    tiny={"symbols": 11, "units": 8, "heads": 2, "layers": 1, "batch": 2, "steps": 3},
    train=True,
)
_PER_LAYER = 12


def _transformer_arrays(size):
    """Embedding, positions; each layer's (norm, q k v, projection, norm, wide, narrow); norm, output."""
    units = size.units
    ones, zeros = np.ones(units, np.float32), np.zeros(units, np.float32)
    arrays = weights((size.symbols, units), (size.steps, units), scale=0.05)
    for layer in range(size.layers):
        attention = ((units, 3 * units), (3 * units,), (units, units), (units,))
        wide = ((units, 4 * units), (4 * units,), (4 * units, units), (units,))
        arrays += [ones, zeros, *weights(*attention, seed=2 * layer + 1, scale=0.05)]
        arrays += [ones, zeros, *weights(*wide, seed=2 * layer + 2, scale=0.05)]
    return [*arrays, ones, zeros, *weights((units, size.symbols), (size.symbols,), scale=0.05)]


def _layers_of(parameters):
    """(embedding, positions, the layers' arrays, last four)."""
    middle = parameters[2:-4]
    layers = [middle[i : i + _PER_LAYER] for i in range(0, len(middle), _PER_LAYER)]
    return parameters[0], parameters[1], layers, parameters[-4:]


def _mask(size):
    return np.triu(np.full((size.steps, size.steps), -1e9, np.float32), 1)


@transformer.tf
def _transformer_tf(tf, size):
    variables = [tf.Variable(array) for array in _transformer_arrays(size)]
    embedding, positions, layers, (scale, shift, weight, bias) = _layers_of(variables)
    x, y = [tf.placeholder(tf.int32, [size.batch, size.steps]) for _ in "xy"]
    units, heads = size.units, size.heads
    rows, depth = size.batch * size.steps, size.units // size.heads
    mask = tf.constant(_mask(size))

    def norm(x, scale, shift):
        mean, variance = tf.nn.moments(x, [1], keep_dims=True)
        return (x - mean) * tf.rsqrt(variance + 1e-5) * scale + shift

    def apart(x):
        return tf.transpose(tf.reshape(x, [size.batch, size.steps, heads, depth]), [0, 2, 1, 3])

    out = tf.nn.embedding_lookup(embedding, x) + positions
    out = tf.reshape(out, [rows, units])
    for s1, t1, w_qkv, b_qkv, w_out, b_out, s2, t2, w1, b1, w2, b2 in layers:
        qkv = tf.matmul(norm(out, s1, t1), w_qkv) + b_qkv
        q, k, v = [apart(part) for part in tf.split(qkv, 3, 1)]
        scores = tf.matmul(q, k, transpose_b=True) * depth**-0.5 + mask
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
        out += tf.matmul(tf.reshape(mixed, [rows, units]), w_out) + b_out
        out += tf.matmul(tf.nn.relu(tf.matmul(norm(out, s2, t2), w1) + b1), w2) + b2
    logits = tf.matmul(norm(out, scale, shift), weight) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(y, [-1]), logits=logits
    )
    loss = tf.reduce_mean(losses)
    train = tf.train.AdamOptimizer(1e-3).minimize(loss)
    return tf_steps(tf, [x, y], _text(size, size.steps), loss, train)


@transformer.torch
def _transformer_torch(torch, size):
    parameters = torch_parameters(torch, _transformer_arrays(size))
    embedding, positions, layers, (scale, shift, weight, bias) = _layers_of(parameters)
    functional = torch.nn.functional
    units, depth = size.units, size.units // size.heads
    rows = size.batch * size.steps

    def norm(x, scale, shift):
        return functional.layer_norm(x, (units,), scale, shift, 1e-5)

    def apart(x):
        return x.reshape(size.batch, size.steps, size.heads, depth).transpose(1, 2)

    def loss_of(x, y):
        out = (functional.embedding(x, embedding) + positions).reshape(rows, units)
        for s1, t1, w_qkv, b_qkv, w_out, b_out, s2, t2, w1, b1, w2, b2 in layers:
            qkv = torch.addmm(b_qkv, norm(out, s1, t1), w_qkv)
            q, k, v = [apart(part) for part in qkv.chunk(3, 1)]
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(rows, units)
            out = out + torch.addmm(b_out, mixed, w_out)
            wide = torch.relu(torch.addmm(b1, norm(out, s2, t2), w1))
            out = out + torch.addmm(b2, wide, w2)
        logits = torch.addmm(bias, norm(out, scale, shift), weight)
        return functional.cross_entropy(logits, y.reshape(-1).long())

    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    return torch_steps(torch, optimizer, loss_of, _text(size, size.steps))


@transformer.jax
def _transformer_jax(jax, size):
    units, depth = size.units, size.units // size.heads
    rows, mask = size.batch * size.steps, _mask(size)

    def norm(x, scale, shift):
        mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift

    def apart(x):
        return x.reshape(size.batch, size.steps, size.heads, depth).swapaxes(1, 2)

    def loss_of(parameters, x, y):
        embedding, positions, layers, (scale, shift, weight, bias) = _layers_of(parameters)
        out = (embedding[x] + positions).reshape(rows, units)
        for s1, t1, w_qkv, b_qkv, w_out, b_out, s2, t2, w1, b1, w2, b2 in layers:
            qkv = norm(out, s1, t1) @ w_qkv + b_qkv
            q, k, v = [apart(part) for part in jax.numpy.split(qkv, 3, 1)]
            scores = q @ k.swapaxes(2, 3) * depth**-0.5 + mask
            mixed = (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(rows, units)
            out = out + mixed @ w_out + b_out
            out = out + jax.nn.relu(norm(out, s2, t2) @ w1 + b1) @ w2 + b2
        logits = norm(out, scale, shift) @ weight + bias
        return jax_cross_entropy(jax, logits, y.reshape(-1))

    batches = _text(size, size.steps)
    return jax_steps(jax, loss_of, _transformer_arrays(size), jax_adam(1e-3), batches)
