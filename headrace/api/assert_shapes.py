"""`tf.debugging.assert_shapes`: the shapes of several tensors, with names for sizes that must agree."""

from __future__ import annotations

from typing import Any

from headrace.api.array_ops import rank, shape
from headrace.api.check_ops import assert_rank, assert_rank_at_least, assert_rank_in
from headrace.api.cond import cond
from headrace.api.control_flow_basic import group
from headrace.api.diagnostic import Assert
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.default import get_default_graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


@export("debugging.assert_shapes")
def assert_shapes(
    shapes: Any,
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that fails unless tensors have the given shapes, in which equal names stand for equal sizes.

    shapes: a dictionary or a list of pairs of a tensor and its sizes: numbers, names, None or "." for any size, `...`
    or "*" in the first place for any number of axes; None for no demand. A scalar counts as a vector of one element.
    Raises ValueError: the shapes are known, and they do not fit.
    """
    message = message or ""
    pairs = list(shapes.items()) if isinstance(shapes, dict) else list(shapes)
    with name_scope(name, "assert_shapes", [data]):
        demands = [
            _demand(convert_to_tensor(x), wanted, message)
            for x, wanted in pairs
            if wanted is not None
        ]
        ranks = [
            assertion
            for x, sizes, is_open in demands
            if (assertion := _assert_rank_of(x, sizes, is_open, data, summarize, message, name))
            is not None
        ]
        found: dict[Any, tuple[Any, str]] = {}
        checks: list[Operation] = []
        for x, sizes, is_open in demands:
            actual = _sizes_of(x)
            for i, symbol in enumerate(sizes):
                if symbol is None or symbol == ".":
                    continue
                axis = i - len(sizes) if is_open else i
                check = _check_size(x, axis, actual[axis], symbol, found, data, summarize, message)
                if check is not None:
                    checks.append(check)
        with get_default_graph().control_dependencies(ranks):
            return group(*checks)


def _demand(x: Tensor, wanted: Any, message: str) -> tuple[Tensor, tuple[Any, ...], bool]:
    """(tensor, sizes, whether any axes may stand before these)."""
    if not (hasattr(wanted, "__iter__") or hasattr(wanted, "__getitem__")):
        raise ValueError(
            f"{message}.  Tensor {x.name}.  Specified shape must be an iterable.  An iterable has the attribute "
            f"`__iter__` or `__getitem__`.  Received specified shape: {wanted}"
        )
    sizes = tuple(wanted)
    for i, symbol in enumerate(sizes):
        if symbol in (Ellipsis, "*") and i:
            raise ValueError(
                f"{message}.  Tensor {x.name} specified shape index {i}.  Symbol `...` or `*` for a variable number of "
                "unspecified dimensions is only allowed as the first entry"
            )
    is_open = bool(sizes) and sizes[0] in (Ellipsis, "*")
    return x, (sizes[1:] if is_open else sizes) or (1,), is_open


def _assert_rank_of(
    x: Tensor,
    sizes: tuple[Any, ...],
    is_open: bool,
    data: Any,
    summarize: int | None,
    message: str,
    name: str | None,
) -> Operation | None:
    count = len(sizes)
    if is_open:
        if count <= 1:
            return None
        return assert_rank_at_least(x, count, data, summarize, message, name)
    if count <= 1:
        return assert_rank_in(x, [0, 1], data, summarize, message, name)
    return assert_rank(x, count, data, summarize, message, name)


def _sizes_of(x: Tensor) -> Any:
    """The size along each axis: a number where it is known, else a tensor."""
    if x._dims == ():
        return (1,)
    sizes = shape(x)
    if x._dims is not None:
        return [sizes[i] if size is None else size for i, size in enumerate(x._dims)]
    return cond(raw.Equal(rank(x), 0), lambda: convert_to_tensor([1]), lambda: sizes)


def _as_number(value: Any) -> int | None:
    try:
        return int(value)
    except (ValueError, TypeError):
        return None


def _check_size(
    x: Tensor,
    axis: int,
    actual: Any,
    symbol: Any,
    found: dict[Any, tuple[Any, str]],
    data: Any,
    summarize: int | None,
    message: str,
) -> Operation | None:
    """Compares a size with a number, or with the first size of its name. Raises ValueError: they differ."""
    number = _as_number(symbol)
    if number is None and symbol not in found:
        found[symbol] = actual, f"Specified by tensor {x.name} dimension {axis}"
        return None
    wanted, origin = (number, "Specified explicitly") if number is not None else found[symbol]
    if _as_number(actual) is not None and _as_number(wanted) is not None:
        if int(actual) != int(wanted):
            raise ValueError(
                f"{message}.  {origin}.  Tensor {x.name} dimension {axis} must have size {wanted}.  Received size "
                f"{actual}, shape {x.shape}"
            )
        return None
    condition = raw.Equal(convert_to_tensor(actual), convert_to_tensor(wanted))
    if data is None:
        data = [message, origin, f"Tensor {x.name} dimension", axis, "must have size", wanted]
        data += ["Received shape: ", shape(x)]
    return Assert(condition, data, summarize=summarize)
