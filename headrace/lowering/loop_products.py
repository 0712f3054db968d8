"""Loops without the products that are made for all iterations at once (see `passes.loop_products`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from headrace import native
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.functions import Functions
from headrace.lowering.tensor_list import DeviceList
from headrace.passes.loop_products import (
    InputGradient,
    InputProduct,
    LoopProducts,
    Part,
    WeightGradient,
    find_loop_products,
)

# A list much longer than the loop would be multiplied for nothing.
_MOST_SPARE_ELEMENTS = 2


class MovedProducts:
    """The products that one loop leaves to its surroundings while it is traced.

    Before the loop: `buffers` are what it carries in addition. Inside: `overrides` stand for the rules of some
    operations; they read and write `buffers`. After it: `finish` makes the products of what was collected.
    """

    def __init__(
        self,
        op: Operation,
        functions: Functions,
        inputs: Sequence[Any],
        fixed: Sequence[bool],
        iterations: int | None,
    ) -> None:
        self._functions, self._inputs, self._fixed = functions, inputs, fixed
        self._graph = functions.body_graph("body")
        self._places = {t: i for i, t in enumerate(self._graph.inputs)}
        self.buffers: list[Any] = []
        self.overrides: dict[Operation, Callable[[dict[Tensor, Any]], Any]] = {}
        self._finishers: list[Callable[[list[Any], list[Any]], None]] = []
        found = find_loop_products(
            self._graph, functions.body_graph("cond"), functions.body_ops("body")
        )
        for product in found.inputs:
            self._move_input_product(product, iterations)
        self._move_gradients(found)

    def finish(self, results: list[Any], buffers: Sequence[Any]) -> None:
        """Adds to the loop's `results` the products of what its iterations left in `buffers`."""
        for finisher in self._finishers:
            finisher(results, list(buffers))

    # ---- x_t W

    def _move_input_product(self, found: InputProduct, iterations: int | None) -> None:
        weights = self._invariant(found.product._inputs[1])
        if weights is None or weights.ndim != 2 or iterations is None:
            return
        if found.product.attr("transpose_b"):
            weights = weights.T
        ready = []
        for part, read in found.reads:
            values = self._inputs[self._places[read._inputs[0]]]
            if not isinstance(values, DeviceList) or getattr(values.buffer, "ndim", 0) != 3:
                return
            if values.capacity > _MOST_SPARE_ELEMENTS * iterations:
                return
            count, rows, columns = values.buffer.shape
            if columns != (weights.shape[0] if part.size is None else part.size):
                return
            product = native.dot(values.buffer.reshape(count * rows, columns), _rows(weights, part))
            ready.append((product.reshape(count, rows, -1), read._inputs[1]))
        rest = [tensor for _, tensor in found.rest]
        # Put together outside of the loop, since XLA would do so in each iteration.
        rest_weights = jnp.concatenate([_rows(weights, p) for p, _ in found.rest]) if rest else None

        def override(values: dict[Tensor, Any]) -> Any:
            total = None
            for product, index in ready:
                term = lax.dynamic_index_in_dim(product, values[index], 0, keepdims=False)
                total = term if total is None else total + term
            if rest:
                joined = jnp.concatenate([values[t] for t in rest], 1)
                total = total + native.dot(joined, rest_weights, b_is_invariant=True)
            return total

        self.overrides[found.product] = override

    # ---- a_t' b_t, summed over the iterations, and dz_t W', collected in lists

    def _move_gradients(self, found: LoopProducts) -> None:
        for gradient in found.weights:
            self._move_weight_gradient(gradient)
        for gradient in found.input_gradients:
            if self._can_move(gradient):
                self._move_input_gradient(gradient, found)

    def _move_weight_gradient(self, found: WeightGradient) -> None:
        for product, pop in found.products:
            values = self._inputs[self._places[pop._inputs[0]]]
            right = product._inputs[1]
            if not isinstance(values, DeviceList) or getattr(values.buffer, "ndim", 0) != 3:
                continue
            count, rows, columns = values.buffer.shape
            width = right._dims[1] if right._dims is not None else None
            if width is None or not count:
                continue
            slot = self._new_buffer((count, rows, width), values.buffer.dtype)

            def override(
                inside: dict[Tensor, Any], slot: int = slot, pop: Any = pop, right: Any = right
            ) -> Any:
                left = inside[pop._inputs[0]]
                index = left.length() - 1
                self.buffers[slot] = lax.dynamic_update_index_in_dim(
                    self.buffers[slot], inside[right], index, 0
                )
                return jnp.zeros((columns, width), inside[right].dtype)  # noqa: B023

            def finisher(
                results: list[Any], buffers: list[Any], slot: int = slot, values: Any = values
            ) -> None:
                left = values.buffer.reshape(-1, values.buffer.shape[-1])
                right = buffers[slot].reshape(-1, buffers[slot].shape[-1])
                results[found.place] = results[found.place] + native.dot(
                    left, right, transpose_a=True
                )

            self.overrides[product] = override
            self._finishers.append(finisher)

    def _can_move(self, found: InputGradient) -> bool:
        values = self._inputs[found.place]
        if not isinstance(values, DeviceList) or not values.capacity:
            return False
        for product, _ in found.terms:
            weights, left = self._invariant(product._inputs[1]), product._inputs[0]
            if weights is None or weights.ndim != 2:
                return False
            if left._dims is None or None in left._dims:
                return False
        return True

    def _move_input_gradient(self, found: InputGradient, products: LoopProducts) -> None:
        count = self._inputs[found.place].capacity
        slots = []
        for product, part in found.terms:
            weights = self._invariant(product._inputs[1])
            left = product._inputs[0]
            slot = self._new_buffer((count, *left._dims), left._dtype.np_dtype)  # type: ignore[misc]
            slots.append((slot, left, _rows(weights, part)))
        for product, _ in found.terms:
            self._share_split(product, products)

        carried = next(t for t in found.adder._inputs if t._op not in found.through)

        def override(inside: dict[Tensor, Any]) -> Any:
            index = inside[found.index]
            for slot, left, _ in slots:
                self.buffers[slot] = self.buffers[slot].at[index].add(inside[left])
            return inside[carried]

        def finisher(results: list[Any], buffers: list[Any]) -> None:
            for slot, _, weights in slots:
                stacked = buffers[slot]
                flat = stacked.reshape(-1, stacked.shape[-1])
                added = native.dot(flat, weights, transpose_b=True).reshape(*stacked.shape[:-1], -1)
                old = results[found.place]
                results[found.place] = old + DeviceList(old.dtype, added, old.capacity, old.size)

        for op in found.through:
            self.overrides[op] = lambda inside: None
        self.overrides[found.adder] = override
        self._finishers.append(finisher)

    def _share_split(self, product: Operation, products: LoopProducts) -> None:
        """Leaves of a product `dz W'` only the columns that the loop needs."""
        for split, parts in products.splits.items():
            if split._inputs[0]._op is not product:
                continue
            weights = self._invariant(product._inputs[1])
            left = product._inputs[0]
            needed = [p for p in parts if p is not None]
            kept = jnp.concatenate([_rows(weights, p) for p in needed]) if needed else None

            def override(
                inside: dict[Tensor, Any],
                parts: Any = parts,
                kept: Any = kept,
                left: Any = left,
            ) -> Any:
                if kept is None:
                    return [None] * len(parts)
                columns = native.dot(inside[left], kept, transpose_b=True, b_is_invariant=True)
                results, start = [], 0
                for part in parts:
                    if part is None:
                        results.append(None)
                        continue
                    results.append(columns[:, start : start + part.size])
                    start += part.size
                return results

            self.overrides[product] = lambda inside: None
            self.overrides[split] = override

    # ---- helpers

    def _new_buffer(self, shape: tuple[int, ...], dtype: Any) -> int:
        self.buffers.append(jnp.zeros(shape, dtype))
        return len(self.buffers) - 1

    def _invariant(self, tensor: Tensor) -> Any:
        """The value, outside of the loop, of a tensor of the body that is the same in each iteration; None: not so."""
        while tensor not in self._places:
            op = tensor._op
            if op.type == "ReadVariableOp":
                return self._functions.unwritten("body", op._inputs[0])
            if op.type != "Identity" or op._definition.effects & Effect.STATEFUL:
                return None
            tensor = op._inputs[0]
        place = self._places[tensor]
        value = self._inputs[place]
        if not self._fixed[place] or isinstance(value, DeviceList) or value is None:
            return None
        return value


def _rows(weights: Any, part: Part) -> Any:
    return weights if part.size is None else weights[part.start : part.start + part.size]
