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
from headrace.passes.spmd import SpmdNode, SpmdPlan, Unit, find_replicas
from headrace.passes.state_order import StateOrder

# Device, whether on the host, and a name that keeps an operation apart from others.
Colour = tuple[str, bool, str]

_TOGETHER: Colour = ("all replicas", False, "")

# What works on fewer elements takes less time than the call of a program.
_LIGHT_ELEMENTS = 4096


@dataclass(slots=True)
class DeviceSplit(Split):
    """The segments in an order in which they may run, and for each the numbers of those that it waits for.

    replicas: the devices of the replicas whose common program some segments are; together: for these, their nodes.
    keys: for each variable of the first replica those of all.
    """

    waits_for: list[set[int]] = field(default_factory=list)
    segment_of: dict[Operation, int] = field(default_factory=dict)
    replicas: tuple[str, ...] = ()
    together: dict[int, list[SpmdNode]] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)


def split_by_device(
    ops: Sequence[Operation],
    fed: frozenset[Tensor],
    fetches: Sequence[Tensor],
    order: StateOrder,
    device_of: Callable[[Operation], str],
    can_join: Callable[[tuple[str, ...]], bool] | None = None,
) -> DeviceSplit:
    """Assigns each operation to a segment of its device, or to a program of all replicas where these devices `can_join`."""
    kinds = kinds_of(ops, fed, fetches)
    waits = dependencies(ops, fed, order, kinds)
    plan = find_replicas(waits, fed, fetches, order, kinds, device_of) if can_join else None
    if plan is not None and not can_join(plan.devices):  # type: ignore[misc]
        plan = None
    before: dict[Unit, set[Unit]] = _contracted(waits, plan) if plan is not None else dict(waits)  # type: ignore[arg-type]
    colour: dict[Unit, Colour] = {
        unit: _TOGETHER if isinstance(unit, SpmdNode) else _colour(unit, kinds, device_of)
        for unit in before
    }
    decisive = {
        unit: {
            plan.unit_of.get(t._op, t._op) if plan is not None else t._op
            for op in _ops_of(unit)
            for t in kinds.decisive.get(op, ())
            if t not in fed
        }
        for unit in before
    }

    def barrier(source: Unit, unit: Unit) -> bool:
        return colour[source] != colour[unit] or source in decisive[unit]

    level: dict[Unit, int] = {}
    for unit, sources in before.items():
        level[unit] = max((level[s] + barrier(s, unit) for s in sources), default=0)
    _bring_together(before, level, colour, barrier)
    early: set[Unit] = set()
    first: set[Unit] = set()  # what operations that may wait depend on, and they themselves
    for unit in reversed(list(before)):
        if colour[unit][2] or unit in first:
            first.update((unit, *before[unit]))
        for source in before[unit]:
            if unit in early or colour[source] != colour[unit]:
                early.add(source)
    return _assemble(before, kinds, colour, level, first, early, plan)


def _contracted(waits: dict[Operation, set[Operation]], plan: SpmdPlan) -> dict[Unit, set[Unit]]:
    """What each node of the replicas' program, and each operation outside of it, waits for."""
    return {
        unit: {plan.unit_of[s] for op in _ops_of(unit) for s in waits[op]} for unit in plan.sequence
    }


def _ops_of(unit: Unit) -> tuple[Operation, ...]:
    return unit.ops if isinstance(unit, SpmdNode) else (unit,)


def _bring_together(
    before: dict[Unit, set[Unit]],
    level: dict[Unit, int],
    colour: dict[Unit, Colour],
    barrier: Callable[[Unit, Unit], bool],
) -> None:
    """Lets operations run as late as those that need them.

    Small ones, since a program of their own would cost more than waiting; and all that the replicas do together, with
    what the host does after it.
    """
    common = [level[unit] for unit in before if colour[unit] == _TOGETHER]
    last = max(common, default=0)
    latest: dict[Unit, int] = {}
    for unit in reversed(list(before)):
        if isinstance(unit, SpmdNode):
            level[unit] = latest.get(unit, last)
        elif unit in latest and (_is_light(unit) or (common and colour[unit][1])):
            level[unit] = latest[unit]
        elif common and colour[unit][1]:
            level[unit] = max(level[unit], last + 1)
        for source in before[unit]:
            bound = level[unit] - barrier(source, unit)
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
        sources = {writer for writer in writers.get(op, ()) if writer in found}
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


def _colour(op: Operation, kinds: Kinds, device_of: Callable[[Operation], str]) -> Colour:
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
    before: dict[Unit, set[Unit]],
    kinds: Kinds,
    colour: dict[Unit, Colour],
    level: dict[Unit, int],
    first: set[Unit],
    early: set[Unit],
    plan: SpmdPlan | None,
) -> DeviceSplit:
    found: dict[tuple[int, bool, bool, Colour], Segment] = {}
    nodes: dict[tuple[int, bool, bool, Colour], list[SpmdNode]] = {}
    for unit in before:
        device, host, _ = colour[unit]
        apart = unit not in early and not isinstance(unit, SpmdNode)
        key = (level[unit], unit not in first, apart, colour[unit])
        segment = found.setdefault(key, Segment(not host, device=device))
        if isinstance(unit, SpmdNode):
            nodes.setdefault(key, []).append(unit)
        for op in _ops_of(unit):
            segment.ops.append(op)
            segment.static_inputs |= kinds.decisive.get(op, set())
    keys = sorted(found)
    segments = [found[key] for key in keys]
    add_static_crossings(segments, kinds.static)
    segment_of = {op: number for number, s in enumerate(segments) for op in s.ops}
    waits_for: list[set[int]] = [set() for _ in segments]
    for unit, sources in before.items():
        here = segment_of[_ops_of(unit)[0]]
        waits_for[here] |= {segment_of[_ops_of(source)[0]] for source in sources} - {here}
    split = DeviceSplit(
        segments, kinds.free, kinds.must_fold, kinds.fallible, waits_for, segment_of
    )
    if plan is not None:
        split.replicas, split.keys = plan.devices, plan.keys
        split.together = {number: nodes[key] for number, key in enumerate(keys) if key in nodes}
    return split
