"""The array functions against TensorFlow's answers, which tests/oracle/make_array_ops.py writes."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.core.tensor_shape import TensorShape
from tests.api import array_programs as programs

ANSWERS = json.loads((Path(__file__).parents[1] / "data" / "array_ops.json").read_text())


def array(answer):
    if answer is None:
        return None
    kind, shape, values = answer
    if kind == "string":
        values = [v.encode() for v in values]
    found = np.array(values, object if kind == "string" else kind)
    return found.reshape(shape) if found.size == np.prod(shape) else np.full(shape, found[0])


def known(text):
    """A shape as it is printed, as a TensorShape."""
    if text == "<unknown>":
        return TensorShape(None)
    sizes = text.strip("()").replace(" ", "").strip(",").split(",")
    return TensorShape([None if s == "?" else int(s) for s in sizes if s])


@pytest.mark.parametrize("name", sorted(ANSWERS["nodes"]))
def test_nodes(name):
    """The same nodes under the same names; static shapes know at least what TensorFlow knows."""
    ours, theirs = programs.nodes_of(tf, programs.PROGRAMS[name]), ANSWERS["nodes"][name]
    assert [n[:3] for n in ours] == [n[:3] for n in theirs]
    for (node, _, _, shapes), (_, _, _, wanted) in zip(ours, theirs):
        for a, b in zip(map(known, shapes), map(known, wanted)):
            assert str(a.merge_with(b)) == str(a), f"{node}: {a}, TensorFlow knows {b}"


@pytest.mark.parametrize("name", sorted(programs.PROGRAMS))
def test_values(name):
    """The same values and gradients, interpreted and compiled."""
    values, gradients = ANSWERS["values"][name]
    for found, grads in programs.values_of(tf, programs.PROGRAMS[name], times=2):
        for ours, theirs in zip(found, map(array, values)):
            assert np.asarray(ours).dtype == theirs.dtype and np.shape(ours) == theirs.shape
            np.testing.assert_array_equal(ours, theirs)
        for ours, theirs in zip(grads, map(array, gradients)):
            assert (ours is None) == (theirs is None)
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)


# Where we say more than TensorFlow does, or the same in other words.
OTHER_WORDS = {
    "concat_axis": "axis 2 is out of range",
    "concat_shapes": "in both shapes must be equal, but are 3 and 2",
    "concat_rank": "Shape must be rank",
    "fill": "must be >= 0",
    "pad_negative": "Paddings must be non-negative",
    "run_ensure_shape": "is not compatible with expected shape [?,4]",
    "scatter_nd": "The inner 0 dimensions of output.shape=[4] must match the inner 1 dimensions of",
    "split": "should evenly divide",
    "tile": "multiples has that many elements",
    "transpose": "Shape must be rank 3 but is rank 2",
    "unstack_num": "Dimension must be 2 but is 3",
}


@pytest.mark.parametrize("name", sorted(programs.ERRORS))
def test_errors(name):
    kind, message = ANSWERS["errors"][name]
    ours = programs.error_of(tf, programs.ERRORS[name])
    assert ours is not None, f"no error, TensorFlow: {message}"
    words = OTHER_WORDS.get(name, message.partition(" for '")[0].rstrip("."))
    assert ours[0] == kind and words in ours[1], f"{ours}\n{kind} {words}"


def test_static_sizes_of_partly_known_shapes():
    """Vectors made of sizes say what is known of them, however they were put together."""
    x = tf.placeholder(tf.float32, [None, 5, 3])
    n, m = tf.shape(x)[0], tf.shape(x)[1]
    vectors = {
        (None, 10): [n, 10],
        (5, None): tf.stack([m, n]),
        (None, 5, 3, 7): tf.concat([tf.shape(x), [7]], 0),
        (5, 3): tf.shape(x)[1:],
        (3, 5, None): tf.shape(x)[::-1],
        (3, None): tf.gather(tf.shape(x), [2, 0]),
        (None, 5): tf.slice(tf.shape(x), [0], [2]),
        (None, 3): tf.cast(tf.cast([n, 3], tf.int64), tf.int32),
        (5,): tf.expand_dims(m, 0),
        (None, 4): tf.identity([n, 4]),
    }
    for wanted, vector in vectors.items():
        vector = tf.convert_to_tensor(vector)
        assert tf.zeros(vector).shape.as_list() == list(wanted)
        np.testing.assert_array_equal(tf.get_static_value(vector, partial=True), list(wanted))
    assert tf.get_static_value(tf.size(tf.zeros([2, 3])) + 1) == 7
    known, unknown = tf.get_static_value(tf.stack([[1.0, 2.0], x[0, 0, :2]]), partial=True)
    assert known.tolist() == [1.0, 2.0] and unknown is None
    assert tf.get_static_value("text") == "text" and tf.get_static_value(tf.Variable(1.0)) is None
    assert tf.get_static_value(n) is None and tf.get_static_value(m) is None
    assert tf.broadcast_static_shape(TensorShape([None, 1]), TensorShape([4, 5])).as_list() == [
        4,
        5,
    ]


def test_diagonals_beside_the_main_one():
    """k, num_rows, num_cols and padding_value count (TensorFlow 1.15 ignores them until a date in its future)."""
    with tf.Session() as sess:
        m = np.arange(1.0, 10.0).reshape(3, 3)
        band = [[2, 6, 0], [1, 5, 9], [4, 8, 0]]
        results = [
            tf.matrix_diag([1.0, 2.0], k=-1),
            tf.linalg.diag([1, 2], k=1, num_rows=2, padding_value=7),
            tf.matrix_diag_part(m, k=(-1, 1)),
            tf.matrix_set_diag(np.zeros((3, 3)), band, k=(-1, 1)),
        ]
        expected = [
            np.diag([1.0, 2.0], -1),
            [[7, 1, 7], [7, 7, 2]],
            band,
            np.triu(np.tril(m, 1), -1),
        ]
        for ours, wanted in zip(sess.run(results), expected):
            np.testing.assert_array_equal(ours, wanted)


def test_slices_that_start_anywhere_share_a_program():
    """Single rows and windows of fixed size are picked by number without being compiled for each."""
    i = tf.placeholder(tf.int32, [])
    x = tf.Variable(np.arange(40.0).reshape(10, 4))
    row, window = x[i, 1:], tf.slice(x, [i, 0], [2, -1])
    (dx,) = tf.gradients([row, window], [x.value()])
    with tf.Session() as sess:
        sess.run(x.initializer)
        for n in (3, 0, 7, 8, 3):
            a, b, c = sess.run([row, window, dx], {i: n})
            np.testing.assert_array_equal(a, np.arange(40.0).reshape(10, 4)[n, 1:])
            np.testing.assert_array_equal(b, np.arange(40.0).reshape(10, 4)[n : n + 2])
            wanted = np.zeros((10, 4))
            wanted[n, 1:] += 1
            wanted[n : n + 2] += 1
            np.testing.assert_array_equal(c, wanted)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="slice index 10 of dimension 0 out of bounds"
        ):
            sess.run(row, {i: 10})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected size\[0\] in \[0, 1\]"):
            sess.run(window, {i: 9})
