"""The scalar part of a loop's body: counters, places in lists, conditions (see src/scalars.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.native.library import kernels
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
_NAMES = list(_OPCODES)
_OPERANDS = {"neg": 1, "not": 1, "narrow": 1, "copy": 1, "select": 3}
_SAME = {"squeeze", "reshape", "broadcast_in_dim", "expand_dims", "copy"}
_ARITHMETIC = {"add", "sub", "mul", "neg"}
_PLAIN = {"max", "min", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor"}


class Counting:
    """The instructions on which the end of a loop depends.

    carried: for each number the register, that of its next value, and the plan's input that it starts from. lists: of those
    that are read, the plan's input and the size of an element.
    """

    def __init__(
        self,
        code: list[tuple[int, int, int, int, int]],
        registers: int,
        goes_on: int,
        carried: list[tuple[int, int, int]],
        lists: list[tuple[int, int]],
    ) -> None:
        self._code = np.array(code, np.int64).reshape(-1, 5)
        self._carried, self._lists = carried, lists
        self._registers, self._goes_on = registers, goes_on

    def count(self, inputs: Callable[[int], Any], most: int) -> int | None:
        """How often the condition holds before it does not; None: more than `most` times.

        inputs: gives those of the plan by number.
        """
        starts = [(r, after, int(np.reshape(inputs(i), ()))) for r, after, i in self._carried]
        carried = np.array(starts, np.int64).reshape(-1, 3)
        arrays = [np.ascontiguousarray(inputs(i)) for i, _ in self._lists]
        places = [
            (a.ctypes.data, a.size, size) for a, (_, size) in zip(arrays, self._lists, strict=True)
        ]
        lists = np.array(places, np.int64).reshape(-1, 3)
        found = kernels().headrace_host_count(
            *(n for a in (self._code, carried, lists) for n in (a.ctypes.data, len(a))),
            self._registers,
            self._goes_on,
            most,
        )
        return None if found < 0 else found


def _operands(line: tuple[int, int, int, int, int]) -> list[int]:
    """The registers that an instruction reads."""
    op = _NAMES[line[0]]
    if op == "constant":
        return []
    if op == "load":
        return [line[3]]
    return list(line[2 : 2 + _OPERANDS.get(op, 2)])


class Scalars:
    """Instructions, each computed once in an iteration, before anything else."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.code: list[tuple[int, int, int, int, int]] = []
        # For each carried number: its register, that of its next value, input, output, bytes.
        self.carried: list[tuple[int, int, int, int, int]] = []
        self.registers = 0
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

    def counting(self, condition: Node) -> Counting:
        """What of the code tells how often `condition` holds.

        Raises NotCovered: that depends on what the loop writes to a list.
        """
        goes_on = self.register(condition)
        by_output = {line[1]: line for line in self.code if line[0] != _OPCODES["store"]}
        carried = {register: (after, source) for register, after, source, *_ in self.carried}
        needed: set[int] = set()
        stack = [goes_on]
        while stack:
            register = stack.pop()
            if register in needed:
                continue
            needed.add(register)
            if register in carried:
                stack.append(carried[register][0])
            elif register in by_output:
                stack += _operands(by_output[register])
        code = [line for register, line in by_output.items() if register in needed]
        lists: list[tuple[int, int]] = []
        for at, (op, out, number, place, last) in enumerate(code):
            if op == _OPCODES["load"]:
                found = self._plan.lists[number]
                if found.output >= 0:
                    raise NotCovered("a condition on what the loop writes to a list")
                code[at] = op, out, len(lists), place, last
                lists.append((found.input, found.size))
        starts = [(r, *after) for r, after in carried.items() if r in needed]
        return Counting(code, self.registers, goes_on, starts, lists)

    def _new(self) -> int:
        self.registers += 1
        return self.registers - 1

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
