"""Rows for what tensors come from and pass through unchanged."""

import numpy as np

from tests.ops.case import Case

_X = np.array([[1.5, -2.0, 0.25]], np.float32)
_N = np.array([3, -1], np.int32)

CASES = [
    Case("Identity", [_X], {}, _X),
    Case("Identity", [np.array([b"a", b"bc"], object)], {}, [np.array([b"a", b"bc"], object)]),
    Case("Identity", [np.array([1 + 2j], np.complex64)], {}, lambda x: x),
    Case("Snapshot", [_X], {}, _X),
    Case("IdentityN", [[_X, _N]], {}, [_X, _N]),
    Case("StopGradient", [_X], {}, _X),
    Case("PreventGradient", [_X], {}, _X, grad=False),
    Case("PlaceholderWithDefault", [_X], {"shape": [None, 3]}, _X, static=False),
    Case("NoOp", []),
]
