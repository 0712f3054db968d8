"""Element types of tensors, numbered and named as in TensorFlow's `types.proto`."""

from __future__ import annotations

import builtins
from typing import Any

import ml_dtypes
import numpy as np

# What a reference type's number has more than the type's (`DT_FLOAT` = 1, `DT_FLOAT_REF` = 101).
_REF_OFFSET = 100

# How TensorFlow marks quantised values inside NumPy: a structure of one field, named for the type.
_np_qint8 = np.dtype([("qint8", np.int8)])
_np_quint8 = np.dtype([("quint8", np.uint8)])
_np_qint16 = np.dtype([("qint16", np.int16)])
_np_quint16 = np.dtype([("quint16", np.uint16)])
_np_qint32 = np.dtype([("qint32", np.int32)])

# The structure TensorFlow uses for feeding a resource handle directly.
np_resource = np.dtype([("resource", np.ubyte)])

# Number, name and NumPy type of every element type.
_TABLE: tuple[tuple[int, str, Any], ...] = (
    (1, "float32", np.float32),
    (2, "float64", np.float64),
    (3, "int32", np.int32),
    (4, "uint8", np.uint8),
    (5, "int16", np.int16),
    (6, "int8", np.int8),
    (7, "string", np.object_),
    (8, "complex64", np.complex64),
    (9, "int64", np.int64),
    (10, "bool", np.bool_),
    (11, "qint8", _np_qint8),
    (12, "quint8", _np_quint8),
    (13, "qint32", _np_qint32),
    (14, "bfloat16", ml_dtypes.bfloat16),
    (15, "qint16", _np_qint16),
    (16, "quint16", _np_quint16),
    (17, "uint16", np.uint16),
    (18, "complex128", np.complex128),
    (19, "float16", np.float16),
    (20, "resource", np.object_),
    (21, "variant", np.object_),
    (22, "uint32", np.uint32),
    (23, "uint64", np.uint64),
)

_ALIASES = {"half": "float16", "float": "float32", "double": "float64"}

# Intensity limits of images, by NumPy type (`DType.limits`).
dtype_range: dict[Any, tuple[Any, Any]] = {
    np.bool_: (False, True),
    np.float32: (-1, 1),
    np.float64: (-1, 1),
} | {
    t: (int(np.iinfo(t).min), int(np.iinfo(t).max))
    for t in (
        np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64,
    )
}  # fmt: skip


