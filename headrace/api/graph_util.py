"""GraphDefs in and out: importing, writing, and `tf.graph_util`: cutting, freezing and simplifying them.

These functions rewrite protos that other programs wrote and read, so they know op types of TensorFlow by name.
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import text_format
from tensorboard.compat.proto import graph_pb2, node_def_pb2

from headrace.api.export import export, export_value
from headrace.core import dtypes, tensor_proto
from headrace.core.tensor_shape import TensorShape
from headrace.graph.graph import Graph
from headrace.graph.import_graph_def import import_graph_def
from headrace.graph.op_def import REGISTRY, Effect
from headrace.graph.operation import Operation
from headrace.io import file_io

export_value(import_graph_def, "import_graph_def", "graph_util.import_graph_def")

# Through these a resource handle reaches the op that reads it.
_PASS_HANDLES_ON = frozenset(("Switch", "Enter", "Exit", "Identity", "Merge", "NextIteration"))
_VARIABLE_OPS = frozenset(
    "Assign AssignAdd AssignSub Queue ScatterAdd ScatterSub ScatterUpdate TruncatedNormal Variable VariableV2".split()
)
# On these types TensorFlow has no kernel for a GPU. {op type: attr of the type}
_HOST_TYPES = {
    "Const": ("dtype", (dtypes.string, dtypes.int32)),
    "DynamicStitch": ("T", (dtypes.int32,)),
    "ParallelDynamicStitch": ("T", (dtypes.int32,)),
    "Cast": ("SrcT", (dtypes.int32,)),
}


@export("io.write_graph", "train.write_graph")
def write_graph(graph_or_graph_def: Any, logdir: Any, name: str, as_text: bool = True) -> str:
    """Writes a graph (a Graph or a GraphDef) to the file `name` in `logdir`, which is made; returns the path.

    as_text: in the text form of protocol buffers, else in the binary one.
    """
    graph_def = (
        graph_or_graph_def.as_graph_def()
        if isinstance(graph_or_graph_def, Graph)
        else graph_or_graph_def
    )
    if not file_io.file_exists(logdir):
        file_io.recursive_create_dir(logdir)
    path = os.path.join(logdir, name)
    content = text_format.MessageToString(graph_def) if as_text else graph_def.SerializeToString()
    file_io.atomic_write_string_to_file(path, content)
    return path


@export("graph_util.must_run_on_cpu")
def must_run_on_cpu(node: Any, pin_variables_on_cpu: bool = False) -> bool:
    """Whether a node (Operation or NodeDef) has to be placed on a CPU; variables too, where asked for."""
    node_def = node.node_def if isinstance(node, Operation) else node
    if pin_variables_on_cpu and node_def.op in _VARIABLE_OPS:
        return True
    attr, types = _HOST_TYPES.get(node_def.op, ("", ()))
    return attr in node_def.attr and dtypes.as_dtype(node_def.attr[attr].type) in types


@export("graph_util.tensor_shape_from_node_def_name")
def tensor_shape_from_node_def_name(graph: Graph, input_name: str) -> TensorShape:
    """The static shape of a tensor of `graph` by its name as inputs of NodeDefs have it ("a" for "a:0")."""
    return graph.get_tensor_by_name(input_name if ":" in input_name else f"{input_name}:0").shape


def _node_of(input_name: str) -> str:
    """The node that an input of a NodeDef names."""
    return input_name[1:] if input_name.startswith("^") else input_name.partition(":")[0]


def _colocated_with(node: Any) -> list[str]:
    groups = node.attr["_class"].list.s if "_class" in node.attr else ()
    return [g.decode()[5:] for g in groups if g.startswith(b"loc:@")]


@export("graph_util.extract_sub_graph")
def extract_sub_graph(graph_def: Any, dest_nodes: Sequence[str]) -> Any:
    """The part of a GraphDef that the nodes named in `dest_nodes` depend on (by inputs, control inputs, colocation).

    Raises TypeError: not a GraphDef, or a single string for the list. AssertionError: a node that is not there.
    """
    if not isinstance(graph_def, graph_pb2.GraphDef):
        raise TypeError(
            f"graph_def must be a graph_pb2.GraphDef proto, got {type(graph_def).__name__}."
        )
    if isinstance(dest_nodes, str):
        raise TypeError("dest_nodes must be a list.")
    nodes = {node.name: node for node in graph_def.node}
    for name in dest_nodes:
        if name not in nodes:
            raise AssertionError(f"{name} is not in graph")
    keep: set[str] = set()
    queue = collections.deque(dest_nodes)
    while queue:
        name = queue.popleft()
        if name in keep:
            continue
        if name not in nodes:
            raise ValueError(f"{name} is an input of the graph's nodes, but is not in graph")
        keep.add(name)
        queue.extend(_node_of(i) for i in nodes[name].input)
        queue.extend(_colocated_with(nodes[name]))
    out = graph_pb2.GraphDef(library=graph_def.library, versions=graph_def.versions)
    out.node.extend(node for node in graph_def.node if node.name in keep)
    return out


# ---- freezing


def _is_variable(node: Any) -> bool:
    definition = REGISTRY.get(node.op)
    return (
        definition is not None
        and bool(definition.effects & Effect.HANDLE)
        and not definition.host_only
    )


@export("graph_util.convert_variables_to_constants")
def convert_variables_to_constants(
    sess: Any,
    input_graph_def: Any,
    output_node_names: Sequence[str],
    variable_names_whitelist: Iterable[str] | None = None,
    variable_names_blacklist: Iterable[str] | None = None,
) -> Any:
    """The part of a GraphDef that the output nodes need, each variable replaced by a constant of its value in `sess`.

    variable_names_whitelist: convert these variables only. variable_names_blacklist: leave these as they are.
    Raises ValueError: a resource is read that is not the handle of a variable.
    """
    graph_def = extract_sub_graph(input_graph_def, output_node_names)
    nodes = {node.name: node for node in graph_def.node}
    allowed = None if variable_names_whitelist is None else set(variable_names_whitelist)
    forbidden = set(variable_names_blacklist or ())
    variables = {
        name: node
        for name, node in nodes.items()
        if _is_variable(node) and (allowed is None or name in allowed) and name not in forbidden
    }
    readers = [node for node in graph_def.node if node.op in ("ReadVariableOp", "ResourceGather")]
    types, frozen_reads = _types_on_the_way(nodes, readers, variables)
    fetches = [_value_of(name, node, input_graph_def, readers) for name, node in variables.items()]
    values = dict(zip(variables, sess.run(fetches) if fetches else (), strict=True))
    out = graph_pb2.GraphDef(library=graph_def.library, versions=graph_def.versions)
    for node in graph_def.node:
        if node.name in values:
            out.node.append(_constant(node.name, node.attr["dtype"].type, values[node.name]))
        elif node.name in types:
            copy = out.node.add()
            copy.CopyFrom(node)
            copy.attr.pop("_output_shapes", None)
            copy.attr["T"].type = types[node.name]
        elif node.name in frozen_reads:
            out.node.extend(_read_of_constant(node))
        else:
            out.node.append(node)
    return out


def _types_on_the_way(
    nodes: dict[str, Any], readers: Iterable[Any], variables: dict[str, Any]
) -> tuple[dict[str, int], set[str]]:
    """The types that handles' nodes between variables and their readers get, and the readers of frozen variables."""
    types: dict[str, int] = {}
    frozen = set()
    for reader in readers:
        dtype = reader.attr["dtype"].type
        queue = [_node_of(reader.input[0])]
        on_the_way: list[str] = []
        sources = set()
        while queue:
            name = queue.pop()
            node = nodes[name]
            if node.op not in _PASS_HANDLES_ON:
                if not _is_variable(node):
                    raise ValueError(
                        f"Cannot find the variable that is an input to the ReadVariableOp {reader.name!r}: {name!r} is "
                        f"{node.op}."
                    )
                sources.add(name)
            elif name not in on_the_way:
                on_the_way.append(name)
                queue += [_node_of(i) for i in node.input[: 2 if node.op == "Merge" else 1]]
        if sources & variables.keys():
            frozen.add(reader.name)
            types.update(dict.fromkeys(on_the_way, dtype))
    return types, frozen


