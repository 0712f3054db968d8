"""What a program of XLA spends its time on, by the operations of the graph: its profile, read with the program's text.

While an island is traced each operation is a scope `name#type` (see `lowering/evaluate.py`), which XLA keeps with every
instruction that comes of it. The profiler tells when each instruction ran; an instruction that XLA fused of several
operations is shared out to them in equal parts, so that sums over operations are right.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from headrace.graph.tensor import Tensor
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import profiled

Sizes = dict[Tensor, tuple[tuple[int, ...], int]]
"""Shape and bytes of tensors, as they are in a program for given inputs."""


@dataclass(frozen=True, slots=True)
class NodeTime:
    """A stretch of time that an instruction spent on one operation. Times are seconds since the epoch.

    node: the operation's name, or the instruction's where it comes of none. body: where the operation calls functions, the
    path of the operation in their bodies; type is that one's. instruction: XLA's name for it. fused: the other nodes in it.
    lane: which thread or stream ran it. count: how often it ran (in a loop), if more than once then added up.
    is_result: whether the instruction's result is the node's.
    """

    node: str
    body: str
    type: str
    instruction: str
    fused: tuple[str, ...]
    lane: int
    start: float
    end: float
    count: int
    is_result: bool


@dataclass(frozen=True, slots=True)
class ProgramTimes:
    """One call of an island: its own time, that of its nodes, and the memory that the program takes.

    nodes: empty where there was no profile. temporary, arguments, results: bytes, 0 where XLA does not tell.
    """

    island: Island
    start: float
    end: float
    nodes: tuple[NodeTime, ...]
    sizes: Sizes
    temporary: int
    arguments: int
    results: int


@dataclass
class _Instruction:
    """Of which scopes an instruction is made, and whether it stands outside of loops and branches."""

    scopes: tuple[str, ...]
    on_top: bool


@dataclass
class _Call:
    """What is known of one call of a program until the profile is read."""

    island: Island
    compiled: Any
    arguments: tuple[Any, ...]
    static_values: Sequence[Any]
    start: float
    end: float


@dataclass
class Recorder:
    """Collects the calls of programs while a step runs; `times` tells of them once `profile` has run it."""

    calls: list[_Call] = field(default_factory=list)
    _events: list[Any] | None = None

    def profile(self, run: Callable[[], Any]) -> Any:
        """The result of `run`, which was run under XLA's profiler, unless that is busy with somebody else's profile."""
        result, self._events = profiled(run)
        return result

    def call(
        self,
        island: Island,
        program: Any,
        arguments: tuple[Any, ...],
        static_values: Sequence[Any],
    ) -> Any:
        """Calls a program, waits for its results, and notes when it ran; compiling it first is no part of that."""
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
        compiled = program.lower(*arguments).compile()
        start = time.time()
        results = jax.block_until_ready(program(*arguments))
        self.calls.append(_Call(island, compiled, shapes, static_values, start, time.time()))
        return results

    def times(self) -> Iterator[ProgramTimes]:
        """The times of each program, in the order in which they were called."""
        for call in self.calls:
            with jax.enable_x64(True):
                sizes = call.island.sizes(call.static_values, call.arguments)
            memory = _memory(call.compiled)
            nodes: tuple[NodeTime, ...] = ()
            if self._events is not None:
                nodes = tuple(
                    _node_times(call, instructions(call.compiled.as_text()), self._events)
                )
            yield ProgramTimes(call.island, call.start, call.end, nodes, sizes, *memory)


def _memory(compiled: Any) -> tuple[int, int, int]:
    found = compiled.memory_analysis()
    if found is None:
        return 0, 0, 0
    return (
        found.temp_size_in_bytes,
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
    )


# ---- from instructions to operations

_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) (?:\(|\{)")
_LINE = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_SCOPE = re.compile(r'metadata=\{[^}]*op_name="(?P<scope>[^"]*)"')
_CALLS = re.compile(r"(?:calls|to_apply)=%?(?P<name>[\w.\-]+)")
_INSIDE = re.compile(r"(?:body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")

# Name of a computation -> name of an instruction -> the rest of its line, and its scope ("" for none).
_Computations = dict[str, dict[str, tuple[str, str]]]


def instructions(text: str) -> dict[str, _Instruction]:
    """The instructions of a compiled program, from its text."""
    computations: _Computations = {}
    entry, current = "", {}
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header and line.rstrip().endswith("{"):
            current = computations[header["name"]] = {}
            entry = header["name"] if header["entry"] else entry
            continue
        found = _LINE.match(line)
        if found:
            scope = _SCOPE.search(found["rest"])
            current[found["name"]] = (found["rest"], scope["scope"] if scope else "")
    result: dict[str, _Instruction] = {}
    _walk(computations, entry, True, result)
    return result


def _walk(
    computations: _Computations,
    name: str,
    on_top: bool,
    result: dict[str, _Instruction],
) -> None:
    for instruction, (rest, scope) in computations.get(name, {}).items():
        scopes = _scopes(computations, rest, scope)
        result[instruction] = _Instruction(tuple(scopes), on_top)
        inside = _INSIDE.findall(rest)
        for branches in _BRANCHES.findall(rest):
            inside += [branch.strip().lstrip("%") for branch in branches.split(",")]
        called = _CALLS.search(rest)
        if called and " call(" in rest:
            _walk(computations, called["name"], on_top, result)
        for computation in inside:
            _walk(computations, computation, False, result)


def _scopes(computations: _Computations, rest: str, scope: str) -> list[str]:
    """The scopes that went into an instruction, its own last."""
    found: dict[str, None] = {}
    called = _CALLS.search(rest)
    if called and " fusion(" in rest:
        for inner, inner_scope in computations.get(called["name"], {}).values():
            found.update(dict.fromkeys(_scopes(computations, inner, inner_scope)))
    for own in scope.split(";"):  # what XLA took from two operations has both scopes
        if "#" in own:
            found.pop(own, None)
            found[own] = None
    return list(found)


# What JAX puts between the scope of an operation and those of the bodies that it calls.
_STRUCTURE = re.compile(
    r"^(?:while|body|cond|closed_call|checkpoint|branch_\d+_fun|jit\([^)]*\)|jvp\([^)]*\))$"
)


def node_and_body(scope: str) -> tuple[str, str, str]:
    """The node of the graph, the path in the bodies that it calls, and the type of the innermost operation, of a scope.

    A scope is, for instance, `jit(f)/loop/w#While/while/body/sum#AddV2/add`.
    """
    start = scope.partition("/")[2] if scope.startswith(("jit(", "pjit(")) else scope
    start = start.removeprefix("shard_map/")  # what the replicas of a step run together
    node, *inner = start.split("#")
    path: list[str] = []
    for part in inner[:-1]:
        path += [p for p in part.split("/")[1:] if p and not _STRUCTURE.match(p)]
    return node, "/".join(path), inner[-1].partition("/")[0]


def _node_times(
    call: _Call, known: dict[str, _Instruction], events: list[Any]
) -> Iterator[NodeTime]:
    """The times of the nodes of one call, from all events of the profile."""
    repeated: dict[str, list[Any]] = {}
    for event in events:
        within = call.start - 1e-3 <= event.start and event.end <= call.end + 1e-3
        if event.module != f"jit_{call.island.label}" or not within:
            continue
        instruction = known.get(event.instruction)
        if instruction is None:
            continue
        if not instruction.on_top:
            repeated.setdefault(event.instruction, []).append(event)
            continue
        yield from _shares(instruction, event, event.start, event.end, 1)
    for name, found in repeated.items():
        start = min(event.start for event in found)
        total = sum(event.end - event.start for event in found)
        yield from _shares(known[name], found[0], start, start + total, len(found))


def _shares(
    instruction: _Instruction, event: Any, start: float, end: float, count: int
) -> Iterator[NodeTime]:
    pairs = list(dict.fromkeys(node_and_body(scope) for scope in instruction.scopes))
    if not instruction.on_top:
        # What comes of the loop itself, not of an operation in its body.
        pairs = [(node, body or "body", kind) for node, body, kind in pairs]
    if not pairs:
        yield NodeTime("", "", "", event.instruction, (), event.lane, start, end, count, False)
        return
    step = (end - start) / len(pairs)
    names = ["/".join(filter(None, pair[:2])) for pair in pairs]
    for i, (node, body, kind) in enumerate(pairs):
        others = tuple(names[:i] + names[i + 1 :])
        yield NodeTime(
            node,
            body,
            kind,
            event.instruction,
            others,
            event.lane,
            start + i * step,
            start + (i + 1) * step,
            count,
            i == len(pairs) - 1,
        )
