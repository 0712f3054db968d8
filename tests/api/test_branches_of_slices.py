"""Branches that give IndexedSlices: indices of different types, slices beside a tensor."""

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
