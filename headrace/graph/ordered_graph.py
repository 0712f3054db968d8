"""Bodies of `tf.function`: what has effects runs in the order in which the program made it, and in every call."""

from __future__ import annotations

from typing import Any

from headrace.graph.func_graph import FuncGraph
from headrace.graph.graph import Graph
from headrace.graph.op_def import Effect, OpDef
from headrace.graph.operation import Operation


class OrderedGraph(FuncGraph):
    """A body whose stateful operations wait for one another, in order; the last one is what every call must run."""

    def add_operation(self, definition: OpDef, *args: Any, **kwargs: Any) -> Operation:
        """As Graph's; a stateful operation waits for the one before it."""
        op = super().add_operation(definition, *args, **kwargs)
        if definition.is_stateful and not definition.effects & Effect.HANDLE:
            for last in self.control_outputs:
                if last not in op._control_inputs:
                    op._add_control_input(last)
            self.control_outputs = [op]
        return op


def new_body(name: str, graph: Graph) -> FuncGraph:
    """An empty body of a branch or loop in `graph`: one that keeps the order where `graph` does."""
    return OrderedGraph(name, graph) if isinstance(graph, OrderedGraph) else FuncGraph(name, graph)
