"""`tf.case`, `tf.switch_case`: one of several bodies runs."""

from __future__ import annotations

import collections
import functools
from typing import Any

import numpy as np

from headrace.api.branches import Branch, choose
from headrace.api.cond import cond
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.graph import convert, raw
from headrace.graph.default import get_default_graph
from headrace.graph.tensor import Tensor


@export("case")
def case(
    pred_fn_pairs: Any,
    default: Any = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """The results of the function whose predicate is the first to hold, or of `default`.

    pred_fn_pairs: a list of (scalar bool tensor, function) pairs, or a dictionary. exclusive: the run fails
    where more than
    one holds. Without a default, the run fails where none holds.
    Raises TypeError: not such pairs.
    """
    if isinstance(pred_fn_pairs, dict):
        pairs = list(pred_fn_pairs.items())
        if not isinstance(pred_fn_pairs, collections.OrderedDict):
            pairs.sort(key=lambda item: item[0].name)
    elif isinstance(pred_fn_pairs, (list, tuple)):
        pairs = list(pred_fn_pairs)
    else:
        raise TypeError("fns must be a list, tuple, or dict")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError("Each entry in pred_fn_pairs must be a 2-tuple")
        if not isinstance(pair[0], Tensor) and not hasattr(pair[0], "_as_graph_element"):
            raise TypeError(f"pred must be Tensor, got {type(pair[0]).__name__}")
        if not callable(pair[1]):
            raise TypeError(f"fn for pred {pair[0]} must be callable.")
    if default is not None and not callable(default):
        raise TypeError("default must be callable.")
    with name_scope(name, "case", [p for p, _ in pairs]):
        predicates = [convert.convert_to_tensor(p) for p, _ in pairs]
        guards: list[Any] = []
        stacked = raw.Pack(predicates, axis=0) if predicates else None
        if exclusive and len(pairs) > 1:
            count = raw.Sum(raw.Cast(stacked, DstT=dtypes.int32), np.array([0], np.int32))
            names = ", ".join(p.name for p in predicates)
            guards.append(
                raw.Assert(
                    raw.LessEqual(count, 1),
                    [f"Input error: more than one predicate holds among {names}", stacked],
                )
            )
        if default is None:
            *pairs, (_, default) = pairs
            names = ", ".join(p.name for p in predicates)
            guards.append(
                raw.Assert(
                    raw.Any(stacked, np.array([0], np.int32)),  # type: ignore[operator] - the op
                    [
                        f"Input error: None of conditions evaluated as True. Conditions: {names}, Values:",
                        stacked,
                    ],
                )
            )
        with get_default_graph().control_dependencies(guards):
            function = default
            for predicate, action in reversed(pairs):
                function = functools.partial(_cond_of_case, predicate, action, function, strict)
            if not pairs:
                return function()
            return function()


def _cond_of_case(predicate: Any, action: Any, otherwise: Any, strict: bool) -> Any:
    return cond(predicate, action, otherwise, strict=strict, name="cond")


@export("switch_case")
def switch_case(
    branch_index: Any, branch_fns: Any, default: Any = None, name: str = "switch_case"
) -> Any:
    """The results of the function with number `branch_index`, or of `default` (the last function) for any other number.

    branch_fns: a list of functions, a dictionary or a list of pairs from numbers to functions.
    Raises TypeError, ValueError: not such functions.
    """
    if isinstance(branch_fns, dict):
        numbered = sorted(branch_fns.items())
    elif not isinstance(branch_fns, (list, tuple)):
        raise TypeError("branch_fns must be a list, tuple, or dict")
    elif branch_fns and all(callable(f) for f in branch_fns):
        numbered = list(enumerate(branch_fns))
    else:
        numbered = list(branch_fns)
    if not numbered:
        raise ValueError("branch_fns must not be empty")
    for entry in numbered:
        if not (isinstance(entry, tuple) and len(entry) == 2):
            raise TypeError("Each entry in branch_fns must be a 2-tuple")
        if not isinstance(entry[0], int):
            raise TypeError(f"key must be a Python `int`, got {type(entry[0]).__name__}")
        if not callable(entry[1]):
            raise TypeError(f"fn for key {entry[0]} must be callable.")
    if sorted(k for k, _ in numbered) != list(range(len(numbered))):
        raise ValueError(
            f"branch indices must form contiguous range of [0 to {len(numbered)}) but found "
            f"{{{sorted(k for k, _ in numbered)}}}"
        )
    if not isinstance(branch_index, Tensor) and not hasattr(branch_index, "_as_graph_element"):
        raise TypeError(f"branch_index must a Tensor, got {type(branch_index)}")
    functions = [action for _, action in sorted(numbered, key=lambda entry: entry[0])]
    if default is not None:
        functions.append(default)
    with name_scope(name, "switch_case", [branch_index]), name_scope("indexed_case"):
        index = convert.convert_to_tensor(branch_index, name="branch_index")
        graph = get_default_graph()
        branches = [
            Branch(graph, function, f"branch{i}", f"branch {i}", index)
            for i, function in enumerate(functions)
        ]
        return choose("Case", index, branches, lambda names: {"branches": names}, "Identity")
