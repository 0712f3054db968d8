"""Comparisons, logic, and what chooses by a condition: Less, Equal, LogicalAnd, Select, ClipByValue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.graph import raw, shapes
from headrace.graph.op_def import define
from headrace.ops.broadcasting import broadcast_values, reduce_to_shape_of
from headrace.ops.choose import choose
from headrace.ops.elementwise import zeros_like

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"
_EQUAL = (
    "bfloat16, half, float, double, uint8, int8, int16, int32, int64, complex64, quint8, qint8, qint32, string, bool, "
    "complex128"
)
_NUMERIC = (
    "float, double, int32, uint8, int16, int8, complex64, int64, qint8, quint8, qint32, bfloat16, uint16, complex128, "
    "half, uint32, uint64"
)

# ---- Comparisons


def _comparison(
    name: str,
    types: str | None,
    lower: Callable[[Any, Any], Any],
    host: Callable[[Any, Any], Any],
    attrs: str = "",
) -> None:
    """An elementwise op of two inputs that broadcast, with a boolean result and no gradient."""
    kind = "T" if types else "bool"
    attrs = f"T: {{{types}}}{attrs}" if types else ""
    definition = define(name, f"x: {kind}, y: {kind} -> z: bool", attrs)
    definition.shape(shapes.broadcast)
    definition.lower(lambda op, x, y: lower(*broadcast_values(x, y)))

    @definition.host
    def host_rule(op, x, y):
        try:
            return np.asarray(host(x, y), np.bool_)
        except ValueError:
            raise op.invalid(f"Incompatible shapes: {list(x.shape)} vs. {list(y.shape)}") from None

    definition.not_differentiable()


_comparison("Less", _REAL, lax.lt, np.less)
_comparison("LessEqual", _REAL, lax.le, np.less_equal)
_comparison("Greater", _REAL, lax.gt, np.greater)
_comparison("GreaterEqual", _REAL, lax.ge, np.greater_equal)


def _equality(
    name: str, lower: Callable[[Any, Any], Any], host: Callable[[Any, Any], Any], otherwise: bool
) -> None:
    """A comparison whose answer for shapes that do not broadcast is an error, or `otherwise`, by an attr."""
    definition = define(
        name,
        "x: T, y: T -> z: bool",
        f"T: {{{_EQUAL}}}, incompatible_shape_error: bool = true",
    )

    def is_plain(op, x, y) -> bool:
        """Whether the shapes broadcast, or the op says that they must."""
        if op.attr("incompatible_shape_error") or x is None or y is None:
            return True
        pairs = zip(reversed(x), reversed(y), strict=False)
        return all(a == b or 1 in (a, b) or None in (a, b) for a, b in pairs)

    @definition.shape
    def shape_rule(op, x, y):
        if not op.attr("incompatible_shape_error") and not (
            shapes.is_known(x) and shapes.is_known(y)
        ):
            return None
        return shapes.broadcast(op, x, y) if is_plain(op, x, y) else ()

    @definition.lower
    def lower_rule(op, x, y):
        return (
            lower(*broadcast_values(x, y))
            if is_plain(op, x.shape, y.shape)
            else np.asarray(otherwise)
        )

    @definition.host
    def host_rule(op, x, y):
        if not is_plain(op, x.shape, y.shape):
            return np.asarray(otherwise)
        try:
            return np.asarray(host(x, y), np.bool_)
        except ValueError:
            raise op.invalid(f"Incompatible shapes: {list(x.shape)} vs. {list(y.shape)}") from None

    definition.not_differentiable()


_equality("Equal", lax.eq, np.equal, otherwise=False)
_equality("NotEqual", lax.ne, np.not_equal, otherwise=True)
_comparison("LogicalAnd", None, lax.bitwise_and, np.logical_and)
_comparison("LogicalOr", None, lax.bitwise_or, np.logical_or)

approximate_equal = define(
    "ApproximateEqual",
    "x: T, y: T -> z: bool",
    f"T: {{{_NUMERIC}}}, tolerance: float = 9.99999975e-06",
)
approximate_equal.shape(lambda op, x, y: shapes.merge(op, x, y, "x and y"))


@approximate_equal.lower
@approximate_equal.host
def _approximate_equal_lower(op, x, y):
    # Unsigned differences wrap around, as TF's do.
    return abs(x - y) < np.float32(op.attr("tolerance")).astype(
        np.result_type(np.float32, x.real.dtype)
    )


approximate_equal.not_differentiable()

# ---- Select: one condition for each element, for each row, or for all

select = define("Select", "condition: bool, t: T, e: T -> output: T", "T: type")


@select.shape
def _select_shape(op, condition, t, e):
    both = shapes.merge(op, t, e, "then and else")
    if condition is None or both is None or len(condition) == 0:
        return both
    if len(condition) == 1 and len(both) != 1:
        if len(both) == 0:
            raise op.error(
                f"Shapes must be equal rank, but are 1 and 0: condition {shapes.text(condition)} "
                f"and then {shapes.text(both)}."
            )
        rows = shapes.merge_size(op, condition[0], both[0], "condition and the rows of then")
        return (rows, *both[1:])
    return shapes.merge(op, both, condition, "condition and then")


def _row_condition(condition, value):
    """The condition with an axis of size 1 for each axis of `value` that it lacks."""
    return (
        condition.reshape(condition.shape + (1,) * (value.ndim - condition.ndim))
        if condition.ndim
        else condition
    )


@select.lower
def _select_lower(op, condition, t, e):
    _check_select(op, condition, t, e)
    condition = _row_condition(condition, t)
    if condition.shape not in ((), t.shape):
        condition = broadcast_values(condition, t)[0]
    return lax.select(condition, t, e)


@select.host
def _select_host(op, condition, t, e):
    _check_select(op, condition, t, e)
    return choose(_row_condition(condition, t), t, e)


def _check_select(op, condition, t, e):
    if t.shape != e.shape:
        raise op.invalid(
            f"'then' and 'else' must have the same size, but received: {t.shape} vs. {e.shape}"
        )
    if condition.ndim and condition.shape != t.shape and condition.shape != t.shape[:1]:
        raise op.invalid(
            f"Number of batches of 'then' must match size of 'cond', but saw: {t.shape} vs. {condition.shape}"
        )


@select.gradient
def _select_gradient(op, dy):
    condition, t = op.inputs[0], op.inputs[1]
    zeros = zeros_like(t)
    return None, raw.Select(condition, dy, zeros), raw.Select(condition, zeros, dy)


# ---- SelectV2: the three broadcast

select_v2 = define("SelectV2", "condition: bool, t: T, e: T -> output: T", "T: type")


@select_v2.shape
def _select_v2_shape(op, condition, t, e):
    return shapes.broadcast(op, condition, shapes.broadcast(op, t, e))


@select_v2.lower
def _select_v2_lower(op, condition, t, e):
    return lax.select(*broadcast_values(condition, t, e))


@select_v2.host
def _select_v2_host(op, condition, t, e):
    try:
        return choose(condition, t, e)
    except ValueError:
        raise op.invalid(
            f"condition {condition.shape}, then {t.shape} and else {e.shape} must be broadcastable"
        ) from None


@select_v2.gradient
def _select_v2_gradient(op, dy):
    condition, t, e = op.inputs
    zero = np.zeros((), dy.dtype.base_dtype.np_dtype)
    return (
        None,
        reduce_to_shape_of(t, raw.SelectV2(condition, dy, zero)),
        reduce_to_shape_of(e, raw.SelectV2(condition, zero, dy)),
    )


# ---- ClipByValue

clip_by_value = define(
    "ClipByValue", "t: T, clip_value_min: T, clip_value_max: T -> output: T", f"T: {{{_NUMERIC}}}"
)
clip_by_value.shape(shapes.unchanged)


def _check_limits(op, t, low, high):
    for name, limit in (("clip_value_min", low), ("clip_value_max", high)):
        if limit.shape not in ((), t.shape):
            raise op.invalid(
                f"{name} must be a scalar or of the same shape as the input: {list(t.shape)} vs. {list(limit.shape)}"
            )


@clip_by_value.lower
def _clip_by_value_lower(op, t, low, high):
    _check_limits(op, t, low, high)
    return lax.min(*broadcast_values(lax.max(*broadcast_values(t, low)), high))


@clip_by_value.host
def _clip_by_value_host(op, t, low, high):
    _check_limits(op, t, low, high)
    return np.minimum(np.maximum(t, low), high)


@clip_by_value.gradient
def _clip_by_value_gradient(op, dy):
    """To t inside the limits, to a limit where it decided."""
    t, low, high = op.inputs
    zeros = zeros_like(dy)
    below, above = raw.Less(t, low), raw.Greater(t, high)
    outside = raw.LogicalOr(below, above)
    return (
        raw.Select(outside, zeros, dy),
        reduce_to_shape_of(low, raw.Select(below, dy, zeros)),
        reduce_to_shape_of(high, raw.Select(above, dy, zeros)),
    )


# ---- CompareAndBitpack

compare_and_bitpack = define(
    "CompareAndBitpack",
    "input: T, threshold: T -> output: uint8",
    "T: {bool, half, float, double, int8, int16, int32, int64}",
)


@compare_and_bitpack.shape
def _compare_and_bitpack_shape(op, x, threshold):
    shapes.with_rank(op, threshold, 0, "threshold")
    if x is None:
        return None
    shapes.at_least_rank(op, x, 1)
    if x[-1] is not None and x[-1] % 8:
        raise op.error(f"inner size of input {shapes.text(x)} should be divisible by 8.")
    return (*x[:-1], None if x[-1] is None else x[-1] // 8)


@compare_and_bitpack.lower
def _compare_and_bitpack_lower(op, x, threshold):
    return jnp.packbits(x > threshold, axis=-1)


@compare_and_bitpack.host
def _compare_and_bitpack_host(op, x, threshold):
    return np.packbits(x > threshold, axis=-1)


compare_and_bitpack.not_differentiable()
