"""TensorArrays of old GraphDefs (TensorArrayV3 and its kin) as lists of tensors.

There an array is a resource; a float that passes from operation to operation, the flow, orders what they do with it.
Here the list itself takes the way of the flow. The gradient of an array is a second list, which takes the way of the
flow's gradient: where that begins (a read) it is a list of zeros in which one element is set, where flows are added
lists are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tensorboard.compat.proto import node_def_pb2

from headrace.api.legacy_graph import LegacyGraph, Loop, joined, kind_of, source_of
from headrace.api.legacy_stacks import find_stacks, pushed_values
from headrace.core import dtypes, errors
from headrace.core.tensor_proto import make_tensor_proto
from headrace.core.tensor_shape import TensorShape

_ARRAY = "TensorArrayV3"
_GRADIENT = "TensorArrayGradV3"
# These pass a flow on; sums do so with the gradients of flows.
_PASS_ON = frozenset("Enter Exit Identity Merge NextIteration Switch".split())
_SUMS = frozenset("Add AddV2 AddN".split())
# Where the flow is among the inputs.
_FLOW_INPUT = {
    "TensorArrayWriteV3": 3,
    "TensorArrayScatterV3": 3,
    "TensorArraySplitV3": 3,
    "TensorArrayReadV3": 2,
    "TensorArrayGatherV3": 2,
    "TensorArrayConcatV3": 1,
    "TensorArraySizeV3": 1,
}
_MAKE_FLOWS = frozenset(("TensorArrayWriteV3", "TensorArrayScatterV3", "TensorArraySplitV3"))
_VARIANT = dtypes.variant.as_datatype_enum
_INT32 = dtypes.int32.as_datatype_enum


def arrays_as_lists(graph: LegacyGraph) -> bool:
    """Exchanges the TensorArrays of a graph that is analysed for lists; whether there were any."""
    if not any(node.op == _ARRAY for node in graph.nodes.values()):
        return False
    _Rewriter(graph).run()
    return True


@dataclass(frozen=True, slots=True)
class _Use:
    """What an operation works on: an array (its node, as it was), or the gradient of that."""

    array: Any
    is_gradient: bool


class _Rewriter:
    def __init__(self, graph: LegacyGraph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.stacks = find_stacks(graph.nodes)
        self.pushed = pushed_values(self.stacks)
        self.number = {
            item.name: i for i, item in enumerate(graph.order) if not isinstance(item, Loop)
        }
        self.arrays: dict[str, Any] = {}  # as they were
        for node in self.nodes.values():
            if node.op == _ARRAY:
                self.arrays[node.name] = node_def_pb2.NodeDef()
                self.arrays[node.name].CopyFrom(node)
        self.uses = {n.name: self._use_of(n) for n in self.nodes.values() if n.op in _FLOW_INPUT}
        self.array: dict[str, str] = {}  # node that gives a flow, or a flow's gradient -> its array
        self.forward = self._forward_flows()
        self.backward = self._gradient_flows()
        self.zeros: dict[str, str] = {}

    def run(self) -> None:
        gradients = {n.name for n in self.nodes.values() if n.op == _GRADIENT}
        lists = self.forward | self.backward
        self._pass_on_lists(lists | self._handles())
        for node in list(self.nodes.values()):
            if node.op in _RULES:
                _RULES[node.op](self, node)
            elif node.name in self.backward and not self._passes(node):
                self._replace_by_zeros(node)
        for name in gradients:
            del self.nodes[name]
        for node in self.nodes.values():
            kept = [self.renamed(i) for i in node.input if i[0] != "^" or i[1:] not in gradients]
            del node.input[:]
            node.input.extend(kept)

    def _use_of(self, node: Any) -> _Use:
        handle = self._handle(node.input[0])
        is_gradient = handle.op == _GRADIENT
        while handle.op == _GRADIENT:
            handle = self._handle(handle.input[0])
        return _Use(self.arrays[handle.name], is_gradient)

    def _handle(self, name: str) -> Any:
        """The node that makes the array, or the gradient of one, whose handle is `name`.

        Raises UnimplementedError: none does.
        """
        while True:
            node = self.nodes.get(source_of(name)[0])
            if node is not None and node.op in (_ARRAY, _GRADIENT):
                return node
            if node is not None and node.name in self.pushed:
                name = self.pushed[node.name]
            elif node is not None and kind_of(node) in _PASS_ON:
                name = node.input[0]
            else:
                raise errors.UnimplementedError(
                    None, None, f"{name!r} of the GraphDef is the handle of no TensorArrayV3"
                )

    # ---- what is a flow

    def _forward_flows(self) -> set[str]:
        """The nodes that give flows of arrays, not of their gradients."""
        self.array.update((name, name) for name in self.arrays)
        for name, use in self.uses.items():
            if self.nodes[name].op in _MAKE_FLOWS and not use.is_gradient:
                self.array[name] = use.array.name
        queue = list(self.array)
        popped = {value: pop for pop, value in self.pushed.items()}
        while queue:
            name = queue.pop()
            users = [u for u in self.graph.users[name] if kind_of(u) in _PASS_ON]
            users = [u for u in users if source_of(u.input[0])[0] == name or kind_of(u) == "Merge"]
            for text in (name, f"{name}:0", f"{name}:1"):
                if text in popped:
                    users.append(self.nodes[popped[text]])
            for user in users:
                if user.name not in self.array and self._takes_flow(user, name):
                    self.array[user.name] = self.array[name]
                    queue.append(user.name)
        return set(self.array)

    def _takes_flow(self, user: Any, name: str) -> bool:
        """Whether `user` takes the flow, not the handle, of an array."""
        if self.nodes[name].op != _ARRAY:
            return True
        texts = user.input if user.name not in self.pushed else [self.pushed[user.name]]
        return any(source_of(i) == (name, 1) for i in texts)

    def _gradient_flows(self) -> set[str]:
        """The nodes that give gradients of flows, and what these begin with."""
        found: set[str] = set()
        queue: list[tuple[str, str]] = []
        for name, use in self.uses.items():
            if use.is_gradient:
                node = self.nodes[name]
                queue.append((source_of(node.input[_FLOW_INPUT[node.op]])[0], use.array.name))
                if node.op in _MAKE_FLOWS:
                    queue.append((name, use.array.name))
        while queue:
            name, array = queue.pop()
            if name in found or name in self.forward or name not in self.nodes:
                continue
            found.add(name)
            self.array[name] = array
            node = self.nodes[name]
            if self._passes(node):
                data = [i for i in node.input if i[0] != "^"]
                if kind_of(node) == "Switch":
                    del data[1]
                queue += [(source_of(i)[0], array) for i in data]
            for user in self.graph.users[name]:
                takes = [source_of(i)[0] for i in user.input if i[0] != "^"]
                if self._passes(user) and name in takes:
                    queue.append((user.name, array))
        return found

    @staticmethod
    def _passes(node: Any) -> bool:
        return kind_of(node) in _PASS_ON or node.op in _SUMS

    def _handles(self) -> set[str]:
        """The nodes that pass handles on: nobody needs what they give any more, but it must have a type."""
        found = {n.name for n in self.nodes.values() if n.op in (_ARRAY, _GRADIENT)}
        queue = list(found)
        while queue:
            for user in self.graph.users[queue.pop()]:
                if kind_of(user) in _PASS_ON and user.name not in found:
                    found.add(user.name)
                    queue.append(user.name)
        return found

    # ---- the way of the lists

    def _pass_on_lists(self, lists: set[str]) -> None:
        for name in lists:
            node = self.nodes[name]
            if node.op in _SUMS:
                node.attr["N"].i = sum(i[0] != "^" for i in node.input)
                node.op = "AddN"
            if self._passes(node):
                node.attr["T"].type = _VARIANT
        for stack in self.stacks:
            if any(source_of(p.input[1])[0] in lists for p in stack.pushes):
                stack.node.attr["elem_type"].type = _VARIANT

    def _replace_by_zeros(self, node: Any) -> None:
        """Makes of a zero with which the gradient of a flow begins a list of zeros."""
        flow = self._flow_at(node)
        del node.input[:]
        node.ClearField("attr")
        node.op = "ZerosLike"
        node.input.append(flow)
        node.attr["T"].type = _VARIANT

    def _flow_at(self, node: Any) -> str:
        """The last flow of the array of `node` that is there where it runs."""
        array, here = self.array[node.name], self.graph.place[node.name] or ()
        found = []
        for name in self.forward:
            place = self.graph.place[name]
            if self.array[name] == array and place is not None and here[: len(place)] == place:
                if kind_of(self.nodes[name]) not in ("Enter", "Switch", "NextIteration"):
                    found.append(name)
        return max(found, key=self.number.__getitem__)

    def renamed(self, name: str) -> str:
        """An input's name: the flow of an array is its only output now."""
        node, index = source_of(name)
        return node if index == 1 and node in self.arrays else name

    # ---- what the rules need

    def flow_of(self, node: Any) -> str:
        """The list that an operation takes: of a gradient that begins with it, zeros like the array."""
        flow = node.input[_FLOW_INPUT[node.op]]
        source, index = source_of(flow)
        if not self.uses[node.name].is_gradient or source not in self.forward:
            return flow
        key = joined((source, index)) if kind_of(self.nodes[source]) == "Switch" else source
        if key not in self.zeros:
            self.zeros[key] = self.graph.add(
                f"{source}/zeros", "ZerosLike", [self.renamed(flow)], T=_VARIANT
            )
        return self.zeros[key]

    def long_enough(self, node: Any, flow: str, index: str) -> str:
        """Adds what makes a list so long that it has an element `index`."""
        add, name = self.graph.add, node.name
        length = add(f"{name}/length", "TensorListLength", [flow])
        one = self.constant(f"{name}/one", 1, dtypes.int32)
        after = add(f"{name}/after", "AddV2", [index, one], T=_INT32)
        size = add(f"{name}/size", "Maximum", [length, after], T=_INT32)
        longer = add(f"{name}/longer", "TensorListResize", [flow, size])
        self.nodes[longer].attr["_only_grows"].b = True
        return longer

    def replace(self, node: Any, op: str, inputs: list[str], element_dtype: int | None) -> Any:
        """Makes `node` another operation."""
        control = [i for i in node.input if i[0] == "^"]
        del node.input[:]
        node.ClearField("attr")
        node.op = op
        node.input.extend([*inputs, *control])
        if element_dtype is not None:
            node.attr["element_dtype"].type = element_dtype
        return node

    def shape_of_elements(self, node: Any, dims: TensorShape, first: int | None = None) -> str:
        """Adds the shape of the elements, -1 for what is not known, as a constant for `node`."""
        value = -1 if dims.ndims is None else [-1 if d is None else d for d in dims.as_list()]
        if first is not None and value != -1:
            value = [first, *value[1:]]
        return self.constant(f"{node.name}/element_shape", value, dtypes.int32)

    def constant(self, name: str, value: Any, kind: Any) -> str:
        """Adds a constant."""
        made = self.graph.add(name, "Const", [], dtype=kind.as_datatype_enum)
        self.nodes[made].attr["value"].tensor.CopyFrom(make_tensor_proto(value, kind))
        return made


