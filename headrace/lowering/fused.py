"""Chains of operations that are traced as one call (see `passes.fuse_convolutions`)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from headrace.graph.operation import Operation
from headrace.lowering.mixed_precision import narrowed
from headrace.passes.fuse_convolutions import NONE, Chain, Chains


class _Current(threading.local):
    chains: Chains = NONE


_current = _Current()


@contextlib.contextmanager
def fusing(chains: Chains) -> Iterator[None]:
    """A block in which this thread traces these chains as one call each, where that can be."""
    before, _current.chains = _current.chains, chains
    try:
        yield
    finally:
        _current.chains = before


def chains() -> Chains:
    """The chains of the block that this thread is in."""
    return _current.chains


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


def scope_of(op: Operation) -> str:
    """The name under which XLA keeps what comes of `op`: profiles are read by it."""
    return f"{op._name}#{op.type}"
