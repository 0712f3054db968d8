"""Splits a run into segments that are each on one device: what the executor of several devices starts as a whole.

A *barrier* is an edge between operations that cannot be in one segment: on two devices, on the host and in a program, or
where the value of a tensor decides a shape. The level of an operation is the largest number of barriers on a way to it.
Operations of one kind and level make one segment, or several: what leads to operations of another kind ("early") is apart
from what does not, so that nobody waits for values that are there already, and what leads to operations that may wait for
another step ("first") from the rest. Edges never lead to a lower level, nor into "first" or "early" from outside: no cycle
can arise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.segments import Kinds, Segment, Split, add_static_crossings, kinds_of
from headrace.passes.state_order import StateOrder

# What works on fewer elements takes less time than the call of a program.
_LIGHT_ELEMENTS = 4096


@dataclass(slots=True)
class DeviceSplit(Split):
    """The segments in an order in which they may run, and for each the numbers of those that it waits for."""

    waits_for: list[set[int]] = field(default_factory=list)
    segment_of: dict[Operation, int] = field(default_factory=dict)


def split_by_device(
    ops: Sequence[Operation],
    fed: frozenset[Tensor],
    fetches: Sequence[Tensor],
    order: StateOrder,
    device_of: Callable[[Operation], str],
) -> DeviceSplit:
    """Assigns each operation to a segment of its device."""
    kinds = kinds_of(ops, fed, fetches)
    before = dependencies(ops, fed, order, kinds)
    colour = {op: _colour(op, kinds, device_of) for op in before}

    def barrier(source: Operation, op: Operation) -> bool:
        return colour[source] != colour[op] or any(
            t._op is source for t in kinds.decisive.get(op, ()) if t not in fed
        )

    level: dict[Operation, int] = {}
    for op, sources in before.items():
        level[op] = max((level[s] + barrier(s, op) for s in sources), default=0)
    _bring_together(before, level, barrier)
    early: set[Operation] = set()
    first: set[Operation] = set()  # what operations that may wait depend on, and they themselves
    for op in reversed(list(before)):
        if colour[op][2] or op in first:
            first.update((op, *before[op]))
        for source in before[op]:
            if op in early or colour[source] != colour[op]:
                early.add(source)
    return _assemble(before, kinds, colour, level, first, early)


def _bring_together(
    before: dict[Operation, set[Operation]],
    level: dict[Operation, int],
    barrier: Callable[[Operation, Operation], bool],
) -> None:
    """Lets small operations run as late as those that need them: a program of their own would cost more than waiting."""
    latest: dict[Operation, int] = {}
    for op in reversed(list(before)):
        if op in latest and _is_light(op):
            level[op] = latest[op]
        for source in before[op]:
            bound = level[op] - barrier(source, op)
            latest[source] = min(latest.get(source, bound), bound)


def _is_light(op: Operation) -> bool:
    """Whether all that `op` takes and gives is known to be small."""
    total = 0
    for tensor in (*op._inputs, *op._outputs):
        dims = tensor._dims
        if dims is None or None in dims:
            return False
        total += math.prod(dims)  # type: ignore[arg-type]
    return total <= _LIGHT_ELEMENTS and not op._definition.function_attrs


def dependencies(
    ops: Sequence[Operation], fed: frozenset[Tensor], order: StateOrder, kinds: Kinds
) -> dict[Operation, set[Operation]]:
    """For each operation that does something, in order, those that must run before it.

    Constants and handles are not among them; who depends on one depends on what it depends on. Versions of variables count:
    what one operation writes and another one reads, or overwrites.
    """
    idle = kinds.free | kinds.handles
    writers: dict[Operation, set[Operation]] = {}
    for op, key, version in order.reads():
        if version >= 0:
            writers.setdefault(op, set()).add(order.writers[key][version])
    behind: dict[Operation, set[Operation]] = {}
    found: dict[Operation, set[Operation]] = {}
    for op in ops:
        sources: set[Operation] = set(writers.get(op, ()))
        for source in (*(t._op for t in op._inputs if t not in fed), *op._control_inputs):
            if source in found:
                sources.add(source)
            elif source in behind:
                sources |= behind[source]
        if op in idle:
            behind[op] = sources
        elif not (op._outputs and all(t in fed for t in op._outputs)):
            found[op] = sources
    return found


def _colour(
    op: Operation, kinds: Kinds, device_of: Callable[[Operation], str]
) -> tuple[str, bool, str]:
    """What the operations of one segment have in common. A host operation that may wait for others has one of its own."""
    definition = op._definition
    host = op in kinds.on_host
    waits = host and (
        bool(definition.function_attrs)
        or definition.waits
        or (definition.host_only and definition.effects & Effect.STATEFUL)
    )
    return device_of(op), host, op._name if waits else ""


def _assemble(
    before: dict[Operation, set[Operation]],
    kinds: Kinds,
    colour: dict[Operation, tuple[str, bool, str]],
    level: dict[Operation, int],
    first: set[Operation],
    early: set[Operation],
) -> DeviceSplit:
    found: dict[tuple[int, bool, bool, tuple[str, bool, str]], Segment] = {}
    for op in before:
        device, host, _ = colour[op]
        key = (level[op], op not in first, op not in early, colour[op])
        segment = found.setdefault(key, Segment(not host, device=device))
        segment.ops.append(op)
        segment.static_inputs |= kinds.decisive.get(op, set())
    segments = [found[key] for key in sorted(found)]
    add_static_crossings(segments, kinds.static)
    segment_of = {op: number for number, s in enumerate(segments) for op in s.ops}
    waits_for: list[set[int]] = [set() for _ in segments]
    for op, sources in before.items():
        here = segment_of[op]
        waits_for[here] |= {segment_of[source] for source in sources} - {here}
    return DeviceSplit(segments, kinds.free, kinds.must_fold, kinds.fallible, waits_for, segment_of)
