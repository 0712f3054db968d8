"""`tf.cond`: two bodies, of which one runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.branches import Branch, choose
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.core import dtypes
from headrace.graph import convert, default
from headrace.graph.constant_value import constant_value
from headrace.graph.tensor import Tensor


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

        def branch(kind: bool, function: Callable[[], Any]) -> Branch:
            return Branch(
                graph,
                function if strict else lambda: _unpacked(function()),
                str(kind).lower(),
                f"{kind}_fn".lower(),
                kind,
            )

        return choose(
            "If",
            pred,
            [branch(True, true_fn), branch(False, false_fn)],
            lambda names: dict(zip(("then_branch", "else_branch"), names, strict=True)),
            "Merge",
        )


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
