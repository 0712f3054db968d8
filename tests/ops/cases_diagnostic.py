"""Rows for ops that look at values."""

import numpy as np

from tests.ops.case import Case

CASES = [
    Case("CheckNumerics", [np.array([1.0, -2.5], np.float32)], {"message": "m"}, lambda x: x),
    Case(
        "StringFormat",
        [[np.array([[1, 2], [3, 4]], np.int32), np.array([0.5, 1e10], np.float32)]],
        {"template": "a {} b {}", "placeholder": "{}"},
        np.array(b"a [[1 2]\n [3 4]] b [0.5 1e+10]", dtype=object),
        grad=False,
    ),
]
