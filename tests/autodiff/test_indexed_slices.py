"""IndexedSlices: as gradients, added up, as tensors; and tf.test.compute_gradient."""

import warnings

import numpy as np
import pytest

import headrace as tf


def run(fetches, feeds=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


def test_a_gather_has_rows_for_a_gradient():
    table = tf.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    rows = tf.gather(table, [3, 0, 3])
    (slices,) = tf.gradients(rows * 2.0, table)
    assert isinstance(slices, tf.IndexedSlices) and slices.shape.as_list() == [4, 2]
    values, indices = run([slices.values, slices.indices])
    assert values.tolist() == [[2, 2]] * 3 and indices.tolist() == [3, 0, 3]
    assert run(tf.convert_to_tensor(slices)).tolist() == [[2, 2], [0, 0], [0, 0], [4, 4]]
    assert run(-slices).values.tolist() == [[-2, -2]] * 3


def test_several_are_joined_and_with_a_tensor_added():
    table = tf.Variable(np.ones((3, 1), np.float32), use_resource=True)
    two = tf.gather(table, [0, 1]) * 2.0
    one = tf.gather(table, tf.constant([2, 2], tf.int64)) * 5.0
    (joined,) = tf.gradients([two, one], table)
    assert joined.indices.dtype == tf.int64
    found = run(joined)
    assert sorted(zip(found.indices.tolist(), found.values[:, 0].tolist())) == [
        (0, 2),
        (1, 2),
        (2, 5),
        (2, 5),
    ]
    (total,) = tf.gradients([two, one, table * 0.5], table)
    assert isinstance(total, tf.Tensor) and run(total).tolist() == [[2.5], [2.5], [10.5]]


def test_conversion_says_what_it_lacks():
    values, indices = tf.ones([2, 3]), tf.constant([0, 1])
    with pytest.raises(
        ValueError, match="Tensor conversion requested for IndexedSlices without dense_shape"
    ):
        tf.convert_to_tensor(tf.IndexedSlices(values, indices))
    slices = tf.IndexedSlices(values, indices, tf.placeholder(tf.int32, [2]))
    with pytest.warns(UserWarning, match="dense Tensor of unknown shape"):
        tf.convert_to_tensor(slices)
    known = tf.IndexedSlices(values, indices, tf.constant([100_000_000, 3]))
    with pytest.warns(UserWarning, match="dense Tensor with 300000000 elements"):
        tf.convert_to_tensor(known)
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match="requested dtype int32 for IndexedSlices"),
    ):
        warnings.simplefilter("error")
        tf.convert_to_tensor(tf.IndexedSlices(values, indices, tf.constant([2, 3])), tf.int32)
    assert tf.convert_to_tensor_or_indexed_slices(known) is known
    with pytest.raises(ValueError, match="requested dtype int32"):
        tf.convert_to_tensor_or_indexed_slices(known, tf.int32)
    assert tf.convert_to_tensor_or_indexed_slices([1.0]).dtype == tf.float32


def test_compute_gradient_compares_with_differences():
    x = tf.placeholder(tf.float64, [2, 2])
    y = tf.matmul(x, x)
    start = np.array([[1.0, 2.0], [3.0, 4.0]])
    with tf.Session():
        symbolic, numeric = tf.test.compute_gradient(x, [2, 2], y, [2, 2], start)
        assert symbolic.shape == (4, 4) and np.allclose(symbolic, numeric)
        assert symbolic[0].tolist() == [
            2,
            2,
            3,
            0,
        ]  # x00 moves y00 by 2 x00, y01 by x01, y10 by x10
        assert tf.test.compute_gradient_error(x, [2, 2], y, [2, 2], start) < 1e-6
        wrong = tf.stop_gradient(x) * x
        assert tf.test.compute_gradient_error(x, [2, 2], wrong, [2, 2], start) == pytest.approx(
            4, rel=1e-6
        )


def test_compute_gradient_of_lists_rows_and_complex_numbers():
    table, z = tf.placeholder(tf.float32, [3, 2]), tf.placeholder(tf.complex64, [2])
    y = tf.reduce_sum(tf.gather(table, [2, 0, 2]), 0) * tf.real(z * z)
    with tf.Session():
        pairs = tf.test.compute_gradient(
            [table, z],
            [[3, 2], [2]],
            y,
            [2],
            [np.ones((3, 2), np.float32), np.array([1 + 1j, 2], np.complex64)],
            delta=1e-2,
            extra_feed_dict={z: [1 + 1j, 2], table: np.ones((3, 2), np.float32)},
        )
    assert [a.shape for a, _ in pairs] == [(6, 2), (4, 2)]
    for symbolic, numeric in pairs:
        np.testing.assert_allclose(symbolic, numeric, atol=2e-2)
    assert np.abs(pairs[0][0]).max() == 8
