"""Control flow as calls of functions: If, While, and plain calls. Only the branch that is taken runs."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace import native
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks, context, loop_body
from headrace.lowering.deferred_sums import DeferredSums
from headrace.lowering.loop_products import MovedProducts
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, HostList, common_room, guessed_room

# A loop that goes on longer than this in the interpreter, in iterations and in seconds, is worth compiling.
_INTERPRETED_ITERATIONS = 50
_INTERPRETED_SECONDS = 0.7
# Iterations are counted while tracing up to here (a few microseconds each).
_MOST_COUNTED = 20_000


def _declared_shapes(op, *inputs):
    """The attr `output_shapes`, or nothing known."""
    declared = op.attr("output_shapes")
    if not declared:
        return [None] * len(op.outputs)
    return [s._dims if isinstance(s, TensorShape) else s for s in declared]


def _truth(cond) -> bool:
    """Whether a condition holds: a true or non-zero scalar, a string or tensor that is not empty."""
    value = np.asarray(cond)
    if value.ndim:
        return value.size > 0
    item = value[()]
    return len(item) > 0 if isinstance(item, (bytes, str)) else bool(item)


def _same_types(values: list[Any]) -> list[Any]:
    """Values as arrays without JAX's weak types, as branches and iterations must agree; handles (None) stay."""
    return [
        v if v is None or isinstance(v, DeviceList) else jnp.asarray(v, dtype=v.dtype)
        for v in values
    ]


# ---- If, StatelessIf

_IF = (
    "cond: Tcond, input: Tin -> output: Tout",
    "Tcond: type, Tin: list(type) >= 0, Tout: list(type) >= 0, then_branch: func, else_branch: func, "
    "output_shapes: list(shape) = []",
)
if_op = define("If", *_IF, effects=Effect.STATEFUL)
stateless_if = define("StatelessIf", *_IF)

if_op.shape(_declared_shapes)
stateless_if.shape(_declared_shapes)


@stateless_if.demand
@if_op.demand
def _if_demand(op, outputs, needs):
    return needs("then_branch", 0, outputs) | needs("else_branch", 0, outputs), outputs


@stateless_if.lower
@if_op.lower
def _if_lower(op, functions, cond, inputs):
    if isinstance(cond, np.ndarray):
        return tuple(functions.call("then_branch" if _truth(cond) else "else_branch", inputs))
    if cond.ndim:
        return tuple(functions.call("then_branch" if cond.size else "else_branch", inputs))
    return _branch(
        op, functions, jnp.where(cond != 0, 0, 1), ["then_branch", "else_branch"], [0, 0], inputs
    )


def _branch(op, functions, index, attrs, numbers, inputs):
    """One of several branches, as XLA's conditional; variables that any of them writes come out of all of them."""
    values = _same_types(functions.values())
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
                _same_types(outputs),
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
    return tuple(functions.call("then_branch" if _truth(cond) else "else_branch", inputs))


# ---- While, StatelessWhile

_WHILE = (
    "input: T -> output: T",
    "T: list(type) >= 0, cond: func, body: func, output_shapes: list(shape) = [], parallel_iterations: int = 10",
)
while_op = define("While", *_WHILE, effects=Effect.STATEFUL)
stateless_while = define("StatelessWhile", *_WHILE)

while_op.shape(_declared_shapes)
stateless_while.shape(_declared_shapes)


@stateless_while.demand
@while_op.demand
def _while_demand(op, outputs, needs):
    kept, looked_at = outputs | needs("cond", 0, None), None
    while kept != looked_at:
        looked_at = kept
        kept = looked_at | needs("body", 0, looked_at)
    return kept, kept


def _invariant(functions) -> list[bool]:
    """For each loop variable whether the body passes it on unchanged."""
    body = functions.body_graph("body")
    return [out is into for into, out in zip(body.inputs, body.outputs, strict=True)]


@stateless_while.lower
@while_op.lower
def _while_lower(op, functions, inputs):
    fixed = _invariant(functions)
    if any(isinstance(v, DeviceList) for v, f in zip(inputs, fixed, strict=True) if not f):
        return _while_with_lists(op, functions, list(inputs), fixed)
    return _while(op, functions, list(inputs), fixed, None)


