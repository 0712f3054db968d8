"""Generative networks: DCGAN, with two optimizers that take turns."""

import itertools

import numpy as np

from benchmarks.workloads.convolutional import (
    NHWC,
    JaxLayers,
    TFLayers,
    TorchLayers,
    norm_arrays,
    statistics_of,
)
from benchmarks.workloads.registry import workload
from benchmarks.workloads.training import jax_adam, tf_steps, weights

dcgan = workload(
    "dcgan",
    "DCGAN 32x32, batch 32: discriminator's step, generator's step, Adam",
    full={"batch": 32, "code": 100, "channels": (256, 128, 64)},
    tiny={"batch": 2, "code": 4, "channels": (4, 3, 2)},
    train=True,
)


def _dcgan_arrays(size):
    """(generator's, discriminator's); kernels of transposed convolutions are [4, 4, out, in], as TensorFlow has them."""
    a, b, c = size.channels
    generator = weights((size.code, 16 * a), seed=1, scale=0.02) + norm_arrays(a)
    for out, before in ((b, a), (c, b)):
        generator += weights((4, 4, out, before), seed=out, scale=0.05) + norm_arrays(out)
    generator += weights((4, 4, 3, c), seed=3, scale=0.05)
    discriminator = weights((4, 4, 3, c), seed=4, scale=0.05)
    for before, out in ((c, b), (b, a)):
        discriminator += weights((4, 4, before, out), seed=out + 5, scale=0.05) + norm_arrays(out)
    return generator, discriminator + weights((16 * a, 1), (1,), seed=6, scale=0.02)


def _dcgan_batches(size):
    random = np.random.RandomState(2)
    shape = (size.batch, 32, 32, 3)
    return [
        (
            random.randn(size.batch, size.code).astype(np.float32),
            random.rand(*shape).astype(np.float32),
        )
        for _ in range(4)
    ]


def _generate(layers, relu, tanh, reshape, widen, z):
    """`widen`: a transposed convolution that doubles height and width; `reshape` to 4x4 images."""
    x = relu(layers.norm(reshape(z)))
    for _ in range(2):
        x = relu(layers.norm(widen(x)))
    return tanh(widen(x))


def _discriminate(layers, leaky, flat, x):
    x = leaky(layers.convolve(x, 2, 1))
    for _ in range(2):
        x = leaky(layers.norm(layers.convolve(x, 2, 1)))
    return layers.dense(flat(x))


@dcgan.tf
def _dcgan_tf(tf, size):
    width = size.channels[0]
    generator, discriminator = [TFLayers(tf, arrays) for arrays in _dcgan_arrays(size)]
    z = tf.placeholder(tf.float32, [size.batch, size.code])
    real = tf.placeholder(tf.float32, [size.batch, 32, 32, 3])

    def reshape(z):
        return tf.reshape(tf.matmul(z, next(generator.next)), [size.batch, 4, 4, width])

    def widen(x):
        kernel = next(generator.next)
        side = 2 * x.shape.as_list()[1]
        shape = [size.batch, side, side, kernel.shape.as_list()[2]]
        return tf.nn.conv2d_transpose(
            x, kernel, output_shape=shape, strides=[1, 2, 2, 1], padding="SAME"
        )

    fake = _generate(generator, tf.nn.relu, tf.tanh, reshape, widen, z)

    def judge(x):
        discriminator.next = iter(discriminator.variables)
        flat = lambda x: tf.reshape(x, [size.batch, 16 * width])  # noqa: E731
        logits = _discriminate(discriminator, tf.nn.leaky_relu, flat, x)
        return lambda label: tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(
                labels=tf.fill([size.batch, 1], label), logits=logits
            )
        )

    of_fake = judge(fake)
    d_loss = judge(real)(1.0) + of_fake(0.0)
    g_loss = of_fake(1.0)
    adam = [tf.train.AdamOptimizer(2e-4, beta1=0.5) for _ in range(2)]
    d_step = adam[0].minimize(d_loss, var_list=discriminator.variables)
    g_step = adam[1].minimize(g_loss, var_list=generator.variables)
    return tf_steps(tf, [z, real], _dcgan_batches(size), d_loss, d_step, g_step)


