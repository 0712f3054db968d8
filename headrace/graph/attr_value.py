"""Attr values in their three forms: the system's own (plain Python), AttrValue protos, and what `get_attr` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tensorboard.compat.proto import attr_value_pb2

from headrace.core import dtypes, tensor_proto
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph.op_def import AttrSpec


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """The value of a `func` attr: the name of a function of the library, and the function's own attrs."""

    name: str
    attrs: dict[str, Any] = field(default_factory=dict)


class TensorValue:
    """The value of a `tensor` attr: an array and its type (the type tells qint8 from int8, say)."""

    __slots__ = ("array", "dtype")

    def __init__(self, array: np.ndarray, dtype: DType) -> None:
        self.array = array
        self.dtype = dtype

    def to_proto(self) -> Any:
        """The value as a TensorProto."""
        return tensor_proto.make_tensor_proto(self.array, self.dtype, shape=self.array.shape)


_LIST_FIELDS = ("s", "i", "f", "b", "type", "shape", "tensor", "func")


def _scalar_from_proto(kind: str, value: Any) -> Any:
    if kind == "s":
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if kind == "type":
        return dtypes.as_dtype(value)
    if kind == "shape":
        return as_shape(value)
    if kind == "tensor":
        return TensorValue(tensor_proto.proto_to_array(value), dtypes.as_dtype(value.dtype))
    if kind == "func":
        return FunctionRef(value.name, {k: from_proto(v) for k, v in value.attr.items()})
    return value


def from_proto(value: Any) -> Any:
    """An AttrValue proto in the system's own form; what is no proto is returned as it is."""
    if not isinstance(value, attr_value_pb2.AttrValue):
        return value
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "list":
        for name in _LIST_FIELDS:
            items = getattr(value.list, name)
            if len(items):
                return [_scalar_from_proto(name, item) for item in items]
        return []
    if kind == "placeholder":
        return value.placeholder
    return _scalar_from_proto(kind, getattr(value, kind))


