"""Norms and what is made of them: `tf.norm`, `tf.linalg.normalize`, `tf.nn.l2_normalize`, `tf.lbeta`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.api.array_ops import expand_dims, rank, squeeze, transpose
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.join_ops import concat
from headrace.api.math_ops import abs, cast, conj, pow
from headrace.api.reduction import range, reduce_max, reduce_sum
from headrace.api.renamed_argument import renamed
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor


def _check_norm(ord: Any, axis: Any) -> bool:
    """Whether it is a matrix norm. Raises ValueError: a norm or axes that are not supported."""
    if isinstance(axis, (list, tuple)) and len(axis) == 2:
        if not all(isinstance(a, int) for a in axis) or axis[0] == axis[1]:
            raise ValueError("'axis' must be None, an integer, or a tuple of 2 unique integers")
        supported = ["euclidean", "fro", 1, 2, np.inf]
        if ord not in supported:
            raise ValueError(f"'ord' must be a supported matrix norm in {supported}, got {ord}")
        return True
    if not (isinstance(axis, int) or axis is None):
        raise ValueError("'axis' must be None, an integer, or a tuple of 2 unique integers")
    if ord not in ("euclidean", 1, 2, np.inf) and (
        isinstance(ord, str) or not np.isreal(ord) or ord <= 0
    ):
        raise ValueError(f"'ord' must be a supported vector norm, got {ord}")
    return False


def _spectral_norm(x: Tensor, axis: tuple[int, int]) -> Tensor:
    """The largest singular value over two axes, which stay with size 1."""
    if x._dims is not None:
        count = len(x._dims)
        last = [a % count for a in axis]
        order: Any = [i for i in np.arange(count) if i not in last] + last
        back: Any = np.argsort(order)
    else:
        last = raw.FloorMod(np.array(axis, np.int32) + rank(x), rank(x))
        order = concat([raw.ListDiff(range(rank(x)), last)[0], last], 0)
        back = raw.InvertPermutation(order)
    singular = raw.Svd(transpose(x, order), compute_uv=False)[0]
    greatest = expand_dims(reduce_max(abs(singular), -1, keepdims=True), -1)
    return transpose(greatest, back)


@export("norm", "linalg.norm")
def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
) -> Tensor:
    """The norm of vectors or matrices.

    ord: for vectors "euclidean", infinity or any positive number; for matrices "fro", "euclidean", 1, 2, infinity.
    axis: None for the norm of all elements as one vector, an integer for vectors, two of them for matrices.
    Raises ValueError: a norm or axes that are not supported.
    """
    keepdims = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    is_matrix = _check_norm(ord, axis)
    axes: Any = tuple(axis) if is_matrix else None if axis is None else (axis,)
    with name_scope(name, "norm", [tensor]):
        x = convert_to_tensor(tensor)
        if ord in ("fro", "euclidean", 2):
            if is_matrix and ord == 2:
                out = _spectral_norm(x, axes)
            else:
                out = raw.Sqrt(reduce_sum(x * conj(x), axes, keepdims=True))
        else:
            out = abs(x)
            first = None if axes is None else axes[0]
            if ord == 1:
                out = reduce_sum(out, first, keepdims=True)
                if is_matrix:
                    out = reduce_max(out, axes[1], keepdims=True)
            elif ord == np.inf:
                if is_matrix:
                    out = reduce_sum(out, axes[1], keepdims=True)
                out = reduce_max(out, first, keepdims=True)
            else:
                out = pow(reduce_sum(pow(out, ord), axes, keepdims=True), 1.0 / ord)
        return out if keepdims else squeeze(out, axes)


@export("linalg.normalize")
def normalize(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """`tensor` divided by its norm, and the norm (its axes kept). Arguments as of `norm`."""
    with name_scope(name, "normalize", [tensor]):
        x = convert_to_tensor(tensor)
        size = norm(x, ord, axis, keepdims=True)
        size = cast(size, x.dtype)
        return x / size, size


@export("math.l2_normalize", "nn.l2_normalize", "linalg.l2_normalize")
def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Tensor:
    """x / sqrt(max(sum(x**2), epsilon)) over `axis` (all axes where None). dim: the older name of axis."""
    axis = renamed("axis", axis, "dim", dim)
    with name_scope(name, "l2_normalize", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        total = reduce_sum(raw.Square(x), axis, keepdims=True)
        return raw.Mul(x, raw.Rsqrt(raw.Maximum(total, epsilon)), name=scope)


@export("lbeta", "math.lbeta")
def lbeta(x: Any, name: str | None = None) -> Tensor:
    """log |Beta(x)| over the last axis: the sum of log gamma(x) less the log gamma of the sum."""
    with name_scope(name, "lbeta", [x]):
        x = convert_to_tensor(x, name="x")
        return reduce_sum(raw.Lgamma(x), [-1]) - raw.Lgamma(reduce_sum(x, [-1]))
