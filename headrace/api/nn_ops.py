"""Activations, softmax and its cross entropies, biases, dropout: the everyday functions of `tf.nn`."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.export import export, export_op
from headrace.api.framework import name_scope
from headrace.api.random_ops import random_uniform
from headrace.api.renamed_argument import renamed
from headrace.core import dtypes, errors
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import raw, shapes
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor

# ---- activations

relu = export_op("Relu", "features", "nn.relu", doc="max(features, 0), elementwise.")
export_op("Elu", "features", "nn.elu", doc="exp(features) - 1 where negative, else features.")
export_op(
    "Selu",
    "features",
    "nn.selu",
    doc="The self-normalising unit: a scaled exponential linear unit.",
)
export_op(
    "Softplus",
    "features",
    "nn.softplus",
    "math.softplus",
    doc="log(exp(features) + 1), elementwise.",
)
export_op(
    "Softsign",
    "features",
    "nn.softsign",
    "math.softsign",
    doc="features / (|features| + 1), elementwise.",
)
export_op("L2Loss", "t", "nn.l2_loss", doc="Half the sum of the squares of `t`: a scalar.")
export_op(
    "LRN",
    "input, depth_radius=5, bias=1, alpha=1, beta=0.5",
    "nn.local_response_normalization",
    "nn.lrn",
    doc="`input` [batch, height, width, channels] divided by a power of the sum of squares over neighbouring channels.",
)


@export("nn.relu6")
def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(features, 0), 6), elementwise."""
    with name_scope(name, "Relu6", [features]) as scope:
        return raw.Relu6(convert_to_tensor(features, name="features"), name=scope)


@export("nn.crelu")
def crelu(features: Any, name: str | None = None, axis: Any = -1) -> Tensor:
    """The positive and the negated negative parts of `features`, side by side along `axis`, which doubles."""
    with name_scope(name, "CRelu", [features]) as scope:
        features = convert_to_tensor(features, name="features")
        return raw.Relu(raw.ConcatV2([features, raw.Neg(features)], axis, name=scope))


@export("nn.leaky_relu")
def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """`features` where positive, else alpha * features. Integers become float32."""
    with name_scope(name, "LeakyRelu", [features, alpha]) as scope:
        features = convert_to_tensor(features, name="features")
        if features.dtype.is_integer:
            features = raw.Cast(features, DstT=dtypes.float32)
        alpha = alpha.item() if isinstance(alpha, np.ndarray) else alpha
        return raw.LeakyRelu(features, alpha=alpha, name=scope)


@export("nn.swish")
def swish(features: Any) -> Tensor:
    """features * sigmoid(features), elementwise."""
    features = convert_to_tensor(features, name="features")
    return raw.Mul(features, raw.Sigmoid(features), name="mul")


# ---- softmax


def _along_axis(logits: Any, axis: Any, name: str | None, build: Callable[..., Tensor]) -> Tensor:
    """`build(logits)` (which works along the last axis) along `axis`."""
    logits = convert_to_tensor(logits)
    rank = logits.shape.ndims
    if axis is None:
        axis = -1
    if isinstance(axis, Tensor):
        value = constant_value(axis)
        axis = axis if value is None else int(value)
    if not isinstance(axis, Tensor):
        if rank is not None and not -rank <= axis < rank:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Dimension ({axis}) must be in the range [{-rank}, {rank}) where {rank} is the "
                "number of dimensions in "
                "the input.",
            )
        if axis == -1 or axis + 1 == rank:
            return build(logits, name=name)
    swap = _swap_with_last(logits, axis, rank)
    swapped = build(raw.Transpose(logits, swap, name="transpose"))
    result = raw.Transpose(swapped, swap, name="transpose" if name is None else name)
    result.set_shape(logits.shape)
    return result


def _swap_with_last(x: Tensor, axis: Any, rank: int | None) -> Any:
    """The permutation that exchanges `axis` and the last one: a constant where the rank is known."""
    if rank is not None and not isinstance(axis, Tensor):
        order = list(range(rank))
        order[axis], order[-1] = order[-1], order[axis]
        return np.array(order, np.int32)
    rank_of_x = raw.Rank(x)
    last = raw.Sub(rank_of_x, 1)
    axis = raw.FloorMod(raw.Add(rank_of_x, axis), rank_of_x)
    before = raw.Range(0, axis, 1)
    after = raw.Range(raw.Add(axis, 1), last, 1)
    swapped = raw.ConcatV2([before, raw.ExpandDims(last, 0), after, raw.ExpandDims(axis, 0)], 0)
    # Where the axis is the last one this names it twice.
    return raw.Slice(swapped, [0], raw.ExpandDims(rank_of_x, 0))


