"""Diagonals and bands of matrices: Diag, MatrixDiag, MatrixSetDiag, MatrixBandPart and their kin."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static, shape_of

_NUMBERS = "bfloat16, half, float, double, int32, int64, complex64, complex128"


def _xp(*values):
    return np if all(map(is_static, values)) else jnp


# ---- Diag, DiagPart: tensors as if they were vectors and matrices

diag = define("Diag", "diagonal: T -> output: T", f"T: {{{_NUMBERS}}}")


@diag.shape
def _diag_shape(op, x) -> Dims:
    shapes.at_least_rank(op, x, 1, "diagonal")
    return shapes.concatenate(x, x)


@diag.host
@diag.lower
def _diag_lower(op, x):
    return _xp(x).diag(x.reshape(-1)).reshape(x.shape + x.shape)


@diag.gradient
def _diag_gradient(op, dy):
    return raw.DiagPart(dy)


diag_part = define("DiagPart", "input: T -> diagonal: T", f"T: {{{_NUMBERS}}}")


@diag_part.shape
def _diag_part_shape(op, x) -> Dims:
    if x is None:
        return None
    if len(x) % 2 or not x:
        raise op.error(f"Input must have even and non-zero rank, input rank is {len(x)}.")
    half = len(x) // 2
    return shapes.merge(op, x[:half], x[half:], "the halves of the shape of input")


@diag_part.host
@diag_part.lower
def _diag_part_lower(op, x):
    half = x.shape[: len(x.shape) // 2]
    if half != x.shape[len(half) :]:
        raise op.invalid(f"Invalid shape {shapes.brackets(x.shape)}: both halves must be the same")
    count = math.prod(half)
    return x.reshape((count, count)).diagonal().reshape(half)


@diag_part.gradient
def _diag_part_gradient(op, dy):
    return raw.Diag(dy)


# ---- MatrixDiag


def _define_matrix_diag(name: str, part: str) -> OpDef:
    definition = define(name, "diagonal: T -> output: T", "T: type")

    @definition.shape
    def _matrix_diag_shape(op, x) -> Dims:
        x = shapes.at_least_rank(op, x, 1, "diagonal")
        return None if x is None else (*x, x[-1])

    @definition.host
    @definition.lower
    def _matrix_diag_lower(op, x):
        if not len(x.shape):
            raise op.invalid("diagonal must be at least 1-dim, received shape: []")
        xp = _xp(x)
        return xp.where(np.eye(x.shape[-1], dtype=bool), x[..., None], xp.zeros((), x.dtype))

    @definition.gradient
    def _matrix_diag_gradient(op, dy):
        return getattr(raw, part)(dy)

    return definition


matrix_diag = _define_matrix_diag("MatrixDiag", "MatrixDiagPart")
batch_matrix_diag = _define_matrix_diag("BatchMatrixDiag", "BatchMatrixDiagPart")

# ---- MatrixDiagPart


def _smaller(a: int | None, b: int | None) -> int | None:
    """The smaller of two sizes; None where it is not known."""
    if a == 0 or b == 0:
        return 0
    return None if a is None or b is None else min(a, b)


def _define_matrix_diag_part(name: str, whole: str, set_diag: str) -> OpDef:
    definition = define(name, "input: T -> diagonal: T", "T: type")

    @definition.shape
    def _matrix_diag_part_shape(op, x) -> Dims:
        x = shapes.at_least_rank(op, x, 2, "input")
        return None if x is None else (*x[:-2], _smaller(*x[-2:]))

    @definition.host
    @definition.lower
    def _matrix_diag_part_lower(op, x):
        if len(x.shape) < 2:
            raise op.invalid(
                f"input must be at least 2-dim, received shape: {shapes.brackets(x.shape)}"
            )
        return x.diagonal(0, -2, -1)

    @definition.gradient
    def _matrix_diag_part_gradient(op, dy):
        x = op.inputs[0]
        dims = x._dims
        if dims is not None and dims[-1] is not None and dims[-1] == dims[-2]:
            return getattr(raw, whole)(dy)
        return getattr(raw, set_diag)(raw.ZerosLike(x), dy)

    return definition


matrix_diag_part = _define_matrix_diag_part("MatrixDiagPart", "MatrixDiag", "MatrixSetDiag")
batch_matrix_diag_part = _define_matrix_diag_part(
    "BatchMatrixDiagPart", "BatchMatrixDiag", "BatchMatrixSetDiag"
)

# ---- MatrixSetDiag


def _define_matrix_set_diag(name: str, part: str) -> OpDef:
    definition = define(name, "input: T, diagonal: T -> output: T", "T: type")

    @definition.shape
    def _matrix_set_diag_shape(op, x, diagonal) -> Dims:
        x = shapes.at_least_rank(op, x, 2, "input")
        diagonal = shapes.at_least_rank(op, diagonal, 1, "diagonal")
        if diagonal is None or x is None:
            return x
        shapes.merge(
            op,
            diagonal,
            (*x[:-2], _smaller(*x[-2:])),
            "diagonal and the diagonal of input",
        )
        return (*shapes.merge(op, x[:-2], diagonal[:-1]), *x[-2:])  # type: ignore[misc]

    @definition.host
    @definition.lower
    def _matrix_set_diag_lower(op, x, diagonal):
        if len(x.shape) < 2:
            raise op.invalid(
                f"input must be at least 2-dim, received shape: {shapes.brackets(x.shape)}"
            )
        if not len(diagonal.shape):
            raise op.invalid("diagonal must be at least 1-dim, received shape: []")
        wanted = (*x.shape[:-2], min(x.shape[-2:]))
        if diagonal.shape != wanted:
            raise op.invalid(
                "must have diagonal.shape == input.shape[:-2] + min(input.shape[-2:]), but received input shape: "
                f"{shapes.brackets(x.shape)} and diagonal shape: {shapes.brackets(diagonal.shape)}"
            )
        xp = _xp(x, diagonal)
        rows, columns = x.shape[-2:]
        if rows > columns:
            diagonal = xp.concatenate(
                [diagonal, xp.zeros((*diagonal.shape[:-1], rows - columns), diagonal.dtype)], -1
            )
        return xp.where(np.eye(rows, columns, dtype=bool), diagonal[..., None], x)

    @definition.gradient
    def _matrix_set_diag_gradient(op, dy):
        diagonal = op.inputs[1]
        d_diagonal = getattr(raw, part)(dy)
        return getattr(raw, name)(dy, raw.ZerosLike(diagonal)), d_diagonal

    return definition


matrix_set_diag = _define_matrix_set_diag("MatrixSetDiag", "MatrixDiagPart")
batch_matrix_set_diag = _define_matrix_set_diag("BatchMatrixSetDiag", "BatchMatrixDiagPart")

# ---- MatrixBandPart


def _define_band_part(name: str, index: str, attrs: str) -> OpDef:
    definition = define(name, f"input: T, num_lower: {index}, num_upper: {index} -> band: T", attrs)

    @definition.shape
    def _band_part_shape(op, x, lower, upper) -> Dims:
        shapes.with_rank(op, lower, 0, "num_lower")
        shapes.with_rank(op, upper, 0, "num_upper")
        x = shapes.at_least_rank(op, x, 2, "input")
        for i, axis, word in ((1, -2, "num_lower"), (2, -1, "num_upper")):
            count = op.static(i)
            if count is not None and x is not None and x[axis] is not None and count > x[axis]:
                raise op.error(
                    f"{word} must be negative or less or equal to {x[axis]}, got {count}."
                )
        return x

    @definition.host
    @definition.lower
    def _band_part_lower(op, x, lower, upper):
        if len(x.shape) < 2:
            raise op.invalid(
                f"input must be at least 2-dim, received shape: {shapes.brackets(x.shape)}"
            )
        rows, columns = x.shape[-2:]
        below = np.arange(rows)[:, None] - np.arange(columns)[None, :]
        inside = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
        xp = _xp(x, lower, upper)
        return xp.where(inside, x, xp.zeros((), x.dtype))

    @definition.gradient
    def _band_part_gradient(op, dy):
        return getattr(raw, name)(dy, op.inputs[1], op.inputs[2]), None, None

    return definition


matrix_band_part = _define_band_part(
    "MatrixBandPart", "Tindex", "T: type, Tindex: {int32, int64} = int64"
)
batch_matrix_band_part = _define_band_part("BatchMatrixBandPart", "int64", "T: type")

# ---- MatrixDiagV2, MatrixDiagPartV2, MatrixSetDiagV2: bands of diagonals, the highest first, each from its start


def _band(op, k: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest diagonal of `k`: a number, or two."""
    values = [int(v) for v in k.reshape(-1)]
    if k.ndim > 1 or len(values) not in (1, 2):
        raise op.invalid(
            f"diag_index must have one or two elements, got shape {shapes.brackets(k.shape)}"
        )
    low, high = values[0], values[-1]
    if low > high:
        raise op.invalid(
            f"lower_diag_index must not be larger than upper_diag_index: {low} > {high}"
        )
    return low, high


