"""Losses of logits, moments, batch normalisation: functions of `tf.nn` that compose several operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.nn_ops import check_cross_entropy_arguments
from headrace.api.renamed_argument import renamed
from headrace.core import dtypes
from headrace.graph import raw, shapes
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _cast(x: Tensor, dtype: Any) -> Tensor:
    return x if x.dtype.base_dtype == dtypes.as_dtype(dtype) else raw.Cast(x, DstT=dtype)


def _check_same_shape(first: str, a: Tensor, second: str, b: Tensor) -> None:
    try:
        a.shape.merge_with(b.shape)
    except ValueError:
        raise ValueError(
            f"{first} and {second} must have the same shape ({a.shape} vs {b.shape})"
        ) from None


# ---- losses


@export("nn.log_poisson_loss")
def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Tensor:
    """exp(log_input) - log_input * targets: minus the log-likelihood of a Poisson variable, up to a constant.

    compute_full_loss: adds Stirling's approximation of that constant where a target is above 1.
    """
    with name_scope(name, "log_poisson_loss", [log_input, targets]):
        log_input = convert_to_tensor(log_input, name="log_input")
        targets = convert_to_tensor(targets, name="targets")
        _check_same_shape("log_input", log_input, "targets", targets)
        result = raw.Sub(raw.Exp(log_input), raw.Mul(log_input, targets, name="mul"), name="sub")
        if compute_full_loss:
            logarithm = raw.Mul(targets, raw.Log(targets))
            half = raw.Mul(raw.Log(raw.Mul(targets, 2 * math.pi)), 0.5)
            stirling = raw.AddV2(raw.Sub(logarithm, targets), half, name="add")
            zeros, ones = raw.ZerosLike(targets), raw.OnesLike(targets)
            small = raw.LogicalAnd(raw.GreaterEqual(targets, zeros), raw.LessEqual(targets, ones))
            result = raw.AddV2(result, raw.Select(small, zeros, stirling), name="add")
        return result


@export("nn.sigmoid_cross_entropy_with_logits")
def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """The cross entropy of independent labels (in [0, 1]) and sigmoid(logits), elementwise.

    With x = logits and z = labels: max(x, 0) - x z + log(1 + exp(-|x|)), which does not overflow.
    Raises ValueError: arguments not given by name, or of different shapes.
    """
    check_cross_entropy_arguments("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="labels")
        _check_same_shape("logits", logits, "labels", labels)
        zeros = raw.ZerosLike(logits, name="zeros_like")
        positive = raw.GreaterEqual(logits, zeros)
        # Chosen by a condition, not by max and abs, so that the gradient at 0 is right too.
        rectified = raw.Select(positive, logits, zeros)
        minus_size = raw.Select(positive, raw.Neg(logits), logits)
        return raw.Add(
            raw.Sub(rectified, raw.Mul(logits, labels, name="mul"), name="sub"),
            raw.Log1p(raw.Exp(minus_size)),
            name=scope,
        )


@export("nn.weighted_cross_entropy_with_logits")
def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Tensor:
    """As `sigmoid_cross_entropy_with_logits`, with the error of positive labels multiplied by `pos_weight`.

    With q = pos_weight and l = 1 + (q - 1) z: (1 - z) x + l (log(1 + exp(-|x|)) + max(-x, 0)).
    """
    labels = renamed("labels", labels, "targets", targets)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="labels")
        _check_same_shape("logits", logits, "labels", labels)
        one = np.array(1, logits.dtype.base_dtype.as_numpy_dtype)
        more = raw.Sub(convert_to_tensor(pos_weight, dtype=logits.dtype.base_dtype), one)
        log_weight = raw.AddV2(one, raw.Mul(more, labels))
        error = raw.AddV2(raw.Log1p(raw.Exp(raw.Neg(raw.Abs(logits)))), raw.Relu(raw.Neg(logits)))
        return raw.Add(
            raw.Mul(raw.Sub(one, labels), logits), raw.Mul(log_weight, error), name=scope
        )


@export("nn.compute_average_loss")
def compute_average_loss(
    per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Tensor:
    """The sum of `per_example_loss` (times `sample_weight`) divided by the number of examples.

    per_example_loss: rank 1 at least. global_batch_size: the first size of it where None. Raises ValueError: a scalar.
    """
    loss = convert_to_tensor(per_example_loss)
    if loss.shape.ndims == 0:
        raise ValueError(
            f"Invalid value passed for `per_example_loss`. Expected a tensor with at least rank 1, received: {loss}"
        )
    kind = loss.dtype.base_dtype
    if sample_weight is not None:
        weight = _cast(convert_to_tensor(sample_weight), dtypes.float32)
        loss = _cast(raw.Mul(_cast(loss, dtypes.float32), weight), kind)
    if global_batch_size is None:
        global_batch_size = raw.StridedSlice(raw.Shape(loss), [0], [1], [1], shrink_axis_mask=1)
    return raw.RealDiv(_total(loss), _cast(convert_to_tensor(global_batch_size), kind))


@export("nn.scale_regularization_loss")
def scale_regularization_loss(regularization_loss: Any) -> Tensor:
    """The sum of `regularization_loss` over the replicas' share of it (one replica: all)."""
    return _total(convert_to_tensor(regularization_loss))


