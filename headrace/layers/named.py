"""Activations and initializers given by name or as a configuration, as layers take and give them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from headrace.api import init_ops
from headrace.api.export import PUBLIC

_ACTIVATIONS = {
    "elu": "nn.elu",
    "exponential": "exp",
    "hard_sigmoid": "keras.activations.hard_sigmoid",
    "relu": "nn.relu",
    "selu": "nn.selu",
    "sigmoid": "sigmoid",
    "softmax": "nn.softmax",
    "softplus": "nn.softplus",
    "softsign": "nn.softsign",
    "tanh": "tanh",
}


def linear(x: Any) -> Any:
    """`x` itself."""
    return x


def activation_named(identifier: Any) -> Callable[..., Any]:
    """The function for the name of an activation; a function stands for itself, None for `linear`.

    Raises ValueError: no such name. TypeError: neither a name nor a function.
    """
    if identifier is None or identifier == "linear":
        return linear
    if isinstance(identifier, str):
        if identifier not in _ACTIVATIONS:
            raise ValueError(
                f"Unknown activation function:{identifier} (known: {', '.join(sorted(_ACTIVATIONS))})"
            )
        return PUBLIC[_ACTIVATIONS[identifier]]
    if callable(identifier):
        return identifier
    raise TypeError(f"Could not interpret activation function identifier: {identifier!r}")


def name_of_activation(function: Any) -> Any:
    """The inverse of `activation_named`, for configurations."""
    for name, public in _ACTIVATIONS.items():
        if PUBLIC[public] is function:
            return name
    return getattr(function, "__name__", function)


def initializer_named(identifier: Any) -> Any:
    """The initializer for a name ("zeros", "glorot_uniform"), a configuration or itself; None stays None.

    Raises ValueError: no such initializer.
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        cls = _initializer_class(identifier["class_name"])
        return cls.from_config(identifier.get("config", {}))
    if isinstance(identifier, str):
        made = _initializer_class(identifier)
        return made() if inspect.isclass(made) or identifier in _FACTORIES else made
    if callable(identifier):
        return identifier() if inspect.isclass(identifier) else identifier
    raise ValueError(f"Could not interpret initializer identifier: {identifier!r}")


_FACTORIES = {"lecun_normal", "lecun_uniform", "he_normal", "he_uniform"}


def _initializer_class(name: str) -> Any:
    camel = re.sub(r"(^|_)([a-z])", lambda m: m.group(2).upper(), name)
    for known in (name, camel, f"{camel}Initializer"):
        found = getattr(init_ops, known, None)
        if found is not None:
            return found
    snake = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()
    found = PUBLIC.get(f"{snake}_initializer") or PUBLIC.get(f"initializers.{snake}")
    if found is None:
        raise ValueError(f"Unknown initializer: {name}")
    return found


def config_of_initializer(initializer: Any) -> Any:
    """An initializer as {"class_name": ..., "config": ...}; a plain function by its name, None as None."""
    if initializer is None:
        return None
    if hasattr(initializer, "get_config"):
        return {
            "class_name": type(initializer).__name__,
            "config": initializer.get_config(),
        }
    return initializer.__name__
