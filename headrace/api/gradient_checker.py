"""`tf.test.compute_gradient`: the derivatives that a graph computes beside those that differences give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.autodiff import gradients
from headrace.core import dtypes
from headrace.core.dtypes import DType
from headrace.graph import convert, default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor

_TYPES = tuple(
    dtypes.as_dtype(n)
    for n in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
)
Jacobians = tuple[np.ndarray, np.ndarray]


@export("test.compute_gradient")
def compute_gradient(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Sequence[int],
    x_init_value: Any = None,
    delta: float = 0.001,
    init_targets: Any = None,
    extra_feed_dict: dict[Any, Any] | None = None,
) -> Any:
    """The Jacobian of y with respect to x by `tf.gradients`, and by differences, at `x_init_value` (random where None).

    x: a tensor, or a list of tensors with lists of shapes and values. init_targets: operations to run first.
    extra_feed_dict: what else to feed. A complex number counts as two reals. Needs a default session.
    Returns two arrays [elements of x, elements of y], for a list of x a list of such pairs.
    """
    feeds = extra_feed_dict or {}
    many = isinstance(x, list)
    xs, shapes = (x, x_shape) if many else ([x], [x_shape])
    values = (
        [None] * len(xs) if x_init_value is None else (x_init_value if many else [x_init_value])
    )
    nodes = [_gradient_nodes(each, y, y_shape) for each in xs]
    for target in init_targets or ():
        target.run()
    pairs = [
        _jacobians(each, shape, value, y, y_shape, dx, dy, delta, feeds)
        for each, shape, value, (dx, dy) in zip(xs, shapes, values, nodes, strict=True)
    ]
    return pairs if many else pairs[0]


@export("test.compute_gradient_error")
def compute_gradient_error(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Sequence[int],
    x_init_value: Any = None,
    delta: float = 0.001,
    init_targets: Any = None,
    extra_feed_dict: dict[Any, Any] | None = None,
) -> float:
    """The largest difference between the two Jacobians of `compute_gradient`."""
    found = compute_gradient(
        x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict
    )
    pairs = found if isinstance(found, list) else [found]
    errors = [np.abs(a - b).max() for a, b in pairs if a.size or b.size]
    return float(np.max(errors)) if errors else 0.0  # NaN where any is


def _gradient_nodes(x: Any, y: Tensor, y_shape: Sequence[int]) -> tuple[Any, Tensor]:
    """dx, and the dy to feed: not the tensor that the gradient starts from, which may be dx itself."""
    with y.graph.as_default():
        ones = np.ones(tuple(y_shape), y.dtype.as_numpy_dtype)
        fed = convert.constant_from_value(ones, y.dtype, None)
        (dx,) = gradients(y, x, raw.Identity(fed))
    if dx is None:
        raise ValueError(f"{y!r} does not depend on {x!r}")
    return dx, fed


def _jacobians(
    x: Any,
    x_shape: Sequence[int],
    value: Any,
    y: Tensor,
    y_shape: Sequence[int],
    dx: Any,
    dy: Tensor,
    delta: float,
    feeds: dict[Any, Any],
) -> Jacobians:
    kind = dtypes.as_dtype(x.dtype).base_dtype
    for tensor_kind, what in ((kind, "x"), (y.dtype.base_dtype, "y")):
        if tensor_kind not in _TYPES:
            raise AssertionError(f"Don't support type {tensor_kind.name} for {what}")
    if value is None:
        value = np.random.random_sample(tuple(x_shape)).astype(kind.as_numpy_dtype)
        if kind.is_complex:
            value.imag = np.random.random_sample(tuple(x_shape))
    elif list(x_shape) != list(np.shape(value)):
        raise AssertionError(f"x_shape = {x_shape}, init_data shape = {list(np.shape(value))}")
    value = np.asarray(value)
    symbolic = _by_gradients(x, x_shape, kind, value, y, y_shape, dx, dy, feeds)
    return symbolic, _by_differences(x, kind, value, y, y_shape, delta, feeds)


def _real(kind: DType) -> Any:
    return kind.real_dtype.as_numpy_dtype


def _size(shape: Sequence[int], kind: DType) -> int:
    return math.prod(shape) * (2 if kind.is_complex else 1)


def _by_gradients(
    x: Any,
    x_shape: Sequence[int],
    kind: DType,
    value: np.ndarray,
    y: Tensor,
    y_shape: Sequence[int],
    dx: Any,
    dy: Tensor,
    feeds: dict[Any, Any],
) -> np.ndarray:
    """One column for each element of y: dx where dy is one there and zero elsewhere."""
    session = default.get_default_session()
    jacobian = np.zeros((_size(x_shape, kind), _size(y_shape, y.dtype)), _real(kind))
    seed = np.zeros(tuple(y_shape), y.dtype.as_numpy_dtype)
    elements = seed.reshape(-1).view(_real(y.dtype))

    def dense() -> np.ndarray:
        given = {**feeds, x: value, dy: seed}
        if not isinstance(dx, IndexedSlices):
            return session.run(dx, given)
        indices, rows = session.run([dx.indices, dx.values], given)
        total = np.zeros(tuple(x_shape), kind.as_numpy_dtype)
        np.add.at(total, indices, rows)
        return total

    for column in range(jacobian.shape[1]):
        elements[column] = 1
        jacobian[:, column] = np.ascontiguousarray(dense()).reshape(-1).view(jacobian.dtype)
        elements[column] = 0
    if not jacobian.shape[1]:
        found = dense()
        if found.shape != value.shape:
            raise ValueError(
                f"Empty gradient has wrong shape: expected {value.shape}, got {found.shape}"
            )
        if np.any(found):
            raise ValueError("Empty tensor with nonzero gradients")
    return jacobian


def _by_differences(
    x: Any,
    kind: DType,
    value: np.ndarray,
    y: Tensor,
    y_shape: Sequence[int],
    delta: float,
    feeds: dict[Any, Any],
) -> np.ndarray:
    """One row for each element of x: how y changes when it does."""
    if y.dtype == dtypes.bfloat16:
        with y.graph.as_default():
            y = raw.Cast(y, DstT=dtypes.float32)
    # bfloat16 is too coarse to hold x + delta.
    coarse = kind == dtypes.bfloat16
    if coarse:
        with y.graph.as_default():
            x, kind = raw.Cast(x, DstT=dtypes.float32), dtypes.float32
    value = np.asarray(value, kind.as_numpy_dtype)
    jacobian = np.zeros((_size(value.shape, kind), _size(y_shape, y.dtype)), _real(kind))
    session = default.get_default_session()

    def moved(row: int, by: float) -> np.ndarray:
        shifted = value.copy()
        shifted.reshape(-1).view(_real(kind))[row] += by
        return session.run(y, {**feeds, x: shifted})

    step = np.asarray(2 * delta, _real(y.dtype))[()]
    for row in range(jacobian.shape[0]):
        change = np.asarray((moved(row, delta) - moved(row, -delta)) / step)
        jacobian[row] = np.ascontiguousarray(change).reshape(-1).view(_real(y.dtype))
    return jacobian
