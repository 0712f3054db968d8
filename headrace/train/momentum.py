"""Gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.graph import raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.MomentumOptimizer")
class MomentumOptimizer(Optimizer):
    """`accumulation = momentum * accumulation + gradient; var -= learning_rate * accumulation`.

    use_nesterov: Nesterov's form (Sutskever et al. 2013). Slot: `momentum`, in variables named `<var>/Momentum`.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum, self._use_nesterov = (
            learning_rate,
            momentum,
            use_nesterov,
        )

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._hyperparameter(self._learning_rate, "learning_rate")
        self._momentum_tensor = self._hyperparameter(self._momentum, "momentum")

    def _flags(self) -> dict[str, bool]:
        return {"use_locking": self._use_locking, "use_nesterov": self._use_nesterov}

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        slot = self.get_slot(var, "momentum")
        rate, momentum = cast(self._learning_rate_tensor, var), cast(self._momentum_tensor, var)
        return raw.ApplyMomentum(var._ref(), slot._ref(), rate, grad, momentum, **self._flags()).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        slot = self.get_slot(handle, "momentum")
        rate, momentum = (
            cast(self._learning_rate_tensor, handle),
            cast(self._momentum_tensor, handle),
        )
        return raw.ResourceApplyMomentum(
            handle.handle, slot.handle, rate, grad, momentum, **self._flags()
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        slot = self.get_slot(var, "momentum")
        rate, momentum = cast(self._learning_rate_tensor, var), cast(self._momentum_tensor, var)
        return raw.SparseApplyMomentum(
            var._ref(), slot._ref(), rate, grad.values, grad.indices, momentum, **self._flags()
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        slot = self.get_slot(handle, "momentum")
        rate, momentum = (
            cast(self._learning_rate_tensor, handle),
            cast(self._momentum_tensor, handle),
        )
        return raw.ResourceSparseApplyMomentum(
            handle.handle, slot.handle, rate, grad, indices, momentum, **self._flags()
        )
