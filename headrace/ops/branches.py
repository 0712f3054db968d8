"""Branches as calls of functions: If, Case. Only the branch that is taken runs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace.core import dtypes
from headrace.graph.op_def import Effect, define
from headrace.lowering.calls import declared_shapes, same_types, truth
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, HostList, common_room

# ---- If, StatelessIf

_IF = (
    "cond: Tcond, input: Tin -> output: Tout",
    "Tcond: type, Tin: list(type) >= 0, Tout: list(type) >= 0, then_branch: func, else_branch: func, "
    "output_shapes: list(shape) = []",
)
if_op = define("If", *_IF, effects=Effect.STATEFUL)
stateless_if = define("StatelessIf", *_IF)

if_op.shape(declared_shapes)
stateless_if.shape(declared_shapes)


@stateless_if.demand
@if_op.demand
def _if_demand(op, outputs, needs):
    return needs("then_branch", 0, outputs) | needs("else_branch", 0, outputs), outputs


@stateless_if.lower
@if_op.lower
def _if_lower(op, functions, cond, inputs):
    if isinstance(cond, np.ndarray):
        return tuple(functions.call("then_branch" if truth(cond) else "else_branch", inputs))
    if cond.ndim:
        return tuple(functions.call("then_branch" if cond.size else "else_branch", inputs))
    return _branch(
        op, functions, jnp.where(cond != 0, 0, 1), ["then_branch", "else_branch"], [0, 0], inputs
    )


def _branch(op, functions, index, attrs, numbers, inputs):
    """One of several branches, as XLA's conditional; variables that any of them writes come out of all of them."""
    values = same_types(functions.values())
    tables: list[list[Any]] = []
    branches = []
    rooms = _rooms_of_branches(op, functions, attrs, numbers, inputs)
    stand_ins = _stand_ins(functions, attrs, numbers, inputs)
    for attr, number in zip(attrs, numbers, strict=True):
        body, table = functions.pure(attr, number)
        tables.append(table)

        place = len(tables) - 1

        def run(body=body, place=place):
            outputs, written, code = body(values, inputs)
            for i, like in stand_ins[place].items():
                outputs[i] = jnp.zeros(like.shape, like.dtype)
            outputs = [
                o if r is None else o.with_room_of(r) for o, r in zip(outputs, rooms, strict=True)
            ]
            before = sum(len(t) for t in tables[:place])
            return (
                same_types(outputs),
                written,
                jnp.where(code > 0, code + before, 0).astype(jnp.int32),
            )

        branches.append(run)
    try:
        outputs, written, code = lax.switch(index, branches)
    except TypeError as error:
        raise NotCompilable(op, f"its branches give different types or shapes ({error})") from error
    functions.write(written)
    functions.check(code, tables)
    return tuple(outputs)


def _stand_ins(functions, attrs, numbers, inputs):
    """For each branch its outputs that nobody looks at, and what they are like in the branch that computes them."""
    bodies = list(zip(attrs, numbers, strict=True))
    empty = [
        {
            i
            for i, t in enumerate(functions.body_graph(attr, number).outputs)
            if t._op.type == "FakeParam" and t._dtype is not dtypes.variant
            if t._dims is None or None in t._dims
        }
        for attr, number in bodies
    ]
    found = [{} for _ in bodies]
    if not any(empty):
        return found
    known = [isinstance(v, np.ndarray) for v in inputs]
    outputs = [functions.probe(attr, inputs, known, number)[0] for attr, number in bodies]
    for place, places in enumerate(empty):
        for i in places:
            real = (o[i] for o, e in zip(outputs, empty, strict=True) if i not in e)
            found[place][i] = next(real, outputs[place][i])
    return found


def _rooms_of_branches(op, functions, attrs, numbers, inputs):
    """For each output that is a list: one with the room that the lists of all branches need; None for the others."""
    kinds = op.attr("Tout")
    if dtypes.variant not in kinds:
        return [None] * len(kinds)
    known = [isinstance(v, np.ndarray) for v in inputs]
    outputs = [
        functions.probe(attr, inputs, known, number)[0]
        for attr, number in zip(attrs, numbers, strict=True)
    ]
    return [
        common_room(lists) if isinstance(lists[0], DeviceList) else None
        for lists in zip(*outputs, strict=True)
    ]


@stateless_if.host
@if_op.host
def _if_host(op, functions, cond, inputs):
    return tuple(functions.call("then_branch" if truth(cond) else "else_branch", inputs))


# ---- Case

case = define(
    "Case",
    "branch_index: int32, input: Tin -> output: Tout",
    "Tin: list(type) >= 0, Tout: list(type) >= 0, branches: list(func) >= 1, output_shapes: list(shape) = []",
    effects=Effect.STATEFUL,
)

case.shape(declared_shapes)


@case.demand
def _case_demand(op, outputs, needs):
    numbers = range(len(op.attr("branches")))
    return set().union(*(needs("branches", i, outputs) for i in numbers)), outputs


@case.lower
def _case_lower(op, functions, branch_index, inputs):
    if isinstance(branch_index, np.ndarray):
        return _case_host(op, functions, branch_index, inputs)
    count = functions.count("branches")
    # Any other number chooses the last branch.
    inside = (branch_index >= 0) & (branch_index < count)
    index = jnp.where(inside, branch_index, count - 1).reshape(())
    return _branch(op, functions, index, ["branches"] * count, range(count), inputs)


@case.host
def _case_host(op, functions, branch_index, inputs):
    count = functions.count("branches")
    index = int(np.asarray(branch_index).reshape(()))
    return tuple(functions.call("branches", inputs, index if 0 <= index < count else count - 1))


# ---- FakeParam: stands for what only the other branch computes

fake_param = define("FakeParam", "-> output: dtype", "dtype: type, shape: shape")


@fake_param.shape
def _fake_param_shape(op):
    return op.attr("shape")._dims


@fake_param.lower
def _fake_param_lower(op):
    if op.attr("dtype") is dtypes.variant:
        return DeviceList(None, None, 0)
    return _fake_param_host(op)


@fake_param.host
def _fake_param_host(op):
    if op.attr("dtype") is dtypes.variant:
        return HostList(None, ())
    dims = op.attr("shape")._dims
    shape = () if dims is None else tuple(d or 0 for d in dims)
    return np.zeros(shape, op.attr("dtype").np_dtype)


fake_param.not_differentiable()
