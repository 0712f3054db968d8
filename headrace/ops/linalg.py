"""Factorisations of matrices and what is computed with them, for stacks of matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks

_TYPES = "T: {double, float, half, complex64, complex128}"


def _square(op, x, what="input"):
    """The sizes of square matrices. Raises ValueError: they are not."""
    shapes.at_least_rank(op, x, 2, what)
    if x is not None:
        shapes.merge_size(op, x[-2], x[-1], f"{what} {shapes.text(x)} must be square matrices")
    return x


def _wide(x):
    """LAPACK has no half precision: `x` as float32 where it is half."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def adjoint(x):
    """The conjugate transpose of each matrix (nodes)."""
    rank = raw.Rank(x)
    order = raw.ConcatV2([raw.Range(0, rank - 2, 1), raw.Pack([rank - 1, rank - 2], axis=0)], 0)
    if x._dims is not None:
        n = len(x._dims)
        order = np.array([*range(n - 2), n - 1, n - 2], np.int32)
    return raw.ConjugateTranspose(x, order) if x.dtype.is_complex else raw.Transpose(x, order)


def _matmul(a, b, adjoint_a=False, adjoint_b=False):
    return raw.BatchMatMulV2(a, b, adj_x=adjoint_a, adj_y=adjoint_b)


def _swap(x, xp):
    return xp.conj(xp.swapaxes(x, -1, -2))


# ---- MatrixInverse

matrix_inverse = define(
    "MatrixInverse",
    "input: T -> output: T",
    f"adjoint: bool = false, {_TYPES}",
    effects=Effect.FALLIBLE,
)
matrix_inverse.shape(_square)


@matrix_inverse.lower
def _matrix_inverse_lower(op, x):
    inverse = jnp.linalg.inv(_wide(x)).astype(x.dtype)
    checks.fail_if(
        op,
        ~jnp.all(jnp.isfinite(jnp.abs(inverse))) & jnp.all(jnp.isfinite(jnp.abs(x))),
        "Input is not invertible.",
    )
    return _swap(inverse, jnp) if op.attr("adjoint") else inverse


@matrix_inverse.host
def _matrix_inverse_host(op, x):
    if x.shape[-1] == 0:
        return x
    try:
        inverse = np.linalg.inv(_wide(x)).astype(x.dtype)
    except np.linalg.LinAlgError:
        raise op.invalid("Input is not invertible.") from None
    return _swap(inverse, np) if op.attr("adjoint") else inverse


@matrix_inverse.gradient
def _matrix_inverse_gradient(op, dy):
    """d(A^-1) = -A^-1 dA A^-1."""
    inverse = op.outputs[0]
    if op.attr("adjoint"):
        inverse, dy = adjoint(inverse), adjoint(dy)
    return raw.Neg(_matmul(inverse, _matmul(dy, inverse, adjoint_b=True), adjoint_a=True))


# ---- MatrixDeterminant, LogMatrixDeterminant

matrix_determinant = define(
    "MatrixDeterminant", "input: T -> output: T", "T: {half, float, double, complex64, complex128}"
)


@matrix_determinant.shape
def _determinant_shape(op, x):
    x = _square(op, x)
    return None if x is None else x[:-2]


@matrix_determinant.lower
def _determinant_lower(op, x):
    return jnp.linalg.det(_wide(x)).astype(x.dtype)


@matrix_determinant.host
def _determinant_host(op, x):
    return np.asarray(np.linalg.det(_wide(x)), dtype=x.dtype)


def _to_matrices(x):
    """A tensor of one number for each matrix, with two more axes of size 1."""
    return raw.Reshape(x, raw.ConcatV2([raw.Shape(x), np.array([1, 1], np.int32)], 0))


@matrix_determinant.gradient
def _determinant_gradient(op, dy):
    inverse = raw.MatrixInverse(op.inputs[0], adjoint=True)
    return raw.Mul(_to_matrices(raw.Mul(dy, op.outputs[0])), inverse)


log_matrix_determinant = define(
    "LogMatrixDeterminant",
    "input: T -> sign: T, log_abs_determinant: T",
    "T: {half, float, double, complex64, complex128}",
)


@log_matrix_determinant.shape
def _log_determinant_shape(op, x):
    x = _square(op, x)
    outer = None if x is None else x[:-2]
    return [outer, outer]


@log_matrix_determinant.lower
def _log_determinant_lower(op, x):
    sign, log = jnp.linalg.slogdet(_wide(x))
    return sign.astype(x.dtype), log.astype(x.dtype)


