"""Pooling of images and volumes: the maximum or the mean of windows, and the ops of their gradients."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace.core import errors
from headrace.graph import raw, shapes
from headrace.graph.op_def import OpDef, define
from headrace.ops import pooling_host, pooling_windows
from headrace.ops.pooling_windows import Windows, windows_of
from headrace.ops.reshape import shape_of
from headrace.ops.windows import layout, output_size, per_axis

_REAL = "{float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64}"
_MAX_TYPES = "{half, bfloat16, float, double, int32, int64, uint8, int16, int8, uint16, qint8}"
_KSIZE = "ksize: list(int) >= {rank}, strides: list(int) >= {rank}, padding: {{'SAME', 'VALID'}}"
_FORMAT = "data_format: {'NHWC', 'NCHW'} = 'NHWC'"
_FORMAT_VECT = "data_format: {'NHWC', 'NCHW', 'NCHW_VECT_C'} = 'NHWC'"
_FORMAT_3D = "data_format: {'NDHWC', 'NCDHW'} = 'NDHWC'"
_ATTRS_2D, _ATTRS_3D = _KSIZE.format(rank=4), _KSIZE.format(rank=5)

# ---- what the pooling ops share


def _data_format(op) -> str:
    data_format = op._attrs.get("data_format", "NHWC")
    if data_format == "NCHW_VECT_C":
        raise op.error("data_format NCHW_VECT_C (quantized pooling) is not supported.")
    return data_format


def _pooled(op, x, ksize, strides):
    """The static shape of the output for the shape `x`; `ksize` and `strides` are None where they are not known."""
    axes = layout(_data_format(op))
    x = shapes.with_rank(op, x, axes.rank, "input")
    sizes = [
        None if k is None else output_size(op, size, int(k), int(s), 1, op.attr("padding"))
        for size, k, s in zip(
            x,
            [None] * axes.rank if ksize is None else ksize,
            strides if strides is not None else x,
            strict=True,
        )
    ]
    for values in (ksize, strides):
        _check_batch(op, axes, values)
    sizes[axes.batch] = x[axes.batch]
    return tuple(sizes)


def _pool_shape(op, x):
    rank = layout(_data_format(op)).rank
    return _pooled(op, x, per_axis(op, "ksize", rank), per_axis(op, "strides", rank))


def _pool_v2_shape(op, x, ksize, strides):
    first = len(op._inputs) - 2
    for dims, what in ((ksize, "ksize"), (strides, "strides")):
        shapes.merge(op, dims, (4,), what)
    sizes, steps = op.static(first), op.static(first + 1)
    known = sizes is not None and steps is not None
    return _pooled(op, x, sizes if known else None, steps if known else None)


def _same_as_input(op, x, *others):
    return shapes.with_rank(op, x, layout(_data_format(op)).rank, "orig_input")


def _check_batch(op, axes, values) -> None:
    if values is not None and int(values[axes.batch]) != 1:
        raise _unimplemented(op, "Pooling is not yet supported on the batch dimension.")


def _windows(op, x, ksize=None, strides=None) -> Windows:
    """The windows of `op` over `x`. Raises UnimplementedError: pooling over batches, or over channels and places."""
    ksize = op.attr("ksize") if ksize is None else [int(k) for k in ksize.reshape(-1)]
    strides = op.attr("strides") if strides is None else [int(s) for s in strides.reshape(-1)]
    axes = layout(_data_format(op))
    sizes = x if isinstance(x, tuple) else x.shape
    if len(ksize) != axes.rank or len(strides) != axes.rank:
        raise op.invalid(
            f"ksize and strides must have {axes.rank} elements, got {ksize} and {strides}"
        )
    for values in (ksize, strides):
        _check_batch(op, axes, values)
    if any(k <= 0 for k in ksize) or any(s <= 0 for s in strides):
        raise op.invalid(f"ksize and strides must be positive, got {ksize} and {strides}")
    if ksize[axes.channel] != 1:
        if set(axes.pick(ksize)) != {1}:
            raise _unimplemented(
                op,
                "MaxPooling supports exactly one of pooling across depth or pooling across width/height.",
            )
        if len(sizes) == axes.rank and sizes[axes.channel] % ksize[axes.channel]:
            raise _unimplemented(
                op,
                "Depthwise max pooling requires the depth window to evenly divide the input depth",
            )
        if strides[axes.channel] != ksize[axes.channel]:
            raise _unimplemented(
                op, "Depthwise max pooling requires the depth window to equal the depth stride"
            )
    return windows_of(op, sizes, ksize, strides, op.attr("padding"))


def _unimplemented(op, message: str) -> errors.UnimplementedError:
    return errors.UnimplementedError(None, None, f"{op.type} op {op.name!r}: {message}")


def _check_fits(op, windows: Windows, y, what: str) -> None:
    if tuple(y.shape) != windows.places:
        raise op.invalid(
            f"Expected {what} shape to be {list(windows.places)}, but got {list(y.shape)}"
        )


def _attrs(op) -> dict:
    names = ("ksize", "strides", "padding", "data_format", "include_batch_in_index")
    return {name: op._attrs[name] for name in names if name in op._attrs}


def _zeros_like(*tensors) -> list:
    return [raw.ZerosLike(t) for t in tensors]


# ---- the maximum: MaxPool, MaxPool3D; MaxPoolV2 takes window and strides as inputs


def _max_lower(op, x, ksize=None, strides=None):
    windows = _windows(op, x, ksize, strides)
    if 0 in windows.places:
        return jnp.zeros(windows.places, x.dtype)
    return pooling_windows.maximum(x, windows)


def _max_grad_lower(op, x, y, dy, ksize=None, strides=None):
    windows = _windows(op, x, ksize, strides)
    _check_fits(op, windows, y, "orig_output")
    _check_fits(op, windows, dy, "grad")
    if 0 in windows.places or 0 in windows.sizes:
        return jnp.zeros(windows.sizes, dy.dtype)
    # XLA would round to 16 bits after each of dozens of sums.
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    which = pooling_windows.first_maximum(x.astype(wide), y.astype(wide), windows)
    return pooling_windows.to_maximum(dy.astype(wide), which, windows).astype(dy.dtype)


def _max_native(op, x, ksize=None, strides=None):
    windows = _windows(op, x, ksize, strides)
    return None if 0 in windows.places else pooling_host.maximum(x, windows)


def _max_grad_native(op, x, y, dy, ksize=None, strides=None):
    windows = _windows(op, x, ksize, strides)
    _check_fits(op, windows, y, "orig_output")
    _check_fits(op, windows, dy, "grad")
    if 0 in windows.places or 0 in windows.sizes:
        return None
    return pooling_host.to_maximum(dy, x, y, windows)


def _max_grad_grad_lower(op, x, y, ddx, ksize=None, strides=None):
    windows = _windows(op, x, ksize, strides)
    _check_fits(op, windows, y, "orig_output")
    if 0 in windows.places:
        return jnp.zeros(windows.places, ddx.dtype)
    which = pooling_windows.first_maximum(x, y, windows)
    return pooling_windows.at_maximum(ddx, which, windows)


def _define_max(forward: OpDef, grad: OpDef, grad_grad: OpDef) -> None:
    """The rules of a windowed maximum, of its gradient op, and of that one's; the gradients name one another."""
    for definition, rule in (
        (forward, _max_lower),
        (grad, _max_grad_lower),
        (grad_grad, _max_grad_grad_lower),
    ):
        definition.lower(rule)
    forward.native(_max_native)
    grad.native(_max_grad_native)
    grad.shape(_same_as_input)

    @forward.gradient
    def _max_pool_gradient(op, dy):
        x, *rest = op.inputs
        dx = getattr(raw, grad.name)(x, op.outputs[0], dy, *rest, **_attrs(op))
        return [dx, *[None] * len(rest)] if rest else dx

    @grad.gradient
    def _max_pool_grad_gradient(op, ddx):
        x, y, _, *rest = op.inputs
        ddy = getattr(raw, grad_grad.name)(x, y, ddx, *rest, **_attrs(op))
        return [*_zeros_like(x, y), ddy, *[None] * len(rest)]

    @grad_grad.gradient
    def _max_pool_grad_grad_gradient(op, dddy):
        x, y, _, *rest = op.inputs
        dddx = getattr(raw, grad.name)(x, y, dddy, *rest, **_attrs(op))
        return [*_zeros_like(x, y), dddx, *[None] * len(rest)]


