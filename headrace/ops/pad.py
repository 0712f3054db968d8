"""Tensors made larger, repeated or turned round: Pad, MirrorPad, Tile, Reverse, Roll."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering import checks
from headrace.ops.reshape import is_static, shape_of

_MOST_ELEMENTS = (1 << 63) - 1

# ---- Pad, PadV2


def _padded_shape(op, x, paddings, *rest) -> Dims:
    table = shapes.with_rank(op, paddings, 2, "paddings")
    shapes.merge_size(op, table[1], 2, "paddings needs a column before and one after")
    known = op.static(1)
    if known is None:
        rank = table[0] if x is None else len(x)
        if x is not None:
            shapes.merge_size(op, table[0], len(x), "paddings needs a row for each axis")
        return None if rank is None else (None,) * rank
    x = shapes.with_rank(op, x, len(known), "input (paddings has that many rows)")
    for before, after in known:
        if before < 0 or after < 0:
            raise op.error(f"Paddings must be non-negative: {before}, {after}.")
    out = tuple(
        None if d is None else d + int(b) + int(a) for d, (b, a) in zip(x, known, strict=True)
    )
    if (shapes.element_count(out) or 0) > _MOST_ELEMENTS:
        raise op.error(f"the padded shape {shapes.text(out)} has more elements than 64 bits count.")
    return out


def _widths(op, x, paddings: np.ndarray) -> list[tuple[int, int]]:
    rank = len(x.shape)
    if paddings.shape != (rank, 2):
        raise op.invalid(
            f"The first dimension of paddings must be the rank of inputs, [{rank},2], got "
            f"{shapes.brackets(paddings.shape)} for "
            f"inputs of shape {shapes.brackets(x.shape)}"
        )
    for before, after in paddings:
        if before < 0 or after < 0:
            raise op.invalid(f"Paddings must be non-negative: {before} {after}")
    return [(int(b), int(a)) for b, a in paddings]


def _pad_lower(op, x, paddings: np.ndarray, value):
    widths = [(b, a, 0) for b, a in _widths(op, x, paddings)]
    return lax.pad(jnp.asarray(x), jnp.asarray(value, x.dtype), widths)


def _pad_host(op, x, paddings, value):
    widths = _widths(op, x, paddings)
    y = np.full([d + b + a for d, (b, a) in zip(x.shape, widths, strict=True)], value, x.dtype)
    y[tuple(slice(b, b + d) for d, (b, _) in zip(x.shape, widths, strict=True))] = x
    return y


def _pad_gradient(op, dy):
    """The part of `dy` that was not padding."""
    x = op.inputs[0]
    known = op.static(1)
    if known is not None:
        begin = known[:, 0].astype(np.int32)
    else:
        begin = raw.StridedSlice(
            op.inputs[1], [0, 0], [0, 1], [1, 1], begin_mask=1, end_mask=1, shrink_axis_mask=2
        )
    if known is None and op.inputs[1].dtype.base_dtype.name == "int64":
        return raw.Slice(dy, begin, raw.Shape(x, out_type="int64"))
    return raw.Slice(dy, begin, shape_of(x))


pad = define(
    "Pad",
    "input: T, paddings: Tpaddings -> output: T",
    "T: type, Tpaddings: {int32, int64} = int32",
    static_inputs=("paddings",),
)
pad.shape(_padded_shape)


@pad.lower
def _pad_zero_lower(op, x, paddings: np.ndarray):
    return _pad_lower(op, x, paddings, 0)


@pad.host
def _pad_zero_host(op, x, paddings):
    return _pad_host(op, x, paddings, b"" if x.dtype == object else 0)


@pad.gradient
def _pad_zero_gradient(op, dy):
    return _pad_gradient(op, dy), None


pad_v2 = define(
    "PadV2",
    "input: T, paddings: Tpaddings, constant_values: T -> output: T",
    "T: type, Tpaddings: {int32, int64} = int32",
    static_inputs=("paddings",),
)
pad_v2.shape(_padded_shape)
pad_v2.lower(_pad_lower)
pad_v2.host(_pad_host)


@pad_v2.gradient
def _pad_v2_gradient(op, dy):
    # TensorFlow gives the constant no gradient.
    return _pad_gradient(op, dy), None, None


# ---- MirrorPad, MirrorPadGrad


def _mirror_widths(op, sizes, paddings: np.ndarray) -> list[tuple[int, int]]:
    offset = 0 if op.attr("mode") == "SYMMETRIC" else 1
    if paddings.shape != (len(sizes), 2):
        raise op.invalid(
            f"paddings must be a matrix of [{len(sizes)},2], got {shapes.brackets(paddings.shape)}"
        )
    for d, (before, after) in zip(sizes, paddings, strict=True):
        if before < 0 or after < 0:
            raise op.invalid(f"paddings must be non-negative: {before} {after}")
        if before > d - offset or after > d - offset:
            word = "no greater" if not offset else "less"
            raise op.invalid(
                f"paddings must be {word} than the dimension size: {before}, {after} greater than {d}"
            )
    return [(int(b), int(a)) for b, a in paddings]


def _mirror(x, widths, mode: str):
    return (np if is_static(x) else jnp).pad(x, widths, mode=mode.lower())


mirror_pad = define(
    "MirrorPad",
    "input: T, paddings: Tpaddings -> output: T",
    "T: type, Tpaddings: {int32, int64} = int32, mode: {'REFLECT', 'SYMMETRIC'}",
    static_inputs=("paddings",),
)


@mirror_pad.shape
def _mirror_pad_shape(op, x, paddings) -> Dims:
    known = op.static(1)
    if x is not None and known is not None and known.shape == (len(x), 2):
        offset = 0 if op.attr("mode") == "SYMMETRIC" else 1
        for d, (before, after) in zip(x, known, strict=True):
            if d is not None and (before > d - offset or after > d - offset):
                raise op.error(
                    f"paddings must be no greater than the dimension size: {before}, {after} greater than {d}."
                )
    return _padded_shape(op, x, paddings)


@mirror_pad.host
@mirror_pad.lower
def _mirror_pad_lower(op, x, paddings: np.ndarray):
    return _mirror(x, _mirror_widths(op, x.shape, paddings), op.attr("mode"))


@mirror_pad.gradient
def _mirror_pad_gradient(op, dy):
    return raw.MirrorPadGrad(dy, op.inputs[1], mode=op.attr("mode")), None


mirror_pad_grad = define(
    "MirrorPadGrad",
    "input: T, paddings: Tpaddings -> output: T",
    "T: type, Tpaddings: {int32, int64} = int32, mode: {'REFLECT', 'SYMMETRIC'}",
    static_inputs=("paddings",),
)


@mirror_pad_grad.shape
def _mirror_pad_grad_shape(op, dy, paddings) -> Dims:
    known = op.static(1)
    if known is None:
        return None if dy is None else (None,) * len(dy)
    dy = shapes.with_rank(op, dy, len(known), "input")
    return tuple(
        None if d is None else d - int(b) - int(a) for d, (b, a) in zip(dy, known, strict=True)
    )


@mirror_pad_grad.lower
def _mirror_pad_grad_lower(op, dy, paddings: np.ndarray):
    dims = tuple(d - int(b) - int(a) for d, (b, a) in zip(dy.shape, paddings, strict=True))
    widths = _mirror_widths(op, dims, paddings)
    # The sum of dy over the places where an element was repeated: the transpose of padding.
    kind = (
        jnp.promote_types(dy.dtype, jnp.float32)
        if not jnp.issubdtype(dy.dtype, jnp.inexact)
        else dy.dtype
    )
    transpose = jax.linear_transpose(
        lambda x: _mirror(x, widths, op.attr("mode")), jax.ShapeDtypeStruct(dims, kind)
    )
    return transpose(jnp.asarray(dy, kind))[0].astype(dy.dtype)


@mirror_pad_grad.gradient
def _mirror_pad_grad_gradient(op, ddx):
    return raw.MirrorPad(ddx, op.inputs[1], mode=op.attr("mode")), None


# ---- Tile

tile = define(
    "Tile",
    "input: T, multiples: Tmultiples -> output: T",
    "T: type, Tmultiples: {int32, int64} = int32",
    static_inputs=("multiples",),
)


@tile.shape
def _tile_shape(op, x, multiples) -> Dims:
    times = shapes.sizes_of(op, 1)
    if times is None:
        return None if x is None else (None,) * len(x)
    x = shapes.with_rank(op, x, len(times), "input (multiples has that many elements)")
    return tuple(
        0 if 0 in (d, t) else None if d is None or t is None else d * t
        for d, t in zip(x, times, strict=True)
    )


@tile.host
@tile.lower
def _tile_lower(op, x, multiples: np.ndarray):
    rank = len(x.shape)
    if multiples.shape != (rank,):
        raise op.invalid(
            f"Expected multiples argument to be a vector of length {rank} but got length {multiples.size}"
        )
    for i, m in enumerate(multiples):
        if m < 0:
            raise op.invalid(f"Expected multiples[{i}] >= 0, but got {m}")
    times = tuple(int(m) for m in multiples)
    if is_static(x):
        return np.tile(x, times)
    # Each axis beside an axis of copies; XLA makes no copy before the reshape.
    spread = lax.broadcast_in_dim(
        x,
        tuple(n for t, d in zip(times, x.shape, strict=True) for n in (t, d)),
        tuple(range(1, 2 * rank, 2)),
    )
    return spread.reshape(tuple(t * d for t, d in zip(times, x.shape, strict=True)))


@tile.gradient
def _tile_gradient(op, dy):
    """`dy` with an axis of copies beside each axis, summed over the copies."""
    x, multiples = op.inputs
    times = op.static(1)
    if times is not None and shapes.is_known(x._dims):
        split = np.stack([times, np.array(x._dims, times.dtype)], 1).reshape(-1).astype(np.int32)
        axes = np.arange(0, 2 * len(times), 2, dtype=np.int32)
    else:
        kind = multiples.dtype.base_dtype
        pairs = raw.Pack([multiples, raw.Shape(x, out_type=kind)], axis=1)
        split = raw.Reshape(pairs, np.array([-1], np.int32))
        axes = raw.Range(0, raw.Size(split), 2)
    return raw.Reshape(raw.Sum(raw.Reshape(dy, split), axes), shape_of(x)), None


tile_grad = define(
    "TileGrad", "input: T, multiples: int32 -> output: T", "T: type", static_inputs=("multiples",)
)


@tile_grad.shape
def _tile_grad_shape(op, dy, multiples) -> Dims:
    times = shapes.sizes_of(op, 1)
    if times is None or dy is None:
        return None if dy is None else (None,) * len(dy)
    return tuple(d // t if d is not None and t else None for d, t in zip(dy, times, strict=True))


@tile_grad.host
@tile_grad.lower
def _tile_grad_lower(op, dy, multiples: np.ndarray):
    pairs = tuple(
        n for t, d in zip(multiples, dy.shape, strict=True) for n in (int(t), d // int(t))
    )
    axes = tuple(range(0, len(pairs), 2))
    return dy.reshape(pairs).sum(axes, dtype=dy.dtype) if axes else dy


tile_grad.not_differentiable()

# ---- Reverse, ReverseV2


def _flip(x, axes: tuple[int, ...]):
    if is_static(x):
        return np.flip(x, axes)
    return lax.rev(x, axes) if axes else x


reverse = define(
    "Reverse",
    "tensor: T, dims: bool -> output: T",
    "T: {uint8, int8, uint16, int16, int32, int64, bool, half, float, double, complex64, complex128, string}",
    static_inputs=("dims",),
)
reverse.shape(shapes.unchanged)


@reverse.host
@reverse.lower
def _reverse_lower(op, x, dims: np.ndarray):
    if dims.shape != (len(x.shape),):
        raise op.invalid(
            f"'dims' must have {len(x.shape)} elements, got shape {shapes.brackets(dims.shape)}"
        )
    return _flip(x, tuple(i for i, d in enumerate(dims) if d))


@reverse.gradient
def _reverse_gradient(op, dy):
    return raw.Reverse(dy, op.inputs[1]), None


reverse_v2 = define(
    "ReverseV2",
    "tensor: T, axis: Tidx -> output: T",
    "Tidx: {int32, int64} = int32, T: {uint8, int8, uint16, int16, int32, int64, bool, bfloat16, half, float, double, "
    "complex64, complex128, string}",
    static_inputs=("axis",),
)


@reverse_v2.shape
def _reverse_v2_shape(op, x, axis) -> Dims:
    shapes.with_rank(op, axis, 1, "axis")
    axes = op.static(1)
    if x is not None and axes is not None:
        for i, a in enumerate(axes):
            if not -len(x) <= a < len(x):
                raise op.error(f"axis[{i}] = {a} is out of valid range [{-len(x)}, {len(x) - 1}].")
        found = [int(a) % len(x) for a in axes]
        for a in found:
            if found.count(a) > 1:
                raise op.error(f"axis {a} specified more than once.")
    return x


@reverse_v2.host
@reverse_v2.lower
def _reverse_v2_lower(op, x, axis: np.ndarray):
    rank = len(x.shape)
    for i, a in enumerate(axis):
        if not -rank <= a < rank:
            raise op.invalid(f"axis[{i}] = {a} is out of valid range [{-rank}, {rank - 1}].")
    axes = tuple(int(a) % rank for a in axis)
    if len(set(axes)) < len(axes):
        raise op.invalid(f"axis {max(axes, key=axes.count)} specified more than once.")
    return _flip(x, axes)


@reverse_v2.gradient
def _reverse_v2_gradient(op, dy):
    return raw.ReverseV2(dy, op.inputs[1]), None


# ---- ReverseSequence

reverse_sequence = define(
    "ReverseSequence",
    "input: T, seq_lengths: Tlen -> output: T",
    "seq_dim: int, batch_dim: int = 0, T: type, Tlen: {int32, int64} = int64",
    effects=Effect.FALLIBLE,
    checked_inputs=("seq_lengths",),
)


@reverse_sequence.shape
def _reverse_sequence_shape(op, x, lengths) -> Dims:
    lengths = shapes.with_rank(op, lengths, 1, "seq_lengths")
    if x is None:
        return None
    seq, batch = op.attr("seq_dim"), op.attr("batch_dim")
    if batch >= len(x):
        raise op.error(f"batch_dim must be < input rank: {batch} vs. {len(x)}.")
    if seq >= len(x):
        raise op.error(f"seq_dim must be < input rank: {seq} vs. {len(x)}.")
    size = shapes.merge_size(op, x[batch], lengths[0], "sizes of batch_dim and of seq_lengths")
    return (*x[:batch], size, *x[batch + 1 :])


@reverse_sequence.host
@reverse_sequence.lower
def _reverse_sequence_lower(op, x, lengths):
    seq, batch = op.attr("seq_dim"), op.attr("batch_dim")
    if seq == batch:
        raise op.invalid(f"batch_dim == seq_dim == {seq}")
    if lengths.shape != (x.shape[batch],):
        raise op.invalid(
            f"len(seq_lens) != input.dims({batch}), ({shapes.brackets(lengths.shape)} vs. {x.shape[batch]})"
        )
    size = x.shape[seq]
    xp = np if is_static(x) and is_static(lengths) else jnp
    if x.shape[batch]:
        checks.fail_if(op, (lengths < 0).any(), "seq_lens({}) < 0", xp.argmin(lengths))
        checks.fail_if(
            op, (lengths > size).any(), f"seq_lens({{}}) > input.dims({seq})", xp.argmax(lengths)
        )
    rank = len(x.shape)
    across = [1] * rank
    across[seq] = size
    position = np.arange(size).reshape(across)
    across = [1] * rank
    across[batch] = x.shape[batch]
    length = lengths.reshape(across)
    index = xp.where(position < length, length - 1 - position, position)
    # Only the batch and the sequence axis matter for the index; broadcasting does the others.
    return xp.take_along_axis(xp.asarray(x), xp.broadcast_to(index, x.shape), axis=seq)


@reverse_sequence.gradient
def _reverse_sequence_gradient(op, dy):
    dx = raw.ReverseSequence(
        dy, op.inputs[1], seq_dim=op.attr("seq_dim"), batch_dim=op.attr("batch_dim")
    )
    return dx, None


# ---- Roll

roll = define(
    "Roll",
    "input: T, shift: Tshift, axis: Taxis -> output: T",
    "T: type, Tshift: {int32, int64}, Taxis: {int32, int64}",
    static_inputs=("axis",),
)


@roll.shape
def _roll_shape(op, x, shift, axis) -> Dims:
    shapes.at_least_rank(op, x, 1, "input")
    for dims, what in ((shift, "shift"), (axis, "axis")):
        if dims is not None and len(dims) > 1:
            raise op.error(f"Shape must be at most rank 1 but is rank {len(dims)}: {what}.")
    shapes.merge(op, shift, axis, "shift and axis")
    return x


@roll.host
@roll.lower
def _roll_lower(op, x, shift, axis: np.ndarray):
    rank = len(x.shape)
    if not rank:
        raise op.invalid("input must be 1-D or higher")
    if shift.ndim > 1 or axis.ndim > 1:
        raise op.invalid(
            f"{'shift' if shift.ndim > 1 else 'axis'} must be a scalar or a 1-D vector. Found: "
            f"{shapes.brackets((shift if shift.ndim > 1 else axis).shape)}"
        )
    if shift.shape != axis.shape:
        raise op.invalid(
            f"shift and axis must have the same size, got {shapes.brackets(shift.shape)} and "
            f"{shapes.brackets(axis.shape)}"
        )
    axes = [int(a) for a in axis.reshape(-1)]
    for a in axes:
        if not -rank <= a < rank:
            raise op.invalid(f"axis {a} is out of range")
    amounts = shift.reshape(-1)
    for i, a in enumerate(axes):
        x = (
            np.roll(x, int(amounts[i]), a)
            if is_static(x) and is_static(shift)
            else jnp.roll(x, amounts[i], a)
        )
    return x


@roll.gradient
def _roll_gradient(op, dy):
    return raw.Roll(dy, raw.Neg(op.inputs[1]), op.inputs[2]), None, None
