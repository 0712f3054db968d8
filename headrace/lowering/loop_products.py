"""Loops without the products that are made for all iterations at once (see `passes.loop_products`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
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

# Gets the results of the loop, which it changes, and what the iterations left in the buffers.
Finisher = Callable[[list[Any], list[Any]], None]

# A list much longer than the loop would be multiplied for nothing.
_MOST_SPARE_ELEMENTS = 2


class Arrays(Protocol):
    """What makes arrays for a loop."""

    def of(self, value: Any) -> Any:
        """A value, as an array of this kind."""

    def dot(self, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
        """The product of two matrices, transposed first where asked."""

    def concatenate(self, parts: list[Any], /) -> Any:
        """The parts behind one another along the first axis."""

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of zeros."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array whose elements are all going to be written."""

    def add_elements(self, buffer: Any, indices: Any, added: Any) -> Any:
        """`buffer` with `added[i]` added to its element `indices[i]`, for each i; indices that are too large are the last."""


class TracedArrays:
    """Arrays inside of a program."""

    def of(self, value: Any) -> Any:
        """See Arrays."""
        return value

    dot = staticmethod(native.dot)
    concatenate = staticmethod(jnp.concatenate)
    zeros = staticmethod(jnp.zeros)
    empty = staticmethod(native.empty)

    def add_elements(self, buffer: Any, indices: Any, added: Any) -> Any:
        """See Arrays."""
        return buffer.at[indices].add(added, mode="clip")


