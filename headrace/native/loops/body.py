"""The body of a loop as a graph of JAX's primitives, with what JAX calls as functions put in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend.core import Literal

# Primitives that only call a function, and the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
_SAME = frozenset({"copy", "copy_p", "stop_gradient"})


class NotCovered(Exception):
    """What of a body no native loop can do."""


@dataclass(eq=False)
class Node:
    """One result of one primitive; or the operand `index` of the body: "constant", "carry", or "literal" (`value`)."""

    op: str
    shape: tuple[int, ...]
    dtype: np.dtype
    inputs: tuple[Node, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    primitive: Any = None
    index: int = 0
    value: Any = None
    users: list[Node] = field(default_factory=list)
    # Whether it is the same in all iterations.
    invariant: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


class Body:
    """The live nodes of a body in order, its operands, and for each carried value what it is after an iteration.

    fixed: which carried values the body passes on unchanged. others: what it computes besides.

    closed: the body as JAX traced it. carried: how many of its operands, from the first on, are carried; the others are
    constants, after those that it holds.
    """

    def __init__(self, closed: Any, carried: int | None = None) -> None:
        self._all: list[Node] = []
        jaxpr = closed.jaxpr
        self.constants = [
            self._operand("constant", i, v.aval) for i, v in enumerate(jaxpr.constvars)
        ]
        held = len(self.constants)
        self.carries = [
            self._operand("carry", i, v.aval) for i, v in enumerate(jaxpr.invars[:carried])
        ]
        self.constants += [
            self._operand("constant", held + i, v.aval)
            for i, v in enumerate(jaxpr.invars[len(self.carries) :])
        ]
        operands = [*self.constants[:held], *self.carries, *self.constants[held:]]
        results = self._inline(jaxpr, operands)
        self.results, self.others = results[: len(self.carries)], results[len(self.carries) :]
        self.fixed = [out is into for into, out in zip(self.carries, self.results, strict=True)]
        self.nodes = self._live()
        for node in self.nodes:
            if node.op == "carry":
                node.invariant = self.fixed[node.index]
            else:
                node.invariant = node.op in ("constant", "literal") or all(
                    i.invariant for i in node.inputs
                )
            for i in node.inputs:
                i.users.append(node)

    def _operand(self, op: str, index: int, aval: Any) -> Node:
        node = Node(op, tuple(aval.shape), np.dtype(aval.dtype), index=index)
        self._all.append(node)
        return node

    def _live(self) -> list[Node]:
        wanted: set[Node] = set()
        stack = [r for r, fixed in zip(self.results, self.fixed, strict=True) if not fixed]
        stack += self.others
        while stack:
            node = stack.pop()
            if node not in wanted:
                wanted.add(node)
                stack.extend(node.inputs)
        return [n for n in self._all if n in wanted]

    def _literal(self, value: Any) -> Node:
        array = np.asarray(value)
        node = Node("literal", array.shape, array.dtype, value=array)
        self._all.append(node)
        return node

    def _inline(self, jaxpr: Any, operands: Sequence[Node]) -> list[Node]:
        """Adds what `jaxpr` computes of `operands` (its constants first); returns its results."""
        env: dict[Any, Node] = dict(zip([*jaxpr.constvars, *jaxpr.invars], operands, strict=True))

        def read(atom: Any) -> Node:
            if isinstance(atom, Literal):
                value = np.asarray(atom.val, getattr(atom.aval, "dtype", None))
                return self._literal(value)
            return env[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(v) for v in eqn.invars]
            name = eqn.primitive.name
            if name in _CALLS:
                called = eqn.params[_CALLS[name]]
                constants = [self._literal(c) if _is_known(c) else c for c in called.consts]
                if any(not isinstance(c, Node) for c in constants):
                    outs = self._plain(eqn, inputs)
                else:
                    outs = self._inline(called.jaxpr, [*constants, *inputs])
            elif name in _SAME or _changes_nothing(eqn, inputs):
                outs = inputs[:1]
            elif (
                name == "add"
                and _is_zero(inputs[1])
                and inputs[0].shape == eqn.outvars[0].aval.shape
            ):
                outs = inputs[:1]  # as XLA has it, too
            elif (
                name == "add"
                and _is_zero(inputs[0])
                and inputs[1].shape == eqn.outvars[0].aval.shape
            ):
                outs = inputs[1:]
            else:
                outs = self._plain(eqn, inputs)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _plain(self, eqn: Any, inputs: Sequence[Node]) -> list[Node]:
        nodes = [
            Node(
                eqn.primitive.name,
                tuple(getattr(v.aval, "shape", ())),
                np.dtype(getattr(v.aval, "dtype", np.float32)),
                tuple(inputs),
                eqn.params,
                eqn.primitive,
                index=i,
            )
            for i, v in enumerate(eqn.outvars)
        ]
        self._all += nodes
        return nodes


def _is_known(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, int, float, bool))


def _changes_nothing(eqn: Any, inputs: Sequence[Node]) -> bool:
    """Whether the result is the operand, in shape and type."""
    name, (node, *_) = eqn.primitive.name, inputs or [None]
    aval = eqn.outvars[0].aval
    if node is None or name not in ("convert_element_type", "reshape", "broadcast_in_dim", "split"):
        return False
    return len(eqn.outvars) == 1 and aval.shape == node.shape and aval.dtype == node.dtype


def _is_zero(node: Node) -> bool:
    """Whether all elements are known to be zero."""
    while node.op in ("broadcast_in_dim", "reshape"):
        node = node.inputs[0]
    return node.op == "literal" and node.value.dtype.kind == "f" and not np.any(node.value)


def evaluate(node: Node, operand: Any, known: dict[Node, Any]) -> Any:
    """The value of an invariant node, computed outside of the loop; operand(node): that of a constant or a carry."""
    if node not in known:
        if node.op == "literal":
            known[node] = node.value
        elif node.op in ("constant", "carry"):
            known[node] = operand(node)
        else:
            inputs = [evaluate(i, operand, known) for i in node.inputs]
            results = node.primitive.bind(*inputs, **node.params)
            known[node] = results[node.index] if node.primitive.multiple_results else results
    return known[node]
