"""Training steps in each framework: what surrounds a model."""

import itertools

import numpy as np


def weights(*shapes, seed=0, scale=None):
    """Arrays of normals, with the deviation `scale` or else that which keeps the variance (He); zeros for vectors."""
    random = np.random.RandomState(seed)
    made = []
    for shape in shapes:
        if len(shape) == 1:
            made.append(np.zeros(shape, np.float32))
        else:
            deviation = scale or (2.0 / np.prod(shape[:-1])) ** 0.5
            made.append((random.randn(*shape) * deviation).astype(np.float32))
    return made


def tf_steps(tf, placeholders, batches, loss, *updates):
    """One `run` after the other, a batch each; the first also fetches the loss."""
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    feeds = itertools.cycle([dict(zip(placeholders, batch)) for batch in batches])
    fetches = [([loss, update] if i == 0 else update) for i, update in enumerate(updates)]

    def step():
        feed = next(feeds)
        value = session.run(fetches[0], feed)[0]
        for fetch in fetches[1:]:
            session.run(fetch, feed)
        return float(value)

    return step


def torch_steps(torch, optimizer, loss_of, batches, clip=None):
    """Eager steps. Optimizers are made with `fused=True`, which makes them up to a third faster, where gradients are dense."""
    batches = itertools.cycle(batches)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step():
        loss = loss_of(*[torch.from_numpy(array) for array in next(batches)])
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        return loss.item()

    return step


def torch_parameters(torch, arrays):
    """Parameters from TensorFlow's arrays: kernels of convolutions turned to [out, in, height, width], channels last in memory."""
    made = []
    for array in arrays:
        tensor = torch.from_numpy(array.copy())
        if tensor.dim() == 4:
            tensor = tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        made.append(tensor.requires_grad_())
    return made


def jax_steps(jax, loss_of, parameters, optimizer, batches, clip=None):
    """One compiled step: loss, gradients, update; parameters and state are donated."""
    jnp = jax.numpy
    start, update = optimizer

    def compute(parameters, state, *batch):
        loss, grads = jax.value_and_grad(loss_of)(parameters, *batch)
        if clip:
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
            grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, clip / norm), grads)
        parameters, state = update(parameters, grads, state)
        return loss, parameters, state

    compiled = jax.jit(compute, donate_argnums=(0, 1))
    batches = itertools.cycle(batches) if isinstance(batches, list) else batches
    held = jax.tree.map(jnp.array, parameters)
    held = [held, start(jax, held)]

    def step():
        loss, *held[:] = compiled(*held, *next(batches))
        return float(loss)

    return step


def jax_sgd(rate):
    def update(parameters, grads, state):
        import jax

        return jax.tree.map(lambda p, g: p - rate * g, parameters, grads), state

    return lambda jax, parameters: (), update


def jax_adam(rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    def start(jax, parameters):
        zeros = jax.tree.map(jax.numpy.zeros_like, parameters)
        return zeros, jax.tree.map(jax.numpy.copy, zeros), jax.numpy.zeros((), "float32")

    def update(parameters, grads, state):
        import jax

        m, v, t = state
        t = t + 1.0
        m = jax.tree.map(lambda m, g: m + (1 - beta1) * (g - m), m, grads)
        v = jax.tree.map(lambda v, g: v + (1 - beta2) * (g * g - v), v, grads)
        scale = rate * jax.numpy.sqrt(1 - beta2**t) / (1 - beta1**t)
        sqrt = jax.numpy.sqrt
        parameters = jax.tree.map(
            lambda p, m, v: p - scale * m / (sqrt(v) + epsilon), parameters, m, v
        )
        return parameters, (m, v, t)

    return start, update


def jax_cross_entropy(jax, logits, labels):
    """The mean over rows of minus the logarithm of the label's probability."""
    return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def labelled(features, classes, count=4, seed=1):
    """Batches (array of shape `features`, its first dimension the batch; int32 labels)."""
    random = np.random.RandomState(seed)
    return [
        (
            random.rand(*features).astype(np.float32),
            random.randint(0, classes, features[0]).astype(np.int32),
        )
        for _ in range(count)
    ]
