"""Initial values that depend on other variables: they must not read one that is not initialised yet."""

from __future__ import annotations

from headrace.graph.op_def import Effect, lookup
from headrace.graph.operation import Operation
from headrace.graph.raw import build_from_parts
from headrace.graph.tensor import Tensor

# What reads a resource handle decides itself when it reads: a handle is not exchanged for a value.
_KEPT = frozenset({"IsVariableInitialized", "VarIsInitializedOp", "ReadVariableOp", "If"})


def safe_initial_value(name: str, tensor: Tensor) -> Tensor:
    """`tensor` with every reference to a variable replaced by its `initialized_value()`.

    Nodes between the variables and `tensor` are copied (named after the new variable, `name`); a graph with a cycle, or
    variables that are in no collection, are left as they are.
    """
    found = _ancestors(tensor.op)
    if found is None or not any(_is_variable(op) for op in found):
        return tensor
    return _replaced(name, tensor, {})


def _is_variable(op: Operation) -> bool:
    return bool(op._definition.effects & Effect.HANDLE) and not op._definition.host_only


def _ancestors(start: Operation) -> set[Operation] | None:
    """Everything that `start` depends on, itself included; None where there is a cycle."""
    open_ops: set[Operation] = set()
    done: set[Operation] = set()
    stack: list[tuple[Operation, bool]] = [(start, False)]
    while stack:
        op, leaving = stack.pop()
        if leaving:
            open_ops.discard(op)
            done.add(op)
            continue
        if op in done:
            continue
        open_ops.add(op)
        stack.append((op, True))
        for source in (*(t._op for t in op._inputs), *op._control_inputs):
            if source in open_ops:
                return None
            if source not in done:
                stack.append((source, False))
    return done


def _replaced(name: str, tensor: Tensor, known: dict[Operation, Operation]) -> Tensor:
    op = tensor._op
    if op not in known:
        known[op] = _replaced_op(name, op, known)
    return known[op]._outputs[tensor._index]


def _replaced_op(name: str, op: Operation, known: dict[Operation, Operation]) -> Operation:
    if op.type in _KEPT:
        return op
    if _is_variable(op):
        value = _initialized_value(op)
        return op if value is None else value._op
    inputs = [_replaced(name, t, known) for t in op._inputs]
    if all(new is old for new, old in zip(inputs, op._inputs, strict=True)):
        return op
    definition = lookup("Switch" if op.type == "RefSwitch" else op.type)
    return build_from_parts(
        op._graph, definition, inputs, op._attrs, f"{op._name}_{name}".replace(":", "_")
    )


def _initialized_value(op: Operation) -> Tensor | None:
    """The guarded value of the variable that `op` holds; None where no collection knows the variable."""
    for collection in ("variables", "local_variables"):
        for variable in op._graph.get_collection(collection):
            if getattr(variable, "op", None) is op and hasattr(variable, "initialized_value"):
                return variable.initialized_value()
    return None
