"""Writing some rows of a variable: the scatter ops, through a reference and through a resource handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.graph import shapes
from headrace.graph.handles import handle_dims
from headrace.graph.op_def import PADDED, Effect, define
from headrace.lowering.index_checks import check_positions, check_rows

# ---- ScatterUpdate, ScatterAdd, ...: row numbers along the first axis


def _check_rows_shape(op, params, indices, updates):
    """updates: one row for each index, or one scalar for all."""
    if params is None or indices is None or updates is None or updates == ():
        return
    params = shapes.at_least_rank(op, params, 1, "variable")
    if not _agree(updates, (*indices, *params[1:])):
        raise op.error(
            "Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got "
            f"updates.shape {shapes.text(updates)}, indices.shape {shapes.text(indices)}, "
            f"params.shape {shapes.text(params)}: needs shape {shapes.text((*indices, *params[1:]))}, not "
            f"{shapes.text(updates)}."
        )


def _scatter_shape(op, ref, indices, updates):
    _check_rows_shape(op, ref, indices, updates)
    return ref


def _resource_scatter_shape(op, handle, indices, updates):
    _check_rows_shape(op, handle_dims(op._inputs[0]), indices, updates)


def _takes_padded_rows(op) -> bool:
    return PADDED in op._inputs[1]._op._attrs


def _scatter_rule(kind: str, returns_ref: bool) -> Callable[..., Any]:
    def scatter(op, ref, indices, updates):
        params = ref.read()
        check_rows(op, indices, params.shape[0], padded=op.facts)
        wanted = (*indices.shape, *params.shape[1:])
        if updates.shape not in ((), wanted):
            raise op.invalid(
                "Must have updates.shape = indices.shape + params.shape[1:] or updates.shape = [], got "
                f"updates.shape {list(updates.shape)}, indices.shape {list(indices.shape)}, "
                f"params.shape {list(params.shape)}"
            )
        ref.write_rows(kind, (indices,), updates)
        return ref if returns_ref else ()

    return scatter


def _define_scatter(kind: str, element: str, resource_element: str, locking: str) -> None:
    """The two flavours of one scatter op, along the first axis."""
    reference = define(
        f"Scatter{kind}",
        "ref: Ref(T), indices: Tindices, updates: T -> output_ref: Ref(T)",
        f"T: {element}, Tindices: {{index}}, use_locking: bool = {locking}",
        effects=Effect.FALLIBLE,
        checked_inputs=("indices",),
        writes=("ref",),
    )
    reference.shape(_scatter_shape)
    reference.facts(_takes_padded_rows)
    reference.lower(_scatter_rule(kind, returns_ref=True))
    reference.host(_scatter_rule(kind, returns_ref=True))
    reference.not_differentiable()
    resource = define(
        f"ResourceScatter{kind}",
        "resource: resource, indices: Tindices, updates: dtype ->",
        f"dtype: {resource_element}, Tindices: {{index}}",
        effects=Effect.STATEFUL | Effect.FALLIBLE,
        checked_inputs=("indices",),
        writes=("resource",),
    )
    resource.shape(_resource_scatter_shape)
    resource.facts(_takes_padded_rows)
    resource.lower(_scatter_rule(kind, returns_ref=False))
    resource.host(_scatter_rule(kind, returns_ref=False))
    resource.not_differentiable()


_define_scatter("Update", "type", "type", "true")
for _kind in ("Add", "Sub", "Mul", "Div"):
    _define_scatter(_kind, "{numeric}", "{numeric}", "false")
for _kind in ("Min", "Max"):
    _define_scatter(_kind, "{half, bfloat16, float, double, int32, int64}", "{numeric}", "false")

# ---- ScatterNdUpdate, ScatterNdAdd, ScatterNdSub: positions along several axes


def _check_positions_shape(op, params, indices, updates):
    """updates: [outer dims of indices..., rest of params...]."""
    if indices is None or not indices:
        if indices == ():
            raise op.error("needs indices of at least rank 1.")
        return
    if updates is not None and len(updates) < 1:
        raise op.error("needs updates of at least rank 1.")
    outer = len(indices) - 1
    if updates is None:
        return
    if not _agree(indices[:-1], updates[:outer]):
        raise op.error(
            f"The outer {outer} dimensions of indices.shape={_brackets(indices)} must match the outer {outer} "
            f"dimensions of updates.shape={_brackets(updates)}."
        )
    depth = indices[-1]
    if params is None or depth is None:
        return
    if not _agree(params[depth:], updates[outer:]):
        raise op.error(
            f"The inner {len(params) - depth} dimensions of input.shape={_brackets(params)} must match the inner "
            f"{len(updates) - outer} dimensions of updates.shape={_brackets(updates)}."
        )


def _agree(a, b):
    return len(a) == len(b) and all(
        x is None or y is None or x == y for x, y in zip(a, b, strict=True)
    )


def _brackets(dims):
    return "[" + ",".join("?" if d is None else str(d) for d in dims) + "]"


def _scatter_nd_shape(op, ref, indices, updates):
    _check_positions_shape(op, ref, indices, updates)
    return ref


def _resource_scatter_nd_shape(op, handle, indices, updates):
    _check_positions_shape(op, handle_dims(op._inputs[0]), indices, updates)


def _scatter_nd_rule(kind: str, returns_ref: bool) -> Callable[..., Any]:
    def scatter_nd(op, ref, indices, updates):
        params = ref.read()
        if not params.shape:
            raise op.invalid("Output must be at least 1-D, got shape: []")
        depth = indices.shape[-1]
        wanted = (*indices.shape[:-1], *params.shape[depth:])
        if updates.shape != wanted:
            raise op.invalid(
                "Must have updates.shape = indices.shape[:batch_dim] + params_shape[slice_dim:], got updates.shape: "
                f"{list(updates.shape)}, indices.shape: {list(indices.shape)}, params_shape: {list(params.shape)}, "
                f"slice_dim: {depth}, and batch_dim: {indices.ndim - 1}"
            )
        check_positions(op, indices, params.shape)
        ref.write_rows(kind, tuple(indices[..., i] for i in range(depth)), updates)
        return ref if returns_ref else ()

    return scatter_nd


def _define_scatter_nd(kind: str, element: str, locking: str) -> None:
    """The two flavours of one scatter op, along several axes."""
    reference = define(
        f"ScatterNd{kind}",
        "ref: Ref(T), indices: Tindices, updates: T -> output_ref: Ref(T)",
        f"T: {element}, Tindices: {{index}}, use_locking: bool = {locking}",
        effects=Effect.FALLIBLE,
        checked_inputs=("indices",),
        writes=("ref",),
    )
    reference.shape(_scatter_nd_shape)
    reference.lower(_scatter_nd_rule(kind, returns_ref=True))
    reference.host(_scatter_nd_rule(kind, returns_ref=True))
    reference.not_differentiable()
    resource = define(
        f"ResourceScatterNd{kind}",
        "ref: resource, indices: Tindices, updates: T ->",
        "T: type, Tindices: {index}, use_locking: bool = true",
        effects=Effect.STATEFUL | Effect.FALLIBLE,
        checked_inputs=("indices",),
        writes=("ref",),
    )
    resource.shape(_resource_scatter_nd_shape)
    resource.lower(_scatter_nd_rule(kind, returns_ref=False))
    resource.host(_scatter_nd_rule(kind, returns_ref=False))
    resource.not_differentiable()


_define_scatter_nd("Update", "type", "true")
for _kind in ("Add", "Sub"):
    _define_scatter_nd(_kind, "{numeric}", "false")