def _value_of(name: str, node: Any, graph_def: Any, readers: Iterable[Any]) -> str:
    """The tensor that holds a variable's value: itself, or one that reads its handle."""
    if "ref" in {a.name for a in REGISTRY[node.op].signature.outputs if a.is_ref}:
        return f"{name}:0"
    usual = f"{name}/Read/ReadVariableOp"
    if any(n.name == usual for n in graph_def.node):
        return f"{usual}:0"
    for reader in readers:
        if reader.op == "ReadVariableOp" and _node_of(reader.input[0]) == name:
            return f"{reader.name}:0"
    return f"{usual}:0"


def _constant(name: str, dtype: int, value: Any) -> Any:
    node = node_def_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = dtype
    shape = getattr(value, "shape", None)
    node.attr["value"].tensor.CopyFrom(
        tensor_proto.make_tensor_proto(value, dtypes.as_dtype(dtype), shape=shape)
    )
    return node


def _read_of_constant(node: Any) -> list[Any]:
    """What reads a handle, rewritten to take the constant in its place."""
    copy = node_def_pb2.NodeDef(name=node.name, device=node.device)
    if "_class" in node.attr:
        copy.attr["_class"].CopyFrom(node.attr["_class"])
    if node.op == "ReadVariableOp":
        copy.op = "Identity"
        copy.input.append(node.input[0])
        copy.attr["T"].CopyFrom(node.attr["dtype"])
        return [copy]
    if node.attr["batch_dims"].i:
        raise ValueError(
            f"batch_dims != 0 is not supported by freeze_graph (ResourceGather {node.name!r})."
        )
    axis = _constant(f"{node.name}/axis", node.attr["Tindices"].type, 0)
    copy.op = "GatherV2"
    copy.input.extend([node.input[0], node.input[1], axis.name])
    copy.attr["Tparams"].CopyFrom(node.attr["dtype"])
    copy.attr["Tindices"].CopyFrom(node.attr["Tindices"])
    copy.attr["Taxis"].CopyFrom(node.attr["Tindices"])
    return [axis, copy]


