"""Programs that TensorFlow 1.15 and Headrace run alike: each builds under a strategy and says what to look at."""

import numpy as np

X = np.linspace(-1.0, 1.0, 24).reshape(8, 3).astype(np.float32)
Y = (X.sum(axis=1, keepdims=True) * 2 + 0.5).astype(np.float32)


def share(tf, strategy, array):
    """The rows of `array` that belong to the replica that is being built."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    count = len(array) // strategy.num_replicas_in_sync
    return tf.slice(tf.constant(array), [replica * count, 0], [count, array.shape[1]])


def training(make_optimizer, use_get_variable=True):
    def build(tf, strategy):
        step = tf.train.get_or_create_global_step()
        optimizer = make_optimizer(tf)

        def replica():
            x, y = share(tf, strategy, X), share(tf, strategy, Y)
            if use_get_variable:
                w = tf.get_variable("w", [3, 1], initializer=tf.constant_initializer(0.25))
            else:
                w = tf.Variable([[0.25], [0.25], [0.25]], name="w")
            b = tf.Variable([0.0], name="b")
            loss = tf.reduce_sum(tf.square(tf.matmul(x, w) + b - y)) / len(X)
            return optimizer.minimize(loss, global_step=step), loss

        train, losses = strategy.experimental_run_v2(replica)
        loss = strategy.reduce(tf.distribute.ReduceOp.SUM, losses)
        return strategy.group(train), [loss], 4

    return build


def sparse(tf, strategy):
    """Rows that replicas have in common, and rows twice in one replica."""
    optimizer = tf.train.AdagradOptimizer(0.5)

    def replica():
        table = tf.get_variable("table", [6, 2], initializer=tf.constant_initializer(1.0))
        replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.gather(table, tf.stack([replica_id, 3, 3, replica_id + 1]))
        return optimizer.minimize(tf.reduce_sum(rows * rows))

    return strategy.group(strategy.experimental_run_v2(replica)), [], 3


def assigned(aggregation, method, start=1.0):
    def build(tf, strategy):
        mode = getattr(tf.VariableAggregation, aggregation)
        v = tf.Variable(start, name="v", aggregation=mode)

        def replica():
            replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
            return getattr(v, method)(tf.cast(replica_id, tf.float32) + 2.0)

        return strategy.group(strategy.experimental_run_v2(replica)), [], 2

    return build


def read_together(aggregation):
    """Copies that go their own ways until they are read."""

    def build(tf, strategy):
        v = tf.Variable(
            1.0,
            name="v",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=getattr(tf.VariableAggregation, aggregation),
        )

        def replica():
            replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
            return v.assign_add(tf.cast(replica_id, tf.float32) * 3.0)

        step = strategy.group(strategy.experimental_run_v2(replica))
        return step, [lambda: strategy.extended.read_var(v)], 3

    return build


def reductions(tf, strategy):
    """All-reduce with its gradient, merge_call, and reduce along an axis with and without known sizes."""
    reduce_op = tf.distribute.ReduceOp

    def replica():
        context = tf.distribute.get_replica_context()
        k = tf.cast(context.replica_id_in_sync_group, tf.float32)
        x = tf.constant([[1.0, 2.0], [3.0, 5.0]]) * (k + 1.0)
        total, mean = (
            context.all_reduce(reduce_op.SUM, x),
            context.all_reduce(reduce_op.MEAN, {"a": x, "b": [k]}),
        )
        slope = tf.gradients(total * total * (k + 1.0), x)[0]

        def merge(strategy, value):
            return strategy.extended.reduce_to(reduce_op.MEAN, value, "/cpu:0") * 10.0

        merged = context.merge_call(merge, args=(k,))
        unknown = tf.placeholder_with_default(x, [None, 2])
        return total, mean["a"], mean["b"][0], slope, merged, x, unknown

    *each, x, unknown = strategy.experimental_run_v2(replica)
    shown = [strategy.experimental_local_results(value) for value in each]
    for value, op, axes in (
        (x, reduce_op.SUM, (None, 0, -1)),
        (x, reduce_op.MEAN, (None,)),  # along an axis whose size is known, TensorFlow 1.15 fails
        (unknown, reduce_op.SUM, (None, 0)),
        (unknown, reduce_op.MEAN, (None, 0)),
    ):
        shown += [strategy.reduce(op, value, axis=axis) for axis in axes]
    return tf.no_op(), shown, 1


PROGRAMS = {
    "gradient_descent": training(lambda tf: tf.train.GradientDescentOptimizer(0.1)),
    "adam": training(lambda tf: tf.train.AdamOptimizer(0.1)),
    "momentum": training(lambda tf: tf.train.MomentumOptimizer(0.1, 0.9), use_get_variable=False),
    "rmsprop": training(lambda tf: tf.train.RMSPropOptimizer(0.1, momentum=0.5)),
    "sparse": sparse,
    "assign_mean": assigned("MEAN", "assign"),
    "assign_add_sum": assigned("SUM", "assign_add"),
    "assign_sub_first": assigned("ONLY_FIRST_REPLICA", "assign_sub"),
    "on_read_sum": read_together("SUM"),
    "on_read_mean": read_together("MEAN"),
    "reductions": reductions,
}


def run(tf, program, count):
    """What a program shows in each of its steps, and its variables (copy by copy) after the last."""
    with tf.Graph().as_default():
        strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(count)])
        with strategy.scope():
            step, shown, steps = program(tf, strategy)
            shown = [value() if callable(value) else value for value in shown]
            variables = sorted(tf.global_variables(), key=lambda v: v.name)
            copies = {v.name: strategy.experimental_local_results(v) for v in variables}
            init = tf.global_variables_initializer()
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": count})) as sess:
            sess.run(init)
            history = []
            for _ in range(steps):
                sess.run(step)
                history.append(as_lists(sess.run(shown)))
            return {
                "history": history,
                "variables": {
                    name: as_lists(sess.run([c.value() for c in own]))
                    for name, own in copies.items()
                },
            }


def as_lists(values):
    if isinstance(values, (list, tuple)):
        return [as_lists(value) for value in values]
    return np.asarray(values).tolist()
