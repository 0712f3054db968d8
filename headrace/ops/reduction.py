"""Reductions over axes (Sum, Mean, Max, All, ArgMax) and running ones (Cumsum)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops.elementwise import conj, scalar_like

_NUMERIC = (
    "float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, complex128, "
    "half, uint32, uint64"
)
_INDEX = "Tidx: {int32, int64} = int32"

# ---- shapes


def _reduced_dims(op, x, indices):
    if indices is not None and len(indices) > 1:
        raise op.error(
            f"Shape must be at most rank 1 but is rank {len(indices)}: reduction_indices {shapes.text(indices)}."
        )
    keep = op.attr("keep_dims")
    axes = op.static(1)
    if x is None:
        return None
    if axes is None:
        return (None,) * len(x) if keep else None
    reduced = set()
    for axis in np.ravel(axes).tolist():
        if not -len(x) <= axis < len(x):
            raise op.error(
                f"Invalid reduction dimension {axis} for input with {len(x)} dimensions."
            )
        reduced.add(axis % len(x))
    if keep:
        return tuple(1 if i in reduced else d for i, d in enumerate(x))
    return tuple(d for i, d in enumerate(x) if i not in reduced)


def _axes_of(op, x, indices: np.ndarray) -> tuple[int, ...]:
    """The axes to reduce, counted from the front. Raises InvalidArgumentError: out of range."""
    axes = np.ravel(indices).tolist()
    rank = x.ndim
    for axis in axes:
        if not -rank <= axis < rank:
            raise op.invalid(
                f"Invalid reduction dimension ({axis} for input with {rank} dimension(s)"
            )
    # An axis that is named twice counts once.
    return tuple(dict.fromkeys(a % rank for a in axes))


def _keeps_all(x, axes) -> bool:
    # TF then passes the input on: NaN stays NaN in Max, and a EuclideanNorm keeps its sign.
    return all(x.shape[a] == 1 for a in axes)


def _unreduced(x, axes, keep):
    return x if keep else x.reshape([size for i, size in enumerate(x.shape) if i not in axes])


def _reduction(name: str, lower: Any, host: Any, boolean: bool = False) -> OpDef:
    """A reduction; rules: f(x, axes, keep_dims)."""
    arguments = f"input: {'bool' if boolean else 'T'}, reduction_indices: Tidx -> output: {'bool' if boolean else 'T'}"
    types = "" if boolean else f"T: {{{_NUMERIC}}}, "
    definition = define(
        name,
        arguments,
        f"keep_dims: bool = false, {types}{_INDEX}",
        static_inputs=("reduction_indices",),
    )
    definition.shape(_reduced_dims)

    @definition.lower
    def rule(op, x, indices: np.ndarray):
        axes, keep = _axes_of(op, x, indices), op.attr("keep_dims")
        return _unreduced(x, axes, keep) if _keeps_all(x, axes) else lower(x, axes, keep)

    @definition.host
    def host_rule(op, x, indices: np.ndarray):
        axes, keep = _axes_of(op, x, indices), op.attr("keep_dims")
        if _keeps_all(x, axes):
            return _unreduced(x, axes, keep)
        return np.asarray(host(x, axes, keep), op.output_dtype(0).np_dtype)

    return definition


def _wide(kind: np.dtype) -> Any:
    """The type in which sums of `kind` are kept: half precision is added up in float32."""
    return np.float32 if kind.itemsize == 2 and kind.kind not in "iu" else kind


def reduced_shape(op):
    """The shape of the first input of a reduction with the reduced sizes made 1: an array, or a tensor."""
    dims, axes = op.inputs[0]._dims, op.static(1)
    if shapes.is_known(dims) and axes is not None:
        reduced = {a % len(dims) for a in np.ravel(axes).tolist()}
        return np.array([1 if i in reduced else d for i, d in enumerate(dims)], np.int32)
    shape_of_x = raw.Shape(op.inputs[0])
    rank = raw.Size(shape_of_x)
    indices = op.inputs[1]
    if indices.dtype.base_dtype.name != "int32":
        indices = raw.Cast(indices, DstT="int32")
    positive = raw.FloorMod(raw.AddV2(indices, rank), rank)
    return raw.DynamicStitch(
        [raw.Range(np.int32(0), rank, np.int32(1)), positive],
        [shape_of_x, raw.Fill(raw.Shape(positive), np.int32(1))],
    )


def _repeat(op, grad):
    """`grad`, of the shape of the output, repeated to the shape of the input."""
    dims = op.inputs[0]._dims
    kept = reduced_shape(op)
    if isinstance(kept, np.ndarray):
        sizes = np.array(dims, np.int32)
        return raw.Tile(raw.Reshape(grad, kept), sizes // np.maximum(kept, 1))
    axes = op.static(1)
    if (
        dims is not None
        and axes is not None
        and len({a % len(dims) for a in np.ravel(axes).tolist()}) == len(dims)
    ):
        return raw.Tile(raw.Reshape(grad, np.ones(len(dims), np.int32)), raw.Shape(op.inputs[0]))
    scaling = raw.FloorDiv(raw.Shape(op.inputs[0]), raw.Maximum(kept, np.int32(1)))
    return raw.Tile(raw.Reshape(grad, kept), scaling)


# ---- Sum

sum_ = _reduction(
    "Sum",
    lambda x, axes, keep: jnp.sum(x, axes, dtype=x.dtype, keepdims=keep),
    lambda x, axes, keep: np.sum(x, axes, dtype=_wide(x.dtype), keepdims=keep),
)
sum_.adds_up()


@sum_.gradient
def _sum_gradient(op, dy):
    return _repeat(op, dy), None


# ---- Mean


def _count(x, axes):
    return int(np.prod([x.shape[a] for a in axes], dtype=np.int64))


def _mean(x, axes, keep):
    if jnp.issubdtype(x.dtype, np.integer):
        # TF adds up in the type itself (which may overflow) and rounds the quotient towards zero.
        total = jnp.sum(x, axes, dtype=_integer_carrier(x.dtype), keepdims=keep)
        return lax.div(total, np.asarray(max(_count(x, axes), 1), total.dtype)).astype(x.dtype)
    wide = _wide(np.dtype(x.dtype))
    total = jnp.sum(x, axes, dtype=wide, keepdims=keep)
    return (total / np.asarray(_count(x, axes), total.dtype)).astype(x.dtype)


def _integer_carrier(kind):
    """Small integers are added up in 64 bits, as TF's mean does; int32 and int64 in their own type."""
    kind = np.dtype(kind)
    return kind if kind.itemsize >= 4 else np.dtype(np.int64 if kind.kind == "i" else np.uint64)


