"""What the values in the body of a loop are to its plan: places in memory, registers, known numbers, parts of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.native.loops.body import Node, NotCovered
from headrace.native.loops.elementwise import BYTE, WORD

# In the order of `BaseKind` in src/loop.cc.
INPUT, OUTPUT, SCRATCH, ELEMENT, CARRIED, CARRIED_NEXT = range(6)

FLOAT, INT, BOOL = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.bool_)

_SAME_FOR_ALL = {"and", "or", "xor", "not"}
_FLOAT_OPS = {
    *(
        "add",
        "sub",
        "mul",
        "div",
        "max",
        "min",
        "neg",
        "abs",
        "sign",
        "sqrt",
        "rsqrt",
        "exp",
        "tanh",
    ),
    *("logistic", "lt", "le", "gt", "ge", "eq", "ne"),
}
_INT_OPS = {"add", "sub", "mul", "max", "min", "lt", "le", "gt", "ge", "eq", "ne"}
_CONVERSIONS = {
    (INT, FLOAT): "int_to_float",
    (BOOL, FLOAT): "truth_to_float",
    (BOOL, INT): "truth_to_int",
    (FLOAT, BOOL): "float_to_truth",
    (INT, BOOL): "int_to_truth",
}


@dataclass(frozen=True)
class Memory:
    """Elements that lie somewhere after `phase` (-1: before the iteration); strides in elements, one for each axis."""

    base: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: int
    phase: int = -1

    @property
    def place(self) -> tuple[int, int, tuple[int, ...]]:
        """Which elements they are."""
        kept = tuple(s for n, s in zip(self.shape, self.strides, strict=True) if n != 1)
        return self.base, self.offset, kept

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie one behind the other."""
        return all(
            n == 1 or s == d
            for n, s, d in zip(self.shape, self.strides, dense(self.shape), strict=True)
        )


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of elements that lie one behind the other."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(eq=False)
class Cluster:
    """Elementwise operations of one shape in one phase."""

    phase: int
    shape: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    copies: list[tuple[Any, Memory]] = field(default_factory=list)
    stores: list[tuple[Node, Memory]] = field(default_factory=list)


@dataclass(frozen=True)
class Splat:
    """The same known number everywhere."""

    value: Any
    dtype: np.dtype


@dataclass(frozen=True)
class Pending:
    """What a cluster computes and keeps in a register."""

    cluster: Cluster


@dataclass(frozen=True)
class Joined:
    """Parts behind one another along `axis`."""

    parts: tuple[Node, ...]
    axis: int


@dataclass(frozen=True)
class Reshaped:
    """The elements of another node in the same order."""

    node: Node


@dataclass(frozen=True)
class Dot:
    """out = left packed."""

    phase: int
    left: Memory
    packed: int
    out: Memory
    sizes: tuple[int, int, int, int]


@dataclass(frozen=True)
class Reduction:
    """Sums, or largest elements, of the columns or rows of a matrix."""

    phase: int
    is_max: bool
    of_rows: bool
    source: Memory
    rows: int
    columns: int
    out: Memory


@dataclass
class List:
    """Elements of `size` bytes one behind the other. output: -1 if none is written; written: in which phase, and where."""

    input: int
    output: int
    size: int
    written: tuple[int, Memory] | None = None


def is_scalar(node: Node) -> bool:
    """Whether it is one whole number or truth value."""
    return node.size == 1 and node.dtype.kind in "ib"


def is_list_of_scalars(node: Node) -> bool:
    """Whether it is a list of whole numbers to which one is written."""
    return node.op == "dynamic_update_slice" and len(node.shape) == 1 and is_scalar(node.inputs[1])


def element(node: Node) -> int:
    """How the elements lie in memory."""
    return BYTE if node.dtype == BOOL else WORD


def element_size(node: Node) -> int:
    """The bytes of an element."""
    return node.dtype.itemsize


def opcode(node: Node) -> str:
    """The elementwise operation that computes a node."""
    kinds = [i.dtype for i in node.inputs]
    if node.op == "convert_element_type":
        found = _CONVERSIONS.get((kinds[0], node.dtype))
        if found is None:
            raise NotCovered(f"a conversion of {kinds[0]} to {node.dtype}")
        return found
    if node.op == "select_n" and len(kinds) == 3 and kinds[0] == BOOL:
        return "select"
    if node.op == "square" and kinds[0] == FLOAT:
        return "mul"
    if node.op == "integer_pow" and node.params["y"] == 2 and kinds[0] == FLOAT:
        return "mul"
    if node.op in _SAME_FOR_ALL and all(k == BOOL for k in kinds):
        return node.op
    if node.op in _FLOAT_OPS and all(k == FLOAT for k in kinds):
        return node.op
    if node.op in _INT_OPS and all(k == INT for k in kinds):
        return f"{node.op}_int"
    raise NotCovered(f"{node.op} of {', '.join(map(str, kinds))}")


def part(
    memory: Memory, starts: Sequence[int], shape: tuple[int, ...], steps: Sequence[int] | None
) -> Memory:
    """The elements of `memory` from `starts` on, every `steps`-th along each axis."""
    steps = steps or (1,) * len(shape)
    offset = memory.offset + sum(a * s for a, s in zip(starts, memory.strides, strict=True))
    strides = tuple(a * s for a, s in zip(steps, memory.strides, strict=True))
    return Memory(memory.base, offset, shape, strides, memory.element, memory.phase)


def reshaped(memory: Memory, shape: tuple[int, ...]) -> Memory | None:
    """The same elements in the same order; None where no strides say so."""
    kept = [(n, s) for n, s in zip(memory.shape, memory.strides, strict=True) if n != 1]
    strides: tuple[int, ...] | None = None
    if [n for n, _ in kept] == [n for n in shape if n != 1]:
        rest = iter(kept)
        strides = tuple(0 if n == 1 else next(rest)[1] for n in shape)
    elif memory.is_dense:
        strides = dense(shape)
    if strides is None:
        return None
    return Memory(memory.base, memory.offset, shape, strides, memory.element, memory.phase)
