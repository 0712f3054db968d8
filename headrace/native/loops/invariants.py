"""What is the same in all iterations of a loop, computed before it with NumPy: no program is compiled for a new length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.native.loops.body import Node
from headrace.native.packed import host_pack


def evaluate(node: Node, operand: Callable[[Node], Any], known: dict[Node, Any]) -> Any:
    """The value of an invariant node of a loop on NumPy arrays; operand(node): that of a constant or a carry.

    known: values that are there already; those that are computed are added.
    """
    if node not in known:
        if node.op == "literal":
            known[node] = node.value
        elif node.op in ("constant", "carry"):
            known[node] = operand(node)
        else:
            inputs = [np.asarray(evaluate(i, operand, known)) for i in node.inputs]
            rule = _RULES.get(node.op)
            value = None if rule is None else rule(node, *inputs)
            if value is None:
                value = node.primitive.bind(*inputs, **node.params)
                value = value[node.index] if node.primitive.multiple_results else value
            known[node] = value
    return known[node]


def _broadcast(node: Node, x: np.ndarray) -> np.ndarray:
    shape = [1] * len(node.shape)
    for axis, n in zip(node.params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = n
    return np.broadcast_to(x.reshape(shape), node.shape)


def _reshape(node: Node, x: np.ndarray) -> np.ndarray:
    return x.reshape(node.shape)


def _slice(node: Node, x: np.ndarray) -> np.ndarray:
    params = node.params
    steps = params["strides"] or [1] * x.ndim
    places = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return x[tuple(slice(*p) for p in places)]


def _transpose(node: Node, x: np.ndarray) -> np.ndarray:
    return x.transpose(node.params["permutation"])


def _concatenate(node: Node, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, node.params["dimension"])


def _call(node: Node, x: np.ndarray, *others: np.ndarray) -> Any:
    """A kernel of ours; None where it is another one."""
    if node.params["target_name"] != "headrace_pack":
        return None
    given = dict(node.params["attributes"])
    return host_pack(x, given["rows"], given["pieces"], given["transpose"])


_RULES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "slice": _slice,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "ffi_call": _call,
}
