"""Training programs whose step is written once for a share of the batch: alone on all of it, or mirrored over devices."""

import numpy as np

ROWS = 8
X = np.linspace(-1.0, 1.0, ROWS * 3).reshape(ROWS, 3).astype(np.float32)
Y = (X.sum(axis=1, keepdims=True) * 2 + 0.5).astype(np.float32)
WORDS = np.array([[0, 1], [2, 2], [1, 3], [5, 0], [4, 4], [3, 1], [0, 5], [2, 0]], np.int32)


def dense(tf, x, y, words):
    hidden = tf.layers.dense(x, 4, tf.nn.tanh, kernel_initializer=tf.constant_initializer(0.2))
    w = tf.get_variable("w", [4, 1], initializer=tf.constant_initializer(0.25))
    return tf.reduce_sum(tf.square(tf.matmul(hidden, w) - y))


def embedding(tf, x, y, words):
    table = tf.get_variable("table", [6, 3], initializer=tf.constant_initializer(0.5))
    rows = tf.nn.embedding_lookup(table, words)
    return tf.reduce_sum(tf.square(tf.reduce_sum(rows, axis=1) * x - y))


def control_flow(tf, x, y, words):
    w = tf.get_variable("w", [3, 1], initializer=tf.constant_initializer(0.25))
    start = tf.matmul(x, w)
    _, grown = tf.while_loop(
        lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(v) * 0.5 + v), [tf.constant(0), start]
    )
    out = tf.cond(w[0, 0] < 9.0, lambda: grown * 2.0, lambda: grown - w[0, 0])
    return tf.reduce_sum(tf.square(out - y))


def noisy(tf, x, y, words):
    """Random numbers, branches that replicas take or do not, averages of each replica: no two replicas do the same."""
    w = tf.get_variable("w", [3, 1], initializer=tf.constant_initializer(0.25))
    average = tf.get_variable(
        "average",
        [3],
        initializer=tf.zeros_initializer(),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
    moved = average.assign_sub((average - tf.reduce_mean(x, axis=0)) * 0.1)
    x = tf.nn.dropout(x, rate=0.25) + tf.random_normal(tf.shape(x), stddev=0.01)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    scale = tf.constant([1.0, 1.5, 0.5, 2.0])[replica]
    out = tf.matmul(x, w) * scale
    out = tf.cond(tf.reduce_sum(x) > 0.0, lambda: out + tf.random_uniform([]), lambda: tf.tanh(out))
    _, out = tf.while_loop(
        lambda i, v: i < 1 + replica, lambda i, v: (i + 1, v * 1.1), [tf.constant(0), out]
    )
    with tf.control_dependencies([moved]):
        return tf.reduce_sum(tf.square(out - y))


MODELS = {"dense": dense, "embedding": embedding, "control_flow": control_flow, "noisy": noisy}


def build(tf, model, optimizer, count, fed=False):
    """(what to run, its loss, the variables, feeds) over `count` CPU devices, without a strategy for one."""
    x = tf.placeholder(tf.float32, [None, 3]) if fed else tf.constant(X)
    y = tf.placeholder(tf.float32, [None, 1]) if fed else tf.constant(Y)
    words = tf.constant(WORDS)
    if count == 1:
        loss = model(tf, x, y, words) / ROWS
        step = tf.train.get_or_create_global_step()
        train = optimizer(tf).minimize(loss, global_step=step)
        return train, loss, tf.global_variables(), (x, y)
    strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(count)])
    with strategy.scope():
        step, made = tf.train.get_or_create_global_step(), optimizer(tf)
        shares = [tf.split(values, count) for values in (x, y, words)]
        shares = iter(zip(*shares, strict=True))
        inputs = strategy.make_input_fn_iterator(lambda context: lambda: next(shares))

        def replica(share):
            loss = model(tf, *share) / ROWS
            return made.minimize(loss, global_step=step), loss

        train, losses = strategy.experimental_run(replica, inputs)
        loss = strategy.reduce(tf.distribute.ReduceOp.SUM, losses)
        return strategy.group(train), loss, tf.global_variables(), (x, y)