@export("nn.softmax", "math.softmax")
def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(logits) / sum(exp(logits)) along `axis` (the last where None).

    logits: float of any rank from 1. Raises InvalidArgumentError: `axis` outside the rank.
    """
    return _along_axis(logits, renamed("axis", axis, "dim", dim), name, raw.Softmax)


@export("nn.log_softmax", "math.log_softmax")
def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """logits - log(sum(exp(logits))) along `axis` (the last where None).

    logits: float of any rank from 1. Raises InvalidArgumentError: `axis` outside the rank.
    """
    return _along_axis(logits, renamed("axis", axis, "dim", dim), name, raw.LogSoftmax)


# ---- cross entropies


def check_cross_entropy_arguments(name: str, sentinel: Any, labels: Any, logits: Any) -> None:
    """Raises ValueError: labels or logits given by position, or missing."""
    if sentinel is not None:
        raise ValueError(f"Only call `{name}` with named arguments (labels=..., logits=..., ...)")
    if labels is None or logits is None:
        raise ValueError("Both labels and logits must be provided.")


def _flatten_outer(x: Tensor) -> Tensor:
    """`x` as a matrix of its rows along the last axis."""
    dims = x._dims
    if dims is None:
        rank = raw.Rank(x)
        last = raw.Slice(raw.Shape(x), raw.ExpandDims(raw.Sub(rank, 1), 0), [1])
        return raw.Reshape(x, raw.ConcatV2([[-1], last], 0))
    if dims and dims[-1] is not None:
        sizes: Any = np.array([-1, dims[-1]], np.int32)
    else:
        sizes = raw.ConcatV2([[-1], raw.Slice(raw.Shape(x), [len(dims) - 1], [1])], 0)
    flat = raw.Reshape(x, sizes)
    if shapes.is_known(dims[:-1]):
        flat.set_shape([shapes.element_count(dims[:-1]), dims[-1]])
    return flat


def _sizes_of_outer(x: Tensor) -> Any:
    """The sizes of `x` but the last one, as a constant where they are known."""
    dims = x._dims
    if dims is not None and shapes.is_known(dims[:-1]):
        return np.array(dims[:-1], np.int32)
    count = raw.Sub(raw.Rank(x), 1) if dims is None else np.int32(len(dims) - 1)
    return raw.Slice(raw.Shape(x), [0], raw.ExpandDims(count, 0))


def _to_end(x: Tensor, axis: int) -> Tensor:
    """`x` with `axis` moved to the end."""
    rank = x.shape.ndims
    if rank is not None:
        order = [i for i in range(rank) if i != axis % rank]
        return raw.Transpose(x, np.array([*order, axis % rank], np.int32), name="transpose")
    rank_of_x = raw.Rank(x)
    at = raw.FloorMod(raw.Add(rank_of_x, axis), rank_of_x)
    others = [raw.Range(0, at, 1), raw.Range(raw.Add(at, 1), rank_of_x, 1), raw.ExpandDims(at, 0)]
    return raw.Transpose(x, raw.ConcatV2(others, 0), name="transpose")


@export("nn.softmax_cross_entropy_with_logits_v2")
def softmax_cross_entropy_with_logits_v2(
    labels: Any,
    logits: Any,
    axis: int | None = None,
    name: str | None = None,
    dim: int | None = None,
) -> Tensor:
    """The cross entropy of `labels` (probabilities) and softmax(logits) along `axis`, for every other index.

    labels, logits: [D..., classes], or labels that broadcast. Returns [D...], float. Gradients go into both.
    """
    axis = renamed("axis", axis, "dim", dim)
    with name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="labels")
        half = logits.dtype in (dtypes.float16, dtypes.bfloat16)
        precise = raw.Cast(logits, DstT=dtypes.float32) if half else logits
        if labels.dtype.base_dtype != precise.dtype.base_dtype:
            labels = raw.Cast(labels, DstT=precise.dtype.base_dtype)
        if axis is not None and axis != -1:
            precise, labels = _to_end(precise, axis), _to_end(labels, axis)
        sizes = _sizes_of_outer(precise)
        known = precise.shape[:-1] if precise.shape.ndims is not None else None
        loss, _ = raw.SoftmaxCrossEntropyWithLogits(
            _flatten_outer(precise), _flatten_outer(labels), name=scope
        )
        loss = raw.Reshape(loss, sizes)
        if known is not None:
            loss.set_shape(known)
        return raw.Cast(loss, DstT=logits.dtype.base_dtype) if half else loss


@export("nn.softmax_cross_entropy_with_logits")
def softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Tensor:
    """As `softmax_cross_entropy_with_logits_v2`; labels count as constants: no gradient goes into them.

    Raises ValueError: labels and logits not given by name.
    """
    if axis is None:
        axis = dim
    elif dim != -1:
        raise ValueError("Cannot specify both 'dim' and 'axis'")
    check_cross_entropy_arguments("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        labels = raw.StopGradient(labels, name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits, axis=axis, name=scope)


@export("nn.sparse_softmax_cross_entropy_with_logits")
def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """The cross entropy of softmax(logits) for labels that are indices of classes.

    labels: [D...] int32 or int64, in [0, classes).  logits: [D..., classes], float.  Returns [D...], dtype of logits.
    Raises ValueError: arguments not given by name; shapes that do not fit.
    """
    check_cross_entropy_arguments(
        "sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits
    )
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits", [labels, logits]):
        labels, logits = convert_to_tensor(labels), convert_to_tensor(logits)
        half = logits.dtype == dtypes.float16
        precise = raw.Cast(logits, DstT=dtypes.float32) if half else logits
        known = _check_sparse_shapes(labels, logits)
        if logits.shape.ndims == 2:
            loss, _ = raw.SparseSoftmaxCrossEntropyWithLogits(precise, labels, name=name)
            return raw.Cast(loss, DstT=dtypes.float16) if half else loss
        shape_of_labels = raw.Shape(labels)
        if not known:
            # The kernel sees flat labels and rows; it would not notice shapes with as many elements.
            outer = _sizes_of_outer(logits)
            fits = raw.All(raw.Equal(shape_of_labels, outer), [0])
            check = raw.Assert(fits, ["labels and logits do not fit: ", shape_of_labels, outer])
            with logits.graph.control_dependencies([check]):
                labels = raw.Identity(labels)
        loss, _ = raw.SparseSoftmaxCrossEntropyWithLogits(
            _flatten_outer(precise), raw.Reshape(labels, [-1]), name=name
        )
        loss = raw.Reshape(loss, shape_of_labels)
        loss.set_shape(labels.shape)
        return raw.Cast(loss, DstT=dtypes.float16) if half else loss


def _check_sparse_shapes(labels: Tensor, logits: Tensor) -> bool:
    """Whether the static shapes show that labels and logits fit. Raises ValueError: they do not."""
    rank, rank_of_labels = logits.shape.ndims, labels.shape.ndims
    if rank == 0:
        raise ValueError(f"Logits cannot be scalars - received shape {logits.shape}.")
    if rank is not None and rank_of_labels is not None and rank_of_labels != rank - 1:
        raise ValueError(
            f"Rank mismatch: Rank of labels (received {rank_of_labels}) should equal rank of logits minus 1 (received "
            f"{rank})."
        )
    if rank is None or not shapes.is_known(labels._dims) or not shapes.is_known(logits._dims[:-1]):
        return False
    if labels._dims != logits._dims[:-1]:
        raise ValueError(
            f"Shape mismatch: The shape of labels (received {labels.shape}) should equal the shape "
            "of logits except for "
            f"the last dimension (received {logits.shape})."
        )
    return True


# ---- biases and layers of one call


@export("nn.bias_add")
def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """`value` with `bias` added to each channel.

    value: [N, ..., C], or [N, C, ...] where data_format is "NC...".  bias: [C], same type.
    Raises ValueError: another data_format, or shapes that do not fit.
    """
    with name_scope(name, "BiasAdd", [value, bias]) as scope:
        if data_format is not None:
            if data_format.startswith("NC"):
                data_format = "NCHW"
            elif data_format.startswith("N") and data_format.endswith("C"):
                data_format = "NHWC"
            else:
                raise ValueError(
                    f"data_format must be of the form `N...C` or `NC...`, got {data_format!r}"
                )
        value = convert_to_tensor(value, name="input")
        bias = convert_to_tensor(bias, dtype=value.dtype.base_dtype, name="bias")
        return raw.BiasAdd(value, bias, data_format=data_format, name=scope)


def bias_add_v1(value: Any, bias: Any, name: str | None = None) -> Tensor:
    """`value` with `bias` added along its last axis."""
    with name_scope(name, "BiasAddV1", [value, bias]) as scope:
        value = convert_to_tensor(value, name="input")
        bias = convert_to_tensor(bias, dtype=value.dtype.base_dtype, name="bias")
        return raw.BiasAddV1(value, bias, name=scope)


@export("nn.xw_plus_b")
def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """matmul(x, weights) + biases. x: [batch, in]; weights: [in, out]; biases: [out]."""
    with name_scope(name, "xw_plus_b", [x, weights, biases]) as scope:
        x = convert_to_tensor(x, name="x")
        weights = convert_to_tensor(weights, name="weights")
        biases = convert_to_tensor(biases, name="biases")
        return bias_add(raw.MatMul(x, weights), biases, name=scope)


@export("nn.relu_layer")
def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(matmul(x, weights) + biases). x: [batch, in]; weights: [in, out]; biases: [out]."""
    with name_scope(name, "relu_layer", [x, weights, biases]) as scope:
        x = convert_to_tensor(x, name="x")
        weights = convert_to_tensor(weights, name="weights")
        biases = convert_to_tensor(biases, name="biases")
        return raw.Relu(bias_add(raw.MatMul(x, weights), biases), name=scope)


