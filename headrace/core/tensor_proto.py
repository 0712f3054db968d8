"""Which array a Python value means, and how arrays are encoded as `TensorProto`."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from tensorboard.compat.proto import tensor_pb2

from headrace.core import dtypes, nest
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import Dimension, TensorShape

# A protocol buffer cannot be larger.
_MAX_CONTENT_BYTES = 1 << 31
# More than an array of a tensor can be on any machine: a damaged proto must not make us try.
_MAX_ARRAY_BYTES = 1 << 44

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_FLOAT32_MAX = float(np.finfo(np.float32).max)

_np_float32 = np.dtype(np.float32)
_np_int32 = np.dtype(np.int32)
_np_int64 = np.dtype(np.int64)
_np_bool = np.dtype(np.bool_)

# Types whose arrays are taken as they are: native byte order, no strings.
_NATIVE = frozenset(d.np_dtype for d in dtypes.TF_VALUE_DTYPES if d is not dtypes.string)

# Types that TensorFlow writes as raw bytes when there is more than one element.
_CONTENT_DTYPES = frozenset(
    (
        dtypes.float32, dtypes.float64, dtypes.int32, dtypes.uint8, dtypes.int16, dtypes.int8,
        dtypes.int64, dtypes.qint8, dtypes.quint8, dtypes.qint16, dtypes.quint16, dtypes.qint32,
        dtypes.uint32, dtypes.uint64,
    )
)  # fmt: skip

# Type -> the field of its values, and the NumPy type that is written and read there.
_FIELDS: dict[DType, tuple[str, Any]] = {
    dtypes.float32: ("float_val", np.float32),
    dtypes.float64: ("double_val", np.float64),
    dtypes.float16: ("half_val", np.uint16),
    dtypes.bfloat16: ("half_val", np.uint16),
    dtypes.int32: ("int_val", np.int32),
    dtypes.int16: ("int_val", np.int16),
    dtypes.int8: ("int_val", np.int8),
    dtypes.uint8: ("int_val", np.uint8),
    dtypes.uint16: ("int_val", np.uint16),
    dtypes.qint8: ("int_val", np.int8),
    dtypes.quint8: ("int_val", np.uint8),
    dtypes.qint16: ("int_val", np.int16),
    dtypes.quint16: ("int_val", np.uint16),
    dtypes.qint32: ("int_val", np.int32),
    dtypes.int64: ("int64_val", np.int64),
    dtypes.uint32: ("uint32_val", np.uint32),
    dtypes.uint64: ("uint64_val", np.uint64),
    dtypes.bool: ("bool_val", np.bool_),
    dtypes.complex64: ("scomplex_val", np.float32),
    dtypes.complex128: ("dcomplex_val", np.float64),
}


def as_bytes(text: Any) -> bytes:
    """Returns `text`, str or bytes, as bytes, in UTF-8; raises TypeError for anything else."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8")
    raise TypeError(f"Expected binary or unicode string, got {text!r}")


# --- Python values to arrays ---------------------------------------------------------------------


def convert_to_numpy(
    value: Any,
    dtype: DType | None = None,
    shape: Any = None,
    verify_shape: bool = False,
    allow_broadcast: bool = False,
) -> np.ndarray:
    """Returns the array that `value` means as a constant.

    value: a Python or NumPy scalar, nested lists of such, or an array. Without `dtype`, Python's
    floats are float32, its ints int32 (int64 or uint64 if one is too large), str and bytes are
    strings (an array of bytes objects), and NumPy's values keep their type.
    shape: an iterable of ints; a shorter value is filled up with its last element. The result may
    be a read-only view then.  verify_shape: the value must have that shape.  allow_broadcast: it
    must, unless it is one element.
    The result may be `value` itself.
    Raises ValueError: None, ragged lists, too many elements.  TypeError: elements that `dtype` does
    not accept, or that no type does, or a wrong shape.
    """
    if shape is None:
        cls = value.__class__
        if cls is np.ndarray:
            if value.dtype in _NATIVE and (dtype is None or dtype.np_dtype == value.dtype):
                return value
        elif dtype is None:
            if cls is float:
                if -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
                    return np.array(value, _np_float32)
            elif cls is int:
                if _INT32_MIN <= value <= _INT32_MAX:
                    return np.array(value, _np_int32)
            elif cls is bool:
                return np.array(value, _np_bool)
        elif cls is float:
            if dtype is dtypes.float32 and -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
                return np.array(value, _np_float32)
            if dtype is dtypes.float64:
                return np.array(value)
        elif cls is int and (
            dtype is dtypes.int32 or dtype is dtypes.float32 or dtype is dtypes.int64
        ):
            if _INT32_MIN <= value <= _INT32_MAX:
                return np.array(value, dtype.np_dtype)
        return _to_array(value, dtype, None)
    dims = tuple([int(d) for d in shape])
    array = _to_array(value, dtype, dims)
    _check_size(array, dims, verify_shape, allow_broadcast)
    return fill_shape(array, dims)


