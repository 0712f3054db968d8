"""Small networks: what a step costs besides arithmetic."""

import numpy as np

from benchmarks.workloads.registry import workload
from benchmarks.workloads.training import (
    jax_adam,
    jax_cross_entropy,
    jax_sgd,
    jax_steps,
    labelled,
    tf_steps,
    torch_parameters,
    torch_steps,
    weights,
)

mlp = workload(
    "mlp",
    "MLP 784-128-128-10, batch 64, Adam",
    full={"batch": 64, "layers": [784, 128, 128, 10]},
    tiny={"batch": 4, "layers": [12, 8, 8, 10]},
    train=True,
)
two_layer = workload(
    "two_layer",
    "two layers 784-100-10, batch 100, gradient descent",
    full={"batch": 100, "layers": [784, 100, 10]},
    tiny={"batch": 4, "layers": [12, 8, 10]},
    train=True,
)


def _layers(size):
    shapes = []
    for units, after in zip(size.layers, size.layers[1:]):
        shapes += [(units, after), (after,)]
    return weights(*shapes)


def _network_tf(tf, size, optimizer):
    x = tf.placeholder(tf.float32, [None, size.layers[0]])
    y = tf.placeholder(tf.int32, [None])
    out, arrays = x, _layers(size)
    for i in range(0, len(arrays), 2):
        out = tf.matmul(out, tf.Variable(arrays[i])) + tf.Variable(arrays[i + 1])
        if i + 2 < len(arrays):
            out = tf.nn.relu(out)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=out)
    loss = tf.reduce_mean(losses)
    batches = labelled((size.batch, size.layers[0]), 10)
    return tf_steps(tf, [x, y], batches, loss, optimizer.minimize(loss))


def _network_torch(torch, size, optimizer):
    parameters = torch_parameters(torch, _layers(size))

    def loss_of(out, y):
        for i in range(0, len(parameters), 2):
            out = torch.addmm(parameters[i + 1], out, parameters[i])
            if i + 2 < len(parameters):
                out = torch.relu(out)
        return torch.nn.functional.cross_entropy(out, y.long())

    batches = labelled((size.batch, size.layers[0]), 10)
    return torch_steps(torch, optimizer(parameters), loss_of, batches)


def _network_jax(jax, size, optimizer):
    def loss_of(parameters, out, y):
        for i in range(0, len(parameters), 2):
            out = out @ parameters[i] + parameters[i + 1]
            if i + 2 < len(parameters):
                out = jax.nn.relu(out)
        return jax_cross_entropy(jax, out, y)

    batches = labelled((size.batch, size.layers[0]), 10)
    return jax_steps(jax, loss_of, _layers(size), optimizer, batches)


@mlp.tf
def _mlp_tf(tf, size):
    return _network_tf(tf, size, tf.train.AdamOptimizer(1e-3))


@mlp.torch
def _mlp_torch(torch, size):
    return _network_torch(torch, size, lambda p: torch.optim.Adam(p, 1e-3, fused=True))


@mlp.jax
def _mlp_jax(jax, size):
    return _network_jax(jax, size, jax_adam(1e-3))


@two_layer.tf
def _two_layer_tf(tf, size):
    return _network_tf(tf, size, tf.train.GradientDescentOptimizer(0.1))


@two_layer.torch
def _two_layer_torch(torch, size):
    return _network_torch(torch, size, lambda p: torch.optim.SGD(p, 0.1, fused=True))


@two_layer.jax
def _two_layer_jax(jax, size):
    return _network_jax(jax, size, jax_sgd(0.1))


# The network of the tutorials: 2-3-1 units, ten rows a step fed from NumPy (float64, as NumPy makes them) and from lists.
three_layer = workload(
    "three_layer",
    "tutorial network 2-3-1, batch 10 from NumPy and lists, Adam",
    full={"rows": 516},
    tiny={"rows": 20},
    train=True,
)


def _rows(size):
    rows = np.random.RandomState(1).rand(size.rows, 2)
    labels = [[int(a + b < 1)] for a, b in rows]
    return rows, labels, [i for i in range(0, size.rows - 10, 10)]


def _three_layer_weights():
    # Positive, so that no unit is dead and the loss is one of the usual ones.
    return [np.abs(w) for w in weights((2, 3), (3, 1), scale=0.5)]


@three_layer.tf
def _three_layer_tf(tf, size):
    w1, w2 = [tf.Variable(w) for w in _three_layer_weights()]
    x = tf.placeholder(tf.float32, shape=(None, 2))
    y = tf.placeholder(tf.float32, shape=(None, 1))
    guess = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, w1)), w2))
    loss = -tf.reduce_mean(y * tf.log(tf.clip_by_value(guess, 1e-10, 1.0)))
    train = tf.train.AdamOptimizer(0.001).minimize(loss)
    rows, labels, starts = _rows(size)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    count = iter(range(1 << 62))

    def step():
        number = next(count)
        start = starts[number % len(starts)]
        feeds = {x: rows[start : start + 10], y: labels[start : start + 10]}
        if number == 0:
            return float(session.run([loss, train], feeds)[0])
        session.run(train, feed_dict=feeds)

    return step


@three_layer.torch
def _three_layer_torch(torch, size):
    w1, w2 = parameters = torch_parameters(torch, _three_layer_weights())
    optimizer = torch.optim.Adam(parameters, 0.001, fused=True)
    rows, labels, starts = _rows(size)
    count = iter(range(1 << 62))

    def step():
        number = next(count)
        start = starts[number % len(starts)]
        x = torch.tensor(rows[start : start + 10], dtype=torch.float32)
        y = torch.tensor(labels[start : start + 10], dtype=torch.float32)
        guess = torch.relu(torch.relu(x @ w1) @ w2)
        loss = -(y * torch.log(guess.clamp(1e-10, 1.0))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number == 0:
            return loss.item()

    return step


@three_layer.jax
def _three_layer_jax(jax, size):
    jnp = jax.numpy
    rows, labels, starts = _rows(size)

    def loss_of(parameters, x, y):
        guess = jax.nn.relu(jax.nn.relu(x @ parameters[0]) @ parameters[1])
        return -(y * jnp.log(jnp.clip(guess, 1e-10, 1.0))).mean()

    def batches():
        while True:
            for start in starts:
                x = np.asarray(rows[start : start + 10], np.float32)
                yield x, np.asarray(labels[start : start + 10], np.float32)

    return jax_steps(jax, loss_of, _three_layer_weights(), jax_adam(0.001), batches())