def _mean_host(x, axes, keep):
    if x.dtype.kind in "iu":
        total = np.sum(x, axes, dtype=_integer_carrier(x.dtype), keepdims=keep)
        count = max(_count(x, axes), 1)
        quotient = abs(total.astype(np.int64)) // count if x.dtype.kind == "i" else total // count
        return (np.sign(total) * quotient if x.dtype.kind == "i" else quotient).astype(x.dtype)
    total = np.sum(x, axes, dtype=_wide(x.dtype), keepdims=keep)
    return (total / np.asarray(_count(x, axes), total.dtype)).astype(x.dtype)


mean = _reduction("Mean", _mean, _mean_host)
mean.adds_up()


@mean.gradient
def _mean_gradient(op, dy):
    x, y = op.inputs[0], op.outputs[0]
    repeated = _repeat(op, dy)
    if shapes.is_known(x._dims) and shapes.is_known(y._dims):
        factor = int(np.prod(x._dims)) // max(int(np.prod(y._dims)), 1)
        return raw.RealDiv(repeated, scalar_like(factor, repeated)), None
    zero = np.array([0], np.int32)
    sizes = [raw.Prod(raw.Shape(t), zero) for t in (x, y)]
    factor = raw.FloorDiv(sizes[0], raw.Maximum(sizes[1], np.int32(1)))
    return raw.RealDiv(repeated, raw.Cast(factor, DstT=repeated.dtype.base_dtype)), None


# ---- Prod