def _to_array(value: Any, dtype: DType | None, dims: tuple[int, ...] | None) -> np.ndarray:
    """Returns the array of `value`; `dims` matters only where they say that it is empty."""
    if dtype is not None:
        dtype = dtypes.as_dtype(dtype).base_dtype
    if value is None:
        raise ValueError("None values not supported. (Did a function forget to return a tensor?)")
    if isinstance(value, np.ndarray | np.generic):
        array = _from_array(np.asarray(value), dtype)
    elif _is_array_like(value):
        array = _from_array(np.asarray(value), dtype)
    elif dims is not None and 0 in dims:
        array = np.empty(dims, np.float32 if dtype is None else dtype.np_dtype)
    elif dtype is None:
        array = _infer(value)
    else:
        array = _from_python(value, dtype)
    if dtype is not None and not dtype.is_numpy_compatible:
        raise TypeError(f"Incompatible types: {dtype} vs. {array.dtype}. Value is {value}")
    return array


def _is_graph_tensor(value: Any) -> bool:
    # Only a tensor has consumers; one with a value already (eager) can be an array.
    cls = type(value)
    return hasattr(cls, "consumers") and not hasattr(cls, "numpy")


def _is_array_like(value: Any) -> bool:
    if isinstance(value, list | tuple | str | bytes | numbers.Number) or _is_graph_tensor(value):
        return False
    if callable(getattr(value, "__array__", None)):
        return True
    if isinstance(getattr(value, "__array_interface__", None), dict):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _from_array(array: np.ndarray, dtype: DType | None) -> np.ndarray:
    if dtype is None or not dtype.is_numpy_compatible:
        dtype = dtypes.as_dtype(array.dtype)
    if dtype is dtypes.string:
        return _bytes_array(array.ravel().tolist(), array.shape)
    if array.dtype == dtype.np_dtype:
        return array
    # Out-of-range values wrap or become infinite, without a word, as in TensorFlow.
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype.np_dtype)


def _bytes_array(flat: list, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(flat), object)
    array[:] = [as_bytes(s) for s in flat]
    return array.reshape(shape)


def _leaves(value: Any) -> Iterable[Any]:
    """Yields what the nested lists and tuples of `value` hold."""
    if isinstance(value, list | tuple):
        for inner in value:
            if inner.__class__ is list or isinstance(inner, list | tuple):
                yield from _leaves(inner)
            else:
                yield inner
    else:
        yield value


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _dense_dims(value: Any) -> tuple[int, ...]:
    """Returns the shape that nested lists have if their first elements are typical."""
    dims = []
    while isinstance(value, list | tuple):
        dims.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(dims)


def _ragged(value: Any) -> Exception:
    """Returns the error for lists of different lengths or depths."""
    wanted = list(_dense_dims(value))
    # The leading dimensions that all the lists agree in.
    got: list[int] = []
    level = [value]
    while all(isinstance(v, list | tuple) for v in level) and len({len(v) for v in level}) == 1:
        got.append(len(level[0]))
        level = [inner for v in level for inner in v]
    if got == wanted:  # A list where its neighbours are numbers.
        return _unconvertible(value)
    return ValueError(
        f"Argument must be a dense tensor: {value} - got shape {got}, but wanted {wanted}."
    )