def _pool_grad_grad_shape(op, x, y, ddx):
    shapes.merge(op, x, ddx, "orig_input and grad")
    return shapes.merge(op, _pool_shape(op, x), y, "output and orig_output")


def _pool_grad_grad_v2_shape(op, x, y, ddx, ksize, strides):
    shapes.merge(op, x, ddx, "orig_input and grad")
    return shapes.merge(op, _pool_v2_shape(op, x, ksize, strides), y, "output and orig_output")


_GRAD = "orig_input: T, orig_output: T, grad: T{} -> output: T"
_SIZES = ", ksize: int32, strides: int32"

max_pool = define(
    "MaxPool", "input: T -> output: T", f"T: {_MAX_TYPES} = float, {_ATTRS_2D}, {_FORMAT_VECT}"
)
max_pool_grad = define(
    "MaxPoolGrad", _GRAD.format(""), f"{_ATTRS_2D}, {_FORMAT}, T: {_REAL} = float"
)
max_pool_grad_grad = define(
    "MaxPoolGradGrad", _GRAD.format(""), f"{_ATTRS_2D}, {_FORMAT}, T: {_REAL}"
)
max_pool.shape(_pool_shape)
max_pool_grad_grad.shape(_pool_grad_grad_shape)
_define_max(max_pool, max_pool_grad, max_pool_grad_grad)