prod = _reduction(
    "Prod",
    lambda x, axes, keep: jnp.prod(x, axes, dtype=x.dtype, keepdims=keep),
    lambda x, axes, keep: np.prod(x, axes, dtype=_wide(x.dtype), keepdims=keep),
)
prod.adds_up()


@prod.gradient
def _prod_gradient(op, dy):
    """dx_i = dy times the product of all others, made of running products from both ends: right where some are zero."""
    x = op.inputs[0]
    repeated = _repeat(op, dy)
    dims, axes = x._dims, op.static(1)
    if dims is not None and axes is not None:
        reduced = [a % len(dims) for a in np.ravel(axes).tolist()]
        others = [i for i in range(len(dims)) if i not in reduced]
        order = np.array(reduced + others, np.int32)
        back = np.argsort(order).astype(np.int32)
        permuted = raw.Transpose(x, order)
        sizes = raw.Shape(permuted)
        if shapes.is_known(dims):
            sizes = np.array([dims[i] for i in order], np.int32)
            counts: Any = [
                int(np.prod([dims[i] for i in part], dtype=np.int64)) for part in (reduced, others)
            ]
            counts = np.array(counts, np.int32)
        else:
            zero = np.array([0], np.int32)
            n = np.int32(len(reduced))
            counts = raw.Pack(
                [
                    raw.Prod(
                        raw.Slice(sizes, np.array([0], np.int32), np.array([n], np.int32)), zero
                    ),
                    raw.Prod(
                        raw.Slice(sizes, np.array([n], np.int32), np.array([-1], np.int32)), zero
                    ),
                ]
            )
    else:
        shape_of_x = raw.Shape(x)
        rank = raw.Rank(x)
        indices = raw.Reshape(op.inputs[1], np.array([-1], np.int32))
        indices = raw.Cast(indices, DstT="int32") if indices.dtype.name != "int32" else indices
        reduced = raw.FloorMod(raw.AddV2(indices, rank), rank)
        others = raw.ListDiff(raw.Range(np.int32(0), rank, np.int32(1)), reduced)[0]
        zero = np.int32(0)
        order = raw.ConcatV2([reduced, others], zero)
        back = raw.InvertPermutation(order)
        permuted = raw.Transpose(x, order)
        sizes = raw.Shape(permuted)
        counts = raw.Pack(
            [
                raw.Prod(raw.GatherV2(shape_of_x, part, zero), np.array([0], np.int32))
                for part in (reduced, others)
            ]
        )
    flat = raw.Reshape(permuted, counts)
    left = raw.Cumprod(flat, np.int32(0), exclusive=True)
    right = raw.Cumprod(flat, np.int32(0), exclusive=True, reverse=True)
    others_product = raw.Reshape(raw.Mul(conj(left), conj(right)), sizes)
    return raw.Mul(repeated, raw.Transpose(others_product, back)), None


# ---- Max, Min: NaN loses against every number, as in TF


def _extreme(reduce, lowest, namespace):
    def rule(x, axes, keep):
        kind = np.dtype(x.dtype)
        if kind.kind in "iu":
            info = np.iinfo(kind)
            initial = info.min if lowest else info.max
        else:
            initial = -np.inf if lowest else np.inf
            initial = np.asarray(initial, kind)
            x = namespace.where(namespace.isnan(x), initial, x)
        return reduce(x, axes, keepdims=keep, initial=initial)

    return rule


max_ = _reduction("Max", _extreme(jnp.max, True, jnp), _extreme(np.max, True, np))
min_ = _reduction("Min", _extreme(jnp.min, False, jnp), _extreme(np.min, False, np))


@max_.gradient
@min_.gradient
def _extreme_gradient(op, dy):
    """Equal parts for all elements that have the extreme value."""
    x = op.inputs[0]
    kept = reduced_shape(op)
    y, grad = raw.Reshape(op.outputs[0], kept), raw.Reshape(dy, kept)
    hits = raw.Cast(raw.Equal(y, x), DstT=dy.dtype.base_dtype)
    count = raw.Reshape(raw.Sum(hits, op.inputs[1]), kept)
    return raw.Mul(raw.RealDiv(hits, count), grad), None


