"""Response normalisation, half the squared norm, and the permutations between data formats."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define

# ---- LRN: each value divided by a power of the sum of squares of its neighbours along the channels

_LRN = (
    "depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, "
    "T: {half, bfloat16, float} = float"
)


def _over_neighbours(op, x):
    """The sum over the channels no farther than the radius."""
    radius = min(op.attr("depth_radius"), max(x.shape[-1] - 1, 0))
    window = (1, 1, 1, 2 * radius + 1)
    return lax.reduce_window(
        x, np.zeros((), x.dtype), lax.add, window, (1, 1, 1, 1), ((0, 0),) * 3 + ((radius, radius),)
    )


def _norm(op, x):
    return op.attr("bias") + op.attr("alpha") * _over_neighbours(op, x * x)


def _power(op, n):
    """n to the power -beta; XLA's general power takes five times as long as a logarithm and an exponential."""
    beta = op.attr("beta")
    if beta == 0.5:
        return lax.rsqrt(n)
    return 1 / n if beta == 1 else jnp.exp(-beta * jnp.log(n))


def _check_images(op, *tensors) -> None:
    for tensor in tensors:
        if tensor.ndim != 4:
            raise op.invalid(f"in must be 4-dimensional, got shape {tensor.shape}")


lrn = define("LRN", "input: T -> output: T", _LRN)


@lrn.shape
def _lrn_shape(op, x):
    return shapes.with_rank(op, x, 4, "input")


@lrn.lower
def _lrn_lower(op, x):
    _check_images(op, x)
    wide = x.astype(jnp.float32)
    return (wide * _power(op, _norm(op, wide))).astype(x.dtype)


@lrn.gradient
def _lrn_gradient(op, dy):
    attrs = {n: op.attr(n) for n in ("depth_radius", "bias", "alpha", "beta")}
    return raw.LRNGrad(dy, op.inputs[0], op.outputs[0], **attrs)


lrn_grad = define("LRNGrad", "input_grads: T, input_image: T, output_image: T -> output: T", _LRN)


@lrn_grad.shape
def _lrn_grad_shape(op, dy, x, y):
    both = shapes.merge(op, dy, x, "input_grads and input_image")
    return shapes.with_rank(op, shapes.merge(op, both, y, "input_grads and output_image"), 4)


@lrn_grad.lower
def _lrn_grad_lower(op, dy, x, y):
    """With y_i = x_i n_i^-beta and dn_i/dx_j = 2 alpha x_j: dx_j = dy_j n_j^-beta - 2 alpha beta x_j
    sum_i dy_i y_i / n_i."""
    _check_images(op, dy, x, y)
    g, wide, out = (v.astype(jnp.float32) for v in (dy, x, y))
    n = _norm(op, wide)
    through_norm = _over_neighbours(op, g * out / n)
    beta = op.attr("beta")
    return (g * _power(op, n) - 2 * op.attr("alpha") * beta * wide * through_norm).astype(x.dtype)


@lrn_grad.gradient
def _lrn_grad_gradient(op, ddx):
    raise LookupError(
        f"No gradient defined for operation {op.name!r} (op type: LRNGrad){op._site_line()}"
    )


# ---- L2Loss

_SQUARES_AT_ONCE = 1024

l2_loss = define("L2Loss", "t: T -> output: T", "T: {half, bfloat16, float, double}")
l2_loss.adds_up()
l2_loss.shape(shapes.scalar)


@l2_loss.lower
def _l2_loss_lower(op, t):
    return jnp.sum(t * t, dtype=t.dtype) * np.asarray(0.5, t.dtype)


@l2_loss.host
def _l2_loss_host(op, t):
    total = np.asarray(0, t.dtype)
    whole = t.size - t.size % _SQUARES_AT_ONCE
    if t.dtype in (np.float32, np.float64) and t.flags.c_contiguous and whole:
        # Without an array of the squares; NumPy adds up the parts by halves, as it does the elements.
        parts = t.reshape(-1)[:whole].reshape(-1, _SQUARES_AT_ONCE)
        total = np.sum(np.einsum("ij,ij->i", parts, parts), dtype=t.dtype)
        t = t.reshape(-1)[whole:]
    return (total + np.sum(t * t, dtype=t.dtype)) * np.asarray(0.5, t.dtype)


@l2_loss.gradient
def _l2_loss_gradient(op, dy):
    return raw.Mul(op.inputs[0], dy)


# ---- DataFormatDimMap, DataFormatVecPermute

_FORMATS = "T: {int32, int64} = int32, src_format: string = 'NHWC', dst_format: string = 'NCHW'"


def _source_of_destination(op) -> list[int]:
    """For each axis of dst_format the axis of src_format. Raises InvalidArgumentError: they are no permutations."""
    source, destination = op.attr("src_format"), op.attr("dst_format")
    for name, text in (("Source", source), ("Destination", destination)):
        if len(text) not in (4, 5):
            raise op.invalid(f"{name} format must be of length 4 or 5, received {text!r}")
    if sorted(source) != sorted(destination) or len(set(source)) != len(source):
        raise op.invalid(
            f"Destination and source format must determine a permutation, got {source} and {destination}"
        )
    return [source.index(c) for c in destination]


data_format_dim_map = define("DataFormatDimMap", "x: T -> y: T", _FORMATS)
data_format_dim_map.shape(shapes.unchanged)


@data_format_dim_map.host
@data_format_dim_map.lower
def _data_format_dim_map_lower(op, x):
    source = _source_of_destination(op)
    rank = len(source)
    table = np.array([source.index(axis) for axis in range(rank)], x.dtype)
    return table[x % rank] if isinstance(x, np.ndarray) else jnp.asarray(table)[x % rank]


data_format_dim_map.not_differentiable()

data_format_vec_permute = define("DataFormatVecPermute", "x: T -> y: T", _FORMATS)


data_format_vec_permute.shape(shapes.unchanged)


@data_format_vec_permute.host
@data_format_vec_permute.lower
def _data_format_vec_permute_lower(op, x):
    source = _source_of_destination(op)
    if x.ndim == 1 and x.shape[0] not in (4, 5):
        raise op.invalid(f"1D input must be of size 4 or 5, but got shape {list(x.shape)}")
    if x.ndim != 1 and x.shape != (4, 2):
        raise op.invalid(
            f"input must be a vector, or a matrix of 4 rows and 2 columns, but got shape {list(x.shape)}"
        )
    return x[np.array(source)]


data_format_vec_permute.not_differentiable()
