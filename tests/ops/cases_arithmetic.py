"""Rows for functions of two tensors: broadcasting, integers, odd values."""

import ml_dtypes
import numpy as np
import scipy.special as sp

from tests.ops.case import Case

_X = np.array([[1.5, -2.25, 0.5], [-0.75, 3.0, 2.25]], np.float32)
_Y = np.array([0.5, -1.25, 2.0], np.float32)
_COLUMN = np.array([[2.0], [-0.5]], np.float32)
_P = np.abs(_X)
_I = np.array([[7, -7, 6], [-6, 5, -1]], np.int32)
_J = np.array([3, -3, 4], np.int32)
_Z = np.array([0.5 + 0.25j, -1.0 + 2.0j, 0.0], np.complex64)
_W = np.array([1.0 - 2.0j, 0.5j, 2.0], np.complex64)


def _half(x):
    return x.astype(np.float16)


def _bfloat(x):
    return x.astype(ml_dtypes.bfloat16)


def _truncated(x, y):
    return np.trunc(x / y).astype(x.dtype)


def _safe(function):
    def quiet(x, y):
        with np.errstate(all="ignore"):
            return function(x, y)

    return quiet


# op, NumPy's function, types besides float32
_PLAIN = [
    ("Add", np.add, ("int32", "uint8", "complex64")),
    ("AddV2", np.add, ("int64", "int8", "complex128")),
    ("Sub", np.subtract, ("int32", "uint16", "complex64")),
    ("Mul", np.multiply, ("int32", "int16", "complex64")),
    ("Div", np.divide, ("complex64",)),
    ("RealDiv", np.divide, ("complex64",)),
    ("Maximum", np.maximum, ("int32", "int64")),
    ("Minimum", np.minimum, ("int32", "int64")),
    ("Atan2", np.arctan2, ("float64",)),
]
CASES = []
for _op, _function, _kinds in _PLAIN:
    CASES.append(Case(_op, [_X, _Y], {}, _function))
    CASES.append(Case(_op, [_X, _COLUMN], {}, _function))
    for _small, _rtol in ((_half, 2e-3), (_bfloat, 2e-2)):
        CASES.append(
            Case(
                _op,
                [_small(_X), _small(_X[::-1])],
                {},
                lambda x, y, f=_function: f(x.astype(np.float32), y.astype(np.float32)),
                grad=False,
                rtol=_rtol,
            )
        )
    for _kind in _kinds:
        _a, _b = (_Z, _W) if "complex" in _kind else (np.abs(_I), np.abs(_J))
        CASES.append(Case(_op, [_a.astype(_kind), _b.astype(_kind)], {}, _function))

