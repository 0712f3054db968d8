"""Splits a run into segments: islands that XLA compiles, and groups of host operations between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.core import dtypes
from headrace.graph.func_graph import FuncGraph, functions_of
from headrace.graph.op_def import MAY_FAIL, PADDED, Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.prune import prune
from headrace.passes.state_order import flat_arguments, is_handle

_HOST_TYPES = frozenset({dtypes.string, *dtypes.QUANTIZED_DTYPES})


@dataclass(slots=True)
class Segment:
    """Operations that run together, in order. `static_inputs`: tensors from outside whose value decides shapes.

    device: its full name, "" where there is but one.
    """

    is_island: bool
    ops: list[Operation] = field(default_factory=list)
    static_inputs: set[Tensor] = field(default_factory=set)
    device: str = ""


@dataclass(slots=True)
class Split:
    """The segments in the order in which they run.

    free: constants, which every segment has. must_fold: operations whose value decides a shape and is known while an
    island is traced. fallible: operations that can fail on values not known before the run.
    """

    segments: list[Segment]
    free: set[Operation]
    must_fold: set[Operation]
    fallible: set[Operation]


def is_pure(op: Operation) -> bool:
    """Whether the outputs depend on the values of the inputs alone."""
    definition = op._definition
    return not definition.effects & ~MAY_FAIL and not definition.writes


def runs_on_host(op: Operation) -> bool:
    """Whether XLA cannot hold the operation."""
    definition = op._definition
    if definition.host_only or definition.lower_rule is None:
        return True
    if definition.lowers_if is not None and not definition.lowers_if():
        return True
    if definition.function_attrs:
        return any(_has_host_ops(function.graph) for _, function in functions_of(op))
    inputs = op._inputs
    if definition.known_strings:
        inputs = [t for t in inputs if not is_constant(t._op)]
    return any(t._dtype.base_dtype in _HOST_TYPES for t in (*inputs, *op._outputs))


def is_constant(op: Operation) -> bool:
    """Whether the operation has the same value whenever and wherever it runs."""
    return (
        not op._inputs
        and len(op._outputs) <= 1
        and is_pure(op)
        and op._definition.host_rule is not None
    )


def _has_host_ops(graph: FuncGraph) -> bool:
    """Whether the body of a function, or a body that it calls, holds operations that XLA cannot."""
    known = graph.__dict__.get("_has_host_ops")
    now = (graph.version, graph._mutations)
    if known is None or known[0] != now:
        fed = frozenset(graph.inputs)
        needed = prune(
            [*(t._op for t in graph.outputs if t not in fed), *graph.control_outputs], fed
        )
        padded = padded_nodes(needed, fed, graph.outputs)
        static = static_tensors(needed)
        found = any(
            (runs_on_host(op) and not _is_source_of_values(op) and not is_constant(op))
            or (
                op._definition.dynamic_shape
                and op not in padded
                and not all(t in static for t in op._inputs)
            )
            for op in needed
        )
        known = graph.__dict__["_has_host_ops"] = (now, found)
    return known[1]


def static_tensors(ops: Sequence[Operation]) -> set[Tensor]:
    """The outputs of `ops` (in order) that follow from constants and from the shapes of others."""
    static: set[Tensor] = set()
    for op in ops:
        if op._definition.static_rule is not None or is_constant(op):
            static.update(op._outputs)
        elif op._inputs and is_pure(op) and all(t in static for t in op._inputs):
            if op._definition.host_rule is not None:
                static.update(op._outputs)
    return static


def _is_source_of_values(op: Operation) -> bool:
    """Handles and inputs of the body are no work for anybody."""
    return (
        bool(op._definition.effects & (Effect.HANDLE | Effect.SOURCE))
        and not op._definition.host_only
    )


def padded_nodes(
    ops: Sequence[Operation], fed: frozenset[Tensor], fetches: Sequence[Tensor]
) -> frozenset[Operation]:
    """The nodes among `ops` that a program computes with rows of padding, none if somebody could see these rows."""
    found = {op for op in ops if op._attrs.get(PADDED) and op._definition.dynamic_shape}
    if not found:
        return frozenset()
    seen: set[Tensor] = set()
    for op in ops:
        reached = any(t in seen and t not in fed for t in op._inputs)
        if reached and (runs_on_host(op) or op._definition.function_attrs):
            return frozenset()
        if reached or op in found:
            # What is written into a variable comes from rows that are its own.
            seen.update(t for t in op._outputs if not is_handle(t))
    return frozenset() if any(t in seen for t in fetches) else frozenset(found)


def shape_deciders(ops: Sequence[Operation]) -> set[Operation]:
    """The operations whose value may decide a shape: they are folded whatever their size, where their inputs are known."""
    found: set[Operation] = set()
    inside = set(ops)
    for op in ops:
        static_inputs = op._definition.static_inputs
        if not static_inputs:
            continue
        stack = [
            t._op
            for t, argument in zip(op._inputs, flat_arguments(op), strict=True)
            if argument.name in static_inputs
        ]
        while stack:
            source = stack.pop()
            if source in found or source not in inside:
                continue
            found.add(source)
            if source._definition.static_rule is None:
                stack.extend(t._op for t in source._inputs)
    return found


@dataclass(slots=True)
class Kinds:
    """What planning knows of the operations of a run before it cuts them up; see `Split`.

    handles: operations that only name a variable. on_host: what XLA cannot hold. static: tensors known while an island is
    traced. decisive: inputs of an operation whose value decides a shape and is known when the island starts.
    """

    free: set[Operation] = field(default_factory=set)
    handles: set[Operation] = field(default_factory=set)
    on_host: set[Operation] = field(default_factory=set)
    static: set[Tensor] = field(default_factory=set)
    must_fold: set[Operation] = field(default_factory=set)
    fallible: set[Operation] = field(default_factory=set)
    decisive: dict[Operation, set[Tensor]] = field(default_factory=dict)


def kinds_of(
    ops: Sequence[Operation], fed: frozenset[Tensor], fetches: Sequence[Tensor] = ()
) -> Kinds:
    """Says of each operation how it can run."""
    kinds = Kinds({op for op in ops if is_constant(op)})
    static, must_fold = kinds.static, kinds.must_fold
    padded = padded_nodes(ops, fed, fetches)
    for op in ops:
        definition = op._definition
        if op in kinds.free:
            static.update(op._outputs)
            continue
        if definition.effects & Effect.HANDLE and not definition.host_only:
            # A handle has no value; what reads or writes through it knows the variable by name.
            kinds.handles.add(op)
            continue
        inputs_static = all(t in static for t in op._inputs)
        host = runs_on_host(op) or (
            definition.dynamic_shape and not inputs_static and op not in padded
        )
        if not host and definition.static_inputs:
            needed = definition.static_inputs_of(op)
            decisive: set[Tensor] = set()
            for tensor, argument in zip(op._inputs, flat_arguments(op), strict=True):
                if argument.name not in needed:
                    continue
                if tensor in static:
                    _mark(tensor, static, must_fold)
                    continue
                decisive.add(tensor)
            if decisive:
                kinds.decisive[op] = decisive
        if definition.dynamic_shape and inputs_static and not host:
            for tensor in op._inputs:
                _mark(tensor, static, must_fold)
        if definition.may_fail(op) and any(
            t not in static
            and (not definition.checked_inputs or a.name in definition.checked_inputs)
            for t, a in zip(op._inputs, flat_arguments(op), strict=True)
        ):
            kinds.fallible.add(op)
        if host:
            kinds.on_host.add(op)
        elif (
            inputs_static
            and is_pure(op)
            and definition.host_rule is not None
            and not any(t._dtype is dtypes.variant for t in op._outputs)
        ) or definition.static_rule is not None:
            static.update(op._outputs)
    return kinds


def split(
    ops: Sequence[Operation], fed: frozenset[Tensor], fetches: Sequence[Tensor] = ()
) -> Split:
    """Assigns each operation to a segment: as early as its inputs allow, islands and host groups in turn.

    An island ends where a value that it computes decides a shape later: the value goes to the host, and the
    next island is
    compiled for it.
    """
    kinds = kinds_of(ops, fed, fetches)
    on_host = kinds.on_host
    level: dict[Operation, int] = {}
    specialised: dict[int, set[Tensor]] = {}
    for op in ops:
        if op in kinds.free or op in kinds.handles:
            level[op] = max((level[c] for c in op._control_inputs if c in level), default=0)
            continue
        host = op in on_host
        here = 0
        for source in (*(t._op for t in op._inputs if t not in fed), *op._control_inputs):
            if source in level:
                # After a host operation comes the next island; a host operation follows the island of its inputs.
                here = max(here, level[source] + (1 if source in on_host and not host else 0))
        decisive = kinds.decisive.get(op)
        if decisive:
            for tensor in decisive:
                if tensor not in fed and tensor._op not in on_host:
                    here = max(here, level[tensor._op] + 1)
            specialised.setdefault(here, set()).update(decisive)
        level[op] = here
    _read_late(ops, kinds, level)
    segments = _collect(ops, kinds.free, level, on_host, specialised)
    add_static_crossings(segments, kinds.static)
    return Split(segments, kinds.free, kinds.must_fold, kinds.fallible)


def _read_late(ops: Sequence[Operation], kinds: Kinds, level: dict[Operation, int]) -> None:
    """Moves what reads a variable into the island that uses the value: between islands a whole variable would be copied."""
    first_use: dict[Operation, int] = {}
    for op in ops:
        for source in (*(t._op for t in op._inputs), *op._control_inputs):
            first_use[source] = min(first_use.get(source, level[op]), level[op])
    for op in ops:
        reads = op._inputs and all(t._op in kinds.handles for t in op._inputs)
        if reads and op not in kinds.on_host and not op._definition.writes and op in first_use:
            level[op] = max(level[op], first_use[op])


def _mark(tensor: Tensor, static: set[Tensor], must_fold: set[Operation]) -> None:
    """Adds what `tensor` is computed from to the operations that are folded whatever their size."""
    stack = [tensor._op]
    while stack:
        op = stack.pop()
        if op in must_fold:
            continue
        must_fold.add(op)
        if op._definition.static_rule is None:
            stack.extend(t._op for t in op._inputs if t in static)


def add_static_crossings(segments: list[Segment], static: set[Tensor]) -> None:
    """What is static in the island that computes it stays so in the islands that use it."""
    home = {op: segment for segment in segments for op in segment.ops}
    for segment in segments:
        if segment.is_island:
            for op in segment.ops:
                for tensor in op._inputs:
                    if tensor in static and home.get(tensor._op, segment) is not segment:
                        segment.static_inputs.add(tensor)


def _collect(
    ops: Sequence[Operation],
    free: set[Operation],
    level: dict[Operation, int],
    on_host: set[Operation],
    specialised: dict[int, set[Tensor]],
) -> list[Segment]:
    found: dict[tuple[int, bool], Segment] = {}
    for op in ops:
        definition = op._definition
        if op in free or (definition.effects & Effect.HANDLE and not definition.host_only):
            continue
        host = op in on_host
        segment = found.setdefault((level[op], host), Segment(not host))
        segment.ops.append(op)
    for (number, host), segment in found.items():
        if not host:
            segment.static_inputs = specialised.get(number, set())
    return [found[key] for key in sorted(found)]
