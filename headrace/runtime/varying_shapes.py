"""Steps with loops that are fed different shapes: which of them are worth a program.

A recurrent network is fed batches of many lengths, and compiling its step takes seconds. The first shape is compiled like
that of any step. A further one is interpreted; when it comes a third time, its program is compiled in another thread while
runs go on being interpreted, and used as soon as it is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from headrace.runtime.first_runs import Shapes, in_background

# A shape that comes this often is going to come again.
_RUNS_BEFORE_COMPILING = 3


class VaryingShapes:
    """What is known of the shapes that one step was fed."""

    def __init__(self) -> None:
        self._runs: dict[Shapes, int] = {}
        self._compiled: set[Shapes] = set()
        self._lock = threading.Lock()
        self._at_work: threading.Thread | None = None

    def has_program(self, shapes: Shapes) -> bool:
        """Whether a program for these shapes is there."""
        return shapes in self._compiled

    def note_program(self, shapes: Shapes) -> None:
        """Says that a run has compiled a program for these shapes."""
        self._compiled.add(shapes)

    def is_interpreted(self, shapes: Shapes, compile: Callable[[], None] | None) -> bool:
        """Whether the next run for these shapes is to be interpreted: they are not the first, and have no program yet.

        compile: makes the program for these shapes and returns once it is there; it is called in another thread, and may
        raise anything: the run that needs the program then compiles it. None where only a run can.
        """
        with self._lock:
            runs = self._runs[shapes] = self._runs.get(shapes, 0) + 1
            if shapes in self._compiled or (not self._compiled and len(self._runs) == 1):
                return False
            if runs < _RUNS_BEFORE_COMPILING:
                return True
            if compile is None:
                return False
            if self._at_work is None or not self._at_work.is_alive():
                self._at_work = in_background(lambda: self._compile(shapes, compile))
            return True

    def _compile(self, shapes: Shapes, compile: Callable[[], None]) -> None:
        try:
            compile()
        finally:
            self._compiled.add(shapes)
