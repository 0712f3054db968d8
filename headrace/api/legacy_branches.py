"""Which Merge nodes of an old GraphDef are one conditional.

`tf.cond` writes a Merge node for each result, and its gradient one for each tensor that the branches use. Those that
share what runs on a side become one `If`, so that nothing runs twice, unless one of them needs another's result.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.api.legacy_graph import (
    InBranch,
    InLoop,
    LegacyGraph,
    Loop,
    Place,
    joined,
    kind_of,
    source_of,
)
from headrace.core import dtypes
from headrace.graph import attr_value, raw
from headrace.graph.op_def import REGISTRY, Effect


@dataclass(slots=True)
class Branch:
    """Merge nodes of one conditional; its predicate: where that comes from, and an input that is it."""

    pred: str
    pred_input: str
    merges: list[Any] = field(default_factory=list)


def needs(graph: LegacyGraph, ends: Sequence[str], place: Place) -> tuple[set[str], list[str]]:
    """(the nodes at `place` and deeper that the tensors `ends` need, the tensors from outside that these need).

    Static ones count as being there wherever they are. What depends on a variable of the loop at `place` has it from
    outside, as a result of its Merge node.
    """
    inside: set[str] = set()
    outside: dict[str, None] = {}
    loop = graph.loops[place[-1].frame] if place and isinstance(place[-1], InLoop) else None
    variables = set(loop.enters) if loop is not None else set()
    queue = list(reversed(ends))
    while queue:
        text = queue.pop()
        name, index = source_of(text)
        if name in inside:
            continue
        where = graph.place.get(name)
        is_here = where is not None and where[: len(place)] == place
        if name in variables or not (is_here or name in graph.static):
            if index >= 0:
                outside[text] = None
            continue
        inside.add(name)
        queue += reversed(_direct_needs(graph, name))
    return inside, list(outside)


def _direct_needs(graph: LegacyGraph, name: str) -> list[str]:
    """What a node takes, control inputs included; of what a loop or a branch gives, all that these need."""
    node = graph.nodes[name]
    kind = kind_of(node)
    loop = graph.loop_of_merge.get(name)
    if kind == "Exit":
        loop = graph.loop_of_exit(name)
    if loop is not None:
        found = [e.input[0] for e in loop.enters.values()]
        found += [loop.condition, *loop.next_values.values()]
    elif kind == "Merge":
        pred = graph.sides(node)[0]
        inner = (*(graph.place[name] or ()), InBranch(pred, 0))
        other = (*inner[:-1], InBranch(pred, 1))
        found = [graph.predicates.get(inner) or graph.predicates[other], *node.input]
    else:
        found = list(node.input)
    return [i if i[0] == "^" else graph.resolved(i) for i in found]


def draw_once(graph: LegacyGraph) -> bool:
    """Gives what several conditionals of one predicate need, and must run once, one of its own; whether there was any.

    The gradient of dropout on one side needs the numbers that were drawn there, not others; what waits for a variable
    to be written is no reason to write it again.
    """
    once = _runs_once(graph)
    if not once:
        return False
    merges: dict[Place, list[Any]] = collections.defaultdict(list)
    for name, node in graph.nodes.items():
        place = graph.place[name]
        if kind_of(node) == "Merge" and place is not None and name not in graph.loop_of_merge:
            merges[place].append(node)
    shared: dict[str, InBranch] = {}
    for place, ends in merges.items():
        users: dict[str, set[int]] = collections.defaultdict(set)
        for number, branch in enumerate(branches_at(graph, place, ends)):
            for side in (0, 1):
                step = InBranch(branch.pred, side)
                values = [graph.resolved(graph.sides(m)[1 + side]) for m in branch.merges]
                for name in needs(graph, values, (*place, step))[0]:
                    if graph.place[name] == (*place, step) and name in once:
                        users[name].add(number)
                        if len(users[name]) > 1:
                            shared[name] = step
    for name, step in shared.items():
        _add_branch_for(graph, name, step)
    return bool(shared)


def _runs_once(graph: LegacyGraph) -> set[str]:
    """The nodes with results that differ from run to run, and those that write, or wait for what writes."""
    found: set[str] = set()
    writers: set[str] = set()
    for node in graph.order:
        definition = None if isinstance(node, Loop) else REGISTRY.get(node.op)
        if definition is None or not graph.place[node.name]:
            continue
        effects, has_results = definition.effects, bool(definition.signature.outputs)
        draws = effects & Effect.RANDOM or (effects & Effect.STATEFUL and definition.host_only)
        waits = any(i[0] == "^" and i[1:] in writers for i in node.input)
        if definition.writes or (waits and not has_results):
            writers.add(node.name)
        if has_results and (draws or waits or definition.writes):
            found.add(node.name)
    return found


def _add_branch_for(graph: LegacyGraph, name: str, step: InBranch) -> None:
    """Makes the users of a node take what comes out of a conditional that holds nothing else."""
    node, place = graph.nodes[name], graph.place[name] or ()
    pred = graph.predicates[place]
    definition = REGISTRY[node.op]
    attrs = {key: attr_value.from_proto(value) for key, value in node.attr.items()}
    both = graph.add(f"{name}/sides", "Switch", [pred, pred], T=dtypes.bool.as_datatype_enum)
    other = f"{both}:{1 - step.side}"
    pivot = graph.add(f"{name}/pivot", "Identity", [other], T=dtypes.bool.as_datatype_enum)
    instead: dict[str, str] = {}
    for index, kind in enumerate(raw.output_types(definition.signature, attrs)):
        number = kind.as_datatype_enum
        nothing = graph.add(f"{name}/nothing", "FakeParam", [f"^{pivot}"], dtype=number)
        graph.nodes[nothing].attr["shape"].shape.unknown_rank = True
        ends = [f"{name}:{index}", nothing]
        if step.side:
            ends.reverse()
        merge = graph.add(f"{name}/meet", "Merge", ends, T=number, N=2)
        switch = graph.add(f"{name}/drawn", "Switch", [merge, pred], T=number)
        instead[f"{name}:{index}"] = f"{switch}:{step.side}"
    for user in graph.users[name]:
        for i, text in enumerate(user.input):
            user.input[i] = instead.get(joined(source_of(text)), text)


def branches_at(graph: LegacyGraph, place: Place, merges: Sequence[Any]) -> list[Branch]:
    """The conditionals that `merges`, which run at `place`, are the ends of."""
    if not merges:
        return []
    return _Grouping(graph, place, merges).run()


class _Grouping:
    def __init__(self, graph: LegacyGraph, place: Place, merges: Sequence[Any]) -> None:
        self.graph, self.place = graph, place
        self.merges = {m.name: m for m in merges}
        self.branch: dict[str, Branch] = {}
        self.inside: dict[str, set[str]] = {}
        self.outside: dict[str, list[str]] = {}
        self.needs_of_loops: dict[str, list[str]] = {}
        for merge in merges:
            pred, *sides = graph.sides(merge)
            inner = [(*place, InBranch(pred, side)) for side in (0, 1)]
            found = graph.predicates.get(inner[0]) or graph.predicates[inner[1]]
            self.branch[merge.name] = Branch(pred, found)
            parts = [needs(graph, [graph.resolved(e)], at) for e, at in zip(sides, inner)]
            self.inside[merge.name] = parts[0][0] | parts[1][0]
            self.outside[merge.name] = [graph.resolved(found), *parts[0][1], *parts[1][1]]

    def run(self) -> list[Branch]:
        groups = self._connected()
        tangled = self._in_cycles(groups)
        if tangled:
            stages = self._stages()
            groups = [g for g in groups if g not in tangled]
            for group in tangled:
                by_stage: dict[int, list[str]] = collections.defaultdict(list)
                for name in group:
                    by_stage[stages[name]].append(name)
                groups += by_stage.values()
        number = {name: i for i, name in enumerate(self.merges)}
        found = []
        for group in sorted(groups, key=lambda g: number[g[0]]):
            branch = self.branch[group[0]]
            found.append(
                Branch(branch.pred, branch.pred_input, [self.merges[name] for name in group])
            )
        return found

    def _connected(self) -> list[list[str]]:
        """Merge nodes that one conditional should be the end of."""
        parent = {name: name for name in self.merges}

        def root(name: str) -> str:
            while parent[name] != name:
                parent[name] = name = parent[parent[name]]
            return name

        first: dict[Any, str] = {}
        in_loop = any(isinstance(step, InLoop) for step in self.place)
        for name in self.merges:
            pred = self.branch[name].pred
            keys: list[Any] = [(pred, name.rpartition("/")[0])]
            keys += [n for n in self.inside[name] if self._is_work(n)]
            if in_loop:  # where all of a body runs together
                keys.append((pred,))
            for key in keys:
                parent[root(name)] = root(first.setdefault(key, name))
        groups: dict[str, list[str]] = {}
        for name in self.merges:
            groups.setdefault(root(name), []).append(name)
        return list(groups.values())

    def _is_work(self, name: str) -> bool:
        """Whether a node is more than a constant or something passed on."""
        return kind_of(self.graph.nodes[name]) not in ("Const", "Identity", "Switch", "Enter")

    def _needs(self, name: str) -> list[str]:
        """The nodes at this place that the node `name` needs directly."""
        if name in self.outside:
            texts: Sequence[str] = self.outside[name]
        elif kind_of(self.graph.nodes[name]) == "Exit":
            texts = self._needs_of_loop(self.graph.loop_of_exit(name))
        else:
            texts = _direct_needs(self.graph, name)
        return self._here(texts)

    def _here(self, texts: Sequence[str]) -> list[str]:
        """The nodes at this place among the sources of inputs; variables of the loop are there from the start."""
        found = [source_of(text)[0] for text in texts]
        graph = self.graph
        return [
            s for s in found if graph.place.get(s) == self.place and s not in graph.loop_of_merge
        ]

    def _needs_of_loop(self, loop: Any) -> list[str]:
        if loop.frame in self.needs_of_loops:
            return self.needs_of_loops[loop.frame]
        ends = [loop.condition, *loop.next_values.values()]
        resolved = [self.graph.resolved(e) for e in ends]
        outside = needs(self.graph, resolved, loop.inner)[1]
        starts = [self.graph.resolved(e.input[0]) for e in loop.enters.values()]
        found = [*starts, *(t for t in outside if source_of(t)[0] not in loop.enters)]
        self.needs_of_loops[loop.frame] = found
        return found

    def _in_cycles(self, groups: list[list[str]]) -> list[list[str]]:
        """The groups that need, by way of others, themselves."""
        place = self.graph.place
        group_of = {name: number for number, group in enumerate(groups) for name in group}
        exits: dict[str, str] = {}  # Exit -> the frame
        frames: dict[str, Any] = {}
        needed: dict[Any, set[Any]] = {}
        for name, where in place.items():
            if where != self.place or name in self.graph.loop_of_merge:
                continue
            if kind_of(self.graph.nodes[name]) == "Exit":
                loop = self.graph.loop_of_exit(name)
                exits[name], frames[loop.frame] = loop.frame, loop
            elif name not in group_of:
                needed[name] = set(self._needs(name))
        for frame, loop in frames.items():
            needed["loop", frame] = set(self._here(self._needs_of_loop(loop)))
        for number, group in enumerate(groups):
            needed["group", number] = {s for name in group for s in self._needs(name)}

        def stands_for(name: Any) -> Any:
            if name in exits:
                return "loop", exits[name]
            return ("group", group_of[name]) if name in group_of else name

        return [groups[key[1]] for key in _not_sortable(needed, stands_for) if key[0] == "group"]

    def _stages(self) -> dict[str, int]:
        """For each Merge how many conditionals and loops come, one after the other, up to it."""
        stages: dict[str, int] = {}
        stack = list(self.merges)
        while stack:
            name = stack[-1]
            if name in stages:
                stack.pop()
                continue
            before = self._needs(name)
            open_ones = [n for n in before if n not in stages]
            if open_ones:
                stack += open_ones
                continue
            own = 1 if kind_of(self.graph.nodes[name]) in ("Merge", "Exit") else 0
            stages[name] = own + max((stages[n] for n in before), default=0)
            stack.pop()
        return stages


def _not_sortable(needed: dict[Any, set[Any]], stands_for: Any) -> list[Any]:
    """The keys that need themselves, or something that does."""
    waiting: dict[Any, int] = {}
    users: dict[Any, list[Any]] = collections.defaultdict(list)
    for key, found in needed.items():
        sources = {stands_for(name) for name in found}
        waiting[key] = len(sources)
        for source in sources:
            users[source].append(key)
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        for user in users[ready.pop()]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    return [key for key, count in waiting.items() if count]
