"""Assertions: what is known while the graph is built fails or holds there and then, the rest when the graph runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from headrace.api.array_ops import rank, shape
from headrace.api.control_flow_basic import with_dependencies
from headrace.api.diagnostic import Assert
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.math_ops import abs as absolute
from headrace.api.reduction import reduce_all
from headrace.core import dtypes, errors
from headrace.core.dtypes import DType
from headrace.graph import raw
from headrace.graph.constant_value import constant_value
from headrace.graph.convert import convert_to_tensor
from headrace.graph.operation import Operation
from headrace.graph.sparse_tensor import SparseTensor
from headrace.graph.tensor import Tensor

# ---- comparisons


def _fail_now(data: Any) -> NoReturn:
    """Raises the error of an assertion that is known not to hold."""
    lines = []
    for item in data:
        value = constant_value(item) if isinstance(item, Tensor) else item
        lines.append(str(item if value is None else value))
    raise errors.InvalidArgumentError(None, None, "\n".join(lines))


def _compare(
    symbol: str,
    op_type: str,
    static: Callable[..., Any],
    x: Any,
    y: Any,
    data: Any,
    summarize: int | None,
    message: str | None,
    name: str | None,
    default_name: str,
) -> Operation:
    with name_scope(name, default_name, [x, y, data]):
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(y, name="y")
        if data is None:
            data = [f"Condition x {symbol} y did not hold element-wise:"]
            data += [f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
        if message is not None:
            data = [message, *data]
        condition = reduce_all(getattr(raw, op_type)(x, y))
        values = constant_value(x), constant_value(y)
        if values[0] is not None and values[1] is not None and not np.all(static(*values)):
            _fail_now(data)
        return Assert(condition, data, summarize=summarize)


def _export_comparison(name: str, symbol: str, op_type: str, static: Callable[..., Any]) -> Any:
    def assertion(
        x: Any,
        y: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        return _compare(symbol, op_type, static, x, y, data, summarize, message, name, default_name)

    default_name = name
    assertion.__name__ = assertion.__qualname__ = name
    assertion.__doc__ = (
        f"An operation that fails unless x {symbol} y for every pair of elements; x and y broadcast.\n\n"
        "data: what the error shows (x and y where None). summarize: how many elements of each. message: comes first.\n"
        "Raises InvalidArgumentError: x and y are known, and it does not hold."
    )
    return assertion


_assert_equal = _export_comparison("assert_equal", "==", "Equal", np.equal)


@export("assert_equal", "debugging.assert_equal")
def assert_equal(
    x: Any,
    y: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless x == y for every pair of elements; x and y broadcast.

    data: what the error shows (x and y where None). summarize: how many elements of each. message: comes first.
    Raises InvalidArgumentError: x and y are known, and it does not hold.
    """
    with name_scope(name, "assert_equal", [x, y, data]):
        if x is y:
            return raw.NoOp()
    return _assert_equal(x, y, data, summarize, message, name)


assert_none_equal, assert_less, assert_less_equal, assert_greater, assert_greater_equal = (
    export(name, f"debugging.{name}")(_export_comparison(name, symbol, op_type, static))
    for name, symbol, op_type, static in (
        ("assert_none_equal", "!=", "NotEqual", np.not_equal),
        ("assert_less", "<", "Less", np.less),
        ("assert_less_equal", "<=", "LessEqual", np.less_equal),
        ("assert_greater", ">", "Greater", np.greater),
        ("assert_greater_equal", ">=", "GreaterEqual", np.greater_equal),
    )
)


