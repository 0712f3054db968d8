"""Gradients that compute the inside of a function anew: less memory for a second pass through it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from headrace.api.custom_gradient import recomputed
from headrace.api.get_variable import get_variable_scope
from headrace.api.variable_base import Variable
from headrace.api.variable_scope import variable_scope
from headrace.graph.tensor import Tensor


def recompute_grad(
    fn: Callable[..., Any] | None = None, use_data_dep: bool = True, tupleize_grads: bool = False
) -> Any:
    """Decorates a function of tensors so that what it computes in between is computed anew for its gradient, not kept.

    Its variables are those of the first call. It may take `is_recomputing`, which tells the calls apart.
    use_data_dep: taken for granted; the second computation waits for the gradients. tupleize_grads: all gradients
    are there before any of them is used.
    Raises ValueError: `fn` closes over a tensor or a variable, which would get no gradient; an argument is no tensor.
    """
    if fn is None:
        return functools.partial(
            recompute_grad, use_data_dep=use_data_dep, tupleize_grads=tupleize_grads
        )
    for name, value in inspect.getclosurevars(fn).nonlocals.items():
        if isinstance(value, (Tensor, Variable)):
            raise ValueError(
                f"fn decorated with @recompute_grad closes over Tensor {value.name} (local variable name: {name}); it would "
                "get no gradient. Make it an input of fn."
            )
    told = "is_recomputing" in inspect.signature(fn).parameters

    @functools.wraps(fn)
    def wrapped(*args: Any) -> Any:
        if not all(isinstance(arg, Tensor) for arg in args):
            raise ValueError("All inputs to function must be Tensors")
        scope = get_variable_scope()

        def first(*xs: Any) -> Any:
            return fn(*xs, **({"is_recomputing": False} if told else {}))

        def again(*xs: Any) -> Any:
            with variable_scope(scope, reuse=True):
                return fn(*xs, **({"is_recomputing": True} if told else {}))

        return recomputed(first, again, together=tupleize_grads)(*args)

    return wrapped
