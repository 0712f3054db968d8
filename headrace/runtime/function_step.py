"""Bodies of functions that a dataset keeps: planned once, and called for one element after the other.

A body is interpreted. Where that takes long, and the elements have but one set of shapes, it is compiled; the program
stays if it turns out to be faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.graph.func_graph import GraphFunction
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.evaluate import Values, store_outputs
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.state import StateView
from headrace.passes.state_order import is_handle, names_variable
from headrace.runtime.host_rules import MOST_ELEMENTS_ONCE
from headrace.runtime.instructions import ready
from headrace.runtime.interpreter import Interpreter, constant
from headrace.runtime.resources import Cell, ResourceStore
from headrace.runtime.step import Step
from headrace.runtime.waiting import calls_out

# A call that takes less than this is not worth a program: calling one costs a part of it.
_SLOW_SECONDS = 1e-4
# Interpretation goes on until it has cost what compiling will: so much, and so much for each operation.
_COMPILE_SECONDS, _COMPILE_SECONDS_PER_OP = 0.1, 0.005
# The calls after which interpretation and program are compared.
_COMPARED_CALLS = 8


class _OwnGenerators(ResourceStore):
    """A session's store, but for generators of random numbers: each iterator begins its own."""

    def __init__(self, store: ResourceStore) -> None:
        super().__init__()
        self._store = store
        self.lock = store.lock

    def cell(self, key: str) -> Cell:
        """The cell of `key`: the session's, where it is a variable's."""
        return super().cell(key) if key.startswith("random:") else self._store.cell(key)

    def get_or_make(self, key: Any, make: Callable[[], Any]) -> Any:
        """The session's resource of this key."""
        return self._store.get_or_make(key, make)

    def find(self, key: Any) -> Any:
        """The session's resource of this key, or None."""
        return self._store.find(key)

    def when_closed(self, key: Any, callback: Callable[[], None]) -> None:
        """As the session's."""
        self._store.when_closed(key, callback)

    def forget(self, key: Any) -> None:
        """As the session's."""
        self._store.forget(key)


def _computed(tensor: Tensor) -> Tensor:
    """What `tensor` is the same as, behind nodes that only pass it on."""
    while True:
        op = tensor._op
        if op.type != "Identity" or op._control_inputs or is_handle(op._inputs[0]):
            return tensor
        tensor = op._inputs[0]


