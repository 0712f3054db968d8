"""Sequences of numbers: Range, LinSpace."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import shapes
from headrace.graph.op_def import define

# ---- Range

range_ = define(
    "Range",
    "start: Tidx, limit: Tidx, delta: Tidx -> output: Tidx",
    "Tidx: {bfloat16, float, double, int32, int64} = int32",
    static_inputs=("start", "limit", "delta"),
)


@range_.shape
def _range_shape(op, *scalars):
    for dims, name in zip(scalars, ("start", "limit", "delta"), strict=True):
        shapes.with_rank(op, dims, 0, name)
    values = [op.static(i) for i in range(3)]
    if any(v is None for v in values):
        return (None,)
    return (_range_size(op, *values, op.error),)


def _range_size(op, start, limit, delta, error):
    start, limit, delta = (
        v.item() if v.dtype.kind in "iu" else v.astype(v.dtype)[()] for v in (start, limit, delta)
    )
    if delta == 0:
        raise error(f"Requires delta != 0: {delta}")
    if delta > 0 and start > limit:
        raise error(f"Requires start <= limit when delta > 0: {start}/{limit}")
    if delta < 0 and start < limit:
        raise error(f"Requires start >= limit when delta < 0: {start}/{limit}")
    if isinstance(start, int):
        return -((start - limit) // delta) if delta > 0 else -((limit - start) // -delta)
    return int(np.ceil(abs((limit - start) / delta)))


@range_.lower
def _range_lower(op, start: np.ndarray, limit: np.ndarray, delta: np.ndarray):
    size = _range_size(op, start, limit, delta, op.invalid)
    if start.dtype.kind in "iu" and size > _LITERAL_ELEMENTS:
        return lax.iota(start.dtype, size) * delta + start
    return _range_host(op, start, limit, delta)


# Longer ranges are computed in the program instead of being a part of its text.
_LITERAL_ELEMENTS = 1024


@range_.host
def _range_host(op, start: np.ndarray, limit: np.ndarray, delta: np.ndarray):
    size = _range_size(op, start, limit, delta, op.invalid)
    kind = start.dtype
    if kind.kind in "iu":
        return (np.arange(size, dtype=np.int64) * int(delta) + int(start)).astype(kind)
    # TF adds delta again and again, in the type itself.
    steps = np.full(size, delta, kind)
    if size:
        steps[0] = start
    return np.add.accumulate(steps, dtype=kind)


range_.not_differentiable()

# ---- LinSpace

lin_space = define(
    "LinSpace",
    "start: T, stop: T, num: Tidx -> output: T",
    "T: {bfloat16, float, double}, Tidx: {int32, int64} = int32",
    static_inputs=("num",),
)


@lin_space.shape
def _lin_space_shape(op, start, stop, num):
    for dims, name in zip((start, stop, num), ("start", "stop", "num"), strict=True):
        shapes.with_rank(op, dims, 0, name)
    count = op.static(2)
    if count is None:
        return (None,)
    if count <= 0:
        raise op.error(f"Requires num > 0: {count}")
    return (int(count),)


@lin_space.lower
@lin_space.host
def _lin_space_host(op, start, stop, num: np.ndarray):
    if num <= 0:
        raise op.invalid(f"Requires num > 0: {num}")
    count, kind = int(num), np.dtype(start.dtype)
    places = np.arange(count).astype(kind)
    if count == 1:
        return start.reshape((1,))
    step = (stop - start) / np.asarray(count - 1, kind)
    values = start + step * places
    # The last value is `stop` itself, whatever rounding made of it.
    last = np.arange(count) == count - 1
    if isinstance(values, np.ndarray) and isinstance(stop, np.ndarray):
        return np.where(last, stop, values).astype(kind)
    return jnp.where(last, stop, values)


lin_space.not_differentiable()
