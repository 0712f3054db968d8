"""Rows for reductions, running sums, sequences, products of matrices and segments."""

import ml_dtypes
import numpy as np

from tests.ops.case import Case

_X = np.array(
    [[[1.5, -2.25, 0.5], [-0.75, 3.0, 2.25]], [[0.25, 4.0, -1.0], [2.0, 0.125, 1.25]]], np.float32
)
_I = np.array([[3, -7, 2], [5, 5, -1]], np.int32)
_Z = np.array([[0.5 + 0.25j, -1.0 + 2.0j], [0.125 - 0.75j, 1.5]], np.complex64)
_NAN = np.array([[np.nan, 1.0, 2.0], [np.nan, np.nan, np.nan]], np.float32)
_WITH_ZEROS = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 5.0], [1.5, 2.0, -1.0]], np.float32)


def _axes(*values):
    return np.array(values, np.int32)


def _mean_of_integers(x, axes, keep=False):
    total = np.sum(x, tuple(np.ravel(axes)), dtype=x.dtype)
    return np.trunc(total / x.shape[axes[0]]).astype(x.dtype)


def _norm(x, axes):
    return np.sqrt(np.sum(np.abs(x) ** 2, tuple(axes)))


CASES = []
for _op, _function in (
    ("Sum", np.sum),
    ("Mean", np.mean),
    ("Prod", np.prod),
    ("Max", np.max),
    ("Min", np.min),
    ("EuclideanNorm", lambda x, axes, **kw: np.sqrt(np.sum(x * x, axes, **kw))),
):
    for _where in ((0, 2), (-1,), (0, 1, 2), ()):
        CASES.append(
            Case(
                _op,
                [_X, _axes(*_where)],
                {},
                lambda x, a, f=_function: f(x, tuple(a)) if a.size else x,
            )
        )
    CASES.append(
        Case(
            _op,
            [_X, np.array(1, np.int64)],
            {"keep_dims": True},
            lambda x, a, f=_function: f(x, 1, keepdims=True),
            grad=False,
        )
    )
    CASES.append(
        Case(
            _op,
            [_X.astype(np.float16), _axes(1)],
            {},
            lambda x, a, f=_function: f(x.astype(np.float32), 1),
            grad=False,
            rtol=3e-3,
        )
    )
    CASES.append(
        Case(
            _op,
            [_X.astype(ml_dtypes.bfloat16), _axes(0)],
            {},
            lambda x, a, f=_function: f(x.astype(np.float32), 0),
            grad=False,
            rtol=2e-2,
        )
    )