def _while(op, functions, inputs, fixed, trips, room=None, most=None):
    """The loop as XLA's; `trips`: the number of iterations where it is known, `room`: where it is guessed.

    most: about how many iterations there are where lists are carried; then products are moved out of the loop.
    """
    values = _same_types(functions.values())
    start = _same_types([v for v, f in zip(inputs, fixed, strict=True) if not f])
    condition, _ = functions.pure("cond")
    moved = None if most is None else MovedProducts(functions, inputs, fixed, most, trips)
    body, table = functions.pure("body", overrides=moved.overrides if moved else None)
    places = [functions.keys.index(k) for k in functions.written]

    def merged(changing):
        rest = iter(changing)
        return [v if f else next(rest) for v, f in zip(inputs, fixed, strict=True)]

    def state_of(written):
        known = list(values)
        for place, value in zip(places, written, strict=True):
            known[place] = value
        return known

    def goes_on(carry):
        changing, written, code = carry[0], carry[1], carry[2]
        (answer,), _, _ = condition(state_of(written), merged(changing))
        return (jnp.asarray(answer).reshape(()) != 0) & (code == 0)

    def step(carry):
        changing, written, code, buffers = carry
        if moved:
            moved.buffers = list(buffers)
        with loop_body.traced():
            outputs, written, failed = body(state_of(written), merged(changing))
        code = jnp.where(code > 0, code, failed)
        left = _same_types([v for v, f in zip(outputs, fixed, strict=True) if not f])
        return left, written, code, moved.buffers if moved else []

    carry = (start, [values[p] for p in places], jnp.int32(0), moved.buffers if moved else [])
    try:
        if room is not None:
            changing, written, code, buffers, _ = lax.while_loop(
                lambda c: goes_on(c) & (c[4] < room),
                lambda c: (*step(c[:4]), c[4] + 1),
                (*carry, jnp.int32(0)),
            )
            checks.need_room(op, goes_on((changing, written, code)))
        elif trips is None:
            changing, written, code, buffers = lax.while_loop(goes_on, step, carry)
        else:
            changing, written, code, buffers = lax.fori_loop(0, trips, lambda _, c: step(c), carry)
    except TypeError as error:
        raise NotCompilable(op, f"a loop variable changes its type or shape ({error})") from error
    functions.write(written)
    functions.check(code, [table])
    results = merged(changing)
    if moved:
        moved.finish(results, buffers)
    return tuple(results)


def _while_with_lists(op, functions, inputs, fixed):
    """A loop that carries lists: these get the room that all iterations together need."""
    known = [f and isinstance(v, np.ndarray) for v, f in zip(inputs, fixed, strict=True)]
    trips, final = _count_iterations(op, functions, inputs, fixed)
    if trips == 0:
        return tuple(inputs)
    most = _most_pops(functions, inputs) if trips is None else trips
    guess = guessed_room(op) if most is None else None
    exact = final is not None
    growth: dict[int, int] = {}
    loose = set()  # lists that grow by what only the program knows
    starts = list(inputs)
    for _ in range(4):
        outputs, _ = functions.probe("body", starts, known)
        settled = True
        for i, (before, after) in enumerate(zip(starts, outputs, strict=True)):
            if fixed[i] or not isinstance(before, DeviceList):
                continue
            if before.size is None and after.capacity != before.capacity:
                growth[i] = after.capacity - before.capacity
                room = before.capacity + max(0, growth[i]) * (guess if most is None else most)
                if after.size is not None:
                    loose.add(i)
                starts[i] = _with_room(before, after, room, exact and i not in loose).growing(room)
                settled = False
            elif before.buffer is None and after.buffer is not None:
                starts[i] = _with_room(before, after, before.capacity)
                settled = False
        if settled:
            break
    grows = any(step > 0 for step in growth.values())
    results = list(
        _while(
            op,
            functions,
            starts,
            fixed,
            trips if exact else None,
            guess if grows else None,
            guess if most is None else most,
        )
    )
    if exact:
        for i, step in growth.items():
            if i not in loose:
                results[i] = results[i].full(inputs[i].capacity + step * trips)
        for i, value in final.items():
            results[i] = value
    return tuple(results)


def _most_pops(functions, inputs):
    """A limit on the iterations of a loop that takes an element from a list in each of them, else None."""
    body = functions.body_graph("body")
    limits = [
        value.capacity
        for value, into, out in zip(inputs, body.inputs, body.outputs, strict=True)
        if isinstance(value, DeviceList) and _pops(out, into)
    ]
    return min(limits, default=None)


def _pops(out, into):
    return out._op.type == "TensorListPopBack" and out._op._inputs[0] is into


def _with_room(before, after, capacity, fills=False):
    """The list `before` with a buffer for elements like those of `after`; `fills`: all of them are going to be written."""
    if before.buffer is not None or after.buffer is None:
        return before
    make = native.empty if fills and not before.capacity else jnp.zeros
    buffer = jax.tree.map(lambda v: make((capacity, *v.shape[1:]), v.dtype), after.buffer)
    size = before.size
    if size is None and capacity != before.capacity:
        size = jnp.int32(before.capacity)
    return DeviceList(before.dtype, buffer, capacity, size)


