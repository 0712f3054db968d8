"""From Python values to tensors: `convert_to_tensor` and the registry of conversion functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import dtypes, tensor_proto
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import Dimension, TensorShape
from headrace.graph import default
from headrace.graph.attr_value import TensorValue
from headrace.graph.graph import Graph
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

# (priority, order of registration, types, function)
_registry: list[tuple[int, int, Any, Callable[..., Any]]] = []
_by_type: dict[type, list[Callable[..., Any]]] = {}


def register_tensor_conversion_function(
    base_type: Any, conversion_func: Callable[..., Any], priority: int = 100
) -> None:
    """Makes objects of `base_type` (a type or a tuple of types) usable wherever a tensor is expected.

    conversion_func(value, dtype=None, name=None, as_ref=False) returns a Tensor, or NotImplemented to let the
    next one try;
    lower priorities go first. Raises TypeError: not types, or not callable.
    """
    types = base_type if isinstance(base_type, tuple) else (base_type,)
    if not types or not all(isinstance(t, type) for t in types):
        raise TypeError("base_type must be a type or a tuple of types.")
    if not callable(conversion_func):
        raise TypeError("conversion_func must be callable.")
    _registry.append((priority, len(_registry), types, conversion_func))
    _registry.sort(key=lambda entry: entry[:2])
    _by_type.clear()


def _functions_for(kind: type) -> list[Callable[..., Any]]:
    found = _by_type.get(kind)
    if found is None:
        found = _by_type[kind] = [f for _, _, types, f in _registry if issubclass(kind, types)]
    return found


def add_constant(graph: Graph, array: np.ndarray, dtype: DType, name: str) -> Tensor:
    """Adds a `Const` node under a unique name, or under that of a scope (`name` ends in "/")."""
    definition = lookup("Const")
    attrs = {"value": TensorValue(array, dtype), "dtype": dtype}
    # A name that ends in "/" is a scope entered before: the node takes its name.
    name = name[:-1] if name[-1] == "/" else graph.unique_name(name)
    return graph.add_operation(definition, [], attrs, (dtype,), name)._outputs[0]


def constant_from_value(
    value: Any, dtype: DType | None, name: str | None, shape: Any = None, verify_shape: bool = False
) -> Tensor:
    """A `Const` node of a Python or NumPy value. Raises TypeError, ValueError: not convertible."""
    array = tensor_proto.convert_to_numpy(value, dtype, shape, verify_shape=verify_shape)
    if isinstance(value, np.ndarray):
        array = array.copy()  # the caller may write into its own array later
    kind = dtype if dtype is not None else dtypes.as_dtype(array.dtype)
    return add_constant(default.get_default_graph(), array, kind, name or "Const")


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, (Dimension, TensorShape)):
        return False  # numbers, though they have conversions of their own
    return isinstance(value, Tensor) or bool(_functions_for(type(value)))


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    as_ref: bool = False,
) -> Tensor:
    """A tensor of `value`: itself, what its conversion function makes of it, or a constant.

    dtype: required type; preferred_dtype: type to try first where none is required.
    Raises TypeError: no conversion. ValueError: a Tensor of another type.
    """
    if value.__class__ is Tensor:
        if dtype is not None:
            wanted = dtype if dtype.__class__ is DType else dtypes.as_dtype(dtype)
            if value._dtype is not wanted and not wanted.is_compatible_with(value._dtype):
                raise ValueError(
                    f"Tensor conversion requested dtype {wanted.name} for Tensor with dtype "
                    f"{value._dtype.name}: {value}"
                )
        return value
    if dtype is not None and dtype.__class__ is not DType:
        dtype = dtypes.as_dtype(dtype)
    for function in _functions_for(type(value)):
        result: Any = NotImplemented
        if dtype is None and preferred_dtype is not None:
            try:
                result = function(
                    value, dtype=dtypes.as_dtype(preferred_dtype), name=name, as_ref=as_ref
                )
            except (TypeError, ValueError):
                result = NotImplemented
            if result is not NotImplemented and result._dtype.base_dtype != dtypes.as_dtype(
                preferred_dtype
            ):
                result = NotImplemented
        if result is NotImplemented:
            result = function(value, dtype=dtype, name=name, as_ref=as_ref)
        if result is NotImplemented:
            continue
        if not isinstance(result, Tensor):
            raise RuntimeError(
                f"Error converting {value!r} to a tensor: the conversion function returned {result!r}, not a Tensor."
            )
        if dtype is not None and not dtype.is_compatible_with(result._dtype):
            raise RuntimeError(
                f"Error converting {value!r} to a tensor: the conversion function returned type "
                f"{result._dtype.name}, {dtype.name} was requested."
            )
        return result
    if isinstance(value, Operation):
        raise TypeError(
            f"Can't convert Operation '{value.name}' to Tensor (target dtype={dtype!r}, name={name!r})"
        )
    if dtype is None and preferred_dtype is not None:
        try:
            return constant_from_value(value, dtypes.as_dtype(preferred_dtype), name)
        except (TypeError, ValueError):
            pass
    return constant_from_value(value, dtype.base_dtype if dtype is not None else None, name)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(item) for item in value)
    return _is_symbolic(value)


def _pack_list(value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    """Lists and tuples that hold tensors become a `Pack` of their elements."""
    if not _holds_tensors(value):
        return NotImplemented
    from headrace.graph import raw

    found = _element_type(value)
    wanted = dtype if dtype is not None else found
    if dtype is not None and found is not None and dtype.base_dtype is not found:
        value = _cast_tensors(value, dtype.base_dtype, raw)
    return _stack(value, wanted, raw, default.get_default_graph(), name or "packed")


def _cast_tensors(value: Any, dtype: DType, raw: Any) -> Any:
    """Nested lists with the tensors in them cast to `dtype`."""
    if isinstance(value, (list, tuple)):
        return [_cast_tensors(item, dtype, raw) for item in value]
    if not _is_symbolic(value):
        return value
    tensor = convert_to_tensor(value)
    return tensor if tensor._dtype.base_dtype is dtype else raw.Cast(tensor, DstT=dtype)


def _element_type(value: Any) -> DType | None:
    if isinstance(value, (list, tuple)):
        for item in value:
            found = _element_type(item)
            if found is not None:
                return found
        return None
    found = getattr(value, "dtype", None) if _is_symbolic(value) else None
    return dtypes.as_dtype(found).base_dtype if found is not None else None


def _stack(value: Any, dtype: DType | None, raw: Any, graph: Graph, name: str) -> Tensor:
    """A `Pack` of the elements; what is constant in it becomes constants named by their position."""
    with graph.name_scope(name) as scope:
        # Nested lists first, then the constants: TensorFlow's order, which shows in the names.
        elements: list[Any] = list(value)
        for i, item in enumerate(elements):
            if isinstance(item, (list, tuple)):
                if _holds_tensors(item):
                    elements[i] = _stack(item, dtype, raw, graph, str(i))
                else:
                    # TensorFlow uses the name up before it finds no tensor inside.
                    graph.unique_name(str(i))
            elif _is_symbolic(item):
                tensor = elements[i] = convert_to_tensor(item)
                if dtype is not None and tensor._dtype.base_dtype != dtype:
                    raise TypeError(
                        f"Cannot convert a list containing a tensor of dtype {tensor._dtype.base_dtype!r} to {dtype!r} "
                        f"(Tensor is: {tensor!r})"
                    )
        for i, item in enumerate(elements):
            if not isinstance(item, Tensor):
                elements[i] = constant_from_value(item, dtype, str(i))
        return raw.Pack(elements, axis=0, name=scope)


register_tensor_conversion_function((list, tuple), _pack_list, 99)


def _dimension_or_shape(
    value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    """A fully known TensorShape becomes a vector of int32 (int64 where a size does not fit)."""
    if not value.is_fully_defined():
        raise ValueError(
            f"Cannot convert a partially known TensorShape to a Tensor: {value}; tf.shape(x) is the shape as a tensor"
        )
    sizes = value.as_list()
    if dtype is None:
        dtype = dtypes.int64 if any(s > 0x7FFFFFFF for s in sizes) else dtypes.int32
    elif dtype not in (dtypes.int32, dtypes.int64):
        raise TypeError(f"Cannot convert a TensorShape to dtype: {dtype!r}")
    elif dtype is dtypes.int32 and any(s > 0x7FFFFFFF for s in sizes):
        raise ValueError(
            f"Cannot convert a TensorShape to dtype int32; a dimension is too large ({max(sizes)})"
        )
    return constant_from_value(sizes, dtype, name or "shape_as_tensor")


def _dimension(
    value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    """A known Dimension becomes an int32 scalar."""
    if value.value is None:
        raise ValueError(f"Cannot convert an unknown Dimension to a Tensor: {value}")
    if dtype is not None and dtype not in (dtypes.int32, dtypes.int64):
        raise TypeError(f"Cannot convert a TensorShape to dtype: {dtype!r}")
    return constant_from_value(value.value, dtype or dtypes.int32, name or "shape_as_tensor")


def _register_shapes() -> None:
    register_tensor_conversion_function(TensorShape, _dimension_or_shape, 100)
    register_tensor_conversion_function(Dimension, _dimension, 100)


_register_shapes()