@log_matrix_determinant.host
def _log_determinant_host(op, x):
    sign, log = np.linalg.slogdet(_wide(x))
    return np.asarray(sign, x.dtype), np.asarray(log, x.dtype)


@log_matrix_determinant.gradient
def _log_determinant_gradient(op, dsign, dlog):
    return raw.Mul(_to_matrices(dlog), raw.MatrixInverse(op.inputs[0], adjoint=True))


# ---- Cholesky, CholeskyGrad

cholesky = define("Cholesky", "input: T -> output: T", _TYPES, effects=Effect.FALLIBLE)
cholesky.shape(_square)
_NOT_POSITIVE = "Cholesky decomposition was not successful. The input might not be valid."


@cholesky.lower
def _cholesky_lower(op, x):
    # Only the lower triangle counts.
    low = jnp.linalg.cholesky(_wide(x), symmetrize_input=False).astype(x.dtype)
    checks.fail_if(
        op, jnp.any(jnp.isnan(jnp.abs(low))) & ~jnp.any(jnp.isnan(jnp.abs(x))), _NOT_POSITIVE
    )
    return low


@cholesky.host
def _cholesky_host(op, x):
    if x.size == 0:
        return x
    try:
        return np.linalg.cholesky(_wide(x)).astype(x.dtype)
    except np.linalg.LinAlgError:
        raise op.invalid(_NOT_POSITIVE) from None


@cholesky.gradient
def _cholesky_gradient(op, grad):
    """Murray: Differentiation of the Cholesky decomposition (2016), equation 10."""
    low = op.outputs[0]
    identity = raw.MatrixDiag(raw.OnesLike(raw.MatrixDiagPart(low)))
    inverse = raw.MatrixTriangularSolve(low, identity)
    middle = _matmul(low, grad, adjoint_a=True)
    half = raw.Mul(raw.MatrixDiagPart(middle), np.array(0.5, low.dtype.as_numpy_dtype))
    middle = raw.MatrixBandPart(raw.MatrixSetDiag(middle, half), np.int64(-1), np.int64(0))
    result = _matmul(inverse, _matmul(middle, inverse), adjoint_a=True)
    return raw.Mul(raw.Add(result, adjoint(result)), np.array(0.5, low.dtype.as_numpy_dtype))


# ---- MatrixSolve, MatrixTriangularSolve


def _solve_shape(op, matrix, rhs):
    matrix = _square(op, matrix, "matrix")
    shapes.at_least_rank(op, rhs, 2, "rhs")
    if matrix is None or rhs is None:
        return None
    rows = shapes.merge_size(
        op, matrix[-2], rhs[-2], f"matrix {shapes.text(matrix)} and rhs {shapes.text(rhs)}"
    )
    return (*shapes.merge(op, matrix[:-2], rhs[:-2], "batches"), rows, rhs[-1])


matrix_solve = define(
    "MatrixSolve",
    "matrix: T, rhs: T -> output: T",
    f"adjoint: bool = false, {_TYPES}",
    effects=Effect.FALLIBLE,
)
matrix_solve.shape(_solve_shape)


@matrix_solve.lower
def _matrix_solve_lower(op, matrix, rhs):
    a = _swap(matrix, jnp) if op.attr("adjoint") else matrix
    x = jnp.linalg.solve(_wide(a), _wide(rhs)).astype(rhs.dtype)
    known = jnp.all(jnp.isfinite(jnp.abs(matrix))) & jnp.all(jnp.isfinite(jnp.abs(rhs)))
    checks.fail_if(
        op, ~jnp.all(jnp.isfinite(jnp.abs(x))) & known, "Input matrix is not invertible."
    )
    return x


@matrix_solve.host
def _matrix_solve_host(op, matrix, rhs):
    if matrix.shape[-1] == 0 or rhs.size == 0:
        return np.zeros_like(rhs)
    try:
        a = _swap(matrix, np) if op.attr("adjoint") else matrix
        return np.linalg.solve(_wide(a), _wide(rhs)).astype(rhs.dtype)
    except np.linalg.LinAlgError:
        raise op.invalid("Input matrix is not invertible.") from None


@matrix_solve.gradient
def _matrix_solve_gradient(op, dx):
    matrix, x = op.inputs[0], op.outputs[0]
    drhs = raw.MatrixSolve(matrix, dx, adjoint=not op.attr("adjoint"))
    if op.attr("adjoint"):
        return raw.Neg(_matmul(x, drhs, adjoint_b=True)), drhs
    return raw.Neg(_matmul(drhs, x, adjoint_b=True)), drhs


