"""Factorisations: what the factors make together, and their gradients by differences."""

import numpy as np
import pytest

import headrace as tf

rng = np.random.RandomState(3)


def run(tensors, feed=None):
    with tf.Session() as sess:
        first = sess.run(tensors, feed)  # interpreted
        second = sess.run(tensors, feed)  # compiled
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return first


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("full", [False, True])
def test_factors_make_the_matrix(shape, full):
    x = rng.randn(*shape)
    with tf.Graph().as_default():
        matrix = tf.constant(x)
        s, u, v = tf.svd(matrix, full_matrices=full)
        q, r = tf.qr(matrix, full_matrices=full)
        s_, u_, v_, q_, r_ = run([s, u, v, q, r])
    small = s_.shape[-1]
    product = (u_[..., :small] * s_[..., None, :]) @ np.swapaxes(v_[..., :small], -1, -2)
    np.testing.assert_allclose(product, x, atol=1e-10)
    np.testing.assert_allclose(q_ @ r_, x, atol=1e-10)
    assert s.shape.as_list() == list(s_.shape) and u.shape.as_list() == list(u_.shape)


def test_eigenvectors_and_what_counts_of_the_input():
    x = rng.randn(2, 4, 4)
    low = np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)
    with tf.Graph().as_default():
        e, v, only = run(
            [*tf.self_adjoint_eig(tf.constant(x)), tf.self_adjoint_eigvals(tf.constant(x))]
        )
    np.testing.assert_allclose(v @ (e[..., None] * np.swapaxes(v, -1, -2)), low, atol=1e-10)
    np.testing.assert_allclose(only, np.linalg.eigvalsh(low), atol=1e-10)


def _positive(x):
    return x @ x.T + 3 * np.eye(len(x))


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (
            lambda m: tf.cholesky(
                tf.matmul(m, m, transpose_b=True) + 3 * tf.eye(3, dtype=tf.float64)
            ),
            rng.randn(3, 3),
        ),
        (lambda m: tf.qr(m)[0], rng.randn(4, 3)),
        (lambda m: tf.qr(m)[1], rng.randn(4, 3)),
        (lambda m: tf.svd(m, compute_uv=False), rng.randn(4, 3)),
        (lambda m: tf.square(tf.svd(m)[1]), rng.randn(4, 3)),
        (lambda m: tf.self_adjoint_eigvals(m + tf.transpose(m)), rng.randn(3, 3)),
        (lambda m: tf.square(tf.self_adjoint_eig(m + tf.transpose(m))[1]), rng.randn(3, 3)),
        (
            lambda m: tf.linalg.logdet(
                tf.matmul(m, m, transpose_b=True) + tf.eye(3, dtype=tf.float64)
            ),
            rng.randn(3, 3),
        ),
        (lambda m: tf.linalg.slogdet(m)[1], rng.randn(3, 3)),
        (
            lambda m: tf.cholesky_solve(
                tf.matrix_band_part(m, -1, 0) + 2 * tf.eye(3, dtype=tf.float64), m
            ),
            rng.randn(3, 3),
        ),
    ],
)
def test_gradients_against_differences(build, value):
    with tf.Graph().as_default(), tf.Session():
        x = tf.placeholder(tf.float64, value.shape)
        y = build(x)
        error = tf.test.compute_gradient_error(
            x, list(value.shape), y, y.shape.as_list(), x_init_value=value, delta=1e-6
        )
    assert error < 1e-4


def test_what_cannot_be_inverted_says_so():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [2, 2])
        inverse, factor = tf.matrix_inverse(x), tf.cholesky(x)
        for _ in range(3):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"MatrixInverse op .*not invertible"
            ):
                sess.run(inverse, {x: np.zeros((2, 2))})
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"Cholesky decomposition was not successful"
            ):
                sess.run(factor, {x: -np.eye(2)})
        with pytest.raises(ValueError, match="square"):
            tf.matrix_inverse(tf.zeros([2, 3]))


def test_least_squares_without_normal_equations():
    a, b = rng.randn(5, 3), rng.randn(5, 2)
    with tf.Graph().as_default():
        fast, slow = run([tf.matrix_solve_ls(a, b), tf.matrix_solve_ls(a, b, fast=False)])
    want = np.linalg.lstsq(a, b, rcond=None)[0]
    np.testing.assert_allclose(fast, want, rtol=1e-9)
    np.testing.assert_allclose(slow, want, rtol=1e-9)
