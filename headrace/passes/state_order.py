"""Which version of a variable each operation of a run sees.

The writes of a variable happen one after the other, in the order of the run. A read sees the last write among the
operations that it comes after by edges, and the value from before the run where there is none: what no edge orders
behaves as if the read came first. An operation that calls functions reads and writes what their bodies do.

The `read` node of a reference variable stands for the variable itself, wherever the program uses it: what control edges
order after a write sees through it what was written. TensorFlow's kernels share the variable's buffer with
that node, and
programs count on it (`with tf.control_dependencies([step]): average = ema.apply([v])`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.core import dtypes
from headrace.graph.func_graph import GraphFunction, call_inputs, functions_of
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.prune import prune

INITIAL = -1
"""The version from before the run."""

Binding = Mapping[Tensor, str]
"""Inputs of a body that are handles, and the variables that they are bound to."""


def is_handle(tensor: Tensor) -> bool:
    """Whether `tensor` refers to a variable or another resource instead of holding a value."""
    return tensor._dtype.is_ref_dtype or tensor._dtype is dtypes.resource


def names_variable(op: Operation) -> bool:
    """Whether `op` only names a variable: it has nothing to compute."""
    definition = op._definition
    return bool(definition.effects & Effect.HANDLE) and not definition.host_only


def state_key(tensor: Tensor, binding: Binding | None = None) -> str | None:
    """The name in the resource store of the variable behind a reference or resource handle; None where it is none."""
    while True:
        if binding and tensor in binding:
            return binding[tensor]
        op = tensor._op
        definition = op._definition
        if definition.effects & Effect.HANDLE:
            if definition.host_only:
                return None
            name = op._attrs.get("shared_name") or op._name
            container = op._attrs.get("container")
            return f"{container}|{name}" if container else name
        source = next((t for t in op._inputs if is_handle(t)), None)
        if source is None:
            return None
        tensor = source


def random_key(op: Operation, path: str = "") -> str:
    """The name in the resource store of the generator of a random operation; `path`: the calls that lead to it."""
    return f"random:{path}{op._name}"


@dataclass(slots=True)
class StateOrder:
    """What each operation reads and writes, and the versions: version i of a key is what its i-th write leaves."""

    binding: Binding = field(default_factory=dict)
    path: str = ""
    read_version: dict[tuple[Operation, str], int] = field(default_factory=dict)
    writers: dict[str, list[Operation]] = field(default_factory=dict)
    # key -> the first operation that needs it
    initial_reads: dict[str, Operation] = field(default_factory=dict)
    fetch_version: dict[Tensor, int] = field(default_factory=dict)
    # key -> the random operation, in bodies too
    generators: dict[str, Operation] = field(default_factory=dict)
    # operation -> the keys that its functions use
    calls: dict[Operation, list[str]] = field(default_factory=dict)
    # operation -> {its input from a `read` node: (key, the later version that it sees)}
    later_reads: dict[Operation, dict[Tensor, tuple[str, int]]] = field(default_factory=dict)

    def reads(self) -> Iterator[tuple[Operation, str, int]]:
        """Every (operation, key, version) that is used."""
        for (op, key), version in self.read_version.items():
            yield op, key, version
        for op, tensors in self.later_reads.items():
            for key, version in tensors.values():
                yield op, key, version

    def key(self, tensor: Tensor) -> str | None:
        """The variable behind a handle."""
        return state_key(tensor, self.binding)


@dataclass(slots=True)
class BodyPlan:
    """How the body of a function runs where its handles are bound to certain variables."""

    function: GraphFunction
    ops: list[Operation]
    order: StateOrder
    fed: frozenset[Tensor]
    reads: list[str]
    writes: list[str]
    must_fold: set[Operation] | None = None  # see passes.segments.shape_deciders
    products: Any = None  # see lowering.loop_products
    deferral: Any = None  # see lowering.deferred_sums
    host_loops: Any = None  # see lowering.host_loops


def plan_body(op: Operation, function: GraphFunction, binding: Binding, path: str) -> BodyPlan:
    """The plan of a function's body as `op` calls it."""
    graph = function.graph
    bound: dict[Tensor, str] = {}
    for inner, outer in zip(graph.inputs, call_inputs(op), strict=False):
        if is_handle(outer):
            key = state_key(outer, binding)
            if key is not None:
                bound[inner] = key
    path = f"{path}{op._name}/"
    cache_key = (
        tuple((graph.inputs.index(t), k) for t, k in bound.items()),
        path,
        graph.version,
        graph._mutations,
    )
    plan = function.plans.get(cache_key)
    if plan is None:
        fed = frozenset(graph.inputs)
        roots = [t._op for t in graph.outputs if t not in fed]
        ops = prune([*roots, *graph.control_outputs], fed)
        order = order_state(ops, [t for t in graph.outputs if t not in fed], fed, bound, path)
        reads = list(order.initial_reads)
        plan = function.plans[cache_key] = BodyPlan(
            function, ops, order, fed, reads, list(order.writers)
        )
    return plan