def _infer(value: Any) -> np.ndarray:
    """Returns the array of a Python value by TensorFlow's default types."""
    # Never let NumPy see strings: it pads every one to the longest, and drops trailing zeros.
    if isinstance(_first_leaf(value), str | bytes):
        try:
            return _string_array(value)
        except TypeError:
            raise _unconvertible(value) from None
    try:
        array = np.array(value)
    except Exception as e:
        if any(_is_graph_tensor(v) for v in _leaves(value)):
            raise TypeError("List of Tensors when single Tensor expected") from None
        if isinstance(e, ValueError):
            raise _ragged(value) from None
        raise _unconvertible(value) from e
    kind = array.dtype.kind
    if array.dtype == np.float64:
        # NumPy's scalars inside lists are taken as Python's.
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if array.dtype == _np_int64:
        if array.size and (array.min() < _INT32_MIN or array.max() > _INT32_MAX):
            return array
        return array.astype(np.int32)
    if kind in "OSU":
        if any(_is_graph_tensor(v) for v in _leaves(value)):
            raise TypeError("List of Tensors when single Tensor expected")
        raise _unconvertible(value)
    dtypes.as_dtype(array.dtype)
    return array


def _unconvertible(value: Any) -> TypeError:
    return TypeError(
        f"Failed to convert object of type {type(value)} to Tensor. Contents: {value}. "
        "Consider casting elements to a supported type."
    )


def _string_array(value: Any) -> np.ndarray:
    """Returns the array of nested lists of str and bytes; raises TypeError for other leaves."""
    dims = _dense_dims(value)
    flat = list(_leaves(value))
    if isinstance(value, list | tuple):
        _check_dense(value, value, dims)
    return _bytes_array(flat, dims)


def _check_dense(value: Any, whole: Any, dims: tuple[int, ...]) -> None:
    """Raises ValueError unless the nested lists in `value` have the shape `dims`."""
    if len(value) != dims[0]:
        raise _ragged(whole)
    for inner in value:
        if isinstance(inner, list | tuple) != (len(dims) > 1):
            raise _ragged(whole)
        if len(dims) > 1:
            _check_dense(inner, whole, dims[1:])


_INTEGRAL = (numbers.Integral, np.integer, Dimension)
_REAL = (numbers.Real, np.integer, np.floating)
_COMPLEX = (numbers.Complex, np.number)


def _accepted(dtype: DType) -> tuple[Any, str]:
    """Returns the types of elements that `dtype` accepts, and the NumPy kinds that imply them."""
    if dtype.is_integer:
        return _INTEGRAL, "iub"
    if dtype.is_floating:
        return _REAL, "iubf"
    if dtype.is_complex:
        return _COMPLEX, "iubfc"
    return (bool, np.bool_), "b"


def _mismatch(dtype: DType, value: Any) -> TypeError:
    return TypeError(
        f"Expected {dtype.name}, got {value!r} of type '{type(value).__name__}' instead."
    )


def _check_elements(value: Any, dtype: DType, accepted: Any) -> None:
    for leaf in nest.flatten(value):
        if not isinstance(leaf, accepted) and not isinstance(leaf, np.ndarray):
            raise _mismatch(dtype, leaf)


def _check_quantized(value: Any, dtype: DType) -> None:
    """Raises TypeError unless `value` is a tuple, or nested lists of tuples, of ints."""
    if isinstance(value, tuple):
        _check_elements(value, dtype, _INTEGRAL)
    elif isinstance(value, list):
        for inner in value:
            _check_quantized(inner, dtype)
    else:
        raise _mismatch(dtype, value)


