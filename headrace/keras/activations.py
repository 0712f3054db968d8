"""`tf.keras.activations`: functions by name."""

from __future__ import annotations

from typing import Any

from headrace.api.clip_ops import clip_by_value
from headrace.api.export import PUBLIC, export, export_value
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


export("keras.activations.serialize")(name_of_activation)
export_value(linear, "keras.activations.linear")
for _name, _public in (
    ("elu", "nn.elu"),
    ("exponential", "exp"),
    ("relu", "nn.relu"),
    ("selu", "nn.selu"),
    ("sigmoid", "sigmoid"),
    ("softmax", "nn.softmax"),
    ("softplus", "nn.softplus"),
    ("softsign", "nn.softsign"),
    ("tanh", "tanh"),
):
    export_value(PUBLIC[_public], f"keras.activations.{_name}")
