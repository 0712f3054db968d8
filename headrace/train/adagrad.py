"""Adagrad: steps that shrink with the sum of squared gradients (Duchi, Hazan, Singer 2011)."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.api.init_ops import Constant
from headrace.api.source import constant
from headrace.graph import default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import Optimizer, cast, row_by_row


def make_accumulator(
    optimizer: Optimizer, var: Any, value: float, slot_name: str, op_name: str
) -> Any:
    """A slot with the shape of `var` that holds `value` everywhere at first."""
    dtype = var.dtype.base_dtype
    shape = var.get_shape()
    if shape.is_fully_defined():
        return optimizer._get_or_make_slot_with_initializer(
            var, Constant(value, dtype=dtype), shape, dtype, slot_name, op_name
        )

    def filled() -> Any:
        return cast(raw.Fill(raw.Shape(var), value), var)

    return optimizer._get_or_make_slot_with_initializer(
        var, filled, shape, dtype, slot_name, op_name
    )


def make_constant_accumulators(
    optimizer: Optimizer, var: Any, initial: dict[str, float], op_name: str
) -> None:
    """Slots `{name: initial value}`; the initial values are nodes beside the variable, whose shape is static."""
    dtype, shape = var.dtype.base_dtype, var.get_shape()
    with default.get_default_graph().colocate_with(var):
        filled = [constant(value, dtype=dtype, shape=shape) for value in initial.values()]
    for slot_name, value in zip(initial, filled, strict=True):
        optimizer._get_or_make_slot(var, value, slot_name, op_name)


@export("train.AdagradOptimizer")
class AdagradOptimizer(Optimizer):
    """`accumulator += gradient**2; var -= learning_rate * gradient / sqrt(accumulator)`.

    initial_accumulator_value: above 0. Slot: `accumulator`, in variables named `<var>/Adagrad`.
    """

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(
                f"initial_accumulator_value must be positive: {initial_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._initial_accumulator_value = initial_accumulator_value
        self._learning_rate_tensor: Any = None

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            make_accumulator(self, var, self._initial_accumulator_value, "accumulator", self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._hyperparameter(self._learning_rate, "learning_rate")

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        acc, rate = self.get_slot(var, "accumulator"), cast(self._learning_rate_tensor, var)
        return raw.ApplyAdagrad(
            var._ref(), acc._ref(), rate, grad, use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        acc, rate = self.get_slot(handle, "accumulator"), cast(self._learning_rate_tensor, handle)
        return raw.ResourceApplyAdagrad(
            handle.handle, acc.handle, rate, grad, use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        acc, rate = self.get_slot(var, "accumulator"), cast(self._learning_rate_tensor, var)
        return raw.SparseApplyAdagrad(
            var._ref(), acc._ref(), rate, grad.values, grad.indices, use_locking=self._use_locking
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        acc, rate = self.get_slot(handle, "accumulator"), cast(self._learning_rate_tensor, handle)
        return raw.ResourceSparseApplyAdagrad(
            handle.handle, acc.handle, rate, grad, indices, use_locking=self._use_locking
        )