CASES += [
    Case("Sum", [_I, _axes(0)], {}, lambda x, a: np.sum(x, 0)),
    Case("Sum", [np.array([100, 100], np.int8), _axes(0)], {}, [-56]),
    Case("Sum", [_Z, _axes(1)], {}, lambda x, a: np.sum(x, 1)),
    Case("Sum", [np.zeros((0, 3), np.float32), _axes(0)], {}, np.zeros(3)),
    # Half precision is added up in a wider type: in its own the sum would stop at 2048.
    Case("Sum", [np.ones(4000, np.float16), _axes(0)], {}, [4000], grad=False),
    Case("Mean", [_I, _axes(1)], {}, _mean_of_integers),
    Case("Mean", [np.array([200, 201], np.uint8), _axes(0)], {}, [200]),
    Case("Mean", [_Z, _axes(0)], {}, lambda x, a: np.mean(x, 0)),
    Case("Mean", [np.zeros((0, 2), np.float32), _axes(0)], {}, [[np.nan, np.nan]], grad=False),
    Case("Prod", [_WITH_ZEROS, _axes(1)], {}, lambda x, a: np.prod(x, 1)),
    Case("Prod", [_I, _axes(0, 1)], {}, lambda x, a: np.prod(x)),
    Case("Prod", [_Z, _axes(0)], {}, lambda x, a: np.prod(x, 0)),
    # NaN loses against numbers; alone it stays; of several the result is the value before any.
    Case("Max", [_NAN, _axes(1)], {}, [[2, -np.inf]], grad=False),
    Case("Min", [_NAN, _axes(1)], {}, [[1, np.inf]], grad=False),
    Case("Max", [np.array([np.nan], np.float32), _axes(0)], {}, [np.nan], grad=False),
    Case("Max", [_I, _axes(1)], {}, lambda x, a: np.max(x, 1)),
    Case("Min", [_I.astype(np.uint8), _axes(0)], {}, lambda x, a: np.min(x, 0)),
    Case("Max", [np.zeros((2, 0), np.int32), _axes(1)], {}, [[-(2**31)] * 2]),
    Case("EuclideanNorm", [_I, _axes(1)], {}, lambda x, a: _norm(x, a).astype(np.int32)),
    Case("EuclideanNorm", [_Z, _axes(1)], {}, _norm),
    Case("All", [_I > 0, _axes(1)], {}, lambda x, a: np.all(x, 1)),
    Case("Any", [_I > 3, _axes(0, 1)], {"keep_dims": True}, lambda x, a: np.any(x, keepdims=True)),
    Case("ArgMax", [_X, np.int32(1)], {}, lambda x, a: np.argmax(x, 1)),
    Case("ArgMin", [_I, np.int32(-1)], {"output_type": "int32"}, lambda x, a: np.argmin(x, 1)),
    Case("ArgMax", [_NAN, np.int32(1)], {}, [np.array([2, 0])]),
    Case("ArgMin", [np.zeros(3, np.float32), np.int32(0)], {}, [0]),
    Case("Cumsum", [_X, np.int32(1)], {}, lambda x, a: np.cumsum(x, 1)),
    Case("Cumsum", [_X, np.int32(-1)], {"exclusive": True, "reverse": True},
         [np.array([[[-1.75, 0.5, 0], [5.25, 2.25, 0]], [[3, -1, 0], [1.375, 1.25, 0]]])]),
    Case("Cumsum", [_I, np.int32(0)], {"reverse": True}, lambda x, a: np.cumsum(x[::-1], 0)[::-1]),
    Case("Cumsum", [_I.astype(np.uint8), np.int64(1)], {"exclusive": True},
         lambda x, a: np.concatenate([np.zeros((2, 1), np.uint8), np.cumsum(x, 1, np.uint8)[:, :-1]], 1)),
    Case("Cumsum", [np.zeros((2, 0), np.float32), np.int32(1)], {"exclusive": True}, np.zeros((2, 0))),
    Case("Cumprod", [_X, np.int32(0)], {}, lambda x, a: np.cumprod(x, 0)),
    Case("Cumprod", [_X, np.int32(2)], {"exclusive": True},
         lambda x, a: np.concatenate([np.ones((2, 2, 1)), np.cumprod(x, 2)[..., :-1]], 2)),
    Case("Cumprod", [_I, np.int32(1)], {"reverse": True}, lambda x, a: np.cumprod(x[:, ::-1], 1)[:, ::-1]),
    Case("CumulativeLogsumexp", [_X, np.int32(1)], {}, lambda x, a: np.logaddexp.accumulate(x, axis=1)),
    Case("CumulativeLogsumexp", [np.array([1.0, 2.0, -1.0])] + [np.int32(0)], {"exclusive": True},
         [np.array([-np.inf, 1.0, np.logaddexp(1.0, 2.0)])], grad=False),
    Case("Range", [np.int32(2), np.int32(11), np.int32(3)], {}, [np.array([2, 5, 8])]),
    Case("Range", [np.int32(5), np.int32(9005), np.int32(2)], {}, lambda a, b, c: np.arange(a, b, c)),
    Case("Range", [np.int64(5), np.int64(0), np.int64(-2)], {}, [np.array([5, 3, 1])]),
    Case("Range", [np.float32(0), np.float32(1), np.float32(0.1)], {}, lambda *a: np.arange(10) * 0.1, grad=False),
    Case("LinSpace", [np.float32(1), np.float32(2), np.int32(5)], {}, lambda a, b, n: np.linspace(a, b, n)),
    Case("LinSpace", [np.float64(3), np.float64(9), np.int32(1)], {}, [[3.0]]),
    # ---- Products
    Case("BatchMatMul", [_X, np.swapaxes(_X, 1, 2)], {}, np.matmul),
    Case("BatchMatMul", [_X, _X], {"adj_y": True}, lambda x, y: x @ np.swapaxes(y, 1, 2)),
    Case("BatchMatMul", [_X, _X[:, ::-1]], {"adj_x": True}, lambda x, y: np.swapaxes(x, 1, 2) @ y),
    Case("BatchMatMulV2", [_X, _X[0].T], {}, np.matmul),
    Case("BatchMatMulV2", [np.swapaxes(_X, 1, 2), _X[0]], {"adj_x": True, "adj_y": True}, lambda x, y: np.swapaxes(x, 1, 2) @ y.T),
    Case("BatchMatMulV2", [_X[:, None], _X[None]], {"adj_y": True},
         lambda x, y: x @ np.swapaxes(y, -1, -2)),
    Case("BatchMatMulV2", [_X, _X[:1, :, ::-1]], {"adj_x": True}, lambda x, y: np.swapaxes(x, 1, 2) @ y),
    Case("BatchMatMulV2", [np.swapaxes(_X, 1, 2)[:1], _X], {"adj_x": True, "adj_y": True},
         lambda x, y: np.swapaxes(x, 1, 2) @ np.swapaxes(y, 1, 2)),
    Case("BatchMatMulV2", [_Z[None], _Z[None]], {"adj_x": True}, lambda x, y: np.swapaxes(x, 1, 2).conj() @ y),
    Case("BatchMatMulV2", [_I[None], _I.T[None]], {}, np.matmul),
    Case("BatchMatMulV2", [_X.astype(np.float16), np.swapaxes(_X, 1, 2).astype(np.float16)], {}, np.matmul,
         grad=False, rtol=4e-3),
    Case("SparseMatMul", [_X[0], _X[1]], {"transpose_b": True, "a_is_sparse": True}, lambda a, b: a @ b.T),
    Case("SparseMatMul", [_X[0].astype(ml_dtypes.bfloat16), _X[1].T], {}, lambda a, b: a.astype(np.float32) @ b,
         grad=False),
    Case("Cross", [_X[0], _X[1]], {}, np.cross),
    Case("Cross", [_I, _I[::-1]], {}, np.cross),
    Case("Einsum", [[_X[0], _X[1].T]], {"equation": "ij,jk->ik"}, lambda xs: xs[0] @ xs[1]),
    Case("Einsum", [[_X, _X]], {"equation": "bij,bkj->kb"}, lambda xs: np.einsum("bij,bkj->kb", *xs)),
    Case("Einsum", [[_X, _X[0]]], {"equation": "...ij,...kj->i..."},
         lambda xs: np.einsum("...ij,...kj->i...", *xs)),
    Case("Einsum", [[_X[:1], _X]], {"equation": "bij,bij->b"}, lambda xs: np.sum(xs[0] * xs[1], (1, 2))),
    Case("Einsum", [[_X[0, :, :2]]], {"equation": "ii->i"}, lambda xs: np.diag(xs[0])),
    Case("Einsum", [[_X[0, 0]]], {"equation": "i->ii"}, lambda xs: np.diag(xs[0])),
    Case("Einsum", [[_X, _X[0]]], {"equation": "abc,de->ad"}, lambda xs: np.einsum("abc,de->ad", *xs)),
    Case("Einsum", [[_Z, _Z]], {"equation": "ij,jk->ik"}, lambda xs: xs[0] @ xs[1]),
    Case("Einsum", [[_X, _X[0], _X[1]]], {"equation": "abc,dc,ec->ade"},
         lambda xs: np.einsum("abc,dc,ec->ade", *xs)),
]  # fmt: skip

