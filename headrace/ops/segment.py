"""Reductions of groups of rows that share an id: Segment*, UnsortedSegment*: the sorted and the unsorted ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops.elementwise import scalar_like, zeros_like

_NUMERIC = (
    "float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, complex128, "
    "half, uint32, uint64"
)
_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"


def _sum_type(kind: np.dtype) -> Any:
    return np.float32 if kind.itemsize == 2 and kind.kind not in "iu" else kind


# ---- how rows are combined on the host


def grouped(
    data: np.ndarray, ids: np.ndarray, count: int, combine: np.ufunc, start: Any
) -> np.ndarray:
    """out[i] = the rows with id i combined by `combine`, beginning with `start`. data: [n, ...], ids: [n]."""
    kind = data.dtype
    out = np.full((count, *data.shape[1:]), np.asarray(start, kind)).astype(
        _sum_type(kind), copy=False
    )
    if not len(ids):
        return out.astype(kind, copy=False)
    if (ids[1:] < ids[:-1]).any():
        order = np.argsort(ids, kind="stable")
        ids, data = ids[order], data[order]
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    out[ids[starts]] = combine.reduceat(data.astype(out.dtype, copy=False), starts, axis=0)
    return out.astype(kind, copy=False)


def _lowest(kind: np.dtype) -> Any:
    return np.iinfo(kind).min if kind.kind in "iu" else jnp.finfo(kind).min


def _highest(kind: np.dtype) -> Any:
    return np.iinfo(kind).max if kind.kind in "iu" else jnp.finfo(kind).max


# ---- SegmentSum, Mean, Prod, Min, Max: sorted ids, as many rows as the last id says


def check_sorted(op, ids, count):
    """Fails where ids are not increasing or not in [0, count), with the first that TF would meet."""
    if not len(ids):
        return
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    runs = ids[first]
    falls = np.append(runs[1:] <= runs[:-1], False)
    outside = (runs < 0) | (runs >= count)
    wrong = np.flatnonzero(falls | outside)
    if not wrong.size:
        return
    if falls[wrong[0]]:
        raise op.invalid("segment ids are not increasing")
    raise op.invalid(
        f"Segment id {runs[wrong[0]]} out of range [0, {count}), possibly because 'segment_ids' input is not sorted."
    )


def _checked_ids(op, data, ids):
    if ids.ndim != 1:
        raise op.invalid("segment_ids should be a vector.")
    if not data.ndim or len(ids) != data.shape[0]:
        raise op.invalid("segment_ids should be the same size as dimension 0 of input.")
    count = int(ids[-1]) + 1 if len(ids) else 0
    if count <= 0 and len(ids):
        raise op.invalid("segment ids must be >= 0")
    check_sorted(op, ids, count)
    return count


def _segment_dims(op, data, ids):
    shapes.at_least_rank(op, data, 1, "data")
    shapes.with_rank(op, ids, 1, "segment_ids")
    return None if data is None else (None, *data[1:])


def _means(data, ids, count):
    totals = grouped(data, ids, count, np.add, 0)
    sizes = np.maximum(np.bincount(ids, minlength=count), 1).reshape((-1,) + (1,) * (data.ndim - 1))
    if data.dtype.kind in "iu":
        return (np.sign(totals) * (np.abs(totals) // sizes)).astype(data.dtype)
    return (totals / sizes.astype(totals.real.dtype)).astype(data.dtype)


def _segment(name: str, types: str, host: Callable[[Any, Any, int], Any]) -> OpDef:
    """The number of rows depends on the ids' values: runs on the host."""
    definition = define(
        name,
        "data: T, segment_ids: Tindices -> output: T",
        f"T: {{{types}}}, Tindices: {{int32, int64}}",
        dynamic_shape=True,
    )
    definition.shape(_segment_dims)

    @definition.host
    def host_rule(op, data, ids):
        return host(data, ids, _checked_ids(op, data, ids))

    return definition


segment_sum = _segment("SegmentSum", _NUMERIC, lambda x, ids, n: grouped(x, ids, n, np.add, 0))


@segment_sum.gradient
def _segment_sum_gradient(op, dy):
    return rows_of(dy, op.inputs[1]), None