# ---- simplifying


@export("graph_util.remove_training_nodes")
def remove_training_nodes(input_graph: Any, protected_nodes: Iterable[str] | None = None) -> Any:
    """A GraphDef without the nodes that only training needs: CheckNumerics, and Identity nodes that order nothing.

    protected_nodes: names of nodes to keep in any case.
    """
    protected = set(protected_nodes or ())
    removed = {
        n.name for n in input_graph.node if n.op == "CheckNumerics" and n.name not in protected
    }
    nodes = []
    for node in input_graph.node:
        if node.name not in removed:
            copy = node_def_pb2.NodeDef()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(i for i in node.input if _node_of(i) not in removed)
            nodes.append(copy)
    waits_or_is_waited_for = {i[1:] for n in nodes for i in n.input if i[0] == "^"}
    waits_or_is_waited_for.update(n.name for n in nodes if any(i[0] == "^" for i in n.input))
    spliced = {
        n.name: n.input[0]
        for n in nodes
        if n.op == "Identity" and n.name not in protected and n.name not in waits_or_is_waited_for
    }
    out = graph_pb2.GraphDef()
    for node in nodes:
        if node.name in spliced:
            continue
        for i, name in enumerate(node.input):
            while re.sub(r"^\^", "", name) in spliced:
                name = spliced[re.sub(r"^\^", "", name)]
            node.input[i] = name
        out.node.append(node)
    return out
