"""Steps so small that calling a compiled program costs more than computing them: they stay with NumPy.

A call of XLA takes about 7 microseconds, a NumPy function one or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.segments import is_pure

_MOST_OPS = 3
_MOST_ELEMENTS = 256


def _is_small(tensor: Tensor) -> bool:
    dims = tensor._dims
    if (
        dims is None
        or None in dims
        or tensor._dtype.base_dtype in (dtypes.string, dtypes.resource, dtypes.variant)
    ):
        return False
    return math.prod(dims) <= _MOST_ELEMENTS  # type: ignore[arg-type]


def host_call(
    ops: Sequence[Operation],
    free: set[Operation],
    feeds: Sequence[Tensor],
    fetches: Sequence[Tensor],
) -> Callable[[Sequence[Any]], list[Any]] | None:
    """The step as a function of its feeds by NumPy rules; None where it is not as small and simple as that.

    The function takes NumPy arrays of the declared types and shapes.
    """
    working = [
        op
        for op in ops
        if op not in free and not (op._outputs and all(t in feeds for t in op._outputs))
    ]
    if not 0 < len(working) <= _MOST_OPS or not all(map(_is_small, (*feeds, *fetches))):
        return None
    # Values have numbers, those of feeds and constants first: looking tensors up costs more than many a rule.
    places = {tensor: i for i, tensor in enumerate(feeds)}
    constants = []
    for op in ops:
        if op in free and op._outputs and op._outputs[0] not in places:
            places[op._outputs[0]] = len(feeds) + len(constants)
            constants.append(op._definition.host_rule(op))  # type: ignore[misc]
    steps = []
    for op in working:
        definition = op._definition
        simple = (
            definition.host_rule is not None
            and is_pure(op)
            and not definition.function_attrs
            and not definition.dynamic_shape
            and not definition.host_only
            and len(op._outputs) == 1
            and not any(a.is_list for a in definition.signature.inputs)
            and all(_is_small(t) for t in (*op._inputs, *op._outputs))
        )
        if not simple:
            return None
        (output,) = op._outputs
        arguments = [places[t] for t in op._inputs]
        places[output] = len(feeds) + len(constants) + len(steps)
        steps.append((definition.host_rule, op, arguments, output._dtype.np_dtype))
    wanted = [places[t] for t in fetches]

    @np.errstate(all="ignore")  # as a decorator it costs half of what a block does
    def call(feed_values: Sequence[Any]) -> list[Any]:
        values = [*feed_values, *constants]
        for rule, op, arguments, kind in steps:
            result = rule(op, *[values[i] for i in arguments])
            if result.__class__ is not np.ndarray or result.dtype is not kind:
                result = np.asarray(result, kind)
            values.append(result)
        return [values[i] for i in wanted]

    return call