segment_mean = _segment("SegmentMean", _NUMERIC, _means)


@segment_mean.gradient
def _segment_mean_gradient(op, dy):
    data, ids = op.inputs
    ones = raw.Fill(raw.Shape(ids), scalar_like(1, dy))
    sizes = raw.SegmentSum(ones, ids)
    return rows_of(raw.RealDiv(dy, _likerows_of(sizes, dy, data)), ids), None


def _likerows_of(vector, like, ranked):
    """`vector` with an axis of size 1 for each axis after the first that `ranked` has."""
    if ranked._dims is not None:
        for _ in range(len(ranked._dims) - 1):
            vector = raw.ExpandDims(vector, np.int32(-1))
        return vector
    ones = raw.Fill(
        raw.ExpandDims(raw.Sub(raw.Rank(ranked), np.int32(1)), np.int32(0)), np.int32(1)
    )
    return raw.Reshape(vector, raw.ConcatV2([raw.Shape(vector), ones], np.int32(0)))


def rows_of(x, ids):
    return raw.GatherV2(x, ids, np.int32(0))


segment_prod = _segment(
    "SegmentProd", _NUMERIC, lambda x, ids, n: grouped(x, ids, n, np.multiply, 1)
)
segment_prod.not_differentiable()
segment_min = _segment("SegmentMin", _REAL, lambda x, ids, n: grouped(x, ids, n, np.minimum, 0))
segment_max = _segment("SegmentMax", _REAL, lambda x, ids, n: grouped(x, ids, n, np.maximum, 0))


@segment_min.gradient
@segment_max.gradient
def _segment_extreme_gradient(op, dy):
    """Equal parts for all rows that have the extreme value."""
    data, ids = op.inputs
    hits = raw.Equal(data, rows_of(op.outputs[0], ids))
    count = raw.SegmentSum(raw.Cast(hits, DstT=dy.dtype.base_dtype), ids)
    return raw.Select(hits, rows_of(raw.RealDiv(dy, count), ids), zeros_like(data)), None


# ---- UnsortedSegmentSum, Prod, Min, Max: any order, the number of segments is given, negative ids are left out


def _unsorted_dims(op, data, ids, num_segments):
    shapes.with_rank(op, num_segments, 0, "num_segments")
    count = op.static(2)
    if count is not None and count < 0:
        raise op.error(
            f"Dimension size, given by scalar input 2, must be non-negative but is {count}."
        )
    if data is None or ids is None:
        return None
    if len(ids) > len(data):
        raise op.error(
            f"segment_ids {shapes.text(ids)} must be a prefix of the shape of data {shapes.text(data)}."
        )
    shapes.merge(op, ids, data[: len(ids)], "segment_ids and the first sizes of data")
    return (None if count is None else int(count), *data[len(ids) :])


def _unsorted(
    name: str, types: str, method: str, combine: np.ufunc, start: Callable[[np.dtype], Any]
) -> OpDef:
    definition = define(
        name,
        "data: T, segment_ids: Tindices, num_segments: Tnumsegments -> output: T",
        f"T: {{{types}}}, Tindices: {{int32, int64}}, Tnumsegments: {{int32, int64}} = int32",
        static_inputs=("num_segments",),
    )
    definition.shape(_unsorted_dims)

    def flat(op, data, ids, num_segments):
        if num_segments < 0:
            raise op.invalid(f"Input num_segments == {num_segments} must not be negative.")
        if data.shape[: ids.ndim] != ids.shape:
            raise op.invalid(
                f"data.shape = {list(data.shape)} does not start with segment_ids.shape = {list(ids.shape)}"
            )
        return data.reshape((ids.size, *data.shape[ids.ndim :])), ids.reshape(-1)

    @definition.lower
    def rule(op, data, ids, num_segments: np.ndarray):
        count = int(num_segments)
        data, ids = flat(op, data, ids, count)
        # TF differs on CPUs: a compiled program drops an id that is too large, as TF's GPU kernels do, so that
        # its caller's buffers can be given away; on the host it is an error.
        ids = jnp.where(ids < 0, np.asarray(count, ids.dtype), ids)
        initial = jnp.full(
            (count, *data.shape[1:]), np.asarray(start(np.dtype(data.dtype)), data.dtype)
        )
        return getattr(initial.at[ids], method)(data, mode="drop")

    @definition.host
    def host_rule(op, data, ids, num_segments: np.ndarray):
        count = int(num_segments)
        shape = ids.shape
        data, ids = flat(op, data, ids, count)
        bad = np.flatnonzero(ids >= count)
        if bad.size and data.size:
            place = ",".join(str(i) for i in np.unravel_index(bad[0], shape))
            raise op.invalid(f"segment_ids[{place}] = {ids[bad[0]]} is out of range [0, {count})")
        kept = ids >= 0
        if not kept.all():
            data, ids = data[kept], ids[kept]
        return grouped(data, ids, count, combine, start(data.dtype))

    return definition


