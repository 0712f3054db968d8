"""Training programs whose graphs and numbers are compared with TensorFlow's: `tf` is either of the two."""

# This file also runs under Python 3.7.

import numpy as np

MAKERS = {
    "sgd": lambda t: t.GradientDescentOptimizer(0.3),
    "momentum": lambda t: t.MomentumOptimizer(0.3, 0.9),
    "nesterov": lambda t: t.MomentumOptimizer(0.3, lambda: 0.8, use_nesterov=True),
    "adagrad": lambda t: t.AdagradOptimizer(0.5, initial_accumulator_value=0.2),
    "adagrad_da": lambda t: t.AdagradDAOptimizer(
        0.5,
        t.get_or_create_global_step(),
        l1_regularization_strength=0.01,
        l2_regularization_strength=0.02,
    ),
    "adadelta": lambda t: t.AdadeltaOptimizer(2.0, rho=0.8, epsilon=1e-2),
    "adam": lambda t: t.AdamOptimizer(0.1, beta1=0.8, use_locking=True),
    "adam_called": lambda t: t.AdamOptimizer(lambda: 0.1, lambda: 0.7, lambda: 0.9, name="Own"),
    "ftrl": lambda t: t.FtrlOptimizer(0.5, l1_regularization_strength=0.01, linear_name="linear"),
    "ftrl_power": lambda t: t.FtrlOptimizer(
        0.5, learning_rate_power=-0.3, l2_regularization_strength=0.1, accum_name="squares"
    ),
    "ftrl_shrinkage": lambda t: t.FtrlOptimizer(0.5, l2_shrinkage_regularization_strength=0.1),
    "proximal": lambda t: t.ProximalGradientDescentOptimizer(
        0.3, l1_regularization_strength=0.02, l2_regularization_strength=0.1
    ),
    "proximal_adagrad": lambda t: t.ProximalAdagradOptimizer(
        0.3, l1_regularization_strength=0.02, l2_regularization_strength=0.1
    ),
    "rmsprop": lambda t: t.RMSPropOptimizer(0.1, momentum=0.5, epsilon=1e-3),
    "rmsprop_centered": lambda t: t.RMSPropOptimizer(
        0.1, decay=0.8, momentum=0.5, epsilon=1e-2, centered=True
    ),
}

# name -> (the type of the variables, whether they are resources)
FLAVOURS = {
    "ref32": ("float32", False),
    "resource32": ("float32", True),
    "ref64": ("float64", False),
    "resource64": ("float64", True),
    "resource16": ("float16", True),
}
# TensorFlow has no kernel, or does not convert the hyperparameters.
NOT_IN_TENSORFLOW = {
    "adagrad_da": {"resource16"},
    "proximal": {"ref64", "resource64", "resource16"},
    "proximal_adagrad": {"ref64", "resource64", "resource16"},
}
STEPS = 3
W = np.array([[1.0, -2.0], [0.5, 3.0]])
ROWS = np.arange(10.0).reshape(5, 2) / 4 - 1


def model(tf, maker, flavour):
    """Makes a loss of a dense variable and of rows of another, some named twice: the step that makes it smaller."""
    dtype, use_resource = FLAVOURS[flavour]
    w = tf.get_variable("w", initializer=W.astype(dtype), use_resource=use_resource)
    rows = tf.get_variable("rows", initializer=ROWS.astype(dtype), use_resource=use_resource)
    taken = tf.nn.embedding_lookup(rows, [[3, 1], [3, 3]])
    target = tf.constant([[0.5, -0.25]], dtype)
    loss = tf.reduce_sum(tf.square(w - target)) / 8 + tf.reduce_sum(tf.square(taken - target)) / 16
    return MAKERS[maker](tf.train).minimize(loss, var_list=[w, rows])


def train(tf, flavour):
    """All variables after STEPS steps of every optimizer, each on a model of its own: name -> value."""
    with tf.Graph().as_default(), tf.Session() as sess:
        count = tf.train.get_or_create_global_step()
        steps = []
        for maker in sorted(MAKERS):
            if flavour not in NOT_IN_TENSORFLOW.get(maker, ()):
                with tf.variable_scope(maker):
                    steps.append(model(tf, maker, flavour))
        with tf.control_dependencies(steps):
            step = tf.assign_add(count, 1).op
        sess.run(tf.global_variables_initializer())
        for _ in range(STEPS):
            sess.run(step)
        variables = {v.op.name: v for v in tf.global_variables()}
        return sess.run(variables)