class MovedProducts:
    """The products that one loop leaves to its surroundings while it is traced.

    Before the loop: `buffers` are what it carries in addition. Inside: `overrides` stand for the rules of some
    operations; they read and write `buffers`, and read `values`, which do not change. After it: `finish` makes the products of
    what was collected.

    iterations: how many there are, or may be; trips: how many there are, where that is known. arrays: what makes arrays.
    """

    def __init__(
        self,
        functions: Functions,
        inputs: Sequence[Any],
        fixed: Sequence[bool],
        iterations: int,
        trips: int | None,
        arrays: Arrays | None = None,
    ) -> None:
        self._arrays = arrays or TracedArrays()
        self._functions, self._inputs, self._fixed, self._trips = functions, inputs, fixed, trips
        self._graph = functions.body_graph("body")
        self._places = {t: i for i, t in enumerate(self._graph.inputs)}
        self.buffers: list[Any] = []
        self.values: list[Any] = []
        self.listed: list[bool] = []  # which of the values have an element for each iteration
        self.overrides: dict[Operation, Callable[[dict[Tensor, Any]], Any]] = {}
        self._finishers: list[Finisher] = []
        # What the iterations leave behind one another, with the list whose elements it belongs to.
        self._kept: dict[Tensor, tuple[int, DeviceList]] = {}
        self._shapes = functions.shapes
        found = _products_of(functions)
        for product in found.inputs:
            self._move_input_product(product, iterations)
        self._move_gradients(found)

    def finish(self, results: list[Any], buffers: Sequence[Any]) -> None:
        """Adds to the loop's `results` the products of what its iterations left in `buffers`."""
        for finisher in self._finishers:
            finisher(results, list(buffers))

    def forget(self) -> None:
        """Drops all arrays: what stands for rules refers to this object, so that they would stay until Python looks for cycles."""
        for held in (self.overrides, self.buffers, self.values, self._finishers, self._kept):
            held.clear()
        self._inputs = ()

    # ---- x_t W

    def _move_input_product(self, found: InputProduct, iterations: int) -> None:
        weights = self._invariant(found.product._inputs[1])
        if weights is None or weights.ndim != 2:
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
            flat = values.buffer.reshape(count * rows, columns)
            product = self._arrays.dot(flat, _rows(weights, part))
            slot = self._new_value(product.reshape(count, rows, -1), listed=True)
            ready.append((slot, read._inputs[1]))
        rest = [tensor for _, tensor in found.rest]
        # Put together outside of the loop, since XLA would do so in each iteration.
        rest_weights = self._joined([_rows(weights, p) for p, _ in found.rest])

        def override(values: dict[Tensor, Any]) -> Any:
            total = None
            for slot, index in ready:
                term = lax.dynamic_index_in_dim(
                    self.values[slot], values[index], 0, False, allow_negative_indices=False
                )
                total = term if total is None else total + term
            if rest_weights is not None:
                joined = jnp.concatenate([values[t] for t in rest], 1)
                total = total + native.dot(joined, self.values[rest_weights], b_is_invariant=True)
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
            count, rows, _ = values.buffer.shape
            width = self._shapes[right][1]
            if not count:
                continue
            slot = self._new_buffer(
                (count, rows, width), values.buffer.dtype, fills=count == self._trips
            )
            self._kept.setdefault(right, (slot, values))
            self._finishers.append(_sum_of_products(found.place, slot, values, self._arrays))

            def override(inside: dict[Tensor, Any], at: Any = (slot, product, pop, right)) -> Any:
                slot, product, pop, right = at
                index = inside[pop._inputs[0]].length() - 1
                self.buffers[slot] = lax.dynamic_update_index_in_dim(
                    self.buffers[slot], inside[right], index, 0, allow_negative_indices=False
                )
                return jnp.zeros(self._shapes[product._outputs[0]], inside[right].dtype)

            self.overrides[product] = override

    def _can_move(self, found: InputGradient) -> bool:
        values = self._inputs[found.place]
        if not isinstance(values, DeviceList) or not values.capacity:
            return False
        weights = [self._invariant(product._inputs[1]) for product, _ in found.terms]
        return all(w is not None and w.ndim == 2 for w in weights)

    def _move_input_gradient(self, found: InputGradient, products: LoopProducts) -> None:
        count = self._inputs[found.place].capacity
        order = self._popped_list(found.index)
        added_in_loop = []
        for product, part in found.terms:
            left = product._inputs[0]
            weights = _rows(self._invariant(product._inputs[1]), part)
            kept = self._kept.get(left)
            if kept is not None and order is not None and order.capacity == kept[1].capacity:
                self._finishers.append(
                    _scattered_products(found.place, kept, order, weights, self._arrays)
                )
                continue
            slot = self._new_buffer((count, *self._shapes[left]), left._dtype.np_dtype)
            added_in_loop.append((slot, left))
            self._finishers.append(_stacked_products(found.place, slot, weights, self._arrays))
        for product, _ in found.terms:
            self._share_split(product, products)
        carried = next(t for t in found.adder._inputs if t._op not in found.through)

        def override(inside: dict[Tensor, Any]) -> Any:
            for slot, left in added_in_loop:
                index = inside[found.index]
                self.buffers[slot] = self.buffers[slot].at[index].add(inside[left])
            return inside[carried]

        for op in found.through:
            self.overrides[op] = lambda inside: None
        self.overrides[found.adder] = override

    def _share_split(self, product: Operation, products: LoopProducts) -> None:
        """Leaves of a product `dz W'` only the columns that the loop needs."""
        split = next((s for s in products.splits if s._inputs[0]._op is product), None)
        if split is None:
            return
        parts, left = products.splits[split], product._inputs[0]
        needed = [p for p in parts if p is not None]
        weights = self._invariant(product._inputs[1])
        kept = self._joined([_rows(weights, p) for p in needed])
        ends = np.cumsum([p.size or 0 for p in needed[:-1]], dtype=int)

        def override(inside: dict[Tensor, Any]) -> Any:
            if kept is None:
                return [None] * len(parts)
            columns = native.dot(
                inside[left], self.values[kept], transpose_b=True, b_is_invariant=True
            )
            given = iter(jnp.split(columns, ends, 1))
            return [None if p is None else next(given) for p in parts]

        self.overrides[product] = lambda inside: None
        self.overrides[split] = override

    def _popped_list(self, tensor: Tensor) -> DeviceList | None:
        """The list from whose end each iteration takes `tensor`, as it is before the loop; None where it is none."""
        pop = tensor._op
        if pop.type != "TensorListPopBack" or tensor is not pop._outputs[1]:
            return None
        place = self._places.get(pop._inputs[0])
        if place is None or self._graph.outputs[place] is not pop._outputs[0]:
            return None
        found = self._inputs[place]
        return found if isinstance(found, DeviceList) and found.buffer is not None else None

    # ---- helpers

    def _new_buffer(self, shape: tuple[int, ...], dtype: Any, fills: bool = False) -> int:
        self.buffers.append((self._arrays.empty if fills else self._arrays.zeros)(shape, dtype))
        return len(self.buffers) - 1

    def _new_value(self, value: Any, listed: bool = False) -> int:
        self.values.append(value)
        self.listed.append(listed)
        return len(self.values) - 1

    def _joined(self, parts: list[Any]) -> int | None:
        """The slot of the parts one under the other; None: there are none."""
        if not parts:
            return None
        return self._new_value(parts[0] if len(parts) == 1 else self._arrays.concatenate(parts))

    def _invariant(self, tensor: Tensor) -> Any:
        """The value, outside of the loop, of a tensor of the body that is the same in each iteration; None: not so."""
        while tensor not in self._places:
            op = tensor._op
            if op.type == "ReadVariableOp":
                return self._arrays.of(self._functions.unwritten("body", op._inputs[0]))
            if op.type != "Identity" or op._definition.effects & Effect.STATEFUL:
                return None
            tensor = op._inputs[0]
        place = self._places[tensor]
        value = self._inputs[place]
        if not self._fixed[place] or isinstance(value, DeviceList) or value is None:
            return None
        return self._arrays.of(value)


