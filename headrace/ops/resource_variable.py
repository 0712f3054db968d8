"""Resource variables: a handle, and the ops that read and write through it."""

from __future__ import annotations

import operator

import jax.numpy as jnp
import numpy as np

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.handles import handle_data, handle_dims
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import Effect, define
from headrace.lowering.index_checks import check_positions, check_rows
from headrace.ops.state import check_assigned, count_once

# ---- VarHandleOp

var_handle = define(
    "VarHandleOp",
    "-> resource: resource",
    "container: string = '', shared_name: string = '', dtype: type, shape: shape",
    effects=Effect.STATEFUL | Effect.HANDLE,
)
var_handle.shape(shapes.scalar)
var_handle.not_differentiable()


def _value_dims(op, index=0, attr="dtype"):
    """The static shape of the variable behind input `index`, whose type must be that of the op's attr."""
    data = handle_data(op._inputs[index])
    if data is None:
        return None
    if attr is not None and data[0] != op.attr(attr):
        raise op.error(
            f"Trying to read variable with wrong dtype. Expected {op.attr(attr).name} got {data[0].name}."
        )
    return data[1]


# ---- ReadVariableOp

read_variable = define(
    "ReadVariableOp", "resource: resource -> value: dtype", "dtype: type", effects=Effect.STATEFUL
)


@read_variable.shape
def _read_variable_shape(op, handle):
    return _value_dims(op)


@read_variable.host
@read_variable.lower
def _read_variable_lower(op, slot):
    return slot.read()


@read_variable.gradient
def _read_variable_gradient(op, dy):
    return dy


# ---- AssignVariableOp, AssignAddVariableOp, AssignSubVariableOp


def _assign_shape(op, handle, value):
    shapes.merge(op, _value_dims(op), value)


assign_variable = define(
    "AssignVariableOp",
    "resource: resource, value: dtype ->",
    "dtype: type",
    effects=Effect.STATEFUL,
    overwrites=("resource",),
)
assign_variable.shape(_assign_shape)


@assign_variable.facts
def _assign_variable_facts(op):
    return handle_dims(op._inputs[0])


@assign_variable.host
def _assign_variable_host(op, slot, value):
    # TF differs: it lets a value of another shape in, and the next operation that reads it fails.
    check_assigned(op, value)
    # A copy: the value may be the caller's own array, fed.
    slot.write(np.array(value))
    return ()


@assign_variable.lower
def _assign_variable_lower(op, slot, value):
    check_assigned(op, value)
    slot.write(value)
    return ()


assign_variable.not_differentiable()

assign_add_variable = define(
    "AssignAddVariableOp",
    "resource: resource, value: dtype ->",
    "dtype: type",
    effects=Effect.STATEFUL,
    writes=("resource",),
)
assign_add_variable.shape(_assign_shape)


@assign_add_variable.host
@assign_add_variable.lower
def _assign_add_variable_lower(op, slot, value):
    slot.update(op, operator.add, value)
    return ()


assign_add_variable.not_differentiable()

assign_sub_variable = define(
    "AssignSubVariableOp",
    "resource: resource, value: dtype ->",
    "dtype: type",
    effects=Effect.STATEFUL,
    writes=("resource",),
)
assign_sub_variable.shape(_assign_shape)


@assign_sub_variable.host
@assign_sub_variable.lower
def _assign_sub_variable_lower(op, slot, value):
    slot.update(op, operator.sub, value)
    return ()


assign_sub_variable.not_differentiable()

# ---- VarIsInitializedOp, DestroyResourceOp: about the session's state, so they run on the host

var_is_initialized = define(
    "VarIsInitializedOp",
    "resource: resource -> is_initialized: bool",
    effects=Effect.STATEFUL,
    host_only=True,
)
var_is_initialized.shape(shapes.scalar)


@var_is_initialized.host
def _var_is_initialized_host(op, slot):
    return np.bool_(slot.initialized)


var_is_initialized.not_differentiable()

destroy_resource = define(
    "DestroyResourceOp",
    "resource: resource ->",
    "ignore_lookup_error: bool = true",
    effects=Effect.STATEFUL,
    host_only=True,
    overwrites=("resource",),
)
destroy_resource.shape(shapes.no_outputs)


@destroy_resource.host
def _destroy_resource_host(op, slot):
    if not op.attr("ignore_lookup_error") and not slot.initialized:
        raise errors.NotFoundError(
            None, op, f"DestroyResourceOp op {op.name!r}: Resource {slot.key} does not exist."
        )
    slot.write(None)
    return ()


destroy_resource.not_differentiable()

# ---- VariableShape

variable_shape = define(
    "VariableShape",
    "input: resource -> output: out_type",
    "out_type: {int32, int64} = int32",
    effects=Effect.STATEFUL,
)


@variable_shape.shape
def _variable_shape_shape(op, handle):
    dims = handle_dims(op._inputs[0])
    return (None,) if dims is None else (len(dims),)


