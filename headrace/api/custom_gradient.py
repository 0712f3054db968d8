"""Functions with gradients of their own: `tf.custom_gradient`, `tf.grad_pass_through`, `tf.recompute_grad`."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from headrace.api.control_flow_basic import tuple as grouped
from headrace.api.export import export
from headrace.autodiff import gradients, registry
from headrace.autodiff.gradients import is_differentiable
from headrace.core import nest
from headrace.graph import convert, default, raw
from headrace.graph.graph import Graph
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.ops.source import TIED

_count = itertools.count(1)


@export("custom_gradient")
def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function `f(*x)` that returns `(y, grad)`: calls give y, and gradients through them are grad's.

    grad(*dys) returns dx for each x. Where y depends on trainable variables that are no arguments,
    grad is called with `variables=` these and returns (list of dx, list of the variables'
    gradients). Keyword arguments go to f as they are.
    Raises TypeError: f uses variables and grad does not take `variables`. ValueError: gradients for some only.
    """

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return _call(f, args, kwargs)

    return decorated


def _call(f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    xs = [convert.convert_to_tensor(x) for x in args]
    result, grad = f(*xs, **kwargs)
    ys = [convert.convert_to_tensor(y) for y in nest.flatten(result)]
    graph = default.get_default_graph()
    variables = _variables_between(graph, xs, ys)
    _check_takes_variables(f, grad, variables)

    def gradient_of_call(op: Operation, *grads: Any) -> list[Any]:
        dys = grads[: len(ys)]
        if variables:
            dxs, dvariables = grad(*dys, variables=list(variables))
            if len(dvariables) != len(variables):
                raise ValueError(
                    f"Must return gradient for each variable from @custom_gradient grad_fn: {_name(f)} uses "
                    f"{len(variables)}, got {len(dvariables)}."
                )
        else:
            dxs, dvariables = grad(*dys), []
        dxs = nest.flatten(dxs)
        if len(dxs) != len(xs):
            raise ValueError(
                f"custom_gradient function {_name(f)} must return {len(xs)} gradients, got {len(dxs)}."
            )
        return [None] * len(ys) + list(dxs) + list(dvariables)

    # One IdentityN ties y to x: gradients pass from its first outputs to its last inputs, and not into f.
    name = f"CustomGradient-{next(_count)}"
    registry.register_while_used(name, gradient_of_call)
    with graph.gradient_override_map({"IdentityN": name}):
        with graph._override_gradient_function({"IdentityN": gradient_of_call}):
            outputs = raw.IdentityN([*ys, *xs, *variables])
    return nest.pack_sequence_as(result, outputs[: len(ys)])


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))


def _variables_between(graph: Graph, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> list[Any]:
    """The trainable variables on which `ys` depend other than through `xs`, in the order in which they were made."""
    stop = set(xs)
    handles: set[Operation] = set()
    seen: set[Operation] = set()
    queue = [y for y in ys if y not in stop]
    while queue:
        op = queue.pop().op
        if op in seen:
            continue
        seen.add(op)
        if op.definition.effects & Effect.HANDLE:
            handles.add(op)
        queue += [t for t in op.inputs if t not in stop and is_differentiable(t.dtype)]
    if not handles:
        return []
    found: dict[Operation, Any] = {}
    for collection in ("trainable_variables", "variables"):
        for variable in graph.get_collection(collection):
            op = getattr(variable, "op", None)
            if op in handles and getattr(variable, "trainable", True):
                found.setdefault(op, variable)
    return [found[op] for op in sorted(found, key=lambda op: op._id)]


def _check_takes_variables(
    f: Callable[..., Any], grad: Callable[..., Any], variables: list[Any]
) -> None:
    parameters = inspect.signature(grad).parameters.values()
    named = any(p.name == "variables" and p.kind is not p.VAR_POSITIONAL for p in parameters)
    takes = named or any(p.kind is p.VAR_KEYWORD for p in parameters)
    if variables and not takes:
        raise TypeError(
            "If using @custom_gradient with a function that uses variables, then grad_fn must accept "
            f"a keyword argument 'variables': {_name(f)} uses {', '.join(v.name for v in variables)}."
        )
    if named and not variables:
        if not _scope_makes_resources():
            raise TypeError(
                "If using @custom_gradient with a function that uses variables, the enclosing variable scope must have "
                f"use_resource=True: {_name(f)} uses none that is trainable."
            )
        warnings.warn(
            f"@custom_gradient grad_fn of {_name(f)} has 'variables' in signature, but no "
            "ResourceVariables were used on the forward pass.",
            stacklevel=4,
        )


def _scope_makes_resources() -> bool:
    from headrace.api.get_variable import get_variable_scope

    return bool(get_variable_scope().use_resource)


@export("grad_pass_through")
def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the values of `f` through which gradients pass as if it were the identity."""

    @custom_gradient
    def pass_through(*args: Any, **kwargs: Any) -> Any:
        def grad(*dys: Any, **more: Any) -> Any:
            variables = more.get("variables")
            return dys if variables is None else (dys, [None] * len(variables))

        return f(*args, **kwargs), grad

    return functools.wraps(f)(pass_through)


@export("recompute_grad")
def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function like `f` whose intermediate tensors are computed anew for its gradient instead of being kept."""
    return recomputed(f, f)


def recomputed(
    f: Callable[..., Any], again: Callable[..., Any], together: bool = False
) -> Callable[..., Any]:
    """A function like `f`; for its gradient `again` is called, which must compute what f does.

    together: all gradients are there before any of them is used.
    """

    @custom_gradient
    def call(*args: Any, **kwargs: Any) -> Any:
        result = f(*args, **kwargs)

        def grad(*dys: Any, **more: Any) -> Any:
            variables = more.get("variables")
            # Tied to the gradients that arrive: only then is there something to compute anew for.
            graph = default.get_default_graph()
            with graph._attr_scope({TIED: AttrValue(i=1)}):
                # One for each: a gradient that does not need an argument does not wait for it either.
                xs = [raw.IdentityN([x, *dys])[0] for x in args]
            ys = nest.flatten(again(*xs, **kwargs))
            # Not beyond xs: they depend on the gradients too, and with these on everything.
            sources = [*xs, *(variables or ())]
            grads = gradients(ys, sources, list(dys), stop_gradients=list(xs))
            grads = grouped(grads) if together else grads
            if variables is None:
                return grads
            return grads[: len(xs)], grads[len(xs) :]

        return result, grad

    return functools.wraps(f)(call)
