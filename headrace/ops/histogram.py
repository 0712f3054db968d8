"""Counts of values: Bincount, HistogramFixedWidth."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks

# ---- Bincount

bincount = define(
    "Bincount",
    "arr: int32, size: int32, weights: T -> bins: T",
    "T: {int32, int64, float, double}",
    static_inputs=("size",),
    effects=Effect.FALLIBLE,
)


@bincount.shape
def _bincount_shape(op, arr, size, weights):
    shapes.with_rank(op, size, 0, "size")
    count = op.static(1)
    if count is not None and count < 0:
        raise op.error(f"size ({count}) must be non-negative")
    return (None if count is None else int(count),)


@bincount.lower
def _bincount_lower(op, arr, size: np.ndarray, weights):
    arr = arr.reshape(-1)
    checks.fail_if(op, (arr < 0).any(), "Input arr must be non-negative!")
    kind = op.output_dtype(0).np_dtype
    steps = weights.reshape(-1) if weights.size else np.ones((), kind)
    return jnp.zeros(int(size), kind).at[arr].add(steps, mode="drop")


@bincount.host
def _bincount_host(op, arr, size: np.ndarray, weights):
    if size < 0:
        raise op.invalid(f"size ({size}) must be non-negative")
    if weights.size and weights.shape != arr.shape:
        raise op.invalid(
            f"Input weights must be the same shape as arr or empty: {arr.shape} vs. {weights.shape}"
        )
    arr = arr.reshape(-1)
    if arr.size and arr.min() < 0:
        raise op.invalid("Input arr must be non-negative!")
    kind = op.output_dtype(0).np_dtype
    kept = arr < size
    out = np.zeros(int(size), kind)
    np.add.at(out, arr[kept], weights.reshape(-1)[kept] if weights.size else np.ones((), kind))
    return out


bincount.not_differentiable()

# ---- HistogramFixedWidth

histogram_fixed_width = define(
    "HistogramFixedWidth",
    "values: T, value_range: T, nbins: int32 -> out: dtype",
    "T: {int32, int64, float, double}, dtype: {int32, int64} = int32",
    static_inputs=("nbins",),
    effects=Effect.FALLIBLE,
)


@histogram_fixed_width.shape
def _histogram_shape(op, values, value_range, nbins):
    (count,) = shapes.with_rank(op, value_range, 1, "value_range")
    if count not in (2, None):
        raise op.error(f"Dimension must be 2 but is {count}: value_range.")
    shapes.with_rank(op, nbins, 0, "nbins")
    count = op.static(2)
    if count is not None and count <= 0:
        raise op.error(f"Requires nbins > 0: {count}")
    return (None if count is None else int(count),)


def _bins_of(op, values, value_range, nbins, namespace):
    """The bin of each value; what lies outside the range counts in the first or last bin."""
    low = value_range[0].astype(np.float64)
    step = (value_range[1].astype(np.float64) - low) / int(nbins)
    places = namespace.floor((values.reshape(-1).astype(np.float64) - low) / step)
    return namespace.clip(places, 0, int(nbins) - 1).astype(np.int32)


@histogram_fixed_width.lower
def _histogram_lower(op, values, value_range, nbins: np.ndarray):
    checks.fail_if(
        op,
        value_range[0] >= value_range[1],
        "value_range should satisfy value_range[0] < value_range[1]",
    )
    zeros = jnp.zeros(int(nbins), op.output_dtype(0).np_dtype)
    return zeros.at[_bins_of(op, values, value_range, nbins, jnp)].add(1)


@histogram_fixed_width.host
def _histogram_host(op, values, value_range, nbins: np.ndarray):
    if nbins <= 0:
        raise op.invalid(f"nbins should be a positive number, but got '{nbins}'")
    if not value_range[0] < value_range[1]:
        raise op.invalid(
            "value_range should satisfy value_range[0] < value_range[1], but got "
            f"'[{value_range[0]}, {value_range[1]}]'"
        )
    bins = _bins_of(op, values, value_range, nbins, np)
    return np.bincount(bins, minlength=int(nbins)).astype(op.output_dtype(0).np_dtype)


histogram_fixed_width.not_differentiable()
