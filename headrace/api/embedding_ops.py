"""Rows of (partitioned) tables by their ids: `tf.nn.embedding_lookup` and its sparse forms."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from headrace.api.clip_ops import clip_by_norm
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.gather_ops import gather
from headrace.api.partitioned_variables import PartitionedVariable
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _tables(params: Any) -> list[Any]:
    """The parts of a table: variables that can read single rows stay what they are."""
    if params is None:
        raise ValueError("params must be specified")
    if isinstance(params, PartitionedVariable) or type(params) is tuple:
        params = list(params)
    if not isinstance(params, list):
        params = [params]
    if not params:
        raise ValueError("Need at least one param")
    if any(hasattr(p, "sparse_read") for p in params):
        return params
    return [
        convert_to_tensor(p, name=f"params_{i}" if len(params) > 1 else "params")
        for i, p in enumerate(params)
    ]


def _with(table: Any) -> contextlib.AbstractContextManager:
    """The block whose operations are placed where `table` is."""
    anchor = table.op if isinstance(table, Tensor) else getattr(table, "handle", table)
    return default.get_default_graph().colocate_with(getattr(anchor, "op", anchor))


def _clip(rows: Tensor, ids: Tensor, max_norm: Any) -> Tensor:
    """`rows` with each scaled down to a norm of `max_norm` at most."""
    if max_norm is None:
        return rows
    first, rank = ids.shape.ndims, rows.shape.ndims
    if first is None or rank is None:
        axes: Any = raw.Range(raw.Rank(ids), raw.Rank(rows), 1)
    else:
        axes = list(range(first, rank))
    return clip_by_norm(rows, max_norm, axes=axes)


@export("nn.embedding_lookup")
def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: Any = None,
) -> Tensor:
    """The rows `ids` of a table.

    params: a table [rows, D...], or a list of such, or a partitioned variable: its rows are spread
    over the parts one by one ("mod"), or in blocks of consecutive ids ("div"). ids: [I...] int32 or
    int64. max_norm: the largest norm of a row. Returns [I..., D...]. Raises ValueError: no table,
    or an unknown strategy.
    """
    tables = _tables(params)
    with name_scope(name, "embedding_lookup", [*tables, ids]) as scope:
        ids = convert_to_tensor(ids, name="ids")
        if len(tables) == 1:
            with _with(tables[0]):
                rows = _clip(gather(tables[0], ids, name=scope), ids, max_norm)
            return raw.Identity(rows)
        flat = raw.Reshape(ids, [-1])
        places = raw.Range(0, raw.Size(flat), 1)
        part, row = _part_and_row(tables, flat, partition_strategy)
        part = part if part.dtype == dtypes.int32 else raw.Cast(part, DstT=dtypes.int32)
        count = len(tables)
        rows_of = raw.DynamicPartition(row, part, num_partitions=count)
        places_of = raw.DynamicPartition(places, part, num_partitions=count)
        found = []
        for table, wanted in zip(tables, rows_of, strict=True):
            with _with(table):
                found.append(gather(table, wanted))
        result = raw.ParallelDynamicStitch(places_of, found, name=scope)
        shape_of_row = _shape_of_row(tables)
        sizes = raw.ConcatV2([raw.Shape(ids), _sizes_of_row(tables, shape_of_row)], 0)
        result = raw.Reshape(result, sizes)
        result.set_shape(ids.shape.concatenate(shape_of_row))
        return _clip(result, ids, max_norm)


def _part_and_row(tables: list[Any], ids: Tensor, strategy: str) -> tuple[Tensor, Tensor]:
    """Which part holds each id, and in which row."""
    count = len(tables)
    if strategy == "mod":
        return raw.FloorMod(ids, count), raw.FloorDiv(ids, count)
    if strategy != "div":
        raise ValueError(f"Unrecognized partition strategy: {strategy}")
    total: Any = _total_rows(tables, ids)
    # The first parts have one row more where the rows do not divide evenly.
    share, extras = raw.FloorDiv(total, count), raw.FloorMod(total, count)
    longer = raw.AddV2(share, 1)
    rest = raw.Sub(ids, extras)
    part = raw.Maximum(raw.FloorDiv(ids, longer), raw.FloorDiv(rest, share))
    row = raw.Select(raw.Less(part, extras), raw.FloorMod(ids, longer), raw.FloorMod(rest, share))
    return part, row


def _total_rows(tables: list[Any], ids: Tensor) -> Tensor:
    sizes = [t.shape[0].value for t in tables]
    if None not in sizes:
        return convert_to_tensor(np.array(sum(sizes), ids.dtype.as_numpy_dtype))
    parts = []
    for table, size in zip(tables, sizes, strict=True):
        with _with(table):
            shape = raw.Shape(convert_to_tensor(table))
            parts.append(raw.GatherV2(shape, 0, 0) if size is None else np.int32(size))
    return raw.Sum(raw.Cast(raw.Pack(parts), DstT=ids.dtype.base_dtype), [0])


def _shape_of_row(tables: list[Any]) -> TensorShape:
    shape = tables[0].shape[1:]
    for table in tables[1:]:
        shape = shape.merge_with(table.shape[1:])
    return shape


def _sizes_of_row(tables: list[Any], shape: TensorShape) -> Any:
    if shape.is_fully_defined():
        return np.array(shape.as_list(), np.int32)
    with _with(tables[0]):
        return raw.Slice(raw.Shape(convert_to_tensor(tables[0])), [1], [-1])


# ---- several ids for each row of the result


def _check_sparse(value: Any, what: str) -> None:
    if not all(hasattr(value, part) for part in ("indices", "values", "dense_shape")) or isinstance(
        value, Tensor
    ):
        raise TypeError(f"{what} must be SparseTensor, got {value!r}")


@export("nn.embedding_lookup_sparse")
def embedding_lookup_sparse(
    params: Any,
    sp_ids: Any,
    sp_weights: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    combiner: str | None = None,
    max_norm: Any = None,
) -> Tensor:
    """For each row of `sp_ids` the rows of a table that it names, combined.

    params: as in `embedding_lookup`. sp_ids: a SparseTensor [N, M] of int64 ids; no row of it may
    be empty. sp_weights: a SparseTensor of the same places, or None for weights of 1. combiner:
    "sum"; "mean" (where None), the sum divided by the weights; "sqrtn", divided by the root of the
    sum of squares of the weights. Returns [N, D...]. Raises TypeError: not sparse tensors.
    ValueError: another combiner, or shapes that do not fit.
    """
    combiner = "mean" if combiner is None else combiner
    if combiner not in ("mean", "sqrtn", "sum"):
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner!r}")
    tables = _tables(params)
    _check_sparse(sp_ids, "sp_ids")
    if sp_weights is not None:
        _check_sparse(sp_weights, "sp_weights")
        for part in ("values", "indices", "dense_shape"):
            getattr(sp_ids, part).shape.assert_is_compatible_with(getattr(sp_weights, part).shape)
    with name_scope(name, "embedding_lookup_sparse", [*tables, sp_ids.values]) as scope:
        segments = raw.StridedSlice(
            sp_ids.indices, [0, 0], [0, 1], [1, 1], begin_mask=1, end_mask=1, shrink_axis_mask=2
        )
        segments = raw.Cast(segments, DstT=dtypes.int32)
        ids, index = raw.Unique(sp_ids.values)
        rows = embedding_lookup(tables, ids, partition_strategy, max_norm=max_norm)
        if rows.dtype in (dtypes.float16, dtypes.bfloat16):
            rows = raw.Cast(rows, DstT=dtypes.float32)
        if sp_weights is None:
            combine = {
                "sum": raw.SparseSegmentSum,
                "mean": raw.SparseSegmentMean,
                "sqrtn": raw.SparseSegmentSqrtN,
            }[combiner]
            return combine(rows, index, segments, name=scope)
        return _weighted(rows, index, segments, sp_weights.values, combiner, scope)


def _weighted(
    rows: Tensor, index: Tensor, segments: Tensor, weights: Tensor, combiner: str, name: str
) -> Tensor:
    if weights.dtype.base_dtype != rows.dtype.base_dtype:
        weights = raw.Cast(weights, DstT=rows.dtype.base_dtype)
    rows = raw.GatherV2(rows, index, 0)
    rank = rows.shape.ndims
    if rank is None:
        ones = raw.Fill(raw.ExpandDims(raw.Sub(raw.Rank(rows), 1), 0), 1)
        sizes = raw.ConcatV2([raw.Shape(weights), ones], 0)
    else:
        sizes = np.array([-1] + [1] * (rank - 1), np.int32)
    weights = raw.Reshape(weights, sizes)
    rows = raw.Mul(rows, weights, name="mul")
    if combiner == "sum":
        return raw.SegmentSum(rows, segments, name=name)
    total = raw.SegmentSum(rows, segments)
    if combiner == "mean":
        return raw.RealDiv(total, raw.SegmentSum(weights, segments), name=name)
    squares = raw.SegmentSum(raw.Square(weights), segments)
    return raw.RealDiv(total, raw.Sqrt(squares), name=name)


class _Rows:
    """A SparseTensor [N, M] while its rows are changed."""

    def __init__(self, indices: Tensor, values: Tensor, dense_shape: Tensor) -> None:
        self.indices, self.values, self.dense_shape = indices, values, dense_shape

    def kept(self, keep: Tensor) -> _Rows:
        """Only the elements for which `keep` is true."""
        where = raw.Reshape(raw.Where(keep), [-1])
        return _Rows(
            raw.GatherV2(self.indices, where, 0),
            raw.GatherV2(self.values, where, 0),
            self.dense_shape,
        )

    def filled(self, value: Any) -> tuple[_Rows, Tensor]:
        """With an element `value` in each empty row, and which rows were empty."""
        fill = convert_to_tensor(value, dtype=self.values.dtype.base_dtype)
        result = raw.SparseFillEmptyRows(self.indices, self.values, self.dense_shape, fill)
        return _Rows(result[0], result[1], self.dense_shape), result[2]


@export("nn.safe_embedding_lookup_sparse")
def safe_embedding_lookup_sparse(
    embedding_weights: Any,
    sparse_ids: Any,
    sparse_weights: Any = None,
    combiner: str = "mean",
    default_id: int | None = None,
    name: str | None = None,
    partition_strategy: str = "div",
    max_norm: Any = None,
) -> Tensor:
    """As `embedding_lookup_sparse`, for ids that may be negative and rows that may be empty.

    sparse_ids, sparse_weights: SparseTensors [D0, ..., Dn]; negative ids, and weights that are not positive (unless the
    combiner is "sum"), are left out. default_id: the row for what is then empty; zeros where None.
    Returns [D0, ..., Dn-1, E...].
    """
    if embedding_weights is None:
        raise ValueError(f"Missing embedding_weights {embedding_weights}.")
    tables = _tables(embedding_weights)
    if sparse_weights is not None:
        kind = sparse_weights.dtype
        tables = [
            t if t.dtype.base_dtype == kind else convert_to_tensor(t, dtype=kind) for t in tables
        ]
    with name_scope(name, "embedding_lookup", [*tables, sparse_ids.values]) as scope:
        outer, known_rank = _outer_sizes(sparse_ids.dense_shape)
        ids = _as_matrix(sparse_ids, outer)
        weights = None
        if sparse_weights is not None:
            weights = _Rows(ids.indices, sparse_weights.values, ids.dense_shape)
        keep = raw.GreaterEqual(ids.values, np.array(0, ids.values.dtype.as_numpy_dtype))
        ids, weights = ids.kept(keep), None if weights is None else weights.kept(keep)
        if weights is not None and combiner != "sum":
            keep = raw.Greater(weights.values, np.array(0, weights.values.dtype.as_numpy_dtype))
            ids, weights = ids.kept(keep), weights.kept(keep)
        ids, is_empty = ids.filled(default_id or 0)
        if weights is not None:
            weights, _ = weights.filled(1.0)
        result = embedding_lookup_sparse(
            tables,
            ids,
            weights,
            partition_strategy,
            None if default_id is None else scope,
            combiner,
            max_norm,
        )
        if default_id is None:
            # A vector chooses whole rows.
            result = raw.Select(is_empty, raw.ZerosLike(result), result, name=scope)
        row = raw.Slice(raw.Shape(result), [1], [-1])
        shaped = raw.Reshape(result, raw.ConcatV2([raw.Cast(outer, DstT=dtypes.int32), row], 0))
        if known_rank is not None:
            shaped.set_shape(TensorShape([None] * (known_rank - 1)).concatenate(result.shape[1:]))
        return shaped


def _outer_sizes(dense_shape: Tensor) -> tuple[Tensor, int | None]:
    """All sizes but the last one, and their number and one more if it is known."""
    rank = dense_shape.shape[0].value
    count = raw.ExpandDims(raw.Sub(raw.Size(dense_shape), 1), 0) if rank is None else [rank - 1]
    return raw.Slice(dense_shape, [0], count), rank


def _as_matrix(sparse: Any, outer: Tensor) -> _Rows:
    """`sparse` with all axes but the last one flattened."""
    rows = raw.ExpandDims(raw.Prod(outer, [0]), 0)
    last = raw.Slice(sparse.dense_shape, raw.Shape(outer), [1])
    indices, shape = raw.SparseReshape(
        sparse.indices, sparse.dense_shape, raw.ConcatV2([rows, last], 0)
    )
    return _Rows(indices, sparse.values, shape)
