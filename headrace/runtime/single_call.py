"""The usual step, a single island: after its first compiled run it is one call of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.graph.tensor import Tensor
from headrace.lowering.bundled import Arrangement, Bundled, Misfit
from headrace.lowering.checks import Collector, RoomExceeded, raise_if_failed
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import ARRAY, restore_x64, swap_x64
from headrace.lowering.not_compilable import NotCompilable
from headrace.runtime.bundled_cells import cells_of
from headrace.runtime.owned import owned
from headrace.runtime.ready_arguments import ready_input, to_device, wait_for
from headrace.runtime.resources import Cell, ResourceStore

Run = Callable[[list[Any]], list[Any]]
# What stores again the state that was donated to a program in which a check failed; of (written, outcome).
Restore = Callable[[Arrangement, tuple, tuple], None]


def single_call(
    island: Island,
    places: list[tuple[int, int]],
    feeds: Sequence[Tensor],
    resources: ResourceStore,
    prepare: Callable[[], None],
    restore: Restore,
    otherwise: Run,
) -> Run:
    """What takes the arrays of `feeds` and gives those of the fetches, by one call of the island's only program.

    places: of each fetch, (0, its number among the island's outputs) or (1, its number among the feeds). prepare: makes
    the states of generators and raises FailedPreconditionError where a variable has no value. restore: stores again what
    was donated to a program in which a check failed. otherwise: runs the step where the call turns out to be no more.
    """
    found = island.only_program()
    assert found is not None
    program, collector = found
    positions = tuple(feeds.index(t) for t in island.inputs)
    simple = all(kind == 0 for kind, _ in places) and [i for _, i in places] == list(
        range(len(island.outputs))
    )
    if island.reads or island.arrangement.writes:
        run = _stateful_call(island, program, collector, resources, prepare, restore)
    else:
        run = _direct_call(island, program, collector)

    def call(feed_values: list[Any]) -> list[Any]:
        inputs = tuple([ready_input(feed_values[i]) for i in positions])
        try:
            outputs = run(inputs)
        except (RoomExceeded, NotCompilable, Misfit):
            # Found out for new shapes, or a longer loop: nothing has come of the run.
            return otherwise(feed_values)
        if collector.own_outputs:
            outputs = list(outputs)
            for i in collector.own_outputs:
                outputs[i] = owned(outputs, i)
        if simple:
            return outputs
        return [outputs[i] if kind == 0 else feed_values[i] for kind, i in places]

    return call


def _stateful_call(
    island: Island,
    program: Any,
    collector: Collector,
    resources: ResourceStore,
    prepare: Callable[[], None],
    restore: Restore,
) -> Callable[[tuple], Any]:
    """The call of an island that reads or writes variables: from their cells, and back."""
    arrangement = island.arrangement
    donated = tuple(resources.cell(k) for k, _ in arrangement.donated)
    kept = tuple(resources.cell(k) for k, _ in arrangement.kept)
    # A variable that is written twice is in the list twice, its newest version last.
    writes = tuple(resources.cell(k) for k, _ in arrangement.writes)
    bundles = [cells_of(plan, resources) for plan in arrangement.bundles]
    constants, lock = island.constants, resources.lock
    no_filters = not island.has_filters

    def values_of(cells: tuple[Cell, ...]) -> tuple:
        found = tuple([c.value for c in cells])
        for value in found:
            if value.__class__ is not ARRAY:
                if any(v is None for v in found):
                    prepare()
                to_device(cells)
                return tuple([c.value for c in cells])
        return found

    def call(inputs: tuple) -> tuple:
        with lock:
            old = values_of(donated) if donated else ()
            others = values_of(kept) if kept else ()
            together = tuple([b.buffer(prepare) for b in bundles]) if bundles else ()
            previous = swap_x64(True)
            try:
                filters = None if no_filters else island.filters(others)
                written, changed, results = program(
                    old, together, others, inputs, constants, filters
                )
            finally:
                restore_x64(previous)
            if results.__class__ is Bundled:
                # Nothing to wait for under the lock, unless the run may have failed.
                outputs, outcome = results.take() if results.fallible else ((), ())
            else:
                outputs, outcome = results
            if outcome and outcome[0]:
                restore(arrangement, written, outcome)
                raise_if_failed(outcome, collector)
            for cell, value in zip(writes, written):
                cell.value = value
            if changed is not None:
                bundles[0].store(changed)
            if inputs and not outputs and results.__class__ is not Bundled:
                wait_for(written if changed is None else (changed,))
        if results.__class__ is Bundled and not results.fallible:
            outputs, _ = results.take()
        return outputs

    return call


def _direct_call(island: Island, program: Any, collector: Collector) -> Callable[[tuple], Any]:
    """The call of a program that has nothing to do with variables."""
    constants, no_filters = island.constants, not island.has_filters

    def call(inputs: tuple) -> tuple:
        previous = swap_x64(True)
        try:
            filters = None if no_filters else island.filters(())
            _, _, results = program((), (), (), inputs, constants, filters)
        finally:
            restore_x64(previous)
        outputs, outcome = results.take() if results.__class__ is Bundled else results
        if outcome:
            raise_if_failed(outcome, collector)
        return outputs

    return call