def _shape(node: Any, attr: str = "element_shape") -> TensorShape:
    """An attr that is a shape, whose default is that nothing is known."""
    return TensorShape(node.attr[attr].shape if attr in node.attr else None)


def _array(rewriter: _Rewriter, node: Any) -> None:
    kind, size = node.attr["dtype"].type, node.input[0]
    shape = rewriter.shape_of_elements(node, _shape(node))
    made = rewriter.replace(node, "TensorListReserve", [shape, size], kind)
    made.attr["shape_type"].type = _INT32


def _write(rewriter: _Rewriter, node: Any) -> None:
    index, value, kind = node.input[1], node.input[2], node.attr["T"].type
    use, flow = rewriter.uses[node.name], rewriter.flow_of(node)
    if use.array.attr["dynamic_size"].b and not use.is_gradient:
        flow = rewriter.long_enough(node, rewriter.renamed(flow), index)
    made = rewriter.replace(node, "TensorListSetItem", [flow, index, value], kind)
    made.attr["_write_once"].b = not use.is_gradient


def _scatter(rewriter: _Rewriter, node: Any) -> None:
    indices, value, kind = node.input[1], node.input[2], node.attr["T"].type
    flow = rewriter.flow_of(node)
    rewriter.replace(node, "TensorListScatterIntoExistingList", [flow, value, indices], kind)


