"""A step: everything that is planned once for a set of fetches and feeds, and then run many times.

The first run for new shapes (of a large step the first ones, see `first_runs`) is interpreted, operation by operation, with
NumPy and kernels of the host (`interpreter`). From then on its islands are programs (`programs`). The step decides which, and
reads and files the variables.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.evaluate import Values, store_outputs
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.rematerialize import Rematerialize
from headrace.lowering.state import Slot, StateView
from headrace.passes.mixed_precision import Narrow
from headrace.passes.partial_calls import drop_unneeded
from headrace.passes.prune import prune
from headrace.passes.segments import Split, split
from headrace.passes.state_order import (
    INITIAL,
    Binding,
    is_handle,
    order_state,
)
from headrace.runtime.first_runs import Ahead, Shapes, any_is_large, compiling, runs_to_interpret
from headrace.runtime.host_rules import MOST_ELEMENTS_ONCE
from headrace.runtime.interpreter import Interpreter, Observer, constant
from headrace.runtime.island_plan import host_reads
from headrace.runtime.missing import check_fed, uninitialised
from headrace.runtime.owned import apart_from
from headrace.runtime.profile import Recorder
from headrace.runtime.programs import Programs, Watch
from headrace.runtime.resources import Cell, ResourceStore, handle_bytes
from headrace.runtime.shared_writes import SharedWrites, keys_read_again, segments_by_op
from headrace.runtime.tiny_step import host_call
from headrace.runtime.varying_shapes import VaryingShapes
from headrace.runtime.waiting import CallsAtOnce, alone_from, call_out, closed, may_wait


class Step:
    """The plan for one set of fetches, targets and feeds in one session."""

    def __init__(
        self,
        graph: Graph,
        fetches: Sequence[Tensor],
        targets: Sequence[Operation],
        feeds: Sequence[Tensor],
        resources: ResourceStore,
        partial: bool = False,
        binding: Binding | None = None,
    ) -> None:
        self.graph = graph
        self.mutations = graph._mutations
        self.resources = resources
        fed = self.fed = frozenset(feeds)
        roots = [t._op for t in fetches if t not in fed]
        self.ops = prune([*roots, *targets], fed.union(binding or ()))
        if not partial and any(op._definition.demand_rule is not None for op in self.ops):
            fetches, targets = drop_unneeded(fetches, targets, fed)
            roots = [t._op for t in fetches if t not in fed]
            self.ops = prune([*roots, *targets], fed.union(binding or ()))
        self.fetches, self.targets, self.feeds = tuple(fetches), tuple(targets), tuple(feeds)
        if not partial:
            check_fed(self.ops, self.ops, self.fed)
        self.order = order_state(self.ops, [t for t in fetches if t not in fed], fed, binding)
        self.split = self._cut()
        self._runs: dict[Any, int] = {}
        self._initialisers = self._find_initial_states()
        self._needs = tuple((resources.cell(k), op) for k, op in self.order.initial_reads.items())
        self.is_empty = not self.split.segments and not fetches
        self._host_reads = host_reads(self.split, self.order)
        self._alone_from = self._find_alone()
        self._shared = self._find_shared()
        # Whether a run is segments even where it is interpreted: one may wait for another step, or calls for each other.
        self._in_segments = bool(self._alone_from) or sum(o._definition.waits for o in self.ops) > 1
        self._compiled: Callable[[list[Any]], list[Any]] | None = None
        # Whether gradients are to use values that are computed again; the session says it before the first run.
        self.rematerialize: Rematerialize | None = None
        self.narrow: Narrow = {}
        loops = any(op.type in ("While", "StatelessWhile") for op in self.ops)
        self._shapes = VaryingShapes() if loops and self.feeds else None
        self._repeatable = not (loops or self.order.writers or self.order.generators)
        self._first_runs = runs_to_interpret(self.split, self._repeatable)
        self._ahead = Ahead()
        self._limit = threading.local()  # `deadline`: when the thread's run stops waiting
        self.interpreter, self.programs = self._make_interpreter(), self._make_programs()

    # ---- planning

    def compute_narrow(self, narrow: Narrow) -> None:
        """Has operations compute in 16 bits, which they do in programs only: nothing is interpreted any more."""
        self.narrow = narrow
        if narrow:
            self._shapes = None

    def _cut(self) -> Split:
        """The segments of the step."""
        return split(self.ops, self.fed, self.fetches)

    def _make_interpreter(self) -> Interpreter:
        return Interpreter(self.ops, self.order, self.split.free, self.fed, self.fetches)

    def _make_programs(self) -> Programs:
        return Programs(self)

    def _find_initial_states(self) -> list[tuple[Cell, Operation]]:
        return [(self.resources.cell(key), op) for key, op in self.order.generators.items()]

    def _find_alone(self) -> int | None:
        """The first segment from which the step lets no other step in; None: it writes nothing."""
        return alone_from(self.split.segments, self.order)

    def _find_shared(self) -> frozenset[str] | None:
        """The variables that are looked at again after others may have seen them; None: nothing is written before a wait."""
        segment_of = segments_by_op(self.split.segments)
        written = [segment_of.get(op, 0) for ops in self.order.writers.values() for op in ops]
        if not self._alone_from or min(written) >= self._alone_from:
            return None
        return keys_read_again(self.order, segment_of, self.fetches)

    @property
    def may_wait(self) -> bool:
        """Whether an operation of the step may wait for another step (for a queue to fill)."""
        return any(may_wait(op, self.order) for op in self.ops)

    # ---- a run, as the rules of operations see it (see `lowering.context`)

    def check(self) -> None:
        """Raises CancelledError: the session is closed."""
        if self.resources.closed:
            raise closed()

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """What a function gives that may take any time. Raises CancelledError: the session is closed meanwhile."""
        deadline = getattr(self._limit, "deadline", 0.0)
        return call_out(self, self.resources, function, arguments, deadline)

    @property
    def _interpretable(self) -> bool:
        """Whether the first run for new shapes is interpreted: nothing was asked for that programs alone do."""
        return self._first_runs > 0 and self.rematerialize is None and not self.narrow

    def _writes_large_variables(self) -> bool:
        return any_is_large(self.resources.cell(key).value for key in self.order.writers)

    def ensure_generators(self) -> None:
        """Makes the states of random operations that have none yet in this session."""
        for cell, op in self._initialisers:
            if cell.value is None:
                cell.value = op._definition.initial_state_rule(op)  # type: ignore[misc]

    def _check_initialised(self) -> None:
        for cell, op in self._needs:
            if cell.value is None:
                raise uninitialised(op, cell.key)

    def kept_functions(self) -> Any:
        """What runs the functions that a dataset keeps, for one iterator: see `function_step.Functions`."""
        from headrace.runtime.function_step import Functions

        return Functions(self.resources)

    # ---- running

    @property
    def has_old_control_flow(self) -> bool:
        """Whether the step has nodes whose outputs may be dead: it then runs as a FlowStep."""
        return any(op._definition.flow for op in self.ops)

    @property
    def direct(self) -> Callable[[list[Any]], list[Any]] | None:
        """What runs the step whatever the shapes of its feeds; None while `run` has something to decide."""
        return self._compiled if self._shapes is None else None

    @property
    def sees_state(self) -> bool:
        """Whether a run reads or writes variables, or draws random numbers."""
        order = self.order
        return bool(
            order.read_version
            or order.writers
            or order.generators
            or order.fetch_version
            or order.calls
        )

    @property
    def is_one_call(self) -> bool:
        """Whether a run is the call of one program, at least for some shapes of its feeds."""
        return self._compiled is not None

    def cannot_fail(self, shapes: Shapes) -> bool:
        """Whether a run for feeds of these shapes is the call of one program, one that has no checks."""
        known = self._shapes is None or self._shapes.has_program(shapes)
        return self._compiled is not None and known and self.programs.cannot_fail()

    def run(self, feed_values: list[Any]) -> list[Any]:
        """Runs the step. `feed_values` are arrays of the feeds' types; returns arrays of the fetches."""
        compiled = self._compiled
        if compiled is not None and self._shapes is None:
            return compiled(feed_values)
        key = tuple(v.shape for v in feed_values)
        if self._shapes is not None:
            if not self._shapes.has_program(key):
                ahead = self._compiling(feed_values) if compiled is not None else None
                if self._shapes.is_interpreted(key, ahead):
                    return self._interpret_once(feed_values)
            if compiled is not None:
                results = compiled(feed_values)
                self._shapes.note_program(key)
                return results
        runs = self._runs.get(key, 0)
        if runs < self._first_runs and self._interpretable and not self._writes_large_variables():
            if runs == 1:
                self._ahead.start(key, self._compiling(feed_values))
            interpret = self._interpret_exactly if self._repeatable else self._interpret_once
            results = interpret(feed_values)
            self._runs[key] = runs + 1
            return results
        self._ahead.wait(key)
        if runs == 1:
            tiny = host_call(self.ops, self.split.free, self.feeds, self.fetches)
            if (
                tiny is not None
                and not self.order.writers
                and all(v.__class__ is np.ndarray for v in feed_values)
            ):
                self._compiled = self._tiny_call(tiny)
                return tiny(feed_values)
        results = self._run_compiled(feed_values)
        self._runs[key] = runs + 1
        if self._shapes is not None:
            self._shapes.note_program(key)
        return results

    def _compiling(self, feed_values: list[Any]) -> Callable[[], None]:
        """What compiles the only island of the step for arrays like these, without running it."""
        self.ensure_generators()  # the program takes their states
        island = self.programs.island(0)
        places = dict(zip(self.feeds, feed_values, strict=True))
        return compiling(island, places, self.resources, lambda: context.running(self))

    def _tiny_call(
        self, tiny: Callable[[Sequence[Any]], list[Any]]
    ) -> Callable[[list[Any]], list[Any]]:
        """`tiny` for NumPy arrays; arrays that are on a device are left to a program."""

        def call(feed_values: list[Any]) -> list[Any]:
            for value in feed_values:
                if value.__class__ is not np.ndarray:
                    return self._run_segments(feed_values)
            return tiny(feed_values)

        return call

    def _interpret(
        self, feed_values: list[Any], observe: Observer | None = None, deadline: float = 0.0
    ) -> list[Any]:
        if self._in_segments and observe is None and not deadline:
            return self._run_segments(feed_values, interpreted=True)
        self.ensure_generators()
        values: Values = dict(zip(self.feeds, feed_values, strict=True))
        state = StateView(self.load)
        with (
            context.running(self),
            self.resources.lock if self._alone_from == 0 else contextlib.nullcontext(),
        ):
            self._load_together(state, self.order.initial_reads)
            if observe is None and not deadline:
                self.interpreter.run_step(self.ops, values, state)
            else:
                self.interpreter.run_watched(self.ops, values, state, observe, deadline)
            results = self._results(values, state)
            self.commit(state.written)
        return results

    def _interpret_once(self, feed_values: list[Any], observe: Observer | None = None) -> list[Any]:
        """As `_interpret`, for shapes that may not come again: no kernel is compiled where NumPy can do it."""
        with self.interpreter.up_to(MOST_ELEMENTS_ONCE):
            return self._interpret(feed_values, observe)

    def _interpret_exactly(self, feed_values: list[Any]) -> list[Any]:
        """As `_interpret`, with kernels that XLA compiles where much is added up: the bits of a program, most of the time."""
        with self.interpreter.exactly():
            return self._interpret(feed_values)

    def run_observed(
        self, feed_values: list[Any], observe: Observer | None, deadline: float | None
    ) -> list[Any]:
        """Runs the step operation by operation; `observe(op, start, end, outputs)` is told of each.

        Raises DeadlineExceededError: `deadline` (of `time.monotonic`) has passed; nothing has changed then.
        """
        self._limit.deadline = deadline or 0.0
        try:
            return self._interpret(feed_values, observe, deadline or 0.0)
        finally:
            self._limit.deadline = 0.0

    def run_traced(
        self, feed_values: list[Any], observe: Observer, recorder: Recorder
    ) -> list[Any]:
        """Runs the step the way it runs otherwise: what is compiled, as programs, of which `recorder` is told.

        observe(op, start, end, outputs) is told of each operation that runs by itself.
        """
        key = tuple(v.shape for v in feed_values)
        runs = self._runs.get(key, 0)
        tiny = host_call(self.ops, self.split.free, self.feeds, self.fetches)
        alone = tiny is not None and not self.order.writers
        if alone or (runs == 0 and self._interpretable):
            results = self._interpret_once(feed_values, observe)
        else:
            results = recorder.profile(
                lambda: self._run_segments(feed_values, watch=(observe, recorder))
            )
        self._runs[key] = runs + 1
        return results

    def _results(self, values: Values, state: StateView) -> list[Any]:
        """The values of the fetches, none of them the buffer of a variable."""
        results = [self.fetched(t, values, state) for t in self.fetches]
        return apart_from(results, [v for v in state.written.values() if v.__class__ is ARRAY])

    def _run_compiled(self, feed_values: list[Any]) -> list[Any]:
        results = self._run_segments(feed_values)
        self._specialise()
        return results

    def _run_segments(
        self, feed_values: list[Any], interpreted: bool = False, watch: Watch | None = None
    ) -> list[Any]:
        """Runs segment after segment; islands as programs, or operation by operation where `interpreted` is set."""
        self.ensure_generators()
        segments = self.split.segments
        values: Values = dict(zip(self.feeds, feed_values, strict=True))
        state = StateView(self.load)
        committed = False
        shared = None
        with context.running(self), contextlib.ExitStack() as held:
            if not self._alone_from:
                self._load_together(state, self._host_reads)
            elif self._shared is not None:
                shared = SharedWrites(self.resources, state, self._shared, [values])
                held.callback(shared.take_back)
            for number, segment in enumerate(segments):
                if number == self._alone_from:
                    held.enter_context(self.resources.lock)
                    if shared is not None:
                        shared.refresh()
                    self._load_together(state, self._host_reads)
                if shared is None or number >= self._alone_from:  # type: ignore[operator]
                    committed = self._run_segment(number, values, state, interpreted, watch)
                else:
                    with shared.segment(alone=segment.is_island):
                        self._run_segment(number, values, state, interpreted, watch)
            results = self._results(values, state)
            # Another step may have used up the buffers that a last island has stored already.
            if not committed:
                self.commit(state.written if shared is None else shared.left)
            if shared is not None:
                shared.keep()
        return results

    def _run_segment(
        self, number: int, values: Values, state: StateView, interpreted: bool, watch: Watch | None
    ) -> bool:
        """Runs a segment; whether it has filed what the step wrote already."""
        segment = self.split.segments[number]
        if not segment.is_island:
            if watch is None and sum(op._definition.waits for op in segment.ops) > 1:
                evaluate = partial(self.interpreter.host_call, values=values, state=state)
                store = partial(store_outputs, values=values, fed=self.fed)
                CallsAtOnce(self, self.resources, evaluate, store).run(segment.ops)
                return False
            for op in segment.ops:
                self.interpreter.run_on_host(op, values, state, watch and watch[0])
            return False
        island = None if interpreted else self.programs.ready(number, state)
        if island is not None:
            last = number == len(self.split.segments) - 1 and self._shared is None
            try:
                self.programs.run(island, values, state, last, watch)
                return last
            except NotCompilable:
                self.programs.not_compilable.add(number)
        self.interpreter.add_free(segment.ops, values)
        if watch is None:
            self.interpreter.run_step(segment.ops, values, state)
        else:
            self.interpreter.run_watched(segment.ops, values, state, watch[0])
        return False

    def load(self, key: str) -> Any:
        """The value of a variable from before the run. Raises FailedPreconditionError: it has none."""
        with self.resources.lock:
            value = self.resources.cell(key).value
            if value is None:
                raise uninitialised(self.order.initial_reads.get(key), key)
            # A copy: once the lock is given back, another thread's step may write the buffer in place.
            return np.array(value) if value.__class__ is ARRAY else value

    def _load_together(self, state: StateView, keys: Iterable[str]) -> None:
        """Reads variables as they are at one moment, with no step of another thread in between."""
        with self.resources.lock:
            for key in keys:
                # One without a value is an error only if an operation that runs needs it.
                if self.resources.cell(key).value is not None:
                    state.read(key, INITIAL)

    def fetched(self, tensor: Tensor, values: Values, state: StateView) -> Any:
        """What a run gives for a fetched tensor: its value, of a reference the variable's. Raises InternalError: none."""
        value = values.get(tensor)
        if value is None or isinstance(value, Slot):
            key = self.order.key(tensor) if is_handle(tensor) else None
            if key is not None and tensor._dtype.is_ref_dtype:
                return state.read(key, self.order.fetch_version[tensor])
            if key is not None and value is None:
                return handle_bytes(key)
            if tensor._op in self.split.free:
                return constant(tensor)
            if value is None and tensor not in values:
                raise errors.InternalError(None, tensor._op, f"{tensor.name} was not computed")
        return value

    def commit(self, written: dict[str, Any]) -> None:
        """Files the newest values of variables, all at one moment."""
        if written:
            with self.resources.lock:
                for key, value in written.items():
                    self.resources.cell(key).value = value

    def _specialise(self) -> None:
        """After a compiled run: makes the following runs one call, where the step is a single island."""
        if self._compiled is None:
            self._compiled = self.programs.as_one_call(self._prepare_state, self._without_call)

    def _prepare_state(self) -> None:
        self.ensure_generators()
        self._check_initialised()

    def _without_call(self, feed_values: list[Any]) -> list[Any]:
        self._compiled = None
        return self._run_compiled(feed_values)
