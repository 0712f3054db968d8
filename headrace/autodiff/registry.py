"""Gradients by name: those that programs register, and the three answers to "what is the gradient of this op"."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from headrace.core import site
from headrace.graph.op_def import NOT_DIFFERENTIABLE, REGISTRY
from headrace.graph.operation import Operation

Rule = Callable[..., Any]

# name -> (rule, None where declared not differentiable; where it was registered)
_registered: dict[str, tuple[Rule | None, site.Site]] = {}
# Rules that live as long as the operations that hold them.
_held: weakref.WeakValueDictionary[str, Rule] = weakref.WeakValueDictionary()


class RegisterGradient:
    """Decorator that files a function `f(op, *grads)` as the gradient of an op type, or of a name for overrides.

    f returns one gradient (Tensor, IndexedSlices or None) for each input of op. A name that is no op type serves
    `Graph.gradient_override_map`. Raises TypeError: not a string. KeyError: the name has a gradient already.
    """

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError(f"op_type must be a string, got {op_type!r}")
        self._op_type = op_type

    def __call__(self, f: Rule) -> Rule:
        _register(self._op_type, f)
        return f


def no_gradient(op_type: str) -> None:
    """Declares that ops of this type have no gradient: `tf.gradients` gives None through them, without an error.

    Raises TypeError: not a string. KeyError: the type has a gradient already.
    """
    if not isinstance(op_type, str):
        raise TypeError(f"op_type must be a string, got {op_type!r}")
    _register(op_type, None)


def _register(name: str, rule: Rule | None) -> None:
    definition = REGISTRY.get(name)
    if definition is not None and definition.gradient_rule is not None:
        raise KeyError(
            f"Registering two gradient with name '{name}'! (The op type has a gradient of its own.)"
        )
    if name in _registered:
        where = _registered[name][1]
        raise KeyError(
            f"Registering two gradient with name '{name}'! (Previous registration was in {where.function} "
            f"{where.filename}:{where.lineno})"
        )
    _registered[name] = (rule, site.capture())


def register_while_used(name: str, rule: Rule) -> None:
    """Files `rule` under a new name until nothing else holds it: copies of a graph in this process find it too."""
    _held[name] = rule


def gradient_rule_of(op: Operation) -> Rule | None:
    """The rule for the gradient of `op`; None where it is declared not differentiable or has no inputs.

    In this order: the function that `Graph._override_gradient_function` gave the op, the rule of the name in its attr
    `_gradient_op_type`, the rule of its type. Raises LookupError: there is none.
    """
    if not op._inputs:
        return None
    if op._gradient_function is not None:
        return op._gradient_function
    name = op._attrs.get("_gradient_op_type", op.type)
    found = _registered.get(name)
    if found is not None:
        return found[0]
    held = _held.get(name)
    if held is not None:
        return held
    definition = op._definition if name == op.type else REGISTRY.get(name)
    rule = definition.gradient_rule if definition is not None else None
    if rule is None:
        raise LookupError(f"gradient registry has no entry for: {name}")
    return None if rule is NOT_DIFFERENTIABLE else rule  # type: ignore[return-value]