def _split(rewriter: _Rewriter, node: Any) -> None:
    value, lengths, kind = node.input[1], node.input[2], node.attr["T"].type
    shape = rewriter.shape_of_elements(node, _shape(rewriter.uses[node.name].array), -1)
    made = rewriter.replace(node, "TensorListSplit", [value, shape, lengths], kind)
    made.attr["shape_type"].type = _INT32


def _read(rewriter: _Rewriter, node: Any) -> None:
    index, kind, flow = node.input[1], node.attr["dtype"].type, rewriter.flow_of(node)
    shape = rewriter.shape_of_elements(node, _shape(rewriter.uses[node.name].array))
    rewriter.replace(node, "TensorListGetItem", [flow, index, shape], kind)


def _gather(rewriter: _Rewriter, node: Any) -> None:
    indices, kind, flow = node.input[1], node.attr["dtype"].type, rewriter.flow_of(node)
    shape = rewriter.shape_of_elements(node, _shape(node))
    rewriter.replace(node, "TensorListGather", [flow, indices, shape], kind)


def _concat(rewriter: _Rewriter, node: Any) -> None:
    kind, flow = node.attr["dtype"].type, rewriter.flow_of(node)
    rest = _shape(node, "element_shape_except0")
    shape = rewriter.shape_of_elements(node, TensorShape([None]).concatenate(rest))
    none = rewriter.constant(f"{node.name}/leading_dims", [], dtypes.int64)
    made = rewriter.replace(node, "TensorListConcatV2", [flow, shape, none], kind)
    made.attr["shape_type"].type = _INT32


def _size(rewriter: _Rewriter, node: Any) -> None:
    array, place = rewriter.uses[node.name].array, rewriter.graph.place
    home, here = place[array.name], place[node.name]
    is_fixed = not array.attr["dynamic_size"].b
    if is_fixed and home is not None and here is not None and here[: len(home)] == home:
        # Known while a program is traced if it follows from shapes; the length of what a loop gives is not.
        rewriter.replace(node, "Identity", [array.input[0]], None).attr["T"].type = _INT32
    else:
        rewriter.replace(node, "TensorListLength", [rewriter.flow_of(node)], None)


def _close(rewriter: _Rewriter, node: Any) -> None:
    rewriter.replace(node, "NoOp", [], None)


_RULES: dict[str, Callable[[_Rewriter, Any], None]] = {
    _ARRAY: _array,
    "TensorArrayWriteV3": _write,
    "TensorArrayScatterV3": _scatter,
    "TensorArraySplitV3": _split,
    "TensorArrayReadV3": _read,
    "TensorArrayGatherV3": _gather,
    "TensorArrayConcatV3": _concat,
    "TensorArraySizeV3": _size,
    "TensorArrayCloseV3": _close,
}
