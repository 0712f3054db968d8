"""`RunMetadata.cost_graph`: what each operation of a step is expected to cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.graph.operation import Operation
from headrace.runtime.node_costs import NodeCosts, bytes_of


def fill(
    graph: Any, ops: list[Operation], costs: NodeCosts, device_of: Callable[[Operation], str]
) -> None:
    """Adds a node for each of `ops` to a CostGraphDef; times in microseconds."""
    number = {op: i for i, op in enumerate(ops)}
    for op in ops:
        seconds = costs.seconds(op)
        node = graph.node.add(name=op._name, device=device_of(op), id=number[op])
        node.compute_cost = node.compute_time = int(seconds * 1e6)
        for tensor in op._inputs:
            if tensor._op in number:
                node.input_info.add(
                    preceding_node=number[tensor._op], preceding_port=tensor.value_index
                )
        node.control_input.extend(number[c] for c in op._control_inputs if c in number)
        for tensor in op._outputs:
            output = node.output_info.add(size=bytes_of(tensor), alias_input_port=-1)
            output.dtype = tensor._dtype.base_dtype.as_datatype_enum
            output.shape.CopyFrom(tensor.shape.as_proto())