unsorted_segment_sum = _unsorted("UnsortedSegmentSum", _NUMERIC, "add", np.add, lambda kind: 0)


def _rows_or_zero(x, ids):
    """Rows of x by id, zeros for negative ids; with them which elements have an id."""
    clipped = raw.Maximum(ids, scalar_like(0, ids))
    rows = rows_of(x, clipped)
    has_id = raw.GreaterEqual(ids, scalar_like(0, ids))
    dims, rank = rows._dims, ids._dims
    if dims is not None and rank is not None:
        for _ in range(len(dims) - len(rank)):
            has_id = raw.ExpandDims(has_id, np.int32(-1))
    else:
        extra = raw.Fill(
            raw.ExpandDims(raw.Sub(raw.Rank(rows), raw.Rank(ids)), np.int32(0)), np.int32(1)
        )
        has_id = raw.Reshape(has_id, raw.ConcatV2([raw.Shape(ids), extra], np.int32(0)))
    everywhere = raw.Fill(raw.Shape(rows), np.asarray(True))
    has_id = raw.LogicalAnd(has_id, everywhere)
    return raw.Select(has_id, rows, zeros_like(rows)), has_id


@unsorted_segment_sum.gradient
def _unsorted_segment_sum_gradient(op, dy):
    return _rows_or_zero(dy, op.inputs[1])[0], None, None


unsorted_segment_prod = _unsorted(
    "UnsortedSegmentProd", _NUMERIC, "multiply", np.multiply, lambda kind: 1
)


@unsorted_segment_prod.gradient
def _unsorted_segment_prod_gradient(op, dy):
    """The product of a segment without the element: by division, but where it is zero the product of the non-zero ones,
    and nothing where a segment has several zeros."""
    data, ids, count = op.inputs
    is_zero = raw.Equal(data, scalar_like(0, data))
    zeros = raw.UnsortedSegmentSum(raw.Cast(is_zero, DstT="int32"), ids, count)
    dy = raw.Select(raw.Greater(zeros, np.int32(1)), zeros_like(dy), dy)
    others = raw.Select(is_zero, raw.OnesLike(data), data)
    clipped = raw.Maximum(ids, scalar_like(0, ids))
    without_zeros = rows_of(raw.UnsortedSegmentProd(others, ids, count), clipped)
    quotient = raw.RealDiv(rows_of(op.outputs[0], clipped), data)
    partial = raw.Select(is_zero, without_zeros, quotient)
    return raw.Mul(_rows_or_zero(dy, ids)[0], partial), None, None


unsorted_segment_max = _unsorted("UnsortedSegmentMax", _REAL, "max", np.maximum, _lowest)
unsorted_segment_min = _unsorted("UnsortedSegmentMin", _REAL, "min", np.minimum, _highest)


@unsorted_segment_max.gradient
@unsorted_segment_min.gradient
def _unsorted_segment_extreme_gradient(op, dy):
    data, ids, count = op.inputs
    extremes, has_id = _rows_or_zero(op.outputs[0], ids)
    hits = raw.LogicalAnd(raw.Equal(data, extremes), has_id)
    selected = raw.UnsortedSegmentSum(raw.Cast(hits, DstT=dy.dtype.base_dtype), ids, count)
    shares = _rows_or_zero(raw.RealDiv(dy, selected), ids)[0]
    return raw.Select(hits, shares, zeros_like(shares)), None, None