# ---- segments

_ROWS = np.array([[1.5, -2.25], [0.5, -0.75], [3.0, 2.25], [0.25, 4.0]], np.float32)
_IDS = np.array([0, 0, 1, 3], np.int32)
_ANY_IDS = np.array([2, 0, 2, -1], np.int32)
_COUNTS = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int32)


def _segments(reduce, empty):
    def function(data, ids, count=None):
        count = ids[-1] + 1 if count is None else int(count)
        rows = [
            reduce(data[ids == i], 0) if (ids == i).any() else np.full(data.shape[1:], empty)
            for i in range(count)
        ]
        return np.stack(rows).astype(data.dtype)

    return function


for _name, _reduce, _empty in (
    ("Sum", np.sum, 0),
    ("Mean", np.mean, 0),
    ("Prod", np.prod, 1),
    ("Min", np.min, 0),
    ("Max", np.max, 0),
):
    CASES.append(
        Case(f"Segment{_name}", [_ROWS, _IDS], {}, _segments(_reduce, _empty), static=False)
    )
    CASES.append(
        Case(
            f"Segment{_name}",
            [_COUNTS, _IDS.astype(np.int64)],
            {},
            _segments(_reduce, _empty),
            static=False,
        )
    )
_LIMITS = np.finfo(np.float32)
for _name, _reduce, _empty in (
    ("Sum", np.sum, 0),
    ("Prod", np.prod, 1),
    ("Min", np.min, _LIMITS.max),
    ("Max", np.max, _LIMITS.min),
):
    _expected = _segments(_reduce, _empty)
    CASES.append(
        Case(
            f"UnsortedSegment{_name}",
            [_ROWS, _ANY_IDS, np.int32(4)],
            {},
            _expected,
            grad=_name == "Sum",
        )
    )
    # JAX has no derivative of a scattered product.
    _full = np.array([1, 0, 1, 0])
    CASES.append(
        Case(
            f"UnsortedSegment{_name}",
            [_ROWS, _full, np.int64(2)],
            {},
            _expected,
            grad=_name != "Prod",
        )
    )
    CASES.append(
        Case(
            f"UnsortedSegment{_name}",
            [_COUNTS, np.array([[1, 1], [0, 1], [1, 1], [0, 0]], np.int32), np.int32(2)],
            {},
            lambda x, ids, n, f=_reduce: np.array([f(x[ids == 0]), f(x[ids == 1])]),
        )
    )
