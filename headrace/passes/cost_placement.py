"""Placement by cost: list scheduling of operations over devices, with times of operations and of what is sent.

Operations are taken in the order of their rank (the longest way from them to an end, in seconds), each to the device where
it would end first. Operations of a group stay together: the first of them that is taken decides for all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.segments import is_constant
from headrace.passes.state_order import is_handle


class Costs(Protocol):
    """What scheduling asks: seconds of an operation, and of sending a tensor to another device."""

    def seconds(self, op: Operation) -> float:
        """How long `op` takes."""
        ...

    def transfer(self, tensor: Tensor | None) -> float:
        """How long it takes until another device has `tensor`; None: word that an operation has run."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """A device for each operation, and the seconds until all have run."""

    device_of: dict[Operation, str]
    makespan: float


def schedule(
    ops: Sequence[Operation],
    costs: Costs,
    allowed: Callable[[Operation], Sequence[str]],
    group_of: Callable[[Operation], Hashable] = id,
    placed: Mapping[Operation, str] | None = None,
) -> Schedule:
    """Finds a device for each of `ops` (in order, what comes before an operation first).

    allowed: the devices that an operation may be on, preferred ones first. placed: devices of other operations, which have
    run before. Where the way of the list is no better than one device for all, that is what comes out.
    """
    ops = [op for op in ops if not _is_everywhere(op)]
    before = _edges(ops, placed or {})
    ordered = _by_rank(ops, before, _ranks(ops, before, costs))
    spread = _in_turn(ordered, before, costs, allowed, group_of, placed)
    together = _in_turn(ordered, before, costs, lambda op: allowed(op)[:1], group_of, placed)
    return min(together, spread, key=lambda found: found.makespan)


def _in_turn(
    ops: Sequence[Operation],
    before: dict[Operation, list[tuple[Operation, Tensor | None]]],
    costs: Costs,
    allowed: Callable[[Operation], Sequence[str]],
    group_of: Callable[[Operation], Hashable],
    placed: Mapping[Operation, str] | None,
) -> Schedule:
    """Gives each of `ops` the device where it would end first."""
    device_of: dict[Operation, str] = dict(placed or {})
    group_device: dict[Hashable, str] = {}
    end: dict[Operation, float] = {}
    free_at: dict[str, float] = {}
    for op in ops:
        group = group_of(op)
        choices = [group_device[group]] if group in group_device else allowed(op)
        seconds = costs.seconds(op)
        best: tuple[float, int] | None = None
        for position, device in enumerate(choices):
            ready = max(
                (
                    end.get(source, 0.0)
                    + (0.0 if device_of[source] == device else costs.transfer(tensor))
                    for source, tensor in before[op]
                ),
                default=0.0,
            )
            done = max(ready, free_at.get(device, 0.0)) + seconds
            if best is None or done < best[0] - 1e-12:
                best = done, position
        assert best is not None
        device = choices[best[1]]
        device_of[op] = group_device[group] = device
        end[op] = best[0]
        # What takes no time does not keep the device from other things while it waits.
        if seconds:
            free_at[device] = best[0]
    return Schedule({op: device_of[op] for op in ops}, max(end.values(), default=0.0))


def makespan(
    ops: Sequence[Operation], costs: Costs, device_of: Callable[[Operation], str]
) -> float:
    """The seconds that a placement is expected to take."""
    return schedule(ops, costs, lambda op: [device_of(op)]).makespan


def _is_everywhere(op: Operation) -> bool:
    """Whether what `op` gives is on every device: constants, and what is fed."""
    return is_constant(op) or bool(op._definition.effects & Effect.SOURCE and not op._inputs)


def _edges(
    ops: Sequence[Operation], placed: Mapping[Operation, str]
) -> dict[Operation, list[tuple[Operation, Tensor | None]]]:
    """(source, tensor or None) of everything that each operation waits for."""
    known = set(placed)
    found: dict[Operation, list[tuple[Operation, Tensor | None]]] = {}
    for op in ops:
        edges: list[tuple[Operation, Tensor | None]] = [
            (t._op, None if is_handle(t) else t) for t in op._inputs if t._op in known
        ]
        edges += [(c, None) for c in op._control_inputs if c in known]
        found[op] = edges
        known.add(op)  # an edge from a later operation closes a loop, and is left out
    return found


def _ranks(
    ops: Sequence[Operation],
    before: dict[Operation, list[tuple[Operation, Tensor | None]]],
    costs: Costs,
) -> dict[Operation, float]:
    rank: dict[Operation, float] = {}
    after: dict[Operation, float] = {}
    for op in reversed(ops):
        rank[op] = costs.seconds(op) + after.get(op, 0.0)
        for source, _ in before[op]:
            after[source] = max(after.get(source, 0.0), rank[op])
    return rank


def _by_rank(
    ops: Sequence[Operation],
    before: dict[Operation, list[tuple[Operation, Tensor | None]]],
    rank: dict[Operation, float],
) -> list[Operation]:
    """The operations with the highest rank first, none before what it waits for."""
    inside = set(ops)
    waits = {op: sum(source in inside for source, _ in before[op]) for op in ops}
    followers: dict[Operation, list[Operation]] = {}
    for op in ops:
        for source, _ in before[op]:
            if source in inside:
                followers.setdefault(source, []).append(op)
    ready = [(-rank[op], op._id, op) for op in ops if not waits[op]]
    heapq.heapify(ready)
    found: list[Operation] = []
    while ready:
        op = heapq.heappop(ready)[2]
        found.append(op)
        for follower in followers.get(op, ()):
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready, (-rank[follower], follower._id, follower))
    return found
