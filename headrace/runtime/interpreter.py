"""Interpretation: operations run one after the other, each by a rule of the host or as a kernel of its own.

Which of these an operation takes follows from its record and from how many elements there are (`host_rules`). Reading
variables, filing them and all locks are the step's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.evaluate import (
    Values,
    arguments_of,
    call_host,
    call_native,
    store_outputs,
)
from headrace.lowering.jax_adapter import ARRAY, x64
from headrace.lowering.state import StateView
from headrace.passes.segments import runs_on_host
from headrace.passes.state_order import StateOrder, names_variable
from headrace.runtime.first_runs import last_uses
from headrace.runtime.host_rules import MOST_ELEMENTS, declared, is_small, to_numpy
from headrace.runtime.instructions import ready
from headrace.runtime.kernels import run_kernel
from headrace.runtime.waiting import calls_out

Observer = Callable[[Operation, float, float, list[Any]], None]
"""observe(op, start, end, outputs) is told of each operation that runs by itself."""


class Interpreter:
    """What runs operations of one step, and of the bodies that they call.

    ops, order: the operations of the step, and the versions of variables that they see.  free: its constants, which belong
    to no segment.  most_elements: of how many elements NumPy computes an operation that a kernel computes too.
    """

    def __init__(
        self,
        ops: Sequence[Operation],
        order: StateOrder,
        free: Collection[Operation],
        fed: frozenset[Tensor],
        fetches: Sequence[Tensor],
        most_elements: int = MOST_ELEMENTS,
    ) -> None:
        self._ops, self._order, self._free, self._fed = ops, order, free, fed
        self._kept = fed.union(fetches)
        self._most_elements = most_elements
        self._calling_out = {op for op in ops if op._definition.function_attrs and calls_out(op)}
        # Of the thread's run: `elements`, where not `most_elements`, and `exact`.
        self._limit = threading.local()
        # Operations that were interpreted before: (these, their order, what stands for each).
        self._prepared: dict[tuple[int, int], tuple[Any, StateOrder, list[Any]]] = {}

    # ---- what NumPy computes, and what a kernel

    @property
    def most_elements(self) -> int:
        """How many elements NumPy computes in this thread's run."""
        return getattr(self._limit, "elements", self._most_elements)

    @contextlib.contextmanager
    def up_to(self, most_elements: int) -> Iterator[None]:
        """Has NumPy compute up to so many elements in this thread."""
        before, self._limit.elements = self.most_elements, most_elements
        try:
            yield
        finally:
            self._limit.elements = before

    @contextlib.contextmanager
    def exactly(self) -> Iterator[None]:
        """Has XLA's kernels, not those of the host, add up in this thread: the bits of a program, most of the time."""
        self._limit.exact = True
        try:
            yield
        finally:
            self._limit.exact = False

    # ---- many operations

    def run(
        self,
        ops: Sequence[Operation],
        values: Values,
        order: StateOrder,
        state: StateView,
        must_fold: set[Operation],
        fed: frozenset[Tensor],
    ) -> None:
        """Runs operations of the step, or of a body that one of them calls (a `Runner` of `lowering.functions`)."""
        key = (id(ops), id(order))
        prepared = self._prepared.get(key)
        if prepared is None or prepared[0] is not ops:
            wanted = [
                op
                for op in ops
                if not names_variable(op)
                and not (op._outputs and all(t in fed for t in op._outputs))
            ]
            last: dict[Operation, tuple[Tensor, ...]] = {}
            if order is self._order:
                last = last_uses(ops, self._ops, self._kept)
            instructions = [(op, ready(op, order, fed), last.get(op, ())) for op in wanted]
            prepared = self._prepared[key] = (ops, order, instructions)
        most = self.most_elements
        with np.errstate(all="ignore"):
            for op, instruction, unused in prepared[2]:
                if instruction is None or not instruction(values, most):
                    store_outputs(op, self.evaluate(op, values, state, order), values, fed)
                for tensor in unused:
                    values.pop(tensor, None)

    def run_step(self, ops: Sequence[Operation], values: Values, state: StateView) -> None:
        """Runs operations of the step."""
        self.run(ops, values, self._order, state, set(), self._fed)

    def run_watched(
        self,
        ops: Sequence[Operation],
        values: Values,
        state: StateView,
        observe: Observer | None,
        deadline: float = 0.0,
    ) -> None:
        """As `run_step`; `observe` is told of each operation.

        Raises DeadlineExceededError: `deadline` (of `time.monotonic`, 0: none) has passed.
        """
        for op in ops:
            if names_variable(op):
                continue
            if op._outputs and self._fed and all(t in self._fed for t in op._outputs):
                continue
            if deadline and time.monotonic() > deadline:
                raise errors.DeadlineExceededError(
                    None, op, f"Timed out before operation {op._name!r} of the step"
                )
            start = time.time()
            results = self.evaluate(op, values, state)
            found = as_list(results)
            for result in found:
                if result.__class__ is ARRAY:
                    result.block_until_ready()
            if observe is not None:
                observe(op, start, time.time(), found)
            store_outputs(op, results, values, self._fed)

    # ---- one operation

    def evaluate(
        self, op: Operation, values: Values, state: StateView, order: StateOrder | None = None
    ) -> Any:
        """Runs one operation on real values, by its NumPy rule or as a kernel."""
        arguments = arguments_of(op, values, order or self._order, state, self.run)
        definition = op._definition
        if definition.function_attrs and definition.host_rule is not None:
            return self._call_functions(op, arguments)
        if definition.static_rule is not None and definition.lower_rule is not None:
            return definition.lower_rule(op, *arguments)  # looks at shapes only
        if definition.native_rule is not None and not getattr(self._limit, "exact", False):
            found = call_native(op, [to_numpy(a) for a in arguments])
            if found is not None:
                return declared(op, found)
        if definition.host_rule is not None and (
            definition.dynamic_shape
            or definition.known_strings
            or runs_on_host(op)
            or is_small(op, arguments, self.most_elements)
        ):
            return declared(op, call_host(op, [to_numpy(a) for a in arguments]))
        if definition.lower_rule is None:
            raise errors.UnimplementedError(None, op, f"{op.type} op {op._name!r} has no kernel")
        if (
            definition.lower_rule is definition.host_rule
            and not definition.effects
            and not definition.writes
        ):
            # One rule for both only passes values on, or adds them: no program is needed, and no copy is made.
            with x64():
                return definition.lower_rule(op, *arguments)
        return run_kernel(op, arguments)

    def host_call(self, op: Operation, values: Values, state: StateView) -> Callable[[], Any]:
        """What gives the results of a host operation whose inputs are there."""
        self.add_free([op], values)
        arguments = arguments_of(op, values, self._order, state, self.run)
        if op._definition.host_rule is None:
            return lambda: run_kernel(op, arguments)
        if op._definition.function_attrs:
            return lambda: self._call_functions(op, arguments)
        return lambda: declared(op, call_host(op, [to_numpy(a) for a in arguments]))

    def run_on_host(
        self, op: Operation, values: Values, state: StateView, observe: Observer | None
    ) -> None:
        """Runs a host operation whose inputs are there; `observe` is told of it."""
        start = time.time()
        results = self.host_call(op, values, state)()
        if observe is not None:
            observe(op, start, time.time(), as_list(results))
        store_outputs(op, results, values, self._fed)

    def _call_functions(self, op: Operation, arguments: Sequence[Any]) -> Any:
        """Runs an operation that calls functions; whole in another thread, where one of these calls out."""
        rule = op._definition.host_rule
        assert rule is not None
        if op not in self._calling_out:
            return rule(op, *arguments)
        most = self.most_elements

        def work() -> Any:
            with self.up_to(most):
                return rule(op, *arguments)

        return context.call_out(work)

    def add_free(self, ops: Iterable[Operation], values: Values) -> None:
        """Adds the constants that `ops` take: they belong to no segment."""
        for op in ops:
            self.add_free_values(op._inputs, values)

    def add_free_values(self, tensors: Iterable[Tensor], values: Values) -> None:
        """Adds those of `tensors` that are constants."""
        for tensor in tensors:
            if tensor not in values and tensor._op in self._free:
                values[tensor] = constant(tensor)


def constant(tensor: Tensor) -> Any:
    """The value of a tensor whose operation takes nothing."""
    return tensor._op._definition.host_rule(tensor._op)  # type: ignore[misc]


def as_list(results: Any) -> list[Any]:
    """The outputs that a rule gave."""
    return list(results) if isinstance(results, (list, tuple)) else [results]
