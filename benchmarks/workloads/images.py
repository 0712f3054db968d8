"""Convolutional networks: LeNet, ResNet-20 and ResNet-50, DCGAN."""

import itertools

import numpy as np

from benchmarks.workloads.registry import workload
from benchmarks.workloads.training import (
    jax_adam,
    jax_cross_entropy,
    jax_steps,
    labelled,
    tf_steps,
    torch_parameters,
    torch_steps,
    weights,
)

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


def _jax_training(jax, forward, arrays, statistics, optimizer, batches):
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


def _norm_arrays(channels):
    return [np.ones(channels, np.float32), np.zeros(channels, np.float32)]


def _statistics(arrays):
    """Moving means and variances for the norms among `arrays`, which are pairs of vectors of ones and zeros."""
    found = []
    for scale, shift in zip(arrays, arrays[1:]):  # noqa: RUF007 (TensorFlow 1 runs on Python 3.7)
        if scale.ndim == 1 and shift.shape == scale.shape and scale.all():
            found += [np.zeros(scale.shape, np.float32), np.ones(scale.shape, np.float32)]
    return found


lenet = workload(
    "lenet",
    "LeNet 28x28, batch 64, Adam",
    full={"batch": 64, "channels": (32, 64), "hidden": 512},
    tiny={"batch": 2, "channels": (2, 3), "hidden": 8},
    train=True,
)


def _lenet_arrays(size):
    first, second = size.channels
    return weights(
        (5, 5, 1, first), (5, 5, first, second), (49 * second, size.hidden), (size.hidden,),
        (size.hidden, 10), (10,),
    )  # fmt: skip


@lenet.tf
def _lenet_tf(tf, size):
    layers = TFLayers(tf, _lenet_arrays(size))
    image = tf.placeholder(tf.float32, [None, 28, 28, 1])
    y = tf.placeholder(tf.int32, [None])
    x = image
    for _ in range(2):
        x = tf.nn.relu(layers.convolve(x))
        x = tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    x = tf.nn.relu(layers.dense(tf.reshape(x, [-1, 49 * size.channels[1]])))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=layers.dense(x))
    loss = tf.reduce_mean(losses)
    batches = labelled((size.batch, 28, 28, 1), 10)
    return tf_steps(tf, [image, y], batches, loss, tf.train.AdamOptimizer(1e-3).minimize(loss))


@lenet.torch
def _lenet_torch(torch, size):
    layers = TorchLayers(torch, _lenet_arrays(size))

    def loss_of(x, y):
        layers.start()
        x = x.permute(0, 3, 1, 2)
        for _ in range(2):
            x = torch.nn.functional.max_pool2d(torch.relu(layers.convolve(x)), 2)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        logits = layers.dense(torch.relu(layers.dense(x)))
        return torch.nn.functional.cross_entropy(logits, y.long())

    optimizer = torch.optim.Adam(layers.parameters, 1e-3, fused=True)
    return torch_steps(torch, optimizer, loss_of, labelled((size.batch, 28, 28, 1), 10))


@lenet.jax
def _lenet_jax(jax, size):
    def loss_of(arrays, x, y):
        layers = JaxLayers(jax, arrays)
        for _ in range(2):
            x = jax.nn.relu(layers.convolve(x))
            window = (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, window, "SAME")
        x = jax.nn.relu(layers.dense(x.reshape(x.shape[0], -1)))
        return jax_cross_entropy(jax, layers.dense(x), y)

    batches = labelled((size.batch, 28, 28, 1), 10)
    return jax_steps(jax, loss_of, _lenet_arrays(size), jax_adam(1e-3), batches)


resnet20 = workload(
    "resnet20",
    "ResNet-20 32x32, batch 32, batch norm, momentum",
    full={"batch": 32, "blocks": 3, "channels": (16, 32, 64)},
    tiny={"batch": 2, "blocks": 1, "channels": (2, 4)},
    train=True,
)


def _resnet20_arrays(size):
    random = iter(range(1, 1000))

    def kernel(*shape):
        return weights(shape, seed=next(random))

    before = size.channels[0]
    arrays = kernel(3, 3, 3, before) + _norm_arrays(before)
    for channels in size.channels:
        for _ in range(size.blocks):
            arrays += kernel(3, 3, before, channels) + _norm_arrays(channels)
            arrays += kernel(3, 3, channels, channels) + _norm_arrays(channels)
            if before != channels:
                arrays += kernel(1, 1, before, channels) + _norm_arrays(channels)
            before = channels
    return arrays + kernel(before, 10) + [np.zeros(10, np.float32)]


