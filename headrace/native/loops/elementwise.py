"""Elementwise programs: what `src/elementwise.h` interprets, made of operations on values without a place.

A value is a number; registers, of which a block of numbers each fits the first cache, are given to values while they live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# In the order of `Op` in src/elementwise.h.
_OPCODES = {
    name: number
    for number, name in enumerate(
        "load store copy add sub mul div max min neg abs sign sqrt rsqrt exp tanh logistic "
        "lt le gt ge eq ne add_int sub_int mul_int max_int min_int lt_int le_int gt_int ge_int eq_int ne_int "
        "and or xor not select int_to_float truth_to_float truth_to_int float_to_truth int_to_truth".split()
    )
}
WORD, BYTE, SCALAR, SCALAR_TRUTH = range(4)


@dataclass(frozen=True)
class View:
    """Where elements lie: from `offset` on after a base, in steps for each row and column; all counted in elements."""

    base: int
    offset: int
    row_stride: int
    column_stride: int
    element: int


@dataclass(frozen=True)
class Step:
    """One operation on values; `out` is the value it gives (None: a store)."""

    op: str
    out: int | None
    inputs: tuple[int, ...] = ()
    view: View | None = None


def encode(rows: int, columns: int, steps: Sequence[Step], constants: dict[int, int]) -> list[int]:
    """The program as numbers. constants: values that are the same everywhere, by their bits."""
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        for value in step.inputs:
            last[value] = at
    places = {value: number for number, value in enumerate(constants)}
    free: list[int] = []
    registers = len(constants)
    views: dict[View, int] = {}
    code: list[int] = []
    count = 0
    for at, step in enumerate(steps):
        operands = [places[v] for v in step.inputs]
        for value in dict.fromkeys(step.inputs):
            if last[value] == at and value not in constants:
                free.append(places[value])
        number = 0 if step.view is None else views.setdefault(step.view, len(views))
        out = 0
        if step.out is not None:
            if free:
                out = free.pop()
            else:
                out, registers = registers, registers + 1
            places[step.out] = out
            if step.out not in last:
                free.append(out)
        fields = {"load": [number], "store": [*operands, number]}.get(step.op, operands)
        code += [_OPCODES[step.op], out, *fields, *[0] * (3 - len(fields))]
        count += 1
    encoded = [rows, columns, registers, len(views)]
    for view in views:
        encoded += [view.base, view.offset, view.row_stride, view.column_stride, view.element]
    encoded.append(len(constants))
    for value, bits in constants.items():
        encoded += [places[value], bits]
    return [*encoded, count, *code]


def bits_of(value: object, dtype: np.dtype) -> int:
    """The lane of a constant: a float, an integer, or a truth value."""
    if dtype == np.bool_:
        return 0xFFFFFFFF if value else 0
    return int(np.asarray(value, dtype).view(np.uint32))