def nodes(tf, build):
    """The nodes that `build(tf)` adds: [name, op, inputs, colocation, device]."""
    with tf.Graph().as_default() as graph:
        build(tf)
        found = []
        for node in graph.as_graph_def().node:
            groups = (
                [g.decode() for g in node.attr["_class"].list.s] if "_class" in node.attr else []
            )
            found.append([node.name, node.op, list(node.input), groups, node.device])
    return found


def optimizers(tf):
    """Every optimizer on reference and resource variables, one after the other in one graph."""
    for flavour in ("ref32", "resource32"):
        for maker in sorted(MAKERS):
            with tf.variable_scope("_".join((maker, flavour))):
                dtype, use_resource = FLAVOURS[flavour]
                w = tf.get_variable("w", initializer=W.astype(dtype), use_resource=use_resource)
                rows = tf.get_variable(
                    "rows", initializer=ROWS.astype(dtype), use_resource=use_resource
                )
                slices = tf.IndexedSlices(
                    tf.constant([[1.0, 2.0]] * 2), tf.constant([1, 1]), tf.constant([5, 2])
                )
                MAKERS[maker](tf.train).apply_gradients([(tf.ones([2, 2]), w), (slices, rows)])


def partitioned(tf):
    """Slots of a partitioned variable, of one with a constraint and of double type; names, scopes, gates, steps."""
    with tf.variable_scope("part", partitioner=tf.fixed_size_partitioner(2)):
        rows = tf.get_variable("rows", [5, 2])
    kept = tf.get_variable("kept", [2], constraint=lambda v: tf.minimum(v, 1.0))
    double = tf.get_variable("double", [2], dtype=tf.float64, use_resource=True)
    step = tf.train.create_global_step()
    count = tf.get_variable("count", [], tf.int32, use_resource=True)
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0]]), tf.constant([1]))
    first, second = list(rows)
    pairs = [(slices, first), (tf.ones([2, 2]), second)]
    pairs += [(tf.constant([1.0, 2.0]), kept), (tf.ones([2], tf.float64), double), (None, step)]
    for make in (tf.train.AdamOptimizer, tf.train.RMSPropOptimizer, tf.train.FtrlOptimizer):
        with tf.name_scope("outer"):
            make(0.1).apply_gradients(pairs, step, name="own")
            make(tf.constant(0.1)).apply_gradients(pairs, count)
    with tf.variable_scope("inner", use_resource=True):
        tf.train.AdamOptimizer(name="other").apply_gradients(pairs[2:])


def averages(tf):
    """Moving averages of a variable, a resource and a tensor, with a count of updates."""
    step = tf.train.get_or_create_global_step()
    w = tf.Variable(tf.ones([2]), name="w")
    r = tf.get_variable("r", [2], use_resource=True)
    both = tf.add(w, r, name="both")
    average = tf.train.ExponentialMovingAverage(0.9, num_updates=step, zero_debias=True)
    average.apply([w, r, both])
    average.apply([r])
    tf.train.ExponentialMovingAverage(0.5, name="own").apply([w, both])


def decays(tf):
    """Every decay of a learning rate."""
    step = tf.train.create_global_step()
    t = tf.train
    t.exponential_decay(0.1, step, 10, 0.5)
    t.exponential_decay(0.1, step, 10, 0.5, staircase=True, name="stairs")
    t.natural_exp_decay(0.1, step, 10, 0.5)
    t.inverse_time_decay(0.1, step, 10, 0.5, staircase=True)
    t.polynomial_decay(0.1, step, 10)
    t.cosine_decay(0.1, step, 10, alpha=0.2)
    t.linear_cosine_decay(0.1, step, 10)
    t.noisy_linear_cosine_decay(0.1, step, 10)


GRAPHS = [optimizers, partitioned, averages, decays]