CASES += [
    Case("Add", [np.array([b"a", b"bc"], object), np.array(b"x", object)], {}, [[b"ax", b"bcx"]]),
    Case("Add", [np.zeros((0, 3), np.float32), _Y], {}, np.zeros((0, 3))),
    Case("Mul", [np.float32(3), np.ones((2, 1, 2), np.float32)], {}, np.multiply),
    # Integers.
    Case("Div", [_I, _J], {}, _truncated),
    Case("RealDiv", [_I, _J], {}, _truncated),
    Case("TruncateDiv", [_I, _J], {}, _truncated),
    Case("TruncateDiv", [np.array([200, 7], np.uint8), np.array([3, 8], np.uint8)], {}, np.floor_divide),
    Case("FloorDiv", [_I, _J], {}, np.floor_divide),
    Case("FloorDiv", [_X, _Y], {}, np.floor_divide, grad=False),
    Case("FloorDiv", [np.array([1.0, -1.0], np.float32), np.float32(0)], {}, [[np.inf, -np.inf]], grad=False),
    Case("Mod", [_I, _J], {}, np.fmod),
    Case("TruncateMod", [_I.astype(np.int64), _J.astype(np.int64)], {}, np.fmod),
    Case("TruncateMod", [_X, _Y], {}, np.fmod),
    Case("FloorMod", [_I, _J], {}, np.mod),
    Case("FloorMod", [np.zeros(0, np.int32), np.int32(0)], {}, np.zeros(0, np.int32)),
    Case("FloorMod", [_X, np.array([0.7, -1.1, 1.3], np.float32)], {}, np.mod),
    Case("Pow", [_P, _Y], {}, np.power),
    Case("Pow", [np.abs(_I), np.abs(_J)], {}, np.power),
    Case("Pow", [np.array([-2.0, 0.0]), np.array([3.0, 0.0])], {}, np.power, grad=False),
    Case("Pow", [_W, _W[::-1]], {}, np.power, rtol=1e-4, grad_rtol=1e-2),
    Case("SquaredDifference", [_X, _Y], {}, lambda x, y: (x - y) ** 2),
    Case("SquaredDifference", [_I, _J], {}, lambda x, y: (x - y) ** 2),
    Case("SquaredDifference", [_Z, _W], {}, lambda x, y: (x - y) * (x - y).conj(), grad=False),
    # Zeros win over NaN.
    Case("DivNoNan", [_X, np.array([0.5, 0, -2], np.float32)], {},
         _safe(lambda x, y: np.where(y == 0, 0, x / y)), grad=False),
    Case("DivNoNan", [_X.astype(np.float64), _Y.astype(np.float64)], {}, np.divide),
    Case("MulNoNan", [np.array([np.inf, np.nan, 2.0]), np.array([0.0, 0.0, 3.0])], {}, [[0, 0, 6]], grad=False),
    Case("MulNoNan", [_X, _Y], {}, np.multiply),
    Case("Xdivy", [np.array([0.0, 0.0, 2.0]), np.array([0.0, np.nan, 4.0])], {}, [[0, 0, 0.5]], grad=False),
    Case("Xdivy", [_X, _Y], {}, np.divide),
    Case("Xlogy", [np.array([0.0, 2.0]), np.array([0.0, 4.0])], {}, [[0, 2 * np.log(4.0)]], grad=False),
    Case("Xlogy", [_X, np.abs(_Y)], {}, lambda x, y: x * np.log(y)),
    Case("Maximum", [np.array([1.0, np.nan]), np.array([np.nan, 1.0])], {}, [[np.nan, np.nan]], grad=False),
    Case("NextAfter", [np.array([1.0, 2.0]), np.array([2.0, -5.0])], {}, np.nextafter, grad=False),
    Case("NextAfter", [_Y, np.float32(9)], {}, np.nextafter, grad=False),
    # Sums of lists.
    Case("AddN", [[_X, _X[::-1], 2 * _X]], {}, lambda xs: sum(xs)),
    Case("AddN", [[_I]], {}, lambda xs: xs[0]),
    Case("AccumulateNV2", [[_X, _X]], {"shape": [2, 3]}, lambda xs: 2 * xs[0]),
    # Bits: a shift by more than there are bits is as one by all of them but one.
    Case("BitwiseAnd", [_I, _J], {}, np.bitwise_and),
    Case("BitwiseOr", [_I.astype(np.uint8), _J.astype(np.uint8)], {}, np.bitwise_or),
    Case("BitwiseXor", [_I.astype(np.int64), _J.astype(np.int64)], {}, np.bitwise_xor),
    Case("LeftShift", [np.array([1, -3, 5], np.int8), np.array([3, 1, 9], np.int8)], {}, [[8, -6, -128]]),
    Case("RightShift", [np.array([64, -64, -1], np.int32), np.array([3, 2, 99], np.int32)], {}, [[8, -16, -1]]),
    Case("RightShift", [np.array([200], np.uint8), np.array([3], np.uint8)], {}, [[25]]),
    # Special functions.
    # The derivative by the first argument has no derivative of its own: the first rows leave it out.
    Case("Igamma", [_P[0] + 0.5, np.abs(_Y) + 0.25], {}, sp.gammainc, rtol=1e-4, grad=(1,)),
    Case("Igamma", [_P[0] + 0.5, np.abs(_Y) + 0.25], {}, sp.gammainc, rtol=1e-4, grad=(0,)),
    Case("Igammac", [_P[0] + 0.5, np.abs(_Y) + 0.25], {}, sp.gammaincc, rtol=1e-4, grad=(1,)),
    Case("IgammaGradA", [_P.astype(np.float64) + 0.5, np.abs(_Y).astype(np.float64)], {},
         lambda a, x: (sp.gammainc(a + 1e-6, x) - sp.gammainc(a - 1e-6, x)) / 2e-6, rtol=1e-4),
    Case("Zeta", [np.array([1.5, 2.0, 4.25]), np.array([0.5, 1.0, 3.0])], {}, sp.zeta, grad=False, rtol=1e-6),
    Case("Polygamma", [np.array([0.0, 1.0, 3.0]), np.array([0.5, 1.25, 3.0])], {},
         lambda a, x: sp.polygamma(a.astype(int), x), grad=(1,), rtol=1e-6),
    Case("Polygamma", [np.array([-1.0, 0.5]), np.array([1.0, 1.0])], {}, [[np.nan, np.nan]], grad=False),
    Case("Betainc", [np.float64(0.75), np.array([0.5, 2.0]), np.array([0.25, 0.8])], {}, sp.betainc,
         grad=(2,), rtol=1e-5),
    # Shapes.
    Case("BroadcastGradientArgs", [np.array([2, 1, 3], np.int32), np.array([3], np.int32)], {},
         [np.array([1], np.int32), np.array([0, 1], np.int32)], static=False),
    Case("BroadcastArgs", [np.array([2, 1, 3], np.int32), np.array([5, 3], np.int32)], {}, [np.array([2, 5, 3])]),
]  # fmt: skip

