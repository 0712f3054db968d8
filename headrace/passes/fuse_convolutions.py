"""Finds convolutions that one call can compute together with what follows: bias, normalisation, a sum, an activation.

Which operations can start such a chain, and which can continue one and at which of their inputs, is in their records (`start`
and `extend`). Whether a kernel does it is found out while the chain is traced: see `lowering.fused`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Chain:
    """Operations of which each uses the first output of the one before it, which nobody else uses.

    places: at which input it does, for all but the first.
    """

    ops: tuple[Operation, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chains:
    """The chains among some operations: `ending`, by the last operation; `inside`, all but the last ones."""

    ending: dict[Operation, Chain]
    inside: frozenset[Operation]


NONE = Chains({}, frozenset())


def find_chains(
    ops: Sequence[Operation], wanted: Set[Tensor], fed: Set[Tensor] = frozenset()
) -> Chains:
    """The chains of at least two of `ops`, which run in this order.

    wanted: tensors that others see. fed: tensors that are given.
    """
    starts = [op for op in ops if op._definition.start_rule is not None]
    if not starts:
        return NONE
    uses: dict[Tensor, list[tuple[Operation, int]]] = {}
    for op in ops:
        for place, tensor in enumerate(op._inputs):
            uses.setdefault(tensor, []).append((op, place))

    def is_seen(op: Operation) -> bool:
        """Whether anything but the first output is asked for."""
        return any(t in uses or t in wanted for t in op._outputs[1:])

    def continues(tensor: Tensor) -> tuple[Operation, int] | None:
        """The only use of `tensor`, if it continues a chain."""
        found = uses.get(tensor, ())
        if len(found) != 1 or tensor in wanted or tensor in fed:
            return None
        op, place = found[0]
        if op in taken or place not in op._definition.extends:
            return None
        return None if op._outputs[0] in fed or is_seen(op) else (op, place)

    taken: set[Operation] = set()
    ending: dict[Operation, Chain] = {}
    for start in starts:
        output = start._outputs[0]
        if output in fed or output._dtype != dtypes.float32:
            continue
        chain, places = [start], []
        while (found := continues(chain[-1]._outputs[0])) is not None:
            chain.append(found[0])
            places.append(found[1])
        if len(chain) > 1:
            taken.update(chain)
            ending[chain[-1]] = Chain(tuple(chain), tuple(places))
    return Chains(ending, frozenset(taken.difference(ending)))