class FunctionStep(Step):
    """The body of a function, where some inputs are variables of the session. Any thread may call it.

    bound: the name in the store of the variable that each of these inputs is.
    """

    def __init__(
        self, function: GraphFunction, bound: Mapping[int, str], store: ResourceStore
    ) -> None:
        graph = function.graph
        given = [t for i, t in enumerate(graph.inputs) if i not in bound]
        binding = {graph.inputs[i]: key for i, key in bound.items()}
        outputs = [_computed(t) for t in graph.outputs]
        targets = graph.control_outputs
        super().__init__(graph, outputs, targets, given, store, binding=binding)
        self.has_generators = bool(self.order.generators)
        # Whether a call may take long without computing: it calls Python.
        self.waits = any(
            op._definition.waits or (op._definition.function_attrs and calls_out(op))
            for op in self.ops
        )
        self._instructions: list[Any] | None = None
        self._constants: Values = {}
        self._is_pure = False
        self._timing = threading.Lock()
        self._shapes_seen: Any = None
        self._calls, self._seconds = 0, 0.0
        self._interpreted_seconds = 0.0
        self._program = _Choice.LATER

    def _make_interpreter(self) -> Interpreter:
        # Elements of a dataset often have shapes of their own, for each of which a kernel would be compiled.
        return Interpreter(
            self.ops, self.order, self.split.free, self.fed, self.fetches, MOST_ELEMENTS_ONCE
        )

    @property
    def seconds(self) -> float:
        """How long a call takes, about; 0 before the first."""
        return self._seconds / self._calls if self._calls else 0.0

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for inputs (those that are not bound), as NumPy arrays and resources. Raises what the body raises."""
        start = time.perf_counter()
        if self._program is _Choice.LATER or self._program is _Choice.NEVER:
            results = self._interpret_body(inputs)
        else:
            results = [
                np.asarray(r) if r.__class__ is ARRAY else r for r in self._run_program(inputs)
            ]
        if self._program is not _Choice.NEVER and self._program is not _Choice.ALWAYS:
            self._count(inputs, time.perf_counter() - start)
        return results

    def _interpret_body(self, inputs: Sequence[Any]) -> list[Any]:
        if self.order.writers:
            with self.resources.lock:
                return self._interpret(list(inputs))
        if self._instructions is None:
            self._prepare_instructions()
        values = dict(self._constants)
        values.update(zip(self.feeds, inputs, strict=True))
        most = MOST_ELEMENTS_ONCE
        with np.errstate(all="ignore"):
            if self._is_pure:
                for op, instruction in self._instructions:  # type: ignore[union-attr]
                    if not instruction(values, most):
                        state = StateView(self.load)
                        results = self.interpreter.evaluate(op, values, state)
                        store_outputs(op, results, values, self.fed)
            else:
                self._interpret_with_state(values, most)
        return [
            np.asarray(v) if v.__class__ is ARRAY else v for v in [values[t] for t in self.fetches]
        ]

    def _interpret_with_state(self, values: Values, most: int) -> None:
        state = StateView(self.load)
        with context.running(self, context.current_run()):
            self._load_together(state, self.order.initial_reads)
            for op, instruction in self._instructions:  # type: ignore[union-attr]
                if instruction is None or not instruction(values, most):
                    results = self.interpreter.evaluate(op, values, state)
                    store_outputs(op, results, values, self.fed)
            for tensor in self.fetches:
                if tensor not in values:
                    values[tensor] = self.fetched(tensor, values, state)

    def _prepare_instructions(self) -> None:
        constants: Values = {}
        for op in self.split.free:
            constants[op._outputs[0]] = constant(op._outputs[0])
        found = [
            (op, ready(op, self.order, self.fed))
            for op in self.ops
            if op not in self.split.free
            and not names_variable(op)
            and not (op._outputs and all(t in self.fed for t in op._outputs))
        ]
        self._constants = constants
        self._is_pure = all(instruction is not None for _, instruction in found)
        self._instructions = found

    # ---- as the run of a thread that works ahead: nobody waits for it who could not leave

    def check(self) -> None:
        """Nothing: the iterator's end is looked for between elements."""

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls a function that may take any time, here."""
        return function(*arguments)

    # ---- interpretation or a program

    def _run_program(self, inputs: Sequence[Any]) -> list[Any]:
        direct = self._compiled
        return direct(list(inputs)) if direct is not None else self._run_compiled(list(inputs))

    def _count(self, inputs: Sequence[Any], seconds: float) -> None:
        """Adds a call to what is known; changes from one way to the other."""
        with self._timing:
            self._calls += 1
            self._seconds += seconds
            if self._program is _Choice.LATER:
                if self._calls % _COMPARED_CALLS == 1:
                    self._look_at(inputs)
                elif self._calls % _COMPARED_CALLS == 0 and self._is_worth_compiling():
                    self._interpreted_seconds = self._seconds / self._calls
                    self._program, self._calls, self._seconds = _Choice.TRIAL, 0, 0.0
            elif self._program is _Choice.TRIAL:
                if self._calls <= 2:  # the first one compiles, the second makes the call shorter
                    self._seconds = 0.0
                elif self._calls == _COMPARED_CALLS:
                    mean = self._seconds / (self._calls - 2)
                    faster = mean < self._interpreted_seconds
                    self._program = _Choice.ALWAYS if faster else _Choice.NEVER

    def _look_at(self, inputs: Sequence[Any]) -> None:
        shapes = tuple(getattr(v, "shape", None) for v in inputs)
        if self._shapes_seen is None:
            self._shapes_seen = shapes
        compilable = not self.order.writers and any(s.is_island for s in self.split.segments)
        if shapes != self._shapes_seen or not compilable:
            self._program = _Choice.NEVER

    def _is_worth_compiling(self) -> bool:
        needed = _COMPILE_SECONDS + _COMPILE_SECONDS_PER_OP * len(self.ops)
        return self._seconds > needed and self._seconds / self._calls > _SLOW_SECONDS


class _Choice:
    """Whether a body runs as a program."""

    LATER, TRIAL, ALWAYS, NEVER = object(), object(), object(), object()


class Functions:
    """The bodies that one iterator calls. Those without random numbers are shared with the session's other iterators."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._own: dict[Any, FunctionStep] = {}
        self._lock = threading.Lock()

    def step(self, function: GraphFunction, bound: Mapping[int, str]) -> FunctionStep:
        """What runs `function`."""
        key = ("function", function, tuple(sorted(bound.items())))
        found = self._own.get(key)
        if found is None:
            shared = self._store.get_or_make(
                key, lambda: FunctionStep(function, bound, self._store)
            )
            found = shared
            if shared.has_generators:
                with self._lock:
                    if key not in self._own:
                        own = _OwnGenerators(self._store)
                        self._own[key] = FunctionStep(function, bound, own)
                    found = self._own[key]
            else:
                self._own[key] = shared
        return found