triangular_solve = define(
    "MatrixTriangularSolve",
    "matrix: T, rhs: T -> output: T",
    f"lower: bool = true, adjoint: bool = false, {_TYPES}",
)
triangular_solve.shape(_solve_shape)


@triangular_solve.lower
def _triangular_solve_lower(op, matrix, rhs):
    return jax.lax.linalg.triangular_solve(
        _wide(matrix),
        _wide(rhs),
        left_side=True,
        lower=op.attr("lower"),
        transpose_a=op.attr("adjoint"),
        conjugate_a=op.attr("adjoint"),
    ).astype(rhs.dtype)


@triangular_solve.host
def _triangular_solve_host(op, matrix, rhs):
    a = np.tril(matrix) if op.attr("lower") else np.triu(matrix)
    if rhs.size == 0:
        return np.zeros_like(rhs)
    try:
        return np.linalg.solve(_wide(_swap(a, np) if op.attr("adjoint") else a), _wide(rhs)).astype(
            rhs.dtype
        )
    except np.linalg.LinAlgError:
        raise op.invalid("Input matrix is not invertible.") from None


@triangular_solve.gradient
def _triangular_solve_gradient(op, dx):
    matrix, x = op.inputs[0], op.outputs[0]
    lower, is_adjoint = op.attr("lower"), op.attr("adjoint")
    drhs = raw.MatrixTriangularSolve(matrix, dx, lower=lower, adjoint=not is_adjoint)
    grad = _matmul(x, drhs, adjoint_b=True) if is_adjoint else _matmul(drhs, x, adjoint_b=True)
    band = (np.int64(-1), np.int64(0)) if lower else (np.int64(0), np.int64(-1))
    return raw.MatrixBandPart(raw.Neg(grad), *band), drhs


# ---- MatrixSolveLs

matrix_solve_ls = define(
    "MatrixSolveLs",
    "matrix: T, rhs: T, l2_regularizer: double -> output: T",
    f"{_TYPES}, fast: bool = true",
)


@matrix_solve_ls.shape
def _solve_ls_shape(op, matrix, rhs, l2_regularizer):
    shapes.at_least_rank(op, matrix, 2, "matrix")
    shapes.at_least_rank(op, rhs, 2, "rhs")
    shapes.with_rank(op, l2_regularizer, 0, "l2_regularizer")
    if matrix is None or rhs is None:
        return None
    shapes.merge_size(
        op, matrix[-2], rhs[-2], f"matrix {shapes.text(matrix)} and rhs {shapes.text(rhs)}"
    )
    return (*shapes.merge(op, matrix[:-2], rhs[:-2], "batches"), matrix[-1], rhs[-1])


def _solve_ls(xp, matrix, rhs, l2, fast):
    """Least squares by the normal equations (fast), or the solution of least norm by the singular values."""
    a, b = _wide(matrix), _wide(rhs)
    rows, columns = a.shape[-2:]
    if not fast:
        return xp.matmul(xp.linalg.pinv(a), b)
    real = (
        xp.asarray(l2, dtype=a.real.dtype) if np.iscomplexobj(a) else xp.asarray(l2, dtype=a.dtype)
    )
    at = _swap(a, xp)
    if rows >= columns:
        return xp.linalg.solve(
            xp.matmul(at, a) + real * xp.eye(columns, dtype=a.dtype), xp.matmul(at, b)
        )
    return xp.matmul(at, xp.linalg.solve(xp.matmul(a, at) + real * xp.eye(rows, dtype=a.dtype), b))


@matrix_solve_ls.lower
def _solve_ls_lower(op, matrix, rhs, l2_regularizer):
    return _solve_ls(jnp, matrix, rhs, l2_regularizer, op.attr("fast")).astype(rhs.dtype)


@matrix_solve_ls.host
def _solve_ls_host(op, matrix, rhs, l2_regularizer):
    if matrix.size == 0 or rhs.size == 0:
        return np.zeros((*matrix.shape[:-2], matrix.shape[-1], rhs.shape[-1]), rhs.dtype)
    try:
        return _solve_ls(np, matrix, rhs, l2_regularizer, op.attr("fast")).astype(rhs.dtype)
    except np.linalg.LinAlgError:
        raise op.invalid(
            "Input matrix was rank deficient or ill-conditioned. Try setting fast=False."
        ) from None


