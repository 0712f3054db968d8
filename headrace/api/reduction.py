"""Reductions: `tf.reduce_sum` and its kin, `tf.argmax`, running sums, `tf.range`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import rank, reshape, shape, zeros, zeros_like
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.math_ops import cast
from headrace.api.renamed_argument import renamed
from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import add_constant, convert_to_tensor
from headrace.graph.default import get_default_graph
from headrace.graph.tensor import Tensor

_RANKS = [np.arange(n, dtype=np.int32) for n in range(16)]


def _all_axes(x: Any) -> Any:
    """A vector of all axes of x: a constant where it is a tensor of known rank."""
    if x.__class__ is Tensor and x._dims is not None:
        known = len(x._dims)
        axes = _RANKS[known] if known < len(_RANKS) else np.arange(known, dtype=np.int32)
        return add_constant(get_default_graph(), axes, dtypes.int32, "Const")
    return range(0, rank(x))


def _reduce(op_type: str, x: Any, axis: Any, keepdims: Any, name: str | None) -> Tensor:
    keepdims = bool(keepdims)
    axes = _all_axes(x) if axis is None else axis
    out = getattr(raw, op_type)(x, axes, keep_dims=keepdims, name=name)
    if axis is None and not keepdims and out._dims != ():
        out.set_shape(())
    return out


def _export_reduction(name: str, op_type: str, sentence: str) -> Any:
    def reduce(
        input_tensor: Any,
        axis: Any = None,
        keepdims: Any = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: Any = None,
    ) -> Tensor:
        axis = renamed("axis", axis, "reduction_indices", reduction_indices)
        keepdims = renamed("keepdims", keepdims, "keep_dims", keep_dims)
        return _reduce(op_type, input_tensor, axis, keepdims, name)

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = (
        f"{sentence}\n\n"
        "axis: an integer or a vector of them, negative ones counted from the end; all axes where None.\n"
        "keepdims: keep the reduced axes with size 1. reduction_indices, keep_dims: older names of these.\n"
        "Raises ValueError: an axis outside the rank, or an argument given under both names."
    )
    return export(name, f"math.{name}")(reduce)


reduce_sum = _export_reduction("reduce_sum", "Sum", "The sum over axes.")
reduce_mean = _export_reduction(
    "reduce_mean", "Mean", "The mean over axes, in the type of the input."
)
reduce_prod = _export_reduction("reduce_prod", "Prod", "The product over axes.")
reduce_max = _export_reduction("reduce_max", "Max", "The greatest element over axes.")
reduce_min = _export_reduction("reduce_min", "Min", "The least element over axes.")
reduce_all = _export_reduction("reduce_all", "All", "Whether all are true, over axes.")
reduce_any = _export_reduction("reduce_any", "Any", "Whether any is true, over axes.")


@export("reduce_logsumexp", "math.reduce_logsumexp")
def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor:
    """log(sum(exp(x))) over axes, computed so that nothing overflows. Arguments as of `reduce_sum`."""
    axis = renamed("axis", axis, "reduction_indices", reduction_indices)
    keepdims = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    x = convert_to_tensor(input_tensor)
    with name_scope(name, "ReduceLogSumExp", [x]):
        greatest = reduce_max(x, axis, keepdims=True)
        finite = raw.Select(raw.IsFinite(greatest), greatest, zeros_like(greatest))
        offset = raw.StopGradient(finite)
        total = raw.Log(reduce_sum(raw.Exp(raw.Sub(x, offset)), axis, keepdims=keepdims))
        if not keepdims:
            offset = reshape(offset, shape(total))
        out = raw.Add(total, offset)
        if axis is None and not keepdims:
            out.set_shape(())
        return out


@export("math.reduce_euclidean_norm")
def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: Any = False, name: str | None = None
) -> Tensor:
    """The root of the sum of squares over axes."""
    return _reduce("EuclideanNorm", input_tensor, axis, keepdims, name)


@export("math.reduce_variance")
def reduce_variance(
    input_tensor: Any, axis: Any = None, keepdims: Any = False, name: str | None = None
) -> Tensor:
    """The mean of the squared distances from the mean, over axes."""
    with name_scope(name or "reduce_variance"):
        input_tensor = convert_to_tensor(input_tensor)
        means = reduce_mean(input_tensor, axis, keepdims=True)
        return reduce_mean(raw.Square(input_tensor - means), axis, keepdims=keepdims)


@export("math.reduce_std")
def reduce_std(
    input_tensor: Any, axis: Any = None, keepdims: Any = False, name: str | None = None
) -> Tensor:
    """The root of `reduce_variance`."""
    with name_scope(name or "reduce_std"):
        return raw.Sqrt(reduce_variance(input_tensor, axis, keepdims))


@export("count_nonzero", "math.count_nonzero")
def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: Any = None,
    dtype: Any = dtypes.int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
    input: Any = None,
) -> Tensor:
    """How many elements are not zero (strings: not empty), over axes, as `dtype`."""
    keepdims = renamed("keepdims", keepdims, "keep_dims", keep_dims)
    x = renamed("input", input, "input_tensor", input_tensor)
    axis = renamed("axis", axis, "reduction_indices", reduction_indices)
    with name_scope(name, "count_nonzero", [x]):
        x = convert_to_tensor(x, name="input")
        zero = zeros([], x.dtype.base_dtype)
        hits = cast(raw.NotEqual(x, zero), dtypes.int64)
        return cast(reduce_sum(hits, axis, keepdims=keepdims), dtype)


# ---- Positions of extremes


def _arg_extreme(op_type: str, x: Any, axis: Any, output_type: Any, name: str | None) -> Tensor:
    return getattr(raw, op_type)(x, 0 if axis is None else axis, output_type=output_type, name=name)


@export("argmax", "math.argmax")
def argmax(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Tensor:
    """The position of the greatest element along `axis` (0 where None), the first of equals, as int64 or int32."""
    return _arg_extreme(
        "ArgMax", input, renamed("axis", axis, "dimension", dimension), output_type, name
    )


@export("argmin", "math.argmin")
def argmin(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = dtypes.int64,
) -> Tensor:
    """The position of the least element along `axis` (0 where None), the first of equals, as int64 or int32."""
    return _arg_extreme(
        "ArgMin", input, renamed("axis", axis, "dimension", dimension), output_type, name
    )


@export("arg_max")
def arg_max(
    input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None
) -> Tensor:
    """The older form of `argmax`."""
    return raw.ArgMax(input, dimension, output_type=output_type, name=name)


@export("arg_min")
def arg_min(
    input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None
) -> Tensor:
    """The older form of `argmin`."""
    return raw.ArgMin(input, dimension, output_type=output_type, name=name)


# ---- Running sums and products


@export("cumsum", "math.cumsum")
def cumsum(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """The sums of the first elements along `axis`. exclusive: without the element itself. reverse: from the end."""
    return raw.Cumsum(x, axis, exclusive=exclusive, reverse=reverse, name=name)


@export("cumprod", "math.cumprod")
def cumprod(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """The products of the first elements along `axis`. Arguments as of `cumsum`."""
    return raw.Cumprod(x, axis, exclusive=exclusive, reverse=reverse, name=name)


@export("math.cumulative_logsumexp")
def cumulative_logsumexp(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """log(cumsum(exp(x))), computed so that nothing overflows. Arguments as of `cumsum`."""
    return raw.CumulativeLogsumexp(x, axis, exclusive=exclusive, reverse=reverse, name=name)


# ---- Sequences

_RANGE_TYPES = (dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64)


@export("range")
def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = "range"
) -> Tensor:
    """The numbers from `start` (0 where only one bound is given) up to and without `limit`, in steps of `delta`.

    dtype: the widest of the arguments' types (int32, int64, float32, float64) where None.
    """
    if limit is None:
        start, limit = 0, start
    with name_scope(name, "Range", [start, limit, delta]) as scope:
        values = [
            convert_to_tensor(v, dtype, name=n)
            for v, n in ((start, "start"), (limit, "limit"), (delta, "delta"))
        ]
        if dtype is None:
            kinds = [v._dtype.base_dtype for v in values]
            if not all(k in _RANGE_TYPES for k in kinds):
                raise AssertionError(
                    f"range takes int32, int64, float32 or float64, got {[k.name for k in kinds]}"
                )
            widest = max(kinds, key=_RANGE_TYPES.index)
            values = [cast(v, widest) for v in values]
        return raw.Range(*values, name=scope)
