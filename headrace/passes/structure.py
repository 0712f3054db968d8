"""What an operation is apart from its name and its place: by this its counterpart in another replica is known."""

from __future__ import annotations

import re
from typing import Any

from headrace.core.tensor_shape import TensorShape
from headrace.graph.attr_value import FunctionRef, TensorValue
from headrace.graph.func_graph import FunctionOp, functions_of
from headrace.graph.op_def import PADDED, Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.state_order import StateOrder, plan_body

Signature = tuple[Any, ...]

_OF_REPLICA = re.compile(r"(?:^|/)replica_\d+(?=/|$)")
_UPDATE = re.compile(r"(?<=update_)\d+")


def plain_name(op: Operation) -> str:
    """The name of an operation without what says of which replica it is."""
    return _UPDATE.sub("", _OF_REPLICA.sub("", op._name).strip("/"))


def description(
    op: Operation, order: StateOrder, bodies: dict[tuple[str, str], Signature]
) -> Signature:
    """Type, attrs and functions of an operation: what decides which values follow from its inputs and its state."""
    definition = op._definition
    ignored: frozenset[str] = frozenset(definition.function_attrs)
    if definition.effects & Effect.RANDOM:
        ignored |= {"seed", "seed2"}  # they are in the generator's first state, and nowhere else
    if definition.effects & Effect.HANDLE:
        ignored |= {"shared_name", "container"}
    attrs = tuple(
        (name, _hashable(value))
        for name, value in sorted(op._attrs.items())
        if name not in ignored and (name == PADDED or not name.startswith("_"))
    )
    functions: Signature = ()
    if definition.function_attrs:
        functions = tuple(
            (attr, _body(op, function, order, bodies)) for attr, function in functions_of(op)
        )
    # A function that is called by its name is a type of its own.
    kind = "" if isinstance(definition, FunctionOp) else op.type
    return kind, attrs, functions, op.facts


def _body(
    op: Operation, function: Any, order: StateOrder, bodies: dict[tuple[str, str], Signature]
) -> Signature:
    """The structure of a function's body."""
    plan = plan_body(op, function, order.binding, order.path)
    known = bodies.get((function.name, order.path + op._name))
    if known is not None:
        return known
    number = {o: i for i, o in enumerate(plan.ops)}
    given = {t: i for i, t in enumerate(function.graph.inputs)}

    def where(tensor: Tensor) -> Signature:
        if tensor in given:
            return ("input", given[tensor])
        return number.get(tensor._op, -1), tensor.value_index

    found = (
        tuple(
            (
                description(o, plan.order, bodies),
                tuple(map(where, o._inputs)),
                tuple(sorted(number[c] for c in o._control_inputs if c in number)),
            )
            for o in plan.ops
        ),
        tuple(map(where, function.graph.outputs)),
        len(plan.reads),
        len(plan.writes),
    )
    bodies[function.name, order.path + op._name] = found
    return found


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _hashable(v)) for k, v in sorted(value.items()))
    if isinstance(value, TensorShape):
        return ("shape", value._dims)
    if isinstance(value, TensorValue):
        return value.dtype, value.array.shape, value.array.tobytes()
    if isinstance(value, FunctionRef):
        return value.name, _hashable(value.attrs)
    return value