class DType:
    """The type of a tensor's elements: one object per type, so that `is` compares them.

    Attributes, all fixed:
      name: the canonical name, such as "float32" or "float32_ref".
      as_datatype_enum: the number in `types.proto`.
      np_dtype: the `np.dtype` of arrays that hold such values.
      as_numpy_dtype: the NumPy scalar type (a structured `np.dtype` for quantised types).
      base_dtype: this type without the reference; real_dtype: the type of the real part.
      is_ref_dtype, is_bool, is_integer, is_floating, is_complex, is_quantized, is_unsigned,
      is_numpy_compatible: its kind; quantised types are neither integer nor unsigned.
      size: bytes per element.
    """

    __slots__ = (
        "_type_enum",
        "as_datatype_enum",
        "as_numpy_dtype",
        "base_dtype",
        "is_bool",
        "is_complex",
        "is_floating",
        "is_integer",
        "is_numpy_compatible",
        "is_quantized",
        "is_ref_dtype",
        "is_unsigned",
        "name",
        "np_dtype",
        "real_dtype",
        "size",
    )

    _type_enum: int
    as_datatype_enum: int
    as_numpy_dtype: Any
    base_dtype: DType
    is_bool: builtins.bool
    is_complex: builtins.bool
    is_floating: builtins.bool
    is_integer: builtins.bool
    is_numpy_compatible: builtins.bool
    is_quantized: builtins.bool
    is_ref_dtype: builtins.bool
    is_unsigned: builtins.bool
    name: str
    np_dtype: np.dtype
    real_dtype: DType
    size: int

    def __new__(cls, type_enum: int) -> DType:
        """Returns the type of that number in `types.proto`; raises TypeError if there is none."""
        dtype = _BY_ENUM.get(int(type_enum))
        if dtype is None:
            raise TypeError(f"type_enum is not a valid types_pb2.DataType: {type_enum}")
        return dtype

    @property
    def _is_ref_dtype(self) -> builtins.bool:
        return self.is_ref_dtype

    @property
    def _as_ref(self) -> DType:
        return self if self.is_ref_dtype else _BY_ENUM[self._type_enum + _REF_OFFSET]

    @property
    def min(self) -> Any:
        """The smallest finite value; raises TypeError for a type without one."""
        return self._limit("min", "minimum")

    @property
    def max(self) -> Any:
        """The largest finite value; raises TypeError for a type without one."""
        return self._limit("max", "maximum")

    def _limit(self, attribute: str, word: str) -> Any:
        if self.is_integer:
            return getattr(np.iinfo(self.np_dtype), attribute)
        if self.is_floating:
            return getattr(ml_dtypes.finfo(self.np_dtype), attribute)
        raise TypeError(f"Cannot find {word} value of {self}.")

    @property
    def limits(self) -> tuple[Any, Any]:
        """The intensity limits (0, max) of such an image; raises KeyError if there are none."""
        # TF differs: it cannot look bool up and raises KeyError there too.
        return 0, dtype_range[self.as_numpy_dtype][1]

    def is_compatible_with(self, other: Any) -> builtins.bool:
        """Returns whether a tensor of type `other` may be used where this type is asked for."""
        other = as_dtype(other)
        return self is other or self is other.base_dtype

    def __eq__(self, other: object) -> builtins.bool:
        if self is other:
            return True
        if other.__class__ is DType or other is None:
            return False
        try:
            return as_dtype(other) is self
        except TypeError:
            return False

    def __ne__(self, other: object) -> builtins.bool:
        if self is other:
            return False
        if other.__class__ is DType:
            return True
        return not self == other

    def __hash__(self) -> int:
        return self._type_enum

    def __int__(self) -> int:
        return self._type_enum

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __repr__(self) -> str:
        return "tf." + self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: dict) -> DType:
        return self


def _build() -> dict[int, DType]:
    """Makes the object of every type and every reference type."""
    by_enum: dict[int, DType] = {}
    by_name: dict[str, DType] = {}
    for enum, name, np_type in _TABLE:
        np_dtype = np.dtype(np_type)
        kind = np_dtype.kind
        opaque = name in ("resource", "variant")
        quantized = np_dtype.names is not None
        for is_ref in (False, True):
            dtype = object.__new__(DType)
            dtype._type_enum = dtype.as_datatype_enum = enum + _REF_OFFSET * is_ref
            dtype.name = name + "_ref" * is_ref
            dtype.np_dtype = np_dtype
            dtype.as_numpy_dtype = np_type
            dtype.is_ref_dtype = is_ref
            dtype.is_bool = name == "bool"
            dtype.is_integer = kind in "iu"
            dtype.is_unsigned = kind == "u"
            dtype.is_floating = kind == "f" or name == "bfloat16"
            dtype.is_complex = kind == "c"
            dtype.is_quantized = quantized
            dtype.is_numpy_compatible = not opaque
            dtype.size = 1 if opaque else np_dtype.itemsize
            dtype.base_dtype = by_enum.get(enum, dtype)
            dtype.real_dtype = dtype
            by_enum[dtype._type_enum] = by_name[dtype.name] = dtype
    for complex_name, real_name in (("complex64", "float32"), ("complex128", "float64")):
        by_name[complex_name].real_dtype = by_name[real_name]
        by_name[complex_name + "_ref"].real_dtype = by_name[real_name]
    return by_enum


_BY_ENUM = _build()

