"""The islands of a step as programs: made when they are first needed, and called with the variables as they are then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from headrace.core import errors
from headrace.lowering.bundled import Arrangement, Misfit, take
from headrace.lowering.checks import RoomExceeded, raise_if_failed
from headrace.lowering.evaluate import Values
from headrace.lowering.functions import for_program
from headrace.lowering.island import Island
from headrace.lowering.state import StateView
from headrace.lowering.tensor_list import double_room
from headrace.passes.state_order import INITIAL
from headrace.runtime.interpreter import Observer
from headrace.runtime.island_plan import island_of
from headrace.runtime.missing import uninitialised
from headrace.runtime.profile import Recorder
from headrace.runtime.ready_arguments import ready_input, to_device, wait_for
from headrace.runtime.resources import Cell
from headrace.runtime.single_call import Run, single_call

if TYPE_CHECKING:
    from headrace.runtime.step import Step

# Who is told of operations, and who of programs, while a step is traced.
Watch = tuple[Observer, Recorder]


class Programs:
    """The islands of one step.

    donate: the last one may write over what it reads.  bundle: small arrays may pass between programs and the host together.
    """

    def __init__(self, step: Step, donate: bool = True, bundle: bool = True) -> None:
        self._step, self._donate, self._bundle = step, donate, bundle
        self._resources = step.resources
        self._lock = threading.Lock()
        self.islands: dict[int, Island] = {}
        """Those that there are, by the number of the segment."""
        self.not_compilable: set[int] = set()
        """The segments that turned out to be no programs."""

    def island(self, number: int) -> Island:
        """The island of segment `number`."""
        found = self.islands.get(number)
        return self._make(number) if found is None else found

    def _make(self, number: int) -> Island:
        step = self._step
        with self._lock:
            if number in self.islands:
                return self.islands[number]
            segments = step.split.segments
            island = self.islands[number] = island_of(
                segments[number],
                f"island_{number}",
                step.ops,
                step.split,
                step.order,
                step.fetches,
                step.fed,
                self._donate and number == len(segments) - 1,  # nothing after it can fail
                step.rematerialize,
                step.narrow,
                self._bundle,
            )
        return island

    def ready(self, number: int, state: StateView) -> Island | None:
        """The island of segment `number`; None where the segment must be interpreted, for good or this time."""
        if number in self.not_compilable:
            return None
        island = self.island(number)
        return None if self._lacks_state_of_branches(island, state) else island

    def _lacks_state_of_branches(self, island: Island, state: StateView) -> bool:
        """Whether a variable has no value yet that perhaps only a branch not taken reads (`initialized_value`)."""
        if not any(op._definition.function_attrs for op in island.ops):
            return False
        return any(
            version == INITIAL
            and not state.has(key, INITIAL)
            and self._resources.cell(key).value is None
            for key, version in island.reads
        )

    # ---- calls

    def run(
        self, island: Island, values: Values, state: StateView, last: bool, watch: Watch | None
    ) -> None:
        """Calls the program of `island`; what the step has written is filed with it where it is the `last`.

        Raises NotCompilable: it turned out to be none while it was traced, before any of it ran.
        """
        tensors = (*island.inputs, *island.static_inputs)
        self._step.interpreter.add_free_values(tensors, values)
        while True:
            try:
                self._call(island, values, state, last, watch)
                return
            except RoomExceeded as exceeded:
                # Nothing has come of the run: it is made again, with room for more elements.
                double_room(exceeded.op)
                island.forget_programs()
            except Misfit:
                pass  # the island has noted that it must be arranged in another way

    def _call(
        self, island: Island, values: Values, state: StateView, last: bool, watch: Watch | None
    ) -> None:
        static = [np.asarray(values[t]) for t in island.static_inputs]
        inputs = tuple(ready_input(for_program(t._op, values[t])) for t in island.inputs)
        with self._resources.lock, jax.enable_x64(True):
            present = partial(self._present, state)
            arguments, arrangement = island.arguments(present, inputs), island.arrangement
            if to_device(map(self._resources.cell, arrangement.unbundled())):
                arguments = island.arguments(present, inputs)
            program, collector = island.program(static)
            if watch is not None:
                results = watch[1].call(island, program, arguments, static)
            else:
                results = program(*arguments)
            written, changed, results = results
            outputs, outcome = take(results)
            if outcome:
                try:
                    raise_if_failed(outcome, collector)
                except (errors.OpError, RoomExceeded):
                    self._restore(arrangement, written, outcome)
                    raise
            for (key, version), value in arrangement.written(written, changed):
                state.write(key, version, value)
            if inputs and not outputs:
                wait_for(written if changed is None else (changed,))
            if last:
                self._step.commit(state.written)
        values.update(zip(island.outputs, outputs, strict=True))

    def _present(self, state: StateView, key: str, version: int) -> Any:
        """The value of a variable for a program that is called while the lock is held."""
        if version == INITIAL and not state.has(key, INITIAL):
            cell = self._resources.cell(key)
            if cell.value is None:
                raise uninitialised(self._step.order.initial_reads.get(key), key)
            return cell.value
        return state.read(key, version)

    def _restore(self, arrangement: Arrangement, written: tuple, outcome: tuple) -> None:
        """Stores again what was donated to a program in which a check failed."""
        if not arrangement.donated:
            return
        newest = {key: value for (key, _), value in zip(arrangement.writes, written, strict=True)}
        for (key, version), old in zip(arrangement.donated, outcome[-1], strict=True):
            if version == INITIAL:
                self._resources.cell(key).value = newest[key] if old is None else old

    # ---- the usual case: one island

    def as_one_call(self, prepare: Callable[[], None], otherwise: Run) -> Run | None:
        """What runs the step by one call of its only program, which has run; None where that is not all of it.

        prepare, otherwise: see `single_call`.
        """
        step = self._step
        if len(step.split.segments) != 1 or 0 not in self.islands or self.not_compilable:
            return None
        island = self.islands[0]
        if island.only_program() is None or set(island.inputs) - step.fed:
            return None
        places: list[tuple[int, int]] = []
        for tensor in step.fetches:
            if tensor in step.feeds:
                places.append((1, step.feeds.index(tensor)))
            elif tensor in island.outputs:
                places.append((0, island.outputs.index(tensor)))
            else:
                return None
        return single_call(
            island, places, step.feeds, self._resources, prepare, self._restore, otherwise
        )

    def cannot_fail(self) -> bool:
        """Whether the only program of a step that is one call has no checks, so far as it has been traced."""
        programs = self.islands[0]._programs.values()
        return len(programs) == 1 and not programs[0][1].by_count

    def cells(self) -> tuple[Cell, ...]:
        """The cells of what the only program of a step that is one call reads."""
        return tuple(self._resources.cell(key) for key, _ in self.islands[0].reads)
