"""StridedSlice (`x[...]`), its gradient and its assignments. What a specification means is in `strided.py`."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.constant_value import partial_sizes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering import checks
from headrace.ops.reshape import is_static
from headrace.ops.slice import known_elements
from headrace.ops.strided import Region, SliceError, as_ints, masks_of, resolve

# ---- StridedSlice

_MASKS = (
    "begin_mask: int = 0, end_mask: int = 0, ellipsis_mask: int = 0, new_axis_mask: int = 0, "
    "shrink_axis_mask: int = 0"
)


def _facts(op):
    """begin, end and strides as far as they are known while the graph is built."""
    names = [a.name for a in op._definition.signature.inputs]
    return tuple(known_elements(op._inputs[names.index(n)]) for n in ("begin", "end", "strides"))


def _needs_static(op):
    """begin and end may vary from run to run where they pick single elements; what they pick of a range may not."""
    begin, end, strides = _facts(op)
    everything = tuple(
        n for n in ("shape", "begin", "end", "strides") if n in op._definition.static_inputs
    )
    free = tuple(n for n in everything if n not in ("begin", "end"))
    if begin is None or end is None or strides is None or None in strides or len(begin) != len(end):
        return everything
    begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_mask = masks_of(op)
    whole = ellipsis_mask | new_axis_mask | shrink_mask
    for i, (b, e) in enumerate(zip(begin, end, strict=True)):
        if whole >> i & 1:
            continue
        if (b is None and not begin_mask >> i & 1) or (e is None and not end_mask >> i & 1):
            return everything
    return free


strided_slice = define(
    "StridedSlice",
    "input: T, begin: Index, end: Index, strides: Index -> output: T",
    f"T: type, Index: {{int32, int64}}, {_MASKS}",
    static_inputs=("begin", "end", "strides"),
    effects=Effect.FALLIBLE,
    checked_inputs=("begin", "end", "strides"),
)
strided_slice.facts(_facts)
strided_slice.needs_static(_needs_static)


@strided_slice.shape
def _strided_slice_shape(op, x, begin, end, strides) -> Dims:
    merged = None
    for dims, what in ((begin, "begin"), (end, "end"), (strides, "strides")):
        merged = shapes.merge(
            op, merged, shapes.with_rank(op, dims, 1, what), "begin, end and strides"
        )
    steps = op.static(3)
    if x is None or merged[0] is None or steps is None:  # type: ignore[index]
        return None
    unknown = (None,) * merged[0]  # type: ignore[index]
    try:
        return resolve(
            x,
            known_elements(op._inputs[1]) or unknown,
            known_elements(op._inputs[2]) or unknown,
            as_ints(steps),
            masks_of(op),
        ).shape
    except SliceError as error:
        raise op.error(str(error)) from None


def _region(op, dims, begin, end, strides) -> Region:
    """The region that a specification takes; starts that are traced are None in it."""
    steps = as_ints(strides)
    if is_static(begin) and is_static(end):
        starts, stops = as_ints(begin), as_ints(end)
    else:
        starts, stops, _ = op.facts
    try:
        return resolve(dims, starts, stops, steps, masks_of(op))
    except SliceError as error:
        raise op.invalid(str(error)) from None


def _starts(op, region: Region, begin) -> list:
    """Where each axis starts: numbers, and traced scalars for single elements, checked against the size."""
    starts = []
    for number, axis in enumerate(region.axes):
        if axis.start is not None or not axis.count:
            starts.append(axis.lowest if axis.count else 0)
            continue
        at = begin[axis.start_from]
        here = jnp.where(at < 0, at + axis.size, at)
        bad = (here < 0) | (here >= axis.size)
        checks.fail_if(op, bad, f"slice index {{}} of dimension {number} out of bounds.", at)
        starts.append(here)
    return starts


def _is_dynamic(starts) -> bool:
    return any(not isinstance(s, int) for s in starts)


def _steps(region: Region) -> list[int]:
    return [abs(a.step) for a in region.axes]


def _spans(region: Region) -> list[int]:
    """How far each axis reaches from its lowest element to its highest."""
    return [(a.count - 1) * abs(a.step) + 1 if a.count else 0 for a in region.axes]  # type: ignore[operator]


def _reversed_axes(region: Region) -> list[int]:
    return [i for i, a in enumerate(region.axes) if a.step < 0 and a.count]


@strided_slice.lower
def _strided_slice_lower(op, x, begin, end, strides):
    region = _region(op, x.shape, begin, end, strides)
    if is_static(x) and is_static(begin):
        return _take(x, region)
    x = jnp.asarray(x)
    starts, spans = _starts(op, region, begin), _spans(region)
    if _is_dynamic(starts):
        starts = [jnp.asarray(s, jnp.int32) for s in starts]
        y = lax.dynamic_slice(x, starts, spans)
        y = lax.slice(y, [0] * len(spans), spans, _steps(region))
    else:
        y = lax.slice(
            x, starts, [s + n for s, n in zip(starts, spans, strict=True)], _steps(region)
        )
    back = _reversed_axes(region)
    return (lax.rev(y, back) if back else y).reshape(region.shape)


def _index(region: Region) -> tuple:
    """The region as an index of a NumPy array (new axes and dropped ones left out)."""
    index = []
    for axis in region.axes:
        stop: int | None = axis.start + axis.count * axis.step if axis.count else axis.start  # type: ignore
        index.append(slice(axis.start, None if stop < 0 else stop, axis.step))  # type: ignore[operator]
    return tuple(index)


def _take(x, region: Region):
    return x[_index(region)].reshape(region.shape)


@strided_slice.host
def _strided_slice_host(op, x, begin, end, strides):
    return _take(x, _region(op, x.shape, begin, end, strides))


@strided_slice.partial
def _strided_slice_partial(op):
    """A vector of sizes, or (as a number) one of them."""
    sizes = partial_sizes(op._inputs[0])
    begin, end, strides = _facts(op)
    if sizes is None or begin is None or end is None or strides is None:
        return None
    if any(v is None for v in (*begin, *end, *strides)) or len(begin) != 1:
        return None
    begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_mask = masks_of(op)
    if ellipsis_mask & 1:
        return sizes
    if new_axis_mask & 1:
        return None
    if shrink_mask & 1:
        return sizes[begin[0]] if -len(sizes) <= begin[0] < len(sizes) else None
    return sizes[
        None if begin_mask & 1 else begin[0] : None if end_mask & 1 else end[0] : strides[0]
    ]


def _mask_attrs(op) -> dict[str, int]:
    return dict(
        zip(
            ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"),
            masks_of(op),
            strict=True,
        )
    )


@strided_slice.gradient
def _strided_slice_gradient(op, dy):
    x, begin, end, strides = op.inputs
    kind = begin.dtype.base_dtype
    if shapes.is_known(x._dims):
        shape = np.array(x._dims, kind.as_numpy_dtype)
    else:
        shape = raw.Shape(x, out_type=kind)
    return raw.StridedSliceGrad(shape, begin, end, strides, dy, **_mask_attrs(op)), None, None, None


# ---- StridedSliceGrad: zeros, with `dy` where the slice was taken

strided_slice_grad = define(
    "StridedSliceGrad",
    "shape: Index, begin: Index, end: Index, strides: Index, dy: T -> output: T",
    f"T: type, Index: {{int32, int64}}, {_MASKS}",
    static_inputs=("shape", "begin", "end", "strides"),
    effects=Effect.FALLIBLE,
    checked_inputs=("begin", "end", "strides"),
)
strided_slice_grad.facts(_facts)


@strided_slice_grad.needs_static
def _strided_slice_grad_needs_static(op):
    needed = _needs_static(op)
    strides = _facts(op)[2]
    if (
        "begin" in needed
        and strides is not None
        and all(s == 1 for s in strides)
        and not any(masks_of(op))
    ):
        # The size of what is written is that of dy: it may start anywhere.
        return ("shape", "strides")
    return needed


@strided_slice_grad.shape
def _strided_slice_grad_shape(op, shape, begin, end, strides, dy) -> Dims:
    return shapes.sizes_of(op, 0)


@strided_slice_grad.lower
def _strided_slice_grad_lower(op, shape: np.ndarray, begin, end, strides: np.ndarray, dy):
    dims = tuple(as_ints(shape))
    zero = jnp.zeros((), dy.dtype)
    dy = jnp.asarray(dy)
    if not is_static(begin) and not any(masks_of(op)) and all(s == 1 for s in strides):
        starts = [begin[i] for i in range(len(dims))]
        return lax.dynamic_update_slice(jnp.zeros(dims, dy.dtype), dy, starts)
    region = _region(op, dims, begin, end, strides)
    if math.prod(region.counts) != math.prod(dy.shape):
        raise op.invalid(
            f"shape of dy was {shapes.brackets(dy.shape)} instead of {shapes.brackets(region.shape)}"
        )
    dy = dy.reshape(region.counts)
    back = _reversed_axes(region)
    dy = lax.rev(dy, back) if back else dy
    starts = _starts(op, region, begin)
    inner = [
        (0, 0, s - 1) if n else (0, 0, 0)
        for s, n in zip(_steps(region), region.counts, strict=True)
    ]
    if _is_dynamic(starts):
        spread = lax.pad(dy, zero, inner)
        return lax.dynamic_update_slice(
            jnp.zeros(dims, dy.dtype), spread, [jnp.asarray(s, jnp.int32) for s in starts]
        )
    edges = [
        (start, size - start - span, step)
        for start, size, span, (_, _, step) in zip(starts, dims, _spans(region), inner, strict=True)
    ]
    return lax.pad(dy, zero, edges)


@strided_slice_grad.host
def _strided_slice_grad_host(op, shape, begin, end, strides, dy):
    dims = tuple(as_ints(shape))
    region = _region(op, dims, begin, end, strides)
    if math.prod(region.counts) != dy.size:
        raise op.invalid(
            f"shape of dy was {shapes.brackets(dy.shape)} instead of {shapes.brackets(region.shape)}"
        )
    y = np.zeros(dims, dy.dtype)
    y[_index(region)] = dy.reshape(region.counts)
    return y


@strided_slice_grad.gradient
def _strided_slice_grad_gradient(op, ddx):
    _, begin, end, strides, _ = op.inputs
    return None, None, None, None, raw.StridedSlice(ddx, begin, end, strides, **_mask_attrs(op))


# ---- StridedSliceAssign, ResourceStridedSliceAssign


def _assign(op, ref, begin, end, strides, value):
    old = ref.read()
    region = _region(op, old.shape, begin, end, strides)
    if not math.prod(region.counts):
        return ref
    if len(value.shape) and tuple(value.shape) != tuple(region.shape):
        raise op.invalid(
            f"stride slice assign of shape {shapes.brackets(region.shape)} got a value of shape "
            f"{shapes.brackets(value.shape)}"
        )
    if is_static(old) and is_static(begin):
        new = old.copy()
        new[_index(region)] = np.broadcast_to(value, region.shape).reshape(region.counts)
    else:
        new = _write(op, jnp.asarray(old), region, begin, jnp.broadcast_to(value, region.shape))
    ref.write(new)
    return ref


def _write(op, x, region: Region, begin, value):
    value = value.reshape(region.counts)
    back = _reversed_axes(region)
    value = lax.rev(value, back) if back else value
    starts = _starts(op, region, begin)
    if all(s == 1 or n < 2 for s, n in zip(_steps(region), region.counts, strict=True)):
        return lax.dynamic_update_slice(x, value, [jnp.asarray(s, jnp.int32) for s in starts])
    # Only single elements can start at a traced place, and then the other axes are plain slices.
    index = tuple(
        slice(s, s + n, step) if isinstance(s, int) else slice(None)
        for s, n, step in zip(starts, _spans(region), _steps(region), strict=True)
    )
    if not _is_dynamic(starts):
        return x.at[index].set(value)
    grid = [
        (jnp.asarray(s) + jnp.arange(n) * step)
        for s, n, step in zip(starts, region.counts, _steps(region), strict=True)
    ]
    return x.at[jnp.ix_(*grid)].set(value)


strided_slice_assign = define(
    "StridedSliceAssign",
    "ref: Ref(T), begin: Index, end: Index, strides: Index, value: T -> output_ref: Ref(T)",
    f"T: type, Index: {{int32, int64}}, {_MASKS}",
    static_inputs=("begin", "end", "strides"),
    effects=Effect.FALLIBLE,
    checked_inputs=("begin", "end", "strides"),
    writes=("ref",),
)
strided_slice_assign.facts(_facts)
strided_slice_assign.needs_static(_needs_static)
strided_slice_assign.shape(shapes.unchanged)
strided_slice_assign.lower(_assign)
strided_slice_assign.host(_assign)
strided_slice_assign.not_differentiable()

resource_strided_slice_assign = define(
    "ResourceStridedSliceAssign",
    "ref: resource, begin: Index, end: Index, strides: Index, value: T ->",
    f"T: type, Index: {{int32, int64}}, {_MASKS}",
    static_inputs=("begin", "end", "strides"),
    effects=Effect.STATEFUL | Effect.FALLIBLE,
    checked_inputs=("begin", "end", "strides"),
    writes=("ref",),
)
resource_strided_slice_assign.facts(_facts)
resource_strided_slice_assign.needs_static(_needs_static)
resource_strided_slice_assign.shape(shapes.no_outputs)


@resource_strided_slice_assign.host
@resource_strided_slice_assign.lower
def _resource_strided_slice_assign_lower(op, ref, begin, end, strides, value):
    _assign(op, ref, begin, end, strides, value)
    return ()


resource_strided_slice_assign.not_differentiable()
