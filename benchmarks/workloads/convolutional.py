"""Layers of convolutional networks, written once per framework: each takes its arrays in the order in which it is called."""

import itertools

import numpy as np

from benchmarks.workloads.training import jax_cross_entropy, torch_parameters

NHWC = ("NHWC", "HWIO", "NHWC")


class TFLayers:
    """Layers of plain ops: TensorFlow 2 has no `tf.layers` any more."""

    def __init__(self, tf, arrays, training=True):
        self.tf, self.training = tf, training
        self.variables = [tf.Variable(array) for array in arrays]
        self.next = iter(self.variables)
        self.updates = []

    def convolve(self, x, stride=1, padding=None):
        """`padding`: so many rows and columns on each side, as other frameworks have it; None: "SAME" for stride 1."""
        kernel = next(self.next)
        pads = "SAME"
        if padding is not None:
            pads = [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]
        return self.tf.nn.conv2d(x, filter=kernel, strides=[1, stride, stride, 1], padding=pads)

    def norm(self, x, epsilon=1e-5):
        tf = self.tf
        gamma, beta = next(self.next), next(self.next)
        channels = gamma.shape.as_list()
        mean = tf.Variable(np.zeros(channels, np.float32), trainable=False)
        variance = tf.Variable(np.ones(channels, np.float32), trainable=False)
        if not self.training:
            return tf.nn.fused_batch_norm(
                x, gamma, beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
            )[0]
        y, batch_mean, batch_variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
        for held, new in ((mean, batch_mean), (variance, batch_variance)):
            self.updates.append(tf.assign_sub(held, (held - new) * 0.1))
        return y

    def dense(self, x):
        return self.tf.matmul(x, next(self.next)) + next(self.next)


class TorchLayers:
    """`start` begins again with the first array."""

    def __init__(self, torch, arrays, training=True):
        self.torch, self.training = torch, training
        self.parameters = torch_parameters(torch, arrays)
        self.statistics = {}
        self.start()

    def start(self):
        self.next = iter(self.parameters)
        return self

    def convolve(self, x, stride=1, padding=None):
        kernel = next(self.next)
        if padding is None:
            padding = kernel.shape[2] // 2
        return self.torch.nn.functional.conv2d(x, kernel, stride=stride, padding=padding)

    def norm(self, x, epsilon=1e-5):
        gamma, beta = next(self.next), next(self.next)
        if id(gamma) not in self.statistics:
            zeros = self.torch.zeros(gamma.shape)
            self.statistics[id(gamma)] = zeros, self.torch.ones(gamma.shape)
        mean, variance = self.statistics[id(gamma)]
        return self.torch.nn.functional.batch_norm(
            x, mean, variance, gamma, beta, training=self.training, momentum=0.1, eps=epsilon
        )

    def dense(self, x):
        kernel, bias = next(self.next), next(self.next)
        return self.torch.addmm(bias, x, kernel)


class JaxLayers:
    """`parameters`: (what is trained, the moving statistics); `updates` collects new statistics."""

    def __init__(self, jax, arrays, statistics=None, training=True):
        self.jax, self.training = jax, training
        self.next, self.held = iter(arrays), iter(statistics or [])
        self.updates = []

    def convolve(self, x, stride=1, padding=None):
        pads = "SAME" if padding is None else [(padding, padding)] * 2
        return self.jax.lax.conv_general_dilated(
            x, next(self.next), (stride, stride), pads, dimension_numbers=NHWC
        )

    def norm(self, x, epsilon=1e-5):
        gamma, beta = next(self.next), next(self.next)
        mean, variance = next(self.held), next(self.held)
        if self.training:
            new_mean, new_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            stop = self.jax.lax.stop_gradient
            self.updates += [
                mean - 0.1 * (mean - stop(new_mean)),
                variance - 0.1 * (variance - stop(new_variance)),
            ]
            mean, variance = new_mean, new_variance
        return (x - mean) * self.jax.lax.rsqrt(variance + epsilon) * gamma + beta

    def dense(self, x):
        return x @ next(self.next) + next(self.next)


def jax_training(jax, forward, arrays, statistics, optimizer, batches):
    """Training steps that carry moving statistics; `forward(layers, x)` gives logits."""
    jnp = jax.numpy
    start, update = optimizer

    def loss_of(arrays, statistics, x, y):
        layers = JaxLayers(jax, arrays, statistics)
        return jax_cross_entropy(jax, forward(layers, x), y), layers.updates

    def compute(arrays, statistics, state, x, y):
        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(
            arrays, statistics, x, y
        )
        arrays, state = update(arrays, grads, state)
        return loss, arrays, statistics, state

    compiled = jax.jit(compute, donate_argnums=(0, 1, 2))
    arrays = [jnp.array(a) for a in arrays]
    held = [arrays, [jnp.array(s) for s in statistics], start(jax, arrays)]
    batches = itertools.cycle(batches)

    def step():
        loss, *held[:] = compiled(*held, *next(batches))
        return float(loss)

    return step


def norm_arrays(channels):
    """Scale and shift of a batch norm."""
    return [np.ones(channels, np.float32), np.zeros(channels, np.float32)]


def statistics_of(arrays):
    """Moving means and variances for the norms among `arrays`, which are pairs of vectors of ones and zeros."""
    found = []
    for scale, shift in zip(arrays, arrays[1:]):  # noqa: RUF007 (TensorFlow 1 runs on Python 3.7)
        if scale.ndim == 1 and shift.shape == scale.shape and scale.all():
            found += [np.zeros(scale.shape, np.float32), np.ones(scale.shape, np.float32)]
    return found
