"""The operations that a run needs, in an order in which they may run."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from headrace.core import errors
from headrace.graph.op_def import Flow
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


def prune(targets: Iterable[Operation], fed: frozenset[Tensor] | set[Tensor]) -> list[Operation]:
    """The operations that `targets` depend on, sources first; nothing behind a fed tensor is needed.

    Ties are broken by the order of creation, so that two runs of one program do everything in the same order.
    """
    needed: set[Operation] = set()
    stack = list(targets)
    while stack:
        op = stack.pop()
        if op in needed:
            continue
        needed.add(op)
        for tensor in op._inputs:
            if tensor not in fed:
                stack.append(tensor._op)
        for before in op._control_inputs:
            # A control edge from a fed placeholder is satisfied by the feed.
            if not (
                before._outputs and not before._inputs and all(t in fed for t in before._outputs)
            ):
                stack.append(before)
    ordered = sorted(needed, key=lambda op: op._id)
    if ordered and ordered[0]._graph._mutations:
        invalid = ordered[0]._graph._invalid_edges
        for op in needed & invalid.keys():
            raise errors.InvalidArgumentError(None, op, invalid[op])
        return _topological(ordered, needed, fed)
    return ordered


def _topological(
    ops: list[Operation], needed: set[Operation], fed: Iterable[Tensor]
) -> list[Operation]:
    """Kahn's algorithm with the oldest ready operation first: edges may point from newer to older operations."""
    fed = set(fed)
    pending: dict[Operation, int] = {}
    after: dict[Operation, list[Operation]] = {}
    for op in ops:
        # What goes back to the next iteration is no reason to wait.
        before = {t._op for t in op._inputs if t not in fed}
        before = {s for s in before if s._definition.flow != Flow.NEXT}
        before.update(c for c in op._control_inputs if c in needed)
        pending[op] = len(before)
        for source in before:
            after.setdefault(source, []).append(op)
    ready = [(op._id, op) for op in ops if not pending[op]]
    heapq.heapify(ready)
    ordered: list[Operation] = []
    while ready:
        _, op = heapq.heappop(ready)
        ordered.append(op)
        for follower in after.get(op, ()):
            pending[follower] -= 1
            if not pending[follower]:
                heapq.heappush(ready, (follower._id, follower))
    if len(ordered) != len(ops):
        stuck = [op._name for op in ops if pending[op]]
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Graph is invalid, contains a cycle with {len(stuck)} nodes, including: {', '.join(sorted(stuck)[:5])}",
        )
    return ordered
