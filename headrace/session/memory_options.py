"""What a ConfigProto asks for to save memory: the values of the forward pass computed again for the gradients."""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import rewriter_config_pb2

from headrace.lowering.rematerialize import Rematerialize

_CONFIG = rewriter_config_pb2.RewriterConfig
_HEURISTICS = (_CONFIG.RECOMPUTATION_HEURISTICS, _CONFIG.HEURISTICS)
# The optimizer of `custom_optimizers` that has the budget as its parameter.
_NAME, _BUDGET = "rematerialize", "budget_bytes"


def rematerialization(config: Any) -> Rematerialize | None:
    """What `graph_options.rewrite_options` asks for; None: nothing.

    Raises ValueError: a parameter of the optimizer "rematerialize" that it does not have, or a negative budget.
    """
    if config is None:
        return None
    options = config.graph_options.rewrite_options
    scope = options.memory_optimizer_target_node_name_scope or "gradients/"
    for custom in options.custom_optimizers:
        if custom.name == _NAME:
            unknown = set(custom.parameter_map) - {_BUDGET}
            if unknown:
                raise ValueError(
                    f"custom optimizer {_NAME!r} has the parameter {_BUDGET!r}, got {', '.join(sorted(unknown))}"
                )
            given = custom.parameter_map[_BUDGET].i if custom.parameter_map else None
            if given is not None and given < 0:
                raise ValueError(f"{_BUDGET} must be at least 0, got {given}")
            return Rematerialize(scope, given)
    if options.memory_optimization in _HEURISTICS:
        return Rematerialize(scope)
    if options.memory_optimization == _CONFIG.MANUAL:
        return Rematerialize(scope, marked_only=True)
    return None
