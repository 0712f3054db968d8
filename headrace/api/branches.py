"""The branches of `tf.cond` and `tf.switch_case`: bodies with results of the same structure and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.composites import as_tensor, flatten_composites, pack_composites, parts_of
from headrace.api.fresh_reads import read_inside
from headrace.api.function_bodies import body_name, call_op, common_shape, has_value, share_captures
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, raw
from headrace.graph.attr_value import FunctionRef
from headrace.graph.func_graph import new_function, unique_function_name
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation
from headrace.graph.ordered_graph import OrderedGraph, new_body
from headrace.graph.tensor import Tensor


class Branch:
    """A branch of a conditional, built as a body.

    place: what it is, for messages. index: what says which branch it is, the value of an operation that it returns.
    """

    def __init__(
        self, graph: Graph, function: Callable[[], Any], name: str, place: str, index: Any
    ) -> None:
        self.graph = new_body(unique_function_name(graph, body_name(graph, name)), graph)
        self.graph.place = place
        self._index = index
        with self.graph.as_default():
            self.structure, self.is_nothing = self._finish(function())

    def _finish(self, result: Any) -> tuple[Any, bool]:
        if result is None:
            # In a `tf.function` the effects of the branch are what it is for.
            if not isinstance(self.graph, OrderedGraph):
                raise ValueError(f"{self.graph.place} must have a return value.")
            return None, True
        structure = (
            nest.map_structure(self._leaf, result) if nest.is_nested(result) else self._leaf(result)
        )
        self.graph.outputs = [self._output(t) for t in flatten_composites(structure)]
        if not self.graph.outputs:
            raise ValueError(f"{self.graph.place} must return at least one result.")
        return structure, False

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, Operation):
            # The branch's effect is what matters; its value says which branch it was, as in TensorFlow.
            with self.graph.control_dependencies([value]):
                return raw.Identity(convert.convert_to_tensor(self._index))
        if parts_of(value) is not None:
            return value
        return as_tensor(value, "a branch of a conditional")

    def _output(self, tensor: Any) -> Tensor:
        tensor = as_tensor(tensor, "a branch of a conditional")
        tensor = self.graph.capture(tensor)
        if tensor._dtype.is_ref_dtype:
            with self.graph.as_default():
                tensor = raw.Identity(tensor)
        return tensor


def _check_composites(branches: Sequence[Branch]) -> None:
    """Makes the indices of slices of one type. Raises TypeError: slices in one branch, a tensor in another."""
    at = 0
    for number, leaves in enumerate(
        zip(*(nest.flatten(b.structure) for b in branches), strict=True)
    ):
        parts = parts_of(leaves[0])
        for other in leaves[1:]:
            if (parts is None) != (parts_of(other) is None):
                raise TypeError(
                    f"Cannot reconcile tf.cond {number}-th outputs: true_fn returned {leaves[0]!r}, "
                    f"false_fn returned {other!r}"
                )
        if all(isinstance(leaf, IndexedSlices) for leaf in leaves):
            indices = [b.graph.outputs[at + 1] for b in branches]
            if {t._dtype for t in indices} == {dtypes.int32, dtypes.int64}:
                for branch, tensor in zip(branches, indices, strict=True):
                    with branch.graph.as_default():
                        branch.graph.outputs[at + 1] = raw.Cast(tensor, DstT=dtypes.int64)
        at += 1 if parts is None else len(parts)


def _check_same(first: Branch, other: Branch, names: tuple[str, str]) -> None:
    if first.is_nothing or other.is_nothing:
        if first.is_nothing != other.is_nothing:
            raise ValueError(
                f"{names[0]} and {names[1]} must either both return None or both return values."
            )
        return
    try:
        nest.assert_same_structure(first.structure, other.structure)
    except (ValueError, TypeError) as error:
        raise type(error)(
            f"Incompatible return values of {names[0]} and {names[1]}: {error}"
        ) from None


def _check_types(first: Branch, other: Branch, names: tuple[str, str]) -> None:
    for i, (a, b) in enumerate(zip(first.graph.outputs, other.graph.outputs, strict=True)):
        if a._dtype.base_dtype != b._dtype.base_dtype:
            raise ValueError(
                f"Outputs of {names[0]} and {names[1]} must have the same type(s): output {i} is {a._dtype.name} and "
                f"{b._dtype.name}."
            )


def choose(
    op_type: str,
    chooser: Tensor,
    branches: Sequence[Branch],
    functions: Callable[[list[FunctionRef]], dict[str, Any]],
    result_name: str,
) -> Any:
    """Adds the node that runs one of the finished `branches`; returns its results, or the node where there are none.

    functions: the attrs that name the branches. Raises ValueError, TypeError: the branches give different things.
    """
    first = branches[0]
    pairs = [(other, (first.graph.place, other.graph.place)) for other in branches[1:]]
    for other, names in pairs:
        _check_same(first, other, names)
    if not first.is_nothing:
        _check_composites(branches)
    for other, names in pairs:
        _check_types(first, other, names)
    graphs = [b.graph for b in branches]
    read_inside(graphs)
    captured = share_captures(graphs)
    shapes = []
    for outputs in zip(*(g.outputs for g in graphs), strict=True):
        dims = outputs[0]._dims
        for tensor in outputs[1:]:
            dims = common_shape(dims, tensor._dims)
        shapes.append(TensorShape.of(dims))
    graph = graphs[0].outer_graph
    with graph.control_dependencies([op for g in graphs for op in g.outer_control_inputs]):
        op = call_op(
            op_type,
            {lookup(op_type).signature.inputs[0].name: chooser, "input": captured},
            {
                **functions([new_function(g) for g in graphs]),
                "Tout": [t._dtype.base_dtype for t in first.graph.outputs],
                "output_shapes": shapes,
            },
        )
    if first.is_nothing:
        return op
    # Each result has a node of its own: who waits for one does not wait for the others.
    outputs = [raw.Identity(t, name=result_name) if has_value(t) else t for t in op.outputs]
    return pack_composites(first.structure, outputs)