def _longest(rows: int, columns: int, low: int, high: int) -> int:
    return min(rows + min(high, 0), columns - max(low, 0))


def _place_of_elements(rows: int, columns: int, low: int, high: int):
    """For each element: whether it is in the band, its diagonal (counted from the highest), its place on it."""
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    offset = j - i
    inside = (offset >= low) & (offset <= high)
    return inside, np.where(inside, high - offset, 0), np.where(inside, np.minimum(i, j), 0)


def _set_band(x, diagonal, low: int, high: int):
    inside, which, place = _place_of_elements(*x.shape[-2:], low, high)
    if low == high:
        diagonal = diagonal[..., None, :]
    return _xp(x, diagonal).where(inside, diagonal[..., which, place], x)


matrix_diag_v2 = define(
    "MatrixDiagV2",
    "diagonal: T, k: int32, num_rows: int32, num_cols: int32, padding_value: T -> output: T",
    "T: type",
    static_inputs=("k", "num_rows", "num_cols"),
)


def _matrix_sizes(
    op, length: int, k: np.ndarray, num_rows: np.ndarray, num_cols: np.ndarray
) -> tuple[int, int]:
    low, high = _band(op, k)
    least_rows, least_columns = length - min(high, 0), length + max(low, 0)
    rows, columns = int(num_rows), int(num_cols)
    if rows == -1 and columns == -1:
        rows = columns = max(least_rows, least_columns)
    elif rows == -1:
        rows = least_rows
    elif columns == -1:
        columns = least_columns
    if rows < least_rows or columns < least_columns:
        raise op.invalid(
            f"The number of rows or columns is too small for the given diagonals: {rows} and {columns}, needs at least "
            f"{least_rows} and {least_columns}"
        )
    if rows != least_rows and columns != least_columns:
        raise op.invalid(
            "The number of rows or columns is not consistent with the specified d_lower, d_upper, and diagonal: "
            f"{rows} and {columns}, needs {least_rows} rows or {least_columns} columns"
        )
    return rows, columns


