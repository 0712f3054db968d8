"""Large tables of which a step touches few rows: word2vec with NCE, embeddings with sparse Adagrad."""

import itertools

import numpy as np

from benchmarks.workloads.registry import workload
from benchmarks.workloads.training import tf_steps, torch_steps, weights

word2vec = workload(
    "word2vec",
    "word2vec, NCE with 64 sampled words, 50k words, width 128, batch 128, gradient descent",
    full={"words": 50_000, "width": 128, "batch": 128, "sampled": 64},
    tiny={"words": 50, "width": 4, "batch": 3, "sampled": 5},
    train=True,
    tolerance=0.15,  # which words are sampled is each contender's own chance
)


def _word2vec_arrays(size):
    shape = (size.words, size.width)
    embeddings = np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)
    nce = weights(shape, seed=1, scale=size.width**-0.5)[0]
    return [embeddings, nce, np.zeros(size.words, np.float32)]


def _skip_grams(size):
    """Pairs of words; small numbers are frequent, as in a vocabulary sorted by frequency."""
    random = np.random.RandomState(1)
    u = random.rand(8, 2, size.batch)
    words = (np.exp(u * np.log(size.words + 1)) - 1).astype(np.int32)
    return [(centre, context[:, None]) for centre, context in np.minimum(words, size.words - 1)]


@word2vec.tf
def _word2vec_tf(tf, size):
    embeddings, weight, bias = [tf.Variable(array) for array in _word2vec_arrays(size)]
    centre = tf.placeholder(tf.int32, [size.batch])
    context = tf.placeholder(tf.int32, [size.batch, 1])
    losses = tf.nn.nce_loss(
        weights=weight,
        biases=bias,
        labels=context,
        inputs=tf.nn.embedding_lookup(embeddings, centre),
        num_sampled=size.sampled,
        num_classes=size.words,
    )
    loss = tf.reduce_mean(losses)
    train = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    return tf_steps(tf, [centre, context], _skip_grams(size), loss, train)


@word2vec.torch
def _word2vec_torch(torch, size):
    embeddings, weight, bias = [
        torch.from_numpy(a).requires_grad_() for a in _word2vec_arrays(size)
    ]
    bias = bias.detach().reshape(-1, 1).requires_grad_()  # sparse gradients want rows
    functional = torch.nn.functional
    log_range = float(np.log(size.words + 1))

    def expected(words, tries):
        """How often the log-uniform sampler is expected to draw `words` in so many tries, each word at most once."""
        words = words.float()
        probability = torch.log((words + 2) / (words + 1)) / log_range
        return -torch.expm1(tries * torch.log1p(-probability))

    def sample():
        """Distinct words, and how many tries that took."""
        tries = torch.exp(torch.rand(4 * size.sampled) * log_range).long() - 1
        found, count = {}, 0
        for word in tries.tolist():
            count += 1
            found[word % size.words] = None
            if len(found) == size.sampled:
                break
        return torch.tensor(list(found)), count

    def rows(table, words):
        return functional.embedding(words, table, sparse=True)

    def loss_of(centre, context):
        context = context[:, 0].long()
        sampled, tries = sample()
        inputs = rows(embeddings, centre.long())
        true = (inputs * rows(weight, context)).sum(1) + rows(bias, context)[:, 0]
        true = true - torch.log(expected(context, tries))
        noise = inputs @ rows(weight, sampled).T + rows(bias, sampled)[:, 0]
        noise = noise - torch.log(expected(sampled, tries))
        losses = functional.softplus(-true) + functional.softplus(noise).sum(1)
        return losses.mean()

    optimizer = torch.optim.SGD([embeddings, weight, bias], 1.0)
    return torch_steps(torch, optimizer, loss_of, _skip_grams(size))


