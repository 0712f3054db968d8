"""`choose` gives the bits of `np.where`."""

import ml_dtypes
import numpy as np
import pytest

from headrace.ops import choose as module
from headrace.ops.choose import choose

COUNT = 2 * module._LEAST_ELEMENTS


def _numbers(kind, seed):
    bits = np.random.default_rng(seed).integers(0, 256, COUNT * np.dtype(kind).itemsize, np.uint8)
    return (bits % 2 if kind is np.bool_ else bits).view(kind)


@pytest.mark.parametrize(
    "kind",
    [np.bool_, np.int8, np.uint16, np.float16, ml_dtypes.bfloat16]
    + [np.int32, np.float32, np.int64, np.float64, np.complex64, np.complex128],
)
def test_all_types(kind):
    """All bits occur: NaN, infinities, minus zero."""
    x, y = _numbers(kind, 1), _numbers(kind, 2)
    condition = np.random.default_rng(3).random(COUNT) < 0.5
    for others in ([y], []):
        expected = np.where(condition, x, *(others or [np.zeros((), kind)]))
        for shape in ((COUNT,), (2, COUNT // 2)):
            found = choose(*[a.reshape(shape) for a in (condition, x, *others)])
            assert found.dtype == kind and found.shape == shape
            assert found.tobytes() == expected.tobytes()


def test_what_lies_apart_is_broadcast_or_small():
    x = np.arange(4.0 * COUNT, dtype=np.float32).reshape(4, COUNT)
    y = -x
    rows = np.array([[True], [False], [True], [False]])
    for condition, a, b in (
        (rows, x, y),
        (x % 3 == 0, x, np.float32(7)),
        ((x % 3 == 0)[:, ::2], x[:, ::2], y[:, ::2]),
        ((x % 3 == 0).T, x.T, y.T),
        (x % 3 == 0, x, y.astype(np.float64)),
        (np.True_, x[0, :5], y[0, :5]),
        (x[0, :0] > 0, x[0, :0], x[0, :0]),
    ):
        expected = np.where(condition, a, b)
        np.testing.assert_array_equal(choose(condition, a, b), expected)


def test_words_are_strings_of_objects():
    names = np.full(COUNT, b"a", object)
    condition = np.arange(COUNT) % 2 == 0
    found = choose(condition, names, np.full(COUNT, b"b", object))
    assert found[:2].tolist() == [b"a", b"b"] and found.dtype == object
