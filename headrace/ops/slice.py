"""Slice: a part of a tensor by where it begins and how large it is."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.constant_value import partial_sizes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.lowering import checks
from headrace.ops.reshape import is_static
from headrace.ops.strided import as_ints


def known_elements(tensor):
    """The elements of a vector of numbers as far as they are known while the graph is built: a tuple, or None."""
    sizes = partial_sizes(tensor)
    return None if sizes is None else tuple(sizes)


# ---- Slice

slice_ = define(
    "Slice",
    "input: T, begin: Index, size: Index -> output: T",
    "T: type, Index: {int32, int64}",
    static_inputs=("begin", "size"),
    effects=Effect.FALLIBLE,
    checked_inputs=("begin", "size"),
)


@slice_.facts
def _slice_facts(op):
    return known_elements(op._inputs[1])


@slice_.needs_static
def _slice_needs_static(op):
    """`begin` may vary from run to run unless a size is "all the rest" of an axis."""
    size, begin = op.static(2), known_elements(op._inputs[1])
    if size is not None and begin is not None and len(begin) == len(size):
        if all(s >= 0 or b is not None for s, b in zip(size, begin, strict=True)):
            return ("size",)
    return ("begin", "size")


@slice_.shape
def _slice_shape(op, x, begin, size) -> Dims:
    for dims, what in ((begin, "begin"), (size, "size")):
        shapes.with_rank(op, dims, 1, what)
    starts, sizes = known_elements(op._inputs[1]), known_elements(op._inputs[2])
    rank = next((n for n in (x, starts, sizes) if n is not None), None)
    rank = len(rank) if rank is not None else None
    if rank is None:
        rank = next((d[0] for d in (begin, size) if d is not None and d[0] is not None), None)
        if rank is None:
            return None
    x = shapes.with_rank(op, x, rank, "input")
    starts = (None,) * rank if starts is None else starts
    sizes = (None,) * rank if sizes is None else sizes
    if len(starts) != rank or len(sizes) != rank:
        raise op.error(
            f"Expected begin and size arguments to be 1-D tensors of size {rank}, but got {len(starts)} and "
            f"{len(sizes)}."
        )
    out: list[int | None] = []
    for i, (have, b, s) in enumerate(zip(x, starts, sizes, strict=True)):
        if have is not None and b is not None and s is not None:
            if not 0 <= b <= have:
                raise op.error(f"Expected begin[{i}] in [0, {have}], but got {b}")
            if s < -1 or b + s > have:
                raise op.error(f"Expected size[{i}] in [0, {have - b}], but got {s}")
        if s is None:
            out.append(None)
        elif s >= 0:
            out.append(s)
        else:
            out.append(have - b if have is not None and b is not None else None)
    return tuple(out)


def _slice_bounds(op, x, begin, size) -> tuple[list[int], list[int]]:
    rank = len(x.shape)
    if begin.shape != (rank,) or size.shape != (rank,):
        raise op.invalid(
            f"Expected begin and size arguments to be 1-D tensors of size {rank}, but got shapes "
            f"{shapes.brackets(begin.shape)} "
            f"and {shapes.brackets(size.shape)} instead."
        )
    starts = as_ints(begin)
    sizes = [
        h - b if s == -1 else s for h, b, s in zip(x.shape, starts, as_ints(size), strict=True)
    ]
    for i, (h, b, s) in enumerate(zip(x.shape, starts, sizes, strict=True)):
        if not 0 <= b <= h:
            raise op.invalid(f"Expected begin[{i}] in [0, {h}], but got {b}")
        if not 0 <= s <= h - b:
            raise op.invalid(f"Expected size[{i}] in [0, {h - b}], but got {s}")
    return starts, sizes


@slice_.host
def _slice_host(op, x, begin, size):
    starts, sizes = _slice_bounds(op, x, begin, size)
    return x[tuple(slice(b, b + s) for b, s in zip(starts, sizes, strict=True))]


@slice_.lower
def _slice_lower(op, x, begin, size: np.ndarray):
    if is_static(begin):
        starts, sizes = _slice_bounds(op, x, begin, size)
        return lax.slice(
            jnp.asarray(x), starts, [b + s for b, s in zip(starts, sizes, strict=True)]
        )
    known = op.facts
    sizes = [h - b if s == -1 else s for h, b, s in zip(x.shape, known, as_ints(size), strict=True)]
    for i, (h, s) in enumerate(zip(x.shape, sizes, strict=True)):
        if not 0 <= s <= h:
            raise op.invalid(f"Expected size[{i}] in [0, {h}], but got {s}")
        at = begin[i]
        checks.fail_if(
            op, (at < 0) | (at > h), f"Expected begin[{i}] in [0, {h}], but got {{}}", at
        )
        checks.fail_if(op, at > h - s, f"Expected size[{i}] in [0, {{}}], but got {s}", h - at)
    return lax.dynamic_slice(x, [begin[i] for i in range(len(sizes))], sizes)


@slice_.partial
def _slice_partial(op):
    sizes, begin, size = partial_sizes(op._inputs[0]), op.static(1), op.static(2)
    if sizes is None or begin is None or size is None:
        return None
    start, count = int(begin[0]), int(size[0])
    return sizes[start:] if count < 0 else sizes[start : start + count]


@slice_.gradient
def _slice_gradient(op, dy):
    """Zeros around `dy`: as many before as `begin`, as many after as then are missing."""
    x, begin, _ = op.inputs
    starts = op.static(1)
    if starts is not None and shapes.is_known(x._dims) and shapes.is_known(op.outputs[0]._dims):
        after = np.array(x._dims) - starts - np.array(op.outputs[0]._dims)
        return raw.Pad(dy, np.stack([starts, after], 1).astype(np.int32).reshape(-1, 2)), None, None
    kind = begin.dtype.base_dtype
    shape_of_x, shape_of_y = raw.Shape(x, out_type=kind), raw.Shape(op.outputs[0], out_type=kind)
    # As a strided slice gradient it may start anywhere without being compiled for the place.
    rank = begin._dims[0] if begin._dims is not None else None
    ones = raw.OnesLike(begin) if rank is None else np.ones(rank, kind.as_numpy_dtype)
    end = raw.AddV2(begin, shape_of_y)
    return raw.StridedSliceGrad(shape_of_x, begin, end, ones, dy), None, None
