"""The largest, the n-th, and places in an order: TopK, InTopK, NthElement, LowerBound, UpperBound."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"

# ---- TopK, TopKV2


def _top_k_dims(op, x, k: int | None) -> list[Dims]:
    x = shapes.at_least_rank(op, x, 1, "input")
    if x is None:
        return [None, None]
    if k is not None and k < 0:
        raise op.error(f"Need k >= 0, got {k}.")
    if k is not None and x[-1] is not None and x[-1] < k:
        raise op.error(f"input must have last dimension >= k = {k} but is {x[-1]}.")
    return [(*x[:-1], k), (*x[:-1], k)]


def _top_k(op, x, k: int):
    if not len(x.shape):
        raise op.invalid("input must be >= 1-D, got shape []")
    if k < 0:
        raise op.invalid(f"Need k >= 0, got {k}")
    if x.shape[-1] < k:
        raise op.invalid(f"input must have at least k columns. Had {x.shape[-1]}, needed {k}")
    if is_static(x):
        # A stable sort of the negated order: among equal elements the lower index comes first.
        order = (
            x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :k]
        )
        return np.take_along_axis(x, order, -1), order.astype(np.int32)
    values, indices = lax.top_k(x, k)
    return values, indices.astype(jnp.int32)


def _top_k_gradient(op, dy):
    """dy put back at the indices, zero elsewhere."""
    x, indices = op.inputs[0], op.outputs[1]
    if shapes.is_known(x._dims) and shapes.is_known(indices._dims):
        rows, columns = math.prod(x._dims[:-1]), x._dims[-1]
        first = (np.arange(rows, dtype=np.int32) * columns).reshape(-1, 1)
        shape_of_x, count = np.array(x._dims, np.int32), np.array([rows * columns], np.int32)
        indices_2d = raw.Reshape(indices, np.array([rows, indices._dims[-1]], np.int32))
    else:
        shape_of_x = raw.Shape(x)
        columns = raw.StridedSlice(shape_of_x, [-1], [0], [1], shrink_axis_mask=1)
        count = raw.ExpandDims(raw.Size(x), 0)
        shape_of_k = raw.Shape(indices)
        k = raw.StridedSlice(shape_of_k, [-1], [0], [1], end_mask=1)
        lead = raw.StridedSlice(shape_of_x, [0], [-1], [1], begin_mask=1)
        rows = raw.Prod(lead, np.array([0], np.int32))
        indices_2d = raw.Reshape(indices, raw.ConcatV2([raw.ExpandDims(rows, 0), k], 0))
        first = raw.ExpandDims(raw.Mul(raw.Range(0, rows, 1), columns), -1)
    flat = raw.Reshape(raw.AddV2(indices_2d, first), np.array([-1, 1], np.int32))
    return raw.Reshape(
        raw.ScatterNd(flat, raw.Reshape(dy, np.array([-1], np.int32)), count), shape_of_x
    )


top_k = define(
    "TopK",
    "input: T -> values: T, indices: int32",
    f"k: int >= 0, sorted: bool = true, T: {{{_REAL}}}",
)


@top_k.shape
def _top_k_shape(op, x) -> list[Dims]:
    return _top_k_dims(op, x, op.attr("k"))


@top_k.host
@top_k.lower
def _top_k_lower(op, x):
    return _top_k(op, x, op.attr("k"))


@top_k.gradient
def _top_k_v1_gradient(op, dy, _):
    return _top_k_gradient(op, dy)


top_k_v2 = define(
    "TopKV2",
    "input: T, k: int32 -> values: T, indices: int32",
    f"sorted: bool = true, T: {{{_REAL}}}",
    static_inputs=("k",),
)


@top_k_v2.shape
def _top_k_v2_shape(op, x, k) -> list[Dims]:
    shapes.with_rank(op, k, 0, "k")
    known = op.static(1)
    return _top_k_dims(op, x, None if known is None else int(known))


@top_k_v2.host
@top_k_v2.lower
def _top_k_v2_lower(op, x, k: np.ndarray):
    return _top_k(op, x, int(k))


@top_k_v2.gradient
def _top_k_v2_gradient(op, dy, _):
    return _top_k_gradient(op, dy), None


# ---- InTopK, InTopKV2


def _in_top_k_shape(op, predictions, targets, k=()) -> Dims:
    predictions = shapes.with_rank(op, predictions, 2, "predictions")
    targets = shapes.with_rank(op, targets, 1, "targets")
    return (
        shapes.merge_size(op, predictions[0], targets[0], "rows of predictions and of targets"),
    )


def _in_top_k(op, predictions, targets, k):
    """Whether fewer than k classes are more probable; false where a target or a prediction is no number to compare."""
    if predictions.ndim != 2 or targets.ndim != 1 or predictions.shape[0] != targets.shape[0]:
        raise op.invalid(
            f"First dimension of predictions {predictions.shape[0]} must match length of targets "
            f"{shapes.brackets(targets.shape)}"
        )
    xp = np if all(map(is_static, (predictions, targets))) else jnp
    classes = predictions.shape[1]
    if not classes:
        return xp.zeros(targets.shape, bool)
    inside = (targets >= 0) & (targets < classes)
    own = xp.take_along_axis(
        predictions, xp.clip(targets, 0, classes - 1)[:, None].astype(np.int32), 1
    )
    better = (predictions > own).sum(1)
    return inside & xp.isfinite(predictions).all(1) & (better < k)


in_top_k = define(
    "InTopK",
    "predictions: float, targets: T -> precision: bool",
    "k: int, T: {int32, int64} = int32",
)
in_top_k.shape(_in_top_k_shape)


@in_top_k.host
@in_top_k.lower
def _in_top_k_lower(op, predictions, targets):
    return _in_top_k(op, predictions, targets, op.attr("k"))


in_top_k.not_differentiable()

in_top_k_v2 = define(
    "InTopKV2",
    "predictions: float, targets: T, k: T -> precision: bool",
    "T: {int32, int64} = int32",
)
in_top_k_v2.shape(_in_top_k_shape)
in_top_k_v2.host(_in_top_k)
in_top_k_v2.lower(_in_top_k)
in_top_k_v2.not_differentiable()

# ---- NthElement

nth_element = define(
    "NthElement",
    "input: T, n: int32 -> values: T",
    f"reverse: bool = false, T: {{{_REAL}}}",
    static_inputs=("n",),
)


@nth_element.shape
def _nth_element_shape(op, x, n) -> Dims:
    if n is not None and n != ():
        raise op.error(f"Input n must be scalar but has rank {len(n)}.")
    x = shapes.at_least_rank(op, x, 1, "input")
    known = op.static(1)
    if known is not None and known < 0:
        raise op.error(f"Input n must be non-negative but is {known}.")
    if x is not None and known is not None and x[-1] is not None and known >= x[-1]:
        raise op.error(f"Input must have last dimension > n = {known} but is {x[-1]}.")
    return None if x is None else x[:-1]


@nth_element.host
@nth_element.lower
def _nth_element_lower(op, x, n: np.ndarray):
    if n.ndim or n < 0:
        raise op.invalid(f"Need n >= 0, got {n}")
    if not len(x.shape):
        raise op.invalid("Input must be >= 1-D, got shape []")
    if n >= x.shape[-1]:
        raise op.invalid(
            f"Input must have at least n+1 columns, n is {n}, got shape {shapes.brackets(x.shape)}"
        )
    at = x.shape[-1] - 1 - int(n) if op.attr("reverse") else int(n)
    if is_static(x):
        return (
            np.partition(x, at, axis=-1)[..., at]
            if x.dtype.kind in "fiu"
            else np.sort(x, axis=-1)[..., at]
        )
    return jnp.sort(x, axis=-1)[..., at]


@nth_element.gradient
def _nth_element_gradient(op, dy):
    """Shared by the elements that are equal to the n-th one."""
    x, y = op.inputs[0], op.outputs[0]
    chosen = raw.Cast(raw.Equal(raw.ExpandDims(y, -1), x), DstT=dy.dtype.base_dtype)
    count = raw.ExpandDims(raw.Sum(chosen, -1), -1)
    return raw.Mul(raw.Div(chosen, count), raw.ExpandDims(dy, -1)), None


# ---- LowerBound, UpperBound


def _define_bound(name: str, side: str) -> OpDef:
    definition = define(
        name,
        "sorted_inputs: T, values: T -> output: out_type",
        "T: type, out_type: {int32, int64} = int32",
    )

    @definition.shape
    def _bound_shape(op, rows, values) -> Dims:
        rows = shapes.with_rank(op, rows, 2, "sorted_inputs")
        values = shapes.with_rank(op, values, 2, "values")
        shapes.merge_size(op, rows[0], values[0], "rows of sorted_inputs and of values")
        return values

    @definition.host
    def _bound_host(op, rows, values):
        if len(rows) != len(values):
            raise op.invalid(
                f"Leading dim_size of both tensors must match: {len(rows)} and {len(values)}."
            )
        found = [np.searchsorted(r, v, side) for r, v in zip(rows, values, strict=True)]
        return np.array(found, op.output_dtype().np_dtype).reshape(values.shape)

    @definition.lower
    def _bound_lower(op, rows, values):
        if rows.shape[0] != values.shape[0]:
            raise op.invalid(
                f"Leading dim_size of both tensors must match: {rows.shape[0]} and {values.shape[0]}."
            )
        if not values.size:
            return jnp.zeros(values.shape, op.output_dtype().np_dtype)
        search = jax.vmap(lambda r, v: jnp.searchsorted(r, v, side=side))
        return search(jnp.asarray(rows), jnp.asarray(values)).astype(op.output_dtype().np_dtype)

    return definition.not_differentiable()


lower_bound = _define_bound("LowerBound", "left")
upper_bound = _define_bound("UpperBound", "right")