@matrix_solve_ls.gradient
def _solve_ls_gradient(op, dx):
    """Of the regularised normal equations, differentiated implicitly."""
    matrix, rhs, l2 = op.inputs
    x = op.outputs[0]
    identity = raw.MatrixDiag(
        raw.OnesLike(raw.MatrixDiagPart(_matmul(matrix, matrix, adjoint_a=True)))
    )
    weight = raw.Cast(l2, DstT=matrix.dtype.base_dtype)
    normal = raw.Add(_matmul(matrix, matrix, adjoint_a=True), raw.Mul(weight, identity))
    z = raw.MatrixSolve(normal, dx)
    residual = raw.Sub(rhs, _matmul(matrix, x))
    dmatrix = raw.Sub(
        _matmul(residual, z, adjoint_b=True), _matmul(_matmul(matrix, z), x, adjoint_b=True)
    )
    return dmatrix, _matmul(matrix, z), None


# ---- Qr

qr = define("Qr", "input: T -> q: T, r: T", f"full_matrices: bool = false, {_TYPES}")


@qr.shape
def _qr_shape(op, x):
    shapes.at_least_rank(op, x, 2)
    if x is None:
        return [None, None]
    m, n = x[-2:]
    small = None if m is None or n is None else min(m, n)
    inner = m if op.attr("full_matrices") else small
    return [(*x[:-2], m, inner), (*x[:-2], inner, n)]


@qr.lower
def _qr_lower(op, x):
    q, r = jnp.linalg.qr(_wide(x), mode="complete" if op.attr("full_matrices") else "reduced")
    return q.astype(x.dtype), r.astype(x.dtype)


@qr.host
def _qr_host(op, x):
    q, r = np.linalg.qr(_wide(x), mode="complete" if op.attr("full_matrices") else "reduced")
    return q.astype(x.dtype), r.astype(x.dtype)


@qr.gradient
def _qr_gradient(op, dq, dr):
    """Walter, Lehmann: Algorithmic differentiation of linear algebra functions (2010), for at least as many rows as columns."""
    q, r = op.outputs
    dims = op.inputs[0]._dims
    if dims is None or None in dims[-2:]:
        raise NotImplementedError("Qr: the gradient needs matrices of known size.")
    if dims[-2] < dims[-1] or (op.attr("full_matrices") and dims[-2] != dims[-1]):
        raise NotImplementedError(
            "Qr: the gradient needs at least as many rows as columns, and reduced factors."
        )
    qdq, rdr = _matmul(q, dq, adjoint_a=True), _matmul(r, dr, adjoint_b=True)
    skew = raw.Add(raw.Sub(qdq, adjoint(qdq)), raw.Sub(rdr, adjoint(rdr)))
    low = raw.MatrixBandPart(skew, np.int64(-1), np.int64(0))

    def times_inverse(x):
        return adjoint(raw.MatrixTriangularSolve(r, adjoint(x), lower=False, adjoint=False))

    first = _matmul(q, raw.Add(dr, times_inverse(low)))
    rest = raw.Sub(dq, _matmul(q, qdq))
    return raw.Add(first, times_inverse(rest))


# ---- Svd

svd = define(
    "Svd",
    "input: T -> s: T, u: T, v: T",
    f"compute_uv: bool = true, full_matrices: bool = false, {_TYPES}",
)


@svd.shape
def _svd_shape(op, x):
    shapes.at_least_rank(op, x, 2)
    if x is None:
        return [None, None, None]
    m, n = x[-2:]
    small = None if m is None or n is None else min(m, n)
    outer = x[:-2]
    if not op.attr("compute_uv"):
        return [(*outer, small), (0,), (0,)]
    full = op.attr("full_matrices")
    return [(*outer, small), (*outer, m, m if full else small), (*outer, n, n if full else small)]


def _svd(xp, op, x):
    a = _wide(x)
    if not op.attr("compute_uv"):
        s = xp.linalg.svd(a, compute_uv=False)
        return s.astype(x.dtype), xp.zeros((0,), x.dtype), xp.zeros((0,), x.dtype)
    u, s, vh = xp.linalg.svd(a, full_matrices=op.attr("full_matrices"))
    return s.astype(x.dtype), u.astype(x.dtype), _swap(vh, xp).astype(x.dtype)


@svd.lower
def _svd_lower(op, x):
    return _svd(jnp, op, x)


@svd.host
def _svd_host(op, x):
    return _svd(np, op, x)


