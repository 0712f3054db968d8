"""The first runs of a step for new shapes: which are interpreted, and what is compiled meanwhile.

What runs once (an initialiser, a test) never waits for the compiler. Nor does the first run of a large network, whose program
takes seconds to compile: it is compiled in another thread, during the runs after the first. How many runs are interpreted
follows from the step alone, not from how long the compiler takes: the same program gives the same numbers each time.

The results of a step without loops that changes no state are compared with one another. Sums and products of NumPy's or of
the host's kernels are not XLA's to the last bit: where such a step is interpreted, kernels that XLA compiles make all large
ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax

from headrace import native
from headrace.graph.func_graph import functions_of
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.evaluate import Values
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import x64
from headrace.passes.segments import Split
from headrace.runtime.resources import Cell, ResourceStore

# Compiling an island costs about 30 ms and 3 ms for each operation, a kernel of its own about 20 ms; a step with more
# operations that need one than this is compiled at once.
_MAX_KERNELS = 6

# Compiling takes longer than some runs of the interpreter, which takes about twice as long as the program will.
_LARGE_ISLAND = 100
_RUNS_OF_LARGE_ISLANDS = 4

# Interpretation copies a variable to change it; a program, which one of so many bytes is worth, changes it in place.
_LARGE_VARIABLE = 1 << 25

Shapes = tuple[tuple[int, ...], ...]

_logger = logging.getLogger("headrace")


def runs_to_interpret(split: Split, repeatable: bool) -> int:
    """How many runs of a step are interpreted for each set of shapes, before its islands are compiled.

    repeatable: the step changes nothing, so that its first run should give the bits that later ones give.
    """
    islands = [segment for segment in split.segments if segment.is_island]
    ops = [op for segment in islands for op in segment.ops]
    if repeatable:
        kinds = {op.type for op in ops if op._definition.host_rule is None}
        return 1 if len(kinds) <= _MAX_KERNELS and _size(ops) < _LARGE_ISLAND else 0
    if _kernels_needed(ops) > _MAX_KERNELS:
        return 0
    if len(split.segments) == len(islands) == 1 and not islands[0].static_inputs:
        return _RUNS_OF_LARGE_ISLANDS if _size(islands[0].ops) >= _LARGE_ISLAND else 1
    return 1


def _size(ops: Iterable[Operation]) -> int:
    """The number of operations, with those of the functions that they call."""
    count = 0
    for op in ops:
        count += 1
        if op._definition.function_attrs:
            count += sum(_size(function.graph.get_operations()) for _, function in functions_of(op))
    return count


def _kernels_needed(ops: Iterable[Operation]) -> int:
    """How many kinds of operations there are that neither NumPy nor a kernel of the host computes."""
    kinds = set()
    for op in ops:
        definition = op._definition
        if definition.host_rule is None and not (definition.native_rule and native.available()):
            kinds.add(op.type)
    return len(kinds)


class Ahead:
    """Programs that are compiled in other threads, by the shapes that they are for."""

    def __init__(self) -> None:
        self._threads: dict[Shapes, threading.Thread] = {}

    def start(self, shapes: Shapes, compile: Callable[[], None]) -> None:
        """Has `compile` called in another thread, once for these shapes. What it raises, the run that compiles raises."""
        if shapes in self._threads:
            return
        self._threads[shapes] = in_background(compile)

    def wait(self, shapes: Shapes) -> None:
        """Returns when the program for these shapes is there, at once where none is being compiled."""
        thread = self._threads.get(shapes)
        if thread is not None:
            thread.join()
            self._threads.pop(shapes, None)


def compiling(
    island: Island,
    values: Values,
    resources: ResourceStore,
    running: Callable[[], AbstractContextManager[None]],
) -> Callable[[], None]:
    """What compiles `island` for inputs like `values` and variables as they are then, without running it.

    running: the context of a run of the step.
    """
    abstract = {tensor: _abstract(value) for tensor, value in values.items()}

    def compile() -> None:
        inputs = tuple(abstract[t] for t in island.inputs)
        with resources.lock:
            arguments = island.arguments(lambda key, _: _value(resources.cell(key)), inputs)
            arguments = jax.tree.map(_abstract, arguments)
            program, _ = island.program([])
        with running(), x64():
            lowered = program.lower(*arguments)
            if threading.main_thread().is_alive():  # else the process is about to end
                lowered.compile()

    return compile


def _value(cell: Cell) -> Any:
    if cell.value is None:
        raise LookupError(f"{cell.key} has no value yet")
    return cell.value


def _abstract(value: Any) -> Any:
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def in_background(compile: Callable[[], None]) -> threading.Thread:
    """A thread, started, that calls `compile` and only logs what it raises: the run that needs the program meets it again.

    No daemon: XLA's compiler crashes where the process ends around it, so an end waits for it.
    """
    thread = threading.Thread(target=_quietly, args=(compile,), name="compiler", daemon=False)
    thread.start()
    return thread


def _quietly(compile: Callable[[], None]) -> None:
    try:
        compile()
    except Exception as error:
        _logger.debug("compiling in another thread failed: %s", error)


def any_is_large(values: Iterable[Any]) -> bool:
    """Whether one of these values, of variables that a step writes, is so large that the copies of interpretation count."""
    return any(getattr(value, "nbytes", 0) > _LARGE_VARIABLE for value in values)


def last_uses(
    ops: Sequence[Operation], everything: Iterable[Operation], kept: Iterable[Tensor]
) -> dict[Operation, tuple[Tensor, ...]]:
    """For each of `ops`, in order, the tensors that none after it uses: all of its inputs and outputs but some.

    These are the ones that are `kept`, and those that others among `everything`, the operations of the step, take.
    """
    inside = set(ops)
    seen = {t for op in everything if op not in inside for t in op._inputs}
    seen.update(kept)
    found: dict[Operation, tuple[Tensor, ...]] = {}
    for op in reversed(ops):
        last = [t for t in dict.fromkeys((*op._outputs, *op._inputs)) if t not in seen]
        if last:
            found[op] = tuple(last)
            seen.update(last)
    return found