_PICKS = np.array([2, 0, 2, 1], np.int32)
for _name, _reduce in (
    ("Sum", np.sum),
    ("Mean", np.mean),
    ("SqrtN", lambda x, axis: np.sum(x, axis) / np.sqrt(len(x))),
):
    _expected = _segments(_reduce, 0)
    CASES += [
        Case(
            f"SparseSegment{_name}",
            [_ROWS, _PICKS, _IDS],
            {},
            lambda x, at, ids, f=_expected: f(x[at], ids),
            static=False,
        ),
        Case(
            f"SparseSegment{_name}WithNumSegments",
            [_ROWS, _PICKS.astype(np.int64), _IDS, np.int32(5)],
            {},
            lambda x, at, ids, n, f=_expected: f(x[at], ids, n),
        ),
    ]
_WEIGHTS = {"Mean": [0.5, 0.5, 1.0, 1.0], "SqrtN": [0.5**0.5, 0.5**0.5, 1.0, 1.0]}
for _name, _weights in _WEIGHTS.items():
    _expected = np.zeros((3, 2), np.float32)
    np.add.at(_expected, _PICKS, _ROWS[_IDS] * np.array(_weights, np.float32)[:, None])
    CASES.append(
        Case(f"SparseSegment{_name}Grad", [_ROWS, _PICKS, _IDS, np.int32(3)], {}, [_expected])
    )
CASES += [
    Case("Bincount", [np.array([1, 3, 1, 7], np.int32), np.int32(4), np.zeros(0, np.int32)], {},
         [np.array([0, 2, 0, 1])]),
    Case("Bincount", [np.array([1, 3, 1, 7], np.int32), np.int32(9), np.array([0.5, 1, 2, 4], np.float32)], {},
         [np.array([0, 2.5, 0, 1, 0, 0, 0, 4, 0])]),
    Case("HistogramFixedWidth", [np.array([-1.0, 0.0, 1.5, 2.0, 5.0, 15.0], np.float32),
         np.array([0.0, 5.0], np.float32), np.int32(5)], {}, [np.array([2, 1, 1, 0, 2])]),
]  # fmt: skip
