"""Finds additions of products that are one product: a1' b1 + a2' b2 = [a1; a2]' [b1; b2].

The gradient of a weight that a graph uses many times, as an unrolled recurrent network does, is such a sum. As one product
it is written once, not once for each use and read again to be added up (Appleyard et al., "Optimizing Performance of
Recurrent Neural Networks on GPUs", 2016, section 3.4). `passes.loop_products` does the same for loops.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_TYPES = frozenset({dtypes.float32, dtypes.float64})


def find_sums(
    ops: Sequence[Operation], wanted: Set[Tensor], fed: Set[Tensor] = frozenset()
) -> dict[Operation, tuple[Operation, ...]]:
    """The additions (AddN) among `ops` of two or more products `a' b` that nobody else uses: each with those.

    wanted: tensors that others see. fed: tensors that are given.
    """
    sums = [op for op in ops if op.type == "AddN" and op._outputs[0]._dtype in _TYPES]
    if not sums:
        return {}
    present, uses = set(ops), dict.fromkeys((t for op in sums for t in op._inputs), 0)
    for op in ops:
        for tensor in op._inputs:
            if tensor in uses:
                uses[tensor] += 1

    def is_product(tensor: Tensor) -> bool:
        """Whether it is a product of the kind that only its sum uses."""
        op = tensor._op
        return (
            op.type == "MatMul"
            and op.attr("transpose_a")
            and not op.attr("transpose_b")
            and op in present
            and uses[tensor] == 1
            and tensor not in wanted
            and tensor not in fed
        )

    found = {}
    for op in sums:
        products = tuple(t._op for t in op._inputs if is_product(t))
        if len(products) > 1 and op._outputs[0] not in fed:
            found[op] = products
    return found
