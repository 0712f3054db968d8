"""Branches and loops without the results that a run does not ask for.

Where TensorFlow 1 has a Switch and a Merge node for each result of a conditional, and a chain of nodes for each variable of a
loop, a run computes, and must be fed, only what its fetches need. An `If` or a `While` is one node with all its results:
here a run gets a replica of it, with the results that are needed, the functions that compute these alone, and the inputs
that they take. What comes after it is replaced too; the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from headrace.graph.func_graph import (
    BoundFunction,
    FuncGraph,
    GraphFunction,
    call_inputs,
    functions_of,
)
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

Needs = Callable[[str, int, "frozenset[int] | None"], "set[int]"]
"""The inputs that function number i of an attr needs for some of its outputs (None: all of them)."""


class Replica(Operation):
    """An operation as a run needs it, in place of `origin`; no graph lists it."""

    __slots__ = ("origin",)

    def __init__(self, origin: Operation, outputs: Iterable[Tensor]) -> None:
        for name in Operation.__slots__:
            if name != "__weakref__":
                setattr(self, name, getattr(origin, name))
        self.origin = original(origin)
        self._control_outputs = None
        self._outputs = [_copy(t, self, i) for i, t in enumerate(outputs)]


def original(op: Operation) -> Operation:
    """The operation of the graph that `op` stands for: itself, if it is no replica."""
    return op.origin if isinstance(op, Replica) else op


def _copy(tensor: Tensor, op: Operation, index: int) -> Tensor:
    made = Tensor(op, index, tensor._dtype)
    object.__setattr__(made, "_dims", tensor._dims)
    object.__setattr__(made, "_extra", tensor._extra)
    return made


class PartOfBody(FuncGraph):
    """The body of a function with some of its inputs and outputs; the operations are those of the whole body."""

    def __init__(
        self,
        whole: FuncGraph,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        control_outputs: Sequence[Operation],
        ops: Sequence[Operation],
    ) -> None:
        self.__dict__.update({k: v for k, v in whole.__dict__.items() if k not in _OF_THE_WHOLE})
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.control_outputs = list(control_outputs)
        self._operations = list(ops)


# What is known of a body as a whole.
_OF_THE_WHOLE = frozenset(("_has_host_ops", "_loop_programs", "_kept_values", "_trip_counters"))


def drop_unneeded(
    fetches: Sequence[Tensor], targets: Sequence[Operation], fed: frozenset[Tensor]
) -> tuple[list[Tensor], list[Operation]]:
    """`fetches` and `targets` of a run with branches and loops that compute what these need, no more."""
    part = _Part(fed, {})
    part.reach([t for t in fetches if t not in fed], targets)
    part.replace()
    return [part.tensors.get(t, t) for t in fetches], [part.ops.get(op, op) for op in targets]


@dataclass(slots=True)
class _Body:
    """What some outputs of a function need: its inputs (by place), and the part of it."""

    inputs: frozenset[int]
    part: _Part


@dataclass(slots=True)
class _Call:
    """What a run needs of an operation with functions."""

    waits: list[Operation]  # control inputs
    outputs: set[int] = field(default_factory=set)
    inputs: frozenset[int] = frozenset()  # of those that the functions get
    # By attr and number: the outputs of the function that are needed, None for all of them.
    bodies: dict[tuple[str, int], frozenset[int] | None] = field(default_factory=dict)


class _Part:
    """The part of one graph that is needed.

    known: what is known of bodies by their graphs and the outputs that are needed.
    """

    def __init__(
        self,
        fed: frozenset[Tensor],
        known: dict[tuple[FuncGraph, frozenset[int] | None], _Body],
    ) -> None:
        self.fed, self._known = fed, known
        self.reached: set[Tensor] = set()  # fed tensors
        self.needed: set[Operation] = set()
        self.calls: dict[Operation, _Call] = {}
        self._stack: list[Tensor | Operation] = []
        self._open: dict[Operation, None] = {}  # calls of which more is needed than was looked at
        # What takes the place of tensors and operations.
        self.tensors: dict[Tensor, Tensor] = {}
        self.ops: dict[Operation, Operation] = {}

    # ---- what is needed

    def reach(self, tensors: Iterable[Tensor], ops: Iterable[Operation]) -> None:
        """Finds what is needed for these."""
        self._stack += [*tensors, *ops]
        while self._stack or self._open:
            while self._stack:
                item = self._stack.pop()
                if isinstance(item, Tensor):
                    self._need_tensor(item)
                elif item._outputs and not item._inputs and set(item._outputs) <= self.fed:
                    self.reached.update(item._outputs)
                else:
                    self._need_all(item)
            for op in list(self._open):
                del self._open[op]
                self._look_into(op)

    def _need_tensor(self, tensor: Tensor) -> None:
        if tensor in self.fed:
            self.reached.add(tensor)
            return
        op = tensor._op
        if op._definition.demand_rule is None:
            self._need(op)
            return
        call = self._call(op)
        if tensor._index not in call.outputs:
            call.outputs.add(tensor._index)
            self._need(op)
            self._open[op] = None

    def _need_all(self, op: Operation) -> None:
        self._need(op)
        if op._definition.demand_rule is not None:
            call = self._call(op)
            call.outputs.update(range(len(op._outputs)))
            self._open[op] = None

    def _need(self, op: Operation) -> None:
        if op in self.needed:
            return
        self.needed.add(op)
        if op._definition.demand_rule is None:
            self._stack += op._control_inputs
            self._stack += op._inputs

    def _call(self, op: Operation) -> _Call:
        call = self.calls.get(op)
        if call is None:
            inside = {w for _, f in functions_of(op) for w in f.graph.outer_control_inputs}
            call = self.calls[op] = _Call([c for c in op._control_inputs if c not in inside])
        return call

    def _look_into(self, op: Operation) -> None:
        call = self.calls[op]
        functions = _functions_by_place(op)

        def needs(attr: str, number: int, outputs: frozenset[int] | None) -> set[int]:
            call.bodies[attr, number] = outputs
            return set(self._body(functions[attr, number].graph, outputs).inputs)

        inputs, outputs = op._definition.demand_rule(op, frozenset(call.outputs), needs)  # type: ignore[misc]
        call.outputs.update(outputs)
        call.inputs = frozenset(inputs)
        given = call_inputs(op)
        for place, outputs in call.bodies.items():
            graph = functions[place].graph
            inside = self._body(graph, outputs).part.needed
            call.waits += [
                outer
                for outer, marker in graph.outer_control_inputs.items()
                if marker in inside and outer in op._control_inputs and outer not in call.waits
            ]
        self._stack += call.waits
        self._stack += op._inputs[: len(op._inputs) - len(given)]
        self._stack += [given[i] for i in sorted(call.inputs)]

    def _body(self, graph: FuncGraph, outputs: frozenset[int] | None) -> _Body:
        key = graph, outputs
        found = self._known.get(key)
        if found is None:
            part = _Part(frozenset(graph.inputs), self._known)
            wanted = [t for i, t in enumerate(graph.outputs) if outputs is None or i in outputs]
            part.reach(wanted, graph.control_outputs)
            reached = frozenset(i for i, t in enumerate(graph.inputs) if t in part.reached)
            found = self._known[key] = _Body(reached, part)
        return found

    # ---- what takes its place

    def replace(self) -> bool:
        """Makes the replicas; whether there are any."""
        if self.ops:
            return True
        parts = [op for op, call in self.calls.items() if self._is_less(op, call)]
        if not parts:
            return False
        users: dict[Operation, list[Operation]] = {}
        for op in self.needed:
            for source in (*(t._op for t in op._inputs if t not in self.fed), *op._control_inputs):
                users.setdefault(source, []).append(op)
        for op in parts:
            self._make_replica(op, self.calls[op])
        queue = list(parts)
        while queue:
            for user in users.get(queue.pop(), ()):
                if user not in self.ops:
                    self._make_replica(user, None)
                    queue.append(user)
        for op, replica in self.ops.items():
            given = op._inputs
            if op in self.calls and isinstance(replica._attrs, _AttrsOfPart):
                given = self._inputs_of(op, self.calls[op])
            replica._inputs = tuple(self.tensors.get(t, t) for t in given)
            waits = self.calls[op].waits if op in self.calls else op._control_inputs
            replica._control_inputs = [self.ops.get(c, c) for c in waits]
        return True

    def _is_less(self, op: Operation, call: _Call) -> bool:
        """Whether less is needed of a call than all of it."""
        if len(call.outputs) < len(op._outputs) or len(call.inputs) < len(call_inputs(op)):
            return True
        if len(call.waits) < len(op._control_inputs):
            return True
        functions = _functions_by_place(op)
        return any(
            self._body(functions[place].graph, outputs).part.replace()
            for place, outputs in call.bodies.items()
        )

    def _make_replica(self, op: Operation, call: _Call | None) -> None:
        kept = op._outputs
        if call is not None:
            kept = [t for t in op._outputs if t._index in call.outputs]
        replica = self.ops[op] = Replica(op, kept)
        self.tensors.update(
            (old, new)
            for old, new in zip(kept, replica._outputs, strict=True)
            if old not in self.fed
        )
        if call is not None:
            replica._attrs = self._attrs_of(op, call)

    @staticmethod
    def _inputs_of(op: Operation, call: _Call) -> tuple[Tensor, ...]:
        given = call_inputs(op)
        return (
            *op._inputs[: len(op._inputs) - len(given)],
            *(given[i] for i in sorted(call.inputs)),
        )

    def _attrs_of(self, op: Operation, call: _Call) -> _AttrsOfPart:
        attrs = _AttrsOfPart(op._attrs)
        signature = op._definition.signature
        types_in = next(a.type_list_attr for a in reversed(signature.inputs) if a.type_list_attr)
        types_out = signature.outputs[0].type_list_attr
        inputs, outputs = sorted(call.inputs), sorted(call.outputs)
        attrs[str(types_in)] = [op._attrs[str(types_in)][i] for i in inputs]
        attrs[str(types_out)] = [op._attrs[str(types_out)][i] for i in outputs]
        if op._attrs.get("output_shapes"):
            attrs["output_shapes"] = [op._attrs["output_shapes"][i] for i in outputs]
        functions = _functions_by_place(op)
        for (attr, number), wanted in call.bodies.items():
            function = functions[attr, number]
            bound = self._function(function, wanted, inputs)
            if isinstance(attrs[attr], list):
                attrs[attr] = [bound if i == number else f for i, f in enumerate(attrs[attr])]
            else:
                attrs[attr] = bound
        return attrs

    def _function(
        self, function: GraphFunction, outputs: frozenset[int] | None, inputs: Sequence[int]
    ) -> BoundFunction:
        graph = function.graph
        part = self._body(graph, outputs).part
        part.replace()
        wanted = [t for i, t in enumerate(graph.outputs) if outputs is None or i in outputs]
        body = PartOfBody(
            graph,
            [graph.inputs[i] for i in inputs],
            [part.tensors.get(t, t) for t in wanted],
            [part.ops.get(op, op) for op in graph.control_outputs],
            [part.ops.get(op, op) for op in sorted(part.needed, key=lambda op: op._id)],
        )
        return BoundFunction(function.name, {}, GraphFunction(body))


class _AttrsOfPart(dict):
    """The attrs of a replica that calls parts of functions."""


def _functions_by_place(op: Operation) -> dict[tuple[str, int], GraphFunction]:
    found: dict[tuple[str, int], GraphFunction] = {}
    counts: dict[str, int] = {}
    for attr, function in functions_of(op):
        number = counts[attr] = counts.get(attr, -1) + 1
        found[attr, number] = function
    return found