# ---- dropout


@export("nn.dropout")
def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Tensor:
    """`x` with each element set to 0 with probability `rate` (1 - keep_prob), the others divided by 1 - rate.

    x: float. noise_shape: the shape of the mask, which broadcasts over x: where it has a 1,
    elements are kept or dropped together. Raises ValueError: x not float, rate outside [0, 1), or
    neither rate nor keep_prob.
    """
    try:
        complement = None if keep_prob is None else 1.0 - keep_prob
    except TypeError:
        raise ValueError(
            f"keep_prob must be a floating point number or Tensor (got {keep_prob!r})"
        ) from None
    rate = renamed("rate", rate, "keep_prob", complement)
    if rate is None:
        raise ValueError("You must provide a rate to dropout.")
    with name_scope(name, "dropout", [x]):
        x = convert_to_tensor(x, name="x")
        if not x.dtype.is_floating:
            raise ValueError(
                f"x has to be a floating point tensor since it's going to be scaled. Got a {x.dtype} tensor instead."
            )
        if isinstance(rate, numbers.Real):
            if not 0 <= rate < 1:
                raise ValueError(
                    f"rate must be a scalar tensor or a float in the range [0, 1), got {rate:g}"
                )
            if rate == 0:
                return x
        rate = convert_to_tensor(rate, dtype=x.dtype.base_dtype, name="rate")
        rate.shape.assert_has_rank(0)
        if constant_value(rate) == 0:
            return x
        kind = x.dtype.base_dtype
        one = np.array(1, kind.as_numpy_dtype)
        noise = random_uniform(_noise_shape(x, noise_shape), seed=seed, dtype=kind)
        keep = raw.Sub(one, rate, name="sub")
        scale = raw.RealDiv(one, keep, name="truediv")
        kept = raw.GreaterEqual(noise, rate)
        result = raw.Mul(raw.Mul(x, scale, name="mul"), raw.Cast(kept, DstT=kind), name="mul")
        result.set_shape(x.shape)
        return result


def _noise_shape(x: Tensor, noise_shape: Any) -> Any:
    """`noise_shape` with the sizes of `x` where it leaves them open."""
    if noise_shape is None:
        return raw.Shape(x)
    try:
        dims = as_shape(noise_shape)._dims
    except (TypeError, ValueError):
        return noise_shape  # a tensor
    if dims is None or x._dims is None or len(dims) != len(x._dims):
        return noise_shape
    return TensorShape(
        [mine if size is None else size for size, mine in zip(dims, x._dims, strict=True)]
    )