_PADDING = "padding: {'SAME', 'VALID'}"
max_pool_v2 = define(
    "MaxPoolV2",
    "input: T, ksize: int32, strides: int32 -> output: T",
    f"T: {_MAX_TYPES} = float, {_PADDING}, {_FORMAT_VECT}",
    static_inputs=("ksize", "strides"),
)
max_pool_grad_v2 = define(
    "MaxPoolGradV2",
    _GRAD.format(_SIZES),
    f"{_PADDING}, {_FORMAT}, T: {_REAL} = float",
    static_inputs=("ksize", "strides"),
)
max_pool_grad_grad_v2 = define(
    "MaxPoolGradGradV2",
    _GRAD.format(_SIZES),
    f"{_PADDING}, {_FORMAT}, T: {_REAL}",
    static_inputs=("ksize", "strides"),
)
max_pool_v2.shape(_pool_v2_shape)
max_pool_grad_grad_v2.shape(_pool_grad_grad_v2_shape)
_define_max(max_pool_v2, max_pool_grad_v2, max_pool_grad_grad_v2)

max_pool_3d = define(
    "MaxPool3D", "input: T -> output: T", f"{_ATTRS_3D}, {_FORMAT_3D}, T: {{half, bfloat16, float}}"
)
max_pool_3d_grad = define(
    "MaxPool3DGrad",
    "orig_input: TInput, orig_output: TInput, grad: T -> output: T",
    f"{_ATTRS_3D}, {_FORMAT_3D}, T: {{half, bfloat16, float}} = float, TInput: {{half, bfloat16, float}} = float",
)
max_pool_3d_grad_grad = define(
    "MaxPool3DGradGrad", _GRAD.format(""), f"{_ATTRS_3D}, {_FORMAT_3D}, T: {_REAL}"
)
max_pool_3d.shape(_pool_shape)
max_pool_3d_grad_grad.shape(_pool_grad_grad_shape)
_define_max(max_pool_3d, max_pool_3d_grad, max_pool_3d_grad_grad)

# ---- MaxPoolWithArgmax: also where in the (flattened) image, or in the batch, the maximum was

_INDEX = "include_batch_in_index: bool = false"

max_pool_with_argmax = define(
    "MaxPoolWithArgmax",
    "input: T -> output: T, argmax: Targmax",
    "ksize: list(int) >= 4, strides: list(int) >= 4, Targmax: {int32, int64} = int64, "
    f"{_PADDING}, {_INDEX}, T: {_REAL}",
)
max_pool_grad_with_argmax = define(
    "MaxPoolGradWithArgmax",
    "input: T, grad: T, argmax: Targmax -> output: T",
    f"{_ATTRS_2D}, {_INDEX}, Targmax: {{int32, int64}}, T: {_REAL}",
)
max_pool_grad_grad_with_argmax = define(
    "MaxPoolGradGradWithArgmax",
    "input: T, grad: T, argmax: Targmax -> output: T",
    f"{_ATTRS_2D}, {_INDEX}, Targmax: {{int32, int64}}, T: {_REAL}",
)


@max_pool_with_argmax.shape
def _max_pool_with_argmax_shape(op, x):
    y = _pool_shape(op, x)
    return [y, y]


@max_pool_with_argmax.lower
def _max_pool_with_argmax_lower(op, x):
    windows = _windows(op, x)
    kind = op.output_dtype(1).np_dtype
    if 0 in windows.places:
        return jnp.zeros(windows.places, x.dtype), jnp.zeros(windows.places, kind)
    y = pooling_windows.maximum(x, windows)
    which = pooling_windows.first_maximum(x, y, windows)
    positions = [p.astype(kind) for p in pooling_windows.position_of_maximum(which, windows)]
    first = 0 if op.attr("include_batch_in_index") else 1
    index = jnp.zeros(windows.places, kind)
    for axis in range(first, len(windows.sizes)):
        index = index * windows.sizes[axis] + positions[axis]
    return y, index


@max_pool_with_argmax.gradient
def _max_pool_with_argmax_gradient(op, dy, _):
    return raw.MaxPoolGradWithArgmax(op.inputs[0], dy, op.outputs[1], **_attrs(op))


max_pool_grad_with_argmax.shape(_same_as_input)


