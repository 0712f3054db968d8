"""Steps whose convolutions are computed together with what follows, against the same steps without."""

import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.lowering import island
from headrace.lowering.fused import NOTHING
from headrace.native import finished

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

C = 16


@pytest.fixture
def calls(monkeypatch):
    """What each traced call of the kernel was given: see `finished.Unfinished`."""
    found = []
    original = finished._finished
    monkeypatch.setattr(
        finished, "_finished", lambda *given: found.append(given) or original(*given)
    )
    return found


def variable(random, *shape, positive=False):
    value = random.standard_normal(shape).astype(np.float32) * 0.3
    return tf.Variable(abs(value) + 0.1 if positive else value)


def statistics(random, channels=C):
    positive = [variable(random, channels, positive=True) for _ in range(2)]
    scale, variance = positive
    return scale, variable(random, channels), variable(random, channels), variance


def conv(random, x, window=3, out=C, strides=1, padding="SAME", **attrs):
    groups = attrs.pop("groups", 1)
    w = variable(random, window, window, x.shape.as_list()[-1] // groups, out)
    return tf.nn.conv2d(x, w, strides, padding, **attrs)


def norm(version):
    def apply(random, x, channels=C):
        op = getattr(tf.raw_ops, f"FusedBatchNorm{version}")
        scale, offset, mean, variance = statistics(random, channels)
        return op(
            x=x, scale=scale, offset=offset, mean=mean, variance=variance, is_training=False,
            epsilon=1e-3,
        )[0]  # fmt: skip

    return apply


def bias(random, x, channels=C):
    return tf.nn.bias_add(x, variable(random, channels))


def depthwise(random, x):
    w = variable(random, 5, 5, C, 1)
    return tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME")


def in_training(random, x):
    scale, offset, *_ = statistics(random)
    return tf.nn.fused_batch_norm(x, scale, offset, is_training=True)[0]


def norm_in_parts(random, x):
    scale, offset, mean, variance = statistics(random)
    return tf.nn.batch_normalization(conv(random, x), mean, variance, offset, scale, 1e-3)


def bottleneck(random, x):
    pads = [[0, 0], [1, 1], [1, 1], [0, 0]]
    y = tf.nn.relu(norm("V3")(random, conv(random, x, 1)))
    y = norm("V3")(random, conv(random, y, out=4 * C, strides=2, padding=pads), 4 * C)
    x = norm("V3")(random, conv(random, x, 1, out=4 * C, strides=2, padding="VALID"), 4 * C)
    return tf.nn.relu(x + y)


def first(x):
    return tf.transpose(x, [0, 3, 1, 2])


def channels_first(random, x):
    w, b = variable(random, 3, 3, C, C), variable(random, C)
    y = tf.nn.conv2d(first(x), w, 1, "SAME", data_format="NCHW")
    return tf.nn.relu(tf.nn.bias_add(y, b, data_format="NCHW"))


def volumes(random, x):
    w = variable(random, 2, 3, 3, C, C)
    y = tf.nn.conv3d(tf.reshape(x, [1, 8, 12, 12, C]), w, [1] * 5, "SAME")
    return tf.nn.relu(bias(random, y))


# name -> (builder, how many calls it takes)
NETWORKS = {
    "bias, relu": (lambda r, x: tf.nn.relu(bias(r, conv(r, x))), 1),
    "bias, relu6": (lambda r, x: tf.nn.relu6(bias(r, conv(r, x, strides=2, padding="VALID"))), 1),
    "bias": (lambda r, x: bias(r, conv(r, x, dilations=2)), 1),
    "relu": (lambda r, x: tf.nn.relu(conv(r, x, 5, strides=3)), 1),
    "relu of a sum": (lambda r, x: tf.nn.relu(x + conv(r, x)), 1),
    "norm": (lambda r, x: norm("")(r, conv(r, x)), 1),
    "norm V2, bias": (lambda r, x: bias(r, norm("V2")(r, bias(r, conv(r, x)))), 1),
    "norm V3, relu6": (lambda r, x: tf.nn.relu6(norm("V3")(r, conv(r, x, groups=2))), 1),
    "norm in parts": (norm_in_parts, 1),
    "scale of one number": (lambda r, x: tf.nn.relu(conv(r, x) * variable(r)), 0),
    "a sum that repeats rows": (lambda r, x: tf.nn.relu(conv(r, x) + x[:1]), 0),
    "depthwise": (lambda r, x: tf.nn.relu6(norm("V3")(r, depthwise(r, x))), 1),
    "bottleneck": (bottleneck, 3),
    "volumes": (volumes, 1),
    "channels first": (channels_first, 0),
    "norm in training": (lambda r, x: tf.nn.relu(in_training(r, conv(r, x))), 0),
    "few numbers": (lambda r, x: tf.nn.relu(conv(r, x[:1, :2, :2])), 0),
}


def runs(fetches, feeds, count=3):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return [session.run(fetches, feeds) for _ in range(count)]


def compare(build, monkeypatch, calls):
    """The results of programs with and without fused calls, and how many of these there were."""
    image = np.random.default_rng(1).standard_normal((8, 12, 12, C)).astype(np.float32)
    found = []
    for fuses in (True, False):
        with tf.Graph().as_default(), monkeypatch.context() as patch:
            if not fuses:
                patch.setattr(island, "find_fusions", lambda *_: NOTHING)
            x = tf.placeholder(tf.float32, [None, 12, 12, C])
            fetches = build(np.random.default_rng(0), x)
            before = len(calls)
            found.append((runs(fetches, {x: image}), len(calls) - before))
    (fused, count), (plain, none) = found
    assert none == 0
    for got, want in zip(fused, plain, strict=True):
        for a, b in zip(np.atleast_1d(got), np.atleast_1d(want), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * max(np.abs(b).max(), 1), rtol=1e-5)
    return fused, count


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, monkeypatch, calls):
    build, wanted = NETWORKS[name]
    _, count = compare(build, monkeypatch, calls)
    assert count == wanted


