"""How often and how long XLA compiled: a counter that programs can ask, and a log line for what took long."""

from __future__ import annotations

import logging
import threading
from typing import NamedTuple

import jax

from headrace.lowering import context

# A compilation that takes longer than this is worth a line.
_LONG_SECONDS = 1.0
# What JAX calls the end of a compilation, which it tells listeners of together with the seconds.
COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations(NamedTuple):
    """What XLA has compiled in this process so far: programs, and the seconds that took."""

    count: int
    seconds: float


_lock = threading.Lock()
_total = Compilations(0, 0.0)


def compilations() -> Compilations:
    """How many programs XLA has compiled in this process, and the seconds that took: ask before and after a run."""
    return _total


def _note(event: str, duration_secs: float, **_: str | int) -> None:
    global _total
    if event != COMPILED:
        return
    with _lock:
        _total = Compilations(_total.count + 1, _total.seconds + duration_secs)
    if duration_secs >= _LONG_SECONDS:
        step = context.current_step()
        what = ""
        if step is not None:
            names = [t.name for t in step.fetches] + [op.name for op in step.targets]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            what = f" a step of {len(step.ops)} operations for {shown}"
        logging.getLogger("headrace").info("compiled%s in %.1f s", what, duration_secs)


jax.monitoring.register_event_duration_secs_listener(_note)