def _from_python(value: Any, dtype: DType) -> np.ndarray:
    """Returns the array of a Python value as `dtype`, which may refuse it."""
    if dtype.is_quantized:
        _check_quantized(value, dtype)
        return np.array(value, dtype.np_dtype)
    if dtype is dtypes.string:
        _check_elements(value, dtype, (str, bytes))
        return _string_array(value)
    if not dtype.is_numpy_compatible:
        return _infer(value)
    accepted, kinds = _accepted(dtype)
    try:
        array = np.array(value)
    except Exception:
        # Ragged, or a leaf that is no number. A wrong leaf is the more telling error.
        _check_elements(value, dtype, accepted)
        raise
    if array.size and array.dtype.kind not in kinds and array.dtype != dtypes.bfloat16.np_dtype:
        _check_elements(value, dtype, accepted)
    with np.errstate(over="ignore", invalid="ignore"):
        same_kind = dtype.is_integer and array.dtype.kind in "iub"
        if same_kind or (array.dtype == np.float64 and dtype.size >= 4):
            return array.astype(dtype.np_dtype, copy=False)
        try:
            # Again from the Python values: an int may not pass through float64 unharmed.
            return np.array(value, dtype.np_dtype)
        except OverflowError:
            if array.dtype.kind in "iu":
                return array.astype(dtype.np_dtype)  # Wraps around, as in TensorFlow.
            raise


def _check_size(
    array: np.ndarray, dims: tuple[int, ...], verify_shape: bool, allow_broadcast: bool
) -> None:
    """Raises unless `array` can be given the shape `dims`."""
    size = math.prod(dims)
    if allow_broadcast:
        wrong = array.shape not in ((), (1,)) and array.size != size
    else:
        wrong = verify_shape and array.shape != dims
    if wrong:
        raise TypeError(f"Expected Tensor's shape: {dims}, got {array.shape}.")
    if array.size > size and not allow_broadcast:
        raise ValueError(
            f"Too many elements provided. Needed at most {size}, but received {array.size}"
        )


def fill_shape(array: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    """Returns `array` in the shape `dims`, filled up with its last element if it is too short.

    No element at all gives zeros (empty strings). One element gives a read-only view, which takes
    no memory.
    """
    if array.shape == dims:
        return array
    size = math.prod(dims)
    if array.size == size:
        return array.reshape(dims)
    if array.size == 0:
        array = np.array(b"" if array.dtype == object else 0).astype(array.dtype)
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), dims)
    filled = np.empty(size, array.dtype)
    filled[: array.size] = array.ravel()
    filled[array.size :] = filled[array.size - 1]
    return filled.reshape(dims)


# --- Arrays to protos and back -------------------------------------------------------------------


def make_tensor_proto(
    values: Any,
    dtype: Any = None,
    shape: Any = None,
    verify_shape: bool = False,
    allow_broadcast: bool = False,
) -> tensor_pb2.TensorProto:
    """Returns the `TensorProto` of `values`.

    The arguments are those of `convert_to_numpy`; a `TensorProto` is returned as it is.
    Raises ValueError also: both `verify_shape` and `allow_broadcast`, or more than 2 GB.
    """
    if allow_broadcast and verify_shape:
        raise ValueError("allow_broadcast and verify_shape are not both allowed.")
    if isinstance(values, tensor_pb2.TensorProto):
        return values
    if dtype is not None:
        dtype = dtypes.as_dtype(dtype)
    dims = None if shape is None else tuple([int(d) for d in shape])
    array = _to_array(values, dtype, dims)
    if dims is None:
        dims = array.shape
    else:
        _check_size(array, dims, verify_shape, allow_broadcast)
    return array_to_proto(array, dims)


