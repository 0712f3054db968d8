"""tf.layers.Dense, Dropout and Flatten: values, names, sharing, losses, configurations, what is refused."""

import numpy as np
import pytest

import headrace as tf

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10 - 1


@pytest.fixture
def sess():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def names(variables):
    return [v.name for v in variables]


@pytest.mark.parametrize("rank", [2, 3])
def test_dense(sess, rank):
    x = X if rank == 3 else X[0]
    fed = tf.placeholder(tf.float32, [None] * (rank - 1) + [4])
    layer = tf.layers.Dense(5, "relu", bias_initializer=tf.constant_initializer(0.25))
    out = layer(fed)
    assert out.name == "dense/Relu:0"
    assert out.shape.as_list() == [None] * (rank - 1) + [5]
    assert names(layer.trainable_weights) == ["dense/kernel:0", "dense/bias:0"]
    sess.run(tf.global_variables_initializer())
    kernel, got = sess.run([layer.kernel, out], {fed: x})
    np.testing.assert_allclose(got, np.maximum(x @ kernel + 0.25, 0), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape([7, None, 4]).as_list() == [7, None, 5]
    again = tf.layers.Dense.from_config(layer.get_config())
    assert (
        again.units == 5
        and again.activation is tf.nn.relu
        and again.name == layer.name == "dense_1"
    )


def test_dense_of_a_sparse_input(sess):
    sparse = tf.SparseTensor([[0, 1], [1, 3]], [2.0, 3.0], [2, 4])
    layer = tf.layers.Dense(2, use_bias=False)
    layer.build([2, 4])
    out = layer.call(sparse)
    sess.run(tf.global_variables_initializer())
    kernel, got = sess.run([layer.kernel, out])
    np.testing.assert_allclose(got, np.stack([2 * kernel[1], 3 * kernel[3]]), rtol=1e-6)


def test_dense_shares_by_name(sess):
    x = tf.constant(X[0])
    with tf.variable_scope("net", initializer=tf.ones_initializer()):
        one = tf.layers.dense(x, 3, name="fc")
        tf.layers.dense(x, 3)
        tf.layers.dense(x, 3)
    with tf.variable_scope("net", reuse=True):
        two = tf.layers.dense(x, 3, name="fc")
    three = tf.layers.dense(x, 3, name="net/fc", reuse=True)
    fc, first, second = [
        [f"net/{layer}/{v}:0" for v in ("kernel", "bias")] for layer in ("fc", "dense", "dense_1")
    ]
    assert names(tf.global_variables()) == fc + first + second
    sess.run(tf.global_variables_initializer())
    values = sess.run([one, two, three])
    # The scope's initializer makes the kernel; the bias has its own.
    np.testing.assert_allclose(values, [np.tile(X[0].sum(1)[:, None], 3)] * 3, rtol=1e-5)
    with pytest.raises(ValueError, match="already exists"):
        tf.layers.dense(x, 3, name="net/fc")


def test_dense_regularizers_and_constraints(sess):
    layer = tf.layers.Dense(
        2,
        kernel_initializer="ones",
        kernel_regularizer=lambda v: 0.5 * tf.reduce_sum(tf.square(v)),
        activity_regularizer=lambda y: tf.reduce_sum(tf.abs(y)),
        kernel_constraint=tf.identity,
        trainable=False,
    )
    out = layer(tf.constant(X[0]))
    assert layer.kernel.constraint is tf.identity
    assert tf.trainable_variables() == [] and len(layer.non_trainable_weights) == 2
    assert [loss.op.name for loss in layer.losses] == [
        "dense/kernel/Regularizer/mul",
        "dense/ActivityRegularizer/truediv",
    ]
    assert tf.losses.get_regularization_losses() == layer.losses
    sess.run(tf.global_variables_initializer())
    losses, total = sess.run([layer.losses, tf.reduce_sum(tf.abs(out))])
    np.testing.assert_allclose(losses, [4.0, total / 3])


def test_dropout(sess):
    x, training = tf.ones([200, 10]), tf.placeholder(tf.bool, [])
    dropped = tf.layers.dropout(x, 0.4, seed=3, training=training)
    rows = tf.layers.dropout(x, 0.4, noise_shape=[None, 1], seed=3, training=True)
    never = tf.layers.dropout(x, 0.4)
    on = sess.run(dropped, {training: True})
    assert set(np.round(np.unique(on), 5)) == {0.0, np.float32(1.66667)}
    assert abs((on == 0).mean() - 0.4) < 0.05
    assert (sess.run(dropped, {training: False}) == 1).all() and (sess.run(never) == 1).all()
    by_row = sess.run(rows)
    assert (by_row == by_row[:, :1]).all() and 0 < (by_row == 0).mean() < 1


FLAT = [
    ((2, 3, 4), [2, 3, 4], None, [2, 12]),
    ((2, 3, 4), [None, 3, 4], None, [None, 12]),
    ((2, 3, 4), [2, None, 4], None, [2, None]),
    ((2, 3, 4), [None, None, 4], "channels_first", [None, None]),
    ((5,), [None], None, [None, 1]),
]


@pytest.mark.parametrize(("shape", "known", "data_format", "static"), FLAT)
def test_flatten(sess, shape, known, data_format, static):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fed = tf.placeholder(tf.float32, known)
    out = tf.layers.flatten(fed, data_format=data_format or "channels_last")
    assert out.shape.as_list() == static
    moved = np.moveaxis(x, 1, -1) if data_format else x
    assert (sess.run(out, {fed: x}) == moved.reshape(shape[0], -1)).all()


REFUSED = {
    "rank": (lambda: tf.layers.dense(tf.zeros([3]), 2), ValueError, "expected min_ndim=2"),
    "depth": (
        lambda: tf.layers.dense(tf.placeholder(tf.float32, [2, None]), 2),
        ValueError,
        "last dimension of the inputs to `Dense` should be defined",
    ),
    "type": (lambda: tf.layers.dense(tf.zeros([2, 2], tf.int32), 2), TypeError, "non-floating"),
    "activation": (lambda: tf.layers.Dense(2, "nothing"), ValueError, "Unknown activation"),
    "regularizer": (
        lambda: tf.layers.Dense(2, kernel_regularizer=3),
        ValueError,
        "Could not interpret regularizer",
    ),
    "argument": (lambda: tf.layers.Dense(2, colour=1), TypeError, "not understood"),
    "data_format": (lambda: tf.layers.Flatten("nchw"), ValueError, "must be one of"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(sess, what):
    build, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        build()
