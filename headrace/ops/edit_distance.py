"""EditDistance: how many insertions, deletions and replacements lead from one sequence to another."""

from __future__ import annotations

import numpy as np

from headrace.graph.op_def import define
from headrace.graph.tensor import Dims

edit_distance = define(
    "EditDistance",
    "hypothesis_indices: int64, hypothesis_values: T, hypothesis_shape: int64, truth_indices: int64, truth_values: T, "
    "truth_shape: int64 -> output: float",
    "normalize: bool = true, T: type",
    host_only=True,
)


@edit_distance.shape
def _edit_distance_shape(
    op, hypothesis_indices, hypothesis_values, hypothesis_shape, *truth
) -> Dims:
    hypothesis, wanted = op.static(2), op.static(5)
    if hypothesis is None or wanted is None:
        return None
    if len(hypothesis) != len(wanted):
        raise op.error(
            f"truth_shape and hypothesis_shape need the same rank, got {list(wanted)} and {list(hypothesis)}."
        )
    return tuple(int(max(a, b)) for a, b in zip(hypothesis[:-1], wanted[:-1], strict=True))


def _levenshtein(a: list, b: list) -> int:
    """The smallest number of insertions, deletions and replacements from `a` to `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def _sequences(indices, values) -> dict[tuple[int, ...], list]:
    found: dict[tuple[int, ...], list] = {}
    for index, value in zip(indices.tolist(), values.tolist(), strict=True):
        found.setdefault(tuple(index[:-1]), []).append(value)
    return found


@edit_distance.host
def _edit_distance_host(op, indices, values, shape, truth_indices, truth_values, truth_shape):
    if len(shape) != len(truth_shape):
        raise op.invalid(
            f"hypothesis and truth need the same rank, got {len(shape)} and {len(truth_shape)}"
        )
    dims = tuple(int(max(a, b)) for a, b in zip(shape[:-1], truth_shape[:-1], strict=True))
    output = np.zeros(dims, np.float32)
    hypothesis, truth = _sequences(indices, values), _sequences(truth_indices, truth_values)
    for place in hypothesis.keys() | truth.keys():
        if any(not 0 <= p < d for p, d in zip(place, dims, strict=True)):
            raise op.invalid(f"index {list(place)} is outside the output of shape {list(dims)}")
        ours, theirs = hypothesis.get(place, []), truth.get(place, [])
        distance = float(_levenshtein(theirs, ours))
        if op.attr("normalize"):
            # No truth at all: any hypothesis is infinitely far from it.
            distance = distance / len(theirs) if theirs else float("inf") if ours else 0.0
        output[place] = distance
    return output


edit_distance.not_differentiable()
