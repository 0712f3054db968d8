"""GraphDefs with branches and loops of the older kind: Switch, Merge, Enter, Exit, NextIteration.

TensorFlow 1 wrote `tf.cond` and `tf.while_loop` as such nodes among all others, and their gradients too. Importing makes
`If` and `While` of them: a frame of Enter nodes is a loop, Merge nodes of one predicate are a branch. What lies inside
goes to the bodies of functions and is no longer found by name; results keep their names (the Exit and Merge nodes).

`legacy_graph.py` finds out where each node runs; `legacy_tensor_arrays.py` and `legacy_stacks.py` make values of what
old loops keep in resources; `legacy_branches.py` decides which Merge nodes are one conditional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tensorboard.compat.proto import node_def_pb2

from headrace.api.cond import cond
from headrace.api.legacy_branches import Branch, branches_at, draw_once, needs
from headrace.api.legacy_graph import (
    CONTROL_FLOW,
    InBranch,
    LegacyGraph,
    Loop,
    Place,
    kind_of,
    source_of,
)
from headrace.api.legacy_stacks import STACK_OPS, stacks_as_lists, without_order
from headrace.api.legacy_tensor_arrays import arrays_as_lists
from headrace.api.while_loop import while_loop
from headrace.core import errors
from headrace.core.tensor_shape import TensorShape
from headrace.graph import import_graph_def as importing
from headrace.graph.tensor import Tensor

Known = dict[str, Tensor]
"""Tensors of the graph under construction, and of those around it, by their names in the GraphDef."""


def convert(graph_def: Any) -> tuple[list[Any], dict[str, importing.Unit]] | None:
    """The nodes of a GraphDef without old control flow, and its loops and branches; None where it stays as it is.

    That is where there is none, and where Switch and Merge nodes are no `tf.cond`: they then run one by one.
    Raises tf.errors.UnimplementedError: loops that neither `tf.while_loop` nor its gradient made.
    """
    old = [node for node in graph_def.node if _is_old(node)]
    if not old:
        return None
    try:
        return _converted(graph_def)
    except errors.UnimplementedError:
        if all(kind_of(node) in ("Switch", "Merge") for node in old):
            return None
        raise


def _converted(graph_def: Any) -> tuple[list[Any], dict[str, importing.Unit]]:
    nodes = []
    for node in graph_def.node:
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(node)
        nodes.append(copy)
    graph = LegacyGraph(nodes)
    without_order(graph.nodes)
    graph.analyse()
    if arrays_as_lists(graph):
        graph.analyse()
    stacks_as_lists(graph)
    graph.analyse()
    if draw_once(graph):
        graph.analyse()
    return _Converter(graph).region((), None)


def _is_old(node: Any) -> bool:
    return kind_of(node) in CONTROL_FLOW or node.op in STACK_OPS or node.op == "TensorArrayV3"


def _scope_of(scope: str, name: str, kind: str) -> str:
    """The scope of what takes the place of the Merge node `name`: beside it, where no node of the GraphDef is."""
    parent, slash, _ = name.rpartition("/")
    return f"{scope}{parent}{slash}{kind}"


def _inputs_of(part: Any) -> Sequence[str]:
    return part.inputs if isinstance(part, importing.Unit) else part.input


class _Converter:
    def __init__(self, graph: LegacyGraph) -> None:
        self.graph = graph
        self._at: dict[Place, list[Any]] = {}
        for name, node in graph.nodes.items():
            place = graph.place[name]
            # Which input a Merge took only Switch nodes ask, and these are no more.
            if place is not None and name not in graph.asked_of_merges:
                self._at.setdefault(place, []).append(node)

    def region(
        self, place: Place, needed: set[str] | None
    ) -> tuple[list[Any], dict[str, importing.Unit]]:
        """The nodes that run at `place`, without those in deeper places, and the loops and branches there.

        needed: the nodes that matter; all where None.
        """
        graph = self.graph
        here = [n for n in self._at.get(place, ()) if needed is None or n.name in needed]
        for name in sorted(graph.static & (needed or set())):
            if not self._is_in(name, place):
                here.append(graph.nodes[name])
        results: dict[str, str] = {}
        units: dict[str, importing.Unit] = {}
        loops = {loop.frame: loop for n in here if (loop := self._loop_left_by(n)) is not None}
        for number, loop in enumerate(loops.values()):
            unit = f"//loop{number}"
            units[unit] = self._loop_unit(loop)
            merges = list(loop.enters)
            results.update((e, f"{unit}:{merges.index(m)}") for e, m in loop.exits.items())
        merges = [n for n in here if kind_of(n) == "Merge" and n.name not in graph.loop_of_merge]
        for number, branch in enumerate(branches_at(graph, place, merges)):
            unit = f"//branch{number}"
            units[unit] = self._branch_unit(branch, place)
            results.update((m.name, f"{unit}:{i}") for i, m in enumerate(branch.merges))
        local = {n.name for n in here if kind_of(n) not in CONTROL_FLOW} | results.keys()
        protos = [
            self._result(n, results[n.name]) if n.name in results else self._local(n, local, place)
            for n in here
            if n.name in local
        ]
        return protos, units

    def _is_in(self, name: str, place: Place) -> bool:
        """Whether a node runs at `place` or deeper."""
        where = self.graph.place[name]
        return where is not None and where[: len(place)] == place

    def _loop_left_by(self, node: Any) -> Loop | None:
        return self.graph.loop_of_exit(node.name) if kind_of(node) == "Exit" else None

    @staticmethod
    def _result(node: Any, source: str) -> Any:
        """The node that bears the name of an Exit or Merge."""
        made = node_def_pb2.NodeDef(name=node.name, op="Identity", device=node.device)
        made.input.append(source)
        made.attr["T"].CopyFrom(node.attr["T"])
        return made

    def _local(self, node: Any, local: set[str], place: Place) -> Any:
        """A node with its inputs as they are called at `place`, which waits for nothing of other places."""
        made = node_def_pb2.NodeDef()
        made.CopyFrom(node)
        del made.input[:]
        for name in node.input:
            if name[0] != "^":
                made.input.append(self.graph.resolved(name))
            elif name[1:] in local or name[1:] not in self.graph.nodes:
                made.input.append(name)
        groups = node.attr["_class"].list.s if "_class" in node.attr else ()
        if groups and (place or any(g.decode().removeprefix("loc:@") not in local for g in groups)):
            del made.attr["_class"]
        return made

    # ---- loops

    def _loop_unit(self, loop: Loop) -> importing.Unit:
        graph = self.graph
        order = list(loop.enters)
        starts = [graph.resolved(loop.enters[name].input[0]) for name in order]
        condition = graph.resolved(loop.condition)
        ends = [graph.resolved(loop.next_values[name]) for name in order]
        outside = needs(graph, [condition, *ends], loop.inner)[1]
        outside = [name for name in outside if source_of(name)[0] not in loop.enters]

        def build(values: list[Tensor], scope: str) -> list[Tensor]:
            fixed = dict(zip(outside, values[len(order) :], strict=True))
            variables = values[: len(order)]

            def with_variables(current: Iterable[Tensor]) -> Known:
                return {**fixed, **{f"{m}:0": t for m, t in zip(order, current, strict=True)}}

            def test(*current: Tensor) -> Tensor:
                return self._import([condition], loop.inner, with_variables(current))[0]

            def step(*current: Tensor) -> list[Tensor]:
                return self._import(ends, loop.inner, with_variables(current))

            name = _scope_of(scope, order[0], "While")
            try:
                return list(
                    while_loop(test, step, variables, name=name, return_same_structure=True)
                )
            except ValueError as error:
                if "enters the loop with shape" not in str(error):
                    raise
            # The GraphDef does not say which invariants the program gave.
            invariants = [TensorShape(None)] * len(order)
            return list(
                while_loop(test, step, variables, invariants, name=name, return_same_structure=True)
            )

        return importing.Unit([*starts, *outside], build)

    # ---- branches

    def _branch_unit(self, branch: Branch, place: Place) -> importing.Unit:
        graph = self.graph
        ends = [
            [graph.resolved(graph.sides(m)[1 + side]) for m in branch.merges] for side in (0, 1)
        ]
        inner = [(*place, InBranch(branch.pred, side)) for side in (0, 1)]
        outside = [needs(graph, ends[side], inner[side])[1] for side in (0, 1)]
        names = list(dict.fromkeys([*outside[0], *outside[1]]))
        pred = graph.resolved(branch.pred_input)

        def build(values: list[Tensor], scope: str) -> list[Tensor]:
            known = dict(zip(names, values[1:], strict=True))

            def side(number: int) -> Callable[[], list[Tensor]]:
                return lambda: self._import(ends[number], inner[number], known)

            name = _scope_of(scope, branch.merges[0].name, "If")
            return list(cond(values[0], side(1), side(0), strict=True, name=name))

        return importing.Unit([pred, *names], build)

    # ---- bodies

    def _import(self, ends: Sequence[str], place: Place, known: Known) -> list[Tensor]:
        """Adds what `ends` need of the nodes at `place` to the body under construction."""
        protos, units = self.region(place, needs(self.graph, ends, place)[0])
        wanted = [e for e in dict.fromkeys(ends) if e not in known]
        taken = {i for part in (*protos, *units.values()) for i in _inputs_of(part)}
        used = {name: tensor for name, tensor in known.items() if name in taken}
        values = {**known, **importing.import_nodes(protos, units, used, wanted)}
        return [values[e] for e in ends]


importing.convert_control_flow = convert
