"""The graph of a run as it is executed: what depends on constants alone is a constant, and what only led there is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph.attr_value import TensorValue
from headrace.graph.constant_value import constant_value
from headrace.graph.graph_def import node_to_proto
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

# Larger results are computed in the run: the graph would grow by them.
_MAX_ELEMENTS = 1024


def folded(
    ops: Sequence[Operation],
    fetches: Sequence[Tensor],
    targets: Sequence[Operation],
    fed: frozenset[Tensor],
) -> dict[Operation, Any]:
    """The constant (an array) that stands for each operation whose value is known, None for those that stay."""
    known: dict[Operation, Any] = {}
    for op in ops:
        known[op] = None if op in targets else _value_of(op, known, fed)
    return _without_unused(ops, known, fetches, targets, fed)


def _value_of(op: Operation, known: dict[Operation, Any], fed: frozenset[Tensor]) -> Any:
    if len(op._outputs) != 1 or not op._inputs or op._control_inputs or op._definition.effects:
        return None
    if op._outputs[0]._dtype.base_dtype in (dtypes.resource, dtypes.variant, dtypes.string):
        return None
    for tensor in op._inputs:
        if tensor in fed or (known.get(tensor._op) is None and not _is_constant(tensor._op)):
            return None
    value = constant_value(op._outputs[0])
    return value if value is not None and np.size(value) <= _MAX_ELEMENTS else None


def _is_constant(op: Operation) -> bool:
    return isinstance(op._attrs.get("value"), TensorValue) and not op._inputs


def _without_unused(
    ops: Sequence[Operation],
    known: dict[Operation, Any],
    fetches: Sequence[Tensor],
    targets: Sequence[Operation],
    fed: frozenset[Tensor],
) -> dict[Operation, Any]:
    """Leaves out the operations that only constants depended on."""
    needed = {t._op for t in fetches if t not in fed} | set(targets)
    for op in reversed(ops):
        if op in needed and known[op] is None:
            needed.update(t._op for t in op._inputs if t not in fed)
            needed.update(op._control_inputs)
    return {op: known[op] for op in ops if op in needed}


def to_nodes(plan: dict[Operation, Any], graph_def: Any, device: str) -> None:
    """Writes the operations of a folded plan into a GraphDef."""
    for op, value in plan.items():
        node = node_to_proto(op, graph_def.node.add())
        node.device = device
        if value is not None:
            kind = op._outputs[0]._dtype
            node.op = "Const"
            del node.input[:]
            node.attr.clear()
            node.attr["dtype"].type = kind.as_datatype_enum
            array = np.asarray(value, dtype=kind.np_dtype)
            node.attr["value"].tensor.CopyFrom(TensorValue(array, kind).to_proto())
