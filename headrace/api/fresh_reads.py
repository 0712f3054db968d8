"""Values of variables in loops and branches that write them.

Where a program uses a variable as a value, it gets the variable's `read` node, which stands outside of the loop. In
TensorFlow that node gives the variable's own memory, so that each iteration sees what the one before has written (an
optimizer inside a loop trains). Here the body gets a `read` node of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.graph.func_graph import FuncGraph
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation, group_by_argument
from headrace.graph.tensor import Tensor


def read_inside(bodies: Sequence[FuncGraph]) -> None:
    """Makes bodies read the variables anew that one of them writes."""
    references = {
        outer
        for body in bodies
        for outer, inner in body.captures.items()
        if outer._dtype.is_ref_dtype and any(_may_write(op, inner) for op in inner._consumers)
    }
    if not references:
        return
    for body in bodies:
        for outer, inner in list(body.captures.items()):
            op = outer._op
            if op.type == "Identity" and op._inputs[0] in references:
                if op._name == f"{op._inputs[0]._op._name}/read":
                    _replace(body, outer, inner, op._inputs[0])


def _may_write(op: Operation, reference: Tensor) -> bool:
    definition = op._definition
    if definition.function_attrs:
        return True
    groups = zip(definition.signature.inputs, group_by_argument(op, list(op._inputs)), strict=True)
    return any(
        argument.name in definition.writes
        and any(t is reference for t in (group if isinstance(group, list) else [group]))
        for argument, group in groups
    )


def _replace(body: FuncGraph, outer: Tensor, inner: Tensor, reference: Tensor) -> None:
    """Puts a `read` node in the place of the captured input `inner`."""
    inside = body.capture(reference)
    with body.control_dependencies(None):
        read = body.add_operation(
            lookup("Identity"),
            [inside],
            {"T": inside._dtype.base_dtype},
            [inside._dtype.base_dtype],
            f"{inside._op._name}/read",
        )._outputs[0]
    for consumer in list(inner._consumers):
        consumer._inputs = tuple(read if t is inner else t for t in consumer._inputs)
        read._consumers.append(consumer)
    inner._consumers.clear()
    body.outputs = [read if t is inner else t for t in body.outputs]
    body.inputs.remove(inner)
    del body.captures[outer]
    body._mutations += 1