# ---- comparisons and choice

_ODD = np.array([np.nan, 1.0, 2.0], np.float32)
for _op, _function in (
    ("Less", np.less),
    ("LessEqual", np.less_equal),
    ("Greater", np.greater),
    ("GreaterEqual", np.greater_equal),
    ("Equal", np.equal),
    ("NotEqual", np.not_equal),
):
    CASES.append(Case(_op, [_ODD, _ODD[::-1]], {}, _function))
    CASES.append(Case(_op, [_I, _J], {}, _function))
_WORDS = np.array([b"a", b"b"], object)
_B = np.array([[True, False, True], [False, False, True]])
CASES += [
    Case("Less", [np.array([2**63], np.uint64), np.array([1], np.uint64)], {}, np.less),
    Case("Equal", [_WORDS, np.array(b"b", object)], {}, [np.array([False, True])]),
    Case("NotEqual", [_Z, _W], {}, np.not_equal),
    Case("Equal", [np.zeros(2), np.zeros(3)], {"incompatible_shape_error": False}, np.array(False), static=False),
    Case("NotEqual", [np.zeros(2), np.zeros(3)], {"incompatible_shape_error": False}, np.array(True), static=False),
    Case("Equal", [_B, np.array(True)], {}, np.equal),
    Case("LogicalAnd", [_B, _B[0]], {}, np.logical_and),
    Case("LogicalOr", [_B, _B[0]], {}, np.logical_or),
    Case("ApproximateEqual", [_X, _X + np.float32(1e-3)], {"tolerance": 0.01}, [np.ones((2, 3), bool)]),
    Case("ApproximateEqual", [_X, _X + np.float32(1e-3)], {}, [np.zeros((2, 3), bool)]),
    Case("Select", [_B, _X, 2 * _X], {}, np.where),
    Case("Select", [np.array(False), _X, 2 * _X], {}, np.where),
    Case("Select", [np.array([True, False]), _X, 2 * _X], {}, lambda c, t, e: np.where(c[:, None], t, e)),
    Case("Select", [np.array([True, False]), _WORDS, _WORDS[::-1]], {}, [[b"a", b"a"]]),
    Case("SelectV2", [_B[:, :1], _X, _Y], {}, np.where),
    Case("SelectV2", [_B, np.int32(3), _I], {}, np.where),
    Case("ClipByValue", [_X, np.float32(-1), np.float32(2.5)], {}, np.clip),
    Case("ClipByValue", [_X, -np.abs(_X) / 2, np.abs(_X) / 2], {}, np.clip, grad=False),
    Case("ClipByValue", [_I, np.int32(-3), np.int32(5)], {}, np.clip),
    Case("CompareAndBitpack", [np.arange(16, dtype=np.float32).reshape(1, 16), np.float32(6)], {},
         lambda x, t: np.packbits(x > t, axis=-1)),
]  # fmt: skip