def _count_iterations(op, functions, inputs, fixed):
    """(the number of iterations, the last values of the variables that decide it), where constants decide it.

    Where other things can end the loop earlier: (the highest number, None). Where nothing is known: (None, None).
    """
    evolving = {
        i
        for i, (v, f) in enumerate(zip(inputs, fixed, strict=True))
        if not f and isinstance(v, np.ndarray)
    }
    while evolving:
        known = [
            isinstance(v, np.ndarray) and (f or i in evolving)
            for i, (v, f) in enumerate(zip(inputs, fixed, strict=True))
        ]
        outputs, inside = functions.probe("body", inputs, known)
        lost = {i for i in evolving if not isinstance(outputs[i], np.ndarray)}
        if not lost:
            break
        evolving -= lost
    if not evolving:
        return None, None
    places = sorted(evolving)
    body = functions.body_graph("body")
    conditions = _conjuncts(functions.body_graph("cond").outputs[0])
    _, inside_cond = functions.probe("cond", inputs, known)
    counted = [t for t in conditions if t in inside_cond]
    step = functions.known_part("body", places, [body.outputs[p] for p in places], inside)
    test = functions.known_part("cond", places, counted, inside_cond)
    if not counted or step is None or test is None:
        return None, None
    exact = len(counted) == len(conditions)
    values = [inputs[i] for i in places]
    for trips in range(_MOST_COUNTED):
        if not all(_truth(answer) for answer in test(values)):
            return trips, dict(zip(places, values, strict=True)) if exact else None
        values = step(values)
    return None, None


def _conjuncts(tensor):
    """The conditions that must all hold for `tensor`, a condition, to hold."""
    op = tensor._op
    if op.type in ("LogicalAnd", "Identity"):
        return [t for part in op._inputs for t in _conjuncts(part)]
    return [tensor]


@stateless_while.host
@while_op.host
def _while_host(op, functions, inputs):
    variables = list(inputs)
    sums = DeferredSums(functions)
    start = time.monotonic()
    iterations = 0
    while iterations < _INTERPRETED_ITERATIONS or time.monotonic() - start < _INTERPRETED_SECONDS:
        if not _truth(functions.call("cond", variables)[0]):
            return tuple(sums.finish(variables))
        context.check()
        variables = sums.call(variables)
        iterations += 1
    if functions.can_compile:
        variables = sums.finish(variables)
        try:
            return tuple(functions.compiled(_while_lower, variables, _invariant(functions)))
        except NotCompilable:
            pass
    while _truth(functions.call("cond", variables)[0]):
        context.check()
        variables = sums.call(variables)
    return tuple(sums.finish(variables))


# ---- PartitionedCall, StatefulPartitionedCall

_CALL = (
    "args: Tin -> output: Tout",
    "Tin: list(type) >= 0, Tout: list(type) >= 0, f: func, config: string = '', config_proto: string = '', "
    "executor_type: string = ''",
)
partitioned_call = define("PartitionedCall", *_CALL)
stateful_partitioned_call = define("StatefulPartitionedCall", *_CALL, effects=Effect.STATEFUL)


@stateful_partitioned_call.shape
@partitioned_call.shape
def _call_shape(op, inputs):
    function = op.graph._functions.get(op.attr("f").name)
    if function is None:
        return [None] * len(op.outputs)
    return [t._dims for t in function.graph.outputs[: len(op.outputs)]]


@stateful_partitioned_call.host
@stateful_partitioned_call.lower
@partitioned_call.host
@partitioned_call.lower
def _call_lower(op, functions, inputs):
    # Gradients of another call may have given the function more outputs than this one has.
    return tuple(functions.call("f", inputs)[: len(op.attr("Tout"))])


# ---- SymbolicGradient: calls the gradient of the function that it names

symbolic_gradient = define(
    "SymbolicGradient",
    "input: Tin -> output: Tout",
    "Tin: list(type) >= 1, Tout: list(type) >= 1, f: func",
)


@symbolic_gradient.shape
def _symbolic_gradient_shape(op, inputs):
    return inputs[: len(op.outputs)]


@symbolic_gradient.host
@symbolic_gradient.lower
def _symbolic_gradient_lower(op, functions, inputs):
    results = functions.call("f", inputs)
    wanted = len(op.attr("Tout"))
    if len(results) != wanted:
        raise op.invalid(
            f"SymGrad expects to return {wanted} tensors, but get {len(results)} instead"
        )
    return tuple(results)


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
