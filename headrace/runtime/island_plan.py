"""What goes into and comes out of the program of one segment of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.island import Island
from headrace.lowering.rematerialize import Rematerialize
from headrace.lowering.spmd import SpmdIsland
from headrace.lowering.state import Version
from headrace.passes.device_split import DeviceSplit
from headrace.passes.mixed_precision import Narrow
from headrace.passes.segments import Segment, Split
from headrace.passes.state_order import (
    INITIAL,
    StateOrder,
    flat_arguments,
    is_handle,
    names_variable,
)


def island_of(
    segment: Segment,
    label: str,
    ops: Sequence[Operation],
    split: Split,
    order: StateOrder,
    fetches: Sequence[Tensor],
    fed: frozenset[Tensor],
    donate: bool,
    rematerialize: Rematerialize | None,
    narrow: Narrow,
    bundle: bool = False,
) -> Island:
    """The island for a segment of the step that runs `ops`.

    donate: it may write over what it reads. bundle: small arrays may pass in bundles.
    """
    inside = set(segment.ops)
    used = {t for op in segment.ops for t in op._inputs}
    free = [op for op in split.free if any(t in used for t in op._outputs)]
    inputs = [
        t
        for t in dict.fromkeys(t for op in segment.ops for t in op._inputs)
        if t in fed or (t._op not in inside and t._op not in split.free and not is_handle(t))
    ]
    wanted = {t for op in ops if op not in inside for t in op._inputs}
    wanted.update(fetches)
    outputs = [
        t
        for op in segment.ops
        for t in op._outputs
        if t not in fed
        and t._dtype is not dtypes.resource
        and t in wanted
        and not (t._dtype.is_ref_dtype and t not in fetches)
    ]
    # A variable that is fetched as it was, and that this island writes: afterwards the old value is gone.
    outputs += [
        t
        for t in order.fetch_version
        if names_variable(t._op)
        and any(op in inside for op in order.writers.get(order.key(t) or "", ()))
    ]
    reads, writes = _state(inside, order, outputs)
    return Island(
        segment.ops,
        [t for t in inputs if t not in segment.static_inputs],
        [t for t in inputs if t in segment.static_inputs],
        outputs,
        reads,
        writes,
        order,
        split.must_fold,
        free,
        fed,
        donate=donate,
        label=label,
        rematerialize=rematerialize,
        narrow=narrow,
        bundle=bundle,
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """A value that others want of a program of all replicas: the tensor, the output that holds it, and of which replica."""

    tensor: Tensor
    output: int
    replica: int


def spmd_island_of(
    number: int,
    label: str,
    ops: Sequence[Operation],
    split: DeviceSplit,
    order: StateOrder,
    fetches: Sequence[Tensor],
    fed: frozenset[Tensor],
    devices: Sequence[Any],
) -> tuple[SpmdIsland, list[Delivery]]:
    """The program of segment `number`, over JAX's `devices` by replica, and what others want of it."""
    segment, nodes = split.segments[number], split.together[number]
    inside = set(segment.ops)
    wanted = {t for op in ops if op not in inside for t in op._inputs}
    wanted.update(fetches)
    outputs: dict[Tensor, int] = {}
    deliveries: list[Delivery] = []
    for node in nodes:
        for replica, op in enumerate(node.ops):
            for tensor in op._outputs:
                if tensor in wanted:
                    output = outputs.setdefault(
                        node.leader._outputs[tensor.value_index], len(outputs)
                    )
                    where = node.home if node.is_single else replica
                    deliveries.append(Delivery(tensor, output, where))
    first = {key: name for name, keys in split.keys.items() for key in keys}
    reads, writes = _state(inside, order, ())
    island = SpmdIsland(
        nodes,
        devices,
        segment.static_inputs,
        tuple(outputs),
        tuple(dict.fromkeys((first.get(key, key), version) for key, version in reads)),
        tuple(dict.fromkeys((first[key], version) for key, version in writes)),
        order,
        split.keys,
        split.must_fold,
        split.free,
        fed,
        label,
    )
    return island, deliveries


def _state(
    inside: set[Operation], order: StateOrder, outputs: Sequence[Tensor]
) -> tuple[list[Version], list[Version]]:
    """(key, version) of what the island reads from before it, and of what it writes and others need."""
    reads: dict[tuple[str, int], None] = {}
    writes: dict[tuple[str, int], None] = {}
    for key, writers in order.writers.items():
        mine = [i for i, op in enumerate(writers) if op in inside]
        if mine:
            # The newest version, and older ones that somebody outside reads.
            outside = {v for op, k, v in order.reads() if k == key and op not in inside}
            writes.update(((key, i), None) for i in mine if i == mine[-1] or i in outside)
    for op, key, version in order.reads():
        if op in inside and (version == INITIAL or order.writers[key][version] not in inside):
            overwrites = version == INITIAL and key not in order.initial_reads
            if not overwrites and not _only_overwrites(op, key, order):
                reads[key, version] = None
    for tensor, version in order.fetch_version.items():
        key = order.key(tensor) or ""
        if tensor in outputs and (version == INITIAL or order.writers[key][version] not in inside):
            reads[key, version] = None
    return list(reads), list(writes)


def _only_overwrites(op: Operation, key: str, order: StateOrder) -> bool:
    """Whether `op` writes the variable without looking at its old value."""
    overwrites = op._definition.overwrites
    if not overwrites:
        return False
    uses = [
        a.name
        for t, a in zip(op._inputs, flat_arguments(op))
        if is_handle(t) and order.key(t) == key
    ]
    return bool(uses) and all(name in overwrites for name in uses)


def host_reads(split: Split, order: StateOrder) -> list[str]:
    """The variables that host operations read as they were before the run (a checkpoint reads all of them)."""
    on_host = {op for segment in split.segments if not segment.is_island for op in segment.ops}
    reads = order.initial_reads
    found = (
        k
        for (op, k), v in order.read_version.items()
        if v == INITIAL and op in on_host and k in reads
    )
    return list(dict.fromkeys(found))
