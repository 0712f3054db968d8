"""Operations that compute in 16 bits inside a program whose tensors keep their types.

What goes into a chosen operation is narrowed and what comes out widened again. Between two chosen ones XLA removes both
conversions, so that only the borders convert.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headrace.graph.op_def import ArgSpec
from headrace.graph.operation import Operation
from headrace.passes.mixed_precision import Narrow, Narrowed


class _Current(threading.local):
    narrow: Narrow | None = None


_current = _Current()


@contextlib.contextmanager
def narrowing(narrow: Narrow | None) -> Iterator[None]:
    """A block in which this thread traces the chosen operations in 16 bits; None: as they are."""
    before, _current.narrow = _current.narrow, narrow
    try:
        yield
    finally:
        _current.narrow = before


def is_narrowing() -> bool:
    """Whether this thread traces in 16 bits what was chosen for it."""
    return bool(_current.narrow)


def narrowed(op: Operation) -> Narrowed | None:
    """How `op` changes, None where it is none of the chosen ones."""
    return _current.narrow.get(op) if _current.narrow else None


def narrow_arguments(op: Operation, change: Narrowed, arguments: Sequence[Any]) -> list[Any]:
    """The values that `op` gets, narrowed."""
    specs = op._definition.signature.inputs
    return _converted(specs, arguments, change, np.float32, change.dtype.np_dtype)


def widened(op: Operation, change: Narrowed, results: Any) -> Any:
    """The results of `op` in the types of its outputs."""
    specs = op._definition.signature.outputs
    several = isinstance(results, (tuple, list))
    if several and len(specs) == 1 and specs[0].is_list:
        results = [results]
    elif not several:
        results = [results]
    found = _converted(specs, results, change, change.dtype.np_dtype, np.float32)
    return found[0] if len(specs) == 1 else found


def _converted(
    specs: Sequence[ArgSpec], values: Sequence[Any], change: Narrowed, of: Any, to: Any
) -> list[Any]:
    def convert(value: Any) -> Any:
        return value.astype(to) if value.dtype == of else value

    found = []
    for spec, value in zip(specs, values, strict=True):
        if spec.name not in change.arguments:
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.append([convert(v) for v in value])
        else:
            found.append(convert(value))
    return found
