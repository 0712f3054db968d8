"""Which rows, and rows by number: Where, Unique, ListDiff, DynamicPartition, DynamicStitch, OneHot.

The shapes of most outputs depend on values, so these run on the host unless their inputs are known. A Unique
whose users do
not mind padding (`op_def.PADDED`) may run in a program.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.graph.tensor import Dims
from headrace.lowering.index_checks import padding_row
from headrace.ops.reshape import is_static

# ---- Where

where = define(
    "Where",
    "input: T -> index: int64",
    "T: {float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, "
    "complex128, half, uint32, uint64, bool} = bool",
    dynamic_shape=True,
)


@where.shape
def _where_shape(op, x) -> Dims:
    return (None, None if x is None else len(x))


@where.host
@where.lower
def _where_lower(op, x):
    return np.argwhere(x).astype(np.int64).reshape(-1, x.ndim)


where.not_differentiable()

# ---- Unique, UniqueV2, UniqueWithCounts, UniqueWithCountsV2: in the order of first appearance


def _unique(op, x, axis: int | None, counts: bool):
    kind = op.output_dtype(1).np_dtype
    if axis is None:
        if x.ndim != 1:
            raise op.invalid(f"unique expects a 1D vector, got shape {shapes.brackets(x.shape)}.")
        keys = x
    elif not -x.ndim <= axis < x.ndim:
        raise op.invalid(f"axis expects to be in the range [{-x.ndim}, {x.ndim}), got {axis}")
    else:
        keys = np.moveaxis(x, axis, 0)
    first: dict = {}
    index = np.empty(len(keys), kind)
    places = []
    items = (
        keys.tolist()
        if keys.ndim == 1
        else [row.tobytes() if x.dtype != object else tuple(row.reshape(-1)) for row in keys]
    )
    for i, item in enumerate(items):
        number = first.get(item)
        if number is None:
            number = first[item] = len(places)
            places.append(i)
        index[i] = number
    found = keys[np.array(places, np.int64)]
    values = found if axis is None else np.moveaxis(found, 0, axis)
    if counts:
        return values, index, np.bincount(index, minlength=len(places)).astype(kind)
    return values, index


def _padded_unique(op, x):
    """For row numbers: the different ones, sorted, then padding up to the length of x; and the place of each among them."""
    if x.ndim != 1:
        raise op.invalid(f"unique expects a 1D vector, got shape {shapes.brackets(x.shape)}.")
    kind = op.output_dtype(1).np_dtype
    if not x.size:
        return x, jnp.zeros(0, kind)
    order = jnp.argsort(x)
    ordered = x[order]
    is_new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    number = jnp.cumsum(is_new, dtype=kind) - np.ones((), kind)
    values = jnp.full(x.shape, padding_row(x.dtype), x.dtype).at[number].set(ordered)
    index = jnp.zeros(x.shape, kind).at[order].set(number, unique_indices=True)
    return values, index


def _define_unique(name: str, has_axis: bool, counts: bool) -> OpDef:
    definition = define(
        name,
        f"x: T{', axis: Taxis' if has_axis else ''} -> y: T, idx: out_idx{', count: out_idx' if counts else ''}",
        f"T: type, {'Taxis: {int32, int64} = int64, ' if has_axis else ''}out_idx: {{int32, int64}} = int32",
        dynamic_shape=True,
    )

    @definition.shape
    def _unique_shape(op, x, axis=None) -> list[Dims]:
        more = [(None,)] if counts else []
        if not has_axis:
            x = shapes.with_rank(op, x, 1, "x")
            return [(None,), x, *more]
        axes = op.static(1)
        if axes is None or x is None:
            return [None, (None,), *more]
        if axes.size == 0:
            x = shapes.with_rank(op, x, 1, "x")
            return [(None,), x, *more]
        at = shapes.axis_in_rank(op, int(axes.reshape(-1)[0]), len(x))
        return [(*x[:at], None, *x[at + 1 :]), (x[at],), *more]

    @definition.host
    @definition.lower
    def _unique_lower(op, x, axis=None):
        if axis is not None and axis.size > 1:
            raise op.invalid(
                f"axis does not support input tensors larger than 1 elements, got {axis.size}"
            )
        if not is_static(x):
            return _padded_unique(op, x)
        at = None if axis is None or not axis.size else int(axis.reshape(-1)[0])
        return _unique(op, x, at, counts)

    return definition.not_differentiable()


unique = _define_unique("Unique", False, False)
unique_v2 = _define_unique("UniqueV2", True, False)
unique_with_counts = _define_unique("UniqueWithCounts", False, True)
unique_with_counts_v2 = _define_unique("UniqueWithCountsV2", True, True)

# ---- ListDiff

list_diff = define(
    "ListDiff",
    "x: T, y: T -> out: T, idx: out_idx",
    "T: type, out_idx: {int32, int64} = int32",
    dynamic_shape=True,
)


@list_diff.shape
def _list_diff_shape(op, x, y) -> list[Dims]:
    shapes.with_rank(op, x, 1, "x")
    shapes.with_rank(op, y, 1, "y")
    return [(None,), (None,)]


@list_diff.host
@list_diff.lower
def _list_diff_lower(op, x, y):
    for value, word in ((x, "x"), (y, "y")):
        if value.ndim != 1:
            raise op.invalid(f"{word} should be a 1D vector.")
    gone = set(y.tolist())
    kept = np.array([i for i, v in enumerate(x.tolist()) if v not in gone], np.int64)
    return x[kept], kept.astype(op.output_dtype(1).np_dtype)


list_diff.not_differentiable()

# ---- DynamicPartition

dynamic_partition = define(
    "DynamicPartition",
    "data: T, partitions: int32 -> outputs: num_partitions*T",
    "num_partitions: int >= 1, T: type",
    dynamic_shape=True,
    effects=Effect.FALLIBLE,
    checked_inputs=("partitions",),
)


@dynamic_partition.shape
def _dynamic_partition_shape(op, data, partitions) -> list[Dims]:
    count = op.attr("num_partitions")
    if data is None or partitions is None:
        return [None] * count
    rank = len(partitions)
    if len(data) < rank:
        raise op.error(
            f"data.shape must start with partitions.shape: {shapes.text(data)} and {shapes.text(partitions)}."
        )
    shapes.merge(op, data[:rank], partitions, "data.shape must start with partitions.shape")
    return [(None, *data[rank:])] * count


@dynamic_partition.host
@dynamic_partition.lower
def _dynamic_partition_lower(op, data, partitions):
    count, rank = op.attr("num_partitions"), partitions.ndim
    if data.shape[:rank] != partitions.shape:
        raise op.invalid(
            "data.shape must start with partitions.shape, got data.shape = "
            f"{shapes.brackets(data.shape)}, partitions.shape = {shapes.brackets(partitions.shape)}"
        )
    numbers = partitions.reshape(-1)
    bad = np.flatnonzero((numbers < 0) | (numbers >= count))
    if len(bad):
        place = ",".join(map(str, np.unravel_index(bad[0], partitions.shape)))
        raise op.invalid(
            f"partitions{f'[{place}]' if rank else ''} = {numbers[bad[0]]} is not in [0, {count})"
        )
    rows = data.reshape((numbers.size, *data.shape[rank:]))
    return tuple(rows[numbers == i] for i in range(count))


@dynamic_partition.gradient
def _dynamic_partition_gradient(op, *grads):
    """Every row back to where it came from."""
    data, partitions = op.inputs
    prefix = raw.Shape(partitions)
    numbers = raw.Reshape(raw.Range(0, raw.Prod(prefix, np.array([0], np.int32)), 1), prefix)
    parts = raw.DynamicPartition(numbers, partitions, num_partitions=op.attr("num_partitions"))
    merged = raw.DynamicStitch(parts, list(grads))
    return raw.Reshape(merged, raw.Shape(data)), None


# ---- DynamicStitch, ParallelDynamicStitch


def _stitch_shape(op, indices, data) -> Dims:
    rest: Dims = None
    for i, d in zip(indices, data, strict=True):
        if i is None or d is None:
            continue
        if len(d) < len(i):
            raise op.error(
                f"data shape {shapes.text(d)} must start with the indices shape {shapes.text(i)}."
            )
        shapes.merge(op, d[: len(i)], i, "data[i].shape must start with indices[i].shape")
        rest = shapes.merge(op, rest, d[len(i) :], "what follows the indices in the shapes of data")
    if rest is None:
        return None
    highest: int | None = -1
    for k in range(len(indices)):
        value = op.static(k)
        if value is None:
            highest = None
            break
        highest = max(highest, int(value.max()) if value.size else -1)  # type: ignore[type-var]
    return (None if highest is None else highest + 1, *rest)


def _stitch(op, indices, data):
    rest = None
    for i, (numbers, rows) in enumerate(zip(indices, data, strict=True)):
        if rows.shape[: numbers.ndim] != numbers.shape:
            raise op.invalid(
                f"data[{i}].shape = {shapes.brackets(rows.shape)} does not start with "
                f"indices[{i}].shape = {shapes.brackets(numbers.shape)}"
            )
        tail = rows.shape[numbers.ndim :]
        if rest is not None and tail != rest:
            raise op.invalid(
                f"Need data[0].shape[{indices[0].ndim}:] = data[{i}].shape[{numbers.ndim}:]"
            )
        rest = tail
    flat = np.concatenate([n.reshape(-1) for n in indices])
    if (flat < 0).any():
        raise op.invalid(f"indices[{int(np.argmax(flat < 0))}] = {flat.min()} is out of range")
    size = int(flat.max()) + 1 if flat.size else 0
    tables = [rows.reshape((n.size, *rest)) for n, rows in zip(indices, data, strict=True)]  # type: ignore[misc]
    if all(map(is_static, data)):
        merged = np.full((size, *rest), b"" if data[0].dtype == object else 0, data[0].dtype)  # type: ignore[misc]
        merged[flat] = np.concatenate(tables)
        return merged
    # The last row for each number wins, so each is gathered from its last place.
    last = np.full(size, -1)
    last[flat] = np.arange(len(flat))
    rows = jnp.concatenate([jnp.asarray(t) for t in tables])
    if not size:
        return rows[:0]
    taken = jnp.take(rows, np.maximum(last, 0), axis=0, mode="clip")
    if (last >= 0).all():
        return taken
    there = (last >= 0).reshape((-1,) + (1,) * len(rest))  # type: ignore[arg-type]
    return jnp.where(there, taken, jnp.zeros((), taken.dtype))


def _stitch_gradient(op, dy):
    count = op.attr("N")
    return [None] * count + [raw.GatherV2(dy, i, 0) for i in op.inputs[:count]]


def _define_stitch(name: str) -> OpDef:
    definition = define(
        name, "indices: N*int32, data: N*T -> merged: T", "N: int >= 1, T: type", dynamic_shape=True
    )
    definition.shape(_stitch_shape)
    definition.host(_stitch)
    definition.lower(_stitch)
    definition.gradient(_stitch_gradient)
    return definition


dynamic_stitch = _define_stitch("DynamicStitch")
parallel_dynamic_stitch = _define_stitch("ParallelDynamicStitch")

# ---- OneHot

one_hot = define(
    "OneHot",
    "indices: TI, depth: int32, on_value: T, off_value: T -> output: T",
    "axis: int = -1, T: type, TI: {uint8, int32, int64} = int64",
    static_inputs=("depth",),
)


@one_hot.shape
def _one_hot_shape(op, indices, depth, on_value, off_value) -> Dims:
    for dims, what in ((depth, "depth"), (on_value, "on_value"), (off_value, "off_value")):
        shapes.with_rank(op, dims, 0, what)
    axis = op.attr("axis")
    if axis < -1:
        raise op.error(f"axis must be >= -1, got {axis}.")
    size = op.static(1)
    if size is not None and size < 0:
        raise op.error(f"depth must be non-negative, got: {size}.")
    if indices is None:
        return None
    if axis > len(indices):
        raise op.error(f"axis {axis} is out of range for indices of shape {shapes.text(indices)}.")
    at = len(indices) if axis == -1 else axis
    return (*indices[:at], None if size is None else int(size), *indices[at:])


@one_hot.host
@one_hot.lower
def _one_hot_lower(op, indices, depth: np.ndarray, on_value, off_value):
    axis, rank = op.attr("axis"), len(indices.shape)
    if depth.ndim or depth < 0:
        raise op.invalid(f"depth must be a non-negative scalar, got: {depth}")
    at = rank if axis == -1 else axis
    across = [1] * (rank + 1)
    across[at] = int(depth)
    xp = np if all(map(is_static, (indices, on_value, off_value))) else jnp
    # In the type of the indices, so that uint8 and int64 compare as they are.
    classes = np.arange(int(depth)).reshape(across)
    chosen = xp.expand_dims(indices, at) == (
        classes if indices.dtype.itemsize > 1 else classes.astype(np.int32)
    )
    return xp.where(chosen, on_value, off_value).astype(op.output_dtype().np_dtype)


one_hot.not_differentiable()
