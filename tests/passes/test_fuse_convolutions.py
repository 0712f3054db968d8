"""Which operations are found to be computed together with a convolution, on graphs alone."""

import numpy as np
import pytest

import headrace as tf
from headrace.passes.fuse_convolutions import find_chains
from headrace.passes.prune import prune

IMAGES = np.zeros((2, 8, 8, 4), np.float32)


def filters(name="w"):
    return tf.placeholder(tf.float32, [3, 3, 4, 4], name)


def vector(name="b"):
    return tf.placeholder(tf.float32, [4], name)


def conv(x, name="conv", **attrs):
    return tf.nn.conv2d(x, filters(f"{name}_w"), 1, "SAME", name=name, **attrs)


def norm(x, training, name="norm", op=tf.raw_ops.FusedBatchNormV3):
    empty = tf.constant(np.zeros(0, np.float32))
    statistics = [empty] * 2 if training else [vector("m"), vector("v")]
    given = dict(zip(("scale", "offset", "mean", "variance"), [vector(), vector(), *statistics]))
    return op(x=x, **given, is_training=training, name=name)


def chains(fetches, fed=()):
    """The names of the operations of each chain, for a run of `fetches`."""
    fed = frozenset(fed)
    ops = prune([t.op for t in fetches], fed)
    found = find_chains(ops, set(fetches), fed)
    assert found.inside == {op for c in found.ending.values() for op in c.ops[:-1]}
    return [[op.name for op in chain.ops] for chain in found.ending.values()]


@pytest.fixture
def x():
    return tf.placeholder(tf.float32, [2, 8, 8, 4], "x")


def test_bias_residual_and_activation_follow(x):
    y = tf.nn.bias_add(conv(x), vector(), name="bias")
    z = tf.nn.relu6(tf.add(x, y, name="sum"), name="relu")
    assert chains([z]) == [["conv", "bias", "sum", "relu"]]
    assert chains([tf.nn.relu(conv(x, "c"), name="r")]) == [["c", "r"]]
    depthwise = tf.nn.depthwise_conv2d(x, filters("d_w"), [1] * 4, "SAME", name="d")
    assert chains([tf.nn.relu(depthwise, name="s")]) == [["d", "s"]]
    assert chains([conv(x, "alone")]) == []


@pytest.mark.parametrize("version", ["", "V2", "V3"])
def test_normalisation_follows_where_nobody_else_asks_for_what_it_gives(x, version):
    op = getattr(tf.raw_ops, f"FusedBatchNorm{version}")
    y, mean, *_ = norm(conv(x), False, op=op)
    z = tf.nn.relu(y, name="relu")
    assert chains([z]) == [["conv", "norm", "relu"]]
    assert chains([z, mean]) == []
    assert chains([z, tf.square(mean)]) == []


def test_of_two_convolutions_that_are_added_one_takes_the_sum(x):
    a, b = norm(conv(x, "c1"), False, "n1")[0], norm(conv(x, "c2"), False, "n2")[0]
    z = tf.nn.relu(tf.add(a, b, name="sum"), name="relu")
    assert chains([z]) == [["c1", "n1", "sum", "relu"], ["c2", "n2"]]


def test_a_chain_ends_before_what_others_see(x):
    y = tf.nn.bias_add(conv(x), vector(), name="bias")
    z = tf.nn.relu(y, name="relu")
    assert chains([z, y]) == [["conv", "bias"]]
    assert chains([z, tf.square(y)]) == [["conv", "bias"]]
    assert chains([z, y.op.inputs[0]]) == []
    assert chains([z], fed=[y]) == []
    assert chains([z], fed=[y.op.inputs[0]]) == []
    assert chains([tf.square(z)], fed=[z]) == []
    # Twice by the same operation, and as what is added to something else.
    assert chains([tf.add(c := conv(x, "c2"), c)]) == []
    assert chains([tf.nn.bias_add(x, tf.reduce_sum(conv(x, "c3"), [0, 1, 2]))]) == []


def test_gradients_ask_for_what_they_need(x):
    w = filters()
    y = tf.nn.bias_add(tf.nn.conv2d(x, w, 1, "SAME", name="conv"), vector(), name="bias")
    relu = tf.nn.relu(y, name="relu")
    assert chains(tf.gradients(relu, [w])) == [["conv", "bias", "relu"]]
    assert chains(tf.gradients(tf.nn.leaky_relu(y), [w])) == [["conv", "bias"]]


def test_other_types_start_no_chain():
    x = tf.placeholder(tf.float64, [2, 8, 8, 4])
    w = tf.placeholder(tf.float64, [3, 3, 4, 4])
    assert chains([tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME"))]) == []
