"""Single operations as compiled kernels, cached over all graphs: what the interpreter runs where NumPy does not do.

The rule is the one that islands are traced with. A kernel is compiled once for an op type, its attrs, the values of its
static inputs, and the types and shapes of the others.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.core import errors
from headrace.core.tensor_shape import TensorShape
from headrace.graph.op_def import OpDef
from headrace.graph.operation import Operation
from headrace.lowering import checks
from headrace.lowering.checks import raise_if_failed
from headrace.lowering.evaluate import REFUSED
from headrace.lowering.recent import Recent
from headrace.lowering.state import Slot, StateView

_MAX_KERNELS = 256


class _KernelOp:
    """What a rule sees of the operation: kernels outlive graphs and must not keep them alive."""

    __slots__ = ("_attrs", "_definition", "_output_types", "facts", "name", "type")

    def __init__(self, op: Operation) -> None:
        self._attrs = dict(op._attrs)
        self._definition: OpDef = op._definition
        self._output_types = [t._dtype for t in op._outputs]
        self.name, self.type = op._name, op.type
        self.facts = op.facts

    def attr(self, name: str) -> Any:
        return self._attrs[name]

    def output_dtype(self, index: int = 0) -> Any:
        return self._output_types[index]

    def invalid(self, message: str) -> errors.InvalidArgumentError:
        return errors.InvalidArgumentError(None, None, f"{self.type} op {self.name!r}: {message}")


_kernels: Recent[Any] = Recent(_MAX_KERNELS)


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_hashable(v) for v in value)
    if isinstance(value, TensorShape):
        return value._dims
    if isinstance(value, (int, float, bool, str, bytes)) or value is None:
        return value
    return value if type(value).__hash__ is not None else repr(value)


def attrs_key(op: Operation) -> tuple:
    """The attrs of `op` as a key; what begins with `_` does not bear on values."""
    return tuple((k, _hashable(v)) for k, v in op._attrs.items() if k[0] != "_")


def _needs_facts(definition: OpDef, static_inputs: Any) -> bool:
    """Whether the rule looks at what the graph knows: where all static inputs are known, their values say it all."""
    if definition.facts_rule is None:
        return False
    return not definition.static_inputs or len(static_inputs) < len(definition.static_inputs)


def run_kernel(op: Operation, arguments: list[Any]) -> Any:
    """Runs `op` as a kernel of its own; arguments as its rule takes them, Slots read before and written after."""
    definition = op._definition
    flat: list[Any] = []
    plan: list[Any] = []
    statics: list[Any] = []
    slots: list[Slot] = []
    offset = len(arguments) - len(definition.signature.inputs)
    static_inputs = definition.static_inputs_of(op) if definition.static_inputs else ()
    for position, argument in enumerate(arguments):
        name = definition.signature.inputs[position - offset].name if position >= offset else ""
        if argument.__class__ is list:
            if any(isinstance(v, Slot) for v in argument):
                raise AssertionError(f"{op.type}: a list of variables in a kernel")
            plan.append(len(argument))
            flat += argument
        elif isinstance(argument, Slot):
            reads = name not in definition.overwrites
            plan.append(("slot", len(slots), reads))
            slots.append(argument)
            if reads:
                flat.append(argument.read())
        elif name in static_inputs:
            array = np.asarray(argument)
            plan.append(("static", len(statics)))
            statics.append(array)
        else:
            plan.append("value")
            flat.append(argument)
    key = (
        op.type,
        attrs_key(op),
        tuple(plan),
        tuple((s.dtype.str, s.shape, s.tobytes()) for s in statics),
        tuple(t._dtype for t in op._outputs),
        op.facts if _needs_facts(definition, static_inputs) else None,
        tuple((getattr(v, "dtype", v.__class__), getattr(v, "shape", ())) for v in flat),
    )
    entry = _kernels.find(key)
    if entry is None:
        entry = _make(op, plan, statics, len(slots))
        _kernels.add(key, entry)
    jitted, collector, returns = entry
    try:
        with jax.enable_x64(True):
            results, written, outcome = jitted(*flat)
    except errors.OpError as error:  # raised by the rule while it was traced
        raised: Any = type(error)  # every class but the base class knows its code
        raise raised(None, op, error.message) from error.__cause__
    if outcome:
        raise_if_failed(outcome, collector, op)
    for slot, value in zip(slots, written, strict=True):
        if value is not None:
            slot.write(value)
    outputs = iter(results)
    final = [slots[r] if r is not None else next(outputs) for r in returns]
    return final


def _make(op: Operation, plan: list[Any], statics: list[Any], slot_count: int) -> Any:
    stand_in = _KernelOp(op)
    rule = op._definition.lower_rule
    collector = checks.Collector()
    returns: list[int | None] = []

    def kernel(*flat: Any) -> Any:
        values = iter(flat)
        initial: dict[str, Any] = {}
        state = StateView(initial.__getitem__)
        slots: list[Slot] = []
        arguments: list[Any] = []
        for item in plan:
            if isinstance(item, int):
                arguments.append([next(values) for _ in range(item)])
            elif item == "value":
                arguments.append(next(values))
            elif item[0] == "static":
                arguments.append(statics[item[1]])
            else:
                slot = Slot(state, str(item[1]), -1)
                if item[2]:
                    initial[slot.key] = next(values)
                slots.append(slot)
                arguments.append(slot)
        collector.checks.clear()
        with checks.collecting(collector):
            try:
                results = rule(stand_in, *arguments)  # type: ignore[misc]
            except REFUSED as error:
                raise stand_in.invalid(str(error)) from error
        if results.__class__ is not tuple and results.__class__ is not list:
            results = (results,)
        returns.clear()
        returns.extend(slots.index(r) if isinstance(r, Slot) else None for r in results)
        newest = state.written
        written = tuple(
            None if newest.get(str(i)) is None else jnp.asarray(newest[str(i)])
            for i in range(slot_count)
        )
        outcome = checks.outcome_of(collector)
        return tuple(r for r in results if not isinstance(r, Slot)), written, outcome

    return jax.jit(kernel), collector, returns
