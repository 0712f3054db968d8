"""Single kernels: an elementwise chain and its gradient, random normals, matrix products."""

import numpy as np

from benchmarks.workloads.registry import workload

chain = workload(
    "elementwise", "elementwise chain on 4M numbers", full={"count": 1 << 22}, tiny={"count": 64}
)
chain_gradient = workload(
    "elementwise_gradient",
    "elementwise chain on 4M numbers and its gradient",
    full={"count": 1 << 22},
    tiny={"count": 64},
)


def _numbers(size):
    return np.random.RandomState(0).randn(size.count).astype(np.float32)


def _chain_tf(tf, size, gradient):
    x = tf.Variable(_numbers(size))
    y = tf.tanh(x) * tf.sigmoid(x) + tf.exp(-tf.square(x)) / (1.0 + tf.abs(x)) - tf.nn.relu(x)
    total = tf.reduce_mean(y)
    if gradient:
        total = tf.reduce_mean(tf.square(tf.gradients(total * size.count, x)[0]))
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return lambda: float(session.run(total))


def _chain_torch(torch, size, gradient):
    x = torch.from_numpy(_numbers(size)).requires_grad_(gradient)

    def chain(x):
        tail = torch.exp(-torch.square(x)) / (1.0 + torch.abs(x))
        return (torch.tanh(x) * torch.sigmoid(x) + tail - torch.relu(x)).mean()

    if not gradient:
        return lambda: chain(x).item()
    return lambda: torch.autograd.grad(chain(x) * size.count, x)[0].square().mean().item()


def _chain_jax(jax, size, gradient):
    jnp = jax.numpy
    x = jnp.array(_numbers(size))

    def chain(x):
        tail = jnp.exp(-jnp.square(x)) / (1.0 + jnp.abs(x))
        return (jnp.tanh(x) * jax.nn.sigmoid(x) + tail - jax.nn.relu(x)).mean()

    def slope(x):
        return jnp.square(jax.grad(lambda x: chain(x) * size.count)(x)).mean()

    compiled = jax.jit(slope if gradient else chain)
    return lambda: float(compiled(x))


for each, wanted in ((chain, False), (chain_gradient, True)):
    each.tf(lambda tf, size, wanted=wanted: _chain_tf(tf, size, wanted))
    each.torch(lambda torch, size, wanted=wanted: _chain_torch(torch, size, wanted))
    each.jax(lambda jax, size, wanted=wanted: _chain_jax(jax, size, wanted))

normals = workload(
    "normals",
    "4M random normals",
    full={"count": 1 << 22},
    tiny={"count": 64},
    tolerance=None,
)


@normals.tf
def _normals_tf(tf, size):
    total = tf.reduce_mean(tf.square(tf.random_normal([size.count], seed=1)))
    session = tf.Session()
    return lambda: float(session.run(total))


@normals.torch
def _normals_torch(torch, size):
    return lambda: torch.randn(size.count).square().mean().item()


@normals.jax
def _normals_jax(jax, size):
    def draw(key):
        key, now = jax.random.split(key)
        return jax.numpy.square(jax.random.normal(now, (size.count,))).mean(), key

    compiled = jax.jit(draw)
    held = [jax.random.PRNGKey(0)]

    def step():
        total, held[0] = compiled(held[0])
        return float(total)

    return step


product = workload(
    "matmul", "matrix product, 1024 cubed", full={"shape": (1024,) * 3}, tiny={"shape": (4, 5, 6)}
)
tall = workload(
    "matmul_tall",
    "matrix product, 8192x256x256",
    full={"shape": (8192, 256, 256)},
    tiny={"shape": (8, 3, 2)},
)
transposed = workload(
    "matmul_transposed",
    "matrix product, 512x2048 and 512x2048, the second transposed",
    full={"shape": (512, 2048, 512), "transposed": True},
    tiny={"shape": (3, 4, 5)},
)


def _factors(size):
    rows, inner, columns = size.shape
    random = np.random.RandomState(0)
    a = random.randn(rows, inner).astype(np.float32)
    b = random.randn(inner, columns).astype(np.float32)
    return a, (b.T.copy() if hasattr(size, "transposed") else b)


def _product_tf(tf, size):
    a, b = [tf.Variable(array) for array in _factors(size)]
    product = tf.matmul(a, b, transpose_b=hasattr(size, "transposed"))
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return lambda: float(session.run(product)[0, 0])


def _product_torch(torch, size):
    a, b = [torch.from_numpy(array) for array in _factors(size)]
    if hasattr(size, "transposed"):
        b = b.T
    return lambda: (a @ b)[0, 0].item()


def _product_jax(jax, size):
    a, b = [jax.numpy.array(array) for array in _factors(size)]
    turn = hasattr(size, "transposed")
    compiled = jax.jit(lambda a, b: a @ (b.T if turn else b))
    return lambda: float(np.asarray(compiled(a, b))[0, 0])


for each in (product, tall, transposed):
    each.tf(_product_tf)
    each.torch(_product_torch)
    each.jax(_product_jax)
