"""Reductions of picked rows that share an id: SparseSegmentSum, Mean, SqrtN and their gradients."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops.segment import check_sorted, grouped, rows_of

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"


def _weights(ids: np.ndarray, count: int, power: float, kind: Any) -> np.ndarray:
    """size of its segment ** -power, for each segment."""
    sizes = np.maximum(np.bincount(ids, minlength=count), 1)
    return (sizes.astype(np.float64) ** -power).astype(kind)


def _sparse_segment(name: str, types: str, power: float) -> tuple[OpDef, OpDef]:
    """The op and its variant with a given number of segments. power: segments are divided by size ** power."""
    one = define(
        name,
        "data: T, indices: Tidx, segment_ids: int32 -> output: T",
        f"T: {{{types}}}, Tidx: {{int32, int64}} = int32",
        dynamic_shape=True,
    )
    many = define(
        f"{name}WithNumSegments",
        "data: T, indices: Tidx, segment_ids: int32, num_segments: Tnumsegments -> output: T",
        f"T: {{{types}}}, Tidx: {{int32, int64}} = int32, Tnumsegments: {{int32, int64}} = int32",
        static_inputs=("num_segments",),
    )

    def reduce(op, data, indices, ids, count):
        if len(indices) != len(ids):
            raise op.invalid("segment_ids and indices should have same size.")
        if len(ids) and ids[-1] < 0:
            raise op.invalid("segment ids must be >= 0")
        if len(ids) and ids[-1] >= count:
            raise op.invalid("segment ids must be < num_segments")
        check_sorted(op, ids, count)
        if len(ids):
            bad = np.flatnonzero((indices < 0) | (indices >= data.shape[0]))
            if bad.size:
                raise op.invalid(
                    f"Bad: indices[{bad[0]}] == {indices[bad[0]]} out of range [0, {data.shape[0]})"
                )
        out = grouped(data[indices], ids, count, np.add, 0)
        if power:
            out = out * _weights(ids, count, power, data.dtype).reshape(
                (-1,) + (1,) * (data.ndim - 1)
            )
        return out

    @one.shape
    def shape_rule(op, data, indices, ids):
        shapes.at_least_rank(op, data, 1, "data")
        indices, ids = (
            shapes.with_rank(op, indices, 1, "indices"),
            shapes.with_rank(op, ids, 1, "segment_ids"),
        )
        shapes.merge(op, indices, ids, "indices and segment_ids")
        return None if data is None else (None, *data[1:])

    @one.host
    def host_rule(op, data, indices, ids):
        return reduce(op, data, indices, ids, int(ids[-1]) + 1 if len(ids) else 0)

    @many.shape
    def shape_rule_with_count(op, data, indices, ids, num_segments):
        out = shape_rule(op, data, indices, ids)
        shapes.with_rank(op, num_segments, 0, "num_segments")
        count = op.static(3)
        if count is not None and count < 0:
            raise op.error(f"Cannot specify a negative value for num_segments: {count}.")
        return out if out is None or count is None else (int(count), *out[1:])

    @many.host
    def host_rule_with_count(op, data, indices, ids, num_segments: np.ndarray):
        return reduce(op, data, indices, ids, int(num_segments))

    @many.lower
    def rule_with_count(op, data, indices, ids, num_segments: np.ndarray):
        count = int(num_segments)
        ids = jnp.where(ids < 0, np.asarray(count, ids.dtype), ids)
        zeros = jnp.zeros((count, *data.shape[1:]), data.dtype)
        out = zeros.at[ids].add(data[indices], mode="drop")
        if power:
            sizes = jnp.maximum(jnp.zeros(count, data.dtype).at[ids].add(1, mode="drop"), 1)
            out = out * (sizes**-power).reshape((-1,) + (1,) * (data.ndim - 1)).astype(data.dtype)
        return out

    return one, many


def _row_count(data):
    zero, one = np.array([0], np.int32), np.array([1], np.int32)
    return raw.StridedSlice(raw.Shape(data), zero, one, one, shrink_axis_mask=1)


def _sparse_sum_gradient(op, dy):
    data, indices, ids = op.inputs[:3]
    return (
        raw.UnsortedSegmentSum(rows_of(dy, ids), indices, _row_count(data)),
        *[None] * (len(op.inputs) - 1),
    )


for _op in _sparse_segment("SparseSegmentSum", _REAL, 0):
    _op.gradient(_sparse_sum_gradient)


def _sparse_segment_grad(name: str, power: float) -> None:
    """The gradient by `data`: rows of grad, each divided by its segment's size ** power, added up by index."""
    definition = define(
        f"{name}Grad",
        "grad: T, indices: Tidx, segment_ids: int32, output_dim0: int32 -> output: T",
        "T: {float, double}, Tidx: {int32, int64} = int32",
        static_inputs=("output_dim0",),
    )

    @definition.shape
    def shape_rule(op, grad, indices, ids, rows):
        shapes.at_least_rank(op, grad, 1, "grad")
        shapes.with_rank(op, indices, 1, "indices"), shapes.with_rank(op, ids, 1, "segment_ids")
        count = op.static(3)
        return None if grad is None else (None if count is None else int(count), *grad[1:])

    @definition.host
    def host_rule(op, grad, indices, ids, rows: np.ndarray):
        count, segments = int(rows), grad.shape[0]
        if len(ids):
            if ids[-1] >= segments:
                raise op.invalid("Invalid number of segments")
            if ids.min() < 0 or ids.max() >= segments:
                bad = ids[(ids < 0) | (ids >= segments)][0]
                raise op.invalid(f"Segment id {bad} out of range [0, {segments}).")
            if indices.min() < 0 or indices.max() >= count:
                bad = indices[(indices < 0) | (indices >= count)][0]
                raise op.invalid(f"Index {bad} out of range [0, {count}).")
        scaled = grad * _weights(ids, segments, power, grad.dtype).reshape(
            (-1,) + (1,) * (grad.ndim - 1)
        )
        return grouped(scaled[ids], indices, count, np.add, 0)

    @definition.lower
    def rule(op, grad, indices, ids, rows: np.ndarray):
        sizes = jnp.maximum(jnp.zeros(grad.shape[0], grad.dtype).at[ids].add(1), 1)
        scaled = grad * (sizes**-power).reshape((-1,) + (1,) * (grad.ndim - 1)).astype(grad.dtype)
        return jnp.zeros((int(rows), *grad.shape[1:]), grad.dtype).at[indices].add(scaled[ids])

    definition.not_differentiable()

    def gradient(op, dy):
        data, indices, ids = op.inputs[:3]
        dx = getattr(raw, f"{name}Grad")(dy, indices, ids, _row_count(data))
        return (dx, *[None] * (len(op.inputs) - 1))

    for op in _sparse_segment(name, "float, double", power):
        op.gradient(gradient)


_sparse_segment_grad("SparseSegmentMean", 1.0)
_sparse_segment_grad("SparseSegmentSqrtN", 0.5)