def test_gradients_and_updates(monkeypatch, calls):
    def build(random, x):
        y = tf.nn.relu(bias(random, conv(random, x)))
        loss = tf.reduce_sum(tf.square(tf.nn.relu(norm("V3")(random, conv(random, y)))))
        train = tf.train.GradientDescentOptimizer(1e-8).minimize(loss)
        with tf.control_dependencies([train]):
            return [
                tf.identity(loss),
                *[tf.reduce_sum(v.read_value()) for v in tf.trainable_variables()],
            ]

    results, count = compare(build, monkeypatch, calls)
    # The gradient of the normalisation takes its input, so only the first convolution is fused with what follows.
    assert count == 1
    assert results[0][0] > results[2][0]


def test_inner_tensors_can_be_fetched_fed_and_waited_for(calls):
    random = np.random.default_rng(0)
    image = random.standard_normal((8, 12, 12, C)).astype(np.float32)
    x = tf.placeholder(tf.float32, [8, 12, 12, C])
    y = conv(random, x)
    biased = bias(random, y)
    z = tf.nn.relu(biased)
    counter = tf.Variable(0)
    with tf.control_dependencies([y.op]):
        count = tf.assign_add(counter, 1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            alone = session.run(z, {x: image})
        assert len(calls) == 1
        for _ in range(3):
            every = session.run([y, biased, z], {x: image})
        assert len(calls) == 1
        np.testing.assert_allclose(np.maximum(every[1], 0), alone, atol=1e-5)
        np.testing.assert_allclose(every[2], alone, atol=1e-5)
        for _ in range(3):
            np.testing.assert_array_equal(
                session.run(z, {x: image, biased: -image}), np.maximum(-image, 0)
            )
        for i in range(3):
            got, number = session.run([z, count], {x: image})
            assert number == i + 1
            np.testing.assert_allclose(got, alone, atol=1e-5)


def test_profiles_name_all_operations_of_a_call(calls):
    random = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [8, 12, 12, C])
    z = tf.nn.relu(bias(random, conv(random, x, name="conv")), name="relu")
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        feeds = {x: np.ones(x.shape.as_list(), np.float32)}
        for _ in range(3):
            session.run(z, feeds)
            metadata = tf.RunMetadata()
            session.run(z, feeds, options=options, run_metadata=metadata)
    assert calls
    nodes = [n for d in metadata.step_stats.dev_stats for n in d.node_stats]
    times = {n.node_name: n.all_end_rel_micros for n in nodes if n.all_end_rel_micros}
    assert {"conv", "BiasAdd", "relu"} <= times.keys()
    (size,) = {
        tuple(d.size for d in o.tensor_description.shape.dim)
        for n in nodes if n.node_name == "relu" for o in n.output
    }  # fmt: skip
    assert size == (8, 12, 12, C)


def test_errors_name_the_operation_that_fails():
    random = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [None, 12, 12, C])
    vector = tf.placeholder(tf.float32, [None])
    z = tf.nn.relu(tf.nn.bias_add(conv(random, x), vector, name="enc/bias"))
    feeds = {x: np.ones((8, 12, 12, C), np.float32), vector: np.ones(C, np.float32)}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(z, feeds)
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"enc/bias[\s\S]*as many"):
                session.run(z, {**feeds, vector: np.ones(C - 1, np.float32)})
