"""Rows for functions of one tensor: value, types, gradient, the odd values."""

import ml_dtypes
import numpy as np
import scipy.special as sp

from tests.ops.case import Case

_X = np.array([[-1.75, -0.5, -0.125], [0.25, 0.8, 2.5]], np.float32)
_POSITIVE = np.array([0.125, 0.5, 1.0, 2.75], np.float32)
_UNIT = np.array([-0.9, -0.25, 0.125, 0.75], np.float32)
_Z = np.array([0.5 + 0.25j, -1.0 + 2.0j, 0.125 - 0.75j], np.complex64)
_ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 3.5], np.float32)
_INTS = np.array([-7, -2, 0, 3, 100], np.int32)


def _half(x):
    return x.astype(np.float16)


def _bfloat(x):
    return x.astype(ml_dtypes.bfloat16)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _complex_sign(x):
    return x / np.abs(x)


# op, NumPy's function, values where it is smooth, complex form
_SMOOTH = [
    ("Abs", np.abs, _X, False),
    ("Neg", np.negative, _X, True),
    ("Square", np.square, _X, True),
    ("Sqrt", np.sqrt, _POSITIVE, True),
    ("Rsqrt", lambda x: 1 / np.sqrt(x), _POSITIVE, True),
    ("Reciprocal", lambda x: 1 / x, _X, True),
    ("Inv", lambda x: 1 / x, _X, True),
    ("Exp", np.exp, _X, True),
    ("Expm1", np.expm1, _X, True),
    ("Log", np.log, _POSITIVE, True),
    ("Log1p", np.log1p, _POSITIVE, True),
    ("Sin", np.sin, _X, True),
    ("Cos", np.cos, _X, True),
    ("Tan", np.tan, _UNIT, True),
    ("Asin", np.arcsin, _UNIT, True),
    ("Acos", np.arccos, _UNIT, True),
    ("Atan", np.arctan, _X, True),
    ("Sinh", np.sinh, _X, True),
    ("Cosh", np.cosh, _X, True),
    ("Tanh", np.tanh, _X, True),
    ("Asinh", np.arcsinh, _X, True),
    ("Acosh", np.arccosh, _POSITIVE + 1.5, True),
    ("Atanh", np.arctanh, _UNIT, True),
    ("Sigmoid", _sigmoid, _X, True),
    ("Erf", sp.erf, _X, False),
    ("Erfc", sp.erfc, _X, False),
    ("Lgamma", sp.gammaln, _POSITIVE, False),
    ("Digamma", sp.psi, _POSITIVE, False),
    ("BesselI0e", sp.i0e, _X, False),
    ("BesselI1e", sp.i1e, _X, False),
]

# (y, dy) -> dx for each op that is the gradient of another
_GRADS = [
    ("SqrtGrad", lambda y, dy: dy * 0.5 / y.conj()),
    ("RsqrtGrad", lambda y, dy: dy * -0.5 * y.conj() ** 3),
    ("ReciprocalGrad", lambda y, dy: -dy * y.conj() ** 2),
    ("InvGrad", lambda y, dy: -dy * y.conj() ** 2),
    ("TanhGrad", lambda y, dy: dy * (1 - y * y)),
    ("SigmoidGrad", lambda y, dy: dy * y * (1 - y)),
]

CASES = []
for _op, _function, _values, _complex in _SMOOTH:
    CASES.append(Case(_op, [_values.astype(np.float64)], {}, _function, rtol=1e-7))
    CASES.append(Case(_op, [_values], {}, _function, grad=False, rtol=2e-5))
    for _small, _rtol in ((_half, 4e-3), (_bfloat, 4e-2)):
        CASES.append(
            Case(
                _op,
                [_small(_values)],
                {},
                lambda x, f=_function: f(x.astype(np.float32)),
                grad=False,
                rtol=_rtol,
                atol=_rtol / 4,
            )
        )
    if _complex:
        # JAX takes the other branch of the derivative of acosh where the real part is negative.
        _smooth = _op != "Acosh"
        CASES.append(Case(_op, [_Z], {}, _function, grad=_smooth, rtol=1e-4, grad_rtol=1e-2))
