"""Sums over the iterations of an interpreted loop whose terms are products: one product of all rows at its end.

The gradient of a weight in a recurrent network is such a sum. In each iteration only the factors are kept (see
`passes.loop_products.WeightGradient`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace import native
from headrace.graph.func_graph import FuncGraph
from headrace.graph.tensor import Tensor
from headrace.lowering.functions import Functions
from headrace.passes.loop_products import WeightGradient, find_loop_products
from headrace.passes.state_order import BodyPlan

_KINDS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclasses.dataclass(frozen=True)
class _Deferral:
    """The sums of one body under one condition, and the plan that is left without them."""

    condition: FuncGraph
    sums: list[WeightGradient]
    plan: BodyPlan


def _deferral(functions: Functions) -> _Deferral:
    plan, condition = functions.body_plan("body"), functions.body_graph("cond")
    if plan.deferral is None or plan.deferral.condition is not condition:
        found = find_loop_products(plan.function.graph, condition, plan.ops)
        sums = [
            s
            for s in found.weights
            if len(s.products) == len(s.adder._inputs) - 1
            and s.adder._outputs[0]._dtype.base_dtype.np_dtype in _KINDS
        ]
        left_out = {s.adder for s in sums} | {product for s in sums for product, _ in s.products}
        ops = [op for op in plan.ops if op not in left_out]
        plan.deferral = _Deferral(condition, sums, dataclasses.replace(plan, ops=ops))
    return plan.deferral


class DeferredSums:
    """Runs the body of one loop without its sums of products, which `finish` adds."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._deferral = _deferral(functions)
        self._factors: dict[Tensor, list[Any]] = {
            t: [] for s in self._deferral.sums for p, _ in s.products for t in p._inputs
        }

    def call(self, variables: Sequence[Any]) -> list[Any]:
        """The variables after one more iteration; sums are as they were before it."""
        if not self._factors:
            return self._functions.call("body", variables)
        values: dict[Tensor, Any] = {
            s.adder._outputs[0]: variables[s.place] for s in self._deferral.sums
        }
        outputs = self._functions.call("body", variables, plan=self._deferral.plan, values=values)
        for tensor, factors in self._factors.items():
            factors.append(values[tensor])
        return outputs

    def finish(self, variables: list[Any]) -> list[Any]:
        """`variables` with the sums as they are after the iterations that were made; these are then forgotten."""
        for found in self._deferral.sums:
            for product, _ in found.products:
                left, right = (self._factors[t] for t in product._inputs)
                if left:
                    a, b = np.concatenate(left), np.concatenate(right)
                    added = native.host_dot(a, b, True, False)
                    variables[found.place] = variables[found.place] + (
                        a.T @ b if added is None else added
                    )
        for factors in self._factors.values():
            factors.clear()
        return variables