@matrix_diag_v2.shape
def _matrix_diag_v2_shape(op, diagonal, k, num_rows, num_cols, padding) -> Dims:
    diagonal = shapes.at_least_rank(op, diagonal, 1, "diagonal")
    band, rows, columns = op.static(1), op.static(2), op.static(3)
    if diagonal is None or band is None:
        return None
    low, high = _band(op, band)
    batch = diagonal[:-1] if low == high else diagonal[:-2]
    if rows is None or columns is None or diagonal[-1] is None:
        return (*batch, None, None)
    return (*batch, *_matrix_sizes(op, diagonal[-1], band, rows, columns))


@matrix_diag_v2.host
@matrix_diag_v2.lower
def _matrix_diag_v2_lower(
    op, diagonal, k: np.ndarray, num_rows: np.ndarray, num_cols: np.ndarray, padding
):
    low, high = _band(op, k)
    batch = diagonal.shape[:-1] if low == high else diagonal.shape[:-2]
    if low != high and diagonal.shape[-2] != high - low + 1:
        raise op.invalid(
            f"The number of diagonals must be {high - low + 1}, got {diagonal.shape[-2]}"
        )
    rows, columns = _matrix_sizes(op, diagonal.shape[-1], k, num_rows, num_cols)
    padded = _xp(diagonal, padding).broadcast_to(
        padding.astype(diagonal.dtype), (*batch, rows, columns)
    )
    return _set_band(padded, diagonal, low, high)


