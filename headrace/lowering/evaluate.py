"""Runs the rules of operations one after the other: to trace an island with JAX values, or to interpret with real ones."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import jax
import numpy as np

from headrace.core import dtypes
from headrace.graph.op_def import MAY_FAIL, Effect
from headrace.graph.operation import Operation, group_by_argument
from headrace.graph.tensor import Tensor
from headrace.lowering import fused
from headrace.lowering.functions import Functions, Runner
from headrace.lowering.mixed_precision import narrow_arguments, narrowed, widened
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.state import Slot, StateView
from headrace.passes.fuse_convolutions import Chain
from headrace.passes.state_order import (
    StateOrder,
    flat_arguments,
    is_handle,
    random_key,
)

# Known values up to this many elements are computed while tracing instead of in the program.
_FOLD_ELEMENTS = 1024

Values = dict[Tensor, Any]


def arguments_of(
    op: Operation,
    values: MutableMapping[Tensor, Any],
    order: StateOrder,
    state: StateView,
    run: Runner | None = None,
) -> list[Any]:
    """What the rule of `op` gets: a value, a list of them for a variadic argument, a Slot for a variable.

    Before these come the Slot of the generator of a random operation, and the Functions of one that calls some (which
    `run` evaluates).
    """
    if op in order.later_reads:
        values = dict(values)
        for tensor, (key, version) in order.later_reads[op].items():
            values[tensor] = state.read(key, version)
    if op._definition.function_attrs:
        return _arguments_of_call(op, values, order, state, run or trace)
    flat: list[Any] = []
    if any(is_handle(t) for t in op._inputs):
        for tensor, argument in zip(op._inputs, flat_arguments(op), strict=True):
            flat.append(_handle_or_value(op, tensor, argument, values, order, state))
    else:
        flat = [values[t] for t in op._inputs]
    grouped = group_by_argument(op, flat)
    if op._definition.effects & Effect.RANDOM:
        key = random_key(op, order.path)
        return [Slot(state, key, order.read_version[op, key]), *grouped]
    return grouped


def _arguments_of_call(
    op: Operation,
    values: MutableMapping[Tensor, Any],
    order: StateOrder,
    state: StateView,
    run: Runner,
) -> list[Any]:
    flat = [
        values[t]
        if t in values and not isinstance(values[t], Slot)
        else None  # a variable that the functions know by name
        if is_handle(t) and order.key(t) is not None
        else values[t]
        for t in op._inputs
    ]
    return [Functions(op, order, state, run), *group_by_argument(op, flat)]


def _handle_or_value(
    op: Operation,
    tensor: Tensor,
    argument: Any,
    values: MutableMapping[Tensor, Any],
    order: StateOrder,
    state: StateView,
) -> Any:
    if tensor in values and not isinstance(values[tensor], Slot):
        return values[tensor]  # fed, or a resource of the host
    if not is_handle(tensor):
        return values[tensor]
    key = order.key(tensor)
    if key is None:
        return values[tensor]
    version = order.read_version.get((op, key), -1)
    slot = Slot(state, key, version)
    keeps = op._definition.keeps_functions  # functions that read, or write, the variable later
    if argument.is_ref or tensor._dtype is dtypes.resource or keeps:
        return slot
    return slot.read()


def store_outputs(op: Operation, results: Any, values: Values, fed: Iterable[Tensor] = ()) -> None:
    """Files the results of a rule under the output tensors; values that were fed stay."""
    outputs = op._outputs
    if not outputs:
        return
    if len(outputs) == 1 and results.__class__ is not tuple and results.__class__ is not list:
        if outputs[0] not in fed:
            values[outputs[0]] = results
        return
    if len(results) != len(outputs):
        raise AssertionError(f"{op.type}: {len(results)} results for {len(outputs)} outputs")
    for tensor, result in zip(outputs, results, strict=True):
        if tensor not in fed:
            values[tensor] = result


def can_fold(op: Operation, arguments: list[Any], must: bool) -> bool:
    """Whether `op` is computed while tracing: all inputs are known, and the result decides a shape or is small."""
    definition = op._definition
    if definition.host_rule is None or definition.effects & ~MAY_FAIL or definition.writes:
        return False
    if any(t._dtype is dtypes.variant for t in op._outputs):
        return False
    size = 0
    for argument in arguments:
        for value in argument if argument.__class__ is list else (argument,):
            if not isinstance(value, (np.ndarray, np.generic)):
                return False
            size += value.size
    if must:
        return True
    if size > _FOLD_ELEMENTS:
        return False
    # A small input can have a large output (Fill, Tile, Range).
    return all(_small(t) for t in op._outputs)


def _small(tensor: Tensor) -> bool:
    dims = tensor._dims
    if dims is None or None in dims:
        return tensor._dtype.is_integer and (dims is None or len(dims) <= 1)
    return math.prod(dims) <= _FOLD_ELEMENTS  # type: ignore[arg-type]


def call_host(op: Any, arguments: list[Any]) -> Any:
    """Calls the NumPy rule of `op`, silent about overflow and division by zero as TensorFlow's kernels are."""
    with np.errstate(all="ignore"):
        try:
            return op._definition.host_rule(op, *arguments)
        except REFUSED as error:
            if op._definition.host_only:  # what a user's function raises is its own
                raise
            raise op.invalid(str(error)) from error


