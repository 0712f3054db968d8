"""`tf.raw_ops`: one function for each op type, with the op's own arguments, given by name."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.api.export import export_value
from headrace.graph import raw
from headrace.graph.op_def import REGISTRY, AttrSpec, OpDef
from headrace.ops import graph_test_ops

_AXES = {"reduction_indices": "axis"}
# Where an argument has another name than in the op itself. {op: {own: public}}
_RENAMED = {
    **dict.fromkeys(("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum"), _AXES),
    "ExpandDims": {"dim": "axis"},
    "Select": {"t": "x", "e": "y"},
    "Split": {"split_dim": "axis"},
    "SplitV": {"split_dim": "axis"},
    "Squeeze": {"squeeze_dims": "axis"},
    "Where": {"input": "condition"},
}


class _RawOps(types.ModuleType):
    """The module: makes a function when it is first asked for."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        definition = REGISTRY.get(name)
        if definition is None or name.startswith("_") or name in graph_test_ops.NAMES:
            raise AttributeError(f"module 'tf.raw_ops' has no op type {name!r}")
        function = self.__dict__[name] = _function(definition)
        return function

    def __dir__(self) -> list[str]:
        return sorted(set(REGISTRY).difference(graph_test_ops.NAMES))


def _function(definition: OpDef) -> Callable[..., Any]:
    signature = definition.signature
    renamed = _RENAMED.get(definition.name, {})
    own = {public: name for name, public in renamed.items()}
    parameters = [
        _parameter(renamed.get(name, name), signature.attrs.get(name))
        for name in signature.parameters
    ]
    parameters.append(
        inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    )
    names = ", ".join(p.name for p in parameters)

    def add_node(*args: Any, **kwargs: Any) -> Any:
        if args:
            raise TypeError(
                f"{definition.name} only takes keyword args (possible keys: {names}). Please pass these args as kwargs "
                "instead."
            )
        return getattr(raw, definition.name)(**{own.get(k, k): v for k, v in kwargs.items()})

    add_node.__name__ = add_node.__qualname__ = definition.name
    add_node.__doc__ = f"Adds a `{definition.name}` node: {definition.arguments}."
    add_node.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return add_node


def _parameter(name: str, spec: AttrSpec | None) -> inspect.Parameter:
    default: Any = inspect.Parameter.empty
    if spec is not None and spec.has_default:
        default = list(spec.default) if isinstance(spec.default, (list, tuple)) else spec.default
        if isinstance(default, float):
            default = float(str(np.float32(default)))  # 0.2, which a float holds as 0.200000003
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


_module = _RawOps("headrace.raw_ops", __doc__)
sys.modules["headrace.raw_ops"] = _module
export_value(_module, "raw_ops")