@matrix_diag_v2.gradient
def _matrix_diag_v2_gradient(op, dy):
    zero = np.zeros((), dy.dtype.base_dtype.as_numpy_dtype)
    return raw.MatrixDiagPartV2(dy, op.inputs[1], zero), None, None, None, None


matrix_diag_part_v2 = define(
    "MatrixDiagPartV2",
    "input: T, k: int32, padding_value: T -> diagonal: T",
    "T: type",
    static_inputs=("k",),
)


@matrix_diag_part_v2.shape
def _matrix_diag_part_v2_shape(op, x, k, padding) -> Dims:
    x = shapes.at_least_rank(op, x, 2, "input")
    band = op.static(1)
    if x is None or band is None:
        return None
    low, high = _band(op, band)
    length = None if None in x[-2:] else _longest(x[-2], x[-1], low, high)  # type: ignore[arg-type]
    return (*x[:-2], length) if low == high else (*x[:-2], high - low + 1, length)


@matrix_diag_part_v2.host
@matrix_diag_part_v2.lower
def _matrix_diag_part_v2_lower(op, x, k: np.ndarray, padding):
    low, high = _band(op, k)
    rows, columns = x.shape[-2:]
    if not (-rows < low < columns or low == 0) or not (-rows < high < columns or high == 0):
        raise op.invalid(
            f"diag_index is out of bound: {low}, {high} for a matrix of {rows} by {columns}"
        )
    offset = np.arange(high, low - 1, -1)[:, None]
    place = np.arange(_longest(rows, columns, low, high))[None, :]
    i, j = place + np.maximum(-offset, 0), place + np.maximum(offset, 0)
    inside = (i < rows) & (j < columns)
    found = x[..., np.where(inside, i, 0), np.where(inside, j, 0)]
    y = _xp(x, padding).where(inside, found, padding.astype(x.dtype))
    return y[..., 0, :] if low == high else y


@matrix_diag_part_v2.gradient
def _matrix_diag_part_v2_gradient(op, dy):
    return raw.MatrixSetDiagV2(raw.ZerosLike(op.inputs[0]), dy, op.inputs[1]), None, None


matrix_set_diag_v2 = define(
    "MatrixSetDiagV2",
    "input: T, diagonal: T, k: int32 -> output: T",
    "T: type",
    static_inputs=("k",),
)


@matrix_set_diag_v2.shape
def _matrix_set_diag_v2_shape(op, x, diagonal, k) -> Dims:
    shapes.at_least_rank(op, diagonal, 1, "diagonal")
    return shapes.at_least_rank(op, x, 2, "input")


@matrix_set_diag_v2.host
@matrix_set_diag_v2.lower
def _matrix_set_diag_v2_lower(op, x, diagonal, k: np.ndarray):
    low, high = _band(op, k)
    length = _longest(*x.shape[-2:], low, high)
    wanted = (*x.shape[:-2], length) if low == high else (*x.shape[:-2], high - low + 1, length)
    if diagonal.shape != wanted:
        raise op.invalid(
            f"diagonal must have shape {list(wanted)} for input {shapes.brackets(x.shape)}, got "
            f"{shapes.brackets(diagonal.shape)}"
        )
    return _set_band(x, diagonal, low, high)


@matrix_set_diag_v2.gradient
def _matrix_set_diag_v2_gradient(op, dy):
    _, diagonal, k = op.inputs
    zero = np.zeros((), dy.dtype.base_dtype.as_numpy_dtype)
    nothing = raw.Fill(shape_of(diagonal), zero)
    return raw.MatrixSetDiagV2(dy, nothing, k), raw.MatrixDiagPartV2(dy, k, zero), None
