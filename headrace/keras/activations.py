"""`tf.keras.activations`: functions by name."""

from __future__ import annotations

from typing import Any

from headrace.api import array_ops
from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC, export, export_value
from headrace.api.mask_ops import where
from headrace.layers.named import activation_named, linear, name_of_activation


@export("keras.activations.hard_sigmoid")
def hard_sigmoid(x: Any) -> Any:
    """The straight line 0.2 x + 0.5, kept within [0, 1]."""
    return clip_by_value(0.2 * x + 0.5, 0.0, 1.0)


@export("keras.activations.get")
def get(identifier: Any) -> Any:
    """The function for a name, a configuration or itself; `linear` for None. Raises ValueError, TypeError: unknown."""
    if isinstance(identifier, dict):
        identifier = identifier["class_name"]
    return activation_named(identifier)


@export("keras.activations.deserialize")
def deserialize(name: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """The function of this name. custom_objects: further names."""
    return (custom_objects or {}).get(name) or activation_named(name)


@export("keras.activations.serialize")
def serialize(activation: Any) -> Any:
    """The name of a function, for configurations."""
    return name_of_activation(activation)


@export("keras.activations.elu")
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where it is positive, else alpha (exp(x) - 1)."""
    result = PUBLIC["nn.elu"](x)
    return result if alpha == 1 else where(x > 0, result, alpha * result)


@export("keras.activations.relu")
def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0) -> Any:
    """x from `threshold` on, at most `max_value`; below, alpha (x - threshold)."""
    if not alpha and not threshold:
        result = PUBLIC["nn.relu"](x)
    else:
        above = where(x >= threshold, x, array_ops.zeros_like(x))
        below = where(x < threshold, x - threshold, array_ops.zeros_like(x))
        result = above + alpha * below
    if max_value is None:
        return result
    return where(x >= threshold, clip_by_value(result, 0.0, max_value), result)


@export("keras.activations.selu")
def selu(x: Any) -> Any:
    """The scaled exponential linear unit."""
    return PUBLIC["nn.selu"](x)


@export("keras.activations.softmax")
def softmax(x: Any, axis: int = -1) -> Any:
    """The softmax along `axis`. Raises ValueError: a vector."""
    if x.shape.rank == 1:
        raise ValueError("Cannot apply softmax to a tensor that is 1D")
    return PUBLIC["nn.softmax"](x, axis=axis)


@export("keras.activations.softplus")
def softplus(x: Any) -> Any:
    """log(exp(x) + 1)."""
    return PUBLIC["nn.softplus"](x)


@export("keras.activations.softsign")
def softsign(x: Any) -> Any:
    """x / (|x| + 1)."""
    return PUBLIC["nn.softsign"](x)


export_value(linear, "keras.activations.linear")
for _name in ("exponential", "sigmoid", "tanh"):
    _public = "exp" if _name == "exponential" else _name
    export_value(PUBLIC[_public], f"keras.activations.{_name}")
