"""Diagonals and bands: `tf.diag`, `tf.linalg.diag`, `tf.linalg.set_diag`, `tf.linalg.band_part`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.export import export, export_op
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

export_op(
    "Diag",
    "diagonal",
    "diag",
    "linalg.tensor_diag",
    doc="A tensor of twice the rank with `diagonal` on its diagonal, else zeros.",
)
export_op(
    "DiagPart",
    "input",
    "diag_part",
    "linalg.tensor_diag_part",
    doc="The diagonal of a tensor of even rank, of half its rank.",
)
export_op(
    "MatrixBandPart",
    "input, num_lower, num_upper",
    "matrix_band_part",
    "linalg.band_part",
    doc="`input` with zeros outside the band of num_lower diagonals below the main one and num_upper above (-1: all).",
)


def _is_main(k: Any) -> bool:
    """Whether `k` says the main diagonal alone."""
    return isinstance(k, (int, np.integer)) and k == 0


# TF differs: 1.15 ignores k, num_rows, num_cols and padding_value until a date that it has not reached
# (tests/api/test_array_ops.py, test_diagonals_beside_the_main_one).


@export("matrix_diag", "linalg.diag")
def matrix_diag(
    diagonal: Any,
    name: str = "diag",
    k: Any = 0,
    num_rows: Any = -1,
    num_cols: Any = -1,
    padding_value: Any = 0,
) -> Tensor:
    """Matrices with the vectors `diagonal` on diagonal `k`, padding_value elsewhere.

    diagonal: [..., n], or [..., number of diagonals, n] with k a pair (lowest, highest), the highest diagonal first.
    num_rows, num_cols: the size of the matrices; -1: the smallest square one.
    """
    plain = all(isinstance(n, int) and n == -1 for n in (num_rows, num_cols))
    if _is_main(k) and plain and isinstance(padding_value, (int, float)) and padding_value == 0:
        return raw.MatrixDiag(diagonal, name=name)
    diagonal = convert_to_tensor(diagonal)
    return raw.MatrixDiagV2(
        diagonal, k, num_rows, num_cols, _padding(padding_value, diagonal), name=name
    )


@export("matrix_diag_part", "linalg.diag_part")
def matrix_diag_part(
    input: Any, name: str = "diag_part", k: Any = 0, padding_value: Any = 0
) -> Tensor:
    """The diagonal `k` of each matrix of `input`; several where k is a pair (lowest, highest), padded to one length."""
    if _is_main(k):
        return raw.MatrixDiagPart(input, name=name)
    input = convert_to_tensor(input)
    return raw.MatrixDiagPartV2(input, k, _padding(padding_value, input), name=name)


@export("matrix_set_diag", "linalg.set_diag")
def matrix_set_diag(input: Any, diagonal: Any, name: str = "set_diag", k: Any = 0) -> Tensor:
    """`input` with `diagonal` as diagonal `k` of each matrix (as several, where k is a pair)."""
    if _is_main(k):
        return raw.MatrixSetDiag(input, diagonal, name=name)
    return raw.MatrixSetDiagV2(input, diagonal, k, name=name)


def _padding(value: Any, like: Tensor) -> Any:
    return (
        value
        if isinstance(value, Tensor)
        else convert_to_tensor(
            bool(value) if like.dtype.base_dtype.is_bool else value, dtype=like.dtype.base_dtype
        )
    )
