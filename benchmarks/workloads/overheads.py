"""What a run costs that computes nothing much."""

import numpy as np

from benchmarks.workloads.registry import workload

noop = workload("noop", "a run of an operation without work", tolerance=None)
scalar = workload("scalar_feed", "feed a scalar, fetch its double")
fetches = workload("fetches", "100 fetches", full={"count": 100}, tiny={"count": 3})
arguments = workload(
    "arguments",
    "400 small variables, each with a momentum step",
    full={"count": 400},
    tiny={"count": 3},
    tolerance=5e-3,  # TensorFlow's loss may see some of the new values
)


@noop.tf
def _noop_tf(tf, size):
    session, nothing = tf.Session(), tf.no_op()
    return lambda: session.run(nothing)


@noop.jax
def _noop_jax(jax, size):
    nothing, x = jax.jit(lambda x: x), jax.numpy.zeros(())

    def step():
        nothing(x)

    return step


@scalar.tf
def _scalar_tf(tf, size):
    x = tf.placeholder(tf.float32, [])
    session, double = tf.Session(), x * 2.0
    return lambda: float(session.run(double, {x: 3.0}))


@scalar.torch
def _scalar_torch(torch, size):
    return lambda: (torch.tensor(3.0) * 2.0).item()


@scalar.jax
def _scalar_jax(jax, size):
    double = jax.jit(lambda x: x * 2.0)
    return lambda: float(double(3.0))


def _vector():
    return np.arange(16, dtype=np.float32)


@fetches.tf
def _fetches_tf(tf, size):
    x = tf.placeholder(tf.float32, [16])
    session, results = tf.Session(), [x * float(i) for i in range(size.count)]
    feeds = {x: _vector()}
    return lambda: float(session.run(results, feeds)[-1].sum())


@fetches.torch
def _fetches_torch(torch, size):
    vector = _vector()

    def step():
        x = torch.from_numpy(vector)
        return float([(x * float(i)).numpy() for i in range(size.count)][-1].sum())

    return step


@fetches.jax
def _fetches_jax(jax, size):
    compiled = jax.jit(lambda x: [x * float(i) for i in range(size.count)])
    vector = _vector()
    return lambda: float(jax.device_get(compiled(vector))[-1].sum())


@arguments.tf
def _arguments_tf(tf, size):
    variables = [tf.Variable(tf.fill([4], float(i))) for i in range(size.count)]
    loss = tf.add_n([tf.reduce_sum(tf.square(v)) for v in variables])
    train = tf.train.MomentumOptimizer(1e-3, 0.9).minimize(loss)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return lambda: float(session.run([loss, train])[0])


@arguments.torch
def _arguments_torch(torch, size):
    variables = [torch.full((4,), float(i), requires_grad=True) for i in range(size.count)]
    optimizer = torch.optim.SGD(variables, 1e-3, momentum=0.9, fused=True)

    def step():
        loss = sum(v.square().sum() for v in variables)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@arguments.jax
def _arguments_jax(jax, size):
    jnp = jax.numpy

    def compute(variables, momenta):
        loss, grads = jax.value_and_grad(lambda vs: sum(jnp.square(v).sum() for v in vs))(variables)
        momenta = [0.9 * m + g for m, g in zip(momenta, grads)]
        return loss, [v - 1e-3 * m for v, m in zip(variables, momenta)], momenta

    compiled = jax.jit(compute, donate_argnums=(0, 1))
    held = [
        [jnp.full((4,), float(i)) for i in range(size.count)],
        [jnp.zeros((4,)) for _ in range(size.count)],
    ]

    def step():
        loss, *held[:] = compiled(*held)
        return float(loss)

    return step
