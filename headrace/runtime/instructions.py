"""Operations made ready for interpretation: what is the same in each run is decided once.

Most operations of a loop's body are pure and small. Deciding each time what NumPy may compute, which values are handles and
how inputs are grouped costs several times what the NumPy function does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph.op_def import MAY_FAIL
from headrace.graph.operation import Operation
from headrace.lowering.evaluate import REFUSED, Values
from headrace.lowering.tensor_list import DeviceList, HostList
from headrace.passes.segments import runs_on_host
from headrace.passes.state_order import StateOrder, flat_arguments, is_handle
from headrace.runtime.host_rules import MOST_ELEMENTS, MOST_SUMMED, to_numpy

# Computes the operation into the values and returns True; False: it has more elements than the number given, and nothing was
# done.
Instruction = Callable[[Values, int], bool]


def ready(op: Operation, order: StateOrder, fed: frozenset[Any]) -> Instruction | None:
    """`op` by its NumPy rule on NumPy values; None where that rule is not all there is to it.

    To be called inside `np.errstate(all="ignore")`. The instruction raises what the rule does.
    """
    definition = op._definition
    rule = definition.host_rule
    if (
        rule is None
        or definition.function_attrs
        or definition.static_rule is not None
        or definition.effects & ~MAY_FAIL
        or definition.writes
        or definition.host_only
        or definition.host_is_slow
        or op in order.later_reads
        or not op._outputs
        or any(t in fed for t in op._outputs)
        or any(is_handle(t) for t in (*op._inputs, *op._outputs))
    ):
        return None
    size = sum(_known_size(t._dims) for t in op._outputs if t._dtype is not dtypes.variant)
    always = (
        definition.dynamic_shape
        or bool(definition.known_strings)
        or runs_on_host(op)
        or any(t._dtype is dtypes.variant for t in op._outputs)
    )
    return _instruction(op, rule, None if always else size)


def _known_size(dims: Any) -> int:
    return 0 if dims is None or None in dims else math.prod(dims)


def _instruction(op: Operation, rule: Callable[..., Any], size: int | None) -> Instruction:
    """size: the number of elements of the outputs as far as it is known; None: the rule computes any number."""
    inputs, outputs = tuple(op._inputs), tuple(op._outputs)
    groups = _groups(op)
    kinds = [
        None
        if t._dtype.base_dtype in (dtypes.resource, dtypes.variant)
        else t._dtype.base_dtype.np_dtype
        for t in outputs
    ]
    sums = op._definition.is_sum
    single, kind = (outputs[0] if len(outputs) == 1 else None), kinds[0]
    ndarray = np.ndarray

    def run(values: Values, most: int) -> bool:
        arguments = [values[t] for t in inputs]
        total = 0
        for i, value in enumerate(arguments):
            if value.__class__ is ndarray:
                total += value.size
            elif value.__class__ is HostList or value.__class__ is DeviceList:
                arguments[i] = to_numpy(value)
                total = -(1 << 62)  # only the references to its elements are copied
            else:
                total += getattr(value, "size", 1)
                arguments[i] = to_numpy(value)
        if size is not None and (
            total + size > most or (sums and most == MOST_ELEMENTS and total + size > MOST_SUMMED)
        ):
            return False
        if groups is not None:
            arguments = [arguments[a] if b is None else arguments[a:b] for a, b in groups]
        try:
            results = rule(op, *arguments)
        except REFUSED as error:
            raise op.invalid(str(error)) from error
        if single is not None and results.__class__ is not tuple and results.__class__ is not list:
            values[single] = (
                results
                if kind is None or (results.__class__ is ndarray and results.dtype == kind)
                else np.asarray(results, kind)
            )
            return True
        for tensor, result, wanted in zip(outputs, results, kinds, strict=True):
            values[tensor] = (
                result
                if wanted is None or (result.__class__ is ndarray and result.dtype == wanted)
                else np.asarray(result, wanted)
            )
        return True

    return run


def _groups(op: Operation) -> list[tuple[int, int | None]] | None:
    """For each argument of the signature the flat inputs that it takes: one (None), or those up to a number; None: one each."""
    arguments = op._definition.signature.inputs
    if not any(a.is_list for a in arguments):
        return None
    found: list[tuple[int, int | None]] = []
    flat = flat_arguments(op)
    start = 0
    for argument in arguments:
        count = sum(a is argument for a in flat)
        found.append((start, start + count) if argument.is_list else (start, None))
        start += count
    return found
