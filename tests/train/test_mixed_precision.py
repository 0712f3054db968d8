"""Mixed precision: which operations change, what they compute, and loss scales (traces by TensorFlow 1.15)."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto import config_pb2, rewriter_config_pb2

import headrace as tf
from headrace.session.mixed_precision import Program

TRACES = json.loads((Path(__file__).parents[1] / "data" / "loss_scale.json").read_text())
experimental = tf.train.experimental


@pytest.fixture(autouse=True)
def program_state(monkeypatch):
    monkeypatch.setattr(Program, "enabled", False)
    monkeypatch.setattr(Program, "has_plain_sessions", False)


def narrow_session(field="auto_mixed_precision_cpu"):
    config = config_pb2.ConfigProto()
    setattr(config.graph_options.rewrite_options, field, rewriter_config_pb2.RewriterConfig.ON)
    return tf.Session(config=config)


def chosen(session, fetches, feeds):
    session.run(fetches, feeds)
    step = list(session._prepared.values())[-1].step
    return {op.name: op.type for op in step.narrow}


def weights(name, *shape):
    values = np.random.RandomState(len(name) + sum(shape)).uniform(-0.4, 0.4, shape)
    return tf.get_variable(name, initializer=np.float32(values), use_resource=True)


def convolutional_net():
    """A net with all that matters: products, what lies between them, an exponential, a loss."""
    x = tf.placeholder(tf.float32, [2, 8, 8, 4], name="x")
    y = tf.placeholder(tf.int32, [2], name="y")
    h = tf.nn.conv2d(x, weights("w1", 3, 3, 4, 8), strides=[1, 1, 1, 1], padding="SAME", name="c1")
    h = tf.nn.relu(tf.nn.bias_add(h, weights("b1", 8), name="ba1"), name="r1")
    h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME", name="mp")
    h = tf.nn.conv2d(h, weights("w2", 3, 3, 8, 8), strides=[1, 1, 1, 1], padding="SAME", name="c2")
    h = tf.nn.tanh(h, name="th")
    h = tf.multiply(h, tf.exp(-h, name="ex"), name="mu")
    h = tf.matmul(tf.reshape(h, [2, -1], name="rs"), weights("w3", 128, 32), name="mm")
    h = tf.nn.sigmoid(h, name="sg")
    h = tf.pad(tf.concat([h, h], 1, name="cc"), [[0, 0], [1, 1]], name="pd")
    logits = tf.matmul(h, weights("w4", 66, 10), name="mm2")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits, name="xe")
    loss = tf.reduce_mean(losses, name="loss")
    return x, y, loss


def test_the_choice_of_operations():
    x, y, loss = convolutional_net()
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    with narrow_session() as sess:
        sess.run(tf.global_variables_initializer())
        found = chosen(sess, [loss, train], {x: np.zeros((2, 8, 8, 4)), y: [0, 1]})
    forward = {name for name in found if "/" not in name}
    # Not tanh, which leads to an exponential and to what is made of it; not the loss and its gradient.
    assert forward == {"c1", "ba1", "r1", "mp", "c2", "rs", "mm", "sg", "cc", "pd", "mm2"}
    gradients = {name.removeprefix("gradients/") for name in found if name.startswith("gradients/")}
    assert {
        "mm2_grad/MatMul",
        "mm_grad/MatMul_1",
        "sg_grad/SigmoidGrad",
        "c2_grad/Conv2DBackpropFilter",
        "mp_grad/MaxPoolGrad",
        "r1_grad/ReluGrad",
    } <= gradients
    assert not any(
        name.startswith(("th_grad", "mu_grad", "xe_grad", "loss_grad")) for name in gradients
    )
    assert not any("GradientDescent" in name for name in found)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("auto_mixed_precision_cpu", "f16"),
        ("auto_mixed_precision_onednn_bfloat16", "bf16"),
        ("auto_mixed_precision_mkl", "bf16"),
    ],
)
def test_the_program_computes_in_16_bits(field, kind):
    x, y, loss = convolutional_net()
    feeds = {x: np.random.RandomState(0).rand(2, 8, 8, 4) * 0.1, y: [0, 1]}
    with narrow_session(field) as sess:
        sess.run(tf.global_variables_initializer())
        narrow = sess.run(loss, feeds)
        (island,) = list(sess._prepared.values())[-1].step.programs.islands.values()
        ((jitted, _),) = island._programs.values()
        arguments = island.arguments(
            lambda key, _: sess._resources.cell(key).value,
            (np.float32(feeds[x]), np.int32(feeds[y])),
        )
        text = jitted.lower(*arguments).as_text()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        wide = sess.run(loss, feeds)
    products = [
        line for line in text.splitlines() if "dot_general" in line or "convolution" in line
    ]
    assert len(products) == 4
    assert all(f"x{kind}>" in line and "xf32>" not in line for line in products)
    assert narrow != wide
    np.testing.assert_allclose(narrow, wide, rtol=0.02)


def overflow():
    """2^20, which float16 does not have."""
    v = tf.Variable([[1.0]], use_resource=True)
    out = v * 2.0**10
    return v, tf.reshape(tf.matmul(out, out), ())


def test_the_first_run_is_narrow_too():
    v, out = overflow()
    with narrow_session() as sess:
        sess.run(v.initializer)
        assert sess.run(out) == np.inf
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run(out) == 2**20


def test_what_is_fetched_or_left_out_keeps_its_type():
    v = tf.Variable([[1.0]], use_resource=True)
    product = tf.matmul(v * 2.0**10, v * 2.0**10)
    with experimental.auto_mixed_precision_scope(select=False):
        left_out = tf.identity(tf.matmul(v * 2.0**10, v * 2.0**10))
    with experimental.auto_mixed_precision_scope(select=True):
        included = tf.reshape(tf.matmul(v * 2.0**10, v * 2.0**10), ())
    with narrow_session() as sess:
        sess.run(v.initializer)
        assert sess.run(product) == 2**20
        assert sess.run(left_out) == 2**20
        assert sess.run(included) == np.inf


def test_bodies_of_functions():
    v = tf.Variable([[1.0]], use_resource=True)

    def body(i, total):
        large = v * 2.0**10
        return i + 1, total + tf.reshape(tf.matmul(large, large), ())

    _, looped = tf.while_loop(lambda i, total: i < 2, body, [0, 0.0])
    chose = tf.cond(v[0, 0] > 0, lambda: body(0, 0.0)[1], lambda: 0.0)
    with narrow_session() as sess:
        sess.run(v.initializer)
        assert sess.run(looped + 0) == np.inf
        assert sess.run(chose + 0) == np.inf
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run(looped) == 2**21


@pytest.mark.parametrize("version", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_batch_norm_between_products(version):
    op = getattr(tf.raw_ops, version)
    x = tf.placeholder(tf.float32, [4, 3, 3, 8], name="x")
    h = tf.nn.conv2d(x, weights("w", 1, 1, 8, 8), strides=[1, 1, 1, 1], padding="SAME")
    normal = op(x=h, scale=tf.ones([8]), offset=tf.zeros([8]), mean=[], variance=[], epsilon=1e-3)
    h = tf.nn.conv2d(normal.y, weights("u", 1, 1, 8, 8), strides=[1, 1, 1, 1], padding="SAME")
    out = tf.reduce_sum(h * h)
    grad = tf.gradients(out, x)[0] + 0.0
    feeds = {x: np.random.RandomState(0).randn(4, 3, 3, 8)}
    values = []
    for session in (tf.Session(), narrow_session()):
        with session as sess:
            sess.run(tf.global_variables_initializer())
            values.append(sess.run([out, grad, normal.batch_mean], feeds))
            found = chosen(sess, [out, grad], feeds)
    assert {version, version.replace("Norm", "NormGrad")} <= set(found.values())
    for wide, narrow in zip(*values, strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=0.02, atol=0.02)


def test_training_reaches_the_same_loss():
    r = np.random.RandomState(0)
    x = tf.placeholder(tf.float32, [64, 16])
    y = tf.placeholder(tf.float32, [64, 1])
    h = tf.nn.relu(tf.matmul(x, tf.Variable(r.randn(16, 32) * 0.3, dtype=tf.float32)))
    out = tf.matmul(h, tf.Variable(r.randn(32, 1) * 0.3, dtype=tf.float32))
    loss = tf.reduce_mean(tf.square(out - y))
    opt = experimental.enable_mixed_precision_graph_rewrite(tf.train.AdamOptimizer(0.01), 1024.0)
    train = opt.minimize(loss)
    inputs = r.randn(64, 16)
    feeds = {x: inputs, y: inputs[:, :1] * inputs[:, 1:2]}
    losses = []
    for session in (
        tf.Session(),
        narrow_session(),
        narrow_session("auto_mixed_precision_onednn_bfloat16"),
    ):
        with session as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(150):
                value, _ = sess.run([loss, train], feeds)
            losses.append(value)
    assert losses[0] < 0.1
    np.testing.assert_allclose(losses[1:], losses[0], rtol=0.2, atol=0.01)
    assert losses[1] != losses[0] != losses[2]


def test_a_convolutional_net_with_batch_norm_trains_alike():
    r = np.random.RandomState(0)
    x = tf.placeholder(tf.float32, [16, 16, 16, 8])
    y = tf.placeholder(tf.int32, [16])
    h = x
    for i, (before, after) in enumerate([(8, 16), (16, 32)]):
        kernel = weights(f"kernel{i}", 3, 3, before, after)
        h = tf.nn.conv2d(h, kernel, strides=[1, 1, 1, 1], padding="SAME")
        scale, shift = tf.Variable(tf.ones([after])), tf.Variable(tf.zeros([after]))
        h = tf.nn.fused_batch_norm(h, scale, shift)[0]
        h = tf.nn.max_pool(tf.nn.relu(h), [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
    logits = 0.1 * tf.matmul(tf.reshape(h, [16, -1]), weights("out", 4 * 4 * 32, 4))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    loss = tf.reduce_mean(losses)
    train = tf.train.MomentumOptimizer(0.2, 0.9).minimize(loss)
    feeds = {x: r.randn(16, 16, 16, 8), y: r.randint(0, 4, 16)}
    curves = []
    for session in tf.Session(), narrow_session("auto_mixed_precision_onednn_bfloat16"):
        with session as sess:
            sess.run(tf.global_variables_initializer())
            curves.append([sess.run([loss, train], feeds)[0] for _ in range(12)])
    wide, narrow = np.array(curves)
    assert wide[0] > 1 and wide[-1] < 0.2 * wide[0]
    np.testing.assert_allclose(narrow, wide, rtol=0.02)
    assert (narrow != wide).any()


def test_a_recurrent_net_computes_alike():
    tf.set_random_seed(1)
    cell = tf.nn.rnn_cell.BasicLSTMCell(64)
    x = tf.placeholder(tf.float32, [8, 12, 64])
    outputs, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(outputs))
    slope = tf.gradients(loss, tf.trainable_variables()[0])[0] * 1000
    feeds = {x: np.random.RandomState(0).randn(8, 12, 64)}
    results = []
    for session in tf.Session(), narrow_session("auto_mixed_precision_onednn_bfloat16"):
        with session as sess:
            sess.run(tf.global_variables_initializer())
            results.append([sess.run([loss, slope], feeds) for _ in range(2)][-1])
    for wide, narrow in zip(*results, strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=0.05, atol=0.02 * np.abs(wide).max())


# ---- loss scales

SCALES = {
    "fixed": lambda: experimental.FixedLossScale(128),
    "dynamic": lambda: experimental.DynamicLossScale(8, 2, 4.0),
    "dynamic_at_one": lambda: experimental.DynamicLossScale(2, 100, 4.0),
}


@pytest.mark.parametrize("name", SCALES)
def test_traces(name):
    given = tf.placeholder(tf.float32, [2])
    v = tf.Variable([1.0, 2.0])
    count = tf.train.get_or_create_global_step()
    scale = SCALES[name]()
    momentum = tf.train.MomentumOptimizer(0.5, 0.9)
    opt = experimental.MixedPrecisionLossScaleOptimizer(momentum, scale)
    pairs = opt.compute_gradients(tf.reduce_sum(v * given), [v])
    train = opt.apply_gradients(pairs, global_step=count)
    expected = TRACES[name]
    assert sorted(x.op.name for x in tf.global_variables()) == expected["variables"]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for grads, row in zip(TRACES["grads"], expected["rows"], strict=False):
            found = sess.run(pairs[0][0], {given: grads})
            assert np.isfinite(found).all() == (row[0] != "not finite")
            sess.run(train, {given: grads})
            np.testing.assert_allclose(sess.run(v), row[1], rtol=1e-6)
            assert [sess.run(scale()), sess.run(count)] == row[2:]
    assert opt.get_slot_names() == ["momentum"]
    assert opt.get_slot(v, "momentum") in opt.variables()


def test_rows_of_gradients_are_scaled():
    table = tf.Variable(np.ones((4, 2), np.float32))
    rows = tf.gather(table, [1, 1])
    opt = experimental.MixedPrecisionLossScaleOptimizer(
        tf.train.GradientDescentOptimizer(1.0), "dynamic"
    )
    pairs = opt.compute_gradients(tf.reduce_sum(rows), [table])
    assert isinstance(pairs[0][0], tf.IndexedSlices)
    train = opt.apply_gradients(pairs)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        np.testing.assert_array_equal(sess.run(table), [[1, 1], [-1, -1], [1, 1], [1, 1]])


def test_in_a_mirrored_strategy():
    with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        strategy = tf.distribute.get_strategy()
        v = tf.get_variable("v", initializer=1.0)
        opt = experimental.MixedPrecisionLossScaleOptimizer(
            tf.train.GradientDescentOptimizer(0.25), experimental.DynamicLossScale(16, 1, 2.0)
        )

        def replica():
            context = tf.distribute.get_replica_context()
            factor = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0
            return opt.minimize(v * factor * bad)

        bad = tf.placeholder_with_default(1.0, [])
        train = strategy.group(strategy.experimental_run_v2(replica))
        copies = [strategy.experimental_local_results(v)[i] for i in range(2)]
        scale = opt._loss_scale()
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        assert sess.run(copies) == [0.25, 0.25]
        assert sess.run(scale) == 32
        sess.run(train, {bad: np.inf})
        assert sess.run(copies) == [0.25, 0.25]
        assert sess.run(scale) == 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: experimental.FixedLossScale("a"), "must be a Python int or float"),
        (lambda: experimental.FixedLossScale(0.5), "at least 1"),
        (lambda: wrap(1, 2), "must be an instance of Optimizer, but got"),
        (lambda: wrap(tf.train.AdamOptimizer(), "static"), "Could not interpret loss scale"),
        (
            lambda: experimental.enable_mixed_precision_graph_rewrite(1),
            "tf.train.Optimizer or a tf.keras.optimizers.Optimizer, but got",
        ),
        (
            lambda: experimental.enable_mixed_precision_graph_rewrite(
                wrap(tf.train.AdamOptimizer(), 2)
            ),
            "must not already be an instance of a MixedPrecisionLossScaleOptimizer",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Program.enabled


def wrap(opt, scale):
    return experimental.MixedPrecisionLossScaleOptimizer(opt, scale)


def test_configs():
    fixed = experimental.FixedLossScale(2)
    assert repr(fixed) == "FixedLossScale(2.0)"
    assert experimental.FixedLossScale.from_config(fixed.get_config()).get_config() == {
        "loss_scale_value": 2.0
    }
    config = {"initial_loss_scale": 4.0, "increment_period": 3, "multiplier": 5.0}
    scale = experimental.DynamicLossScale.from_config(config)
    assert scale.get_config() == config
    assert [scale.initial_loss_scale, scale.increment_period, scale.multiplier] == [4.0, 3, 5.0]
    with pytest.raises(RuntimeError, match="Duplicate variables"):
        scale._add_weight("good_steps", 1)


# ---- the switch for the whole program


def test_the_switch(caplog):
    v, out = overflow()
    opt = tf.train.GradientDescentOptimizer(1.0)
    with caplog.at_level(logging.WARNING):
        wrapped = experimental.enable_mixed_precision_graph_rewrite(opt, 123.0)
        assert not caplog.records
        with tf.Session() as sess:
            # Only GPUs change; on a CPU the numbers stay.
            sess.run(v.initializer)
            assert sess.run(out) == 2**20
            assert sess.run(wrapped._loss_scale()) == 123
            assert sess._mixed_precision._types == {"GPU": tf.float16}
        off = config_pb2.ConfigProto()
        off.graph_options.rewrite_options.auto_mixed_precision = (
            rewriter_config_pb2.RewriterConfig.OFF
        )
        with tf.Session(config=off) as sess:
            assert not sess._mixed_precision._types
        experimental.enable_mixed_precision_graph_rewrite(opt)
        assert "existing Sessions" in caplog.text
        experimental.disable_mixed_precision_graph_rewrite()
        assert not tf.Session()._mixed_precision._types
        experimental.disable_mixed_precision_graph_rewrite()
        assert "already disabled" in caplog.text
