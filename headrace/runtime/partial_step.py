"""A step that runs in several parts: each part computes what it can from what has been fed so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import errors
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.evaluate import Values, store_outputs
from headrace.lowering.state import StateView
from headrace.passes.prune import prune
from headrace.passes.state_order import names_variable
from headrace.runtime.device_step import DeviceStep
from headrace.runtime.devices import Device
from headrace.runtime.missing import check_fed
from headrace.runtime.resources import ResourceStore
from headrace.runtime.step import Step

# Places operations: the device of each, or None where all are on JAX's own choice.
Place = Callable[[list[Operation]], Callable[[Operation], Device] | None]


class PartialStep:
    """The values and the state of a step between its parts; each operation runs once."""

    def __init__(
        self,
        graph: Graph,
        fetches: Sequence[Tensor],
        targets: Sequence[Operation],
        feeds: Sequence[Tensor],
        resources: ResourceStore,
        place: Place,
    ) -> None:
        parts = graph, fetches, targets, feeds, resources
        self._step = Step(*parts, partial=True)
        device_of = place(self._step.ops)
        if device_of is not None:
            self._step = DeviceStep(*parts, partial=True, device_of=device_of, together=False)
        self._values: Values = {}
        self._state = StateView(self._step.load)
        self._done: set[Operation] = set()

    def advance(
        self,
        fetches: Sequence[Tensor],
        targets: Sequence[Operation],
        fed: Sequence[tuple[Tensor, Any]],
    ) -> list[Any]:
        """Adds fed values and runs what `fetches` and `targets` still need.

        Raises InvalidArgumentError: that needs a tensor that has not been fed yet.
        """
        step = self._step
        step.ensure_generators()
        given = dict(fed)
        available = {**self._values, **given}
        roots = [t._op for t in fetches if t not in step.fed]
        needed = prune([*roots, *targets], step.fed)
        check_fed(needed, step.ops, step.fed)
        for op in needed:
            if op in self._done:
                continue
            for tensor in op._inputs:
                if tensor in step.fed and tensor not in available:
                    raise errors.InvalidArgumentError(
                        None,
                        op,
                        f"Must feed {tensor.name} before {op._name!r} can be computed in this partial run.",
                    )
        self._values.update(given)
        with context.running(step):
            for op in needed:
                if op in self._done or names_variable(op):
                    continue
                results = step.interpreter.evaluate(op, self._values, self._state)
                store_outputs(op, results, self._values, step.fed)
                self._done.add(op)
        step.commit(self._state.written)
        return [step.fetched(t, self._values, self._state) for t in fetches]
