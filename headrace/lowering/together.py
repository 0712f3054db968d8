"""New values of several variables that are computed in one go, in their own buffers: the step of an optimizer.

A buffer can be written in place once the last reader of the old value is done. XLA knows of those that the new value comes of;
before the others it copies the buffer, so a new value takes one element of each of these as operand.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.jax_adapter import current_trace, trace_of, with_results_replaced
from headrace.lowering.tie import tied

# A reader is looked for behind so many operations that only pass elements of a variable on.
_DEPTH = 4


class Together:
    """New versions of variables: `function` of their old values and of others.

    versions: (key, version) of each, the version after that of `old`. op: the operation that writes them.
    """

    __slots__ = ("function", "old", "op", "others", "versions")

    def __init__(
        self,
        versions: tuple[tuple[str, int], ...],
        op: Operation,
        function: Callable[..., Sequence[Any]],
        old: Sequence[Any],
        others: Sequence[Any],
    ) -> None:
        self.versions, self.op, self.function = versions, op, function
        self.old, self.others = old, others

    def values(self, unless: Any, after: Sequence[Any]) -> Sequence[Any]:
        """The new values; the old ones where `unless` (a traced bool or None) is true. after: what is computed first."""
        with jax.named_scope(f"{self.op._name}#{self.op.type}"):
            others = _tied(self.others, after)
            try:
                if unless is None:
                    return self.function(*self.old, *others)
                return _unless(unless, self.function, self.old, others)
            except (ValueError, TypeError) as error:  # as rules raise for shapes that do not fit
                raise self.op.invalid(str(error)) from error


def _tied(others: Sequence[Any], after: Sequence[Any]) -> Sequence[Any]:
    """`others`, the first number of them (or all arrays, where there is none) known to XLA only after `after`."""
    if not after:
        return others
    for i, value in enumerate(others):
        if value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.inexact):
            return [*others[:i], *tied([jnp.asarray(value)], after), *others[i + 1 :]]
    return tied(others, after)


def _unless(
    failed: Any, function: Callable[..., Any], old: Sequence[Any], others: Sequence[Any]
) -> Sequence[Any]:
    """What `function` gives, or `old` where `failed` is true.

    What one new value comes of is another as it is then, too: it need not be computed twice, once with `failed` and once without.
    """

    def guarded(i: int, new: Any) -> Any:
        return jnp.where(failed, old[i], new)

    return with_results_replaced(lambda *values: function(*values, *others), old, guarded)


class Readers:
    """Finds what reads the values that updates replace.

    ops, values: what was traced, for the sake of `outputs` and of what is written. made: those that are products.
    """

    def __init__(
        self,
        ops: Sequence[Operation],
        outputs: Sequence[Tensor],
        values: Mapping[Tensor, Any],
        made: Sequence[Any],
    ) -> None:
        self._ops, self._outputs, self._values, self._made = ops, outputs, values, made

    def of(self, updates: Sequence[Together], keys: Container[str]) -> list[list[Any]]:
        """For each update the values that read what it replaces, and that it does not come of by itself.

        keys: the variables for which that matters.
        """
        if not updates:
            return []
        self._trace, self._opaque = current_trace(), {id(v) for v in self._made}
        self._users: dict[int, list[Operation]] = {}
        for op in self._live():
            for tensor in op._inputs:
                self._users.setdefault(id(self._values.get(tensor)), []).append(op)
        found: list[dict[Tensor, Any]] = []
        for update in updates:
            seen: dict[Tensor, Any] = {}
            for (key, _), old in zip(update.versions, update.old, strict=True):
                if key in keys:
                    seen.update(self._behind(old, old.size, _DEPTH))
            found.append(seen)
        bits: dict[Operation, int] = {}
        for tensor in (t for seen in found for t in seen):
            bits.setdefault(tensor._op, 1 << len(bits))
        before: dict[Operation, int] = {}
        for op in self._ops:
            mask = bits.get(op, 0)
            for tensor in op._inputs:
                mask |= before.get(tensor._op, 0)
            if mask:
                before[op] = mask
        return [
            [v for t, v in seen.items() if not before.get(update.op, 0) & bits[t._op]]
            for update, seen in zip(updates, found, strict=True)
        ]

    def _live(self) -> list[Operation]:
        """The operations of which something comes: XLA leaves the others out."""
        wanted = {t._op for t in self._outputs}
        live = []
        for op in reversed(self._ops):
            if op in wanted or op._definition.writes:
                live.append(op)
                wanted.update(t._op for t in op._inputs)
        return live

    def _behind(self, value: Any, size: int, depth: int) -> Iterator[tuple[Tensor, Any]]:
        """The first arrays that come of `value`: what XLA fuses with what follows reads it as late as that."""
        for op in self._users.get(id(value), ()):
            for tensor in op._outputs:
                out = self._values.get(tensor)
                if not isinstance(out, jax.core.Tracer) or out is value:
                    continue
                if trace_of(out) is not self._trace:
                    continue
                if id(out) in self._opaque or out.size < size:
                    yield tensor, out
                elif depth:
                    yield from self._behind(out, size, depth - 1)