def _set_scalar(kind: str, value: Any, message: Any, repeated: bool) -> None:
    """Writes `value` of an attr kind to field of `message`: an AttrValue, or its list."""
    name = {"int": "i", "float": "f", "bool": "b", "string": "s"}.get(kind, kind)
    if kind == "string":
        value = value if isinstance(value, bytes) else str(value).encode()
    elif kind == "type":
        value = value.as_datatype_enum
    elif kind == "shape":
        value = as_shape(value).as_proto()
    elif kind == "tensor":
        value = value.to_proto()
    elif kind == "func":
        value = attr_value_pb2.NameAttrList(
            name=value.name, attr={k: to_proto(guess_kind(v), v) for k, v in value.attrs.items()}
        )
    if repeated:
        getattr(message, name).append(value)
    elif kind in ("shape", "tensor", "func"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def to_proto(kind: str, value: Any) -> Any:
    """The AttrValue proto of `value`; `kind` is the attr's kind in the signature."""
    message = attr_value_pb2.AttrValue()
    if value is None and kind != "shape":
        return message
    if kind.startswith("list("):
        message.list.SetInParent()
        for item in value:
            _set_scalar(kind[5:-1], item, message.list, repeated=True)
    else:
        _set_scalar(kind, value, message, repeated=False)
    return message


def guess_kind(value: Any) -> str:
    """The kind of an attr that no signature declares (such as `_class`)."""
    if isinstance(value, (list, tuple)) and not isinstance(value, TensorShape):
        return f"list({guess_kind(value[0]) if value else 'string'})"
    for kind, types in (
        ("bool", (bool, np.bool_)),
        ("int", (int, np.integer)),
        ("float", (float, np.floating)),
        ("string", (str, bytes)),
        ("type", DType),
        ("shape", TensorShape),
        ("tensor", TensorValue),
        ("func", FunctionRef),
    ):
        if isinstance(value, types):  # type: ignore[arg-type]
            return kind
    raise TypeError(f"not an attr value: {value!r}")


def public(value: Any) -> Any:
    """What `Operation.get_attr` returns for an attr: bytes, protos, DTypes, numbers, lists of them."""
    if isinstance(value, TensorShape):
        return value.as_proto()
    if isinstance(value, (list, tuple)):
        return [public(item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, TensorValue):
        return value.to_proto()
    if isinstance(value, FunctionRef):
        return to_proto("func", value).func
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _check_scalar(kind: str, value: Any, name: str) -> Any:
    if kind == "int":
        if not _is_int(value):
            try:
                if isinstance(value, (str, bytes, bool)) or int(value) != value:
                    raise TypeError
            except (TypeError, ValueError):
                raise TypeError(f"Expected int for argument '{name}' not {value!r}.") from None
        return int(value)
    if kind == "float":
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise TypeError(f"Expected float for argument '{name}' not {value!r}.")
        return float(value)
    if kind == "bool":
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"Expected bool for argument '{name}' not {value!r}.")
        return bool(value)
    if kind == "string":
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value
        if not isinstance(value, str):
            raise TypeError(f"Expected string for argument '{name}' not {value!r}.")
        return value
    if kind == "type":
        try:
            return dtypes.as_dtype(value).base_dtype
        except TypeError as error:
            raise TypeError(f"Expected DataType for argument '{name}' not {value!r}.") from error
    if kind == "shape":
        try:
            return as_shape(value)
        except TypeError as error:
            raise TypeError(f"Error converting {name} to a TensorShape: {error}") from None
        except ValueError as error:
            raise ValueError(f"Error converting {name} to a TensorShape: {error}") from None
    if kind == "tensor":
        if isinstance(value, TensorValue):
            return value
        from tensorboard.compat.proto import tensor_pb2

        if isinstance(value, tensor_pb2.TensorProto):
            return _scalar_from_proto("tensor", value)
        raise TypeError(
            f"Don't know how to convert {value!r} to a TensorProto for argument '{name}'"
        )
    if kind == "func":
        if isinstance(value, FunctionRef):
            return value
        if isinstance(value, attr_value_pb2.NameAttrList):
            return _scalar_from_proto("func", value)
        if isinstance(value, str):
            return FunctionRef(value)
        if hasattr(value, "add_to_graph"):
            return value
        raise TypeError(f"Don't know how to convert {value!r} to a func for argument {name}")
    raise TypeError(f"Unrecognized Attr type {kind}")


def check(spec: AttrSpec, value: Any, op_type: str) -> Any:
    """`value` in the system's own form, checked against the attr's kind, allowed values and minimum.

    Raises TypeError: of another kind. ValueError: not allowed.
    """
    kind, name = spec.kind, spec.name
    if kind.startswith("list("):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise TypeError(f"Expected list for attr {name}, got {type(value).__name__}: {value!r}")
        value = [_check_scalar(kind[5:-1], item, name) for item in value]
        if spec.minimum is not None and len(value) < spec.minimum:
            raise ValueError(
                f"Attr '{name}' of '{op_type}' Op passed list of length {len(value)} less than minimum {spec.minimum}."
            )
        if spec.allowed is not None:
            for item in value:
                check_allowed(spec, item, op_type)
        return value
    value = _check_scalar(kind, value, name)
    if spec.allowed is not None:
        check_allowed(spec, value, op_type)
    if spec.minimum is not None and kind == "int" and value < spec.minimum:
        raise ValueError(
            f"Attr '{name}' of '{op_type}' Op passed {value} less than minimum {spec.minimum}."
        )
    return value


def check_allowed(spec: AttrSpec, value: Any, op_type: str, argument: str | None = None) -> None:
    """Raises TypeError (a type) or ValueError (a string): `value` is not among the attr's allowed values."""
    if spec.allowed is None or value in spec.allowed:
        return
    if isinstance(value, DType):
        raise TypeError(
            f"Value passed to parameter '{argument or spec.name}' has DataType {value.name} not in list of allowed "
            f"values: {', '.join(d.name for d in spec.allowed)} (of {op_type} op)"
        )
    choices = '", "'.join(map(str, spec.allowed))
    raise ValueError(
        f"Attr '{spec.name}' of '{op_type}' Op passed string '{value}' not in: \"{choices}\"."
    )
