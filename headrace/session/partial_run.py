"""Partial runs: one step in several calls, with feeds given and fetches asked for as they come up."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from headrace.core import errors
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.runtime.partial_step import PartialStep, Place
from headrace.runtime.resources import ResourceStore

_numbers = itertools.count()


class PartialRun:
    """The state of one partial run: values computed so far, and what may still be fed and fetched."""

    def __init__(
        self,
        graph: Graph,
        tensors: list[Tensor],
        targets: list[Operation],
        feeds: list[Tensor],
        resources: ResourceStore,
        place: Place,
    ) -> None:
        self.handle = f"partial_run_{next(_numbers)}"
        self._step = PartialStep(graph, tensors, targets, feeds, resources, place)
        self._pending: set[Any] = {*tensors, *targets}
        self._declared = frozenset(self._pending)
        self._unfed = set(feeds)
        self._feeds = frozenset(feeds)
        self._lock = threading.Lock()

    def run(
        self, tensors: list[Tensor], targets: list[Operation], fed: list[tuple[Tensor, Any]]
    ) -> list[Any]:
        """Adds the feeds and computes the fetches. Raises InvalidArgumentError: not set up, fed or fetched twice."""
        with self._lock:
            for tensor, _ in fed:
                if tensor not in self._feeds:
                    raise _invalid(
                        f"The feed {tensor.name} was not specified in partial_run_setup."
                    )
                if tensor not in self._unfed:
                    raise _invalid(f"The feed {tensor.name} has already been fed.")
            for item in (*tensors, *targets):
                if item not in self._declared:
                    raise _invalid(f"The fetch {item.name} was not specified in partial_run_setup.")
                if item not in self._pending:
                    raise _invalid(f"The fetch {item.name} has already been fetched.")
            results = self._step.advance(tensors, targets, fed)
            self._unfed.difference_update(t for t, _ in fed)
            self._pending.difference_update((*tensors, *targets))
            return results


def _invalid(message: str) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(None, None, message)
