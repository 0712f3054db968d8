"""The cells whose values a program takes in a bundle: brought together where they are not yet."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from headrace.lowering.bundled import StateBundle
from headrace.runtime.resources import Bundle, ResourceStore


class ChangingCells:
    """The cells of a bundle that comes back: between the runs of the step their values stay in its buffer."""

    def __init__(self, plan: StateBundle, resources: ResourceStore) -> None:
        self._layout = plan.layout
        self._cells = [resources.cell(key) for key, _ in plan.reads]
        self._bundle: Bundle | None = None

    def buffer(self, prepare: Callable[[], None]) -> Any:
        """The bundle. prepare: makes the values that are missing, or raises. Raises Misfit: a variable has another shape."""
        bundle = self._bundle
        if bundle is None or not bundle.whole:
            values = [cell.value for cell in self._cells]
            if any(value is None for value in values):
                prepare()
                values = [cell.value for cell in self._cells]
            joined = self._layout.join(values)
            bundle = Bundle(tuple(c.key for c in self._cells), self._layout, joined)
            for cell in self._cells:
                cell.move(bundle)
            self._bundle = bundle
        return bundle.buffer

    def store(self, buffer: Any) -> None:
        """Gives the cells the values of the bundle that came back."""
        assert self._bundle is not None
        self._bundle.buffer = buffer


class ReadCells:
    """The cells of a bundle that does not come back: it is made anew when one of them has another value."""

    def __init__(self, plan: StateBundle, resources: ResourceStore) -> None:
        self._layout = plan.layout
        self._cells = [resources.cell(key) for key, _ in plan.reads]
        self._held: list[Any] = []
        # Where the cells are in bundles of other steps: these, with the buffers that they had.
        self._sources: list[tuple[Bundle, Any]] = []
        self._joined: Any = None

    def buffer(self, prepare: Callable[[], None]) -> Any:
        """As that of ChangingCells."""
        held = [cell.held for cell in self._cells]
        known = len(self._held) and all(map(operator.is_, held, self._held))
        if not known or any(bundle.buffer is not buffer for bundle, buffer in self._sources):
            if any(value is None for value in held):
                prepare()
                held = [cell.held for cell in self._cells]
            self._held = []
            self._joined = self._layout.join([cell.value for cell in self._cells])
            bundles = {id(h): h for h in held if h.__class__ is Bundle}
            self._sources = [(bundle, bundle.buffer) for bundle in bundles.values()]
            self._held = held
        return self._joined


def cells_of(plan: StateBundle, resources: ResourceStore) -> ChangingCells | ReadCells:
    """The cells of a bundle."""
    return (ChangingCells if plan.writes else ReadCells)(plan, resources)