# ---- All, Any

all_ = _reduction(
    "All",
    lambda x, axes, keep: jnp.all(x, axes, keepdims=keep),
    lambda x, axes, keep: np.all(x, axes, keepdims=keep),
    boolean=True,
).not_differentiable()
any_ = _reduction(
    "Any",
    lambda x, axes, keep: jnp.any(x, axes, keepdims=keep),
    lambda x, axes, keep: np.any(x, axes, keepdims=keep),
    boolean=True,
).not_differentiable()

# ---- EuclideanNorm


def _euclidean_norm(x, axes, keep):
    kind = np.dtype(x.dtype)
    squares = (x * x.conj()).real if kind.kind == "c" else x.astype(_wide(kind)) ** 2
    total = jnp.sum(squares, axes, dtype=squares.dtype, keepdims=keep)
    root = jnp.sqrt(total.astype(np.float64)) if kind.kind in "iu" else jnp.sqrt(total)
    return root.astype(kind)


def _euclidean_norm_host(x, axes, keep):
    kind = x.dtype
    squares = (x * x.conj()).real if kind.kind == "c" else np.square(x.astype(_wide(kind)))
    return np.sqrt(np.sum(squares, axes, dtype=squares.dtype, keepdims=keep)).astype(kind)


euclidean_norm = _reduction("EuclideanNorm", _euclidean_norm, _euclidean_norm_host)
euclidean_norm.not_differentiable()

# ---- ArgMax, ArgMin: the first of equals; NaN never wins


def _arg_dims(op, x, dimension):
    shapes.with_rank(op, dimension, 0, "dimension")
    axis = op.static(1)
    if x is None:
        return None
    if len(x) <= 1 and axis is None:
        return ()
    if axis is None:
        return (None,) * (len(x) - 1)
    axis = shapes.axis_in_rank(op, int(axis), len(x), "Dimension")
    return x[:axis] + x[axis + 1 :]


def _arg_extreme(name: str, lower: Any, host: Any, worst: float) -> None:
    definition = define(
        name,
        "input: T, dimension: Tidx -> output: output_type",
        f"T: {{{_NUMERIC}}}, {_INDEX}, output_type: {{int32, int64}} = int64",
        static_inputs=("dimension",),
    )
    definition.shape(_arg_dims)

    def prepared(op, x, dimension, namespace):
        axis = int(dimension)
        if not -x.ndim <= axis < x.ndim:
            raise op.invalid(
                f"Expected dimension in the range [{-x.ndim}, {x.ndim}), but got {axis}"
            )
        axis %= x.ndim
        if x.shape[axis] == 0:
            raise op.invalid(f"Reduction axis {axis} is empty in shape {list(x.shape)}")
        if np.dtype(x.dtype).kind not in "iub":
            x = namespace.where(namespace.isnan(x), np.asarray(worst, x.dtype), x)
        return x, axis

    @definition.lower
    def rule(op, x, dimension: np.ndarray):
        x, axis = prepared(op, x, dimension, jnp)
        return lower(x, axis, op.output_dtype(0).np_dtype)

    @definition.host
    def host_rule(op, x, dimension: np.ndarray):
        x, axis = prepared(op, x, dimension, np)
        return np.asarray(host(x, axis)).astype(op.output_dtype(0).np_dtype)

    definition.gradient(lambda op, dy: (None, None))


_arg_extreme("ArgMax", lax.argmax, np.argmax, -np.inf)
_arg_extreme("ArgMin", lax.argmin, np.argmin, np.inf)

# ---- Cumsum, Cumprod, CumulativeLogsumexp