@svd.gradient
def _svd_gradient(op, ds, du, dv):
    """Giles: An extended collection of matrix derivative results (2008), for real square matrices or singular values alone."""
    x = op.inputs[0]
    if not op.attr("compute_uv"):
        _, u, v = raw.Svd(x, compute_uv=True)
        return _matmul(u, _matmul(raw.MatrixDiag(ds), v, adjoint_b=True))
    dims = x._dims
    if (
        x.dtype.is_complex
        or dims is None
        or None in dims[-2:]
        or (abs(dims[-1] - dims[-2]) > 1 and op.attr("full_matrices"))
    ):
        raise NotImplementedError(
            "Svd: the gradient needs real matrices of known size, and reduced factors."
        )
    s, u, v = op.outputs
    transposed = dims[-2] < dims[-1]
    if transposed:
        u, v, du, dv = v, u, dv, du
    square = raw.Square(s)
    gaps = raw.Sub(raw.ExpandDims(square, -2), raw.ExpandDims(square, -1))
    inverse_gaps = raw.DivNoNan(raw.OnesLike(gaps), gaps)
    inverse_gaps = raw.MatrixSetDiag(inverse_gaps, raw.ZerosLike(s))
    s_matrix = raw.MatrixDiag(s)
    udu = _matmul(u, du, adjoint_a=True)
    vdv = _matmul(v, dv, adjoint_a=True)
    fu, fv = raw.Mul(inverse_gaps, udu), raw.Mul(inverse_gaps, vdv)
    term = raw.Add(
        raw.MatrixDiag(ds),
        raw.Add(
            _matmul(raw.Add(fu, adjoint(fu)), s_matrix), _matmul(s_matrix, raw.Add(fv, adjoint(fv)))
        ),
    )
    result = _matmul(u, _matmul(term, v, adjoint_b=True))
    if dims[-2] != dims[-1]:
        rest = raw.Sub(du, _matmul(u, udu))
        inverse = raw.MatrixDiag(raw.Reciprocal(s))
        result = raw.Add(result, _matmul(rest, _matmul(inverse, v, adjoint_b=True)))
    return adjoint(result) if transposed else result


# ---- SelfAdjointEigV2

self_adjoint_eig = define(
    "SelfAdjointEigV2", "input: T -> e: T, v: T", f"compute_v: bool = true, {_TYPES}"
)


@self_adjoint_eig.shape
def _eig_shape(op, x):
    x = _square(op, x)
    if x is None:
        return [None, None]
    return [x[:-1], x if op.attr("compute_v") else (0,)]


def _lower_half(x, xp):
    """The Hermitian matrix with the lower triangle of `x`."""
    low = xp.tril(x)
    diagonal = low * xp.eye(x.shape[-1], dtype=x.dtype)
    return low + _swap(low - diagonal, xp)


def _eig(xp, op, x):
    a = _lower_half(_wide(x), xp)
    if not op.attr("compute_v"):
        return xp.linalg.eigvalsh(a).astype(x.dtype), xp.zeros((0,), x.dtype)
    e, v = xp.linalg.eigh(a)
    return e.astype(x.dtype), v.astype(x.dtype)


@self_adjoint_eig.lower
def _eig_lower(op, x):
    return _eig(jnp, op, x)


@self_adjoint_eig.host
def _eig_host(op, x):
    return _eig(np, op, x)


@self_adjoint_eig.gradient
def _eig_gradient(op, de, dv):
    """Giles (2008), section 3.1."""
    if op.attr("compute_v"):
        e, v = op.outputs
    else:
        e, v = raw.SelfAdjointEigV2(op.inputs[0], compute_v=True)
    if op.attr("compute_v"):
        gaps = raw.Sub(raw.ExpandDims(e, -2), raw.ExpandDims(e, -1))
        weights = raw.MatrixSetDiag(raw.DivNoNan(raw.OnesLike(gaps), gaps), raw.ZerosLike(e))
        middle = raw.Add(raw.MatrixDiag(de), raw.Mul(weights, _matmul(v, dv, adjoint_a=True)))
    else:
        middle = raw.MatrixDiag(de)
    grad = _matmul(v, _matmul(middle, v, adjoint_b=True))
    # Only the lower triangle of the input counts.
    both = raw.MatrixBandPart(raw.Add(grad, adjoint(grad)), np.int64(-1), np.int64(0))
    half = raw.Mul(raw.MatrixDiagPart(both), np.array(0.5, e.dtype.as_numpy_dtype))
    return raw.MatrixSetDiag(both, half)
