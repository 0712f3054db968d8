"""Rows for ops on sparse tensors: three arguments each, indices [n, rank], values [n], shape [rank]."""

import numpy as np

from tests.ops.case import Case


def _i64(*values):
    return np.array(values, np.int64)


def _f32(*values):
    return np.array(values, np.float32)


def _dense(indices, values, shape, default=0):
    out = np.full(shape, default, values.dtype)
    out[tuple(indices.T)] = values
    return out


def _triple(matrix):
    where = np.argwhere(matrix)
    return [where, matrix[tuple(where.T)], np.array(matrix.shape)]


# 3 x 4, an empty row; another of the same shape that shares two places.
_AT, _V, _SHAPE = _i64([0, 1], [0, 3], [2, 0], [2, 2]), _f32(1, -2, 3, 4), _i64(3, 4)
_A = [_AT, _V, _SHAPE]
_B = [_i64([0, 0], [0, 3], [1, 2], [2, 0]), _f32(5, 2, 7, -8), _SHAPE]
_FULL = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
_ROW = _f32(2, -1, 3, 0.5)
_C = [_i64([0, 1], [1, 0]), _f32(9, 10), _i64(2, 4)]
_NONE = [np.zeros((0, 2), np.int64), np.zeros(0, np.float32), _SHAPE]
_SHUFFLE = np.array([2, 0, 3, 1])
_DENSE = _dense(*_A)
# A cube with values in two of its last rows.
_CUBE = [_i64([0, 0, 1], [0, 0, 2], [0, 1, 0], [1, 1, 1]), _f32(1, 2, 3, 4), _i64(2, 2, 3)]
_WORDS = np.array(["a", "b", "c", "d"])


def _to_dense(indices, shape, values, default):
    return _dense(indices, values, shape, default)


def _matmul(adjoint_a=False, adjoint_b=False):
    def product(indices, values, shape, b):
        a = _dense(indices, values, shape)
        return (a.conj().T if adjoint_a else a) @ (b.conj().T if adjoint_b else b)

    return product


def _softmax(indices, values, shape):
    rows = [tuple(i[:-1]) for i in indices]
    total = {row: sum(np.exp(v) for r, v in zip(rows, values) if r == row) for row in rows}
    return np.array([np.exp(v) / total[r] for r, v in zip(rows, values)], np.float32)


_MAX = np.maximum(_dense(*_A), _dense(*_B))
_MIN = np.minimum(_dense(*_A), _dense(*_B))
_UNION = _i64([0, 0], [0, 1], [0, 3], [1, 2], [2, 0], [2, 2])