for _op, _function in _GRADS:
    # These treat a complex y as a constant to be conjugated: jax.vjp of the formula has no such form.
    CASES.append(Case(_op, [_X, _X[::-1]], {}, _function))
    CASES.append(Case(_op, [_Z, _Z[::-1]], {}, _function, grad=False, rtol=1e-4))

CASES += [
    Case("Abs", [_INTS], {}, np.abs),
    Case("Abs", [_INTS.astype(np.int8)], {}, np.abs),
    Case("Neg", [_INTS], {}, np.negative),
    Case("Square", [_INTS.astype(np.int64)], {}, np.square),
    Case("Reciprocal", [np.array([1, -1, 2, 5], np.int32)], {}, np.array([1, -1, 0, 0])),
    Case("Sign", [_X], {}, np.sign),
    Case("Sign", [_ODD], {}, np.sign, grad=False),
    Case("Sign", [_INTS], {}, np.sign),
    Case("Sign", [_Z], {}, _complex_sign, grad=False),
    Case("Sign", [np.zeros(2, np.complex64)], {}, np.zeros(2), grad=False),
    Case("Floor", [_X], {}, np.floor),
    Case("Ceil", [_X], {}, np.ceil),
    # Halves go to the even neighbour.
    Case(
        "Round",
        [np.array([-2.5, -1.5, 0.5, 1.5, 2.4], np.float32)],
        {},
        [[-2, -2, 0, 2, 2]],
        grad=False,
    ),
    Case("Round", [_INTS], {}, _INTS),
    Case(
        "Round",
        [np.array([0.5 + 1.5j, -2.5 + 2.4j], np.complex64)],
        {},
        [[2j, -2 + 2j]],
        grad=False,
    ),
    Case(
        "Rint",
        [np.array([-0.5, 0.5, 2.5, 3.5, 1e9], np.float64)],
        {},
        [[0, 0, 2, 4, 1e9]],
        grad=False,
    ),
    Case("Exp", [np.array([100.0, -200.0], np.float32)], {}, [[np.inf, 0]], grad=False),
    Case(
        "Sigmoid", [np.array([-90.0, 0.0, 90.0], np.float32)], {}, [[8.2e-40, 0.5, 1]], grad=False
    ),
    Case("Log", [np.array([0.0, -1.0], np.float32)], {}, [[-np.inf, np.nan]], grad=False),
    Case("Sqrt", [np.array([-1.0, 0.0], np.float32)], {}, [[np.nan, 0]], grad=False),
    Case("Erfc", [np.array([8.0], np.float64)], {}, sp.erfc, grad=False, rtol=1e-6),
    Case("BesselI1e", [np.zeros(2)], {}, np.zeros(2), grad=False),
    Case("IsNan", [_ODD], {}, np.isnan),
    Case("IsInf", [_ODD], {}, np.isinf),
    Case("IsFinite", [_half(_ODD)], {}, np.isfinite),
    Case("IsFinite", [_bfloat(_ODD)], {}, lambda x: np.isfinite(x.astype(np.float32))),
    Case("LogicalNot", [np.array([True, False])], {}, np.logical_not),
    Case("Invert", [_INTS], {}, np.invert),
    Case("Invert", [np.array([0, 200], np.uint8)], {}, np.invert),
    Case("PopulationCount", [np.array([-1, 0, 5], np.int16)], {}, [np.array([16, 0, 2])]),
    Case("PopulationCount", [np.array([2**63, 255], np.uint64)], {}, [np.array([1, 8])]),
]

# ---- types

