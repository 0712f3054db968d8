"""Reductions of groups of rows: `tf.segment_sum`, `tf.unsorted_segment_sum`, `tf.bincount`, histograms."""

from __future__ import annotations

from typing import Any

from headrace.api.array_ops import ones, reshape, shape
from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast
from headrace.api.reduction import reduce_max, reduce_prod
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

for _name in ("sum", "mean", "prod", "min", "max"):
    export_op(
        f"Segment{_name.title()}", "data, segment_ids", f"segment_{_name}", f"math.segment_{_name}"
    )
for _name in ("sum", "prod", "min", "max"):
    export_op(
        f"UnsortedSegment{_name.title()}",
        "data, segment_ids, num_segments",
        f"unsorted_segment_{_name}",
        f"math.unsorted_segment_{_name}",
    )


def _unsorted_sizes(data: Tensor, segment_ids: Tensor, num_segments: Any) -> Tensor:
    """The number of elements in each segment, at least 1, of a shape that broadcasts against the sums."""
    if data._dims is None or segment_ids._dims is None:
        raise ValueError(
            "unsorted_segment_mean and unsorted_segment_sqrt_n need data and segment_ids of known rank"
        )
    sizes = raw.UnsortedSegmentSum(ones(shape(segment_ids), data.dtype), segment_ids, num_segments)
    extra = len(data._dims) - len(segment_ids._dims)
    return raw.Maximum(reshape(sizes, [num_segments] + [1] * extra), 1)


@export("unsorted_segment_mean", "math.unsorted_segment_mean")
def unsorted_segment_mean(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """The mean of each segment; 0 for an empty one. Arguments as of `unsorted_segment_sum`."""
    with name_scope(name, "UnsortedSegmentMean"):
        data, segment_ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        sizes = _unsorted_sizes(data, segment_ids, num_segments)
        return raw.UnsortedSegmentSum(data, segment_ids, num_segments) / sizes


@export("unsorted_segment_sqrt_n", "math.unsorted_segment_sqrt_n")
def unsorted_segment_sqrt_n(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Tensor:
    """The sum of each segment divided by the root of its size. Arguments as of `unsorted_segment_sum`."""
    with name_scope(name, "UnsortedSegmentSqrtN"):
        data, segment_ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        sizes = _unsorted_sizes(data, segment_ids, num_segments)
        return raw.UnsortedSegmentSum(data, segment_ids, num_segments) / raw.Sqrt(sizes)


def _export_sparse(name: str, op_type: str, sentence: str) -> None:
    def reduce(
        data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None
    ) -> Tensor:
        if num_segments is not None:
            return getattr(raw, f"{op_type}WithNumSegments")(
                data, indices, segment_ids, num_segments, name=name
            )
        return getattr(raw, op_type)(data, indices, segment_ids, name=name)

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = (
        f"{sentence}\n\n"
        "data: [n, ...]. indices: [k], rows of data. segment_ids: [k], sorted, the segment of each picked row.\n"
        "num_segments: how many rows the result has; as many as the last id says where None."
    )
    export(name, f"sparse.{name.removeprefix('sparse_')}")(reduce)


_export_sparse(
    "sparse_segment_sum", "SparseSegmentSum", "The sum of the picked rows of each segment."
)
_export_sparse(
    "sparse_segment_mean", "SparseSegmentMean", "The mean of the picked rows of each segment."
)
_export_sparse(
    "sparse_segment_sqrt_n",
    "SparseSegmentSqrtN",
    "The sum of the picked rows of each segment, divided by the root of their number.",
)


@export("bincount", "math.bincount")
def bincount(
    arr: Any,
    weights: Any = None,
    minlength: Any = None,
    maxlength: Any = None,
    dtype: Any = dtypes.int32,
) -> Tensor:
    """How often each number from 0 on occurs in `arr`, or the sums of the weights at it.

    arr: int32, not negative. weights: of the shape of arr. minlength, maxlength: limits of the size of the result.
    dtype: of the counts, where there are no weights.
    """
    with name_scope("bincount"):
        arr = convert_to_tensor(arr, dtypes.int32, name="arr")
        not_empty = reduce_prod(shape(arr)) > 0
        size = cast(not_empty, dtypes.int32) * (reduce_max(arr) + 1)
        if minlength is not None:
            size = raw.Maximum(convert_to_tensor(minlength, dtypes.int32, name="minlength"), size)
        if maxlength is not None:
            size = raw.Minimum(convert_to_tensor(maxlength, dtypes.int32, name="maxlength"), size)
        if weights is not None:
            return raw.UnsortedSegmentSum(convert_to_tensor(weights, name="weights"), arr, size)
        return raw.Bincount(arr, size, convert_to_tensor([], dtype))


@export("histogram_fixed_width")
def histogram_fixed_width(
    values: Any,
    value_range: Any,
    nbins: Any = 100,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """How many values lie in each of `nbins` equal parts of `value_range`; those outside count in the first or last."""
    return raw.HistogramFixedWidth(
        values, value_range, nbins, dtype=dtype, name=name or "histogram_fixed_width"
    )


@export("histogram_fixed_width_bins")
def histogram_fixed_width_bins(
    values: Any,
    value_range: Any,
    nbins: Any = 100,
    dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """For each value the number of the bin in which `histogram_fixed_width` counts it, int32."""
    from headrace.api.clip_ops import clip_by_value
    from headrace.api.math_ops import truediv

    with name_scope(name, "histogram_fixed_width_bins", [values, value_range, nbins]):
        values = convert_to_tensor(values, name="values")
        shape_of_values = shape(values)
        values = reshape(values, [-1])
        limits = convert_to_tensor(value_range, name="value_range")
        count = cast(convert_to_tensor(nbins, dtypes.int32, name="nbins"), values.dtype)
        scaled = truediv(values - limits[0], limits[1] - limits[0], name="scaled_values")
        places = raw.Floor(count * scaled, name="indices")
        places = cast(clip_by_value(places, 0, count - 1), dtypes.int32)
        return reshape(places, shape_of_values)
