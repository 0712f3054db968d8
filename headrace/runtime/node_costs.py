"""How long operations take and what sending costs: XLA's count of an operation's work, and rates measured on this machine."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.core import dtypes
from headrace.graph.constant_value import constant_value
from headrace.graph.func_graph import functions_of
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import checks
from headrace.lowering.evaluate import trace
from headrace.lowering.jax_adapter import x64
from headrace.lowering.state import StateView
from headrace.passes.segments import is_constant
from headrace.passes.state_order import StateOrder, flat_arguments, is_handle
from headrace.runtime.kernels import attrs_key

# A size that is not known before the run counts as this.
_UNKNOWN_SIZE = 64
# What a step over several devices spends on handing one tensor over, besides copying it: a thread wakes up, a program starts.
_HANDOVER_SECONDS = 150e-6
_OPERATION_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does in a second: operations on floats, bytes of its memory, bytes to another device."""

    flops: float
    bytes: float
    link_bytes: float


class NodeCosts:
    """Seconds of operations and transfers. measured: seconds by node name, which go before estimates."""

    def __init__(self, measured: Mapping[str, float] | None = None) -> None:
        self._measured = dict(measured or {})
        self._known: dict[Operation, float] = {}

    def seconds(self, op: Operation) -> float:
        """How long `op` takes."""
        found = self._known.get(op)
        if found is None:
            found = self._measured.get(op._name)
            found = self._known[op] = _estimate(op) if found is None else found
        return found

    def transfer(self, tensor: Tensor | None) -> float:
        """How long it takes until another device has `tensor`; None: word that an operation has run."""
        return _HANDOVER_SECONDS + (0 if tensor is None else bytes_of(tensor)) / rates().link_bytes


def measured_seconds(step_stats: Any) -> dict[str, float]:
    """Seconds by node name from a trace (`RunMetadata.step_stats`)."""
    found: dict[str, float] = {}
    for device in step_stats.dev_stats:
        for node in device.node_stats:
            micros = node.op_end_rel_micros - node.op_start_rel_micros
            found[node.node_name] = found.get(node.node_name, 0.0) + micros * 1e-6
    return found


@functools.cache
def rates() -> Rates:
    """The rates of JAX's default device, measured once in a process: takes some hundredths of a second."""
    side = np.full((384, 384), 0.5, np.float32)
    long = np.full(1 << 21, 0.5, np.float32)
    product = jax.jit(lambda a: a @ a)
    total = jax.jit(lambda a: a * 2.0)
    # In place: what it takes to get the memory of a result is not the rate of the memory.
    again = jax.jit(lambda a: a * 0.5 + 0.25, donate_argnums=0)
    kept = [jnp.array(long)]

    def pass_over() -> None:
        kept[0] = again(kept[0]).block_until_ready()

    link = _fastest(lambda: np.array(total(long))) - _fastest(
        lambda: total(long).block_until_ready()
    )
    return Rates(
        flops=2 * 384**3 / _fastest(lambda: product(side).block_until_ready()),
        bytes=2 * long.nbytes / _fastest(pass_over),
        link_bytes=long.nbytes / max(link, 1e-4),
    )


def _fastest(run: Any, times: int = 5) -> float:
    run()
    best = math.inf
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def bytes_of(tensor: Tensor) -> int:
    """The size of a tensor, as far as its static shape tells."""
    kind = tensor._dtype.base_dtype
    size = 8 if kind in (dtypes.string, dtypes.resource, dtypes.variant) else kind.size
    return size * math.prod(_sizes(tensor))


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    dims = tensor._dims
    if dims is None:
        return (_UNKNOWN_SIZE,)
    return tuple(_UNKNOWN_SIZE if d is None else d for d in dims)


def _estimate(op: Operation) -> float:
    definition = op._definition
    if definition.effects & (Effect.HANDLE | Effect.SOURCE) or is_constant(op):
        return 0.0
    if definition.static_rule is not None or not op._outputs:
        return _OPERATION_SECONDS
    if definition.function_attrs:  # a loop counts as one time through
        bodies = [sum(map(_estimate, f.graph._operations)) for _, f in functions_of(op)]
        return _OPERATION_SECONDS + sum(bodies)
    moved = sum(map(bytes_of, (*op._inputs, *op._outputs)))
    work = _count_work(op) or {}
    flops = work.get("flops", 0.0) + 8 * work.get("transcendentals", 0.0)
    seconds = max(
        flops / rates().flops, max(moved, work.get("bytes accessed", 0.0)) / rates().bytes
    )
    return _OPERATION_SECONDS + seconds


_counted: dict[Any, dict[str, float] | None] = {}


def _count_work(op: Operation) -> dict[str, float] | None:
    """XLA's count of what `op` computes and moves; None where it cannot be lowered by itself."""
    definition = op._definition
    if definition.lower_rule is None or definition.effects & Effect.RANDOM or definition.writes:
        return None
    if any(is_handle(t) for t in op._inputs):
        return None
    statics: dict[Tensor, Any] = {}
    needed = definition.static_inputs_of(op) if definition.static_inputs else ()
    for tensor, argument in zip(op._inputs, flat_arguments(op), strict=True):
        if argument.name in needed:
            statics[tensor] = constant_value(tensor)
            if statics[tensor] is None:
                return None
    key = (
        op.type,
        attrs_key(op),
        tuple((t._dtype, _sizes(t)) for t in op._inputs),
        tuple(v.tobytes() for v in map(np.asarray, statics.values())),
    )
    if key not in _counted:
        try:
            _counted[key] = _lowered_work(op, statics)
        except Exception:  # an estimate is not worth a failing session
            _counted[key] = None
    return _counted[key]


def _lowered_work(op: Operation, statics: dict[Tensor, Any]) -> dict[str, float] | None:
    traced = [t for t in dict.fromkeys(op._inputs) if t not in statics]

    def compute(*arguments: Any) -> list[Any]:
        values = {**statics, **dict(zip(traced, arguments, strict=True))}
        with checks.collecting(checks.Collector(conditional=True)):
            trace([op], values, StateOrder(), StateView(_no_state), set(), frozenset())
        return [jnp.asarray(values[t]) for t in op._outputs]

    with x64():
        shapes = [jax.ShapeDtypeStruct(_sizes(t), t._dtype.base_dtype.np_dtype) for t in traced]
        with native.without():
            return jax.jit(compute).lower(*shapes).cost_analysis()  # pyright: ignore[reportReturnType]


def _no_state(key: str) -> Any:
    raise KeyError(key)
