"""The public names: `@export("add", "math.add")` files a function under the names that programs use for it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from headrace.graph import raw
from headrace.graph.op_def import lookup

T = TypeVar("T")

PUBLIC: dict[str, Any] = {}
"""Every public name ("nn.relu") with what it stands for."""


def export(*names: str) -> Callable[[T], T]:
    """Files the decorated object under public names, dotted, without the leading `tf.`."""

    def file(obj: T) -> T:
        for name in names:
            PUBLIC[name] = obj
        return obj

    return file


def export_value(value: Any, *names: str) -> Any:
    """As `export`, for values."""
    return export(*names)(value)


def export_op(op_type: str, arguments: str, *names: str, doc: str = "") -> Callable[..., Any]:
    """Makes and files the function that adds one node of `op_type` and does nothing else.

    arguments: the public arguments in order, `name=None` excluded: "x, axis=0, keep=False"; an argument that the op calls
    by another name is `public:own` ("labels:x"). doc: the sentence of its docstring.
    """
    specs = []
    # Commas inside of a list separate nothing.
    for part in re.split(r",(?![^\[]*\])", arguments) if arguments else ():
        left, _, default = part.strip().partition("=")
        public, _, own = left.partition(":")
        value = eval(default, {}) if default else inspect.Parameter.empty
        specs.append((public, own or public, value))
    owns = [(public, own) for public, own, _ in specs]
    parameters = [
        inspect.Parameter(public, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value)
        for public, _, value in specs
    ]
    parameters.append(
        inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    )
    signature = inspect.Signature(parameters)
    definition = lookup(op_type)
    plain = all(value is inspect.Parameter.empty for _, _, value in specs)
    count = len(specs)
    short = names[0].rpartition(".")[2] if names else op_type

    def add_node(*args: Any, **kwargs: Any) -> Any:
        if plain and len(args) == count and not kwargs:
            return raw.result_of(
                raw.build(definition, dict(zip((o for _, o in owns), args, strict=True)), None)
            )
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{short}() {error}") from None
        bound.apply_defaults()
        given = {own: bound.arguments[public] for public, own in owns}
        return raw.result_of(raw.build(definition, given, bound.arguments["name"]))

    add_node.__name__ = add_node.__qualname__ = short
    add_node.__doc__ = doc or f"Adds a `{op_type}` node: {definition.arguments}."
    add_node.__signature__ = signature  # type: ignore[attr-defined]
    return export(*names)(add_node)
