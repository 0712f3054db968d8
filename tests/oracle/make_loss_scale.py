"""Traces of loss scales and of optimizers that use them, by TensorFlow 1.15: writes tests/data/loss_scale.json.

python3.7 tests/oracle/make_loss_scale.py
"""

import json
import pathlib

import numpy as np
import tensorflow as tf


def trace(scale, grads):
    """Per step: (gradients applied, variable, scale, global step)."""
    tf.compat.v1.reset_default_graph()
    tf.compat.v1.disable_eager_execution()
    given = tf.compat.v1.placeholder(tf.float32, [2])
    v = tf.Variable([1.0, 2.0])
    count = tf.compat.v1.train.get_or_create_global_step()
    made = scale()
    opt = tf.compat.v1.train.experimental.MixedPrecisionLossScaleOptimizer(
        tf.compat.v1.train.MomentumOptimizer(0.5, 0.9), made
    )
    loss = tf.reduce_sum(v * given)
    pairs = opt.compute_gradients(loss, [v])
    train = opt.apply_gradients(pairs, global_step=count)
    rows = []
    with tf.compat.v1.Session() as sess:
        sess.run(tf.compat.v1.global_variables_initializer())
        for row in grads:
            g = sess.run(pairs[0][0], {given: row})
            sess.run(train, {given: row})
            rows.append(
                [x.tolist() if np.isfinite(x).all() else "not finite" for x in (g,)]
                + [sess.run(v).tolist(), float(sess.run(made())), int(sess.run(count))]
            )
        names = sorted(x.op.name for x in tf.compat.v1.global_variables())
    return {"rows": rows, "variables": names}


INF = float("inf")
GRADS = [[1, 2], [3, 4], [INF, 1], [1, 1], [0.5, 0.25], [INF, 0], [INF, 0], [1, 2], [1, 2]]
E = tf.compat.v1.train.experimental
CASES = {
    "fixed": lambda: E.FixedLossScale(128),
    "dynamic": lambda: E.DynamicLossScale(8, 2, 4.0),
    "dynamic_at_one": lambda: E.DynamicLossScale(2, 100, 4.0),
}
found = {name: trace(case, GRADS[:2] if name == "fixed" else GRADS) for name, case in CASES.items()}
path = pathlib.Path(__file__).parents[1] / "data" / "loss_scale.json"
path.write_text(json.dumps({"grads": GRADS, **found}, indent=1).replace("Infinity", "1e999") + "\n")
