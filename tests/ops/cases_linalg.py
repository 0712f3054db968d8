"""Rows for linear algebra."""

import numpy as np

from tests.ops.case import Case

rng = np.random.RandomState(7)


def matrices(*shape, dtype=np.float32):
    return rng.randn(*shape).astype(dtype)


def well_conditioned(*shape, dtype=np.float32):
    """Square matrices far from singular."""
    return (rng.randn(*shape) * 0.3 + 2 * np.eye(shape[-1])).astype(dtype)


def positive(*shape, dtype=np.float32):
    """Symmetric positive definite matrices."""
    a = rng.randn(*shape)
    return (a @ np.swapaxes(a, -1, -2) + 2 * np.eye(shape[-1])).astype(dtype)


square = well_conditioned(2, 3, 3)
complex_square = well_conditioned(3, 3) + 1j * matrices(3, 3) * 0.2
symmetric = positive(3, 3)
lower = np.tril(well_conditioned(2, 3, 3))
rhs = matrices(2, 3, 2)
tall, wide = matrices(2, 4, 3), matrices(2, 4, 4)[:, :3]


def _upper_only(x):
    return np.triu(x)


def _least_squares(a, b, l2):
    at = np.swapaxes(a, -1, -2)
    return np.linalg.solve(at @ a + l2 * np.eye(a.shape[-1], dtype=a.dtype), at @ b)


LOOSE = {"rtol": 2e-4, "atol": 1e-5, "grad_rtol": 2e-2}

CASES = [
    Case("MatrixInverse", [square], {}, np.linalg.inv, **LOOSE),
    Case(
        "MatrixInverse",
        [square],
        {"adjoint": True},
        lambda x: np.swapaxes(np.linalg.inv(x), -1, -2),
        **LOOSE,
    ),
    Case(
        "MatrixInverse",
        [complex_square.astype(np.complex64)],
        {},
        np.linalg.inv,
        grad=False,
        **LOOSE,
    ),
    Case("MatrixDeterminant", [square], {}, np.linalg.det, **LOOSE),
    Case(
        "LogMatrixDeterminant",
        [square],
        {},
        lambda x: [v.astype(np.float32) for v in np.linalg.slogdet(x)],
        **LOOSE,
    ),
    Case("Cholesky", [symmetric], {}, np.linalg.cholesky, grad=False, **LOOSE),
    Case("MatrixSolve", [square, rhs], {}, np.linalg.solve, **LOOSE),
    Case(
        "MatrixSolve",
        [square, rhs],
        {"adjoint": True},
        lambda a, b: np.linalg.solve(np.swapaxes(a, -1, -2), b),
        **LOOSE,
    ),
    Case("MatrixTriangularSolve", [lower, rhs], {}, np.linalg.solve, grad=(1,), **LOOSE),
    Case(
        "MatrixTriangularSolve",
        [square, rhs],
        {"lower": False, "adjoint": True},
        lambda a, b: np.linalg.solve(np.swapaxes(_upper_only(a), -1, -2), b),
        **LOOSE,
    ),
    Case(
        "MatrixSolveLs",
        [tall, matrices(2, 4, 2), np.float64(0.5)],
        {},
        _least_squares,
        grad=(0, 1),
        **LOOSE,
    ),
    Case(
        "MatrixSolveLs",
        [tall, matrices(2, 4, 2), np.float64(0.0)],
        {"fast": False},
        lambda a, b, l2: np.matmul(np.linalg.pinv(a), b),
        grad=False,
        **LOOSE,
    ),
    # Signs of the factors are free: what they make together is compared below, in test_linalg.
    Case("Qr", [tall], {}, None, grad=False),
    Case("Svd", [tall], {"compute_uv": False}, None, grad=False),
    Case("Svd", [tall], {"full_matrices": True}, None, grad=False),
    Case("SelfAdjointEigV2", [symmetric], {"compute_v": False}, None, grad=False),
]
