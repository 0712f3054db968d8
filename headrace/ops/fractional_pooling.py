"""Pooling by a factor that is not a whole number: regions of two sizes, in random order (arxiv.org/abs/1412.6071).

The regions are drawn on the host, anew in each run unless `deterministic` is set, and so is the rest: NumPy does it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.lowering import philox

_TYPES = "T: {float, double, int32, int64}"
_ATTRS = (
    "pooling_ratio: list(float) >= 4, pseudo_random: bool = false, overlapping: bool = false, "
    f"deterministic: bool = false, seed: int = 0, seed2: int = 0, {_TYPES}"
)


class _Words:
    """The 32-bit words of a Philox stream, taken in blocks of four as TensorFlow reserves them."""

    def __init__(self, seed: int, seed2: int) -> None:
        self._state = philox.initial_state(seed, seed2)
        self._block = 0

    def take(self, count: int) -> list[int]:
        """The next `count` words, from the start of a block."""
        blocks = -(-count // 4)
        numbers = np.arange(self._block, self._block + blocks, dtype=np.uint64)
        self._block += blocks
        words = np.stack(philox.words_at(self._state, numbers), axis=1)
        return [int(w) for w in words.reshape(-1)[:count]]


def _region_sizes(size: int, regions: int, words: _Words, pseudo_random: bool) -> np.ndarray:
    """`regions` sizes, each size // regions or one more, whose sum is `size`."""
    k = size // regions
    if pseudo_random:
        # a_i = ceil(alpha (i + u)) with a u small enough that no region at either end has another size.
        alpha = size / regions
        most = min((k + 2) / alpha - 1, (size + 1 - k) / alpha - (regions - 1))
        high, low = words.take(2)
        u = (((high & 0xFFFFF) << 32) | low) / 2.0**52 * most
        ends = [1, *(math.ceil(alpha * (i + u)) for i in range(1, regions)), size + 1]
        return np.diff(ends)
    sizes = [k + 1] * (size % regions) + [k] * (regions - size % regions)
    random = words.take(regions)
    for i in range(regions - 1):
        j = i + random[i] % (regions - i)
        sizes[i], sizes[j] = sizes[j], sizes[i]
    return np.array(sizes)


def _borders(size: int, regions: int, words: _Words, pseudo_random: bool) -> np.ndarray:
    sizes = _region_sizes(size, regions, words, pseudo_random)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _regions(op, rows, columns, height: int, width: int) -> Iterator[tuple[int, int, slice, slice]]:
    """For each place its row, its column, and the rows and columns of its region."""
    for name, borders, size in (("Row", rows, height), ("Column", columns, width)):
        if (borders < 0).any() or (borders[:-1] >= size).any():
            what = "not be negative" if (borders < 0).any() else f"be smaller than the size {size}"
            raise op.invalid(f"{name} sequence tensor values must {what}, got {borders}")
    more = 1 if op.attr("overlapping") else 0
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            yield (
                i,
                j,
                slice(int(rows[i]), min(int(rows[i + 1]) + more, height)),
                slice(int(columns[j]), min(int(columns[j + 1]) + more, width)),
            )


def _output_sizes(op, x) -> list[int | None]:
    return [
        None if size is None else math.floor(size / ratio)
        for size, ratio in zip(x, op.attr("pooling_ratio"), strict=True)
    ]


def _check_ratios(op) -> None:
    ratios = op.attr("pooling_ratio")
    if len(ratios) != 4:
        raise op.error(f"pooling_ratio field must specify 4 dimensions, got {ratios}.")
    for ratio in ratios:
        if ratio < 1:
            raise op.error(f"pooling_ratio cannot be smaller than 1, got: {ratio}.")


