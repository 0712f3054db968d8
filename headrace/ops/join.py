"""Several tensors to one and back: Concat, Pack, Unpack."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.constant_value import constant_value, partial_size, partial_sizes
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import define
from headrace.graph.tensor import Dims
from headrace.ops.reshape import is_static

# ---- Concat, ConcatV2


def _concat_dims(op, axis_index: int, values: list[Dims]) -> Dims:
    axis = op.static(axis_index)
    ranks = {len(v) for v in values if v is not None}
    if not ranks:
        return None
    if 0 in ranks:
        raise op.error("Can't concatenate scalars (use tf.stack instead).")
    rank = max(ranks)
    for v in values:
        # Scalars were once taken for vectors; here they are refused as TensorFlow's kernel does.
        shapes.with_rank(op, v, rank, "an input")
    if axis is None:
        return (None,) * rank
    if axis.ndim:
        raise op.error(f"axis must be a scalar, got shape {axis.shape}.")
    at = shapes.axis_in_rank(op, int(axis), rank, "concat axis")
    total: int | None = 0
    rest: Dims = None
    for v in values:
        dims = (None,) * rank if v is None else v
        total = None if total is None or dims[at] is None else total + dims[at]
        rest = shapes.merge(
            op, rest, (*dims[:at], None, *dims[at + 1 :]), "inputs without the axis"
        )
    return (*rest[:at], total, *rest[at + 1 :])  # type: ignore[index]


def _concatenate(op, values, axis):
    ranks = [len(v.shape) for v in values]
    rank = ranks[0]
    if axis.size != 1 or axis.ndim > 1:
        raise op.invalid(
            f"ConcatOp : Concat dim tensor should be a scalar, but got shape {shapes.brackets(axis.shape)}"
        )
    at = int(axis.reshape(()))
    if not -rank <= at < rank:
        raise op.invalid(
            f"ConcatOp : Expected concatenating dimensions in the range [{-rank}, {rank}), but got {at}"
        )
    at %= rank
    for i, v in enumerate(values):
        if len(v.shape) != rank:
            raise op.invalid(
                "ConcatOp : Ranks of all input tensors should match: shape[0] = "
                f"{shapes.brackets(values[0].shape)} vs. shape[{i}] = "
                f"{shapes.brackets(v.shape)}"
            )
        if any(
            a != b for d, (a, b) in enumerate(zip(values[0].shape, v.shape, strict=True)) if d != at
        ):
            raise op.invalid(
                "ConcatOp : Dimensions of inputs should match: shape[0] = "
                f"{shapes.brackets(values[0].shape)} vs. shape[{i}] = "
                f"{shapes.brackets(v.shape)}"
            )
    if all(map(is_static, values)):
        return np.concatenate(values, at)
    return lax.concatenate([jnp.asarray(v) for v in values], at)


def _concat_gradient(op, dy, values, axis):
    """One gradient for each of `values`: the parts of `dy` along the axis."""
    if len(values) == 1:
        return [dy]
    if isinstance(dy, IndexedSlices):
        return _concat_gradient_of_slices(op, dy, values, axis)
    at = constant_value(axis)
    rank = next((len(v._dims) for v in values if v._dims is not None), None)
    if at is not None and rank is not None:
        at = int(at) % rank
        sizes = [None if v._dims is None else v._dims[at] for v in values]
        if None not in sizes:
            return raw.SplitV(dy, np.array(sizes, np.int32), at, num_split=len(values))
    at = raw.FloorMod(axis, raw.Rank(values[0])) if at is None or rank is None else np.int32(at)
    sizes = raw.ShapeN(values)
    offsets = raw.ConcatOffset(at, sizes)
    return [raw.Slice(dy, offset, size) for offset, size in zip(offsets, sizes, strict=True)]


def _concat_gradient_of_slices(op, dy: IndexedSlices, values, axis):
    """Along axis 0 each input gets the rows that are its own; along another one, all rows, cut."""
    at = constant_value(axis)
    if at is None:
        raise op.error("Can only compute IndexedSlices gradient with statically-known concat_dim")
    at = int(at)
    if at < 0:
        if values[0]._dims is None:
            raise op.error(
                "Can only compute IndexedSlices gradient with negative concat_dim when the rank is known"
            )
        at %= len(values[0]._dims)
    found = []
    sizes = [raw.Shape(v) for v in values]
    if at > 0:
        # Everything of the other axes, from where the input begins along this one.
        along = raw.OneHot(at, raw.Rank(dy.values), np.int32(1), np.int32(0))
        others = raw.Sub(along, np.int32(1))
        start: object = np.int32(0)
        for size in sizes:
            here = raw.StridedSlice(size, [at], [at + 1], [1], shrink_axis_mask=1)
            begin = raw.Mul(along, start)
            extent = raw.AddV2(others, raw.Mul(along, here))
            found.append(IndexedSlices(raw.Slice(dy.values, begin, extent), dy.indices, size))
            start = raw.AddV2(start, here)
        return found
    kind = dy.indices.dtype.base_dtype
    start = np.zeros((), kind.as_numpy_dtype)
    for size in sizes:
        here = raw.StridedSlice(size, [0], [1], [1], shrink_axis_mask=1)
        end = raw.Add(start, here if kind.name == "int32" else raw.Cast(here, DstT=kind))
        inside = raw.LogicalAnd(raw.GreaterEqual(dy.indices, start), raw.Less(dy.indices, end))
        chosen = raw.Squeeze(raw.Where(inside), squeeze_dims=[1])
        rows = raw.GatherV2(dy.values, chosen, 0)
        numbers = raw.Sub(raw.GatherV2(dy.indices, chosen, 0), start)
        found.append(IndexedSlices(rows, numbers, size))
        start = end
    return found


concat = define(
    "Concat",
    "concat_dim: int32, values: N*T -> output: T",
    "N: int >= 2, T: type",
    static_inputs=("concat_dim",),
)


@concat.shape
def _concat_shape(op, axis, values) -> Dims:
    return _concat_dims(op, 0, values)


@concat.host
@concat.lower
def _concat_lower(op, axis: np.ndarray, values):
    return _concatenate(op, values, axis)


@concat.gradient
def _concat_v1_gradient(op, dy):
    axis, *values = op.inputs
    return [None, *_concat_gradient(op, dy, values, axis)]


concat_v2 = define(
    "ConcatV2",
    "values: N*T, axis: Tidx -> output: T",
    "N: int >= 2, T: type, Tidx: {int32, int64} = int32",
    static_inputs=("axis",),
)


@concat_v2.shape
def _concat_v2_shape(op, values, axis) -> Dims:
    return _concat_dims(op, len(values), values)


@concat_v2.host
@concat_v2.lower
def _concat_v2_lower(op, values, axis: np.ndarray):
    return _concatenate(op, values, axis)


@concat_v2.across
def _concat_v2_across(op, mesh_axis, value, axis: np.ndarray):
    along = shapes.axis_in_rank(op, int(axis), value.ndim)
    return lax.all_gather(value, mesh_axis, axis=along, tiled=True)


@concat_v2.partial
def _concat_v2_partial(op):
    parts: list = []
    for tensor in op._inputs[:-1]:
        sizes = partial_sizes(tensor)
        if sizes is None:
            dims = tensor._dims
            if dims is None or len(dims) != 1 or dims[0] is None:
                return None
            sizes = [None] * dims[0]
        parts += sizes
    return parts


@concat_v2.gradient
def _concat_v2_gradient(op, dy):
    *values, axis = op.inputs
    return [*_concat_gradient(op, dy, values, axis), None]


# ---- ConcatOffset

concat_offset = define(
    "ConcatOffset", "concat_dim: int32, shape: N*int32 -> offset: N*int32", "N: int >= 2"
)


@concat_offset.shape
def _concat_offset_shape(op, axis, sizes) -> list[Dims]:
    return list(sizes)


def _words(sizes: np.ndarray) -> str:
    return " ".join(str(s) for s in sizes)


@concat_offset.host
def _concat_offset_host(op, axis, sizes):
    for i, size in enumerate(sizes):
        if size.ndim != 1:
            raise op.invalid(
                f"input {i} should be a vector, got shape {shapes.brackets(size.shape)}"
            )
    rank = len(sizes[0])
    at = int(axis)
    if not -rank <= at < rank:
        raise op.invalid(f"Concat dim is out of range: {at} vs. {rank}")
    at %= rank
    offsets, total = [], 0
    for i, size in enumerate(sizes):
        if len(size) != rank:
            raise op.invalid(f"input {i} should contain {rank} elements, but got {len(size)}")
        for d in range(rank):
            if d != at and size[d] != sizes[0][d]:
                raise op.invalid(
                    f"All dimensions except {at} must match. Input {i} has shape [{_words(size)}] and doesn't match "
                    f"input 0 with shape [{_words(sizes[0])}]."
                )
        offset = np.zeros(rank, np.int32)
        offset[at] = total
        total += int(size[at])
        offsets.append(offset)
    return offsets


@concat_offset.lower
def _concat_offset_lower(op, axis, sizes):
    along = jnp.stack([jnp.asarray(s) for s in sizes])
    before = jnp.cumsum(along, axis=0, dtype=jnp.int32) - along
    rank = along.shape[1]
    return tuple(
        jnp.where(jnp.arange(rank) == axis % rank, row, 0).astype(jnp.int32) for row in before
    )


concat_offset.not_differentiable()

# ---- Pack, Unpack

pack = define("Pack", "values: N*T -> output: T", "N: int >= 1, T: type, axis: int = 0")


@pack.shape
def _pack_shape(op, values) -> Dims:
    dims = shapes.merge_all(op, values, "inputs")
    if dims is None:
        return None
    at = shapes.axis_in_rank(op, op.attr("axis"), len(dims) + 1)
    return (*dims[:at], len(values), *dims[at:])


@pack.host
@pack.lower
def _pack_lower(op, values):
    first = values[0].shape
    for i, v in enumerate(values):
        if v.shape != first:
            raise op.invalid(
                f"Shapes of all inputs must match: values[0].shape = {list(first)} != values[{i}].shape = "
                f"{shapes.brackets(v.shape)}"
            )
    rank = len(first) + 1
    if not -rank <= op.attr("axis") < rank:
        raise op.invalid(f"axis = {op.attr('axis')} not in [{-rank}, {rank})")
    if all(map(is_static, values)):
        return np.stack(values, op.attr("axis"))
    return jnp.stack([jnp.asarray(v) for v in values], op.attr("axis"))


@pack.across
def _pack_across(op, mesh_axis, value):
    along = shapes.axis_in_rank(op, op.attr("axis"), value.ndim + 1)
    return lax.all_gather(value, mesh_axis, axis=along)


@pack.partial
def _pack_partial(op):
    dims = op._outputs[0]._dims
    if dims is None or len(dims) != 1:
        return None
    return [partial_size(t) for t in op._inputs]


@pack.gradient
def _pack_gradient(op, dy):
    return raw.Unpack(dy, num=op.attr("N"), axis=op.attr("axis"))


unpack = define("Unpack", "value: T -> output: num*T", "num: int >= 0, T: type, axis: int = 0")


@unpack.shape
def _unpack_shape(op, x) -> list[Dims]:
    count = op.attr("num")
    if x is None:
        return [None] * count
    if not x:
        raise op.error("Shape must be at least rank 1 but is rank 0: value is a scalar.")
    at = shapes.axis_in_rank(op, op.attr("axis"), len(x))
    if x[at] not in (None, count):
        raise op.error(
            f"Dimension must be {count} but is {x[at]}: axis {at} of {shapes.text(x)} is cut into num parts."
        )
    return [x[:at] + x[at + 1 :]] * count


@unpack.host
@unpack.lower
def _unpack_lower(op, x):
    rank, count = len(x.shape), op.attr("num")
    if not -rank <= op.attr("axis") < rank:
        raise op.invalid(f"axis = {op.attr('axis')} not in [{-rank}, {rank})")
    at = op.attr("axis") % rank
    if x.shape[at] != count:
        raise op.invalid(
            f"Input shape axis {at} must equal {count}, got shape {shapes.brackets(x.shape)}"
        )
    if is_static(x):
        return tuple(np.asarray(part, x.dtype) for part in np.moveaxis(x, at, 0))
    return tuple(lax.index_in_dim(x, i, at, keepdims=False) for i in range(count))


@unpack.gradient
def _unpack_gradient(op, *grads):
    return raw.Pack(list(grads), axis=op.attr("axis"))


# ---- ParallelConcat: a Pack of parts that have the leading 1 already

parallel_concat = define(
    "ParallelConcat", "values: N*T -> output: T", "N: int >= 1, T: type, shape: shape"
)


@parallel_concat.shape
def _parallel_concat_shape(op, values) -> Dims:
    wanted = op.attr("shape")._dims
    if wanted is None or None in wanted:
        raise op.error(f"shape attr must be fully defined, got {shapes.text(wanted)}.")
    # TF differs: it refuses inputs whose shape is not known (tests/ops/cases_array_shape.py).
    for v in values:
        dims = shapes.with_rank(op, v, len(wanted), "values")
        shapes.merge(op, dims, (1, *wanted[1:]), "input and attr shape")
    shapes.merge_size(op, wanted[0], len(values), "first axis of attr shape and number of inputs")
    return wanted


@parallel_concat.host
@parallel_concat.lower
def _parallel_concat_lower(op, values):
    if all(map(is_static, values)):
        return np.concatenate(values)
    return jnp.concatenate(values)


parallel_concat.not_differentiable()