def _total(x: Tensor) -> Tensor:
    return raw.Sum(x, _all_axes(x))


def _all_axes(x: Tensor) -> Any:
    rank = x.shape.ndims
    return raw.Range(0, raw.Rank(x), 1) if rank is None else np.arange(rank, dtype=np.int32)


@export("math.zero_fraction", "nn.zero_fraction")
def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of zeros in `value`: a float32 scalar, NaN where it has no elements."""
    with name_scope(name, "zero_fraction", [value]):
        value = convert_to_tensor(value, name="value")
        size = raw.Size(value, out_type=dtypes.int64)
        with name_scope("count_nonzero", values=[value]):
            nonzero = raw.Cast(raw.NotEqual(value, raw.ZerosLike(value)), DstT=dtypes.int64)
            count = raw.Sum(nonzero, _all_axes(value), name="nonzero_count")
        with name_scope("counts_to_fraction"):
            zeros = raw.Cast(raw.Sub(size, count, name="sub"), DstT=dtypes.float32)
            fraction = raw.RealDiv(zeros, raw.Cast(size, DstT=dtypes.float32), name="truediv")
        return raw.Identity(fraction, name="fraction")


# ---- moments


@export("nn.moments")
def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of `x` over `axes`.

    shift: has no effect. keepdims: the axes stay, with size 1. Half precision is summed in single.
    """
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "moments", [x, axes]):
        x = convert_to_tensor(x)
        half = x.dtype.base_dtype == dtypes.float16
        y = raw.Cast(x, DstT=dtypes.float32) if half else x
        mean = raw.Mean(y, axes, keep_dims=True, name="mean")
        # A constant here, as the gradient through it is zero: the deviations sum to zero.
        deviations = raw.SquaredDifference(y, raw.StopGradient(mean))
        variance = raw.Mean(deviations, axes, keep_dims=True, name="variance")
        if not keep:
            mean, variance = _squeeze(mean, axes), _squeeze(variance, axes)
        if half:
            return raw.Cast(mean, DstT=dtypes.float16), raw.Cast(variance, DstT=dtypes.float16)
        return mean, variance


def _squeeze(x: Tensor, axes: Any) -> Tensor:
    if isinstance(axes, Tensor):
        axes = constant_value(axes)
        if axes is None:
            raise ValueError("axes must be known while the graph is built where they are not kept")
    return raw.Squeeze(x, squeeze_dims=[int(a) for a in np.atleast_1d(np.asarray(axes))])


@export("nn.weighted_moments")
def weighted_moments(
    x: Any,
    axes: Any,
    frequency_weights: Any,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of `x` over `axes`, each element counted `frequency_weights` times.

    frequency_weights: broadcasts with x.
    """
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "weighted_moments", [x, frequency_weights, axes]):
        x = convert_to_tensor(x, name="x")
        weights = convert_to_tensor(frequency_weights, name="frequency_weights")
        half = x.dtype.base_dtype == dtypes.float16
        if half:
            x = raw.Cast(x, DstT=dtypes.float32)
        weights = _cast(weights, x.dtype.base_dtype)
        weighted = raw.Sum(
            raw.Mul(weights, x, name="mul"), axes, keep_dims=True, name="weighted_input_sum"
        )
        broadcast = raw.AddV2(weights, raw.ZerosLike(x), name="add")
        total = raw.Sum(broadcast, axes, keep_dims=True, name="sum_of_weights")
        divisor = raw.Reciprocal(total, name="inv_weight_sum")
        mean = raw.Mul(weighted, divisor)
        deviations = raw.Mul(weights, raw.SquaredDifference(x, mean), name="mul")
        distances = raw.Sum(deviations, axes, keep_dims=True, name="weighted_distsq")
        variance = raw.Mul(distances, divisor)
        if not keep:
            mean, variance = _squeeze(mean, axes), _squeeze(variance, axes)
        if half:
            return raw.Cast(mean, DstT=dtypes.float16), raw.Cast(variance, DstT=dtypes.float16)
        return mean, variance


@export("nn.sufficient_statistics")
def sufficient_statistics(
    x: Any,
    axes: Sequence[int],
    shift: Any = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What mean and variance of `x` over `axes` follow from: (count, sum, sum of squares, shift).

    shift: subtracted from x first, which is more exact where it is close to the mean. See `normalize_moments`.
    """
    axes = sorted(set(axes))
    keep = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "sufficient_statistics", [x, shift]):
        x = convert_to_tensor(x, name="x")
        kind = x.dtype.base_dtype
        dims = None if x._dims is None else [x._dims[axis] for axis in axes]
        if shapes.is_known(dims):
            counts = convert_to_tensor(np.array(math.prod(dims), kind.as_numpy_dtype), name="Const")
        else:
            sizes = raw.GatherV2(raw.Cast(raw.Shape(x), DstT=kind), np.array(axes, np.int32), 0)
            counts = raw.Prod(sizes, [0], name="count")
        if shift is not None:
            shift = convert_to_tensor(shift, name="shift")
            mean_ss, variance_ss = raw.Sub(x, shift), raw.SquaredDifference(x, shift)
        else:
            mean_ss, variance_ss = x, raw.Square(x)
        over = np.array(axes, np.int32)
        mean_ss = raw.Sum(mean_ss, over, keep_dims=keep, name="mean_ss")
        variance_ss = raw.Sum(variance_ss, over, keep_dims=keep, name="var_ss")
    return counts, mean_ss, variance_ss, shift


