"""Ops that call a Python function of the program with NumPy arrays."""

from __future__ import annotations

import itertools
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import dtypes, errors
from headrace.core.site import PACKAGE_PREFIX
from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.lowering import context


class PythonFunction:
    """A function of the program under its token; the graph that calls it keeps it alive."""

    _numbers = itertools.count()

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.constant: Any = None
        self.token = f"pyfunc_{next(self._numbers)}"
        FUNCTIONS[self.token] = self


FUNCTIONS: weakref.WeakValueDictionary[str, PythonFunction] = weakref.WeakValueDictionary()

# What Python raises, as the error of the step (as TensorFlow maps them).
_ERRORS = (
    (StopIteration, errors.OutOfRangeError),
    ((ValueError, TypeError), errors.InvalidArgumentError),
    (MemoryError, errors.ResourceExhaustedError),
    (NotImplementedError, errors.UnimplementedError),
)


def _call(op, inputs=()):
    holder = FUNCTIONS.get(op.attr("token"))
    if holder is None:
        raise errors.InvalidArgumentError(
            None,
            op,
            f"{op.type} op {op.name!r}: callback {op.attr('token')} is not found: its function is gone",
        )
    # The function may write into what it gets and keep it.
    arguments = [_argument(x) for x in inputs]
    try:
        result = context.call_out(holder.function, *arguments)
    except errors.OpError:
        raise
    except Exception as error:
        kind = next((e for types, e in _ERRORS if isinstance(error, types)), errors.UnknownError)
        raise kind(None, op, f"{op.type} op {op.name!r}: {_described(error)}") from error
    types = op.attr("Tout")
    if result is None:
        result = []
    elif not isinstance(result, (list, tuple)):
        result = [result]
    elif len(types) == 1 and len(result) != 1:
        result = [result]  # one output that is a list of numbers
    if len(result) != len(types):
        raise op.invalid(
            f"its function returned {len(result)} values, Tout has {len(types)} types."
        )
    return tuple(_result(op, r, t, i) for i, (r, t) in enumerate(zip(result, types, strict=True)))


def _call_stateless(op, inputs=()):
    """A function without state and without arguments is a constant: it is called once."""
    holder = FUNCTIONS.get(op.attr("token"))
    if inputs or holder is None:
        return _call(op, inputs)
    if holder.constant is None:
        holder.constant = _call(op)
    # The value itself, as constants are asked for theirs.
    return holder.constant[0] if len(op._outputs) == 1 else holder.constant


def _described(error: Exception) -> str:
    """The exception with the lines of the program that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = list(itertools.dropwhile(lambda f: f.filename.startswith(PACKAGE_PREFIX), frames))
    summary = f"{type(error).__name__}: {error}"
    return "".join(
        [
            f"{summary}\nTraceback (most recent call last):\n",
            *traceback.format_list(frames),
            summary,
        ]
    )


def _argument(x):
    return (
        x.copy()
        if isinstance(x, np.ndarray) and x.ndim
        else x[()]
        if isinstance(x, np.ndarray)
        else x
    )


def _result(op, value, dtype, index):
    if dtype is dtypes.string:
        return _strings(op, value)
    try:
        array = np.asarray(value, order="C")
    except ValueError:
        array = np.asarray(value, dtype=object)
    if array.dtype.kind in "OSUV" and array.dtype != dtype.np_dtype:
        word = "numpy data type" if array.dtype.kind == "V" else "object type"
        shown = array.dtype if array.dtype.kind == "V" else type(value).__name__
        raise errors.InternalError(
            None, op, f"{op.type} op {op.name!r}: Unsupported {word} {shown}"
        )
    if array.dtype != dtype.np_dtype:
        if isinstance(value, (np.ndarray, np.generic)):
            raise op.invalid(
                f"{index}-th value returned by {op.attr('token')} is {dtypes.as_dtype(array.dtype).name}, but expects "
                f"{dtype.name}."
            )
        cast = array.astype(dtype.np_dtype)
        if not np.can_cast(array.dtype, dtype.np_dtype, "same_kind"):
            raise op.invalid(
                f"{index}-th value returned by {op.attr('token')} is {dtypes.as_dtype(array.dtype).name}, but expects "
                f"{dtype.name}."
            )
        array = cast
    # The function may change its array later, or return one of its arguments.
    return np.array(array, copy=True)


def _strings(op, value):
    array = np.asarray(value)
    if array.dtype.kind not in "OSU":
        raise op.invalid(
            f"0-th value returned by {op.attr('token')} is {array.dtype}, but expects string."
        )
    source = (
        array
        if array.dtype.kind == "O" or isinstance(value, np.ndarray)
        else np.asarray(value, dtype=object)
    )
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        item = source[index]
        if isinstance(item, str):
            item = item.encode()
        if not isinstance(item, bytes):
            raise errors.InternalError(
                None, op, f"{op.type} op {op.name!r}: Unsupported object type {type(item).__name__}"
            )
        out[index] = bytes(item)
    return out


for _name, _effects in (("PyFunc", Effect.STATEFUL), ("PyFuncStateless", Effect.NONE)):
    _definition = define(
        _name,
        "input: Tin -> output: Tout",
        "token: string, Tin: list(type) >= 0, Tout: list(type) >= 0",
        effects=_effects,
        host_only=True,
        waits=True,
    )
    _definition.shape(shapes.unknown)
    _definition.host(_call if _name == "PyFunc" else _call_stateless)
    _definition.not_differentiable()