@dcgan.torch
def _dcgan_torch(torch, size):
    width = size.channels[0]
    functional = torch.nn.functional
    generator, discriminator = [TorchLayers(torch, arrays) for arrays in _dcgan_arrays(size)]

    def reshape(z):
        x = (z @ next(generator.next)).reshape(-1, 4, 4, width)
        return x.permute(0, 3, 1, 2)

    def widen(x):
        return functional.conv_transpose2d(x, next(generator.next), stride=2, padding=1)

    def generate(z):
        return _generate(generator.start(), torch.relu, torch.tanh, reshape, widen, z)

    def judge(x, label):
        flat = lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)  # noqa: E731
        leaky = lambda x: functional.leaky_relu(x, 0.2)  # noqa: E731
        logits = _discriminate(discriminator.start(), leaky, flat, x)
        return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    # [4, 4, out, in] becomes [in, out, 4, 4], which is what a transposed convolution takes here.
    d_adam, g_adam = [
        torch.optim.Adam(layers.parameters, 2e-4, betas=(0.5, 0.999), fused=True)
        for layers in (discriminator, generator)
    ]
    batches = itertools.cycle(_dcgan_batches(size))

    def step():
        z, real = [torch.from_numpy(array) for array in next(batches)]
        with torch.no_grad():
            fake = generate(z)
        d_loss = judge(real.permute(0, 3, 1, 2), 1.0) + judge(fake, 0.0)
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()
        g_loss = judge(generate(z), 1.0)
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        return d_loss.item()

    return step


@dcgan.jax
def _dcgan_jax(jax, size):
    jnp = jax.numpy
    width = size.channels[0]
    generator, discriminator = _dcgan_arrays(size)
    start, update = jax_adam(2e-4, beta1=0.5)

    def generate(arrays, z):
        layers = JaxLayers(jax, arrays, statistics_of(generator))

        def reshape(z):
            return (z @ next(layers.next)).reshape(-1, 4, 4, width)

        def widen(x):
            kernel = next(layers.next)
            return jax.lax.conv_transpose(
                x, kernel, (2, 2), "SAME", dimension_numbers=NHWC, transpose_kernel=True
            )

        return _generate(layers, jax.nn.relu, jnp.tanh, reshape, widen, z)

    def judge(arrays, x, label):
        layers = JaxLayers(jax, arrays, statistics_of(discriminator))
        leaky = lambda x: jax.nn.leaky_relu(x, 0.2)  # noqa: E731
        flat = lambda x: x.reshape(x.shape[0], -1)  # noqa: E731
        logits = _discriminate(layers, leaky, flat, x)
        return jnp.mean(jax.nn.softplus(logits) - label * logits)

    def d_loss_of(d, g, z, real):
        return judge(d, real, 1.0) + judge(d, generate(g, z), 0.0)

    def g_loss_of(g, d, z):
        return judge(d, generate(g, z), 1.0)

    def d_compute(d, state, g, z, real):
        loss, grads = jax.value_and_grad(d_loss_of)(d, g, z, real)
        return (loss, *update(d, grads, state))

    def g_compute(g, state, d, z):
        return update(g, jax.grad(g_loss_of)(g, d, z), state)

    d_step = jax.jit(d_compute, donate_argnums=(0, 1))
    g_step = jax.jit(g_compute, donate_argnums=(0, 1))
    g, d = [[jnp.array(a) for a in arrays] for arrays in (generator, discriminator)]
    held = [d, start(jax, d), g, start(jax, g)]
    batches = itertools.cycle(_dcgan_batches(size))

    def step():
        z, real = next(batches)
        loss, *held[:2] = d_step(*held[:3], z, real)
        held[2:] = g_step(held[2], held[3], held[0], z)
        return float(loss)

    return step