def call_native(op: Any, arguments: list[Any]) -> Any:
    """The outputs by kernels of the host; None where there is none for these arguments."""
    with np.errstate(all="ignore"):
        try:
            return op._definition.native_rule(op, *arguments)
        except REFUSED as error:
            raise op.invalid(str(error)) from error


# What NumPy and JAX raise for values whose shapes or types do not fit: the op's InvalidArgumentError.
REFUSED = (ValueError, TypeError, IndexError)


def trace(
    ops: Sequence[Operation],
    values: Values,
    order: StateOrder,
    state: StateView,
    must_fold: set[Operation],
    fed: frozenset[Tensor],
) -> None:
    """Applies the JAX rules of `ops` to `values` (tracers, and NumPy arrays where a value is static)."""
    together = fused.fusions()
    for op in ops:
        if op in together.inside:
            continue  # with the last one of its chain, or its sum
        if op in together.chains or op in together.sums:
            if op in together.chains:
                chain = together.chains[op]
                rest = chain.ops[_trace_chain(chain, values, order, state) :]
            else:
                rest = _trace_sum(op, together.sums[op], values, order, state)
            with fused.fusing(fused.NOTHING):
                trace(rest, values, order, state, must_fold, fed)
            continue
        if op._definition.effects & Effect.HANDLE and not op._definition.host_only:
            continue
        if fed and op._outputs and all(t in fed for t in op._outputs):
            continue
        arguments = arguments_of(op, values, order, state, trace)
        if can_fold(op, arguments, op in must_fold):
            results = call_host(op, arguments)
            if results.__class__ is tuple or results.__class__ is list:
                results = [np.asarray(r) for r in results]
            else:
                results = np.asarray(results)
        else:
            results = lowered(op, arguments)
        store_outputs(op, results, values, fed)


def _trace_chain(chain: Chain, values: Values, order: StateOrder, state: StateView) -> int:
    """Traces the first operations of a chain as one call; returns how many that are, 0 where it cannot be."""

    def arguments(op: Operation, place: int, value: Any) -> list[Any]:
        given = values if place < 0 else ChainMap({op._inputs[place]: value}, values)
        return arguments_of(op, given, order, state, trace)

    try:
        found = fused.traced(chain, arguments)
    except REFUSED:  # met again, and told of, where the operation is traced by itself
        return 0
    if found is None:
        return 0
    count, result = found
    values[chain.ops[count - 1]._outputs[0]] = result
    return count


def _trace_sum(
    op: Operation,
    products: Sequence[Operation],
    values: Values,
    order: StateOrder,
    state: StateView,
) -> Sequence[Operation]:
    """Traces an addition of products as one product; returns what is still to be traced: all of it where that cannot be."""
    inside = {product._outputs[0] for product in products}
    others = [values[t] for t in op._inputs if t not in inside]
    found = fused.joined(op, products, lambda p: arguments_of(p, values, order, state), others)
    if found is None:
        return (*products, op)
    values[op._outputs[0]] = found
    return ()


def lowered(op: Operation, arguments: list[Any]) -> Any:
    """The results of the JAX rule of `op`."""
    _check_static(op, arguments)
    try:
        # XLA keeps the name with what comes of the operation; profiles are read by it.
        with jax.named_scope(fused.scope_of(op)):
            change = narrowed(op)
            if change is not None:
                narrow = narrow_arguments(op, change, arguments)
                return widened(op, change, op._definition.lower_rule(op, *narrow))  # type: ignore[misc]
            return op._definition.lower_rule(op, *arguments)  # type: ignore[misc]
    except REFUSED as error:
        raise op.invalid(str(error)) from error


def _check_static(op: Operation, arguments: list[Any]) -> None:
    """Raises NotCompilable: an argument whose value decides a shape is only known when the program runs."""
    definition = op._definition
    if not definition.static_inputs:
        return
    specs = definition.signature.inputs
    for spec, value in zip(specs, arguments[len(arguments) - len(specs) :], strict=True):
        if spec.name in definition.static_inputs:
            for part in value if value.__class__ is list else (value,):
                if not isinstance(part, (np.ndarray, np.generic)):
                    raise NotCompilable(
                        op, f"'{spec.name}' decides a shape and is only known when the program runs"
                    )
