"""Linear algebra: `tf.linalg` and its older names."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import PUBLIC, export, export_op
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor
from headrace.ops.linalg import adjoint as _adjoint

export_op(
    "MatrixInverse",
    "input, adjoint=False",
    "matrix_inverse",
    "linalg.inv",
    doc="The inverse of each matrix.",
)
export_op(
    "MatrixDeterminant",
    "input",
    "matrix_determinant",
    "linalg.det",
    doc="The determinant of each matrix.",
)
export_op(
    "LogMatrixDeterminant",
    "input",
    "linalg.slogdet",
    doc="The sign and the logarithm of the absolute value of each determinant.",
)
export_op(
    "Cholesky",
    "input",
    "cholesky",
    "linalg.cholesky",
    doc="The lower factor L of each matrix L L'.",
)
export_op(
    "MatrixSolve",
    "matrix, rhs, adjoint=False",
    "matrix_solve",
    "linalg.solve",
    doc="The solution X of `matrix X = rhs` for each matrix.",
)
export_op(
    "MatrixTriangularSolve",
    "matrix, rhs, lower=True, adjoint=False",
    "matrix_triangular_solve",
    "linalg.triangular_solve",
    doc="The solution X of `matrix X = rhs` for triangular matrices.",
)
export_op(
    "Qr",
    "input, full_matrices=False",
    "qr",
    "linalg.qr",
    doc="The factors Q (orthogonal) and R (upper) of each matrix.",
)


@export("cholesky_solve", "linalg.cholesky_solve")
def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """The solution X of `A X = rhs` where `chol` is the Cholesky factor of A."""
    with name_scope(name, "cholesky_solve", [chol, rhs]):
        y = raw.MatrixTriangularSolve(chol, rhs, adjoint=False, lower=True)
        return raw.MatrixTriangularSolve(chol, y, adjoint=True, lower=True)


@export("eye", "linalg.eye")
def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """Identity matrices, [batch_shape..., num_rows, num_columns]; square where num_columns is None."""
    with name_scope(name, "eye", [num_rows, num_columns, batch_shape]):
        ones, zeros = PUBLIC["ones"], PUBLIC["zeros"]
        columns = num_rows if num_columns is None else num_columns
        batch = [] if batch_shape is None else batch_shape
        is_square = num_columns is None
        if isinstance(num_rows, Tensor) or isinstance(columns, Tensor):
            size: Any = PUBLIC["minimum"](num_rows, columns)
        else:
            if not all(isinstance(n, (int, np.integer)) for n in (num_rows, columns)):
                raise TypeError("num_rows and num_columns must be positive integer values.")
            is_square, size = num_rows == columns, min(num_rows, columns)
        if isinstance(batch, Tensor) or isinstance(size, Tensor):
            concat = PUBLIC["concat"]
            batch = convert.convert_to_tensor(batch, dtypes.int32, "shape")
            diagonal_shape = concat((batch, [size]), axis=0)
            shape = None if is_square else concat((batch, [num_rows, columns]), axis=0)
        else:
            diagonal_shape, shape = [*batch, size], [*batch, num_rows, columns]
        diagonal = ones(diagonal_shape, dtype=dtype)
        if is_square:
            return raw.MatrixDiag(diagonal, name="diag")
        return raw.MatrixSetDiag(zeros(shape, dtype=dtype), diagonal, name="set_diag")


@export("matrix_solve_ls", "linalg.lstsq")
def matrix_solve_ls(
    matrix: Any, rhs: Any, l2_regularizer: Any = 0.0, fast: bool = True, name: str | None = None
) -> Tensor:
    """The X that minimises |matrix X - rhs|^2 + l2_regularizer |X|^2, for each matrix.

    fast: by the normal equations; else by singular values, without the regulariser, for ill-conditioned matrices.
    """
    return raw.MatrixSolveLs(matrix, rhs, l2_regularizer, fast=fast, name=name)


@export("self_adjoint_eig", "linalg.eigh")
def self_adjoint_eig(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending) and eigenvectors (columns) of Hermitian matrices; only the lower triangle counts."""
    e, v = raw.SelfAdjointEigV2(tensor, compute_v=True, name=name)
    return e, v


@export("self_adjoint_eigvals", "linalg.eigvalsh")
def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """The eigenvalues (ascending) of Hermitian matrices."""
    return raw.SelfAdjointEigV2(tensor, compute_v=False, name=name)[0]


@export("svd", "linalg.svd")
def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """The singular values s (descending) of each matrix u diag(s) v', and u and v unless compute_uv is False."""
    s, u, v = raw.Svd(tensor, compute_uv=compute_uv, full_matrices=full_matrices, name=name)
    return (s, u, v) if compute_uv else s


@export("linalg.logdet")
def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithm of the determinant of each Hermitian positive definite matrix."""
    with name_scope(name, "logdet", [matrix]):
        diagonal = raw.MatrixDiagPart(raw.Cholesky(matrix))
        if diagonal.dtype.is_complex:
            diagonal = raw.Real(diagonal)
        return raw.Mul(
            raw.Sum(raw.Log(diagonal), np.array([-1], np.int32)),
            np.array(2, diagonal.dtype.as_numpy_dtype),
        )


@export("linalg.adjoint")
def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The conjugate transpose of each matrix."""
    with name_scope(name, "adjoint", [matrix]):
        return _adjoint(convert.convert_to_tensor(matrix, name="matrix"))