@variable_shape.host
@variable_shape.lower
def _variable_shape_lower(op, slot):
    return np.array(slot.read().shape, op.output_dtype().as_numpy_dtype)


@variable_shape.static
def _variable_shape_static(op):
    dims = handle_dims(op._inputs[0])
    if not shapes.is_known(dims):
        return None
    return np.array(dims, op.output_dtype().as_numpy_dtype)


@variable_shape.partial
def _variable_shape_partial(op):
    dims = handle_dims(op._inputs[0])
    return None if dims is None else list(dims)


variable_shape.not_differentiable()

# ---- ResourceGather

resource_gather = define(
    "ResourceGather",
    "resource: resource, indices: Tindices -> output: dtype",
    "batch_dims: int = 0, validate_indices: bool = true, dtype: type, Tindices: {index}",
    effects=Effect.STATEFUL | Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@resource_gather.shape
def _resource_gather_shape(op, handle, indices):
    params = shapes.at_least_rank(op, _value_dims(op), 1, "variable")
    if params is None or indices is None:
        return None
    batch = op.attr("batch_dims")
    if len(indices) < batch:
        raise op.error(
            f"needs indices of at least rank {batch} (batch_dims), got {shapes.text(indices)}."
        )
    shapes.merge(op, params[:batch], indices[:batch], "batch dimensions of variable and indices")
    return (*indices, *params[batch + 1 :])


@resource_gather.host
@resource_gather.lower
def _resource_gather_lower(op, slot, indices):
    params = slot.read()
    batch = op.attr("batch_dims")
    check_rows(op, indices, params.shape[batch])
    traced = not (isinstance(params, np.ndarray) and isinstance(indices, np.ndarray))
    xp = jnp if traced else np
    flat = params.reshape(-1, *params.shape[batch + 1 :])
    rows = indices
    for axis in range(batch):
        # A row of the flattened batches is the position within each batch axis, then the index.
        stride = int(np.prod(params.shape[axis + 1 : batch + 1], dtype=np.int64))
        offset = np.arange(params.shape[axis]).reshape(-1, *[1] * (indices.ndim - axis - 1))
        rows = rows + (offset * stride).astype(indices.dtype)
    return xp.take(flat, rows, axis=0, mode="clip" if traced else "raise")


@resource_gather.gradient
def _resource_gather_gradient(op, dy):
    handle, indices = op.inputs
    shape = raw.VariableShape(handle)
    row_shape = raw.StridedSlice(shape, [1], [0], [1], end_mask=1)
    size = raw.ExpandDims(raw.Size(indices), 0)
    values = raw.Reshape(dy, raw.ConcatV2([size, row_shape], 0))
    return [IndexedSlices(values, raw.Reshape(indices, size), shape), None]


# ---- ResourceGatherNd

resource_gather_nd = define(
    "ResourceGatherNd",
    "resource: resource, indices: Tindices -> output: dtype",
    "dtype: type, Tindices: {index}",
    effects=Effect.STATEFUL | Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@resource_gather_nd.shape
def _resource_gather_nd_shape(op, handle, indices):
    params = _value_dims(op)
    if params is None or indices is None or not indices or indices[-1] is None:
        return None
    if indices[-1] > len(params):
        raise op.error(
            f"indices.shape[-1] must be <= params.rank, got {shapes.text(indices)}, {shapes.text(params)}."
        )
    return (*indices[:-1], *params[indices[-1] :])


@resource_gather_nd.host
@resource_gather_nd.lower
def _resource_gather_nd_lower(op, slot, indices):
    params = slot.read()
    depth = indices.shape[-1]
    if depth == 0:
        xp = np if isinstance(params, np.ndarray) else jnp
        return xp.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    check_positions(op, indices, params.shape, "param shape")
    columns = tuple(indices[..., i] for i in range(depth))
    if isinstance(params, np.ndarray) and isinstance(indices, np.ndarray):
        return params[columns]
    return jnp.asarray(params).at[columns].get(mode="clip", wrap_negative_indices=False)


@resource_gather_nd.gradient
def _resource_gather_nd_gradient(op, dy):
    handle, indices = op.inputs
    shape = raw.VariableShape(handle, out_type=indices.dtype)
    dims = indices._dims
    if dims is not None and len(dims) == 2 and dims[1] == 1:
        return [IndexedSlices(dy, raw.Squeeze(indices, axis=[-1]), shape), None]
    return [raw.ScatterNd(indices, dy, shape), None]


# ---- ResourceCountUpTo

resource_count_up_to = define(
    "ResourceCountUpTo",
    "resource: resource -> output: T",
    "limit: int, T: {int32, int64}",
    effects=Effect.STATEFUL | Effect.FALLIBLE,
    writes=("resource",),
)


@resource_count_up_to.shape
def _resource_count_up_to_shape(op, handle):
    return shapes.with_rank(op, _value_dims(op, attr="T"), 0, "variable")


resource_count_up_to.lower(count_once)
resource_count_up_to.host(count_once)
resource_count_up_to.not_differentiable()
