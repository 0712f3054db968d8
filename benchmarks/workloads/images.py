"""Networks that classify images: LeNet, ResNet-20 and ResNet-50."""

import numpy as np

from benchmarks.workloads.convolutional import (
    JaxLayers,
    TFLayers,
    TorchLayers,
    jax_training,
    norm_arrays,
    statistics_of,
)
from benchmarks.workloads.registry import workload
from benchmarks.workloads.training import (
    jax_adam,
    jax_cross_entropy,
    jax_steps,
    labelled,
    tf_steps,
    torch_steps,
    weights,
)

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
    arrays = kernel(3, 3, 3, before) + norm_arrays(before)
    for channels in size.channels:
        for _ in range(size.blocks):
            arrays += kernel(3, 3, before, channels) + norm_arrays(channels)
            arrays += kernel(3, 3, channels, channels) + norm_arrays(channels)
            if before != channels:
                arrays += kernel(1, 1, before, channels) + norm_arrays(channels)
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
    return jax_training(jax, logits, arrays, statistics_of(arrays), _momentum_jax(0.1), batches)


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
        return weights(shape, seed=next(random)) + norm_arrays(shape[-1])

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
        return float(logits.abs().max())

    return step


@resnet50.jax
def _resnet50_jax(jax, size):
    arrays = _resnet50_arrays(size)
    forward, images = _resnet50_jax_forward(jax), _images(size)

    def network(arrays, statistics, x):
        layers = JaxLayers(jax, arrays, statistics, training=False)
        return forward(layers, jax.nn.relu, lambda x: x.mean((1, 2)), x, size)

    compiled = jax.jit(network)
    statistics = [jax.numpy.array(s) for s in statistics_of(arrays)]
    arrays = [jax.numpy.array(a) for a in arrays]
    return lambda: float(np.abs(compiled(arrays, statistics, images)).max())
