"""Functions of `tf.nn` and `tf.losses` against TensorFlow's answers, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api.nn_programs import PROGRAMS, evaluate

with np.load(Path(__file__).parent.parent / "data" / "nn_api.npz") as _file:
    ANSWERS = dict(_file)


@pytest.mark.parametrize("key", PROGRAMS)
def test_program(key):
    names, values, grads = evaluate(tf, PROGRAMS[key])
    assert names == ANSWERS[f"{key}/names"].tolist()
    for kind, arrays in (("value", values), ("grad", grads)):
        assert f"{key}/{kind}{len(arrays)}" not in ANSWERS
        for i, array in enumerate(arrays):
            expected = ANSWERS[f"{key}/{kind}{i}"]
            assert array.dtype == expected.dtype
            scale = np.abs(expected).max() if expected.size else 1.0
            np.testing.assert_allclose(
                array, expected, rtol=2e-4, atol=2e-5 * max(scale, 1), err_msg=f"{kind} {i}"
            )


# ---- shapes that are not known while the graph is built


def test_unknown_shapes():
    """The same numbers where neither sizes nor rank are known."""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) % 5
    labels = np.array([[0, 1, 2], [3, 0, 1]])
    for dims in ([None, 3, None], None):
        with tf.Graph().as_default(), tf.Session() as session:
            p = tf.placeholder(tf.float32, dims)
            n = tf.placeholder(tf.int64, None if dims is None else [None, None])
            w = tf.placeholder(tf.float32)
            outputs = [
                tf.nn.softmax(p, axis=-1 if dims is None else 1),
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=n, logits=p),
                tf.nn.softmax_cross_entropy_with_logits_v2(labels=p, logits=p),
                tf.losses.absolute_difference(p, 2 * p, w),
                tf.nn.bias_add(p, [1.0, 2.0, 3.0, 4.0]),
            ]
            got = session.run(outputs, {p: x, n: labels, w: [[[1.0], [0.0], [1.0]]]})
        e = np.exp(x)
        log_p = np.log(e / e.sum(-1, keepdims=True))
        axis = -1 if dims is None else 1
        expected = [
            e / e.sum(axis, keepdims=True),
            -np.take_along_axis(log_p, labels[..., None], -1)[..., 0],
            -(x * log_p).sum(-1),
            x[:, [0, 2]].mean(),
            x + [1, 2, 3, 4],
        ]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_image_of_unknown_size():
    """One graph, two sizes; static shapes say what is known."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, None, 8, 1])
        y = tf.nn.max_pool(tf.nn.conv2d(x, np.ones((3, 3, 1, 2), "f"), 2, "SAME"), 2, 2, "VALID")
        assert y.shape.as_list() == [None, None, 2, 2]
        (dx,) = tf.gradients(y, [x])
        for size in (4, 8):
            got, back = session.run([y, dx], {x: np.ones((1, size, 8, 1))})
            assert got.shape == (1, size // 4, 2, 2)
            assert back.shape == (1, size, 8, 1)


def test_embedding_gradient_is_sparse():
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.constant(np.eye(4, dtype=np.float32))
        rows = tf.nn.embedding_lookup(table, [2, 2, 0])
        (grad,) = tf.gradients(tf.reduce_sum(rows * [[1.0], [2.0], [4.0]]), [table])
        assert isinstance(grad, tf.IndexedSlices)
        values, indices = session.run([grad.values, grad.indices])
    assert indices.tolist() == [2, 2, 0]
    assert values[:, 0].tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("use_resource", [False, True])
def test_embedding_of_a_partitioned_variable(use_resource):
    """Each part gets the gradient of its own rows only."""
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.get_variable(
            "t",
            initializer=tf.constant(np.arange(14, dtype=np.float32).reshape(7, 2)),
            partitioner=tf.fixed_size_partitioner(3),
            use_resource=use_resource,
        )
        ids = tf.placeholder(tf.int64, [None])
        rows = tf.nn.embedding_lookup(table, ids, "div")
        grads = tf.gradients(rows, list(table))
        session.run(tf.global_variables_initializer())
        for wanted, parts in (([0, 6, 3, 3], [[0], [0, 0], [1]]), ([4], [[], [1], []])):
            got, indices = session.run([rows, [g.indices for g in grads]], {ids: wanted})
            assert got[:, 0].tolist() == [2 * i for i in wanted]
            assert [i.tolist() for i in indices] == parts


# ---- what is refused

_ONES = np.ones((1, 4, 4, 2), np.float32)
_REFUSED = [
    (
        lambda: tf.nn.softmax([[1.0]], axis=2),
        tf.errors.InvalidArgumentError,
        "must be in the range",
    ),
    (lambda: tf.nn.softmax([[1.0]], axis=1, dim=1), ValueError, "both 'dim' and 'axis'"),
    (lambda: tf.nn.softmax_cross_entropy_with_logits([1.0], [1.0]), ValueError, "named arguments"),
    (
        lambda: tf.nn.sigmoid_cross_entropy_with_logits(labels=[1.0], logits=[[1.0]]),
        ValueError,
        "same shape",
    ),
    (
        lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[[1]], logits=[[1.0]]),
        ValueError,
        "Rank mismatch",
    ),
    (
        lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1, 2], logits=[[1.0]]),
        ValueError,
        "Shape mismatch",
    ),
    (lambda: tf.nn.dropout([1], rate=0.5), ValueError, "floating point"),
    (lambda: tf.nn.dropout([1.0], rate=1.5), ValueError, "in the range"),
    (lambda: tf.nn.dropout([1.0]), ValueError, "must provide a rate"),
    (lambda: tf.nn.bias_add(_ONES, [1.0, 2.0, 3.0]), ValueError, "must be equal"),
    (lambda: tf.nn.bias_add(_ONES, [1.0, 2.0], "CHW"), ValueError, "data_format"),
    (lambda: tf.nn.conv2d(_ONES, _ONES, [1, 2, 3], "SAME"), ValueError, "should be of length"),
    (
        lambda: tf.nn.conv2d(_ONES, np.ones((2, 2, 3, 1), "f"), 1, "SAME"),
        ValueError,
        "not a multiple",
    ),
    (
        lambda: tf.nn.conv2d(_ONES, np.ones((5, 1, 2, 1), "f"), 1, "VALID"),
        ValueError,
        "Negative dimension",
    ),
    (
        lambda: tf.nn.conv2d(_ONES, np.ones((1, 1, 2, 1), "f"), 1, "EXPLICIT"),
        ValueError,
        "must be a list",
    ),
    (
        lambda: tf.nn.conv2d(_ONES, np.ones((1, 1, 2, 1), "f"), [2, 1, 1, 1], "SAME"),
        tf.errors.InvalidArgumentError,
        "batch and depth",
    ),
    (lambda: tf.nn.max_pool(_ONES, 0, 1, "SAME"), ValueError, "cannot be zero"),
    (lambda: tf.nn.max_pool(_ONES[0], 2, 1, "SAME"), ValueError, "must be rank 4"),
    (
        lambda: tf.nn.pool(_ONES, [2, 2], "MAX", "SAME", dilation_rate=[2, 2]),
        ValueError,
        "not implemented",
    ),
    (lambda: tf.nn.pool(_ONES, [2, 2], "MIN", "SAME"), ValueError, "not supported"),
    (
        lambda: tf.nn.convolution(_ONES, _ONES[:, :1], "SAME", [2, 2], [2, 2]),
        ValueError,
        "in conjunction",
    ),
    (
        lambda: tf.nn.fused_batch_norm(_ONES, [1.0] * 2, [1.0] * 2, mean=[1.0] * 2),
        ValueError,
        "must be None",
    ),
    (lambda: tf.nn.embedding_lookup([], [1]), ValueError, "at least one"),
    (lambda: tf.nn.embedding_lookup([_ONES[0], _ONES[0]], [1], "cut"), ValueError, "strategy"),
    (lambda: tf.nn.embedding_lookup_sparse(_ONES[0], [1], None), TypeError, "must be SparseTensor"),
    (lambda: tf.losses.mean_squared_error(None, [1.0]), ValueError, "labels must not be None"),
    (lambda: tf.losses.mean_squared_error([1.0, 2.0], [1.0]), ValueError, "incompatible"),
    (
        lambda: tf.losses.mean_squared_error([1.0], [1.0], [1.0, 2.0]),
        ValueError,
        "can not be broadcast",
    ),
    (
        lambda: tf.losses.compute_weighted_loss([1.0], reduction="all"),
        ValueError,
        "Invalid Reduction Key",
    ),
    (lambda: tf.losses.cosine_distance([1.0], [1.0]), ValueError, "specify 'axis'"),
]


