"""Proximal gradient descent and proximal Adagrad: a gradient step, then one on the penalties (Duchi, Singer 2009)."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.graph import convert, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.adagrad import make_constant_accumulators
from headrace.train.optimizer import Optimizer, cast, row_by_row


class _Proximal(Optimizer):
    """What the two share: a learning rate and the strengths of the penalties."""

    def __init__(
        self, learning_rate: Any, l1: float, l2: float, use_locking: bool, name: str
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._l1_regularization_strength, self._l2_regularization_strength = l1, l2

    def _prepare(self) -> None:
        self._tensors = [
            self._hyperparameter(self._learning_rate, "learning_rate"),
            convert.convert_to_tensor(
                self._l1_regularization_strength, name="l1_regularization_strength"
            ),
            convert.convert_to_tensor(
                self._l2_regularization_strength, name="l2_regularization_strength"
            ),
        ]

    def _inputs(self, var: Any) -> list[Any]:
        return [cast(t, var) for t in self._tensors]


@export("train.ProximalGradientDescentOptimizer")
class ProximalGradientDescentOptimizer(_Proximal):
    """Gradient descent with l1 and l2 penalties that set weights to exactly zero."""

    def __init__(
        self,
        learning_rate: Any,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ) -> None:
        super().__init__(
            learning_rate, l1_regularization_strength, l2_regularization_strength, use_locking, name
        )

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        return raw.ApplyProximalGradientDescent(
            var._ref(), *self._inputs(var), grad, use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        return raw.ResourceApplyProximalGradientDescent(
            handle.handle, *self._inputs(handle), grad, use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        return raw.SparseApplyProximalGradientDescent(
            var._ref(), *self._inputs(var), grad.values, grad.indices, use_locking=self._use_locking
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        return raw.ResourceSparseApplyProximalGradientDescent(
            handle.handle, *self._inputs(handle), grad, indices, use_locking=self._use_locking
        )


@export("train.ProximalAdagradOptimizer")
class ProximalAdagradOptimizer(_Proximal):
    """Adagrad with l1 and l2 penalties. Slot: `accumulator`, in variables named `<var>/ProximalAdagrad`.

    Raises ValueError: initial_accumulator_value is not above 0.
    """

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalAdagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(
                f"initial_accumulator_value must be positive: {initial_accumulator_value}"
            )
        super().__init__(
            learning_rate, l1_regularization_strength, l2_regularization_strength, use_locking, name
        )
        self._initial_accumulator_value = initial_accumulator_value

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            initial = {"accumulator": self._initial_accumulator_value}
            make_constant_accumulators(self, var, initial, self._name)

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        acc = self.get_slot(var, "accumulator")._ref()
        return raw.ApplyProximalAdagrad(
            var._ref(), acc, *self._inputs(var), grad, use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        acc = self.get_slot(handle, "accumulator").handle
        return raw.ResourceApplyProximalAdagrad(
            handle.handle, acc, *self._inputs(handle), grad, use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        acc = self.get_slot(var, "accumulator")._ref()
        return raw.SparseApplyProximalAdagrad(
            var._ref(),
            acc,
            *self._inputs(var),
            grad.values,
            grad.indices,
            use_locking=self._use_locking,
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        acc = self.get_slot(handle, "accumulator").handle
        return raw.ResourceSparseApplyProximalAdagrad(
            handle.handle, acc, *self._inputs(handle), grad, indices, use_locking=self._use_locking
        )
