"""`tf.cond`: two bodies, of which one runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.composites import as_tensor, flatten_composites, pack_composites, parts_of
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.fresh_reads import read_inside
from headrace.api.function_bodies import body_name, call_op, common_shape, has_value, share_captures
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape
from headrace.graph import convert, default, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.func_graph import FuncGraph, new_function, unique_function_name
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


class _Branch:
    """A branch of a conditional, built as a body."""

    def __init__(self, kind: bool, graph: Graph, function: Callable[[], Any], strict: bool) -> None:
        name = body_name(graph, "true" if kind else "false")
        self.graph = FuncGraph(unique_function_name(graph, name), graph)
        self.graph.place = "true_fn" if kind else "false_fn"
        self._kind = kind
        with self.graph.as_default():
            result = function()
            self.structure, self.is_nothing = self._finish(result if strict else _unpacked(result))

    def _finish(self, result: Any) -> tuple[Any, bool]:
        if result is None:
            return None, True
        structure = (
            nest.map_structure(self._leaf, result) if nest.is_nested(result) else self._leaf(result)
        )
        self.graph.outputs = [self._output(t) for t in flatten_composites(structure)]
        return structure, False

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, Operation):
            # The branch's effect is what matters; its value says which branch it was, as in TensorFlow.
            with self.graph.control_dependencies([value]):
                return raw.Identity(convert.constant_from_value(self._kind, dtypes.bool, None))
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


@export("cond")
def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Any = None,
    fn2: Any = None,
) -> Any:
    """The results of `true_fn()` where `pred` holds when the graph runs, else those of `false_fn()`; only one runs.

    pred: scalar bool tensor. Both functions give the same structure of tensors with the same types; a list of
    one tensor is
    unpacked unless `strict`. What they use of the graph around is computed before, whichever is taken.
    Raises TypeError: not callable, a Python bool. ValueError: different structures or types.
    """
    true_fn = _one_of(true_fn, fn1, "true_fn")
    false_fn = _one_of(false_fn, fn2, "false_fn")
    with name_scope(name, "cond", [pred]):
        if isinstance(pred, (bool, np.bool_)):
            raise TypeError("pred must not be a Python bool")
        graph = default.get_default_graph()
        pred = convert.convert_to_tensor(pred)
        if pred.dtype.base_dtype != dtypes.bool:
            raise TypeError(f"pred must be a scalar bool tensor, got {pred.dtype.name}")
        if pred._dims is not None and len(pred._dims):
            raise ValueError(f"Shape must be rank 0 but is rank {len(pred._dims)}: pred {pred}")
        branches = [
            _Branch(True, graph, true_fn, strict),
            _Branch(False, graph, false_fn, strict),
        ]
        return _choose(graph, pred, branches)


def _one_of(new: Any, old: Any, name: str) -> Callable[[], Any]:
    if old is not None:
        if new is not None:
            raise TypeError(
                "cond(): true_fn and fn1 (false_fn and fn2) may not be set simultaneously."
            )
        new = old
    if not callable(new):
        raise TypeError(f"{name} must be callable.")
    return new


def _unpacked(result: Any) -> Any:
    """The element of a list or tuple that has one."""
    return result[0] if isinstance(result, (list, tuple)) and len(result) == 1 else result


def _check_composites(first: _Branch, other: _Branch) -> None:
    """Makes the indices of slices of one type. Raises TypeError: slices in one branch, a tensor in the other."""
    at = 0
    leaves = zip(nest.flatten(first.structure), nest.flatten(other.structure), strict=True)
    for number, (a, b) in enumerate(leaves):
        parts, others = parts_of(a), parts_of(b)
        if (parts is None) != (others is None):
            raise TypeError(
                f"Cannot reconcile tf.cond {number}-th outputs: true_fn returned {a}, false_fn returned {b}"
            )
        if isinstance(a, IndexedSlices) and isinstance(b, IndexedSlices):
            both = [branch.graph.outputs[at + 1] for branch in (first, other)]
            if {t._dtype for t in both} == {dtypes.int32, dtypes.int64}:
                for branch, indices in zip((first, other), both, strict=True):
                    with branch.graph.as_default():
                        branch.graph.outputs[at + 1] = raw.Cast(indices, DstT=dtypes.int64)
        at += 1 if parts is None else len(parts)


def _check_same(first: _Branch, other: _Branch, names: tuple[str, str]) -> None:
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
    _check_composites(first, other)
    for i, (a, b) in enumerate(zip(first.graph.outputs, other.graph.outputs, strict=True)):
        if a._dtype.base_dtype != b._dtype.base_dtype:
            raise ValueError(
                f"Outputs of {names[0]} and {names[1]} must have the same type(s): output {i} is {a._dtype.name} and "
                f"{b._dtype.name}."
            )


def _choose(graph: Graph, pred: Tensor, branches: list[_Branch]) -> Any:
    """Adds the `If` for two finished branches."""
    true, false = branches
    _check_same(true, false, ("true_fn", "false_fn"))
    read_inside([true.graph, false.graph])
    captured = share_captures([true.graph, false.graph])
    dims = [
        common_shape(a._dims, b._dims)
        for a, b in zip(true.graph.outputs, false.graph.outputs, strict=True)
    ]
    waits = [op for b in branches for op in b.graph.outer_control_inputs]
    with graph.control_dependencies(waits):
        op = call_op(
            "If",
            {"cond": pred, "input": captured},
            {
                "then_branch": new_function(true.graph),
                "else_branch": new_function(false.graph),
                "Tout": [t._dtype.base_dtype for t in true.graph.outputs],
                "output_shapes": [TensorShape.of(d) for d in dims],
            },
        )
    if true.is_nothing:
        return op
    # Each result has a node of its own: who waits for one does not wait for the others.
    outputs = [raw.Identity(t, name="Merge") if has_value(t) else t for t in op.outputs]
    return pack_composites(true.structure, outputs)


def static_predicate(pred: Any) -> bool | None:
    """The value of a predicate if it is known while the graph is built, else None (`tf.contrib.framework.smart_cond`)."""
    if isinstance(pred, (bool, np.bool_)):
        return bool(pred)
    if isinstance(pred, (int, np.integer)) and pred in (0, 1):
        return bool(pred)
    if isinstance(pred, Tensor):
        value = constant_value(pred)
        return None if value is None else bool(value)
    raise TypeError(
        f"`pred` must be a Tensor, or a Python bool, or 1 or 0. Found instead: {type(pred)}"
    )