@word2vec.jax
def _word2vec_jax(jax, size):
    jnp = jax.numpy
    log_range = float(np.log(size.words + 1))

    def sample(key):
        """Distinct words by drawing twice as many and keeping the first new ones; the number of tries is that of the last kept."""
        draws = 4 * size.sampled
        words = jnp.exp(jax.random.uniform(key, (draws,)) * log_range).astype(jnp.int32) - 1
        words = words % size.words
        earlier = jnp.tril(words[:, None] == words[None, :], -1).any(1)
        order = jnp.argsort(jnp.where(earlier, draws, 0) + jnp.arange(draws))[: size.sampled]
        return words[order], order[-1] + 1

    def expected(words, tries):
        words = words.astype(jnp.float32)
        probability = jnp.log((words + 2) / (words + 1)) / log_range
        return -jnp.expm1(tries * jnp.log1p(-probability))

    def compute(tables, key, centre, context):
        embeddings, weight, bias = tables
        key, draw = jax.random.split(key)
        context = context[:, 0]
        sampled, tries = sample(draw)
        # One look-up and one update of each table: with two of each, XLA copies the whole table.
        words = jnp.concatenate([context, sampled])

        def loss_of(inputs, w, b):
            w_true, w_noise = jnp.split(w, [size.batch])
            b_true, b_noise = jnp.split(b, [size.batch])
            true = (inputs * w_true).sum(1) + b_true - jnp.log(expected(context, tries))
            noise = inputs @ w_noise.T + b_noise - jnp.log(expected(sampled, tries))
            return (jax.nn.softplus(-true) + jax.nn.softplus(noise).sum(1)).mean()

        rows = embeddings[centre], weight[words], bias[words]
        loss, grads = jax.value_and_grad(loss_of, argnums=(0, 1, 2))(*rows)
        embeddings = embeddings.at[centre].add(-grads[0])
        weight, bias = weight.at[words].add(-grads[1]), bias.at[words].add(-grads[2])
        return loss, (embeddings, weight, bias), key

    compiled = jax.jit(compute, donate_argnums=(0, 1))
    held = [tuple(jnp.array(a) for a in _word2vec_arrays(size)), jax.random.PRNGKey(0)]
    batches = itertools.cycle(_skip_grams(size))

    def step():
        loss, *held[:] = compiled(*held, *next(batches))
        return float(loss)

    return step


adagrad = workload(
    "sparse_adagrad",
    "embedding of a million rows of 64, 1024 looked up, sparse Adagrad",
    full={"rows": 1_000_000, "width": 64, "batch": 1024},
    tiny={"rows": 100, "width": 4, "batch": 5},
    train=True,
)


def _look_ups(size):
    random = np.random.RandomState(2)
    return [(random.randint(0, size.rows, size.batch).astype(np.int32),) for _ in range(8)]


@adagrad.tf
def _adagrad_tf(tf, size):
    table = tf.Variable(tf.fill([size.rows, size.width], 0.5))
    ids = tf.placeholder(tf.int32, [size.batch])
    loss = tf.reduce_mean(tf.square(tf.nn.embedding_lookup(table, ids)))
    train = tf.train.AdagradOptimizer(0.1).minimize(loss)
    return tf_steps(tf, [ids], _look_ups(size), loss, train)


@adagrad.torch
def _adagrad_torch(torch, size):
    table = torch.full((size.rows, size.width), 0.5, requires_grad=True)
    optimizer = torch.optim.Adagrad([table], 0.1, initial_accumulator_value=0.1)

    def loss_of(ids):
        return torch.nn.functional.embedding(ids, table, sparse=True).square().mean()

    return torch_steps(torch, optimizer, loss_of, _look_ups(size))


@adagrad.jax
def _adagrad_jax(jax, size):
    jnp = jax.numpy

    def compute(table, accumulator, ids):
        loss, grads = jax.value_and_grad(lambda rows: jnp.square(rows).mean())(table[ids])
        # Rows that occur twice are added up before they are squared.
        unique, where = jnp.unique(ids, return_inverse=True, size=size.batch, fill_value=size.rows)
        grads = jnp.zeros_like(grads).at[where].add(grads)
        accumulator = accumulator.at[unique].add(grads * grads, mode="drop")
        change = 0.1 * grads * jax.lax.rsqrt(accumulator.at[unique].get(mode="clip"))
        return loss, table.at[unique].add(-change, mode="drop"), accumulator

    compiled = jax.jit(compute, donate_argnums=(0, 1))
    shape = (size.rows, size.width)
    held = [jnp.full(shape, 0.5), jnp.full(shape, 0.1)]
    batches = itertools.cycle(_look_ups(size))

    def step():
        loss, *held[:] = compiled(*held, *next(batches))
        return float(loss)

    return step
