"""Loops of a fixed number of iterations, as one call where all of the body is known here.

XLA runs the body of a loop operation by operation, on one thread but for the products. A recurrent network spends half of
its time between them. Here the body is traced, planned (`plan`) and run by threads that stay together until the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from headrace.native.library import available
from headrace.native.loops.body import Body, Node, NotCovered, evaluate
from headrace.native.loops.code import encode
from headrace.native.loops.plan import Plan
from headrace.native.packed import pack

_logger = logging.getLogger("headrace")


def repeat(trips: int, step: Callable[[Any], Any], carry: Any) -> Any:
    """`carry` after `trips` applications of `step`, which gives values of the same shapes and types.

    Raises TypeError: it gives others.
    """
    found = in_one_call(trips, step, carry)
    return lax.fori_loop(0, trips, lambda _, c: step(c), carry) if found is None else found


def in_one_call(trips: int, step: Callable[[Any], Any], carry: Any) -> Any:
    """As `repeat`; None where XLA had better run the loop."""
    if available() and trips > 0:
        leaves, tree = jax.tree.flatten(carry)
        closed, after = jax.make_jaxpr(
            lambda *leaves: step(tree.unflatten(leaves)), return_shape=True
        )(*leaves)
        if jax.tree.structure(after) == tree and _types(closed.in_avals) == _types(after):
            results = _run(trips, closed, leaves)
            if results is not None:
                return tree.unflatten(results)
    return None


def _run(trips: int, closed: Any, leaves: list[Any]) -> list[Any] | None:
    """The values after the loop; None where it is no gain, or not possible."""
    try:
        body = Body(closed)
        if not has_product(body):
            return None
        plan = Plan(body)
        code = np.array(encode(plan), np.int64)
    except NotCovered as reason:
        _logger.debug("a loop stays with XLA: %s", reason)
        return None

    def operand(node: Node) -> Any:
        return closed.consts[node.index] if node.op == "constant" else leaves[node.index]

    known: dict[Node, Any] = {}
    inputs = []
    for kind, what in plan.inputs:
        if kind == "node":
            inputs.append(operand(what) if what.op == "carry" else evaluate(what, operand, known))
        else:
            node, rows, pieces, transpose = what
            inputs.append(pack(evaluate(node, operand, known), rows, pieces, transpose))
    call = jax.ffi.ffi_call(
        "headrace_loop",
        [jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in plan.outputs],
        input_output_aliases={x.input: x.output for x in plan.lists if x.output >= 0},
    )
    results = list(leaves)
    for i, value in zip(plan.outputs, call(*inputs, code=code, trips=np.int64(trips)), strict=True):
        results[i] = value
    return results


def _types(values: Any) -> list[Any]:
    return [(v.shape, v.dtype) for v in jax.tree.leaves(values)]


def has_product(body: Body) -> bool:
    """Whether a matrix product is in each iteration: what is between products is what XLA does slowly."""
    return any(
        node.op == "dot_general"
        or node.params.get("target_name") in ("headrace_dot", "headrace_packed_dot")
        for node in body.nodes
        if not node.invariant
    )
