"""Operations that are traced together: chains as one call (`passes.fuse_convolutions`), sums of products as one product
(`passes.join_products`).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from headrace import native
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.mixed_precision import narrowed
from headrace.passes.fuse_convolutions import Chain, find_chains
from headrace.passes.join_products import find_sums


@dataclass(frozen=True, slots=True)
class Fusions:
    """What of some operations is traced together.

    chains: by their last operation.  sums: additions, each with the products that it adds.  inside: all operations that are
    traced together with one of these.
    """

    chains: Mapping[Operation, Chain]
    sums: Mapping[Operation, Sequence[Operation]]
    inside: Set[Operation]


NOTHING = Fusions({}, {}, frozenset())


def find_fusions(
    ops: Sequence[Operation], wanted: Set[Tensor], fed: Set[Tensor] = frozenset()
) -> Fusions:
    """What of `ops` can be traced together. wanted: tensors that others see. fed: tensors that are given."""
    chains, sums = find_chains(ops, wanted, fed), find_sums(ops, wanted, fed)
    return Fusions(chains.ending, sums, chains.inside.union(*sums.values()))


class _Current(threading.local):
    fusions: Fusions = NOTHING


_current = _Current()


@contextlib.contextmanager
def fusing(fusions: Fusions) -> Iterator[None]:
    """A block in which this thread traces these together, where that can be."""
    before, _current.fusions = _current.fusions, fusions
    try:
        yield
    finally:
        _current.fusions = before


def fusions() -> Fusions:
    """What is traced together in the block that this thread is in."""
    return _current.fusions


def traced(
    chain: Chain, arguments_of: Callable[[Operation, int, Any], list[Any]]
) -> tuple[int, Any] | None:
    """How many operations of a chain, from its first on, one call computes, and what comes of them; None: no call does it.

    arguments_of(op, place, value): what the rule of `op` gets where its input `place` is `value` (as it is where negative).
    """
    if any(narrowed(op) is not None for op in chain.ops):
        return None
    first, *rest = chain.ops
    unfinished = first._definition.start_rule(first, *arguments_of(first, -1, None))  # type: ignore[misc]
    if unfinished is None:
        return None
    count = 1
    for op, place in zip(rest, chain.places, strict=True):
        others = arguments_of(op, place, unfinished)
        del others[place]
        with jax.named_scope(scope_of(op)):
            longer = op._definition.extend_rule(op, unfinished, *others)  # type: ignore[misc]
        if longer is None:
            break
        unfinished, count = longer, count + 1
    with jax.named_scope(";".join(map(scope_of, chain.ops[:count]))):
        return count, unfinished.finish()


def joined(
    op: Operation,
    products: Sequence[Operation],
    arguments_of: Callable[[Operation], list[Any]],
    others: Sequence[Any],
) -> Any:
    """What the addition `op` of `products` and `others` gives, computed as one product; None where that is more work.

    arguments_of: gives what the rule of an operation gets.
    """
    if any(narrowed(one) is not None for one in (op, *products)):
        return None
    lefts, rights = zip(*map(arguments_of, products), strict=True)
    shapes = {(a.shape[1:], b.shape[1:]) for a, b in zip(lefts, rights, strict=True)}
    if len(shapes) > 1 or any(
        a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]
        for a, b in zip(lefts, rights, strict=True)
    ):
        return None  # the products themselves tell what does not fit
    rows, sides = sum(a.shape[0] for a in lefts), (lefts[0].shape[1], rights[0].shape[1])
    # To put the operands one behind the other takes memory too: less than to write and read all products.
    if rows * sum(sides) > len(products) * math.prod(sides):
        return None
    with jax.named_scope(";".join(map(scope_of, (*products, op)))):
        product = native.dot(jnp.concatenate(lefts), jnp.concatenate(rights), transpose_a=True)
        return reduce(jnp.add, others, product)


def scope_of(op: Operation) -> str:
    """The name under which XLA keeps what comes of `op`: profiles are read by it."""
    return f"{op._name}#{op.type}"
