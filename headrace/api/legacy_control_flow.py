"""GraphDefs with branches and loops of the older kind: Switch, Merge, Enter, Exit, NextIteration.

TensorFlow 1 wrote `tf.cond` and `tf.while_loop` as such nodes among all others. Importing makes `If` and `While` of
them: a frame of Enter nodes is a loop, Merge nodes of one predicate are a branch. What lies inside goes to the bodies
of functions and is no longer found by name; results keep their names (the Exit and Merge nodes).
"""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tensorboard.compat.proto import graph_pb2, node_def_pb2

from headrace.api.control_flow import cond, while_loop
from headrace.api.legacy_tensor_arrays import without_tensor_arrays
from headrace.core import errors
from headrace.core.tensor_shape import TensorShape
from headrace.graph import import_graph_def as importing
from headrace.graph.tensor import Tensor

_OLD = frozenset("Switch Merge Enter Exit NextIteration LoopCond".split())
# Only the gradients of old loops need these; here a loop keeps its values itself.
_ONLY_IN_GRADIENTS = frozenset(
    "Stack StackPush StackPop StackClose StackV2 StackPushV2 StackPopV2 StackCloseV2 TensorArrayGradV3 "
    "TensorArrayGradWithShape".split()
)


def _kind(node: Any) -> str:
    """The op type; those of references count as the others."""
    return node.op.removeprefix("Ref")


def _source(name: str) -> tuple[str, int]:
    """The node and the output that an input names; -1 for a control input."""
    if name[0] == "^":
        return name[1:], -1
    node, colon, index = name.rpartition(":")
    return (node, int(index)) if colon and index.isdigit() else (name, 0)


def _name_of(scope: str, merge: Any, kind: str) -> str:
    """The scope of what takes the place of `merge`: beside it, where no node of the GraphDef is."""
    parent, slash, _ = merge.name.rpartition("/")
    return f"{scope}{parent}{slash}{kind}"


@dataclass
class _Loop:
    """One frame. A loop variable is (Enter, Merge, Switch or None, input of NextIteration, Exits)."""

    frame: str
    merges: list[Any] = field(default_factory=list)
    enters: dict[str, Any] = field(default_factory=dict)  # by the name of the Merge
    switches: dict[str, str] = field(default_factory=dict)  # Switch -> Merge
    next_values: dict[str, str] = field(
        default_factory=dict
    )  # Merge -> what its NextIteration takes
    exits: list[tuple[Any, str]] = field(default_factory=list)  # Exit, Merge
    constants: list[Any] = field(default_factory=list)  # Enters of what does not change
    condition: str = ""


@dataclass
class _Branch:
    """The Merge nodes of one `tf.cond`, and its predicate."""

    pred: str
    merges: list[Any] = field(default_factory=list)


def convert(original: Any) -> tuple[list[Any], dict[str, importing.Unit]] | None:
    """The nodes of a GraphDef without old control flow, and its loops and branches; None where there are none.

    Raises tf.errors.UnimplementedError: control flow that no `tf.cond` or `tf.while_loop` made.
    """
    graph_def = without_tensor_arrays(_without_gradients_of_loops(original))
    if any(_kind(node) in _OLD for node in graph_def.node):
        return _Converter(graph_def).run()
    return None if graph_def is original else (list(graph_def.node), {})


def _without_gradients_of_loops(graph_def: Any) -> Any:
    """The part of a GraphDef that does not depend on a gradient of an old loop; itself where there is none."""
    bad = [node for node in graph_def.node if node.op in _ONLY_IN_GRADIENTS]
    if not bad:
        return graph_def
    users: dict[str, list[Any]] = collections.defaultdict(list)
    for node in graph_def.node:
        for name in node.input:
            users[_source(name)[0]].append(node)
    nodes = {node.name: node for node in graph_def.node}
    dropped: set[str] = set()
    while bad:
        while bad:
            node = bad.pop()
            if node.name not in dropped:
                dropped.add(node.name)
                bad += users[node.name]
        # A loop whose condition is gone is none: what enters it goes too.
        gone = {
            enter.attr["frame_name"].s
            for enter in graph_def.node
            if _kind(enter) == "Enter"
            for merge in users[enter.name]
            for switch in users[merge.name]
            if _kind(merge) == "Merge" and _kind(switch) == "Switch"
            if _kind(nodes[_source(switch.input[1])[0]]) == "LoopCond"
            if _source(switch.input[1])[0] in dropped
        }
        bad = [
            n
            for n in graph_def.node
            if _kind(n) == "Enter" and n.attr["frame_name"].s in gone and n.name not in dropped
        ]
    ends = sorted(
        (name for name in dropped if not users[name]), key=lambda name: ("gradients/" in name, name)
    )
    warnings.warn(
        f"{len(dropped)} nodes of the GraphDef are left out: they depend on gradients of loops as TensorFlow 1 wrote "
        f"them. Among them {', '.join(ends[:5])}. Loops run as they did; tf.gradients makes their gradients anew.",
        stacklevel=2,
    )
    part = graph_pb2.GraphDef(library=graph_def.library, versions=graph_def.versions)
    part.node.extend(node for node in graph_def.node if node.name not in dropped)
    return part


