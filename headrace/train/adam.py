"""Adam (Kingma, Ba 2014)."""

from __future__ import annotations

from typing import Any

from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.state_ops import assign
from headrace.graph import default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.train.optimizer import Optimizer, cast, row_by_row


@export("train.AdamOptimizer")
class AdamOptimizer(Optimizer):
    """Steps by the decaying average of gradients over the root of that of their squares, corrected for their start.

    epsilon: the paper's "epsilon hat", added to the root. Slots: `m`, `v`, in variables named `<var>/Adam`,
    `<var>/Adam_1`; the powers of the betas are variables `beta1_power`, `beta2_power`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-08,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        graph = default.get_default_graph()
        return (
            self._get_non_slot_variable("beta1_power", graph=graph),
            self._get_non_slot_variable("beta2_power", graph=graph),
        )

    def _create_slots(self, var_list: list[Any]) -> None:
        # The variable with the first name, so that every run puts the powers beside the same one.
        first = min(var_list, key=lambda v: v.name)
        self._create_non_slot_variable(self._beta1, "beta1_power", first)
        self._create_non_slot_variable(self._beta2, "beta2_power", first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _prepare(self) -> None:
        self._lr_t = self._hyperparameter(self._lr, "learning_rate")
        self._beta1_t = self._hyperparameter(self._beta1, "beta1")
        self._beta2_t = self._hyperparameter(self._beta2, "beta2")
        self._epsilon_t = self._hyperparameter(self._epsilon, "epsilon")

    def _hyperparameters(self, var: Any) -> list[Any]:
        return [cast(t, var) for t in (self._lr_t, self._beta1_t, self._beta2_t, self._epsilon_t)]

    def _powers(self, var: Any) -> list[Any]:
        return [cast(p, var) for p in self._get_beta_accumulators()]

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        return raw.ApplyAdam(
            var._ref(),
            m._ref(),
            v._ref(),
            *self._powers(var),
            *self._hyperparameters(var),
            grad,
            use_locking=self._use_locking,
        ).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        m, v = self.get_slot(handle, "m"), self.get_slot(handle, "v")
        return raw.ResourceApplyAdam(
            handle.handle,
            m.handle,
            v.handle,
            *self._powers(handle),
            *self._hyperparameters(handle),
            grad,
            use_locking=self._use_locking,
        )

    @row_by_row
    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        return self._apply_sparse_shared(
            grad.values,
            var,
            grad.indices,
            lambda x, i, v: x.scatter_add(IndexedSlices(v, i), self._use_locking),
        )

    @row_by_row
    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        return self._apply_sparse_shared(grad, handle, indices, self._resource_scatter_add)

    def _resource_scatter_add(self, x: Any, i: Any, v: Any) -> Any:
        with default.get_default_graph().control_dependencies(
            [raw.ResourceScatterAdd(x.handle, i, v)]
        ):
            return x.value()

    @row_by_row
    def _apply_sparse_shared(self, grad: Any, var: Any, indices: Any, scatter_add: Any) -> Any:
        """The averages decay everywhere, the gradient adds to some rows, and the whole variable moves."""
        beta1_power, beta2_power = self._powers(var)
        lr, beta1, beta2, epsilon = self._hyperparameters(var)
        rate = lr * raw.Sqrt(1 - beta2_power) / (1 - beta1_power)
        graph = default.get_default_graph()

        def moment(slot_name: str, beta: Any, power: Any) -> Any:
            slot, addend = self.get_slot(var, slot_name), power * (1 - beta)
            decayed = assign(slot, slot * beta, use_locking=self._use_locking)
            with graph.control_dependencies([decayed]):
                return scatter_add(slot, indices, addend)

        m = moment("m", beta1, grad)
        v = moment("v", beta2, grad * grad)
        root = raw.Sqrt(v)
        update = var.assign_sub(rate * m / (root + epsilon), use_locking=self._use_locking)
        return group(update, m, v)

    def _finish(self, update_ops: list[Any], name_scope: str) -> Any:
        graph = default.get_default_graph()
        with graph.control_dependencies(update_ops):
            beta1_power, beta2_power = self._get_beta_accumulators()
            with graph.colocate_with(beta1_power):
                update_beta1 = beta1_power.assign(
                    beta1_power * self._beta1_t, use_locking=self._use_locking
                )
                update_beta2 = beta2_power.assign(
                    beta2_power * self._beta2_t, use_locking=self._use_locking
                )
        return group(*update_ops, update_beta1, update_beta2, name=name_scope)
