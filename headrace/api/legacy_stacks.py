"""Stacks of old gradient loops as lists that pass from iteration to iteration.

A loop of TensorFlow 1 whose gradient is asked for pushes values on stacks (resources), and its gradient, another loop,
pops them. Here each stack is a list of tensors: a further variable of both loops. A stack that is pushed in a loop
inside another one becomes a list with a list for each iteration of the outer loop. On one side of a conditional
the list is pushed or popped, on the other it passes by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.api.legacy_graph import InLoop, LegacyGraph, Place, joined, kind_of, source_of
from headrace.core import dtypes, errors
from headrace.core.tensor_proto import make_tensor_proto
from headrace.graph.op_def import REGISTRY

_STACKS = frozenset(("Stack", "StackV2"))
_PUSHES = frozenset(("StackPush", "StackPushV2"))
_POPS = frozenset(("StackPop", "StackPopV2"))
STACK_OPS = _STACKS | _PUSHES | _POPS | {"StackClose", "StackCloseV2"}
_VARIANT = dtypes.variant.as_datatype_enum
_INT32 = dtypes.int32.as_datatype_enum
# What is left of these without users is nothing.
_PASS_ON = frozenset("Enter Identity Switch".split())


@dataclass(frozen=True, slots=True)
class _Way:
    """From where a stack is made (`home`) into the loops that push on it, and those that pop from it."""

    stack: Any
    home: Place
    there: Place
    back: Place


@dataclass(slots=True)
class Stack:
    """A stack, and the nodes that push on it and pop from it."""

    node: Any
    pushes: list[Any] = field(default_factory=list)
    pops: list[Any] = field(default_factory=list)


def find_stacks(nodes: dict[str, Any]) -> list[Stack]:
    """The stacks of a graph. Raises UnimplementedError: a handle that comes from elsewhere."""
    stacks = {name: Stack(node) for name, node in nodes.items() if node.op in _STACKS}
    for node in nodes.values():
        if node.op not in _PUSHES and node.op not in _POPS:
            continue
        source = nodes.get(source_of(node.input[0])[0])
        while source is not None and kind_of(source) in _PASS_ON:
            source = nodes.get(source_of(source.input[0])[0])
        if source is None or source.name not in stacks:
            raise _refused(node, "its handle comes from no stack")
        stack = stacks[source.name]
        (stack.pushes if node.op in _PUSHES else stack.pops).append(node)
    return list(stacks.values())


def pushed_values(stacks: list[Stack]) -> dict[str, str]:
    """Pop -> what was pushed."""
    return {pop.name: s.pushes[0].input[1] for s in stacks for pop in s.pops if s.pushes}


def _refused(node: Any, why: str) -> errors.UnimplementedError:
    return errors.UnimplementedError(
        None,
        None,
        f"{node.op} node {node.name!r} of the GraphDef is none of a loop's gradient: {why}",
    )


def without_order(nodes: dict[str, Any]) -> None:
    """Drops the ControlTrigger nodes, and waiting for stacks: what orders pushes and pops are the lists themselves."""
    dropped = {n.name for n in nodes.values() if n.op == "ControlTrigger"}
    silent = dropped | {n.name for n in nodes.values() if n.op in STACK_OPS}
    for name in dropped:
        del nodes[name]
    for node in nodes.values():
        if any(i[0] == "^" and i[1:] in silent for i in node.input):
            kept = [i for i in node.input if i[0] != "^" or i[1:] not in silent]
            del node.input[:]
            node.input.extend(kept)
        if node.op in STACK_OPS:
            data = [i for i in node.input if i[0] != "^"]
            del node.input[:]
            node.input.extend(data)


def stacks_as_lists(graph: LegacyGraph) -> None:
    """Exchanges the stacks of a graph that is analysed for lists."""
    _drop_unused(graph)
    stacks = find_stacks(graph.nodes)
    if not stacks:
        return
    rewriter = _Rewriter(graph)
    for stack in stacks:
        rewriter.rewrite(stack)
    for name in [n.name for n in graph.nodes.values() if n.op in STACK_OPS]:
        del graph.nodes[name]
    for node in graph.nodes.values():
        for i, name in enumerate(node.input):
            node.input[i] = rewriter.instead.get(joined(source_of(name)), name)
    _drop_unused(graph)


def _drop_unused(graph: LegacyGraph) -> None:
    """Drops what is popped, or enters a loop, for nobody."""
    counts: dict[str, int] = dict.fromkeys(graph.nodes, 0)
    for node in graph.nodes.values():
        for name in node.input:
            source = source_of(name)[0]
            if source in counts:
                counts[source] += 1
    queue = [n for n in graph.nodes.values() if not counts[n.name]]
    while queue:
        node = queue.pop()
        place = graph.place.get(node.name)
        inside = kind_of(node) == "Enter" or (place and any(isinstance(s, InLoop) for s in place))
        if not inside or not (kind_of(node) in _PASS_ON or node.op in _POPS):
            continue
        del graph.nodes[node.name]
        for name in node.input:
            source = source_of(name)[0]
            if source in graph.nodes:
                counts[source] -= 1
                if not counts[source]:
                    queue.append(graph.nodes[source])


class _Rewriter:
    def __init__(self, graph: LegacyGraph) -> None:
        self.graph = graph
        self.instead: dict[str, str] = {}  # result of a push or pop -> what has its value now
        self.kept: dict[Any, str] = {}

    def rewrite(self, stack: Stack) -> None:
        """Puts a list in the place of `stack`."""
        graph = self.graph
        if not stack.pops or not stack.pushes:
            return
        if len(stack.pushes) > 1 or len(stack.pops) > 1:
            raise _refused(stack.node, f"{len(stack.pushes)} nodes push, {len(stack.pops)} pop")
        (push,), (pop,) = stack.pushes, stack.pops
        home, there, back = (graph.place[n.name] for n in (stack.node, push, pop))
        if home is None or there is None or back is None:
            return
        if there[: len(home)] != home or back[: len(home)] != home:
            raise _refused(stack.node, "it is made inside of where it is used")
        there, back = there[len(home) :], back[len(home) :]
        if _count_loops(there) != _count_loops(back):
            raise _refused(stack.node, "it is popped in more or fewer loops than it is pushed")
        way = _Way(stack.node, home, there, back)
        value = graph.resolved(push.input[1])
        again = self._computed_again(value, way, pop.name)
        self.instead[f"{pop.name}:0"] = again or self._kept(
            value, stack.node.attr["elem_type"].type, way, pop.name
        )
        self.instead[f"{push.name}:0"] = push.input[1]

    def _computed_again(self, value: str, way: _Way, name: str) -> str | None:
        """A copy, in the backward loop, of a value that follows from shapes and constants; None where it does not.

        What comes out of a list is no longer known while a program is traced, and sizes must be.
        """
        if source_of(value)[0] not in self.graph.static:
            return None
        graph = self.graph
        copies: dict[str, str] = {}
        for node in self._steps(value):
            inputs = []
            for text in node.input:
                if text[0] == "^":
                    continue
                source, index = source_of(graph.resolved(text))
                if source in copies:
                    inputs.append(joined((copies[source], index)))
                else:
                    kind = node.attr["T"].type
                    inputs.append(self._kept(joined((source, index)), kind, way, name))
            copy = graph.add(f"{name}/again", node.op, inputs)
            for key, attr in node.attr.items():
                graph.nodes[copy].attr[key].CopyFrom(attr)
            copies[node.name] = copy
        source, index = source_of(value)
        return joined((copies[source], index))

    def _steps(self, value: str) -> list[Any]:
        """The nodes, in order, that compute a static value from shapes and constants."""
        found: dict[str, Any] = {}
        stack = [(source_of(value)[0], False)]
        while stack:
            name, leaving = stack.pop()
            node = self.graph.nodes[name]
            if leaving:
                found[name] = node
            elif name not in found:
                stack.append((name, True))
                if REGISTRY[node.op].static_rule is None:
                    data = [self.graph.resolved(i) for i in node.input if i[0] != "^"]
                    stack += [(source_of(text)[0], False) for text in data]
        return list(found.values())

    def _kept(self, value: str, kind: int, way: _Way, name: str) -> str:
        """The value, in the backward loop, that the tensor `value` of the forward loop had in that iteration."""
        graph = self.graph
        there = graph.place[source_of(value)[0]]
        if there is not None and way.home[: len(there)] == there:
            return value  # it does not change
        key = value, way.home, way.there, way.back
        if key in self.kept:
            return self.kept[key]
        popped: list[str] = []

        def push(lst: str) -> str:
            return graph.add(f"{name}/push", "TensorListPushBack", [lst, value], element_dtype=kind)

        def pop(lst: str) -> str:
            popped.append(self._pop_back(f"{name}/pop", lst, kind))
            return popped[0]

        loops = _count_loops(way.there)
        empty = self._empty_list(f"{name}/list", way.stack, _VARIANT if loops > 1 else kind)
        forward = f"{name}/forward"
        full = self._thread(forward, empty, way.home, way.there, push, loops, True, kind)
        self._thread(name, full, way.home, way.back, pop, loops, False, kind)
        self.kept[key] = f"{popped[0]}:1"
        return self.kept[key]

    def _thread(
        self,
        name: str,
        value: str,
        here: Place,
        way: Place,
        last: Any,
        loops: int,
        pushes: bool,
        kind: int,
    ) -> str:
        """Takes the list `value` along `way`, applies `last` to it there, and comes back with the list.

        loops: how many loops were on the whole way: the first of them carries the list, the others one of its elements.
        kind: the type of the values in the innermost list.
        """
        if not way:
            return last(value)
        graph, (step, rest) = self.graph, (way[0], way[1:])
        inside = (*here, step)
        if not isinstance(step, InLoop):
            pred = graph.predicates[inside]
            switch = graph.add(f"{name}/side", "Switch", [value, pred], T=_VARIANT)
            new = self._thread(
                name, f"{switch}:{step.side}", inside, rest, last, loops, pushes, kind
            )
            sides = [new, f"{switch}:{1 - step.side}"]
            if step.side:
                sides.reverse()
            return graph.add(f"{name}/meet", "Merge", sides, T=_VARIANT, N=2)
        loop = graph.loops[step.frame]
        if _count_loops(way) == loops:
            return self._through(name, loop, value, inside, rest, last, loops, pushes, kind)
        if pushes:
            start = self._empty_list(
                f"{name}/inner", None, _VARIANT if _count_loops(rest) else kind
            )
            inner = self._through(name, loop, start, inside, rest, last, loops, pushes, kind)
            return graph.add(
                f"{name}/outer", "TensorListPushBack", [value, inner], element_dtype=_VARIANT
            )
        popped = self._pop_back(f"{name}/outer", value, _VARIANT)
        self._through(name, loop, f"{popped}:1", inside, rest, last, loops, pushes, kind)
        return popped

    def _through(
        self,
        name: str,
        loop: Any,
        value: str,
        inside: Place,
        rest: Place,
        last: Any,
        loops: int,
        pushes: bool,
        kind: int,
    ) -> str:
        """Makes `value` a variable of `loop`; returns what comes out."""
        graph = self.graph
        frame = loop.frame.encode()
        enter = graph.add(f"{name}/enter", "Enter", [value], T=_VARIANT, frame_name=frame)
        back = f"{name}/next"
        merge = graph.add(f"{name}/merge", "Merge", [enter, enter], T=_VARIANT, N=2)
        switch = graph.add(f"{name}/switch", "Switch", [merge, loop.loop_cond], T=_VARIANT)
        new = self._thread(name, f"{switch}:1", inside, rest, last, loops, pushes, kind)
        back = graph.add(back, "NextIteration", [new], T=_VARIANT)
        graph.nodes[merge].input[1] = back
        return graph.add(f"{name}/exit", "Exit", [switch], T=_VARIANT)

    def _empty_list(self, name: str, stack: Any, kind: int) -> str:
        graph = self.graph
        anything = self._int32(f"{name}/element_shape", -1)
        most = self._int32(f"{name}/most", -1) if stack is None else stack.input[0]
        made = graph.add(name, "EmptyTensorList", [anything, most], element_dtype=kind or _VARIANT)
        graph.nodes[made].attr["shape_type"].type = _INT32
        return made

    def _pop_back(self, name: str, value: str, kind: int) -> str:
        shape = self._int32(f"{name}/element_shape", -1)
        return self.graph.add(name, "TensorListPopBack", [value, shape], element_dtype=kind)

    def _int32(self, name: str, value: int) -> str:
        made = self.graph.add(name, "Const", [], dtype=_INT32)
        self.graph.nodes[made].attr["value"].tensor.CopyFrom(make_tensor_proto(value, dtypes.int32))
        return made


def _count_loops(way: Place) -> int:
    return sum(isinstance(step, InLoop) for step in way)
