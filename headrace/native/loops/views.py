"""Primitives that only look at elements in another way: slices, broadcasts, other shapes and orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.native.loops.body import Node, NotCovered
from headrace.native.loops.values import Memory, Reshaped, Splat, part, reshaped

if TYPE_CHECKING:
    from headrace.native.loops.plan import Plan


def _slice(plan: Plan, node: Node) -> Any:
    source = plan.value(node.inputs[0])
    if isinstance(source, Splat):
        return source
    starts, steps = node.params["start_indices"], node.params["strides"]
    return part(plan.memory(node.inputs[0]), starts, node.shape, steps)


def _split(plan: Plan, node: Node) -> Any:
    source = plan.value(node.inputs[0])
    if isinstance(source, Splat):
        return source
    axis, sizes = node.params["axis"], node.params["sizes"]
    starts = [0] * len(node.shape)
    starts[axis] = int(sum(sizes[: node.index]))
    return part(plan.memory(node.inputs[0]), starts, node.shape, None)


def _broadcast(plan: Plan, node: Node) -> Any:
    source, dims = node.inputs[0], node.params["broadcast_dimensions"]
    where = plan.value(source)
    if isinstance(where, Splat):
        return where
    if not isinstance(where, Memory) and source.size == node.size:
        return Reshaped(source)
    memory = plan.memory(source)
    strides = [0] * len(node.shape)
    for axis, n, stride in zip(dims, source.shape, memory.strides, strict=True):
        strides[axis] = stride if n == node.shape[axis] else 0
    return Memory(
        memory.base, memory.offset, node.shape, tuple(strides), memory.element, memory.phase
    )


def _reshape(plan: Plan, node: Node) -> Any:
    where = plan.value(node.inputs[0])
    if isinstance(where, Splat):
        return where
    if not isinstance(where, Memory):
        return Reshaped(node.inputs[0])
    found = reshaped(where, node.shape)
    if found is None:
        raise NotCovered("a reshape of elements that do not lie one behind the other")
    return found


def _transpose(plan: Plan, node: Node) -> Any:
    where = plan.value(node.inputs[0])
    if isinstance(where, Splat):
        return where
    memory = plan.memory(node.inputs[0])
    strides = tuple(memory.strides[i] for i in node.params["permutation"])
    return Memory(memory.base, memory.offset, node.shape, strides, memory.element, memory.phase)


VIEWS: dict[str, Callable[[Plan, Node], Any]] = {
    "slice": _slice,
    "split": _split,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
}
