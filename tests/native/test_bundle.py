"""Bundles of small arrays: the program's view of them and NumPy's are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headrace import native
from headrace.core import dtypes
from headrace.native import bundle

ARRAYS = [
    np.float32(1.5).reshape(()),
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.array([True, False, True]),
    np.array([1 + 2j, -3j], np.complex64),
    np.array([[0.5]], dtypes.bfloat16.np_dtype),
    np.arange(5, dtype=np.uint8),
    np.float64(-2).reshape(()),
]


def _same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), b)


def test_numpy_takes_apart_what_it_put_together():
    layout = bundle.Layout.of(ARRAYS)
    joined = layout.join(ARRAYS)
    assert joined.shape == (layout.size,) and not joined.flags.writeable
    parts = layout.split(joined)
    _same(parts, ARRAYS)
    assert all(np.shares_memory(part, joined) for part in parts)


@pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")
def test_a_program_sees_the_same_arrays():
    layout = bundle.Layout.of(ARRAYS)
    with jax.enable_x64(True):
        joined = layout.join(ARRAYS)
        _same(jax.jit(layout.unbundle)(joined), ARRAYS)
        made = jax.jit(lambda *arrays: layout.bundle(arrays))(*ARRAYS)
        np.testing.assert_array_equal(np.asarray(made), joined)
        double = jax.jit(lambda b: layout.bundle([x + x for x in layout.unbundle(b)]))
        _same(layout.split(double(joined)), [a + a for a in ARRAYS])


@pytest.mark.parametrize("wrong", [np.zeros(2, np.float32), np.zeros((), np.float64)])
def test_what_does_not_fit_is_refused(wrong):
    layout = bundle.Layout.of([np.zeros(3, np.int32), np.float32(1).reshape(())])
    for put in (layout.join, layout.bundle):
        with pytest.raises(bundle.Misfit) as caught:
            put([np.zeros(3, np.int32), wrong])
        assert caught.value.index == 1


def test_what_is_small():
    kinds = {
        "float32": np.float32,
        "bool": np.bool_,
        "bfloat16": dtypes.bfloat16.np_dtype,
        "complex128": np.complex128,
    }
    for name, kind in kinds.items():
        assert bundle.is_small(np.zeros([3], kind)) == native.available(), name
    assert bundle.is_small(jnp.zeros([4])) == native.available()
    most = bundle.MOST_BYTES // 4
    assert bundle.is_small(np.zeros(most, np.float32)) == native.available()
    for value in (np.zeros(most + 1, np.float32), np.zeros(0, np.float32), np.zeros(3, object), 1.0,
                  jax.random.key(0)):  # fmt: skip
        assert not bundle.is_small(value)
    with native.without():
        assert not bundle.is_small(np.zeros(3, np.float32))
