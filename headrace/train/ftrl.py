"""Follow the regularised leader (McMahan et al. 2013)."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.graph import convert, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.adagrad import make_constant_accumulators
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.FtrlOptimizer")
class FtrlOptimizer(Optimizer):
    """FTRL-proximal with l1, l2 and shrinkage penalties, for large sparse models.

    Slots: `accum`, `linear`, in variables named `<var>/Ftrl`, `<var>/Ftrl_1` (accum_name, linear_name change that).
    Raises ValueError: a strength below 0, a power above 0.
    """

    def __init__(
        self,
        learning_rate: Any,
        learning_rate_power: Any = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
    ) -> None:
        super().__init__(use_locking, name)
        if learning_rate_power > 0.0:
            raise ValueError(
                f"learning_rate_power {learning_rate_power} needs to be negative or zero"
            )
        for value, what in (
            (initial_accumulator_value, "initial_accumulator_value"),
            (l1_regularization_strength, "l1_regularization_strength"),
            (l2_regularization_strength, "l2_regularization_strength"),
            (l2_shrinkage_regularization_strength, "l2_shrinkage_regularization_strength"),
        ):
            if value < 0.0:
                raise ValueError(f"{what} {value} needs to be be positive or zero")
        self._learning_rate, self._learning_rate_power = learning_rate, learning_rate_power
        self._initial_accumulator_value = initial_accumulator_value
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength
        self._l2_shrinkage = l2_shrinkage_regularization_strength
        self._accum_name, self._linear_name = accum_name, linear_name

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            initial = {"accum": self._initial_accumulator_value}
            make_constant_accumulators(self, var, initial, self._accum_name or self._name)
            self._zeros_slot(var, "linear", self._linear_name or self._name)

    def _prepare(self) -> None:
        values = {
            "learning_rate": self._call_if_callable(self._learning_rate),
            "l1_regularization_strength": self._l1,
            "l2_regularization_strength": self._l2,
            "l2_shrinkage_regularization_strength": self._l2_shrinkage,
            "learning_rate_power": self._call_if_callable(self._learning_rate_power),
        }
        tensors = {n: convert.convert_to_tensor(v, name=n) for n, v in values.items()}
        if self._l2_shrinkage <= 0:
            del tensors["l2_shrinkage_regularization_strength"]
        self._tensors = list(tensors.values())

    def _inputs(self, var: Any) -> list[Any]:
        return [cast(t, var) for t in self._tensors]

    def _op(self, prefix: str) -> Any:
        return getattr(raw, f"{prefix}ApplyFtrl{'V2' if self._l2_shrinkage > 0 else ''}")

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        slots = [self.get_slot(var, n)._ref() for n in ("accum", "linear")]
        return self._op("")(
            var._ref(), *slots, grad, *self._inputs(var), use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        slots = [self.get_slot(handle, n).handle for n in ("accum", "linear")]
        return self._op("Resource")(
            handle.handle, *slots, grad, *self._inputs(handle), use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        slots = [self.get_slot(var, n)._ref() for n in ("accum", "linear")]
        return self._op("Sparse")(
            var._ref(),
            *slots,
            grad.values,
            grad.indices,
            *self._inputs(var),
            use_locking=self._use_locking,
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        slots = [self.get_slot(handle, n).handle for n in ("accum", "linear")]
        return self._op("ResourceSparse")(
            handle.handle,
            *slots,
            grad,
            indices,
            *self._inputs(handle),
            use_locking=self._use_locking,
        )
