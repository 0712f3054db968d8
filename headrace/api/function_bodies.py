"""Bodies of branches and loops, and the nodes that call them.

Bodies (see `graph/func_graph.py`) capture what they use of the graph around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.core import dtypes
from headrace.graph import default, raw
from headrace.graph.func_graph import FuncGraph
from headrace.graph.graph import Graph
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Dims, Tensor


def body_name(graph: Graph, kind: str) -> str:
    """The name of a body: what it is, and where."""
    scope = graph.get_name_scope()
    return f"{scope}_{kind}" if scope else kind


def call_op(
    op_type: str, inputs: dict[str, Any], attrs: dict[str, Any], name: str | None = None
) -> Operation:
    """Adds a node that calls functions. References among its inputs stay references."""
    definition = lookup(op_type)
    graph = default.get_default_graph()
    flat: list[Tensor] = []
    values = dict(attrs)
    for argument in definition.signature.inputs:
        value = inputs[argument.name]
        if argument.is_list:
            flat += value
            values[str(argument.type_list_attr)] = [t._dtype.base_dtype for t in value]
        else:
            flat.append(value)
    flat = [graph.capture(t) if t.graph is not graph else t for t in flat]  # type: ignore[attr-defined]
    return raw.build_from_parts(graph, definition, flat, values, name)


def share_captures(bodies: Sequence[FuncGraph]) -> list[Tensor]:
    """Makes bodies that are called with the same inputs capture the same tensors in one order; returns these."""
    outer: dict[Tensor, None] = {}
    for body in bodies:
        outer.update(dict.fromkeys(body.captures))
    for body in bodies:
        own = [t for t in body.inputs if t not in set(body.captures.values())]
        for tensor in outer:
            body.capture(tensor)
        body.inputs = own + [body.captures[t] for t in outer]
    return list(outer)


def common_shape(a: Dims, b: Dims) -> Dims:
    """What is true of both shapes."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else None for x, y in zip(a, b, strict=True))


def copy_notes(source: Tensor, target: Tensor) -> None:
    """Gives `target` what is noted on `source`; not where that was captured from, since loop variables change."""
    if source._extra is not None:
        for key, value in source._extra.items():
            if key != "_captured_from":
                setattr(target, key, value)


def has_value(tensor: Tensor) -> bool:
    """Whether `tensor` is an array: neither a handle nor a list."""
    return tensor._dtype not in (dtypes.resource, dtypes.variant)
