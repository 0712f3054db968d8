"""Writes the plan of a loop as the numbers that `src/loop.cc` reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from headrace.native.loops import elementwise
from headrace.native.loops.body import Node, NotCovered
from headrace.native.loops.elementwise import SCALAR, SCALAR_TRUTH, Step, View
from headrace.native.loops.plan import Plan
from headrace.native.loops.values import INPUT, Cluster, Memory, Splat, opcode


def encode(plan: Plan) -> list[int]:
    """The program of the loop: what is carried, its lists, where operands lie, and the work of each phase."""
    dots = [
        (
            d.phase,
            [
                *d.sizes,
                d.left.base,
                d.left.offset,
                _packed_base(plan, d.packed),
                d.out.base,
                d.out.offset,
            ],
        )
        for d in plan.dots
    ]
    reductions = [
        (
            r.phase,
            [
                int(r.is_max),
                int(r.of_rows),
                r.source.base,
                r.source.offset,
                r.rows,
                r.columns,
                r.columns,
            ]
            + [r.out.base, r.out.offset],
        )
        for r in plan.reductions
    ]
    clusters = [(c.phase, _ClusterCode(plan, c).encoded) for c in plan.clusters]
    work = clusters, dots, reductions
    phases = sorted({phase for kind in work for phase, _ in kind})
    code = [plan.scalars.registers, plan.scratch_bytes]
    code += _counted(plan.scalars.carried)
    code += _counted(plan.carried)
    code += _counted((x.input, x.output, x.size) for x in plan.lists)
    code += _counted(plan.bases)
    code += _counted(plan.scalars.code)
    code.append(len(phases))
    for phase in phases:
        for kind in work:
            code += _counted(numbers for at, numbers in kind if at == phase)
    return code


def _packed_base(plan: Plan, operand: int) -> int:
    return plan.base(INPUT, operand)


def _counted(records: Iterable[Iterable[int]]) -> list[int]:
    written = [list(r) for r in records]
    return [len(written), *(n for r in written for n in r)]


class _ClusterCode:
    """The steps of one cluster, value by value."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self._plan, self._cluster = plan, cluster
        self._rows, self._columns = _as_matrix(cluster.shape)
        self._steps: list[Step] = []
        self._constants: dict[int, int] = {}
        self._values: dict[Any, int] = {}
        self._nodes: dict[Node, int] = {}
        kept: dict[Node, list[Memory]] = {}
        for node, to in cluster.stores:
            kept.setdefault(node, []).append(to)
        read = {o.base for o in plan.operands_of(cluster)}
        late: list[Step] = []  # what is read here, too, is written at the end
        for node in cluster.nodes:
            operands = tuple(self._operand(i) for i in node.inputs)
            if node.op in ("square", "integer_pow"):
                operands *= 2
            value = self._nodes[node] = self._number()
            self._steps.append(Step(opcode(node), value, operands))
            for to in kept.get(node, ()):
                (late if to.base in read else self._steps).append(self._stored(value, to))
        for source, to in cluster.copies:
            late.append(self._stored(self._load(source), to))
        self._steps += late
        self.encoded = elementwise.encode(self._rows, self._columns, self._steps, self._constants)

    def _number(self) -> int:
        return len(self._nodes) + len(self._values)

    def _operand(self, node: Node) -> int:
        if node in self._nodes:
            return self._nodes[node]
        where = self._plan.value(node)
        return self._load(where if isinstance(where, Splat) else self._plan.memory(node))

    def _load(self, where: Any) -> int:
        if isinstance(where, Splat):
            key: Any = elementwise.bits_of(where.value, where.dtype)
        else:
            key = self._view(where)
        if key not in self._values:
            value = self._values[key] = self._number()
            if isinstance(where, Splat):
                self._constants[value] = key
            else:
                self._steps.append(Step("load", value, (), key))
        return self._values[key]

    def _stored(self, value: int, to: Memory) -> Step:
        return Step("store", None, (value,), self._view(to))

    def _view(self, memory: Memory) -> View:
        shape = self._cluster.shape
        strides = memory.strides
        if memory.element in (SCALAR, SCALAR_TRUTH) or memory.shape == ():
            strides = (0,) * len(shape)
        elif memory.shape != shape:  # an axis of one element may stand for more
            if len(strides) != len(shape):
                raise NotCovered("an operand of another rank")
            strides = tuple(0 if n == 1 else s for n, s in zip(memory.shape, strides, strict=True))
        row, column = _matrix_strides(shape, strides)
        return View(memory.base, memory.offset, row, column, memory.element)


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    columns = shape[-1] if shape else 1
    return int(np.prod(shape[:-1], dtype=np.int64)), columns


def _matrix_strides(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """The strides of the rows and columns of what is a matrix once all axes but the last are one."""
    if not shape:
        return 0, 0
    row, step, before = 0, None, 1
    for n, stride in zip(reversed(shape[:-1]), reversed(strides[:-1]), strict=True):
        if n == 1:
            continue
        if step is None:
            row = stride
        elif stride != step * before:
            raise NotCovered("elements in an order of more than two axes")
        step, before = stride, n
    return row, 0 if shape[-1] == 1 else strides[-1]


# ---- views: the same elements under another shape