def order_state(
    ops: Sequence[Operation],
    fetches: Sequence[Tensor],
    fed: frozenset[Tensor],
    binding: Binding | None = None,
    path: str = "",
) -> StateOrder:
    """Works out the versions for a run of `ops` (in this order) with `fetches`."""
    result = StateOrder(binding or {}, path)
    uses: list[tuple[Operation, list[tuple[str, bool, bool]]]] = []
    bit: dict[Operation, int] = {}
    for op in ops:
        found = _uses_of(op, fed, result)
        if not found:
            continue
        uses.append((op, found))
        for key, _, writes in found:
            if writes:
                result.writers.setdefault(key, []).append(op)
                bit.setdefault(op, len(bit))
    masks = _ancestor_masks(ops, bit, fed) if bit else {}
    seen_writes: dict[str, int] = {}
    for op, found in uses:
        for key, reads, writes in found:
            if writes:
                version = seen_writes.get(key, 0) - 1
                seen_writes[key] = seen_writes.get(key, 0) + 1
            else:
                version = _version_for(result.writers.get(key, ()), masks.get(op, 0), bit)
            result.read_version[op, key] = version
            if reads and version == INITIAL:
                result.initial_reads.setdefault(key, op)
    if result.writers:
        _find_later_reads(ops, uses, masks, bit, fed, result)
    for tensor in fetches:
        if tensor in fed or not tensor._dtype.is_ref_dtype:
            continue
        key = result.key(tensor)
        if key is not None:
            op = tensor._op
            own = 1 << bit[op] if op in bit else 0
            version = _version_for(result.writers.get(key, ()), masks.get(op, 0) | own, bit)
            result.fetch_version[tensor] = version
            if version == INITIAL:
                result.initial_reads.setdefault(key, op)
    return result


def _find_later_reads(
    ops: Sequence[Operation],
    uses: Sequence[tuple[Operation, list[tuple[str, bool, bool]]]],
    masks: dict[Operation, int],
    bit: dict[Operation, int],
    fed: frozenset[Tensor],
    order: StateOrder,
) -> None:
    """Finds the uses of `read` nodes that come, by a path with a control edge, after a write of the variable."""
    snapshots: dict[Tensor, str] = {}
    for op, found in uses:
        key = found[0][0]
        if (
            len(op._inputs) == 1
            and key in order.writers
            and op._name == f"{op._inputs[0]._op._name}/read"
        ):
            snapshots.update((t, key) for t in op._outputs if not is_handle(t) and t not in fed)
    if not snapshots:
        return
    controlled: dict[Operation, int] = {}
    for op in ops:
        mask = 0
        for tensor in op._inputs:
            if tensor not in fed:
                mask |= controlled.get(tensor._op, 0)
        for before in op._control_inputs:
            mask |= masks.get(before, 0) | (1 << bit[before] if before in bit else 0)
        if not mask:
            continue
        controlled[op] = mask
        for tensor in op._inputs:
            key = snapshots.get(tensor)
            if key is not None:
                version = _version_for(order.writers[key], mask, bit)
                if version != order.read_version[tensor._op, key]:
                    order.later_reads.setdefault(op, {})[tensor] = (key, version)


def _uses_of(
    op: Operation, fed: frozenset[Tensor], order: StateOrder
) -> list[tuple[str, bool, bool]]:
    """(key, reads, writes) for each variable that `op` uses."""
    definition = op._definition
    found: dict[str, tuple[bool, bool]] = {}
    if definition.effects & Effect.RANDOM:
        key = random_key(op, order.path)
        order.generators[key] = op
        found[key] = (True, True)
    if definition.function_attrs:
        _add_calls(op, order, found)
    elif any(is_handle(t) for t in op._inputs):
        for tensor, argument in zip(op._inputs, flat_arguments(op), strict=True):
            if not is_handle(tensor) or (tensor in fed and tensor not in order.binding):
                continue
            key = order.key(tensor)
            if key is None:
                continue
            takes_handle = argument.is_ref or tensor._dtype is dtypes.resource
            takes_handle |= definition.keeps_functions
            writes = takes_handle and argument.name in definition.writes
            # Passing a handle on (Identity of a resource) reads nothing.
            passes_on = takes_handle and not writes
            passes_on &= definition.keeps_functions or any(is_handle(t) for t in op._outputs)
            reads = not passes_on and not (writes and argument.name in definition.overwrites)
            old = found.get(key, (False, False))
            found[key] = (old[0] or reads, old[1] or writes)
    return [(key, reads, writes) for key, (reads, writes) in found.items()]


def _add_calls(op: Operation, order: StateOrder, found: dict[str, tuple[bool, bool]]) -> None:
    """What the functions that `op` calls read and write; a reference that is only handed to them is not read."""
    for _, function in functions_of(op):
        plan = plan_body(op, function, order.binding, order.path)
        order.generators.update(plan.order.generators)
        for key in (*plan.reads, *plan.writes):
            # A write that may not happen (a branch not taken) leaves the old value: that is a read as well.
            old = found.get(key, (False, False))
            found[key] = (True, old[1] or key in plan.writes)
    order.calls[op] = list(found)


def flat_arguments(op: Operation) -> list:
    """The argument of the signature that each flat input of `op` belongs to."""
    flat = []
    for argument in op._definition.signature.inputs:
        flat += [argument] * argument.count(op._attrs)
    return flat


def _ancestor_masks(
    ops: Sequence[Operation], bit: dict[Operation, int], fed: frozenset[Tensor]
) -> dict[Operation, int]:
    """For each operation the set (as bits) of the writers that it comes after."""
    masks: dict[Operation, int] = {}
    for op in ops:
        mask = 0
        for source in (*(t._op for t in op._inputs if t not in fed), *op._control_inputs):
            mask |= masks.get(source, 0)
            if source in bit:
                mask |= 1 << bit[source]
        if mask:
            masks[op] = mask
    return masks


def _version_for(writers: Sequence[Operation], mask: int, bit: dict[Operation, int]) -> int:
    for i in range(len(writers) - 1, -1, -1):
        if mask >> bit[writers[i]] & 1:
            return i
    return INITIAL