def _index_in_batch(op, sizes, argmax):
    """`argmax` as indices into the flattened batch."""
    if op.attr("include_batch_in_index"):
        return argmax
    image = np.array(int(np.prod(sizes[1:])), argmax.dtype)
    return argmax + (np.arange(sizes[0], dtype=argmax.dtype) * image).reshape(-1, 1, 1, 1)


@max_pool_grad_with_argmax.lower
def _max_pool_grad_with_argmax_lower(op, x, dy, argmax):
    index = _index_in_batch(op, x.shape, argmax)
    flat = jnp.zeros(x.size, dy.dtype).at[index.reshape(-1)].add(dy.reshape(-1), mode="drop")
    return flat.reshape(x.shape)


@max_pool_grad_with_argmax.gradient
def _max_pool_grad_with_argmax_gradient(op, ddx):
    x, _, argmax = op.inputs
    return raw.ZerosLike(x), raw.MaxPoolGradGradWithArgmax(x, ddx, argmax, **_attrs(op)), None


@max_pool_grad_grad_with_argmax.shape
def _max_pool_grad_grad_with_argmax_shape(op, x, ddx, argmax):
    shapes.merge(op, x, ddx, "input and grad")
    return shapes.merge(op, _pool_shape(op, x), argmax, "output and argmax")


@max_pool_grad_grad_with_argmax.lower
def _max_pool_grad_grad_with_argmax_lower(op, x, ddx, argmax):
    index = _index_in_batch(op, x.shape, argmax)
    return jnp.take(ddx.reshape(-1), index, mode="fill", fill_value=0).astype(ddx.dtype)


@max_pool_grad_grad_with_argmax.gradient
def _max_pool_grad_grad_with_argmax_gradient(op, dddy):
    x, _, argmax = op.inputs
    return raw.ZerosLike(x), raw.MaxPoolGradWithArgmax(x, dddy, argmax, **_attrs(op)), None


# ---- the mean: AvgPool, AvgPool3D; padding does not count


def _average_lower(op, x):
    windows = _windows(op, x)
    if 0 in windows.places:
        return jnp.zeros(windows.places, x.dtype)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    sums = pooling_windows.total(x.astype(wide), windows)
    return (sums / pooling_windows.counts(windows).astype(wide)).astype(x.dtype)


def _average_grad_lower(op, shape_of_x: np.ndarray, dy):
    windows = _windows(op, tuple(int(s) for s in shape_of_x.reshape(-1)))
    _check_fits(op, windows, dy, "grad")
    if 0 in windows.places or 0 in windows.sizes:
        return jnp.zeros(windows.sizes, dy.dtype)
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    shares = dy.astype(wide) / pooling_windows.counts(windows).astype(wide)
    return pooling_windows.add_back(shares, windows).astype(dy.dtype)


def _average_native(op, x):
    windows = _windows(op, x)
    return None if 0 in windows.places else pooling_host.average(x, windows)


def _average_grad_native(op, shape_of_x: np.ndarray, dy):
    windows = _windows(op, tuple(int(s) for s in shape_of_x.reshape(-1)))
    _check_fits(op, windows, dy, "grad")
    if 0 in windows.places or 0 in windows.sizes:
        return None
    return pooling_host.average_gradient(dy, windows)


def _average_grad_shape(op, shape_of_x, dy):
    rank = layout(_data_format(op)).rank
    shapes.with_rank(op, dy, rank, "grad")
    return shapes.with_rank(op, shapes.sizes_of(op, 0), rank, "the shape of orig_input")


def _define_average(name: str, value: str, attrs: str) -> list[OpDef]:
    """Defines a windowed mean and its gradient op."""
    floats = "T: {half, bfloat16, float, double}"
    forward = define(name, f"{value}: T -> output: T", f"{attrs}, {floats}")
    grad = define(
        f"{name}Grad",
        "orig_input_shape: int32, grad: T -> output: T",
        f"{attrs}, {floats}",
        static_inputs=("orig_input_shape",),
    )
    forward.shape(_pool_shape)
    forward.lower(_average_lower)
    forward.native(_average_native)
    grad.shape(_average_grad_shape)
    grad.lower(_average_grad_lower)
    grad.native(_average_grad_native)

    @forward.gradient
    def _average_gradient(op, dy):
        return getattr(raw, grad.name)(shape_of(op.inputs[0]), dy, **_attrs(op))

    @grad.gradient
    def _average_grad_gradient(op, ddx):
        return None, getattr(raw, forward.name)(ddx, **_attrs(op))

    return [forward, grad]


avg_pool, avg_pool_grad = _define_average("AvgPool", "value", f"{_ATTRS_2D}, {_FORMAT}")
avg_pool_3d, avg_pool_3d_grad = _define_average("AvgPool3D", "input", f"{_ATTRS_3D}, {_FORMAT_3D}")
