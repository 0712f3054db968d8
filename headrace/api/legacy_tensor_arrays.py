"""TensorArrays of old GraphDefs (TensorArrayV3 and its kin) as lists of tensors.

There an array is a resource; a float that passes from operation to operation, the flow, orders what they do with it.
Here the list itself takes the way of the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorboard.compat.proto import graph_pb2, node_def_pb2

from headrace.core import dtypes
from headrace.core.tensor_proto import make_tensor_proto
from headrace.core.tensor_shape import TensorShape

_ARRAY = "TensorArrayV3"
# These pass a flow on.
_PASS_ON = frozenset("Enter Exit Identity Merge NextIteration Switch".split())


def without_tensor_arrays(graph_def: Any) -> Any:
    """A GraphDef like `graph_def` with lists in place of TensorArrays; itself where it has none."""
    if not any(node.op == _ARRAY for node in graph_def.node):
        return graph_def
    return _Rewriter(graph_def).run()


class _Rewriter:
    def __init__(self, graph_def: Any) -> None:
        self.old = graph_def
        self.nodes = {node.name: node for node in graph_def.node}
        self.new = graph_pb2.GraphDef(library=graph_def.library, versions=graph_def.versions)
        self.lists = self._lists()

    def run(self) -> Any:
        for node in self.old.node:
            rule = _RULES.get(node.op)
            if rule is not None:
                rule(self, node)
                continue
            copy = self.new.node.add()
            copy.CopyFrom(node)
            for i, name in enumerate(node.input):
                copy.input[i] = self.renamed(name)
            if node.name in self.lists:
                copy.attr["T"].type = dtypes.variant.as_datatype_enum
        return self.new

    def _lists(self) -> set[str]:
        """The nodes whose outputs are arrays or flows."""
        found = {n.name for n in self.old.node if n.op in _MAKE_FLOWS}
        while True:
            more = {
                n.name
                for n in self.old.node
                if n.op in _PASS_ON and n.name not in found and self._node_of(n.input[0]) in found
            }
            if not more:
                return found
            found |= more

    def _node_of(self, name: str) -> str:
        return name if name in self.nodes else name.rpartition(":")[0]

    def renamed(self, name: str) -> str:
        """An input's name: the flow of an array is its only output now."""
        node, _, index = name.rpartition(":")
        return (
            node if index == "1" and node in self.nodes and self.nodes[node].op == _ARRAY else name
        )

    def array_of(self, name: str) -> Any:
        """The TensorArrayV3 node from which a handle comes."""
        node = self.nodes[self._node_of(name)]
        return node if node.op == _ARRAY else self.array_of(node.input[0])

    def add(self, node: Any, op: str, inputs: list[str], element_dtype: int | None) -> Any:
        """Adds a node in the place of `node`."""
        made = self.new.node.add(name=node.name, op=op, device=node.device)
        made.input.extend(self.renamed(name) for name in inputs)
        made.input.extend(name for name in node.input if name[0] == "^")
        if element_dtype is not None:
            made.attr["element_dtype"].type = element_dtype
        return made

    def shape_of_elements(self, node: Any, shape: Any) -> str:
        """Adds the shape of the elements, -1 for what is not known, as a constant for `node`."""
        dims = TensorShape(shape)
        value = -1 if dims.ndims is None else [-1 if d is None else d for d in dims.as_list()]
        const = node_def_pb2.NodeDef(
            name=f"{node.name}/element_shape", op="Const", device=node.device
        )
        const.attr["dtype"].type = dtypes.int32.as_datatype_enum
        const.attr["value"].tensor.CopyFrom(make_tensor_proto(value, dtypes.int32))
        self.new.node.append(const)
        return const.name


def _array(rewriter: _Rewriter, node: Any) -> None:
    shape = rewriter.shape_of_elements(node, node.attr["element_shape"].shape)
    made = rewriter.add(node, "TensorListReserve", [shape, node.input[0]], node.attr["dtype"].type)
    made.attr["shape_type"].type = dtypes.int32.as_datatype_enum


def _write(rewriter: _Rewriter, node: Any) -> None:
    _, index, value, flow = node.input[:4]
    rewriter.add(node, "TensorListSetItem", [flow, index, value], node.attr["T"].type)


def _scatter(rewriter: _Rewriter, node: Any) -> None:
    _, indices, value, flow = node.input[:4]
    rewriter.add(
        node, "TensorListScatterIntoExistingList", [flow, value, indices], node.attr["T"].type
    )


def _read(rewriter: _Rewriter, node: Any) -> None:
    handle, index, flow = node.input[:3]
    shape = rewriter.shape_of_elements(node, rewriter.array_of(handle).attr["element_shape"].shape)
    rewriter.add(node, "TensorListGetItem", [flow, index, shape], node.attr["dtype"].type)


def _gather(rewriter: _Rewriter, node: Any) -> None:
    _, indices, flow = node.input[:3]
    shape = rewriter.shape_of_elements(node, node.attr["element_shape"].shape)
    rewriter.add(node, "TensorListGather", [flow, indices, shape], node.attr["dtype"].type)


def _size(rewriter: _Rewriter, node: Any) -> None:
    rewriter.add(node, "TensorListLength", [node.input[1]], None)


def _close(rewriter: _Rewriter, node: Any) -> None:
    rewriter.add(node, "NoOp", [], None)


_MAKE_FLOWS = frozenset((_ARRAY, "TensorArrayWriteV3", "TensorArrayScatterV3"))
_RULES: dict[str, Callable[[_Rewriter, Any], None]] = {
    _ARRAY: _array,
    "TensorArrayWriteV3": _write,
    "TensorArrayScatterV3": _scatter,
    "TensorArrayReadV3": _read,
    "TensorArrayGatherV3": _gather,
    "TensorArraySizeV3": _size,
    "TensorArrayCloseV3": _close,
}
