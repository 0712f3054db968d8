"""The functions that an operation calls, as its rule sees them: run in place, or as pure functions for XLA's control flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.graph.func_graph import FuncGraph, functions_of
from headrace.graph.operation import Operation, group_by_argument
from headrace.graph.tensor import Tensor
from headrace.lowering import checks
from headrace.lowering.checks import RoomExceeded, raise_if_failed
from headrace.lowering.jax_adapter import x64
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.recent import Recent
from headrace.lowering.state import Slot, StateView
from headrace.lowering.tensor_list import DeviceList, HostList, double_room, to_device, to_host
from headrace.passes.prune import prune
from headrace.passes.segments import runs_on_host, shape_deciders
from headrace.passes.state_order import BodyPlan, StateOrder, is_handle, plan_body

# So many loops of a graph that were compiled by themselves are kept.
_MAX_PROGRAMS = 64

# Runs the operations of a plan on values, traced or real.
Runner = Callable[
    [
        Sequence[Operation],
        dict[Tensor, Any],
        StateOrder,
        StateView,
        set[Operation],
        frozenset[Tensor],
    ],
    None,
]

# By operation: what stands for its rule. It gets the values that are known, and gives the output or a list of them.
Overrides = Mapping[Operation, Callable[[dict[Tensor, Any]], Any]]


class Functions:
    """What the rule of an operation with functions gets as its first value.

    keys: the variables (and generators) that the bodies use; written: those that they write.
    """

    def __init__(self, op: Operation, order: StateOrder, state: StateView, run: Runner) -> None:
        self.op = op
        self._run = run
        self._plans: dict[str, list[BodyPlan]] = {}
        for attr, function in functions_of(op):
            self._plans.setdefault(attr, []).append(
                plan_body(op, function, order.binding, order.path)
            )
        self.keys = tuple(order.calls.get(op, ()))
        self.slots = {key: Slot(state, key, order.read_version[op, key]) for key in self.keys}
        written = {key for plans in self._plans.values() for plan in plans for key in plan.writes}
        self.written = tuple(key for key in self.keys if key in written)
        # The shapes of tensors inside of bodies, as `probe` last found them.
        self.shapes: dict[Tensor, tuple[int, ...]] = {}

    def count(self, attr: str) -> int:
        """How many functions the attr names."""
        return len(self._plans.get(attr, ()))

    def call(
        self,
        attr: str,
        inputs: Sequence[Any],
        index: int = 0,
        plan: BodyPlan | None = None,
        values: dict[Tensor, Any] | None = None,
    ) -> list[Any]:
        """Runs a body in place: it reads and writes the variables at once. Returns its outputs.

        plan: how to run it, where not as `body_plan` says. values: those inside that are known already; all that are
        computed are added.
        """
        plan = self._plans[attr][index] if plan is None else plan
        state = StateView(lambda key: self.slots[key].read())
        outputs = self._evaluate(plan, inputs, state, values)
        for key, value in state.written.items():
            self.slots[key].write(value)
        return outputs

    def body_plan(self, attr: str, index: int = 0) -> BodyPlan:
        """How a body runs."""
        return self._plans[attr][index]

    def body_graph(self, attr: str, index: int = 0) -> FuncGraph:
        """The graph of a body."""
        return self._plans[attr][index].function.graph

    def unwritten(self, attr: str, handle: Tensor) -> Any:
        """The value of the variable behind a handle of a body, None if some body writes it."""
        key = self._plans[attr][0].order.key(handle)
        return None if key is None or key in self.written else self.slots[key].read()

    def pure(
        self, attr: str, index: int = 0, overrides: Overrides | None = None
    ) -> tuple[Callable[..., Any], list[checks.Check]]:
        """A body as a pure function, and the table of its checks (filled when it is traced).

        The function takes (values of `keys`, inputs) and returns (outputs, values of `written`, code): the
        number of the first
        check that failed, counted from 1, or 0. overrides: what stands for the rules of some operations; each gets the
        values that are known by then.
        """
        plan = self._plans[attr][index]
        table: list[checks.Check] = []

        def body(values: Sequence[Any], inputs: Sequence[Any]) -> tuple[list[Any], list[Any], Any]:
            known = dict(zip(self.keys, values, strict=True))
            state = StateView(known.__getitem__)
            collector = checks.Collector(conditional=True)
            with checks.collecting(collector):
                outputs = self._evaluate(plan, inputs, state, overrides=overrides)
            known.update(state.written)
            code: Any = jnp.int32(0)
            for number in range(len(collector.flags), 0, -1):
                code = jnp.where(collector.flags[number - 1], jnp.int32(number), code)
            table[:] = collector.checks
            return outputs, [_like(known[key]) for key in self.written], code

        return body, table

    def values(self) -> list[Any]:
        """The present values of `keys`."""
        return [self.slots[key].read() for key in self.keys]

    def write(self, values: Sequence[Any]) -> None:
        """Sets what the operation leaves in `written`."""
        for key, value in zip(self.written, values, strict=True):
            self.slots[key].write(value)

    def check(self, code: Any, tables: Sequence[list[checks.Check]]) -> None:
        """Makes the run fail where a check inside did; `code` counts through the tables one after the other."""
        table = [check for part in tables for check in part]
        if table:
            checks.fail_with(code, table)

    def probe(
        self, attr: str, inputs: Sequence[Any], known: Sequence[bool], index: int = 0
    ) -> tuple[list[Any], dict[Tensor, Any]]:
        """What a body gives for inputs of these types, without computing it.

        known: inputs that are NumPy arrays and count as known. Returns the outputs (NumPy arrays where they
        follow from what
        is known, else jax.ShapeDtypeStruct, lists with these inside), and every known value inside.
        """
        plan = self._plans[attr][index]
        found: dict[str, Any] = {}

        def run(values: list[Any], traced: list[Any]) -> Any:
            rest = iter(traced)
            arguments = [v if k else next(rest) for v, k in zip(inputs, known, strict=True)]
            before = dict(zip(self.keys, values, strict=True))
            state = StateView(before.__getitem__)
            inside: dict[Tensor, Any] = {}
            with checks.collecting(checks.Collector(conditional=True)):
                outputs = self._evaluate(plan, arguments, state, inside)
            found["known"] = {t: v for t, v in inside.items() if isinstance(v, np.ndarray)}
            self.shapes.update(
                (t, tuple(v.shape)) for t, v in inside.items() if hasattr(v, "shape")
            )
            found["outputs"] = outputs
            return [o for o in outputs if not isinstance(o, np.ndarray)]

        abstract = iter(
            jax.eval_shape(
                run, self.values(), [v for v, k in zip(inputs, known, strict=True) if not k]
            )
        )
        outputs = [o if isinstance(o, np.ndarray) else next(abstract) for o in found["outputs"]]
        return outputs, found["known"]

    def known_part(
        self, attr: str, places: Sequence[int], wanted: Sequence[Tensor], known: dict[Tensor, Any]
    ) -> Callable[[list[Any]], list[Any]] | None:
        """The tensors `wanted` of a body as a NumPy function of its inputs at `places` alone; None where they need more.

        known: values inside that do not change, from `probe`.
        """
        graph = self._plans[attr][0].function.graph
        changing = {graph.inputs[p] for p in places}
        ops = prune([t._op for t in wanted], frozenset(graph.inputs))
        steps = []
        for op in ops:
            if not any(t in changing for t in op._inputs):
                continue
            definition = op._definition
            if definition.host_rule is None or definition.effects or definition.function_attrs:
                return None
            if any(t not in changing and t not in known for t in op._inputs):
                return None
            changing.update(op._outputs)
            steps.append(op)
        if any(t not in changing and t not in known for t in wanted):
            return None
        fixed = known

        def evaluate(values: list[Any]) -> list[Any]:
            from headrace.lowering.evaluate import call_host, store_outputs

            env = {**fixed, **{graph.inputs[p]: v for p, v in zip(places, values, strict=True)}}
            for op in steps:
                results = call_host(op, group_by_argument(op, [env[t] for t in op._inputs]))
                store_outputs(op, results, env)
            return [np.asarray(env[t]) for t in wanted]

        return evaluate

    def for_tracing(self) -> Functions:
        """The same functions, whose bodies are traced by `probe` and `pure` and not interpreted."""
        found = Functions.__new__(Functions)
        found.__dict__.update(self.__dict__, _run=_trace(), shapes={})
        return found

    @property
    def can_compile(self) -> bool:
        """Whether XLA can hold the bodies."""
        return not runs_on_host(self.op)

    def compiled(
        self, rule: Callable[..., Any], inputs: Sequence[Any], fixed: Sequence[bool]
    ) -> list[Any]:
        """Applies the JAX rule of the operation as a program of its own, compiled once for each operation.

        fixed: inputs that the bodies do not change; those that are NumPy arrays stay known while tracing.
        """
        inputs = [for_program(self.op, v) for v in inputs]
        static = [
            f and isinstance(v, np.ndarray) and v.size <= 64
            for v, f in zip(inputs, fixed, strict=True)
        ]
        key = tuple(
            (v.dtype.str, v.shape, v.tobytes()) if s else None
            for v, s in zip(inputs, static, strict=True)
        )
        programs = self.op._graph.__dict__.setdefault("_loop_programs", Recent(_MAX_PROGRAMS))
        found = programs.find((self.op, key))
        if found is None:
            found = self._program(rule, inputs, static)
            programs.add((self.op, key), found)
        program, collector = found
        traced = [v for v, s in zip(inputs, static, strict=True) if not s]
        with x64():
            results, written, outcome = program(self.values(), traced)
        if outcome:
            try:
                raise_if_failed(outcome, collector, self.op)
            except RoomExceeded as exceeded:
                double_room(exceeded.op)
                programs.clear()
                return self.compiled(rule, inputs, fixed)
        self.write(written)
        return [to_host(v) if isinstance(v, DeviceList) else v for v in results]

    def _program(
        self, rule: Callable[..., Any], inputs: Sequence[Any], static: Sequence[bool]
    ) -> Any:
        known = [v if s else None for v, s in zip(inputs, static, strict=True)]
        collector = checks.Collector()

        def program(values: list[Any], traced: list[Any]) -> Any:
            rest = iter(traced)
            arguments = [k if s else next(rest) for k, s in zip(known, static, strict=True)]
            before = dict(zip(self.keys, values, strict=True))
            state = StateView(before.__getitem__)
            inner = Functions.__new__(Functions)
            inner.op, inner._run, inner._plans = self.op, _trace(), self._plans
            inner.shapes = {}
            inner.keys, inner.written = self.keys, self.written
            inner.slots = {k: Slot(state, k, -1) for k in self.keys}
            collector.checks.clear()
            with checks.collecting(collector):
                results = rule(self.op, inner, arguments)
            after = [_like(inner.slots[k].read()) for k in self.written]
            outcome = checks.outcome_of(collector)
            return list(results), after, outcome

        return jax.jit(program), collector

    def _evaluate(
        self,
        plan: BodyPlan,
        inputs: Sequence[Any],
        state: StateView,
        values: dict[Tensor, Any] | None = None,
        overrides: Overrides | None = None,
    ) -> list[Any]:
        graph = plan.function.graph
        values = {} if values is None else values
        for tensor, value in zip(graph.inputs, inputs, strict=True):
            if tensor not in plan.order.binding:
                values[tensor] = value
        if plan.must_fold is None:
            plan.must_fold = shape_deciders(plan.ops)
        rest = plan.ops
        for op in [op for op in plan.ops if op in overrides] if overrides else ():
            place = rest.index(op)
            self._run(rest[:place], values, plan.order, state, plan.must_fold, plan.fed)
            results, rest = overrides[op](values), rest[place + 1 :]  # type: ignore[index]
            values.update(
                zip(op._outputs, results if isinstance(results, list) else [results], strict=True)
            )
        self._run(rest, values, plan.order, state, plan.must_fold, plan.fed)
        return [_output(t, plan, values, state) for t in graph.outputs]


def _output(tensor: Tensor, plan: BodyPlan, values: dict[Tensor, Any], state: StateView) -> Any:
    if tensor in values and not isinstance(values[tensor], Slot):
        return values[tensor]
    if is_handle(tensor):
        key = plan.order.key(tensor)
        if key is not None and tensor._dtype.is_ref_dtype:
            return state.read(key, plan.order.fetch_version.get(tensor, -1))
        return None
    return values[tensor]


def for_program(op: Operation, value: Any) -> Any:
    """A value as a program takes it. Raises NotCompilable, naming `op`: a list whose elements differ in shape."""
    if not isinstance(value, HostList):
        return value
    converted = to_device(value)
    if converted is None:
        raise NotCompilable(op, "the elements of a list differ in shape")
    return converted


def _trace() -> Runner:
    from headrace.lowering.evaluate import trace

    return trace


def _like(value: Any) -> Any:
    return jnp.asarray(value, dtype=value.dtype)