CASES = [
    Case("SparseToDense", [_AT, _SHAPE, _V, _f32(7)[0]], {}, _to_dense, grad=(2, 3)),
    Case(
        "SparseToDense",
        [_i64(0, 2), _i64(4), _f32(5)[0], _f32(1)[0]],
        {},
        _f32(5, 1, 5, 1),
        grad=(2, 3),
    ),
    Case(
        "SparseToDense",
        [np.int32(1), np.array([3], np.int32), np.int32(4), np.int32(0)],
        {},
        np.array([0, 4, 0]),
    ),
    Case("SparseToDense", [_AT, _SHAPE, _WORDS, np.array("")], {}, _to_dense),
    Case(
        "SparseToDense",
        [_AT[_SHUFFLE], _SHAPE, _V[_SHUFFLE], _f32(0)[0]],
        {"validate_indices": False},
        _DENSE,
        grad=(2, 3),
    ),
    Case("SparseTensorDenseAdd", [*_A, _FULL], {}, _DENSE + _FULL, grad=(1, 3)),
    Case(
        "SparseTensorDenseAdd",
        [_AT.astype(np.int32), _V, _SHAPE.astype(np.int32), _FULL],
        {},
        _DENSE + _FULL,
    ),
    Case("SparseTensorDenseMatMul", [*_A, _FULL.T], {}, _matmul(), grad=(1, 3), rtol=1e-4),
    Case(
        "SparseTensorDenseMatMul",
        [*_A, _FULL],
        {"adjoint_b": True},
        _matmul(False, True),
        grad=(1, 3),
        rtol=1e-4,
    ),
    Case(
        "SparseTensorDenseMatMul",
        [*_A, _FULL],
        {"adjoint_a": True},
        _matmul(True),
        grad=(1, 3),
        rtol=1e-4,
    ),
    Case(
        "SparseTensorDenseMatMul",
        [*_A, _FULL.T],
        {"adjoint_a": True, "adjoint_b": True},
        _matmul(True, True),
        grad=(1, 3),
        rtol=1e-4,
    ),
    Case(
        "SparseTensorDenseMatMul",
        [_AT, _V * np.complex64(1 + 2j), _SHAPE, _FULL * np.complex64(2 - 1j)],
        {"adjoint_a": True},
        _matmul(True),
        grad=False,
    ),
    Case("SparseTensorDenseMatMul", [*_NONE, _FULL.T], {}, np.zeros((3, 3)), grad=False),
    Case(
        "SparseAdd",
        [*_A, *_B, _f32(0)[0]],
        {},
        [_UNION, _f32(5, 1, 0, 7, -5, 4), _SHAPE],
        static=False,
        grad=False,
    ),
    Case(
        "SparseAdd",
        [*_A, *_B, _f32(4.5)[0]],
        {},
        [_UNION[[0, 1, 3, 4, 5]], _f32(5, 1, 7, -5, 4), _SHAPE],
        static=False,
        grad=False,
    ),
    Case(
        "SparseAddGrad",
        [_f32(1, 2, 3), _AT, _B[0], _UNION[1:4]],
        {},
        [_f32(1, 2, 0, 0), _f32(0, 2, 3, 0)],
    ),
    Case(
        "SparseConcat",
        [[_AT, _C[0]], [_V, _C[1]], [_SHAPE, _C[2]]],
        {"concat_dim": 0},
        [np.concatenate([_AT, _C[0] + [3, 0]]), np.concatenate([_V, _C[1]]), _i64(5, 4)],
    ),
    Case(
        "SparseConcat",
        [[_AT, _B[0]], [_V, _B[1]], [_SHAPE, _SHAPE]],
        {"concat_dim": -1},
        _triple(np.concatenate([_DENSE, _dense(*_B)], axis=1)),
    ),
    Case("SparseReorder", [_AT[_SHUFFLE], _V[_SHUFFLE], _SHAPE], {}, [_AT, _V], grad=(1,)),
    Case("SparseReorder", [_AT[_SHUFFLE], _WORDS[_SHUFFLE], _SHAPE], {}, [_AT, _WORDS]),
    Case(
        "SparseReshape",
        [_AT, _SHAPE, _i64(2, -1, 3)],
        {},
        [np.argwhere(_DENSE.reshape(2, 2, 3)), _i64(2, 2, 3)],
    ),
    Case("SparseReshape", [_NONE[0], _SHAPE, _i64(12)], {}, [np.zeros((0, 1)), _i64(12)]),
    Case(
        "SparseSlice",
        [*_A, _i64(0, 1), _i64(3, 2)],
        {},
        [_i64([0, 0], [2, 1]), _f32(1, 4), _i64(3, 2)],
        static=False,
    ),
    Case(
        "SparseSlice",
        [*_A, _i64(1, 2), _i64(9, 9)],
        {},
        [_i64([1, 0]), _f32(4), _i64(2, 2)],
        static=False,
    ),
    Case(
        "SparseSliceGrad", [_f32(5, 6), _AT, _i64(0, 1), _i64([0, 0], [2, 1])], {}, _f32(5, 0, 0, 6)
    ),
    Case(
        "SparseSplit",
        [np.int64(1), *_A],
        {"num_split": 2},
        [
            _i64([0, 1], [2, 0]),
            _i64([0, 1], [2, 0]),
            _f32(1, 3),
            _f32(-2, 4),
            _i64(3, 2),
            _i64(3, 2),
        ],
        static=False,
    ),
    Case(
        "SparseSplit",
        [np.int64(0), *_A],
        {"num_split": 2},
        [_AT[:2], _i64([0, 0], [0, 2]), _V[:2], _V[2:], _i64(2, 4), _i64(1, 4)],
        static=False,
    ),
    Case("SparseReduceSum", [*_A, np.array([1], np.int32)], {}, _DENSE.sum(1), grad=(1,)),
    Case(
        "SparseReduceSum",
        [*_CUBE, np.array([0, -1], np.int32)],
        {"keep_dims": True},
        _f32([[3], [7]]),
        grad=(1,),
    ),
    Case("SparseReduceSum", [*_A, np.array([0, 1], np.int32)], {}, _f32(6)[0], grad=(1,)),
    Case("SparseReduceMax", [*_A, np.array(1, np.int32)], {}, _f32(1, 0, 4)),
    Case(
        "SparseReduceMax",
        [_AT, -np.abs(_V), _SHAPE, np.array([0], np.int32)],
        {"keep_dims": True},
        _f32([-3, -1, -4, -2]),
    ),
    Case(
        "SparseReduceSumSparse",
        [*_A, np.array([1], np.int32)],
        {},
        [_i64([0], [2]), _f32(-1, 7), _i64(3)],
        static=False,
    ),
    Case(
        "SparseReduceSumSparse",
        [*_A, np.array([0, 1], np.int32)],
        {"keep_dims": True},
        [_i64([0, 0]), _f32(6), _i64(1, 1)],
        static=False,
    ),
    Case(
        "SparseReduceMaxSparse",
        [*_A, np.array([1], np.int32)],
        {"keep_dims": True},
        [_i64([0, 0], [2, 0]), _f32(1, 4), _i64(3, 1)],
        static=False,
    ),
    Case("SparseDenseCwiseMul", [*_A, _FULL], {}, _V * _FULL[tuple(_AT.T)], grad=(1, 3)),
    Case("SparseDenseCwiseMul", [*_A, _ROW], {}, _V * _ROW[_AT[:, 1]], grad=(1, 3)),
    Case("SparseDenseCwiseDiv", [*_A, _ROW], {}, _V / _ROW[_AT[:, 1]], grad=(1, 3)),
    Case(
        "SparseDenseCwiseDiv",
        [_AT, np.array([7, -7, 9, 4], np.int32), _SHAPE, np.int32(2)],
        {},
        _i64(3, -3, 4, 2),
    ),
    Case("SparseDenseCwiseAdd", [*_A, _ROW[:3, None]], {}, _V + _ROW[_AT[:, 0]], grad=False),
    Case("SparseSoftmax", _CUBE, {}, _softmax, grad=(1,)),
    Case(
        "SparseSparseMaximum",
        [*_A, *_B],
        {},
        [_UNION, _MAX[tuple(_UNION.T)]],
        static=False,
        grad=False,
    ),
    Case(
        "SparseSparseMinimum",
        [*_A, *_B],
        {},
        [_UNION, _MIN[tuple(_UNION.T)]],
        static=False,
        grad=False,
    ),
    Case(
        "SparseFillEmptyRows",
        [*_A, _f32(-1)[0]],
        {},
        [
            _i64([0, 1], [0, 3], [1, 0], [2, 0], [2, 2]),
            _f32(1, -2, -1, 3, 4),
            [False, True, False],
            _i64(0, 1, 3, 4),
        ],
        static=False,
    ),
    Case(
        "SparseFillEmptyRows",
        [_AT, _WORDS, _SHAPE, np.array("x")],
        {},
        [
            _i64([0, 1], [0, 3], [1, 0], [2, 0], [2, 2]),
            np.array(["a", "b", "x", "c", "d"]),
            [False, True, False],
            _i64(0, 1, 3, 4),
        ],
        static=False,
    ),
    Case("SparseFillEmptyRowsGrad", [_i64(2, 0), _f32(1, 2, 3, 4)], {}, [_f32(3, 1), _f32(6)[0]]),
]
