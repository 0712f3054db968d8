"""Softmax, its logarithm, and the cross entropies of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.ops.broadcasting import reduce_to_shape_of

_FLOATS = "T: {half, bfloat16, float, double}"


def is_zero(grad) -> bool:
    """Whether a gradient stands for an output on which nothing depends: a rule need not do anything with it."""
    return grad is None or grad.op.type == "ZerosLike"


# ---- Softmax, LogSoftmax: along the last axis


def _logits_shape(op, x):
    return shapes.at_least_rank(op, x, 1, "logits")


def _check_vector_or_higher(op, x) -> None:
    if x.ndim < 1:
        raise op.invalid(f"logits must have >= 1 dimension, got {x.ndim}")


def _log_softmax(xp, x):
    """log(softmax(x)) by the module `xp` (NumPy's functions or JAX's)."""
    if x.shape[-1] == 0:
        return x
    shifted = x - x.max(-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(-1, keepdims=True, dtype=x.dtype))


softmax = define("Softmax", "logits: T -> softmax: T", _FLOATS)
softmax.shape(_logits_shape)


@softmax.lower
def _softmax_lower(op, x):
    _check_vector_or_higher(op, x)
    return jax.nn.softmax(x, axis=-1) if x.size else x


@softmax.host
def _softmax_host(op, x):
    _check_vector_or_higher(op, x)
    if not x.size:
        return x
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True, dtype=x.dtype)


@softmax.gradient
def _softmax_gradient(op, dy):
    """dx = (dy - sum(dy y)) y."""
    y = op.outputs[0]
    total = raw.Sum(raw.Mul(dy, y), np.array([-1], np.int32), keep_dims=True)
    return raw.Mul(raw.Sub(dy, total), y)


log_softmax = define("LogSoftmax", "logits: T -> logsoftmax: T", _FLOATS)
log_softmax.shape(_logits_shape)


@log_softmax.lower
def _log_softmax_lower(op, x):
    _check_vector_or_higher(op, x)
    return jax.nn.log_softmax(x, axis=-1) if x.size else x


@log_softmax.host
def _log_softmax_host(op, x):
    _check_vector_or_higher(op, x)
    return _log_softmax(np, x) if x.size else x


@log_softmax.gradient
def _log_softmax_gradient(op, dy):
    """dx = dy - sum(dy) softmax(x)."""
    total = raw.Sum(dy, np.array([-1], np.int32), keep_dims=True)
    return raw.Sub(dy, raw.Mul(total, raw.Exp(op.outputs[0])))


# ---- SoftmaxCrossEntropyWithLogits: the loss of each row, and softmax - labels, which is its gradient


def _times_rows(scale, matrix):
    """Nodes for `matrix` with row i multiplied by `scale[i]`."""
    return raw.Mul(raw.ExpandDims(scale, -1), matrix)


xent = define(
    "SoftmaxCrossEntropyWithLogits", "features: T, labels: T -> loss: T, backprop: T", _FLOATS
)


@xent.shape
def _xent_shape(op, features, labels):
    both = shapes.broadcast(op, features, labels)
    if both is None:
        both = (None, None)
    if len(both) != 2:
        raise op.error(
            f"Shape must be broadcasted with rank 2, but is rank {len(both)}: features {shapes.text(features)}, labels "
            f"{shapes.text(labels)}."
        )
    return [(both[0],), both]


def _check_matrices(op, features, labels) -> tuple[int, int]:
    """The shape of features and labels together."""
    try:
        both = np.broadcast_shapes(features.shape, labels.shape)
    except ValueError:
        raise op.invalid(
            f"logits and labels must be broadcastable: logits_size={list(features.shape)} "
            f"labels_size={list(labels.shape)}"
        ) from None
    if len(both) != 2:
        raise op.invalid(
            f"logits and labels must be either 2-dimensional, or broadcasted to be 2-dimensional, got {both}"
        )
    return both


@xent.lower
def _xent_lower(op, features, labels):
    both = _check_matrices(op, features, labels)
    if not both[1]:
        return jnp.zeros(both[:1], features.dtype), jnp.zeros(both, features.dtype)
    log_p = jnp.broadcast_to(jax.nn.log_softmax(features, axis=-1), both)
    loss = -jnp.sum(labels * log_p, -1, dtype=features.dtype)
    return loss, jnp.exp(log_p) - labels


@xent.host
def _xent_host(op, features, labels):
    both = _check_matrices(op, features, labels)
    log_p = np.broadcast_to(_log_softmax(np, features) if features.size else features, both)
    loss = -np.sum(labels * log_p, -1, dtype=features.dtype)
    return loss, np.exp(log_p) - labels


@xent.gradient
def _xent_gradient(op, dloss, dbackprop):
    """The loss has the gradient `backprop`; the gradient of `backprop` itself, softmax - labels, is that of softmax."""
    logits, labels = op.inputs
    dlogits = None if is_zero(dloss) else _times_rows(dloss, op.outputs[1])
    if not is_zero(dbackprop):
        p = raw.Softmax(logits)
        # The inner product of each row of the two: [batch, 1].
        inner = raw.BatchMatMulV2(raw.ExpandDims(dbackprop, 1), raw.ExpandDims(p, 2))
        total = raw.Squeeze(inner, squeeze_dims=[1])
        second = raw.Mul(raw.Sub(dbackprop, total), p)
        dlogits = second if dlogits is None else raw.Add(dlogits, second)
    dlabels = None if is_zero(dloss) else _times_rows(dloss, raw.Neg(raw.LogSoftmax(logits)))
    if (
        shapes.is_known(logits._dims)
        and shapes.is_known(labels._dims)
        and logits._dims != labels._dims
    ):
        # Only here can one have been broadcast; the public functions give both the same shape.
        dlogits = None if dlogits is None else reduce_to_shape_of(logits, dlogits)
        dlabels = None if dlabels is None else reduce_to_shape_of(labels, dlabels)
    return dlogits, dlabels


# ---- SparseSoftmaxCrossEntropyWithLogits: the label of a row is the index of its class

sparse_xent = define(
    "SparseSoftmaxCrossEntropyWithLogits",
    "features: T, labels: Tlabels -> loss: T, backprop: T",
    f"{_FLOATS}, Tlabels: {{int32, int64}} = int64",
)


@sparse_xent.shape
def _sparse_xent_shape(op, features, labels):
    features = shapes.with_rank(op, features, 2, "features")
    labels = shapes.with_rank(op, labels, 1, "labels")
    batch = shapes.merge_size(op, features[0], labels[0], "batch sizes of features and labels")
    return [(batch,), (batch, features[1])]


def _check_sparse(op, features, labels) -> None:
    if features.ndim != 2:
        raise op.invalid(f"logits must be 2-D, but got shape {list(features.shape)}")
    if labels.ndim != 1:
        raise op.invalid(f"labels must be 1-D, but got shape {list(labels.shape)}")
    if features.shape[0] != labels.shape[0]:
        raise op.invalid(
            f"logits and labels must have the same first dimension, got logits shape {list(features.shape)} and labels "
            f"shape {list(labels.shape)}"
        )
    if features.shape[1] == 0:
        raise op.invalid(
            f"Must have at least one class, but got logits shape {list(features.shape)}"
        )


@sparse_xent.lower
def _sparse_xent_lower(op, features, labels):
    # TF differs: its CPU kernel fails on a label that is out of range; here, as in its GPU kernel,
    # the loss of that row is
    # NaN. A check on values would keep the whole training step from updating its variables in place.
    _check_sparse(op, features, labels)
    log_p = jax.nn.log_softmax(features, axis=-1)
    classes = jnp.arange(features.shape[1], dtype=labels.dtype)
    chosen = classes == labels[:, None]
    valid = (labels >= 0) & (labels < features.shape[1])
    nan = jnp.full((), jnp.nan, features.dtype)
    loss = jnp.where(valid, -jnp.sum(jnp.where(chosen, log_p, 0), -1, dtype=features.dtype), nan)
    backprop = jnp.exp(log_p) - chosen.astype(features.dtype)
    return loss, jnp.where(valid[:, None], backprop, nan)


@sparse_xent.host
def _sparse_xent_host(op, features, labels):
    _check_sparse(op, features, labels)
    classes = features.shape[1]
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise op.invalid(
            f"Received a label value of {labels[outside][0]} which is outside the valid range of [0, {classes}).  "
            f"Label values: {' '.join(map(str, labels))}"
        )
    log_p = _log_softmax(np, features)
    rows = np.arange(labels.shape[0])
    backprop = np.exp(log_p)
    backprop[rows, labels] -= features.dtype.type(1)
    return -log_p[rows, labels], backprop


@sparse_xent.gradient
def _sparse_xent_gradient(op, dloss, dbackprop):
    if is_zero(dloss):
        return None, None
    once = raw.PreventGradient(
        op.outputs[1],
        message="there is no second derivative of sparse_softmax_cross_entropy_with_logits; "
        "softmax_cross_entropy_with_logits has one",
    )
    return _times_rows(dloss, once), None
