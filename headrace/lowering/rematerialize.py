"""Programs that compute values of the forward pass a second time, instead of keeping them for the backward pass.

The operations before the gradients are cut into stretches. What passes over a cut is kept. Everything else that gradients
need is computed again, stretch by stretch, from what was kept, when the gradients have come so far back (see `tie`). The
more cuts, the less is alive at once within a stretch and the more is kept: the best number is found by trying, on
the sizes that the traced values have. With the method of Chen, Xu, Zhang and Guestrin (2016), from which this is, memory
grows with the square root of the depth; no operation is computed more than twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from headrace.graph.op_def import MAY_FAIL, Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import checks
from headrace.lowering.evaluate import Values, arguments_of, lowered, store_outputs, trace
from headrace.lowering.state import Slot, StateView
from headrace.lowering.tie import tied
from headrace.passes.state_order import StateOrder, is_handle

# How many limits for the size of a stretch are tried.
_TRIALS = 24


@dataclass(frozen=True, slots=True)
class Rematerialize:
    """What a session asks for.

    scope: the name scope of the gradients. budget: how many bytes the values of the forward pass may take while gradients
    are computed; as few as possible where None. marked_only: compute again only operations that carry the attr HINT.
    """

    scope: str
    budget: int | None = None
    marked_only: bool = False


HINT = "_recompute_hint"


@dataclass(frozen=True, slots=True)
class Plan:
    """stretch: of each operation that is computed again, which stretch it is in. constant: those that depend on no input.

    peak: the bytes of what is kept and of the largest stretch, which are there at once.
    """

    stretch: dict[Operation, int]
    constant: frozenset[Operation]
    peak: int


def trace_rematerialized(
    ops: Sequence[Operation],
    values: Values,
    order: StateOrder,
    state: StateView,
    must_fold: set[Operation],
    fed: frozenset[Tensor],
    options: Rematerialize,
) -> None:
    """As `evaluate.trace`, with gradients that use values which are computed again."""
    backward = _backward(ops, options.scope)
    forward: list[Operation] = []
    again: _Again | None = None
    for op in ops:
        if op not in backward:
            trace((op,), values, order, state, must_fold, fed)
            if again is None:
                forward.append(op)
            continue
        if again is None:
            plan = plan_stretches(forward, backward, values, options)
            again = _Again(forward, plan, values, order, state)
        replaced = again.inputs(op, backward)
        if replaced:
            seen = {**values, **replaced}
            trace((op,), seen, order, state, must_fold, fed)
            values.update((t, seen[t]) for t in op._outputs if t in seen)
        else:
            trace((op,), values, order, state, must_fold, fed)


def _backward(ops: Sequence[Operation], scope: str) -> set[Operation]:
    """The operations in the scope of the gradients, and all that depend on them."""
    found: set[Operation] = set()
    for op in ops:
        name = op._name
        in_scope = name.startswith(scope) or f"/{scope}" in name
        if in_scope or any(t._op in found for t in op._inputs):
            found.add(op)
    return found


# ---- the plan


def _is_repeatable(op: Operation, values: Values) -> bool:
    """Whether `op` can be computed again: it computes traced arrays, and leaves no trace but the state of a generator."""
    definition = op._definition
    allowed = MAY_FAIL | Effect.RANDOM | (Effect.STATEFUL if _is_random(op) else 0)
    return (
        bool(op._outputs)
        and definition.lower_rule is not None
        and not definition.effects & ~allowed
        and not definition.writes
        and not definition.function_attrs
        and not any(is_handle(t) for t in op._inputs)
        and all(isinstance(values.get(t), jax.Array) for t in op._outputs)
    )


def _is_random(op: Operation) -> bool:
    return bool(op._definition.effects & Effect.RANDOM)


def _repeatable(
    forward: Sequence[Operation], values: Values
) -> tuple[list[Operation], frozenset[Operation]]:
    """The operations of the forward pass that can be computed again; and variables and what follows from them alone."""
    constant: set[Operation] = set()
    found: list[Operation] = []
    for op in forward:
        reads = any(is_handle(t) for t in op._inputs) or not op._outputs
        given = [t for t in op._inputs if isinstance(values.get(t), jax.Array)]
        if reads or (given and all(t._op in constant for t in given) and not _is_random(op)):
            constant.add(op)
        elif _is_repeatable(op, values):
            found.append(op)
    return found, frozenset(constant)


def plan_stretches(
    forward: Sequence[Operation],
    backward: set[Operation],
    values: Values,
    options: Rematerialize,
) -> Plan:
    """Cuts the forward pass where that leaves the least alive, or as little as the budget asks for."""
    line, constant = _repeatable(forward, values)
    place = {op: i for i, op in enumerate(line)}
    saved, live = _sizes(line, place, backward, values)
    if options.marked_only:
        return Plan(_marked(line), constant, 0)
    total = sum(saved)
    best = Plan({}, constant, total)
    limit = float(total)
    for _ in range(_TRIALS):
        if options.budget is not None and best.peak <= options.budget:
            break
        limit /= 1.3
        stretch, peak = _cut(line, saved, live, limit)
        if peak < best.peak:
            best = Plan(stretch, constant, peak)
    return best


def _marked(line: list[Operation]) -> dict[Operation, int]:
    """The operations with a HINT; those between two without one are a stretch."""
    stretch: dict[Operation, int] = {}
    number = 0
    for op in line:
        if op._attrs.get(HINT):
            stretch[op] = number
        else:
            number += 1
    return stretch


def _sizes(
    line: list[Operation], place: dict[Operation, int], backward: set[Operation], values: Values
) -> tuple[list[int], list[int]]:
    """For each operation the bytes that gradients need of it, and those that are alive behind it for later ones."""
    used_later = {t for op in backward for t in op._inputs}
    saved, last_use = [0] * len(line), list(range(len(line)))
    bytes_of = [0] * len(line)
    counted: set[int] = set()
    for i, op in enumerate(line):
        for tensor in op._outputs:
            value = values[tensor]
            if id(value) in counted:  # passed on as it is
                continue
            counted.add(id(value))
            size = int(value.size) * value.dtype.itemsize
            bytes_of[i] += size
            if tensor in used_later:
                saved[i] += size
    for user, i in place.items():
        for tensor in user._inputs:
            if tensor._op in place:
                last_use[place[tensor._op]] = max(last_use[place[tensor._op]], i)
    changes = [0] * (len(line) + 1)
    for i, size in enumerate(bytes_of):
        changes[i] += size
        changes[last_use[i]] -= size
    live, total = [], 0
    for i in range(len(line)):
        total += changes[i]
        live.append(total)
    return saved, live


def _cut(
    line: list[Operation], saved: list[int], live: list[int], limit: float
) -> tuple[dict[Operation, int], int]:
    """Stretches with at most `limit` bytes for gradients each (one operation may have more), and the bytes at the peak."""
    stretch: dict[Operation, int] = {}
    number, start, size, kept, largest, i = 0, 0, 0, 0, 0, 0
    while i < len(line):
        size += saved[i]
        if size > limit and i > start:
            # Backwards to where the least passes over the cut.
            cut = min(range(start, i), key=lambda p: (live[p], -p))
            stretch.update(dict.fromkeys(line[start : cut + 1], number))
            kept += live[cut]
            largest = max(largest, sum(saved[start : cut + 1]))
            number, start, size, i = number + 1, cut + 1, 0, cut
        i += 1
    # The gradients of the last stretch come at once: there is nothing to gain by computing it again.
    return stretch, kept + max(largest, sum(saved[start:]))


# ---- computing again


class _Reread:
    """The state of a generator as it was before an operation drew from it; what is drawn again changes nothing."""

    def __init__(self, slot: Slot, after: Sequence[Any]) -> None:
        (self._value,) = tied([slot.read()], after)

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._value = value


class _Again:
    """Values of the forward pass, computed a second time stretch by stretch."""

    def __init__(
        self,
        forward: Sequence[Operation],
        plan: Plan,
        values: Values,
        order: StateOrder,
        state: StateView,
    ) -> None:
        self._plan, self._values = plan, values
        self._order, self._state = order, state
        self._done: dict[int, Values] = {}
        self._members: dict[int, list[Operation]] = {}
        for op in forward:
            if op in plan.stretch:
                self._members.setdefault(plan.stretch[op], []).append(op)
        # What a later stretch takes of this one is kept.
        self._kept = {
            t
            for op in forward
            for t in op._inputs
            if t._op in plan.stretch and plan.stretch.get(op) != plan.stretch[t._op]
        }
        self._latest: Any = None

    def inputs(self, op: Operation, backward: set[Operation]) -> Values:
        """The inputs of `op`, of the backward pass, that are to be other values."""
        arrived = [self._values.get(t) for t in op._inputs if t._op in backward]
        arrived = [v for v in arrived if isinstance(v, jax.Array)]
        if arrived:
            self._latest = arrived
        if self._latest is None:
            return {}
        replaced: Values = {}
        for tensor in op._inputs:
            number = self._plan.stretch.get(tensor._op)
            if number is None or tensor in self._kept:
                continue
            if number not in self._done:
                self._done[number] = self._compute(number, self._latest)
            if tensor in self._done[number]:
                replaced[tensor] = self._done[number][tensor]
        return replaced

    def _compute(self, number: int, after: Sequence[Any]) -> Values:
        """The values of a stretch, from what was kept, once the values `after` are there."""
        members = self._members[number]
        inside = set(members)
        found: Values = {}
        with checks.collecting(checks.Collector()):  # these have been checked the first time
            for op in members:
                local = dict.fromkeys(op._inputs)
                for tensor in local:
                    if tensor._op not in inside and tensor not in found:
                        found[tensor] = self._from_outside(tensor, after)
                    local[tensor] = found[tensor]
                arguments = arguments_of(op, local, self._order, self._state)
                if _is_random(op):
                    arguments[0] = _Reread(arguments[0], after)
                store_outputs(op, lowered(op, arguments), found)
        return found

    def _from_outside(self, tensor: Tensor, after: Sequence[Any]) -> Any:
        value = self._values[tensor]
        return value if tensor._op in self._plan.constant else tied([value], after)[0]
