"""Loops that are interpreted, as one call of native code each (see `native.loops`).

A loop over lists of a new length is interpreted, since compiling its program takes seconds. What the native call does is planned
once for all lengths.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.graph.tensor import Tensor
from headrace.lowering import loop_body
from headrace.lowering.functions import Functions
from headrace.lowering.jax_adapter import x64
from headrace.lowering.loop_products import MovedProducts
from headrace.lowering.tensor_list import DeviceList, HostList

# Planning takes about as long as this many seconds of interpretation.
_SECONDS_BEFORE_PLANNING = 0.02
# What interpreting takes is estimated, so that the same program always takes the same way: seconds for each operation, and
# for each element of what it gives.
_PER_OPERATION, _PER_ELEMENT = 1e-5, 1e-9
# Iterations are counted up to here.
_MOST_ITERATIONS = 1 << 16
# After so many forms of inputs that cannot be planned no other is tried.
_MOST_REFUSALS = 3

_logger = logging.getLogger("headrace")


@dataclasses.dataclass
class _Iteration:
    """What the interpretation of one iteration showed: its outputs, and the shapes of all values inside."""

    outputs: Sequence[Any]
    shapes: dict[Tensor, tuple[int, ...]]


class HostLoops:
    """What is known of one loop that is interpreted: the seconds that took, and for each form of its inputs the plan."""

    def __init__(self) -> None:
        self._seconds = self._per_iteration = 0.0
        self._plans: dict[Any, _Plan] = {}
        self._refused: set[Any] = set()

    def note(self, iterations: int) -> None:
        """Says that so many iterations were interpreted."""
        self._seconds += iterations * self._per_iteration

    def run(
        self, functions: Functions, inputs: Sequence[Any], fixed: Sequence[bool]
    ) -> list[Any] | None:
        """The variables after the loop; None where it is to be interpreted."""
        if not self._plans or functions.written or not native.available():
            return None
        arguments = _arguments(functions, inputs, fixed)
        plan = None if arguments is None else self._plans.get(_form(arguments))
        return None if plan is None else plan.run(functions, *arguments)  # type: ignore[misc]

    def may_plan(self, functions: Functions) -> bool:
        """Whether `run_planned` may do more than look."""
        return len(self._refused) < _MOST_REFUSALS and not functions.written and native.available()

    def run_planned(
        self,
        functions: Functions,
        inputs: Sequence[Any],
        fixed: Sequence[bool],
        outputs: Sequence[Any],
        inside: Mapping[Tensor, Any],
    ) -> list[Any] | None:
        """As `run`, after one iteration was interpreted, which gave `outputs`; plans the loop if that is worth it.

        inside: the values of the body.
        """
        counts = [v.size for v in inside.values() if isinstance(v, (np.ndarray, jax.Array))]
        self._per_iteration = _PER_OPERATION * len(inside) + _PER_ELEMENT * sum(counts)
        # A loop over a sequence is given lists of as many elements.
        expected = max([len(v.items) for v in inputs if isinstance(v, HostList)], default=1)
        if self._seconds + expected * self._per_iteration < _SECONDS_BEFORE_PLANNING:
            return None
        arguments = _arguments(functions, inputs, fixed)
        if arguments is None:
            return None
        form = _form(arguments)
        if form in self._refused or form in self._plans:
            return None
        shapes = {t: tuple(np.shape(v)) for t, v in inside.items() if v is not None}
        try:
            with x64():
                plan = _Plan(
                    functions.for_tracing(), *arguments, fixed, _Iteration(outputs, shapes)
                )
        except Exception as reason:  # what is wrong with the loop itself, interpreting it tells
            _logger.debug("a loop is interpreted: %s", reason)
            self._refused.add(form)
            return None
        self._plans[form] = plan
        return plan.run(functions, *arguments)


def _arguments(
    functions: Functions, inputs: Sequence[Any], fixed: Sequence[bool]
) -> tuple[list[Any], list[np.ndarray]] | None:
    """The inputs and the variables that the bodies read, as plans take them; None where one cannot be had like that."""
    values = [_plain(v) for v in inputs]
    if any(v is _REFUSED or (v is None and not f) for v, f in zip(values, fixed, strict=True)):
        return None
    return values, [np.asarray(v) for v in functions.values()]


_REFUSED = object()


def _plain(value: Any) -> Any:
    """An input as a list of arrays or an array, the handle of a variable as None; what is none of these is refused."""
    if value is None:
        return None
    if isinstance(value, HostList):
        return _REFUSED if any(isinstance(i, HostList) for i in value.items) else value
    if isinstance(value, DeviceList):
        return _REFUSED
    array = np.asarray(value)
    return array if array.dtype.kind in "fiub" else _REFUSED


def _form(arguments: tuple[list[Any], list[np.ndarray]]) -> Any:
    """All that the plan depends on."""
    return tuple(_form_of_value(v) for part in arguments for v in part)


def _form_of_value(value: Any) -> Any:
    """Of an input: of a list everything but its length."""
    if value is None:
        return None
    if not isinstance(value, HostList):
        return value.shape, value.dtype
    kind = value.dtype, len(value.items) > 0
    if value.buffer is not None:
        return *kind, frozenset([(value.buffer.shape[1:], value.buffer.dtype)])
    items = {None if i is None else (np.shape(i), np.asarray(i).dtype) for i in value.items}
    return *kind, frozenset(items)


def host_loops(functions: Functions) -> HostLoops:
    """What is known of the loop with these functions."""
    plan = functions.body_plan("body")
    if plan.host_loops is None:
        plan.host_loops = HostLoops()
    return plan.host_loops


class _NumpyArrays:
    """Arrays outside of programs."""

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """See loop_products.Arrays."""
        return np.zeros(shape, dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """See loop_products.Arrays."""
        return np.empty(shape, dtype)

    def of(self, value: Any) -> Any:
        """See loop_products.Arrays."""
        return np.asarray(value)

    def concatenate(self, parts: list[Any]) -> Any:
        """See loop_products.Arrays."""
        return np.concatenate(parts)

    def dot(self, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
        """See loop_products.Arrays."""
        product = native.host_dot(a, b, transpose_a, transpose_b)
        if product is None:
            product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
        return product

    def add_elements(self, buffer: Any, indices: Any, added: Any) -> Any:
        """See loop_products.Arrays."""
        buffer, last = buffer.copy(), len(buffer) - 1
        for index, element in zip(indices, added, strict=True):
            buffer[min(int(index), last)] += element
        return buffer


class _Plan:
    """A loop for inputs of one form. Raises NotCovered, and what tracing the body raises."""

    def __init__(
        self,
        functions: Functions,
        inputs: Sequence[Any],
        state: Sequence[np.ndarray],
        fixed: Sequence[bool],
        seen: _Iteration,
    ) -> None:
        self._fixed = fixed
        # Of each list: how many elements each iteration adds, and what an element is like.
        self._growth = [0] * len(inputs)
        self._element: list[Any] = [None] * len(inputs)
        self._look(inputs, seen.outputs)
        functions.shapes = self._shapes = seen.shapes
        lists = [self._listed(i, v) for i, v in enumerate(inputs)]
        moved = self._moved(functions, lists, None)
        condition, _ = functions.pure("cond")
        body, table = functions.pure("body", overrides=moved.overrides)
        like = _any_length(lists), [*moved.buffers], [*moved.values]
        changing, unchanging = self._parted(like[0])
        self._changing, self._tree = jax.tree.structure(changing), None
        unchanging_tree = jax.tree.structure(unchanging)
        count, rest = self._changing.num_leaves, unchanging_tree.num_leaves

        def step(carried: list[Any], constants: list[Any]) -> tuple[list[Any], Any]:
            variables = iter(jax.tree.unflatten(self._changing, carried[:count]))
            others = iter(jax.tree.unflatten(unchanging_tree, constants[:rest]))
            merged = [next(others) if f else next(variables) for f in fixed]
            values = constants[rest : rest + len(state)]
            moved.buffers, moved.values = carried[count:], constants[rest + len(state) :]
            (goes_on,), _, _ = condition(values, merged)
            with loop_body.traced():
                outputs, _, _ = body(values, merged)
            left = [v for v, f in zip(outputs, fixed, strict=True) if not f]
            leaves, self._tree = jax.tree.flatten(left)
            after = [jnp.asarray(x, dtype=x.dtype) for x in (*leaves, *moved.buffers)]
            return after, jnp.asarray(goes_on).reshape(()) != 0

        self._form = _form_of(moved)
        carried = [*jax.tree.leaves(changing), *map(_any_rows, like[1])]
        values = [
            _any_rows(v) if many else v for v, many in zip(like[2], moved.listed, strict=True)
        ]
        self._loop = native.HostLoop(
            step, carried, [*jax.tree.leaves(unchanging), *state, *values], _is_any_rows
        )
        moved.forget()
        if table or self._tree != self._changing:
            raise native.NotCovered("checks in the body, or a variable that changes its form")

    def run(
        self, functions: Functions, inputs: Sequence[Any], state: Sequence[np.ndarray]
    ) -> list[Any] | None:
        """The variables after the loop; None: it takes too many iterations, or other products can be moved out of it."""
        lists = [self._listed(i, v) for i, v in enumerate(inputs)]
        changing, unchanging = (jax.tree.leaves(p) for p in self._parted(lists))
        constants = [*unchanging, *state]
        trips = self._loop.count(changing, constants, _MOST_ITERATIONS)
        if trips is None:
            return None
        if trips == 0:
            return list(inputs)
        functions.shapes = self._shapes
        moved = self._moved(functions, lists, trips)
        if _form_of(moved) != self._form:
            return None
        start = len(changing)
        targets: dict[int, np.ndarray] = {start + i: b for i, b in enumerate(moved.buffers)}
        targets |= self._rooms(lists, trips)
        after = self._loop.run(
            [*changing, *moved.buffers], [*constants, *moved.values], trips, targets
        )
        rest = iter(jax.tree.unflatten(self._changing, after[:start]))
        results = [v if f else next(rest) for v, f in zip(lists, self._fixed, strict=True)]
        sizes = [int(v.size) if isinstance(v, DeviceList) else 0 for v in results]
        results = [_cut(v, n) for v, n in zip(results, sizes, strict=True)]
        moved.finish(results, after[start:])
        moved.forget()
        return [
            given if f else _as_host_list(v) if isinstance(v, DeviceList) else v
            for given, v, f in zip(inputs, results, self._fixed, strict=True)
        ]

    def _look(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Finds by how much lists grow, and what the elements of empty ones are going to be."""
        for i, (before, after) in enumerate(zip(inputs, outputs, strict=True)):
            if self._fixed[i] or not isinstance(before, HostList):
                continue
            if not isinstance(after, HostList) or any(isinstance(v, HostList) for v in after.items):
                raise native.NotCovered("a list of lists")
            self._growth[i] = max(len(after.items) - len(before.items), 0)
            element = next((v for v in after.items if v is not None), None)
            if element is not None:
                self._element[i] = np.shape(element), np.asarray(element).dtype

    def _listed(self, place: int, value: Any) -> Any:
        """An input as the body takes it: a list as one with a buffer, if what its elements are like is known."""
        if not isinstance(value, HostList):
            return value
        count = len(value.items)
        buffer = value.buffer
        if buffer is None and any(i is not None for i in value.items):
            zero = np.zeros_like(next(i for i in value.items if i is not None))
            buffer = np.stack([zero if i is None else np.asarray(i) for i in value.items])
        elif buffer is None and self._element[place] is not None:
            shape, dtype = self._element[place]
            buffer = np.zeros((count, *shape), dtype)
        return DeviceList(value.dtype, buffer, count, np.int32(count))

    def _moved(
        self, functions: Functions, lists: Sequence[Any], trips: int | None
    ) -> MovedProducts:
        full = [_cut(v, None) for v in lists]
        return MovedProducts(functions, full, self._fixed, _ANY, trips, _NumpyArrays())

    def _parted(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The variables that change, and the others."""
        pairs = list(zip(values, self._fixed, strict=True))
        return [v for v, f in pairs if not f], [v for v, f in pairs if f]

    def _rooms(self, lists: Sequence[Any], trips: int) -> dict[int, np.ndarray]:
        """For each list that grows, by the number of its leaf, where it is going to be."""
        rooms, leaf = {}, 0
        for value, growth, is_fixed in zip(lists, self._growth, self._fixed, strict=True):
            if is_fixed:
                continue
            if growth and isinstance(value, DeviceList) and value.buffer is not None:
                shape = (value.capacity + growth * trips, *value.buffer.shape[1:])
                rooms[leaf] = np.empty(shape, value.buffer.dtype)
            leaf += len(jax.tree.leaves(value))
        return rooms


# A length that no list has: what is traced with it may not depend on it.
_ANY = 7919


def _any_rows(value: Any) -> Any:
    return jax.ShapeDtypeStruct((_ANY, *value.shape[1:]), value.dtype)


def _is_any_rows(value: Any) -> bool:
    return value.shape[:1] == (_ANY,)


def _any_length(lists: Sequence[Any]) -> list[Any]:
    return [
        DeviceList(v.dtype, None if v.buffer is None else _any_rows(v.buffer), _ANY, np.int32(0))
        if isinstance(v, DeviceList)
        else v
        for v in lists
    ]


def _form_of(moved: MovedProducts) -> list[Any]:
    values = zip(moved.values, moved.listed, strict=True)
    return [(v.shape[1:] if many else v.shape, many) for v, many in values] + [
        b.shape[1:] for b in moved.buffers
    ]


def _cut(value: Any, size: int | None) -> Any:
    """A list as one of `size` elements, whose number is known; None: all that there are."""
    if not isinstance(value, DeviceList):
        return value
    count = value.capacity if size is None else size
    buffer = None if value.buffer is None else value.buffer[:count]
    return DeviceList(value.dtype, buffer, count)


def _as_host_list(value: DeviceList) -> HostList:
    if value.buffer is None:
        return HostList(value.dtype, (None,) * value.capacity)
    return HostList.of_rows(value.dtype, value.buffer)
