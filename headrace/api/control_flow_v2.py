"""The switch between TensorFlow's two kinds of control flow: here there is one, made of functions as its second kind."""

from __future__ import annotations

from headrace.api.export import export

_asked = False


@export("enable_control_flow_v2")
def enable_control_flow_v2() -> None:
    """Notes that a program wants control flow made of functions: that is what it gets in any case."""
    global _asked
    _asked = True


@export("disable_control_flow_v2")
def disable_control_flow_v2() -> None:
    """Notes that a program wants Switch and Merge nodes; it gets functions, which compute the same."""
    global _asked
    _asked = False


@export("control_flow_v2_enabled")
def control_flow_v2_enabled() -> bool:
    """What the program asked for last."""
    return _asked