def _define_pool(name: str, reduce) -> OpDef:
    """Defines the op that applies `reduce` to each region."""
    forward = define(
        name,
        "value: T -> output: T, row_pooling_sequence: int64, col_pooling_sequence: int64",
        _ATTRS,
        host_only=True,
    )

    @forward.shape
    def _fractional_shape(op, x):
        _check_ratios(op)
        x = shapes.with_rank(op, x, 4, "value")
        y = _output_sizes(op, x)
        borders = [(None if size is None else size + 1,) for size in y[1:3]]
        return [tuple(y), *borders]

    @forward.host
    def _fractional_host(op, x):
        ratios = op.attr("pooling_ratio")
        for i, (size, ratio) in enumerate(zip(x.shape, ratios, strict=True)):
            if size < ratio:
                raise op.invalid(
                    f"Pooling ratio is higher than input dimension size for dimension {i}. Input dim size: {size} "
                    f"pooling ratio: {ratio}"
                )
        if not op.attr("deterministic") and (op.attr("seed") or op.attr("seed2")):
            raise op.invalid("Both seed and seed2 should be 0 if deterministic is false.")
        words = _Words(op.attr("seed"), op.attr("seed2"))
        places = _output_sizes(op, x.shape)
        rows = _borders(x.shape[1], places[1], words, op.attr("pseudo_random"))
        columns = _borders(x.shape[2], places[2], words, op.attr("pseudo_random"))
        y = np.empty((x.shape[0], places[1], places[2], x.shape[3]), x.dtype)
        for i, j, height, width in _regions(op, rows, columns, x.shape[1], x.shape[2]):
            y[:, i, j] = reduce(x[:, height, width])
        return y, rows, columns

    return forward


def _mean(region: np.ndarray) -> np.ndarray:
    total = region.sum(axis=(1, 2), dtype=region.dtype)
    count = region.shape[1] * region.shape[2]
    return np.trunc(total / count) if region.dtype.kind == "i" else total / count


# ---- FractionalMaxPool, FractionalMaxPoolGrad

fractional_max_pool = _define_pool("FractionalMaxPool", lambda region: region.max(axis=(1, 2)))


@fractional_max_pool.gradient
def _fractional_max_pool_gradient(op, dy, *unused):
    y, rows, columns = op.outputs
    return raw.FractionalMaxPoolGrad(
        op.inputs[0], y, dy, rows, columns, overlapping=op.attr("overlapping")
    )


fractional_max_pool_grad = define(
    "FractionalMaxPoolGrad",
    "orig_input: T, orig_output: T, out_backprop: T, row_pooling_sequence: int64, col_pooling_sequence: int64 "
    "-> output: T",
    f"overlapping: bool = false, {_TYPES}",
    host_only=True,
)


@fractional_max_pool_grad.shape
def _fractional_max_pool_grad_shape(op, x, *others):
    return shapes.with_rank(op, x, 4, "orig_input")


@fractional_max_pool_grad.host
def _fractional_max_pool_grad_host(op, x, y, dy, rows, columns):
    dx = np.zeros(x.shape, x.dtype)
    batch, channel = np.ogrid[: x.shape[0], : x.shape[3]]
    for i, j, height, width in _regions(op, rows, columns, x.shape[1], x.shape[2]):
        region = x[:, height, width]
        first = region.reshape(x.shape[0], -1, x.shape[3]).argmax(axis=1)
        down, right = np.divmod(first, region.shape[2])
        dx[batch, height.start + down, width.start + right, channel] += dy[:, i, j]
    return dx


fractional_max_pool_grad.not_differentiable()

# ---- FractionalAvgPool, FractionalAvgPoolGrad

fractional_avg_pool = _define_pool("FractionalAvgPool", _mean)


@fractional_avg_pool.gradient
def _fractional_avg_pool_gradient(op, dy, *unused):
    shape_of_x = raw.Shape(op.inputs[0], out_type="int64")
    return raw.FractionalAvgPoolGrad(
        shape_of_x, dy, op.outputs[1], op.outputs[2], overlapping=op.attr("overlapping")
    )


fractional_avg_pool_grad = define(
    "FractionalAvgPoolGrad",
    "orig_input_tensor_shape: int64, out_backprop: T, row_pooling_sequence: int64, col_pooling_sequence: int64 "
    "-> output: T",
    f"overlapping: bool = false, {_TYPES}",
    static_inputs=("orig_input_tensor_shape",),
    host_only=True,
)


@fractional_avg_pool_grad.shape
def _fractional_avg_pool_grad_shape(op, sizes, dy, rows, columns):
    return shapes.with_rank(op, shapes.sizes_of(op, 0), 4, "the shape of the input")


@fractional_avg_pool_grad.host
def _fractional_avg_pool_grad_host(op, sizes, dy, rows, columns):
    dx = np.zeros(tuple(int(s) for s in sizes), np.float64)
    for i, j, height, width in _regions(op, rows, columns, dx.shape[1], dx.shape[2]):
        count = (height.stop - height.start) * (width.stop - width.start)
        dx[:, height, width] += (dy[:, i, j] / count)[:, None, None, :]
    return dx.astype(dy.dtype)


fractional_avg_pool_grad.not_differentiable()
