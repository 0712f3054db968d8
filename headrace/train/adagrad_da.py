"""Adagrad by dual averaging: the variable follows from sums of gradients (Duchi, Hazan, Singer 2011)."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.api.source import identity
from headrace.graph import convert, default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.adagrad import make_constant_accumulators
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.AdagradDAOptimizer")
class AdagradDAOptimizer(Optimizer):
    """Adagrad whose regularisation knows the number of steps; leaves features that were never seen at zero.

    global_step: the tensor or variable that counts steps. Slots: `gradient_accumulator`,
    `gradient_squared_accumulator`, in variables named `<var>/AdagradDA`, `<var>/AdagradDA_1`.
    """

    def __init__(
        self,
        learning_rate: Any,
        global_step: Any,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "AdagradDA",
    ) -> None:
        if initial_gradient_squared_accumulator_value <= 0.0:
            raise ValueError(
                "initial_gradient_squared_accumulator_value must be positive: "
                f"{initial_gradient_squared_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._learning_rate, self._global_step = learning_rate, global_step
        self._initial = initial_gradient_squared_accumulator_value
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            initial = {
                "gradient_accumulator": 0.0,
                "gradient_squared_accumulator": self._initial,
            }
            make_constant_accumulators(self, var, initial, self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = convert.convert_to_tensor(
            self._learning_rate, name="learning_rate"
        )
        with default.get_default_graph().colocate_with(self._learning_rate_tensor):
            self._step_number = identity(self._global_step) + 1

    def _inputs(self, var: Any) -> list[Any]:
        with default.get_default_graph().device(var.device):
            step = identity(self._step_number)
        return [*(cast(v, var) for v in (self._learning_rate_tensor, self._l1, self._l2)), step]

    def _slots_of(self, var: Any) -> list[Any]:
        return [
            self.get_slot(var, n) for n in ("gradient_accumulator", "gradient_squared_accumulator")
        ]

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        total, squares = (s._ref() for s in self._slots_of(var))
        return raw.ApplyAdagradDA(
            var._ref(), total, squares, grad, *self._inputs(var), use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        total, squares = (s.handle for s in self._slots_of(handle))
        return raw.ResourceApplyAdagradDA(
            handle.handle,
            total,
            squares,
            grad,
            *self._inputs(handle),
            use_locking=self._use_locking,
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        total, squares = (s._ref() for s in self._slots_of(var))
        return raw.SparseApplyAdagradDA(
            var._ref(),
            total,
            squares,
            grad.values,
            grad.indices,
            *self._inputs(var),
            use_locking=self._use_locking,
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        total, squares = (s.handle for s in self._slots_of(handle))
        return raw.ResourceSparseApplyAdagradDA(
            handle.handle,
            total,
            squares,
            grad,
            indices,
            *self._inputs(handle),
            use_locking=self._use_locking,
        )
