"""Adadelta (Zeiler 2012)."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.graph import raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.AdadeltaOptimizer")
class AdadeltaOptimizer(Optimizer):
    """Steps in the ratio of decaying averages of squared updates and squared gradients.

    rho: decay. Slots: `accum`, `accum_update`, in variables named `<var>/Adadelta`, `<var>/Adadelta_1`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(use_locking, name)
        self._lr, self._rho, self._epsilon = learning_rate, rho, epsilon

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "accum", self._name)
            self._zeros_slot(var, "accum_update", self._name)

    def _prepare(self) -> None:
        self._lr_t = self._hyperparameter(self._lr, "lr")
        self._rho_t = self._hyperparameter(self._rho, "rho")
        self._epsilon_t = self._hyperparameter(self._epsilon, "epsilon")

    def _inputs(self, var: Any) -> list[Any]:
        return [cast(t, var) for t in (self._lr_t, self._rho_t, self._epsilon_t)]

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        slots = [self.get_slot(var, n)._ref() for n in ("accum", "accum_update")]
        return raw.ApplyAdadelta(
            var._ref(), *slots, *self._inputs(var), grad, use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        slots = [self.get_slot(handle, n).handle for n in ("accum", "accum_update")]
        return raw.ResourceApplyAdadelta(
            handle.handle, *slots, *self._inputs(handle), grad, use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        slots = [self.get_slot(var, n)._ref() for n in ("accum", "accum_update")]
        return raw.SparseApplyAdadelta(
            var._ref(),
            *slots,
            *self._inputs(var),
            grad.values,
            grad.indices,
            use_locking=self._use_locking,
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        slots = [self.get_slot(handle, n).handle for n in ("accum", "accum_update")]
        return raw.ResourceSparseApplyAdadelta(
            handle.handle,
            *slots,
            *self._inputs(handle),
            grad,
            indices,
            use_locking=self._use_locking,
        )
