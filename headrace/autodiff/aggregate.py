"""Sums of the gradients that arrive at one tensor."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from headrace.autodiff import indexed_slices
from headrace.core.tensor_shape import TensorShape
from headrace.graph import raw
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


class AggregationMethod:
    """How several gradients of one tensor are added up.

    ADD_N (the default): one `AddN` of all. EXPERIMENTAL_TREE: pairs, one after the other.
    EXPERIMENTAL_ACCUMULATE_N: one `AccumulateNV2`, where the shape is known. Compiled, all three are the same program.
    """

    ADD_N = 0
    DEFAULT = ADD_N
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


def checked_method(method: int | None) -> int:
    """`method`, the default one for None. Raises ValueError: it is none."""
    if method is None:
        return AggregationMethod.DEFAULT
    if method not in (0, 1, 2):
        raise ValueError(f"Invalid aggregation_method specified {method}.")
    return method


def aggregate(graph: Graph, op: Operation, grads: Sequence[Any], method: int) -> Any:
    """The sum of `grads`, which arrived at an output of `op`: a Tensor, IndexedSlices where all are, None for none.

    Raises TypeError: something else among them.
    """
    for grad in grads:
        if grad is not None and not isinstance(grad, (Tensor, IndexedSlices)):
            raise TypeError(
                f"gradients have to be either all Tensors or all IndexedSlices, got {grad!r} for {op.name!r}"
            )
    if not grads:
        return None
    if len(grads) == 1:
        return grads[0]
    if any(isinstance(grad, IndexedSlices) for grad in grads):
        if all(isinstance(grad, IndexedSlices) for grad in grads):
            return indexed_slices.concatenated(grads)
        return raw.AddN(list(grads))
    if method == AggregationMethod.EXPERIMENTAL_ACCUMULATE_N and len(grads) > 2:
        shape = TensorShape(None)
        for grad in grads:
            shape = shape.merge_with(grad.shape)
        if shape.is_fully_defined():
            return raw.AccumulateNV2(list(grads), shape=shape)
    if method == AggregationMethod.ADD_N:
        return _add_on_their_devices(graph, grads)
    with graph.name_scope(op.name + "_gradient_sum"):
        total = grads[0]
        for grad in grads[1:]:
            total = raw.AddN([total, grad])
    return total


def _add_on_their_devices(graph: Graph, grads: Sequence[Tensor]) -> Tensor:
    """Adds first what lies on one device, then the sums."""
    sums = []
    ordered = sorted(grads, key=lambda grad: grad.device)
    for _, group in itertools.groupby(ordered, key=lambda grad: grad.device):
        tensors = list(group)
        with graph.colocate_with(tensors[0].op, ignore_existing=True):
            sums.append(raw.AddN(tensors) if len(tensors) > 1 else tensors[0])
    return raw.AddN(sums) if len(sums) > 1 else sums[0]
