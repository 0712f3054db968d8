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
    values: dict[Tensor, Any] = {}
    for op in ops:
        if op in free and op._outputs:
            values[op._outputs[0]] = op._definition.host_rule(op)  # type: ignore[misc]
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
        steps.append(
            (definition.host_rule, op, op._inputs, op._outputs[0], op._outputs[0]._dtype.np_dtype)
        )

    def call(feed_values: Sequence[Any]) -> list[Any]:
        env = dict(values)
        env.update(zip(feeds, feed_values))
        with np.errstate(all="ignore"):
            for rule, op, inputs, output, kind in steps:
                result = rule(op, *[env[t] for t in inputs])
                env[output] = (
                    result
                    if result.__class__ is np.ndarray and result.dtype is kind
                    else np.asarray(result, kind)
                )
        return [env[t] for t in fetches]

    return call
