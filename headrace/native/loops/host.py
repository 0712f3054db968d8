"""Loops as one call outside of XLA's programs: traced once, and run for lists of any length."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from headrace.native.library import kernels
from headrace.native.loops.body import Body, Node, NotCovered
from headrace.native.loops.code import encode
from headrace.native.loops.invariants import evaluate
from headrace.native.loops.plan import Plan
from headrace.native.loops.repeat import has_product
from headrace.native.packed import host_pack


class HostLoop:
    """A loop with a condition, on NumPy arrays.

    step: gives of (carried values, constants) the carried values after an iteration, and whether there was to be one.
    carried, constants: arrays like those of the runs. is_list: of which the first axis may have another length in each run.
    Raises NotCovered: what the body does, or does with lists beside reading and writing elements.
    """

    def __init__(
        self,
        step: Callable[[list[Any], list[Any]], tuple[list[Any], Any]],
        carried: Sequence[Any],
        constants: Sequence[Any],
        is_list: Callable[[Any], bool],
    ) -> None:
        count = len(carried)

        def flat(*leaves: Any) -> list[Any]:
            after, goes_on = step(list(leaves[:count]), list(leaves[count:]))
            return [*after, goes_on]

        closed = jax.make_jaxpr(flat)(*carried, *constants)
        if [(v.shape, v.dtype) for v in closed.out_avals[:count]] != [
            (v.shape, v.dtype) for v in carried
        ]:
            raise NotCovered("a loop variable that changes its type or shape")
        self._held = [np.asarray(c) for c in closed.consts]
        self._body = body = Body(closed, count)
        if not has_product(body):
            raise NotCovered("no product with a matrix that stays the same")
        self._plan = plan = Plan(body)
        self._counting = plan.scalars.counting(body.others[0])
        self._code = np.array(encode(plan), np.int64)
        # The length of lists may show nowhere: they are read and written one element at a time.
        known = [plan.inputs[x.input][1] for x in plan.lists]
        for node in (*body.carries, *body.constants[len(self._held) :]):
            if is_list(node) and node.users and node not in known:
                raise NotCovered("a list that is used as a whole")

    def run(
        self,
        carried: Sequence[np.ndarray],
        constants: Sequence[np.ndarray],
        trips: int,
        targets: Mapping[int, np.ndarray],
    ) -> list[np.ndarray]:
        """The carried values after `trips` iterations.

        targets: arrays for the results, by the numbers of the carried values, where they are not to be new ones of the
        same shape: longer ones for lists that grow, or a list that may be changed in place.
        """
        inputs = self._inputs(carried, constants)
        plan = self._plan
        outputs = [targets[i] if i in targets else np.empty_like(carried[i]) for i in plan.outputs]
        done = kernels().headrace_host_loop(
            self._code.ctypes.data, self._code.size, trips, *_arrays(inputs), *_arrays(outputs)
        )
        if not done:
            raise RuntimeError("the kernels cannot run a loop that they were given")
        results = list(carried)
        for i, value in zip(plan.outputs, outputs, strict=True):
            results[i] = value
        return results

    def count(
        self, carried: Sequence[np.ndarray], constants: Sequence[np.ndarray], most: int
    ) -> int | None:
        """The number of iterations; None: more than `most`."""

        def value(number: int) -> Any:
            node = self._plan.inputs[number][1]
            return evaluate(node, lambda n: self._operand(n, carried, constants), {})

        return self._counting.count(value, most)

    def _operand(self, node: Node, carried: Sequence[Any], constants: Sequence[Any]) -> Any:
        if node.op == "carry":
            return carried[node.index]
        held = len(self._held)
        return self._held[node.index] if node.index < held else constants[node.index - held]

    def _inputs(self, carried: Sequence[Any], constants: Sequence[Any]) -> list[np.ndarray]:
        known: dict[Node, Any] = {}
        inputs = []
        for kind, what in self._plan.inputs:
            node, *packing = (what,) if kind == "node" else what
            if node.op == "carry":
                inputs.append(carried[node.index])
                continue
            value = evaluate(node, lambda n: self._operand(n, carried, constants), known)
            inputs.append(host_pack(np.asarray(value), *packing) if packing else value)
        return [v if _is_plain(v) else np.ascontiguousarray(v).reshape(np.shape(v)) for v in inputs]


def _is_plain(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.flags.c_contiguous


def _arrays(arrays: Sequence[np.ndarray]) -> tuple[int, Any, Any]:
    """Their number, addresses, and lengths."""
    count = len(arrays)
    addresses = (ctypes.c_void_p * count)(*(a.ctypes.data for a in arrays))
    lengths = (ctypes.c_int64 * count)(*(a.shape[0] if a.ndim else 1 for a in arrays))
    return count, addresses, lengths
