"""What the nodes of an old GraphDef belong to: the frames of loops, and the sides of conditionals.

Old graphs have no bodies. A value enters a loop through Enter and leaves it through Exit; it goes to one side of a
conditional through Switch, and the sides meet in Merge. From these follows where each node runs: its `Place`.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorboard.compat.proto import node_def_pb2

from headrace.core import dtypes, errors
from headrace.core.tensor_proto import make_ndarray
from headrace.graph.op_def import MAY_FAIL, REGISTRY

_MOST_COPIED_BYTES = 1024
CONTROL_FLOW = frozenset("Switch Merge Enter Exit NextIteration LoopCond".split())


@dataclass(frozen=True, slots=True)
class InLoop:
    """Inside the loop of this frame."""

    frame: str


@dataclass(frozen=True, slots=True)
class InBranch:
    """On one side of a conditional; `pred` is where its predicate comes from."""

    pred: str
    side: int


Place = tuple[InLoop | InBranch, ...]
"""The loops and sides of conditionals around a node, the outermost first."""


@dataclass(slots=True)
class Loop:
    """One frame. Loop variables by the names of their Merge nodes; `place`: where the loop itself runs."""

    frame: str
    enters: dict[str, Any] = field(default_factory=dict)  # Merge -> Enter
    next_values: dict[str, str] = field(default_factory=dict)  # Merge -> what NextIteration takes
    exits: dict[str, str] = field(default_factory=dict)  # Exit -> Merge
    constants: list[Any] = field(default_factory=list)  # Enters of what does not change
    condition: str = ""
    loop_cond: str = ""
    place: Place = ()

    @property
    def inner(self) -> Place:
        """Where its condition and its body run."""
        return (*self.place, InLoop(self.frame))


def kind_of(node: Any) -> str:
    """The op type; those of references count as the others."""
    return node.op.removeprefix("Ref")


def source_of(name: str) -> tuple[str, int]:
    """The node and the output that an input names; -1 for a control input."""
    if name[0] == "^":
        return name[1:], -1
    node, colon, index = name.rpartition(":")
    return (node, int(index)) if colon and index.isdigit() else (name, 0)


def joined(source: tuple[str, int]) -> str:
    """The inverse of `source_of` for a tensor; always with the index."""
    return f"{source[0]}:{source[1]}"


def _is_small_constant(node: Any) -> bool:
    """Whether a node is a constant of which copies do no harm: of others somebody may want the gradient."""
    if node.op != "Const" or node.attr["value"].tensor.ByteSize() > _MOST_COPIED_BYTES:
        return False
    kind = dtypes.as_dtype(node.attr["dtype"].type)
    return kind.is_integer or kind.is_bool


class LegacyGraph:
    """The nodes of a GraphDef by name; after `analyse`, its loops, the place of each node, what is static.

    Nodes without a place depend on both sides of a conditional, or on what has no place.
    """

    def __init__(self, nodes: Iterable[Any]) -> None:
        self.nodes: dict[str, Any] = {node.name: node for node in nodes}

    def add(self, name: str, op: str, inputs: Sequence[str], **types: Any) -> str:
        """Adds a node whose attrs are types (numbers of DataType) and whole numbers; returns its name."""
        count, unique = 0, name
        while unique in self.nodes:
            count += 1
            unique = f"{name}_{count}"
        node = node_def_pb2.NodeDef(name=unique, op=op, input=inputs)
        for key, value in types.items():
            if key == "N":
                node.attr[key].i = value
            elif isinstance(value, bytes):
                node.attr[key].s = value
            else:
                node.attr[key].type = value
        self.nodes[unique] = node
        return unique

    def analyse(self) -> None:
        """Finds the loops, and the place of each node."""
        self.users: dict[str, list[Any]] = collections.defaultdict(list)
        for node in self.nodes.values():
            for name in node.input:
                self.users[source_of(name)[0]].append(node)
        self._find_loops()
        self.place: dict[str, Place | None] = {}
        self.predicates: dict[Place, str] = {}  # of each side of a conditional: an input that is it
        self.predicates_of_merges: dict[str, str] = {}
        # The nodes that ask which input a Merge took.
        self.asked_of_merges = {n.name for n in self.nodes.values() if self._asks_a_merge(n)}
        self.order = self._sorted()
        for item in self.order:
            if isinstance(item, Loop):
                place = self._deepest(
                    self.place[e.name] for e in (*item.enters.values(), *item.constants)
                )
                item.place = place if place is not None else ()
                self._placed_loops.add(item.frame)
            else:
                self.place[item.name] = self._place_of(item)
        self._find_static()

    def _find_static(self) -> None:
        """Finds the nodes that follow from constants and shapes: whoever needs one computes it again where he is."""
        self.static: set[str] = set()
        for node in self.order:
            definition = None if isinstance(node, Loop) else REGISTRY.get(node.op)
            if definition is None or kind_of(node) in CONTROL_FLOW:
                continue
            data = [source_of(self.resolved(i))[0] for i in node.input if i[0] != "^"]
            is_pure = not definition.effects & ~MAY_FAIL and not definition.writes
            if definition.static_rule is not None or _is_small_constant(node):
                self.static.add(node.name)
            elif data and is_pure and definition.host_rule is not None:
                if all(source in self.static for source in data):
                    self.static.add(node.name)

    # ---- loops

    def _find_loops(self) -> None:
        self.loops: dict[str, Loop] = {}
        self.loop_of_merge: dict[str, Loop] = {}
        self.merge_of_switch: dict[str, str] = {}
        self._loop_of_exit: dict[str, Loop] = {}
        self._placed_loops: set[str] = set()
        for node in self.nodes.values():
            if kind_of(node) != "Enter":
                continue
            frame = node.attr["frame_name"].s.decode()
            loop = self.loops.setdefault(frame, Loop(frame))
            merge = next((u for u in self.users[node.name] if self._is_loop_merge(u)), None)
            if merge is None:
                loop.constants.append(node)
                continue
            loop.enters[merge.name] = node
            self.loop_of_merge[merge.name] = loop
            back = next(n for n in self._sources(merge) if kind_of(n) == "NextIteration")
            loop.next_values[merge.name] = back.input[0]
        for merge_name, loop in self.loop_of_merge.items():
            for switch in self.users[merge_name]:
                if kind_of(switch) != "Switch" or source_of(switch.input[0])[0] != merge_name:
                    continue
                test = self.nodes.get(source_of(switch.input[1])[0])
                if test is None or kind_of(test) != "LoopCond":
                    continue
                loop.condition, loop.loop_cond = test.input[0], test.name
                self.merge_of_switch[switch.name] = merge_name
        for node in self.nodes.values():
            if kind_of(node) == "Exit":
                switch = node
                while switch is not None and switch.name not in self.merge_of_switch:
                    passes = kind_of(switch) in ("Exit", "Identity")  # gradients put these between
                    switch = self.nodes.get(source_of(switch.input[0])[0]) if passes else None
                if switch is not None:
                    merge_name = self.merge_of_switch[switch.name]
                    loop = self._loop_of_exit[node.name] = self.loop_of_merge[merge_name]
                    loop.exits[node.name] = merge_name
        for loop in self.loops.values():
            if not loop.condition:
                raise errors.UnimplementedError(
                    None, None, f"frame {loop.frame!r} of the GraphDef is no loop of tf.while_loop"
                )

    def _is_loop_merge(self, node: Any) -> bool:
        return kind_of(node) == "Merge" and any(
            kind_of(source) == "NextIteration" for source in self._sources(node)
        )

    def _sources(self, node: Any) -> list[Any]:
        """The nodes among these whose outputs `node` takes."""
        found = (self.nodes.get(source_of(i)[0]) for i in node.input if i[0] != "^")
        return [source for source in found if source is not None]

    def loop_of_exit(self, name: str) -> Loop:
        """The loop that the Exit node `name` leaves. Raises UnimplementedError: it leaves none."""
        loop = self._loop_of_exit.get(name)
        if loop is None:
            raise errors.UnimplementedError(
                None, None, f"Exit node {name!r} of the GraphDef belongs to no loop"
            )
        return loop

    # ---- places

    def _sorted(self) -> list[Any]:
        """Nodes after what they need; a loop after all that enters it, and before all that is inside."""
        needs: dict[Any, list[Any]] = {}
        for name, node in self.nodes.items():
            found: list[Any] = []
            for text in node.input:
                source = source_of(text)[0]
                if source not in self.nodes:
                    continue
                kind = kind_of(self.nodes[source])
                if kind == "NextIteration" and name in self.loop_of_merge:
                    continue
                if kind == "Enter":
                    found.append(("loop", self.nodes[source].attr["frame_name"].s.decode()))
                found.append(source)
            needs[name] = found
        for frame, loop in self.loops.items():
            enters = (*loop.enters.values(), *loop.constants)
            needs["loop", frame] = [e.name for e in enters]
        waiting = {key: len(found) for key, found in needs.items()}
        users: dict[Any, list[Any]] = collections.defaultdict(list)
        for key, found in needs.items():
            for source in found:
                users[source].append(key)
        ready = collections.deque(key for key, count in waiting.items() if not count)
        order: list[Any] = []
        while ready:
            key = ready.popleft()
            order.append(self.nodes[key] if isinstance(key, str) else self.loops[key[1]])
            for user in users[key]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        if len(order) < len(needs):
            left = [key for key in needs if waiting[key] and isinstance(key, str)]
            kinds = sorted({self.nodes[name].op for name in left})
            raise ValueError(
                f"{len(left)} nodes in a cycle: {', '.join(left[:5])} ({', '.join(kinds)})"
            )
        return order

    def _place_of(self, node: Any) -> Place | None:
        kind, name = kind_of(node), node.name
        if name in self.loop_of_merge:
            return self.loop_of_merge[name].inner
        if kind == "Exit":
            return self.loop_of_exit(name).place
        places = [self.place_of_input(i) for i in node.input if source_of(i)[0] in self.nodes]
        if kind == "Merge":
            return self._meeting_place(node, places)
        return self._deepest(places)

    @staticmethod
    def _deepest(places: Iterable[Place | None]) -> Place | None:
        """The innermost of nested places; None where they are not nested."""
        deepest: Place = ()
        for place in places:
            if place is None:
                return None
            short, long = sorted((deepest, place), key=len)
            if long[: len(short)] != short:
                return None
            deepest = long
        return deepest

    def place_of_input(self, name: str) -> Place | None:
        """Where what an input names is there."""
        source, index = source_of(name)
        node, place = self.nodes[source], self.place[source]
        if kind_of(node) == "Enter":
            return self.loops[node.attr["frame_name"].s.decode()].inner
        if (
            place is None
            or index < 0
            or kind_of(node) != "Switch"
            or source in self.merge_of_switch
        ):
            return place
        pred, side, text = self._predicate(node.input[1], index)
        for step in place:
            if isinstance(step, InBranch) and step.pred == pred:
                # On this side already: gradients in loops ask again what is so inside the loop.
                return place if step.side == side else None
        inside = (*place, InBranch(pred, side))
        self.predicates.setdefault(inside, text)
        return inside

    def _predicate(self, name: str, side: int) -> tuple[str, int, str]:
        """(the root of the predicate `name`, the side of that where `name` is `side`, an input that is the root).

        The gradient of a gradient's Merge asks which input that took: the same as asking for its predicate.
        """
        root = self.root_of(name)
        if source_of(root)[0] not in self.asked_of_merges:
            return root, side, name
        node = self.nodes[source_of(root)[0]]
        merge, which = (self.nodes[source_of(i)[0]] for i in node.input[:2])
        pred, first, _ = self.sides(merge)
        number = int(make_ndarray(which.attr["value"].tensor))
        true_side = int(merge.input[number] != first)
        text = self.predicates_of_merges[merge.name]
        return pred, true_side if side else 1 - true_side, text

    def _asks_a_merge(self, node: Any) -> bool:
        if node.op != "Equal":
            return False
        (name, index), (which, _) = (source_of(i) for i in node.input[:2])
        merge, number = self.nodes.get(name), self.nodes.get(which)
        return (
            index == 1
            and merge is not None
            and kind_of(merge) == "Merge"
            and number is not None
            and number.op == "Const"
        )

    def _meeting_place(self, merge: Any, places: Sequence[Place | None]) -> Place | None:
        """Where a Merge of the two sides of a conditional is."""
        if len(places) != 2:
            raise errors.UnimplementedError(
                None,
                None,
                f"Merge node {merge.name!r} of the GraphDef is no end of a tf.cond: it has {len(places)} inputs",
            )
        if None in places:
            return None
        longest = max(places, key=len)  # type: ignore[arg-type]
        if not longest or not isinstance(longest[-1], InBranch):
            raise errors.UnimplementedError(
                None, None, f"Merge node {merge.name!r} of the GraphDef is no end of a tf.cond"
            )
        around, last = longest[:-1], longest[-1]
        self.predicates_of_merges[merge.name] = self.predicates[longest]
        for place in places:
            # A side that is not on it (a constant) is the other one.
            other = InBranch(last.pred, 1 - last.side)
            if place not in (longest, (*around, other)) and around[: len(place)] != place:  # type: ignore[arg-type]
                raise errors.UnimplementedError(
                    None,
                    None,
                    f"Merge node {merge.name!r} of the GraphDef is no end of a tf.cond: its inputs are on sides of "
                    "different conditionals",
                )
        return around

    def root_of(self, name: str) -> str:
        """The tensor whose value `name` has, through Identity and into loops and conditionals."""
        while True:
            source, index = source_of(name)
            node = self.nodes.get(source)
            if node is None:
                return joined((source, index))
            kind = kind_of(node)
            passes = (
                kind in ("Identity", "LoopCond")
                or (kind == "Enter" and not self._starts_a_variable(node))
                or (kind == "Switch" and source not in self.merge_of_switch)
            )
            if not passes:
                return joined((source, index))
            name = node.input[0]

    def _starts_a_variable(self, enter: Any) -> bool:
        loop = self.loops[enter.attr["frame_name"].s.decode()]
        return any(e is enter for e in loop.enters.values())

    def resolved(self, name: str) -> str:
        """The tensor that an input takes, on the other side of Enter and Switch; a loop variable is its Merge."""
        while True:
            source, index = source_of(name)
            node = self.nodes.get(source)
            if node is None:
                return joined((source, index))
            kind = kind_of(node)
            if source in self.merge_of_switch:
                return f"{self.merge_of_switch[source]}:0"
            if kind in ("Switch", "LoopCond", "NextIteration") or (
                kind == "Enter" and not self._starts_a_variable(node)
            ):
                name = node.input[0]
            else:
                return joined((source, index))

    def sides(self, merge: Any) -> tuple[str, str, str]:
        """(the predicate's root, the input where it is false, the one where it is true) of a Merge."""
        first, second = (i for i in merge.input if i[0] != "^")
        around = self.place[merge.name] or ()
        for number, name in enumerate((first, second)):
            place = self.place_of_input(name) or ()
            if len(place) > len(around):
                step = place[len(around)]
                assert isinstance(step, InBranch)
                pair = (first, second) if step.side == number else (second, first)
                return step.pred, *pair
        raise errors.UnimplementedError(
            None, None, f"Merge node {merge.name!r} of the GraphDef is no end of a tf.cond"
        )
