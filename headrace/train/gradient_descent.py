"""Plain gradient descent."""

from __future__ import annotations

from typing import Any

from headrace.api.export import export
from headrace.graph import raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor
from headrace.train.optimizer import Optimizer, cast


@export("train.GradientDescentOptimizer")
class GradientDescentOptimizer(Optimizer):
    """`var -= learning_rate * gradient`.

    learning_rate: a number, a tensor, or a function that gives one.
    """

    def __init__(
        self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._learning_rate_tensor: Any = None

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._hyperparameter(self._learning_rate, "learning_rate")

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        rate = cast(self._learning_rate_tensor, var)
        return raw.ApplyGradientDescent(var._ref(), rate, grad, use_locking=self._use_locking).op

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        rate = cast(self._learning_rate_tensor, handle)
        return raw.ResourceApplyGradientDescent(
            handle.handle, rate, grad, use_locking=self._use_locking
        )

    # Repeated rows subtract one after the other: nothing has to be summed first.

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        step = grad.values * cast(self._learning_rate_tensor, var)
        return var.scatter_sub(
            IndexedSlices(step, grad.indices, grad.dense_shape), use_locking=self._use_locking
        )

    def _resource_apply_sparse_duplicate_indices(self, grad: Any, handle: Any, indices: Any) -> Any:
        rate: Any = self._learning_rate
        if callable(rate) or isinstance(rate, Tensor):
            rate = cast(self._learning_rate_tensor, handle)
        step = -grad * rate
        return raw.ResourceScatterAdd(handle.handle, indices, step)
