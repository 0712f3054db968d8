"""The graph of a run as one graph for each device: an edge that crosses becomes a pair of `_Send` and `_Recv`.

There is one pair for a tensor and a device that wants it, however many consumers it has there. Control edges cross as well:
the pair of an empty tensor that is sent when the operation has run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph.attr_value import TensorValue
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.fold import to_nodes


@dataclass(frozen=True, slots=True)
class Crossing:
    """What one device sends to another: a tensor, or word that an operation has run.

    name: of the edge. key: what sender and receiver meet under, in TensorFlow's form
    `send device;incarnation;receive device;name;frame:iteration`.
    """

    what: Tensor | Operation
    source: str
    target: str
    name: str
    key: str

    @property
    def op(self) -> Operation:
        """The operation at the sending end."""
        return self.what._op if isinstance(self.what, Tensor) else self.what


def rendezvous_key(source: str, incarnation: int, target: str, name: str) -> str:
    """The key under which `name` is sent from `source` to `target`, outside of loops."""
    return f"{source};{incarnation:016x};{target};{name};0:0"


def crossings(
    ops: Iterable[Operation],
    device_of: Callable[[Operation], str],
    fed: frozenset[Tensor],
    incarnations: Mapping[str, int],
    home: str,
    inside: Collection[Operation],
) -> dict[tuple[Tensor | Operation, str], Crossing]:
    """Every (tensor or operation, target device) that `ops` need from another device.

    home: the device where fed tensors are. inside: the operations of the run.
    """
    found: dict[tuple[Tensor | Operation, str], Crossing] = {}
    for op in ops:
        target = device_of(op)
        wanted: list[tuple[Tensor | Operation, Operation, str]] = [
            (t, t._op, device_of(t._op) if t not in fed else home)
            for t in op._inputs
            if t in fed or t._op in inside
        ]
        wanted += [(c, c, device_of(c)) for c in op._control_inputs if c in inside]
        for what, producer, source in wanted:
            if source and source != target and (what, target) not in found:
                name = f"edge_{len(found) + 1}_{producer._name}"
                key = rendezvous_key(source, incarnations.get(source, 1), target, name)
                found[what, target] = Crossing(what, source, target, name, key)
    return found


def partition_graphs(
    plan: Mapping[Operation, Any],
    fetches: Sequence[Tensor],
    feeds: Sequence[Tensor],
    device_of: Callable[[Operation], str],
    incarnations: Mapping[str, int],
    new_graph: Callable[[], Any],
) -> list[Any]:
    """A GraphDef (of `new_graph`) for each device that has a node of `plan`, in the order of the devices.

    plan: the operations in order, each with the constant that stands for it or None (`fold.folded`). What is fed enters
    at the first device, as in TensorFlow.
    """
    home = next(iter(incarnations))
    fed = frozenset(feeds)
    kept = [op for op, value in plan.items() if value is None]
    crossing = crossings(kept, device_of, fed, incarnations, home, plan.keys())
    graphs: dict[str, Any] = {}

    def graph_of(device: str) -> Any:
        if device not in graphs:
            graphs[device] = new_graph()
        return graphs[device]

    names = {t: f"_arg_{t._op._name}_{t.value_index}_{i}" for i, t in enumerate(feeds)}
    used = {t for op in kept for t in op._inputs if t in fed} | {t for t in fetches if t in fed}
    for index, tensor in enumerate(feeds):
        if tensor in used:
            node = graph_of(home).node.add(name=names[tensor], op="_Arg", device=home)
            node.attr["T"].type = tensor._dtype.base_dtype.as_datatype_enum
            node.attr["index"].i = index
    received = _pairs(crossing.values(), graph_of, names, incarnations)
    for op, value in plan.items():
        device = device_of(op)
        to_nodes({op: value}, graph_of(device), device)
        if value is None:
            _rewire(op, graph_of(device).node[-1], device, names, received, set(plan))
    for index, tensor in enumerate(fetches):
        if tensor._dtype.is_ref_dtype or tensor._dtype is dtypes.resource:
            continue
        device = home if tensor in fed else device_of(tensor._op)
        node = graph_of(device).node.add(
            name=f"_retval_{tensor._op._name}_{tensor.value_index}_{index}",
            op="_Retval",
            device=device,
            input=[names.get(tensor) or tensor._as_node_def_input()],
        )
        node.attr["T"].type = tensor._dtype.base_dtype.as_datatype_enum
        node.attr["index"].i = index
    return [graphs[device] for device in incarnations if device in graphs]


def _pairs(
    found: Iterable[Crossing],
    graph_of: Callable[[str], Any],
    names: Mapping[Tensor, str],
    incarnations: Mapping[str, int],
) -> dict[tuple[Tensor | Operation, str], str]:
    """Adds the nodes of each crossing; the names of the receiving ones."""
    received: dict[tuple[Tensor | Operation, str], str] = {}
    for number, crossing in enumerate(found):
        source, target = graph_of(crossing.source), graph_of(crossing.target)
        what, name = crossing.what, crossing.op._name
        if isinstance(what, Tensor):
            kind = what._dtype.base_dtype
            sent = names.get(what) or what._as_node_def_input()
        else:
            # A control edge: an empty constant that waits for the operation.
            kind, sent = dtypes.float32, f"{name}/ctrl_{number}"
            node = source.node.add(
                name=sent, op="Const", device=crossing.source, input=[f"^{name}"]
            )
            node.attr["dtype"].type = kind.as_datatype_enum
            empty = TensorValue(np.zeros([0], np.float32), kind)
            node.attr["value"].tensor.CopyFrom(empty.to_proto())
        send = source.node.add(
            name=f"{name}/_{2 * number}", op="_Send", device=crossing.source, input=[sent]
        )
        receive = target.node.add(
            name=f"{name}/_{2 * number + 1}", op="_Recv", device=crossing.target
        )
        send.attr["T"].type = receive.attr["tensor_type"].type = kind.as_datatype_enum
        for node in (send, receive):
            node.attr["tensor_name"].s = crossing.name.encode()
            node.attr["send_device"].s = crossing.source.encode()
            node.attr["recv_device"].s = crossing.target.encode()
            node.attr["send_device_incarnation"].i = incarnations.get(crossing.source, 1)
            node.attr["client_terminated"].b = False
        received[what, crossing.target] = receive.name
    return received


def _rewire(
    op: Operation,
    node: Any,
    device: str,
    names: Mapping[Tensor, str],
    received: Mapping[tuple[Tensor | Operation, str], str],
    inside: set[Operation],
) -> None:
    """Has a node take what crosses from the receiving nodes, and what is fed from the arguments."""
    inputs = [
        received.get((t, device)) or names.get(t) or t._as_node_def_input() for t in op._inputs
    ]
    controls = [
        f"^{received.get((c, device)) or c._name}" for c in op._control_inputs if c in inside
    ]
    del node.input[:]
    node.input.extend([*inputs, *sorted(controls)])