def _export_sign(
    name: str, condition: str, check: Callable[..., Operation], zero_first: bool
) -> None:
    def assertion(
        x: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with name_scope(name, default_name, [x, data]):
            x = convert_to_tensor(x, name="x")
            if data is None:
                told = f"Condition x {condition} did not hold element-wise:"
                data = [message or "", told, f"x ({x.name}) = ", x]
            zero = convert_to_tensor(0, x.dtype.base_dtype)
            pair = (zero, x) if zero_first else (x, zero)
            return check(*pair, data=data, summarize=summarize)

    default_name = name
    assertion.__name__ = assertion.__qualname__ = name
    assertion.__doc__ = (
        f"An operation that fails unless x {condition} for every element.\n\n"
        "data: what the error shows (x where None). summarize: how many elements of each. message: comes first.\n"
        "Raises InvalidArgumentError: x is known, and it does not hold."
    )
    export(name, f"debugging.{name}")(assertion)


_export_sign("assert_negative", "< 0", assert_less, False)
_export_sign("assert_positive", "> 0", assert_less, True)
_export_sign("assert_non_negative", ">= 0", assert_less_equal, True)
_export_sign("assert_non_positive", "<= 0", assert_less_equal, False)


@export("assert_near", "debugging.assert_near")
def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless |x - y| < atol + rtol |y| for every pair of elements.

    rtol, atol: 10 times the distance from 1 to the next number of the type, where None.
    """
    with name_scope(name, "assert_near", [x, y, rtol, atol, data]):
        x = convert_to_tensor(x, name="x")
        kind = x.dtype.base_dtype
        y = convert_to_tensor(y, kind, name="y")
        usual = 10 * _epsilon(kind)
        rtol = convert_to_tensor(usual if rtol is None else rtol, kind, name="rtol")
        atol = convert_to_tensor(usual if atol is None else atol, kind, name="atol")
        if data is None:
            told = f"x and y not equal to tolerance rtol = {rtol}, atol = {atol}"
            data = [message or "", told, f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
        limit = atol + rtol * absolute(y)
        return Assert(reduce_all(raw.Less(absolute(x - y), limit)), data, summarize=summarize)


def _epsilon(kind: DType) -> Any:
    if kind is dtypes.bfloat16:
        return 2.0**-7
    return np.finfo(kind.as_numpy_dtype).eps


# ---- ranks


class _WrongRank(ValueError):
    """A rank that is known to be wrong."""


def _check_rank(
    x: Tensor,
    ranks: list[Tensor],
    holds: Callable[..., bool],
    condition_of: Callable[..., Tensor],
    data: Any,
    summarize: int | None,
) -> Operation:
    for given in ranks:
        assert_type(given, dtypes.int32)
    known = [constant_value(given) for given in ranks]
    if all(value is not None for value in known):
        if any(value.ndim for value in known):
            raise ValueError("Rank must be a scalar.")
        if x._dims is not None:
            if not holds(len(x._dims), known):
                raise _WrongRank
            return raw.NoOp(name="static_checks_determined_all_ok")
    condition = condition_of(rank(x), ranks)
    for given, value in zip(ranks, known, strict=True):
        if value is None:
            told = ["Rank must be a scalar. Received rank: ", given]
            condition = with_dependencies([assert_rank(given, 0, data=told)], condition)
    return Assert(condition, data, summarize=summarize)


def _rank_assertion(
    default_name: str,
    words: str,
    x: Any,
    given: list[Any],
    holds: Callable[..., bool],
    condition_of: Callable[..., Tensor],
    data: Any,
    summarize: int | None,
    message: str | None,
    name: str | None,
) -> Operation:
    with name_scope(name, default_name, [x, *given, *(data or [])]):
        x = convert_to_tensor(x, name="x")
        ranks = [convert_to_tensor(value, name="rank") for value in given]
        if data is None:
            told = [message or "", f"Tensor {x.name} must have {words}", *ranks]
            data = [*told, "Received shape: ", shape(x)]
        try:
            return _check_rank(x, ranks, holds, condition_of, data, summarize)
        except _WrongRank:
            wanted = tuple(int(constant_value(value)) for value in ranks)
            shown = wanted if default_name == "assert_rank_in" else wanted[0]
            raise ValueError(
                f"{message or ''}.  Tensor {x.name} must have {words} {shown}.  Received rank "
                f"{len(x._dims)}, shape {x.shape}"  # type: ignore[arg-type]
            ) from None


@export("assert_rank", "debugging.assert_rank")
def assert_rank(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless `x` has `rank` axes. Raises ValueError: the rank is known to be another one."""
    return _rank_assertion(
        "assert_rank",
        "rank",
        x,
        [rank],
        lambda actual, given: actual == given[0],
        lambda actual, given: raw.Equal(actual, given[0]),
        data,
        summarize,
        message,
        name,
    )


@export("assert_rank_at_least", "debugging.assert_rank_at_least")
def assert_rank_at_least(
    x: Any,
    rank: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless `x` has at least `rank` axes. Raises ValueError: it is known to have fewer."""
    return _rank_assertion(
        "assert_rank_at_least",
        "rank at least",
        x,
        [rank],
        lambda actual, given: actual >= given[0],
        lambda actual, given: raw.GreaterEqual(actual, given[0]),
        data,
        summarize,
        message,
        name,
    )


def _any_equal(actual: Tensor, ranks: list[Tensor]) -> Tensor:
    if not ranks:
        return convert_to_tensor(False)
    result = raw.Equal(ranks[0], actual)
    for given in ranks[1:]:
        result = raw.LogicalOr(result, raw.Equal(given, actual))
    return result


@export("assert_rank_in", "debugging.assert_rank_in")
def assert_rank_in(
    x: Any,
    ranks: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless the number of axes of `x` is in `ranks`. Raises ValueError: known not to be."""
    return _rank_assertion(
        "assert_rank_in",
        "rank in",
        x,
        list(ranks),
        lambda actual, given: actual in given,
        _any_equal,
        data,
        summarize,
        message,
        name,
    )


@export("assert_scalar", "debugging.assert_scalar")
def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """`tensor` as a tensor. Raises ValueError: it is not known to be a scalar."""
    with name_scope(name, "assert_scalar", [tensor]) as scope:
        tensor = convert_to_tensor(tensor, name=scope)
        if tensor._dims != ():
            raise ValueError(
                f"{message or ''}Expected scalar shape for {tensor.name}, saw shape: {tensor.shape}."
            )
        return tensor


# ---- types


@export("assert_integer", "debugging.assert_integer")
def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """An operation that does nothing. Raises TypeError: the elements of `x` are no integers."""
    with name_scope(name, "assert_integer", [x]):
        x = convert_to_tensor(x, name="x")
        if not x.dtype.is_integer:
            raise TypeError(
                f'{message or ""}  Expected "x" to be integer type.  Found: {x.name} of dtype {x.dtype!s}'
            )
        return raw.NoOp(name="statically_determined_was_integer")


@export("assert_type", "debugging.assert_type")
def assert_type(
    tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None
) -> Operation:
    """An operation that does nothing. Raises TypeError: `tensor` is of another type than `tf_type`."""
    with name_scope(name, "assert_type", [tensor]):
        tensor = convert_to_tensor(tensor, name="tensor")
        if tensor.dtype != tf_type:
            raise TypeError(f"{message or ''}  {tensor.name} must be of type {tf_type!s}")
        return raw.NoOp(name="statically_determined_correct_type")


@export("assert_proper_iterable", "debugging.assert_proper_iterable")
def assert_proper_iterable(values: Any) -> None:
    """Raises TypeError: `values` is no iterable, or one by accident: a tensor, an array, a string."""
    if isinstance(values, (Tensor, SparseTensor, np.ndarray, str, bytes)):
        raise TypeError(
            f'Expected argument "values" to be a "proper" iterable.  Found: {type(values)}'
        )
    if not hasattr(values, "__iter__"):
        raise TypeError(f'Expected argument "values" to be iterable.  Found: {type(values)}')


@export("assert_same_float_dtype", "debugging.assert_same_float_dtype")
def assert_same_float_dtype(tensors: Any = None, dtype: Any = None) -> DType:
    """The one floating type of all `tensors` (None among them left out) and of `dtype`; float32 where none is given.

    Raises ValueError: several types, or one that is not floating.
    """
    origin = ""
    for item in tensors or ():
        if item is None:
            continue
        kind = item.dtype.base_dtype
        label = getattr(item, "name", None) or str(item)
        if not dtype:
            dtype, origin = kind, f" as {label}"
        elif dtype != kind:
            raise ValueError(
                f"{label}, type={kind!r}, must be of the same type ({dtype!r}){origin}."
            )
    if not dtype:
        return dtypes.float32
    if not dtypes.as_dtype(dtype).is_floating:
        raise ValueError(f"Expected floating point type, got {dtype!r}.")
    return dtype


# The types that count as numbers for the functions below; TensorFlow's list.
_NUMERIC = frozenset(
    {
        *(dtypes.float32, dtypes.float64, dtypes.complex64),
        *(dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64, dtypes.uint8),
        *(dtypes.qint8, dtypes.qint32, dtypes.quint8),
    }
)


@export("is_numeric_tensor", "debugging.is_numeric_tensor")
def is_numeric_tensor(tensor: Any) -> bool:
    """Whether `tensor` is a Tensor of numbers (floating, integer, complex64)."""
    return isinstance(tensor, Tensor) and tensor.dtype in _NUMERIC
