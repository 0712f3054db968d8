"""Slots: what an optimizer keeps for each variable, in variables named after it (`w/Adam`, `w/Adam_1`)."""

from __future__ import annotations

from typing import Any

from headrace.api.array_ops import shape as shape_of
from headrace.api.array_ops import zeros
from headrace.api.get_variable import get_variable, get_variable_scope
from headrace.api.init_ops import Zeros
from headrace.api.resource_variable import BaseResourceVariable
from headrace.api.variable_base import Variable
from headrace.api.variable_scope import variable_scope
from headrace.distribute.context import get_strategy
from headrace.graph import convert


def _create_slot_variable(
    primary: Any, value: Any, validate_shape: bool, shape: Any, dtype: Any
) -> Any:
    scope = get_variable_scope()
    partitioner = scope.partitioner
    scope.set_partitioner(None)
    is_variable = isinstance(primary, Variable)
    slot = get_variable(
        "",
        initializer=value,
        trainable=False,
        use_resource=isinstance(primary, BaseResourceVariable) if is_variable else None,
        shape=shape if callable(value) else None,
        dtype=dtype,
        validate_shape=validate_shape,
    )
    scope.set_partitioner(partitioner)
    info = getattr(primary, "_save_slice_info", None) if is_variable else None
    if info is not None:
        # The slot of a part of a variable is the same part of the slot of the whole.
        own = slot.name[len(primary.op.name + "/") : -2]
        slot._set_save_slice_info(
            Variable.SaveSliceInfo(
                f"{info.full_name}/{own}", info.full_shape[:], info.var_offset[:], info.var_shape[:]
            )
        )
    return slot


def create_slot(primary: Any, val: Any, name: str, colocate_with_primary: bool = True) -> Any:
    """A slot of `primary` with the initial value `val`, a tensor."""
    val = convert.convert_to_tensor(val)
    with variable_scope(None, f"{primary.op.name}/{name}"):
        validate_shape = val.get_shape().is_fully_defined()
        if not colocate_with_primary:
            return _create_slot_variable(primary, val, validate_shape, None, None)
        with get_strategy().extended.colocate_vars_with(primary):
            return _create_slot_variable(primary, val, validate_shape, None, None)


def create_slot_with_initializer(
    primary: Any,
    initializer: Any,
    shape: Any,
    dtype: Any,
    name: str,
    colocate_with_primary: bool = True,
) -> Any:
    """A slot of `primary` whose initial value an initializer makes."""
    validate_shape = shape.is_fully_defined()
    with variable_scope(None, f"{primary.op.name}/{name}"):
        if not colocate_with_primary:
            return _create_slot_variable(primary, initializer, validate_shape, shape, dtype)
        with get_strategy().extended.colocate_vars_with(primary):
            return _create_slot_variable(primary, initializer, validate_shape, shape, dtype)


def create_zeros_slot(
    primary: Any, name: str, dtype: Any = None, colocate_with_primary: bool = True
) -> Any:
    """A slot of `primary` with its shape, initially zero."""
    dtype = primary.dtype if dtype is None else dtype
    shape = primary.get_shape()
    if shape.is_fully_defined():
        return create_slot_with_initializer(
            primary, Zeros(), shape, dtype.base_dtype, name, colocate_with_primary
        )
    whole = (
        shape_of(primary.initialized_value())
        if isinstance(primary, Variable)
        else shape_of(primary)
    )
    return create_slot(primary, zeros(whole, dtype=dtype.base_dtype), name, colocate_with_primary)
