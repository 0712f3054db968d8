"""Loops as calls of functions: While."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headrace import native
from headrace.graph.op_def import Effect, define
from headrace.lowering import checks, context, loop_body, mixed_precision
from headrace.lowering.calls import declared_shapes, same_types, truth
from headrace.lowering.deferred_sums import DeferredSums
from headrace.lowering.host_loops import host_loops
from headrace.lowering.loop_products import MovedProducts
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.tensor_list import DeviceList, guessed_room

# A loop that goes on longer than this in the interpreter, in iterations and in seconds, is worth compiling.
_INTERPRETED_ITERATIONS = 50
_INTERPRETED_SECONDS = 0.7
# Iterations are counted while tracing up to here (a few microseconds each).
_MOST_COUNTED = 20_000


# ---- While, StatelessWhile

_WHILE = (
    "input: T -> output: T",
    "T: list(type) >= 0, cond: func, body: func, output_shapes: list(shape) = [], parallel_iterations: int = 10",
)
while_op = define("While", *_WHILE, effects=Effect.STATEFUL)
stateless_while = define("StatelessWhile", *_WHILE)

while_op.shape(declared_shapes)
stateless_while.shape(declared_shapes)


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
    values = same_types(functions.values())
    start = same_types([v for v, f in zip(inputs, fixed, strict=True) if not f])
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
        left = same_types([v for v, f in zip(outputs, fixed, strict=True) if not f])
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
            changing, written, code, buffers = _repeat(trips, step, carry)
    except TypeError as error:
        raise NotCompilable(op, f"a loop variable changes its type or shape ({error})") from error
    functions.write(written)
    functions.check(code, [table])
    results = merged(changing)
    if moved:
        moved.finish(results, buffers)
    return tuple(results)


def _repeat(trips, step, carry):
    """`carry` after so many steps.

    A body that is to compute in 16 bits stays in float32 where the loop is one native call then: XLA would lose more between
    the products than they gain.
    """
    if mixed_precision.is_narrowing():
        with mixed_precision.narrowing(None):
            found = native.in_one_call(trips, step, carry)
        if found is not None:
            return found
    return native.repeat(trips, step, carry)


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
        if not all(truth(answer) for answer in test(values)):
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
    loops, fixed = host_loops(functions), _invariant(functions)
    results = loops.run(functions, inputs, fixed)
    if results is not None:
        return tuple(results)
    variables = list(inputs)
    sums = DeferredSums(functions)
    start = time.monotonic()
    iterations = 0
    while iterations < _INTERPRETED_ITERATIONS or time.monotonic() - start < _INTERPRETED_SECONDS:
        if not truth(functions.call("cond", variables)[0]):
            variables = sums.finish(variables)
            loops.note(iterations)
            return tuple(variables)
        context.check()
        if iterations == 0 and loops.may_plan(functions):
            inside = {}
            variables = functions.call("body", variables, values=inside)
            results = loops.run_planned(functions, inputs, fixed, variables, inside)
            if results is not None:
                return tuple(results)
        else:
            variables = sums.call(variables)
        iterations += 1
    if functions.can_compile:
        variables = sums.finish(variables)
        try:
            return tuple(functions.compiled(_while_lower, variables, fixed))
        except NotCompilable:
            pass
    while truth(functions.call("cond", variables)[0]):
        context.check()
        variables = sums.call(variables)
    return tuple(sums.finish(variables))