def _resnet20(layers, relu, mean, x, size):
    """The network, in the order in which it takes its arrays."""
    x = relu(layers.norm(layers.convolve(x)))
    for stage, _ in enumerate(size.channels):
        for block in range(size.blocks):
            narrower = stage > 0 and block == 0
            stride, padding = (2, 1) if narrower else (1, None)
            y = relu(layers.norm(layers.convolve(x, stride, padding)))
            y = layers.norm(layers.convolve(y))
            if narrower:
                x = layers.norm(layers.convolve(x, 2, 0))
            x = relu(x + y)
    return layers.dense(mean(x))


def _momentum_jax(rate, momentum=0.9):
    def start(jax, arrays):
        return jax.tree.map(jax.numpy.zeros_like, arrays)

    def update(arrays, grads, state):
        state = [momentum * s + g for s, g in zip(state, grads)]
        return [a - rate * s for a, s in zip(arrays, state)], state

    return start, update


def _classifier_tf(tf, size, forward, arrays, side, classes):
    layers = TFLayers(tf, arrays)
    x = tf.placeholder(tf.float32, [size.batch, side, side, 3])
    y = tf.placeholder(tf.int32, [size.batch])
    logits = forward(layers, tf.nn.relu, lambda x: tf.reduce_mean(x, [1, 2]), x, size)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    loss = tf.reduce_mean(losses)
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, var_list=layers.variables)
    batches = labelled((size.batch, side, side, 3), classes)
    return tf_steps(tf, [x, y], batches, loss, tf.group(train, *layers.updates))


def _classifier_torch(torch, size, forward, arrays, side, classes):
    layers = TorchLayers(torch, arrays)

    def loss_of(x, y):
        x = x.permute(0, 3, 1, 2)  # channels last in memory
        logits = forward(layers.start(), torch.relu, lambda x: x.mean((2, 3)), x, size)
        return torch.nn.functional.cross_entropy(logits, y.long())

    optimizer = torch.optim.SGD(layers.parameters, 0.1, momentum=0.9, fused=True)
    return torch_steps(torch, optimizer, loss_of, labelled((size.batch, side, side, 3), classes))


def _classifier_jax(jax, size, forward, arrays, side, classes):
    def logits(layers, x):
        return forward(layers, jax.nn.relu, lambda x: x.mean((1, 2)), x, size)

    batches = labelled((size.batch, side, side, 3), classes)
    return _jax_training(jax, logits, arrays, _statistics(arrays), _momentum_jax(0.1), batches)


@resnet20.tf
def _resnet20_tf(tf, size):
    return _classifier_tf(tf, size, _resnet20, _resnet20_arrays(size), 32, 10)


@resnet20.torch
def _resnet20_torch(torch, size):
    return _classifier_torch(torch, size, _resnet20, _resnet20_arrays(size), 32, 10)


@resnet20.jax
def _resnet20_jax(jax, size):
    return _classifier_jax(jax, size, _resnet20, _resnet20_arrays(size), 32, 10)


RESNET50 = {"batch": 4, "side": 224, "blocks": (3, 4, 6, 3), "width": 64, "classes": 1000}
TINY_RESNET50 = {"batch": 1, "side": 32, "blocks": (1, 1), "width": 2, "classes": 5}

resnet50 = workload(
    "resnet50_inference", "ResNet-50 224x224, batch 4, inference", full=RESNET50, tiny=TINY_RESNET50
)
resnet50_train = workload(
    "resnet50",
    "ResNet-50 224x224, batch 4, batch norm, momentum",
    full=RESNET50,
    tiny=TINY_RESNET50,
    train=True,
    tolerance=5e-3,
)


def _resnet50_arrays(size):
    random = iter(range(1, 1000))

    def kernel(*shape):
        return weights(shape, seed=next(random)) + _norm_arrays(shape[-1])

    before = size.width
    arrays = kernel(7, 7, 3, before)
    for stage, blocks in enumerate(size.blocks):
        narrow = size.width * 2**stage
        for block in range(blocks):
            arrays += kernel(1, 1, before, narrow) + kernel(3, 3, narrow, narrow)
            # A residual branch starts small, so that activations keep their size in a net this deep.
            *last, scale, shift = kernel(1, 1, narrow, 4 * narrow)
            arrays += [*last, scale * np.float32(0.25), shift]
            if block == 0:
                arrays += kernel(1, 1, before, 4 * narrow)
            before = 4 * narrow
    return arrays + weights((before, size.classes), (size.classes,), seed=7, scale=0.01)


