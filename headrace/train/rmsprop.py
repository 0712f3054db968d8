"""RMSProp (Tieleman, Hinton 2012), and its centred form (Graves 2013)."""

from __future__ import annotations

from typing import Any

from headrace.api.array_ops import ones_like
from headrace.api.export import export
from headrace.api.init_ops import Ones
from headrace.graph import raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.RMSPropOptimizer")
class RMSPropOptimizer(Optimizer):
    """Steps by the gradient over the root of a decaying average of its squares, with momentum.

    centered: the average is of the variance. epsilon: added inside the root. Slots: `rms` (initially one), `mg` if
    centred, `momentum`, in variables named `<var>/RMSProp`, `<var>/RMSProp_1`, ...
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._decay, self._momentum = learning_rate, decay, momentum
        self._epsilon, self._centered = epsilon, centered

    def _create_slots(self, var_list: list[Any]) -> None:
        for var in var_list:
            dtype, shape = var.dtype.base_dtype, var.get_shape()
            ones = Ones(dtype=dtype) if shape.is_fully_defined() else ones_like(var)
            self._get_or_make_slot_with_initializer(var, ones, shape, dtype, "rms", self._name)
            if self._centered:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._hyperparameter(self._learning_rate, "learning_rate")
        self._decay_tensor = self._hyperparameter(self._decay, "decay")
        self._momentum_tensor = self._hyperparameter(self._momentum, "momentum")
        self._epsilon_tensor = self._hyperparameter(self._epsilon, "epsilon")

    def _inputs(self, var: Any) -> list[Any]:
        tensors = (
            self._learning_rate_tensor,
            self._decay_tensor,
            self._momentum_tensor,
            self._epsilon_tensor,
        )
        return [cast(t, var) for t in tensors]

    def _slots_of(self, var: Any) -> list[Any]:
        names = ("mg", "rms", "momentum") if self._centered else ("rms", "momentum")
        return [self.get_slot(var, n) for n in names]

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        add = raw.ApplyCenteredRMSProp if self._centered else raw.ApplyRMSProp
        slots = [s._ref() for s in self._slots_of(var)]
        return add(var._ref(), *slots, *self._inputs(var), grad, use_locking=self._use_locking).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        add = raw.ResourceApplyCenteredRMSProp if self._centered else raw.ResourceApplyRMSProp
        slots = [s.handle for s in self._slots_of(handle)]
        return add(
            handle.handle, *slots, *self._inputs(handle), grad, use_locking=self._use_locking
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        add = raw.SparseApplyCenteredRMSProp if self._centered else raw.SparseApplyRMSProp
        slots = [s._ref() for s in self._slots_of(var)]
        return add(
            var._ref(),
            *slots,
            *self._inputs(var),
            grad.values,
            grad.indices,
            use_locking=self._use_locking,
        ).op

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        add = (
            raw.ResourceSparseApplyCenteredRMSProp
            if self._centered
            else raw.ResourceSparseApplyRMSProp
        )
        slots = [s.handle for s in self._slots_of(handle)]
        return add(
            handle.handle,
            *slots,
            *self._inputs(handle),
            grad,
            indices,
            use_locking=self._use_locking,
        )