class _Converter:
    def __init__(self, graph_def: Any) -> None:
        self.nodes = {node.name: node for node in graph_def.node}
        self.users: dict[str, list[Any]] = collections.defaultdict(list)
        for node in graph_def.node:
            for name in node.input:
                self.users[_source(name)[0]].append(node)
        self.regions: dict[str, list[str]] = {}  # Merge or Exit -> what enters its branch or loop

    def run(self) -> tuple[list[Any], dict[str, importing.Unit]]:
        loops = self._loops()
        inside = {
            loop.frame: self._closure(self._ends(loop), self._borders(loop)) for loop in loops
        }
        outer_loops = [
            loop
            for loop in loops
            if not any(
                e in inside[o.frame]
                for o in loops
                if o is not loop
                for e in self._enter_names(loop)
            )
        ]
        for loop in outer_loops:
            for exit_node, _ in loop.exits:
                self.regions[exit_node.name] = [
                    n.input[0] for n in (*loop.enters.values(), *loop.constants)
                ]
        loop_merges = {m.name for loop in loops for m in loop.merges}
        in_loops = {name for loop in outer_loops for name in inside[loop.frame]}
        merges = [
            n
            for n in self.nodes.values()
            if _kind(n) == "Merge" and n.name not in loop_merges and n.name not in in_loops
        ]
        branches = self._branches(merges)
        in_branches = set()
        for branch in branches:
            in_branches |= self._inside(branch)
        units: dict[str, importing.Unit] = {}
        kept: dict[str, Any] = {}
        for number, branch in enumerate(b for b in branches if b.merges[0].name not in in_branches):
            name = f"//branch{number}"
            units[name] = self._branch_unit(branch)
            for i, merge in enumerate(branch.merges):
                kept[merge.name] = self._result(merge, name, i)
        for number, loop in enumerate(outer_loops):
            if any(e in in_branches for e in self._enter_names(loop)):
                continue
            name = f"//loop{number}"
            units[name] = self._loop_unit(loop, inside[loop.frame])
            order = [m.name for m in loop.merges]
            for exit_node, merge in loop.exits:
                kept[exit_node.name] = self._result(exit_node, name, order.index(merge))
        return self._outside(kept), units

    def _outside(self, kept: dict[str, Any]) -> list[Any]:
        """The nodes that depend on no control flow but through its results."""
        dropped: set[str] = set()
        queue = [n for n in self.nodes.values() if _kind(n) in _OLD and n.name not in kept]
        while queue:
            node = queue.pop()
            if node.name not in dropped:
                dropped.add(node.name)
                queue += [user for user in self.users[node.name] if user.name not in kept]
        left = []
        for name, node in self.nodes.items():
            if name in dropped:
                continue
            node = kept.get(name, node)
            groups = node.attr["_class"].list.s if "_class" in node.attr else []
            if any(g.decode().removeprefix("loc:@") in dropped for g in groups):
                copy = node_def_pb2.NodeDef()
                copy.CopyFrom(node)
                del copy.attr["_class"]
                node = copy
            left.append(node)
        return left

    @staticmethod
    def _result(node: Any, unit: str, index: int) -> Any:
        made = node_def_pb2.NodeDef(name=node.name, op="Identity", device=node.device)
        made.input.append(f"{unit}:{index}")
        made.attr["T"].CopyFrom(node.attr["T"])
        return made

    # ---- loops

    def _loops(self) -> list[_Loop]:
        loops: dict[str, _Loop] = {}
        merge_loop: dict[str, _Loop] = {}
        for node in self.nodes.values():
            if _kind(node) == "Enter":
                frame = node.attr["frame_name"].s.decode()
                loop = loops.setdefault(frame, _Loop(frame))
                merge = next((u for u in self.users[node.name] if self._is_loop_merge(u)), None)
                if merge is None:
                    loop.constants.append(node)
                    continue
                loop.merges.append(merge)
                loop.enters[merge.name] = node
                merge_loop[merge.name] = loop
                for name in merge.input:
                    source = self.nodes[_source(name)[0]]
                    if _kind(source) == "NextIteration":
                        loop.next_values[merge.name] = source.input[0]
        for merge_name, loop in merge_loop.items():
            for switch in self.users[merge_name]:
                if _kind(switch) != "Switch" or _source(switch.input[0])[0] != merge_name:
                    continue
                test = self.nodes[_source(switch.input[1])[0]]
                if _kind(test) != "LoopCond":
                    continue
                loop.condition = test.input[0]
                loop.switches[switch.name] = merge_name
                loop.exits += [
                    (u, merge_name) for u in self.users[switch.name] if _kind(u) == "Exit"
                ]
        for loop in loops.values():
            if not loop.condition:
                raise errors.UnimplementedError(
                    None, None, f"frame {loop.frame!r} of the GraphDef is no loop of tf.while_loop"
                )
        return list(loops.values())

    def _is_loop_merge(self, node: Any) -> bool:
        return _kind(node) == "Merge" and any(
            _kind(self.nodes[_source(i)[0]]) == "NextIteration" for i in node.input if i[0] != "^"
        )

    @staticmethod
    def _enter_names(loop: _Loop) -> list[str]:
        return [n.name for n in (*loop.enters.values(), *loop.constants)]

    @staticmethod
    def _ends(loop: _Loop) -> list[str]:
        return [loop.condition, *loop.next_values.values()]

    @staticmethod
    def _borders(loop: _Loop) -> set[str]:
        return {*loop.enters, *loop.switches, *(n.name for n in loop.constants)}

    def _closure(self, ends: Iterable[str], borders: set[str]) -> set[str]:
        """The nodes that `ends` need, without `borders` and what lies behind these."""
        found: set[str] = set()
        queue = [_source(name)[0] for name in ends]
        while queue:
            name = queue.pop()
            if name in found or name in borders or name not in self.nodes:
                continue
            found.add(name)
            queue += [_source(i)[0] for i in self.nodes[name].input]
        return found

    def _loop_unit(self, loop: _Loop, inside: set[str]) -> importing.Unit:
        order = [m.name for m in loop.merges]
        starts = [loop.enters[name].input[0] for name in order]
        constants = [n.input[0] for n in loop.constants]

        def build(values: list[Tensor], scope: str) -> list[Tensor]:
            variables, fixed = values[: len(order)], values[len(order) :]

            def known(current: Iterable[Tensor]) -> dict[str, Tensor]:
                by_merge = dict(zip(order, current, strict=True))
                found = {f"{name}:0": t for name, t in by_merge.items()}
                found.update({f"{s}:1": by_merge[m] for s, m in loop.switches.items()})
                found.update({f"{n.name}:0": t for n, t in zip(loop.constants, fixed, strict=True)})
                return found

            def test(*current: Tensor) -> Tensor:
                return self._import(inside, [loop.condition], known(current))[0]

            def step(*current: Tensor) -> list[Tensor]:
                return self._import(
                    inside, [loop.next_values[name] for name in order], known(current)
                )

            name = _name_of(scope, loop.merges[0], "While")
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

        return importing.Unit([*starts, *constants], build)

    # ---- branches

    def _branches(self, merges: list[Any]) -> list[_Branch]:
        """Merge nodes by predicate and scope, inner ones first."""
        found: dict[tuple[str, str], _Branch] = {}
        waiting = {m.name: m for m in merges}
        while waiting:
            before = len(waiting)
            for name, merge in list(waiting.items()):
                preds = self._predicates(merge, waiting)
                if preds is None:
                    continue
                del waiting[name]
                if len(preds) != 1:
                    raise errors.UnimplementedError(
                        None,
                        None,
                        f"Merge node {name!r} of the GraphDef is no end of a tf.cond ({sorted(preds)})",
                    )
                (pred,) = preds
                key = (pred, name.rpartition("/")[0])
                found.setdefault(key, _Branch(pred)).merges.append(merge)
                switches = self._switches(merge, pred)
                self.regions[name] = [pred, *(s.input[0] for s in switches)]
            if len(waiting) == before:
                raise errors.UnimplementedError(
                    None, None, f"Merge nodes {sorted(waiting)} of the GraphDef wait for each other"
                )
        return list(found.values())

    def _predicates(self, merge: Any, waiting: dict[str, Any]) -> set[str] | None:
        """The predicates of the Switch nodes where the sides of `merge` begin; None: an inner Merge comes first."""
        preds: set[str] = set()
        seen: set[str] = set()
        queue = list(merge.input)
        while queue:
            name = _source(queue.pop())[0]
            if name in seen or name not in self.nodes:
                continue
            seen.add(name)
            node = self.nodes[name]
            if name in waiting:
                return None
            if name in self.regions:
                queue += self.regions[name]
            elif _kind(node) == "Switch":
                preds.add(self._predicate_of(node))
            else:
                queue += node.input
        return preds

    def _predicate_of(self, switch: Any) -> str:
        """The predicate of a Switch; that of `tf.cond`'s first one is taken before an Identity of it."""
        name = switch.input[1]
        while True:
            node = self.nodes.get(_source(name)[0])
            if node is None or _kind(node) != "Identity":
                return name
            name = node.input[0]

    def _switches_on(self, pred: str) -> set[str]:
        switches = (n for n in self.nodes.values() if _kind(n) == "Switch")
        return {n.name for n in switches if self._predicate_of(n) == pred}

    def _switches(self, merge: Any, pred: str) -> list[Any]:
        borders = self._switches_on(pred)
        inside = self._closure(merge.input, borders)
        used = {_source(i)[0] for name in (*inside, merge.name) for i in self.nodes[name].input}
        return [self.nodes[name] for name in sorted(used & borders)]

    def _inside(self, branch: _Branch) -> set[str]:
        borders = self._switches_on(branch.pred)
        ends = [i for merge in branch.merges for i in merge.input]
        return {*self._closure(ends, borders), *borders}

    def _branch_unit(self, branch: _Branch) -> importing.Unit:
        inside = self._inside(branch)
        names = dict.fromkeys(s.name for m in branch.merges for s in self._switches(m, branch.pred))
        switches = [self.nodes[name] for name in names]
        inside -= self._switches_on(branch.pred)

        def build(values: list[Tensor], scope: str) -> list[Tensor]:
            pred, datas = values[0], values[1:]

            def side(index: int) -> Any:
                known = {f"{s.name}:{index}": t for s, t in zip(switches, datas, strict=True)}
                ends = [self._input_of_side(m, index, names) for m in branch.merges]
                return lambda: self._import(inside, ends, known)

            name = _name_of(scope, branch.merges[0], "If")
            return list(cond(pred, side(1), side(0), strict=True, name=name))

        return importing.Unit([branch.pred, *(s.input[0] for s in switches)], build)

    def _input_of_side(self, merge: Any, index: int, switches: Iterable[str]) -> str:
        """Which input of `merge` lives where the predicate is `index`: the one that needs that output of a Switch."""
        borders = set(switches)
        sides: dict[int, str] = {}
        for name in merge.input:
            inside = self._closure([name], borders)
            used = [_source(i) for n in inside for i in self.nodes[n].input]
            used.append(_source(name))
            for source, output in used:
                if source in borders and output >= 0:
                    sides[output] = name
        if index not in sides:
            # One side needs nothing of the Switch nodes: it is the other input.
            rest = [name for name in merge.input if name not in sides.values()]
            if len(rest) != 1:
                raise errors.UnimplementedError(
                    None, None, f"Merge node {merge.name!r} of the GraphDef has no side {index}"
                )
            return rest[0]
        return sides[index]

    # ---- bodies

    def _import(self, inside: set[str], ends: list[str], known: dict[str, Tensor]) -> list[Tensor]:
        """Adds what `ends` need of the nodes `inside` to the graph under construction."""

        def full(name: str) -> str:
            node, index = _source(name)
            return f"{node}:{index}"

        borders = set(self.nodes).difference(inside)
        needed = self._closure([e for e in ends if full(e) not in known], borders)
        part = graph_pb2.GraphDef()
        used = set()
        for name, node in self.nodes.items():
            if name not in needed:
                continue
            copy = part.node.add()
            copy.CopyFrom(node)
            copy.attr.pop("_class", None)
            del copy.input[:]
            for i in node.input:
                source, index = _source(i)
                if index >= 0:
                    copy.input.append(i)
                    used.add(full(i))
                elif source in needed:
                    copy.input.append(i)
        wanted = [e for e in dict.fromkeys(map(full, ends)) if e not in known]
        made = importing.import_graph_def(
            part, {k: v for k, v in known.items() if k in used}, wanted, name=""
        )
        values = {**known, **dict(zip(wanted, made or (), strict=True))}
        return [values[full(e)] for e in ends]


importing.convert_control_flow = convert