@pytest.mark.parametrize("build, error, words", _REFUSED)
def test_refused(build, error, words):
    with tf.Graph().as_default(), pytest.raises(error, match=words):
        build()


def test_refused_while_running():
    """What depends on values or on shapes that are not known before."""
    with tf.Graph().as_default(), tf.Session() as session:
        label, image = tf.placeholder(tf.int32), tf.placeholder(tf.float32)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=[[1.0, 2.0]])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"label value of 2 .* \[0, 2\)"):
            session.run(loss, {label: [2]})
        wide = tf.nn.conv2d(image, np.ones((5, 5, 1, 1), "f"), 1, "VALID")
        with pytest.raises(tf.errors.InvalidArgumentError, match="would be negative"):
            session.run(wide, {image: np.ones((1, 2, 2, 1))})
        biased = tf.nn.bias_add(image, [1.0, 2.0])
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many biases"):
            session.run(biased, {image: np.ones((1, 3))})


def test_label_outside_is_nan_when_compiled():
    """TF differs: its CPU kernel fails; the training step that is compiled says NaN, as on its GPUs."""
    with tf.Graph().as_default(), tf.Session() as session:
        label = tf.placeholder(tf.int32, [2])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=[[1.0, 2.0]] * 2)
        for _ in range(2):
            session.run(loss, {label: [0, 1]})
        got = session.run(loss, {label: [1, 5]})
    assert np.isfinite(got[0]) and np.isnan(got[1])
