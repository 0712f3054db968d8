"""Elements put or added by index: ScatterNd and the scatters into a copy of a tensor."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.graph.tensor import Dims
from headrace.lowering.index_checks import check_positions
from headrace.ops.reshape import is_static


def _check_shapes(op, dims: Dims, indices: Dims, updates: Dims, what: str = "input") -> None:
    """updates: indices without its last axis, then what the last axis of indices leaves of dims."""
    shapes.at_least_rank(op, indices, 1, "indices")
    if shapes.element_count(dims) == 0 and (
        shapes.element_count(indices) or shapes.element_count(updates)
    ):
        raise op.error(
            f"Indices and updates specified for empty output shape {shapes.brackets(dims)}."
        )
    if indices is None or updates is None or dims is None or indices[-1] is None:
        return
    depth, outer = indices[-1], len(indices) - 1
    if depth > len(dims):
        raise op.error(
            f"indices of shape {shapes.brackets(indices)} index deeper than the output {shapes.brackets(dims)}."
        )
    if not _fit(indices[:-1], updates[:outer]):
        raise op.error(
            f"The outer {outer} dimensions of indices.shape={shapes.brackets(indices)} must match the outer {outer} "
            f"dimensions of updates.shape={shapes.brackets(updates)}."
        )
    if not _fit(dims[depth:], updates[outer:]):
        raise op.error(
            f"The inner {len(dims) - depth} dimensions of {what}.shape={shapes.brackets(dims)} must match the inner "
            f"{len(updates) - outer} dimensions of updates.shape={shapes.brackets(updates)}."
        )


def _fit(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> bool:
    return len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True))


def _check_values(op, dims: tuple[int, ...], indices, updates) -> None:
    if not len(indices.shape):
        raise op.invalid(
            f"indices.shape {shapes.brackets(indices.shape)} must have rank at least one."
        )
    depth = indices.shape[-1]
    wanted = (*indices.shape[:-1], *dims[depth:])
    if depth > len(dims) or tuple(updates.shape) != wanted:
        raise op.invalid(
            f"Must have updates.shape = indices.shape[:batch_dim] + params_shape[slice_dim:], got updates.shape: "
            f"{shapes.brackets(updates.shape)}, indices.shape: {shapes.brackets(indices.shape)}, "
            f"params_shape: {list(dims)}"
        )
    if not math.prod(dims) and math.prod(updates.shape):
        raise op.invalid(f"Indices and updates specified for empty output of shape {list(dims)}")
    check_positions(op, indices, dims)


def apply(operation: str, x, indices, updates):
    """`x` with `updates` combined into it at the rows of `indices`: "set", "add" (booleans: "or"), "subtract"."""
    depth = indices.shape[-1]
    index = tuple(indices[..., i] for i in range(depth))
    if is_static(x) and is_static(indices) and is_static(updates):
        x = x.copy()
        if not depth:
            index = (np.zeros(indices.shape[:-1], np.int64),)
            x = x[None]
        if operation == "set":
            x[index] = updates
        else:
            functions = {
                "add": np.logical_or if x.dtype == bool else np.add,
                "subtract": np.subtract,
            }
            functions[operation].at(x, index, updates)
        return x if depth else x[0]
    x = jnp.asarray(x)
    if not depth:
        index = (jnp.zeros(indices.shape[:-1], jnp.int32),)
        x = x[None]
    if operation == "add" and x.dtype == bool:
        operation = "max"
    # The check of the indices ends the run only after the program: until then bad ones are dropped.
    x = getattr(x.at[index], operation)(updates, mode="drop", wrap_negative_indices=False)
    return x if depth else x[0]


# ---- ScatterNd

scatter_nd = define(
    "ScatterNd",
    "indices: Tindices, updates: T, shape: Tindices -> output: T",
    "T: type, Tindices: {int32, int64}",
    static_inputs=("shape",),
    effects=Effect.FALLIBLE,
    checked_inputs=("indices",),
)


@scatter_nd.shape
def _scatter_nd_shape(op, indices, updates, shape) -> Dims:
    dims = shapes.sizes_of(op, 2)
    _check_shapes(op, dims, indices, updates, "output")
    return dims


@scatter_nd.host
@scatter_nd.lower
def _scatter_nd_lower(op, indices, updates, shape: np.ndarray):
    if shape.ndim != 1:
        raise op.invalid(f"Shape must be rank 1 but is rank {shape.ndim}")
    dims = tuple(int(s) for s in shape)
    if any(d < 0 for d in dims):
        raise op.invalid(f"Shape must not have negative sizes, got {list(dims)}")
    _check_values(op, dims, indices, updates)
    # Strings that meet are joined.
    nothing = (
        np.full(dims, b"", object) if updates.dtype == object else np.zeros(dims, updates.dtype)
    )
    return apply("add", nothing, indices, updates)


@scatter_nd.gradient
def _scatter_nd_gradient(op, dy):
    return None, raw.GatherNd(dy, op.inputs[0]), None


# ---- TensorScatterUpdate, TensorScatterAdd, TensorScatterSub, ScatterNdNonAliasingAdd


def _into_copy(name: str, first: str, operation: str, attrs: str) -> OpDef:
    definition = define(
        name,
        f"{first}: T, indices: Tindices, updates: T -> output: T",
        f"{attrs}, Tindices: {{int32, int64}}",
        effects=Effect.FALLIBLE,
        checked_inputs=("indices",),
    )

    @definition.shape
    def _into_copy_shape(op, x, indices, updates) -> Dims:
        _check_shapes(op, x, indices, updates)
        return x

    @definition.host
    @definition.lower
    def _into_copy_lower(op, x, indices, updates):
        _check_values(op, tuple(x.shape), indices, updates)
        return apply(operation, x, indices, updates)

    return definition


tensor_scatter_update = _into_copy("TensorScatterUpdate", "tensor", "set", "T: type")


@tensor_scatter_update.gradient
def _tensor_scatter_update_gradient(op, dy):
    _, indices, updates = op.inputs
    return (
        raw.TensorScatterUpdate(dy, indices, raw.ZerosLike(updates)),
        None,
        raw.GatherNd(dy, indices),
    )


tensor_scatter_add = _into_copy("TensorScatterAdd", "tensor", "add", "T: type")


@tensor_scatter_add.gradient
def _tensor_scatter_add_gradient(op, dy):
    return dy, None, raw.GatherNd(dy, op.inputs[1])


tensor_scatter_sub = _into_copy("TensorScatterSub", "tensor", "subtract", "T: type")


@tensor_scatter_sub.gradient
def _tensor_scatter_sub_gradient(op, dy):
    return dy, None, raw.Neg(raw.GatherNd(dy, op.inputs[1]))


scatter_nd_non_aliasing_add = _into_copy(
    "ScatterNdNonAliasingAdd",
    "input",
    "add",
    "T: {float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, "
    "complex128, half, uint32, uint64, bool}",
)


@scatter_nd_non_aliasing_add.gradient
def _scatter_nd_non_aliasing_add_gradient(op, dy):
    return dy, None, raw.GatherNd(dy, op.inputs[1])