def array_to_proto(
    array: np.ndarray, dims: tuple[int, ...] | None = None
) -> tensor_pb2.TensorProto:
    """Returns the `TensorProto` of `array`, which has at most the elements that `dims` asks for.

    array: of a type that tensors have, strings as bytes objects.
    Raises ValueError: more than 2 GB.
    """
    dtype = dtypes.as_dtype(array.dtype)
    if dims is None:
        dims = array.shape
    proto = tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum,  # pyright: ignore[reportArgumentType]
        tensor_shape=TensorShape.of(dims).as_proto(),
    )
    size = array.size
    if size > 1 and not any(array.strides):
        # One element seen many times: reading the proto repeats it.
        array, size = array[(0,) * array.ndim].reshape(1), 1
    if dtype is dtypes.string:
        proto.string_val.extend([as_bytes(s) for s in array.ravel().tolist()])
        return proto
    if size * array.itemsize >= _MAX_CONTENT_BYTES:
        raise ValueError(
            "Cannot create a tensor proto whose content is larger than 2GB: "
            f"{size * array.itemsize} bytes of shape {dims}."
        )
    if dtype in _CONTENT_DTYPES and size > 1 and size == math.prod(dims):
        proto.tensor_content = array.tobytes()
        return proto
    field, stored = _FIELDS[dtype]
    getattr(proto, field).extend(np.ascontiguousarray(array).reshape(-1).view(stored).tolist())
    return proto


def make_ndarray(tensor: Any) -> np.ndarray:
    """Returns the array in `tensor`, a `TensorProto`, as a new one that may be written to.

    Strings are bytes objects; quantised values are NumPy structures of one field.
    Raises TypeError: resources and variants.  ValueError: damaged.
    """
    array = proto_to_array(tensor)
    return array if array.flags.writeable else array.copy()


def proto_to_array(tensor: Any) -> np.ndarray:
    """Returns the array in `tensor`, a `TensorProto`, without copying where it can.

    Fewer values than the shape asks for are filled up with the last; a single one gives a read-only
    view that takes no memory.
    Raises TypeError: resources and variants.  ValueError: damaged.
    """
    dtype = dtypes.as_dtype(tensor.dtype).base_dtype
    dims = tuple([d.size for d in tensor.tensor_shape.dim])
    if not dtype.is_numpy_compatible:
        raise TypeError(f"Unsupported tensor type: {dtype.name}")
    if tensor.tensor_shape.unknown_rank or any(d < 0 for d in dims):
        raise ValueError(f"TensorProto of {dtype.name} has no complete shape.")
    size = math.prod(dims)
    if size * dtype.size > _MAX_ARRAY_BYTES:
        raise ValueError(f"TensorProto of {dtype.name} has too large a shape: {dims}.")
    values = _proto_values(tensor, dtype, size)
    if values.size > size:
        raise ValueError(
            f"TensorProto of {dtype.name} has {values.size} values, too many for shape {dims}."
        )
    return fill_shape(values, dims)


def _proto_values(tensor: Any, dtype: DType, size: int) -> np.ndarray:
    """Returns the values that `tensor` holds, in one dimension."""
    content = tensor.tensor_content
    if content:
        if dtype is dtypes.string:
            return _bytes_array(_decode_strings(content, size), (size,))
        if len(content) != size * dtype.size:
            raise ValueError(
                f"TensorProto of {dtype.name} has {len(content)} bytes of content, "
                f"needs {size * dtype.size}."
            )
        return np.frombuffer(content, dtype.np_dtype)
    if dtype is dtypes.string:
        return _bytes_array(list(tensor.string_val), (len(tensor.string_val),))
    field, stored = _FIELDS[dtype]
    values = getattr(tensor, field)
    if field in ("int_val", "half_val"):
        # These fields are wider than the type; what does not fit is cut off.
        return np.fromiter(values, np.int64, len(values)).astype(stored).view(dtype.np_dtype)
    if dtype.is_complex and len(values) % 2:
        raise ValueError(f"TensorProto of {dtype.name} has an odd number of parts.")
    return np.fromiter(values, stored, len(values)).view(dtype.np_dtype)


def _decode_strings(content: bytes, count: int) -> list[bytes]:
    """Returns the strings in `content`: first every length as a varint, then all the bytes."""
    lengths, position = [], 0
    if count > len(content):
        raise ValueError(f"TensorProto of string is cut short: {count} strings.")
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise ValueError("TensorProto of string has damaged lengths.")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("TensorProto of string has lengths that do not add up to its content.")
    ends = list(itertools.accumulate(lengths, initial=position))
    return [content[a:b] for a, b in itertools.pairwise(ends)]