def _products_of(functions: Functions) -> LoopProducts:
    """What `find_loop_products` finds in the body of a loop, looked for once."""
    plan, condition = functions.body_plan("body"), functions.body_graph("cond")
    if plan.products is None or plan.products[0] is not condition:
        plan.products = condition, find_loop_products(plan.function.graph, condition, plan.ops)
    return plan.products[1]


def _rows(weights: Any, part: Part) -> Any:
    return weights if part.size is None else weights[part.start : part.start + part.size]


# What makes the products of what the iterations left: each gets the results of the loop and its buffers.


def _sum_of_products(place: int, slot: int, values: DeviceList, arrays: Arrays) -> Finisher:
    def finish(results: list[Any], buffers: list[Any]) -> None:
        left = values.buffer.reshape(-1, values.buffer.shape[-1])
        right = buffers[slot].reshape(-1, buffers[slot].shape[-1])
        results[place] = results[place] + arrays.dot(left, right, transpose_a=True)

    return finish


def _stacked_products(place: int, slot: int, weights: Any, arrays: Arrays) -> Finisher:
    def finish(results: list[Any], buffers: list[Any]) -> None:
        old = results[place]
        added = _times(buffers[slot], weights, arrays)
        results[place] = old + DeviceList(old.dtype, added, old.capacity, old.size)

    return finish


def _scattered_products(
    place: int, kept: tuple[int, DeviceList], order: DeviceList, weights: Any, arrays: Arrays
) -> Finisher:
    """The rows were kept in the order of the iterations, `order` says to which element each belongs."""
    slot, values = kept

    def finish(results: list[Any], buffers: list[Any]) -> None:
        old = results[place]
        added = _times(buffers[slot], weights, arrays)
        indices = order.buffer
        if order.size is not None or values.size is not None:
            positions = jnp.arange(order.capacity) + (order.length() - values.length())
            indices = jnp.take(indices, positions, mode="clip")
        buffer = old.buffer
        if buffer is None:
            buffer = arrays.zeros((old.capacity, *added.shape[1:]), added.dtype)
        # Rows that no iteration left are zero: it does not matter where they are added.
        buffer = arrays.add_elements(buffer, indices, added)
        results[place] = DeviceList(old.dtype, buffer, old.capacity, old.size)

    return finish


def _times(stacked: Any, weights: Any, arrays: Arrays) -> Any:
    flat = stacked.reshape(-1, stacked.shape[-1])
    return arrays.dot(flat, weights, transpose_b=True).reshape(*stacked.shape[:-1], -1)
