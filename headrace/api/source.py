"""Constants, placeholders, and what passes a tensor on: `tf.constant`, `tf.placeholder`, `tf.identity`, `tf.no_op`."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export, export_op
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, raw
from headrace.graph.tensor import Tensor


@export("constant")
def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """A constant tensor.

    value: a number, a string, nested lists, or an array. dtype: that of the value where None. shape: the value
    is repeated to
    fill it (its last element, where there are several), or has to have it where verify_shape is set.
    Raises TypeError: the value does not fit the dtype, or the shape with verify_shape. ValueError: too many values.
    """
    if dtype is not None:
        dtype = dtypes.as_dtype(dtype)
    return convert.constant_from_value(value, dtype, name, shape, verify_shape)


@export("convert_to_tensor")
def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Tensor:
    """A tensor of `value`: itself, or a constant, or what its registered conversion makes of it.

    dtype: required type. dtype_hint (preferred_dtype): type to try first. Raises TypeError, ValueError: no conversion.
    """
    hint = dtype_hint if dtype_hint is not None else preferred_dtype
    return convert.convert_to_tensor(value, dtype, name, hint)


@export("placeholder")
def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value is given to each run by `feed_dict`; a run that needs it and gets none fails.

    shape: what is known of it, None for nothing.
    """
    return raw.Placeholder(dtype=dtype, shape=TensorShape(shape), name=name)


@export("placeholder_with_default")
def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor with the value of `input` unless a run feeds another one."""
    return raw.PlaceholderWithDefault(input, shape=TensorShape(shape), name=name)


@export("identity")
def identity(input: Any, name: str | None = None) -> Tensor:
    """A tensor with the same shape and contents as `input`; of a variable, its value at this point of the run."""
    return raw.Identity(input, name=name)


export_op(
    "IdentityN",
    "input",
    "identity_n",
    doc="Tensors with the same shapes and contents as those of the list `input`.",
)
export_op("NoOp", "", "no_op", doc="An operation that does nothing; useful to order others.")
export_op(
    "StopGradient",
    "input",
    "stop_gradient",
    doc="`input` itself, which counts as a constant for gradients.",
)