def _running(name: str, types: str, lower: Any, host: Any, start: Any) -> OpDef:
    """A running reduction along an axis. start: the value before the first element."""
    definition = define(
        name,
        "x: T, axis: Tidx -> out: T",
        f"exclusive: bool = false, reverse: bool = false, T: {{{types}}}, {_INDEX}",
        static_inputs=("axis",),
    )

    definition.shape(shapes.unchanged)

    def axis_of(op, x, axis):
        if np.ndim(axis) != 0:
            raise op.invalid(f"axis must be a scalar, not of shape {list(np.shape(axis))}")
        if not -x.ndim <= int(axis) < x.ndim:
            raise op.invalid(
                f"Expected scan axis in the range [{-x.ndim}, {x.ndim}), but got {int(axis)}"
            )
        return int(axis) % x.ndim

    @definition.lower
    def rule(op, x, axis: np.ndarray):
        return lower(
            _shifted(op, x, axis_of(op, x, axis), start, jnp),
            axis_of(op, x, axis),
            op.attr("reverse"),
        )

    if host is not None:

        @definition.host
        def host_rule(op, x, axis: np.ndarray):
            along = axis_of(op, x, axis)
            x = _shifted(op, x, along, start, np)
            flipped = np.flip(x, along) if op.attr("reverse") else x
            total = np.asarray(host(flipped, axis=along, dtype=_wide(x.dtype)), x.dtype)
            return np.ascontiguousarray(np.flip(total, along)) if op.attr("reverse") else total

    return definition


def _shifted(op, x, axis, start, namespace):
    """For `exclusive`: the elements moved on by one, beginning with `start`."""
    if not op.attr("exclusive") or not x.shape[axis]:
        return x
    edge_shape = x.shape[:axis] + (1,) + x.shape[axis + 1 :]
    edge = namespace.full(edge_shape, np.asarray(start, x.dtype))
    kept = [slice(None)] * x.ndim
    if op.attr("reverse"):
        kept[axis] = slice(1, None)
        return namespace.concatenate([x[tuple(kept)], edge], axis)
    kept[axis] = slice(None, -1)
    return namespace.concatenate([edge, x[tuple(kept)]], axis)


cumsum = _running(
    "Cumsum", _NUMERIC, lambda x, axis, reverse: lax.cumsum(x, axis, reverse), np.cumsum, 0
)


@cumsum.gradient
def _cumsum_gradient(op, dy):
    exclusive, reverse = op.attr("exclusive"), op.attr("reverse")
    return raw.Cumsum(dy, op.inputs[1], exclusive=exclusive, reverse=not reverse), None


cumprod = _running(
    "Cumprod", _NUMERIC, lambda x, axis, reverse: lax.cumprod(x, axis, reverse), np.cumprod, 1
)


@cumprod.gradient
def _cumprod_gradient(op, dy):
    """As in TF, NaN where x is zero."""
    x, axis = op.inputs
    exclusive, reverse = op.attr("exclusive"), op.attr("reverse")
    product = raw.Cumprod(x, axis, exclusive=exclusive, reverse=reverse)
    total = raw.Cumsum(raw.Mul(product, dy), axis, exclusive=exclusive, reverse=not reverse)
    return raw.RealDiv(total, x), None


cumulative_logsumexp = _running(
    "CumulativeLogsumexp",
    "half, float, double",
    lambda x, axis, reverse: lax.cumlogsumexp(x, axis, reverse),
    lambda x, axis, dtype: np.logaddexp.accumulate(x.astype(dtype), axis=axis),
    -np.inf,
)


@cumulative_logsumexp.gradient
def _cumulative_logsumexp_gradient(op, dy):
    """dx_i = the sum over j of exp(x_i - out_j) dy_j, the positive and the negative dy apart, in logarithms."""
    (x, axis), out = op.inputs, op.outputs[0]
    exclusive, reverse = op.attr("exclusive"), op.attr("reverse")
    lowest = scalar_like(float(jnp.finfo(dy.dtype.as_numpy_dtype).min), dy)
    zero = scalar_like(0, dy)

    def part(selected, size):
        logs = raw.SelectV2(selected, raw.Log(size), lowest)
        total = raw.CumulativeLogsumexp(
            raw.Sub(logs, out), axis, exclusive=exclusive, reverse=not reverse
        )
        return raw.Exp(raw.AddV2(total, x))

    return raw.Sub(part(raw.Greater(dy, zero), dy), part(raw.Less(dy, zero), raw.Neg(dy))), None