_WILD = np.array([1e10, -1e10, np.nan, 300.7, -300.7, 70000.0], np.float32)
# What TensorFlow 1.15 makes of _WILD on x86-64.
_CAST = {
    "int32": [-(2**31), -(2**31), -(2**31), 300, -300, 70000],
    "int64": [10**10, -(10**10), -(2**63), 300, -300, 70000],
    "uint8": [0, 0, 0, 44, 212, 112],
    "int8": [0, 0, 0, 44, -44, 112],
    "int16": [0, 0, 0, 300, -300, 4464],
    "uint16": [0, 0, 0, 300, 65236, 4464],
    "uint32": [1410065408, 2884901888, 0, 300, 4294966996, 70000],
    "uint64": [10**10, 2**64 - 10**10, 2**63, 300, 2**64 - 300, 70000],
}
CASES += [
    Case("Cast", [_WILD], {"DstT": kind}, [np.array(values, kind)], grad=False)
    for kind, values in _CAST.items()
]
_NUMBERS = np.array([-1.5, 0.0, 0.3, 2.0], np.float32)
CASES += [
    Case("Cast", [_NUMBERS], {"DstT": kind}, lambda x, k=kind: x.astype(k), rtol=1e-3)
    for kind in ("float16", "float64", "complex64", "bool")
]
CASES += [
    Case("Cast", [_NUMBERS], {"DstT": "bfloat16"}, [_bfloat(_NUMBERS).astype(np.float32)]),
    Case("Cast", [_Z], {"DstT": "float32"}, lambda x: x.real, grad=False),
    Case("Cast", [_Z], {"DstT": "int32"}, [np.array([0, -1, 0])]),
    Case("Cast", [np.array([np.inf, 2.5], np.float16)], {"DstT": "int32"}, [[-(2**31), 2]], grad=False),
    Case("Cast", [np.array([True, False])], {"DstT": "float32"}, [[1, 0]]),
    Case("Cast", [np.array([300, -1], np.int32)], {"DstT": "uint8"}, [[44, 255]]),
    Case("Cast", [np.array([2**40 + 1], np.int64)], {"DstT": "int32"}, [[1]]),
    Case("Cast", [np.float32(1.0) + np.arange(3, dtype=np.float32) * np.float32(2.0**-8)],
         {"DstT": "bfloat16", "Truncate": True}, [[1.0, 1.0, 1.0078125]], grad=False),
    Case("Bitcast", [np.array([1.0, -2.5], np.float32)], {"type": "int32"}, lambda x: x.view(np.int32)),
    Case("Bitcast", [np.array([[1, 2]], np.int64)], {"type": "uint8"}, lambda x: x[..., None].view(np.uint8)),
    Case("Bitcast", [np.arange(8, dtype=np.uint8).reshape(2, 4)], {"type": "int32"},
         lambda x: x.view(np.int32)[..., 0]),
    Case("Bitcast", [_Z], {"type": "double"}, lambda x: x.view(np.float64)),
    Case("Bitcast", [_Z], {"type": "float"}, lambda x: x[..., None].view(np.float32)),
    Case("Bitcast", [np.arange(4, dtype=np.float32).reshape(2, 2)], {"type": "complex64"},
         lambda x: x.view(np.complex64)[..., 0]),
    Case("Bucketize", [np.array([-5, 0, 3, 10, 99], np.int32)], {"boundaries": [0.0, 3.0, 10.0]},
         [np.array([0, 1, 2, 3, 3])]),
    Case("Bucketize", [np.array([2.99, np.inf])], {"boundaries": [0.0, 3.0]}, [np.array([1, 2])]),
    Case("Complex", [_X, _X[0]], {"Tout": "complex64"}, lambda x, y: x + 1j * y),
    Case("Complex", [_X.astype(np.float64), np.float64(2)], {"Tout": "complex128"}, lambda x, y: x + 1j * y),
    Case("Real", [_Z], {"Tout": "float32"}, np.real),
    Case("Imag", [_Z], {"Tout": "float32"}, np.imag),
    Case("Conj", [_Z], {}, np.conj),
    Case("Angle", [_Z], {"Tout": "float32"}, np.angle),
    Case("ComplexAbs", [_Z], {"Tout": "float32"}, np.abs),
    Case("ComplexAbs", [_Z.astype(np.complex128)], {"Tout": "double"}, np.abs),
]  # fmt: skip
