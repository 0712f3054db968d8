"""Writing variables of either flavour: `tf.assign`, `tf.scatter_update`, `tf.count_up_to` and their kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.export import export
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _is_reference(ref: Any) -> bool:
    return ref.dtype.is_ref_dtype


@export("is_variable_initialized")
def is_variable_initialized(variable: Any) -> Tensor:
    """Whether the session has a value for a variable: a bool scalar."""
    if _is_reference(variable):
        return raw.IsVariableInitialized(variable)
    return variable.is_initialized()


@export("assign")
def assign(
    ref: Any,
    value: Any,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Any:
    """Writes `value` into a variable.

    validate_shape: False lets a reference variable take the shape of the value.
    Returns the new value. Raises TypeError, ValueError: another type or shape.
    """
    if _is_reference(ref):
        return raw.Assign(
            ref, value, validate_shape=validate_shape, use_locking=use_locking, name=name
        )
    return ref.assign(value, name=name)


@export("assign_add")
def assign_add(
    ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Adds `value` to a variable (no broadcasting); returns the new value."""
    if _is_reference(ref):
        return raw.AssignAdd(ref, value, use_locking=use_locking, name=name)
    return ref.assign_add(value)


@export("assign_sub")
def assign_sub(
    ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Subtracts `value` from a variable (no broadcasting); returns the new value."""
    if _is_reference(ref):
        return raw.AssignSub(ref, value, use_locking=use_locking, name=name)
    return ref.assign_sub(value)


@export("count_up_to")
def count_up_to(ref: Any, limit: int, name: str | None = None) -> Tensor:
    """The value of an integer scalar variable, which goes up by one.

    A run fails with OutOfRangeError once the value is `limit`.
    """
    if _is_reference(ref):
        return raw.CountUpTo(ref, limit=limit, name=name)
    return raw.ResourceCountUpTo(ref.handle, limit=limit, T=ref.dtype, name=name)


def _scatter(
    op_type: str, ref: Any, indices: Any, updates: Any, use_locking: bool, name: str | None
) -> Any:
    if _is_reference(ref):
        add: Callable[..., Any] = getattr(raw, op_type)
        return add(ref, indices, updates, use_locking=use_locking, name=name)
    return ref._lazy_read(
        getattr(raw, f"Resource{op_type}")(
            ref.handle, indices, convert_to_tensor(updates, ref.dtype), name=name
        )
    )


@export("scatter_update")
def scatter_update(
    ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Writes rows of a variable: `ref[indices[i]] = updates[i]`.

    indices: int32 or int64, any shape. updates: indices.shape + ref.shape[1:], or a scalar for all rows.
    Returns the new value. A run fails with InvalidArgumentError where an index is outside the variable.
    """
    return _scatter("ScatterUpdate", ref, indices, updates, use_locking, name)


@export("scatter_add")
def scatter_add(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Adds to rows of a variable: `ref[indices[i]] += updates[i]`; an index may be named more than once."""
    return _scatter("ScatterAdd", ref, indices, updates, use_locking, name)


@export("scatter_sub")
def scatter_sub(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Subtracts from rows of a variable: `ref[indices[i]] -= updates[i]`; an index may be named more than once."""
    return _scatter("ScatterSub", ref, indices, updates, use_locking, name)


@export("scatter_mul")
def scatter_mul(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Multiplies rows of a variable: `ref[indices[i]] *= updates[i]`; an index may be named more than once."""
    return _scatter("ScatterMul", ref, indices, updates, use_locking, name)


@export("scatter_div")
def scatter_div(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Divides rows of a variable: `ref[indices[i]] /= updates[i]`; an index may be named more than once."""
    return _scatter("ScatterDiv", ref, indices, updates, use_locking, name)


@export("scatter_min")
def scatter_min(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Takes the smaller of rows of a variable and `updates`."""
    return _scatter("ScatterMin", ref, indices, updates, use_locking, name)


@export("scatter_max")
def scatter_max(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Takes the larger of rows of a variable and `updates`."""
    return _scatter("ScatterMax", ref, indices, updates, use_locking, name)


@export("scatter_nd_update")
def scatter_nd_update(
    ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Writes slices of a variable: `ref[indices[i]] = updates[i]`, each row of `indices` a position.

    indices: [..., k] int32 or int64. updates: indices.shape[:-1] + ref.shape[k:]. Returns the new value.
    """
    return _scatter("ScatterNdUpdate", ref, indices, updates, use_locking, name)


@export("scatter_nd_add")
def scatter_nd_add(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Adds to slices of a variable, see `scatter_nd_update`."""
    return _scatter("ScatterNdAdd", ref, indices, updates, use_locking, name)


@export("scatter_nd_sub")
def scatter_nd_sub(
    ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Subtracts from slices of a variable, see `scatter_nd_update`."""
    return _scatter("ScatterNdSub", ref, indices, updates, use_locking, name)


@export("batch_scatter_update")
def batch_scatter_update(
    ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Writes rows batch by batch: `ref[b..., indices[b..., i]] = updates[b..., i]`.

    indices: [batch..., n], its batch dimensions those of the variable. updates: indices.shape +
    ref.shape[indices.rank:].
    """
    from headrace.api import array_ops, math_ops
    from headrace.api.framework import name_scope
    from headrace.api.join_ops import stack

    with name_scope(name):
        indices = convert_to_tensor(indices, name="indices")
        rank = indices.shape.ndims
        if rank is None:
            raise ValueError("batch_scatter_update needs indices of known rank.")
        sizes = array_ops.shape(indices)
        zero, one = (convert_to_tensor(n, indices.dtype) for n in (0, 1))
        # A position is (b..., index): the batch coordinates are ranges along the leading axes.
        columns = []
        for axis in range(rank - 1):
            size = sizes[axis]
            end = math_ops.cast(size, indices.dtype)
            column = raw.Range(zero, end, one)
            column = array_ops.reshape(column, [-1 if i == axis else 1 for i in range(rank)])
            columns.append(array_ops.zeros_like(indices) + column)
        positions = stack([*columns, indices], axis=-1)
        return scatter_nd_update(ref, positions, updates, use_locking, name)