def _resnet50_with(pool):
    def forward(layers, relu, mean, x, size):
        x = pool(relu(layers.norm(layers.convolve(x, 2, 3))))
        for stage, blocks in enumerate(size.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                y = relu(layers.norm(layers.convolve(x)))
                y = relu(layers.norm(layers.convolve(y, stride, 1)))
                y = layers.norm(layers.convolve(y))
                if block == 0:
                    x = layers.norm(layers.convolve(x, stride, 0))
                x = relu(x + y)
        return layers.dense(mean(x))

    return forward


# Windows of 3x3 in steps of 2, the last one cut off at the border, which is TensorFlow's "SAME" and PyTorch's ceil_mode.
def _resnet50_tf_forward(tf):
    return _resnet50_with(
        lambda x: tf.nn.max_pool(x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
    )


def _resnet50_torch_forward(torch):
    return _resnet50_with(lambda x: torch.nn.functional.max_pool2d(x, 3, 2, ceil_mode=True))


def _resnet50_jax_forward(jax):
    return _resnet50_with(
        lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    )


@resnet50_train.tf
def _resnet50_train_tf(tf, size):
    forward, arrays = _resnet50_tf_forward(tf), _resnet50_arrays(size)
    return _classifier_tf(tf, size, forward, arrays, size.side, size.classes)


@resnet50_train.torch
def _resnet50_train_torch(torch, size):
    forward, arrays = _resnet50_torch_forward(torch), _resnet50_arrays(size)
    return _classifier_torch(torch, size, forward, arrays, size.side, size.classes)


@resnet50_train.jax
def _resnet50_train_jax(jax, size):
    forward, arrays = _resnet50_jax_forward(jax), _resnet50_arrays(size)
    return _classifier_jax(jax, size, forward, arrays, size.side, size.classes)


def _images(size):
    return labelled((size.batch, size.side, size.side, 3), size.classes)[0][0]


@resnet50.tf
def _resnet50_tf(tf, size):
    layers = TFLayers(tf, _resnet50_arrays(size), training=False)
    x = tf.placeholder(tf.float32, [None, size.side, size.side, 3])
    forward = _resnet50_tf_forward(tf)
    logits = forward(layers, tf.nn.relu, lambda x: tf.reduce_mean(x, [1, 2]), x, size)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    feeds = {x: _images(size)}
    return lambda: float(np.abs(session.run(logits, feeds)).max())


@resnet50.torch
def _resnet50_torch(torch, size):
    layers = TorchLayers(torch, _resnet50_arrays(size), training=False)
    forward, images = _resnet50_torch_forward(torch), _images(size)

    def step():
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2)
            logits = forward(layers.start(), torch.relu, lambda x: x.mean((2, 3)), x, size)
        return float(np.abs(logits.numpy()).max())

    return step


@resnet50.jax
def _resnet50_jax(jax, size):
    arrays = _resnet50_arrays(size)
    forward, images = _resnet50_jax_forward(jax), _images(size)

    def network(arrays, statistics, x):
        layers = JaxLayers(jax, arrays, statistics, training=False)
        return forward(layers, jax.nn.relu, lambda x: x.mean((1, 2)), x, size)

    compiled = jax.jit(network)
    statistics = [jax.numpy.array(s) for s in _statistics(arrays)]
    arrays = [jax.numpy.array(a) for a in arrays]
    return lambda: float(np.abs(compiled(arrays, statistics, images)).max())


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
    generator = weights((size.code, 16 * a), seed=1, scale=0.02) + _norm_arrays(a)
    for out, before in ((b, a), (c, b)):
        generator += weights((4, 4, out, before), seed=out, scale=0.05) + _norm_arrays(out)
    generator += weights((4, 4, 3, c), seed=3, scale=0.05)
    discriminator = weights((4, 4, 3, c), seed=4, scale=0.05)
    for before, out in ((c, b), (b, a)):
        discriminator += weights((4, 4, before, out), seed=out + 5, scale=0.05) + _norm_arrays(out)
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
        layers = JaxLayers(jax, arrays, _statistics(generator))

        def reshape(z):
            return (z @ next(layers.next)).reshape(-1, 4, 4, width)

        def widen(x):
            kernel = next(layers.next)
            return jax.lax.conv_transpose(
                x, kernel, (2, 2), "SAME", dimension_numbers=NHWC, transpose_kernel=True
            )

        return _generate(layers, jax.nn.relu, jnp.tanh, reshape, widen, z)

    def judge(arrays, x, label):
        layers = JaxLayers(jax, arrays, _statistics(discriminator))
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
