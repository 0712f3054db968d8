"""Python's operators on tensors: `a + b`, `-a`, `a < b`, with the node names that TensorFlow gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api import math_ops
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.op_def import lookup
from headrace.graph.tensor import Tensor, override_operator

_WIDE_INTEGERS = frozenset({dtypes.int32, dtypes.int64})


def _is_simple(value: Any, kind: dtypes.DType) -> bool:
    """Whether a value is a tensor, or a Python number that a tensor of type `kind` holds."""
    number = value.__class__
    if number is Tensor or (number is int and kind in _WIDE_INTEGERS):
        return True
    return number in (int, float) and (kind.is_floating or kind.is_complex)


def _override_binary(
    name: str, function: Callable[..., Any], op_type: str | None = None, needs: Any = None
) -> None:
    """Attaches `__name__` and `__rname__`: `function(x, y, name=...)` of tensors.

    The other operand is converted to the type of the tensor. op_type: where it is a tensor or a Python number, the
    operator is one node of this type, provided that needs(type of the tensor).
    """
    definition = lookup(op_type) if op_type is not None else None
    reflected = f"__r{name}__"

    def operator(x: Tensor, y: Any) -> Any:
        if (
            definition is not None
            and _is_simple(y, x._dtype)
            and (needs is None or needs(x._dtype))
        ):
            return raw.build(definition, {"x": x, "y": y}, name)._outputs[0]
        with name_scope(None, name, [x, y]) as scope:
            try:
                other = convert_to_tensor(y, name="y", preferred_dtype=x._dtype.base_dtype)
            except TypeError:
                if hasattr(type(y), reflected):
                    return NotImplemented
                raise
            return function(x, other, name=scope)

    def reflected_operator(y: Tensor, x: Any) -> Any:
        if (
            definition is not None
            and _is_simple(x, y._dtype)
            and (needs is None or needs(y._dtype))
        ):
            with name_scope(None, name) as scope:
                x = convert_to_tensor(x, y._dtype.base_dtype, name="x")
                return raw.build(definition, {"x": x, "y": y}, scope)._outputs[0]
        with name_scope(None, name, [x, y]) as scope:
            x = convert_to_tensor(x, y._dtype.base_dtype, name="x")
            return function(x, y, name=scope)

    operator.__name__ = operator.__qualname__ = f"__{name}__"
    reflected_operator.__name__ = reflected_operator.__qualname__ = reflected
    operator.__doc__ = reflected_operator.__doc__ = function.__doc__
    override_operator(f"__{name}__", operator)
    override_operator(reflected, reflected_operator)


def _add(x: Tensor, y: Tensor, name: str | None = None) -> Tensor:
    """x + y; strings are joined."""
    return (
        raw.Add(x, y, name=name)
        if x._dtype.base_dtype is dtypes.string
        else raw.AddV2(x, y, name=name)
    )


def _is_fractional(kind: Any) -> bool:
    return kind.is_floating or kind.is_complex


def _not_string(kind: Any) -> bool:
    return kind.base_dtype is not dtypes.string


_override_binary("add", _add, "AddV2", _not_string)
_override_binary("sub", raw.Sub, "Sub")
_override_binary("mul", raw.Mul, "Mul")
_override_binary("div", math_ops.div)
_override_binary("truediv", math_ops.truediv, "RealDiv", _is_fractional)
_override_binary("floordiv", math_ops.floordiv, "FloorDiv")
_override_binary("mod", raw.FloorMod, "FloorMod")
_override_binary("pow", math_ops.pow, "Pow")
_override_binary("and", raw.LogicalAnd, "LogicalAnd")
_override_binary("or", raw.LogicalOr, "LogicalOr")
_override_binary("xor", math_ops.logical_xor)


def _matmul(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The matrix product of x and y."""
    from headrace.api.matmul_ops import matmul

    return matmul(x, y, name=name)


_override_binary("matmul", _matmul)


def _override_comparison(name: str, op_type: str) -> None:
    definition = lookup(op_type)

    def operator(x: Tensor, y: Any) -> Tensor:
        return raw.build(definition, {"x": x, "y": y}, None)._outputs[0]

    operator.__name__ = operator.__qualname__ = f"__{name}__"
    override_operator(f"__{name}__", operator)


_override_comparison("lt", "Less")
_override_comparison("le", "LessEqual")
_override_comparison("gt", "Greater")
_override_comparison("ge", "GreaterEqual")

override_operator("__neg__", lambda x: raw.Neg(x))
override_operator("__abs__", lambda x: math_ops.abs(x))
override_operator("__invert__", lambda x: raw.LogicalNot(x))
