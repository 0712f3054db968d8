"""What branches and loops give: slices with indices of different types, structures."""

import collections

import pytest

import headrace as tf


def _slices(values, indices, kind):
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices, kind), tf.constant([5]))


def test_indices_become_64_bits_where_one_branch_has_them():
    pred = tf.placeholder(tf.bool, [])
    chosen = tf.cond(
        pred,
        lambda: _slices([1.0, 2.0], [1, 2], tf.int32),
        lambda: _slices([3.0], [4], tf.int64),
    )
    assert chosen.indices.dtype == tf.int64
    with tf.Session() as session:
        for taken, values, indices in ((True, [1.0, 2.0], [1, 2]), (False, [3.0], [4])):
            found = session.run(chosen, {pred: taken})
            assert (found.values.tolist(), found.indices.tolist()) == (values, indices)


def test_slices_and_a_tensor_are_refused():
    with pytest.raises(TypeError, match="Cannot reconcile"):
        tf.cond(
            tf.constant(True),
            lambda: _slices([1.0], [0], tf.int32),
            lambda: tf.constant([1.0]),
        )


def test_what_a_loop_returns():
    """The outermost structure is that of the body's result; a single tensor comes alone unless asked otherwise."""
    i = tf.constant(0)
    pair = collections.namedtuple("pair", "a b")

    def loop(body, variables, **kwargs):
        result = tf.while_loop(lambda *_: tf.constant(False), body, variables, **kwargs)
        return tf.nest.map_structure(lambda t: "T", result)

    assert loop(lambda i, e: (i + 1, e), [i, []]) == "T"
    assert loop(lambda p: (p,), [(i, i)]) == (("T", "T"),)
    assert loop(lambda p: [p], [(i,)]) == ("T",)
    assert loop(lambda p: p, [pair(i, i)]) == [pair("T", "T")]
    assert loop(lambda a, b: pair(a, b), pair(i, i)) == pair("T", "T")
    assert loop(lambda a, b: (a, b), [i, i]) == ("T", "T")
    assert loop(lambda a, b: [a, b], (i, i)) == ["T", "T"]
    assert loop(lambda p: p, [i], return_same_structure=True) == ["T"]
    assert loop(lambda p: p, [i], maximum_iterations=3) == "T"
    assert loop(lambda i, e: (i + 1, e), [i, []], maximum_iterations=3) == ("T", [])
    assert loop(lambda p: p, [(i, i)], maximum_iterations=3) == ("T", "T")