@export("nn.normalize_moments")
def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance that follow from what `sufficient_statistics` returns."""
    with name_scope(name, "normalize", [counts, mean_ss, variance_ss, shift]):
        divisor = raw.Reciprocal(counts, name="divisor")
        if shift is not None:
            shifted_mean = raw.Mul(mean_ss, divisor, name="shifted_mean")
            mean = raw.Add(shifted_mean, shift, name="mean")
        else:
            shifted_mean = mean = raw.Mul(mean_ss, divisor, name="mean")
        variance = raw.Sub(raw.Mul(variance_ss, divisor), raw.Square(shifted_mean), name="variance")
    return mean, variance


# ---- batch normalisation


@export("nn.batch_normalization")
def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: Any,
    name: str | None = None,
) -> Tensor:
    """scale (x - mean) / sqrt(variance + variance_epsilon) + offset; all broadcast with x.

    scale, offset: None to leave them out.
    """
    with name_scope(name, "batchnorm", [x, mean, variance, scale, offset]):
        x, mean = convert_to_tensor(x), convert_to_tensor(mean)
        inverse = raw.Rsqrt(raw.AddV2(variance, variance_epsilon, name="add"))
        if scale is not None:
            inverse = raw.Mul(inverse, scale, name="mul")
        kind = x.dtype.base_dtype
        scaled = raw.Mul(x, _cast(inverse, kind), name="mul")
        if offset is not None:
            rest = raw.Sub(offset, raw.Mul(mean, inverse, name="mul"), name="sub")
        else:
            rest = raw.Mul(raw.Neg(mean), inverse, name="mul")
        return raw.AddV2(scaled, _cast(rest, kind), name="add")


@export("nn.batch_norm_with_global_normalization")
def batch_norm_with_global_normalization(
    t: Any = None,
    m: Any = None,
    v: Any = None,
    beta: Any = None,
    gamma: Any = None,
    variance_epsilon: Any = None,
    scale_after_normalization: bool | None = None,
    name: str | None = None,
    input: Any = None,
    mean: Any = None,
    variance: Any = None,
) -> Tensor:
    """gamma (t - m) / sqrt(v + variance_epsilon) + beta; without gamma unless scale_after_normalization is set."""
    return batch_normalization(
        renamed("input", input, "t", t),
        renamed("mean", mean, "m", m),
        renamed("variance", variance, "v", v),
        beta,
        gamma if scale_after_normalization else None,
        variance_epsilon,
        name,
    )


# Below this the GPU library of TensorFlow fails; programs that set less get the same numbers here as there.
_MIN_EPSILON = 1.001e-5


@export("nn.fused_batch_norm")
def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation as one operation: (y, mean, variance), the last two for moving averages.

    x: [batch, height, width, channels], or as `data_format` says. mean, variance: those to use
    where is_training is false. Raises ValueError: mean or variance given while training.
    """
    x = convert_to_tensor(x, name="input")
    scale = convert_to_tensor(scale, name="scale")
    offset = convert_to_tensor(offset, name="offset")
    if is_training and (mean is not None or variance is not None):
        raise ValueError("Both 'mean' and 'variance' must be None if is_training is True.")
    nothing = np.zeros((0,), np.float32)
    result = raw.FusedBatchNormV3(
        x,
        scale,
        offset,
        convert_to_tensor(nothing, name="Const") if mean is None else mean,
        convert_to_tensor(nothing, name="Const") if variance is None else variance,
        epsilon=max(epsilon, _MIN_EPSILON),
        data_format=data_format,
        is_training=is_training,
        name=name,
    )
    return result[0], result[1], result[2]
