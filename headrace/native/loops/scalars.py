"""The scalar part of a loop's body: counters, places in lists, conditions (see src/scalars.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.native.loops.body import Node, NotCovered

if TYPE_CHECKING:
    from headrace.native.loops.plan import Plan

# In the order of `ScalarOp` in src/scalars.h.
_OPCODES = {
    name: number
    for number, name in enumerate(
        "constant add sub mul max min neg lt le gt ge eq ne and or xor not select narrow copy load store".split()
    )
}
_SAME = {"squeeze", "reshape", "broadcast_in_dim", "expand_dims", "copy"}
_ARITHMETIC = {"add", "sub", "mul", "neg"}
_PLAIN = {"max", "min", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor"}


class Scalars:
    """Instructions, each computed once in an iteration, before anything else."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.code: list[tuple[int, int, int, int, int]] = []
        # For each carried number: its register, that of its next value, input, output, bytes.
        self.carried: list[tuple[int, int, int, int, int]] = []
        self.count = 0
        self._registers: dict[Node, int] = {}
        self._known: dict[tuple[str, tuple[int, ...]], int] = {}

    def register(self, node: Node) -> int:
        """The register that holds a scalar."""
        if node not in self._registers:
            self.add(node)
        return self._registers[node]

    def add(self, node: Node) -> None:
        """Adds what computes a scalar, or writes one to a list. Raises NotCovered."""
        if node in self._registers:
            return
        if node.op == "dynamic_update_slice":
            self._store(node)
            return
        if node.op == "literal":
            self._registers[node] = self._emit("constant", int(node.value.reshape(())))
        elif node.op == "carry" and not node.invariant:
            self._registers[node] = self._new()
        elif node.op in ("carry", "constant"):
            self._registers[node] = self._operand(node)
        elif node.op == "dynamic_slice":
            self._registers[node] = self._load(node)
        else:
            self._registers[node] = self._computed(node)

    def carry(self, place: int, result: Node) -> None:
        """Notes what the carried number at `place` is after an iteration."""
        carry = self._plan.body.carries[place]
        known = self._plan.operand(carry), self._plan.output(place), carry.dtype.itemsize
        self.carried.append((self.register(carry), self.register(result), *known))

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _emit(self, op: str, *fields: int) -> int:
        if op in ("load", "store"):
            key = (op, (*fields, len(self.code)))
        else:
            key = op, fields
        if key not in self._known:
            self._known[key] = self._new()
            a, b, c = (*fields, 0, 0, 0)[:3]
            self.code.append((_OPCODES[op], self._known[key], a, b, c))
        return self._known[key]

    def _operand(self, node: Node) -> int:
        """An invariant of the surroundings: a list of one element."""
        number = self._plan.list_of_one(node)
        return self._emit("load", number, self._emit("constant", 0))

    def _load(self, node: Node) -> int:
        if len(node.inputs[0].shape) != 1:
            raise NotCovered("a number from a list of other things")
        number = self._plan.list_read(node)
        return self._emit("load", number, self.register(node.inputs[1]))

    def _store(self, node: Node) -> None:
        number = self._plan.list_written(node)
        self._emit("store", number, self.register(node.inputs[2]), self.register(node.inputs[1]))

    def _computed(self, node: Node) -> int:
        if any(not (i.size == 1 and i.dtype.kind in "ib") for i in node.inputs):
            raise NotCovered(f"a whole number that {node.op} makes of other things")
        inputs = [self.register(i) for i in node.inputs]
        if node.op in _SAME:
            return inputs[0]
        if node.op in _ARITHMETIC and node.dtype != np.bool_:
            found = self._emit(node.op, *inputs)
            return self._emit("narrow", found) if node.dtype == np.int32 else found
        if node.op in _PLAIN:
            return self._emit(node.op, *inputs)
        if node.op == "not" and node.dtype == np.bool_:
            return self._emit("not", *inputs)
        if node.op == "select_n" and len(inputs) == 3 and node.inputs[0].dtype == np.bool_:
            return self._emit("select", *inputs)
        if node.op == "clamp":
            low, x, high = inputs
            return self._emit("min", self._emit("max", x, low), high)
        if node.op == "convert_element_type":
            if node.dtype == np.bool_:
                return self._emit("ne", inputs[0], self._emit("constant", 0))
            if node.dtype == np.int32:
                return self._emit("narrow", inputs[0])
            if node.dtype == np.int64:
                return inputs[0]
        raise NotCovered(f"{node.op} of whole numbers")
