"""Steps that fetch nothing, and whether it pays that their runs return before they are done."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from headrace.runtime.late_runs import LateRuns
from headrace.runtime.resources import Cell
from headrace.runtime.step import Step

# Seconds that a run takes at least to be worth it, before it is tried and while it is done.
_LEAST_BEFORE, _LEAST_WHILE = 1e-3, 0.7e-3
# What the caller does between two runs: so much of the time of a run, and so many seconds, are worth a trial.
_LEAST_GAP, _LEAST_GAP_SECONDS = 0.03, 1e-4
# From the start of a run to the start of the next, it must take so much less.
_WORTH = 0.97
# Runs that are measured before a trial and in one; how long its result holds; how many runs are not looked at where they
# are no program (yet), where they are short, and where a trial was no success.
_WATCHED, _TRIED, _HOLDS = 8, 16, 2000
_NO_PROGRAM, _SHORT, _FAILED, _MOST_FAILED = 4, 32, 100, 10_000

_MOST_SHAPES = 64


class Trial:
    """Decides by what is measured: the times of runs, and from the start of one to that of the next.

    late: whether the next run should return before it is done.
    """

    def __init__(self) -> None:
        self.late = False
        self._cycles: list[float] = []
        self._seconds: list[float] = []
        self._before = 0.0  # a cycle of runs that were waited for
        self._begun = 0.0
        self._kept = 0
        self._failed = _FAILED

    def note(self, begun: float, seconds: float) -> int:
        """Adds a run that began at `begun` and took `seconds`; how many runs need not be measured after it."""
        if self._begun:
            self._cycles.append(begun - self._begun)
        self._begun = begun
        self._seconds.append(seconds)
        if self.late:
            return self._note_late()
        if len(self._cycles) < _WATCHED:
            return 0 if seconds >= _LEAST_BEFORE or len(self._seconds) > 1 else self._pause(_SHORT)
        cycle, seconds = statistics.median(self._cycles), statistics.median(self._seconds)
        gap = cycle - seconds
        if seconds < _LEAST_BEFORE or gap < max(_LEAST_GAP * seconds, _LEAST_GAP_SECONDS):
            return self._pause(_SHORT)
        self._forget()
        self._before, self.late, self._kept = cycle, True, 0
        return 0

    def _note_late(self) -> int:
        if len(self._cycles) < _TRIED:
            return 0
        cycle, seconds = statistics.median(self._cycles), statistics.median(self._seconds)
        if cycle > _WORTH * self._before or seconds < _LEAST_WHILE:
            self.late = False
            pause, self._failed = self._failed, min(2 * self._failed, _MOST_FAILED)
            return self._pause(pause)
        self._failed = _FAILED
        self._kept += len(self._cycles)
        begun = self._begun
        self._forget()
        if self._kept < _HOLDS:
            self._begun = begun
        else:
            self.late = False  # to be compared with anew
        return 0

    def interrupt(self) -> None:
        """Says that a run came that is not to be compared with others."""
        self._begun = 0.0

    def _pause(self, runs: int) -> int:
        self._forget()
        return runs

    def _forget(self) -> None:
        self._cycles.clear()
        self._seconds.clear()
        self._begun = 0.0


class LateStep:
    """What runs a step that fetches nothing; its results are none.

    A run returns before it is done only where it is the call of a program that has no checks, and that met the same shapes
    before, of what is fed and of variables: then it does not fail unless memory runs out, or XLA itself does.
    """

    def __init__(self, step: Step, late: LateRuns) -> None:
        self._step, self._late = step, late
        self._trial = Trial()
        self._pause = 0
        self._shapes: set[Any] = set()
        self._state: tuple[Any, ...] = ()
        self._cells: tuple[Cell, ...] | None = None
        self._last: Any = None
        self._name = ", ".join(repr(op._name) for op in step.targets[:3])

    def __call__(self, feed_values: list[Any]) -> list[Any]:
        """Runs the step. feed_values: as `Step.run` takes them. Raises what that raises; LateFailure: an earlier run did."""
        step = self._step
        if self._pause:
            self._pause -= 1
            return (step.direct or step.run)(feed_values)
        shapes = tuple([v.shape for v in feed_values])
        if not step.cannot_fail(shapes):
            results = step.run(feed_values)
            self._pause = _NO_PROGRAM
            return results
        trial, begun = self._trial, time.perf_counter()
        if trial.late:
            if shapes in self._shapes and self._state_of_variables() == self._state:
                run = self._late.hand_over(step.run, feed_values, self._name)
                if run is not None:
                    last, self._last = self._last, run
                    self._pause = trial.note(
                        begun, last.seconds if last is not None else _LEAST_BEFORE
                    )
                    return []
                self._late.settle()
            trial.interrupt()
            self._last = None
        results = step.run(feed_values)
        if not trial.late:
            self._pause = trial.note(begun, time.perf_counter() - begun)
        self._note_shapes(shapes)
        return results

    def _note_shapes(self, shapes: Any) -> None:
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        state = self._state_of_variables()
        if state != self._state:
            self._shapes.clear()
            self._state = state
        if None not in state:
            self._shapes.add(shapes)

    def _state_of_variables(self) -> tuple[Any, ...]:
        """The shapes of what the step reads; None for what has no value."""
        if self._cells is None:
            self._cells = self._step.programs.cells()
        return tuple([cell.shape for cell in self._cells])


def late_step(step: Step, late: LateRuns) -> LateStep | None:
    """What runs `step`, if its runs may return before they are done."""
    if step.__class__ is not Step or step.fetches or step.is_empty or not step.order.writers:
        return None
    return LateStep(step, late) if os.environ.get("HEADRACE_LATE_RUNS", "1") != "0" else None