float32 = _BY_ENUM[1]
float64 = double = _BY_ENUM[2]
int32 = _BY_ENUM[3]
uint8 = _BY_ENUM[4]
int16 = _BY_ENUM[5]
int8 = _BY_ENUM[6]
string = _BY_ENUM[7]
complex64 = _BY_ENUM[8]
int64 = _BY_ENUM[9]
bool = _BY_ENUM[10]
qint8 = _BY_ENUM[11]
quint8 = _BY_ENUM[12]
qint32 = _BY_ENUM[13]
bfloat16 = _BY_ENUM[14]
qint16 = _BY_ENUM[15]
quint16 = _BY_ENUM[16]
uint16 = _BY_ENUM[17]
complex128 = _BY_ENUM[18]
float16 = half = _BY_ENUM[19]
resource = _BY_ENUM[20]
variant = _BY_ENUM[21]
uint32 = _BY_ENUM[22]
uint64 = _BY_ENUM[23]

float32_ref = _BY_ENUM[101]
float64_ref = double_ref = _BY_ENUM[102]
int32_ref = _BY_ENUM[103]
uint8_ref = _BY_ENUM[104]
int16_ref = _BY_ENUM[105]
int8_ref = _BY_ENUM[106]
string_ref = _BY_ENUM[107]
complex64_ref = _BY_ENUM[108]
int64_ref = _BY_ENUM[109]
bool_ref = _BY_ENUM[110]
qint8_ref = _BY_ENUM[111]
quint8_ref = _BY_ENUM[112]
qint32_ref = _BY_ENUM[113]
bfloat16_ref = _BY_ENUM[114]
qint16_ref = _BY_ENUM[115]
quint16_ref = _BY_ENUM[116]
uint16_ref = _BY_ENUM[117]
complex128_ref = _BY_ENUM[118]
float16_ref = half_ref = _BY_ENUM[119]
resource_ref = _BY_ENUM[120]
variant_ref = _BY_ENUM[121]
uint32_ref = _BY_ENUM[122]
uint64_ref = _BY_ENUM[123]

QUANTIZED_DTYPES = frozenset(d for d in _BY_ENUM.values() if d.is_quantized)
TF_VALUE_DTYPES = frozenset(
    d for d in _BY_ENUM.values() if d.is_numpy_compatible and not d.is_ref_dtype
)


def _build_lookup() -> dict[Any, DType]:
    """Makes the table of everything that names a type, for `as_dtype`."""
    lookup: dict[Any, DType] = dict(_BY_ENUM)
    lookup.update({d.name: d for d in _BY_ENUM.values()})
    for alias, name in _ALIASES.items():
        lookup[alias] = lookup[name]
        lookup[alias + "_ref"] = lookup[name + "_ref"]
    lookup.update({float: float32, builtins.bool: bool, object: string})
    for dtype in TF_VALUE_DTYPES:
        lookup[dtype.as_numpy_dtype] = dtype
        lookup[dtype.np_dtype] = dtype
    lookup.update({np.bytes_: string, np.str_: string})
    # Which of these C types is a class of its own beside the sized one depends on the platform.
    for c_type in (np.intc, np.uintc, np.int_, np.uint, np.longlong, np.ulonglong):
        lookup[c_type] = lookup[np.dtype(c_type)] = lookup[np.dtype(c_type)]
    return lookup


_LOOKUP = _build_lookup()


def as_dtype(type_value: Any) -> DType:
    """Returns the `DType` that `type_value` names.

    type_value: a DType, a number of `types.proto`, a name ("float32", "half", "float32_ref"), a
    NumPy type or dtype, or one of Python's float, bool and object (int is refused, as it could be
    either width).
    Raises TypeError for anything else.
    """
    if type_value.__class__ is DType:
        return type_value
    try:
        return _LOOKUP[type_value]
    except KeyError:
        pass
    if isinstance(type_value, np.dtype):
        # Strings of a fixed length and swapped byte orders.
        dtype = _LOOKUP.get(type_value.type)
        if dtype is not None:
            return dtype
    raise TypeError(f"Cannot convert value {type_value!r} to a TensorFlow DType.")
