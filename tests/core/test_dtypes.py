"""What a DType is besides TensorFlow's answers: one object per type, and cheap to compare."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

from headrace.core import dtypes


@pytest.mark.parametrize("enum", [*range(1, 24), *range(101, 124)])
def test_one_object_per_type(enum):
    dtype = dtypes.DType(enum)
    for name in (enum, dtype.name, dtype):
        assert dtypes.as_dtype(name) is dtype
    for twin in (copy.copy(dtype), copy.deepcopy(dtype), pickle.loads(pickle.dumps(dtype))):
        assert twin is dtype
    assert getattr(dtypes, dtype.name) is dtype
    assert int(dtype) == hash(dtype) == enum
    assert dtype.base_dtype._as_ref is dtype._as_ref
    assert dtype._as_ref.is_ref_dtype and not dtype.base_dtype.is_ref_dtype
    assert repr(dtype) == f"tf.{dtype.name}" and str(dtype) == f"<dtype: '{dtype.name}'>"
    assert np.zeros(2, dtype.as_numpy_dtype).dtype == dtype.np_dtype
    assert dtype.is_compatible_with(dtype.base_dtype) is (not dtype.is_ref_dtype)
    assert dtype.base_dtype.is_compatible_with(dtype)


@pytest.mark.parametrize(
    "other, equal",
    [
        (np.float32, True), ("float32", True), (1, True), (np.dtype("float32"), True),
        (float, True), (dtypes.float64, False), (dtypes.float32_ref, False), (np.int32, False),
        (None, False), ("nonsense", False), ([], False), (2.1, False), (int, False),
    ],
)  # fmt: skip
def test_equality_with_what_names_a_type(other, equal):
    assert (dtypes.float32 == other) is equal
    assert (dtypes.float32 != other) is not equal


def test_groups_of_types():
    assert {d.name for d in dtypes.QUANTIZED_DTYPES if not d.is_ref_dtype} == {
        "qint8", "quint8", "qint16", "quint16", "qint32",
    }  # fmt: skip
    assert len(dtypes.QUANTIZED_DTYPES) == 10
    assert len(dtypes.TF_VALUE_DTYPES) == 21
    assert dtypes.as_dtype(ml_dtypes.bfloat16) is dtypes.bfloat16
    assert dtypes.half is dtypes.float16 and dtypes.double_ref is dtypes.float64_ref


@pytest.mark.parametrize("bad", [0, 99, 124, "x"])
def test_no_such_type(bad):
    with pytest.raises((TypeError, ValueError)):
        dtypes.DType(bad)
    with pytest.raises(TypeError, match="Cannot convert value"):
        dtypes.as_dtype(bad)
