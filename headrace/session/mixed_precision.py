"""What a ConfigProto, or the program as a whole, asks for to compute in 16 bits where that is fast and safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorboard.compat.proto import rewriter_config_pb2

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.passes.mixed_precision import Narrow, Narrowed, choose
from headrace.runtime.devices import Device
from headrace.runtime.step import Step

_CONFIG = rewriter_config_pb2.RewriterConfig
# Fields of RewriterConfig: the kind of device that they are about, and the type.
_OPTIONS = {
    "auto_mixed_precision": ("GPU", dtypes.float16),
    "auto_mixed_precision_mkl": ("CPU", dtypes.bfloat16),
    "auto_mixed_precision_onednn_bfloat16": ("CPU", dtypes.bfloat16),
    "auto_mixed_precision_cpu": ("CPU", dtypes.float16),
}


class Program:
    """What holds for the sessions of the process: whether new ones use mixed precision on GPUs, and whether some do not."""

    enabled = False
    has_plain_sessions = False


class MixedPrecision:
    """What one session does in 16 bits."""

    def __init__(self, config: Any) -> None:
        self._types: dict[str, dtypes.DType] = {}
        options = None if config is None else config.graph_options.rewrite_options
        for field, (device_type, dtype) in _OPTIONS.items():
            value = getattr(options, field, _CONFIG.DEFAULT)
            by_default = field == "auto_mixed_precision" and Program.enabled
            if value in (_CONFIG.ON, _CONFIG.AGGRESSIVE) or (
                by_default and value == _CONFIG.DEFAULT
            ):
                self._types[device_type] = dtype
        if not self._types:
            Program.has_plain_sessions = True

    def narrow(self, step: Step, device_of: Callable[[Operation], Device]) -> Narrow:
        """What the programs of `step` compute in 16 bits."""
        found: dict[Operation, Narrowed] = {}
        for device_type, dtype in self._types.items():
            there = {op for op in step.ops if device_of(op).device_type == device_type}
            found |= choose(step.ops, [t._op for t in step.fetches], there, dtype)
        return found
