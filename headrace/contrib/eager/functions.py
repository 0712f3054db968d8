"""`defun`, and gradients of Python functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.export import PUBLIC
from headrace.api.framework import GraphKeys
from headrace.api.function import function
from headrace.api.gradient_tape import GradientTape
from headrace.core import nest
from headrace.graph import convert, default


def defun(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    experimental_autograph_options: Any = None,
) -> Any:
    """Makes `func` a function of the graph (see `tf.function`). Serves as a decorator, with or without arguments."""
    if func is None:
        return functools.partial(defun, input_signature=input_signature, autograph=autograph)
    return function(func, input_signature, autograph, experimental_autograph_options)


def executing_eagerly() -> bool:
    """Whether operations run as they are made."""
    return PUBLIC["executing_eagerly"]()


def py_func(func: Callable[..., Any], inp: Any, Tout: Any, name: str | None = None) -> Any:
    """A Python function on tensors as an operation (see `tf.py_function`)."""
    return PUBLIC["py_function"](func, inp, Tout, name)


# ---- gradients


def _places(f: Callable[..., Any], params: Sequence[Any] | None, count: int) -> list[int]:
    """The arguments to differentiate for, by number. Raises ValueError: no such argument."""
    if params is None:
        return list(range(count))
    names = list(inspect.signature(f).parameters)
    places = []
    for param in params:
        if isinstance(param, str) and param not in names:
            raise ValueError(f"{param!r} is no argument of {f}: it has {', '.join(names)}")
        places.append(names.index(param) if isinstance(param, str) else int(param))
    return places


def value_and_gradients_function(
    f: Callable[..., Any], params: Sequence[Any] | None = None
) -> Callable[..., Any]:
    """A function that gives (f(*args), [the gradient for each of `params`]).

    params: arguments, by number or name; all where None. dy: what the derivatives are multiplied with, ones by default.
    Raises ValueError: no such argument, a result None.
    """

    def decorated(*args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        dy = kwargs.pop("dy", None)
        tensors = [nest.map_structure(convert.convert_to_tensor, a) for a in args]
        sources = [tensors[i] for i in _places(f, params, len(args))]
        with GradientTape() as tape:
            for tensor in nest.flatten(sources):
                tape.watch(tensor)
            result = f(*tensors, **kwargs)
        if result is None:
            raise ValueError(f"Cannot differentiate a function that returns None; {f} does.")
        return result, tape.gradient(result, sources, output_gradients=dy)

    return decorated


def gradients_function(
    f: Callable[..., Any], params: Sequence[Any] | None = None
) -> Callable[..., Any]:
    """A function that gives [the gradient of f for each of `params`] (see `value_and_gradients_function`)."""
    both = value_and_gradients_function(f, params)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def implicit_value_and_gradients(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives (f(*args), [(gradient, variable) for each trainable variable that f reads]).

    Raises ValueError: a result None, no variables.
    """

    def decorated(*args: Any, **kwargs: Any) -> tuple[Any, list[tuple[Any, Any]]]:
        with GradientTape() as tape:
            result = f(*args, **kwargs)
        if result is None:
            raise ValueError(f"Cannot differentiate a function that returns None; {f} does.")
        variables = default.get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES)
        grads = tape.gradient(result, variables)
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not pairs:
            raise ValueError(
                "No trainable variables were accessed while the function was being computed."
            )
        return result, pairs

    return decorated


def implicit_gradients(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives [(gradient, variable)] (see `implicit_value_and_gradients`)."""
    both = implicit_value_and_gradients(f)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]
