"""Formulas in one pass over memory, against NumPy: the same bits."""

import numpy as np
import pytest

from headrace import native
from headrace.native import formulas

pytestmark = pytest.mark.skipif(not native.available(), reason="the kernels are not built here")

SHAPE = (301, 307)  # no multiple of a block
RATE = np.float32(0.1)

COVERED = {
    "arithmetic": lambda a, b, c: [(a + b) * (c - 2.5) / (np.abs(b) + RATE), -a],
    "numbers": lambda a, b, c: [1 - a, RATE * b, np.asarray(RATE) + c, a / 3],
    "roots": lambda a, b, c: [np.sqrt(np.abs(a)) * np.sign(b) + np.square(c)],
    "larger, smaller": lambda a, b, c: [np.maximum(np.minimum(a, b), np.zeros_like(c))],
    "where": lambda a, b, c: [np.where(a < b, c, 2 * c), np.where(np.abs(a) >= RATE, a, b)],
    "unchanged": lambda a, b, c: [a, a.astype(np.float32), b],
}
NOT_COVERED = {
    "another function": lambda a, b, c: [np.exp(a)],
    "a sum": lambda a, b, c: [a - np.sum(a)],
    "a method": lambda a, b, c: [a.T],
    "a wider number": lambda a, b, c: [a * np.float64(2)],
    "another array": lambda a, b, c: [a * np.ones(SHAPE[1], np.float32)],
    "a conversion": lambda a, b, c: [a.astype(np.float64)],
    "truth": lambda a, b, c: [a < b],
    "into an array": lambda a, b, c: [np.add(a, b, out=np.empty(SHAPE, np.float32))],
}


def arrays(shape=SHAPE, dtype=np.float32):
    random = np.random.RandomState(0)
    found = [random.randn(*shape).astype(dtype) for _ in range(3)]
    for a, value in zip(found, (np.nan, np.inf, -np.inf), strict=True):
        a.flat[:: a.size // 7] = value
    return found


@pytest.mark.parametrize("name", COVERED)
def test_the_bits_of_numpy(name):
    given = arrays()
    formula = COVERED[name]
    before = [a.copy() for a in given]
    got = native.fused(lambda x: formula(*x), given)
    assert got is not None
    with np.errstate(all="ignore"):
        want = formula(*given)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == np.float32 and not any(np.shares_memory(g, a) for a in given)
        np.testing.assert_array_equal(g, w)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_left_to_numpy(name):
    formula = NOT_COVERED[name]
    assert native.fused(lambda x: formula(*x), arrays()) is None


def test_small_or_different_arrays_are_left_to_numpy():
    def add(x):
        return [x[0] + x[1]]

    assert native.fused(add, arrays((3, 4))) is None
    assert native.fused(add, arrays(dtype=np.float64)) is None
    assert native.fused(add, [*arrays()[:2], np.zeros(SHAPE[::-1], np.float32)]) is None


def test_arrays_in_another_order(monkeypatch):
    monkeypatch.setattr(formulas, "_LEAST_ELEMENTS", 1)
    a, b, _ = arrays((5, 6))
    got = native.fused(lambda x: [x[0] - x[1]], [a.T, b.T])
    assert got is not None
    np.testing.assert_array_equal(got[0], a.T - b.T)
