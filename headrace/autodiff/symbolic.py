"""Gradients of functions of the library that are called by name: SymbolicGradient nodes, and the functions that they call.

A named function has the outputs that it was declared with, so that its gradient cannot get values from inside a call, as
branches and loops hand them out: it computes what it needs once more. XLA merges the two where one program holds both.
"""

from __future__ import annotations

from typing import Any

from headrace.autodiff.control_flow import _dense, _has_gradient, _zeros_of
from headrace.autodiff.gradients import gradients, is_differentiable
from headrace.core import dtypes
from headrace.graph import attr_value, default, raw
from headrace.graph.func_graph import FuncGraph, FunctionOp, GraphFunction, function_named
from headrace.graph.function_def import copy_of
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation


def gradient_of(op: Operation, function: GraphFunction) -> GraphFunction:
    """The gradient of `function` as a function: (inputs, gradients of the outputs) -> gradients of the inputs.

    That is the function declared as its gradient (`grad_func`) where there is one, else one made here, once.
    """
    if function.grad_func_name:
        return function_named(op, function.grad_func_name)
    if function.gradient is None:
        function.gradient = _build(function)
    return function.gradient


def _build(function: GraphFunction) -> GraphFunction:
    body = copy_of(function)
    body.name = f"{function.name}_grad"
    inputs, outputs = list(body.inputs), list(body.outputs)
    with body.as_default(), body.control_dependencies(None):
        grads = [
            body.add_input(t._dtype.base_dtype, t._dims, f"dy_{i}") for i, t in enumerate(outputs)
        ]
        known = [i for i, t in enumerate(outputs) if is_differentiable(t._dtype)]
        wanted = [t for t in inputs if _has_gradient(t)]
        found = gradients([outputs[i] for i in known], wanted, grad_ys=[grads[i] for i in known])
        made = dict(zip(wanted, map(_dense, found), strict=True))
        body.outputs = [
            _zeros_of(t) if made.get(t) is None else body.capture(made[t])  # type: ignore[arg-type]
            for t in inputs
        ]
    body.control_outputs = []
    return GraphFunction(body)


def _add_node(op: Operation, function: GraphFunction, grads: tuple[Any, ...]) -> list[Any]:
    """A node for the gradient of `op`, which calls `function`."""
    inputs = list(op._inputs)
    arrived = [
        raw.ZerosLike(output) if grad is None else _dense(grad)
        for output, grad in zip(op._outputs, grads, strict=True)
    ]
    graph = default.get_default_graph()
    values: list[Any] = [
        graph.capture(t) if t.graph is not graph else t for t in (*inputs, *arrived)
    ]  # type: ignore[attr-defined]
    if function.grad_func_name or not _has_control_flow(function.graph):
        results = raw.SymbolicGradient(
            values,
            Tout=[
                dtypes.float32 if t._dtype is dtypes.resource else t._dtype.base_dtype
                for t in inputs
            ],
            f=attr_value.FunctionRef(function.name),
        )
    else:
        # TensorFlow's own SymbolicGradient knows no gradients of If and While: this call brings them along.
        gradient = gradient_of(op, function)
        gradient.add_to_graph(op._graph)
        results = raw.build_from_parts(graph, gradient.op_type(), values, {}, None)._outputs
    return [result if _has_gradient(t) else None for t, result in zip(inputs, results, strict=True)]


def _has_control_flow(body: FuncGraph) -> bool:
    """Whether a body calls functions as branches and loops do, or one that it calls by name does."""
    for op in body._operations:
        definition = op._definition
        if isinstance(definition, FunctionOp):
            if _has_control_flow(function_named(op, definition.name).graph):
                return True
        elif definition.function_attrs:
            return True
    return False


def _call_gradient(op: Operation, *grads: Any) -> list[Any]:
    """The gradient of a call by name."""
    return _add_node(op, function_named(op, op.type), grads)


def _symbolic_gradient_gradient(op: Operation, *grads: Any) -> list[Any]:
    """The gradient of a gradient, which becomes a function of the library."""
    gradient = gradient_of(op, function_named(op, op.attr("f").name))
    gradient.add_to_graph(op._graph)
    return _add_node(op, gradient, grads)


FunctionOp.gradient_of_call = staticmethod(_call_gradient)
lookup("SymbolicGradient").derived(gradient_of)
lookup("SymbolicGradient").gradient(_symbolic_gradient_gradient)
