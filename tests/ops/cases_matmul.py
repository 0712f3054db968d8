"""Rows for matrix products."""

import numpy as np

from tests.ops.case import Case

_A = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, 1.5]], np.float32)
_B = np.array([[2.0, 1.0], [0.5, -1.0], [1.0, 4.0]], np.float32)
_C = (_A + 1j * _A[::-1]).astype(np.complex64)

CASES = [
    Case("MatMul", [_A, _B], {}, lambda a, b: a @ b),
    Case("MatMul", [_A.T, _B], {"transpose_a": True}, lambda a, b: a.T @ b),
    Case("MatMul", [_A, _B.T], {"transpose_b": True}, lambda a, b: a @ b.T),
    Case(
        "MatMul", [_A.T, _B.T], {"transpose_a": True, "transpose_b": True}, lambda a, b: a.T @ b.T
    ),
    Case("MatMul", [_C, _B.astype(np.complex64)], {}, lambda a, b: a @ b),
    Case(
        "MatMul", [_A.astype(np.float16), _B.astype(np.float16)], {}, lambda a, b: a @ b, rtol=1e-2
    ),
    Case("MatMul", [_A.astype(np.int32), _B.astype(np.int32)], {}, lambda a, b: a @ b),
    Case("MatMul", [np.zeros((0, 3), np.float32), _B], {}, np.zeros((0, 2), np.float32)),
]
