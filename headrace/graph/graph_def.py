"""The graph as protos: NodeDef, OpDef and GraphDef."""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import attr_value_pb2, graph_pb2, node_def_pb2, op_def_pb2

from headrace.core.tensor_shape import TensorShape
from headrace.graph import attr_value
from headrace.graph.graph import Graph
from headrace.graph.op_def import OpDef
from headrace.graph.operation import Operation


def node_to_proto(op: Operation, node: Any = None) -> Any:
    """The NodeDef of `op` (written into `node` where one is given)."""
    node = node_def_pb2.NodeDef() if node is None else node
    definition = op._definition
    node.name, node.op, node.device = op._name, definition.name, op._device
    node.input.extend(t._as_node_def_input() for t in op._inputs)
    # TensorFlow writes control inputs by name, whatever their order in the program.
    node.input.extend(sorted(f"^{c._name}" for c in op._control_inputs))
    specs = definition.signature.attrs
    for name, value in op._attrs.items():
        spec = specs.get(name)
        kind = spec.kind if spec is not None else attr_value.guess_kind(value)
        if value is not None or kind == "shape":
            node.attr[name].CopyFrom(attr_value.to_proto(kind, value))
    return node


def to_graph_def(graph: Graph, from_version: int | None = None, add_shapes: bool = False) -> Any:
    """The GraphDef of `graph`; with add_shapes each node carries `_output_shapes`."""
    message = graph_pb2.GraphDef()
    message.versions.CopyFrom(graph.graph_def_versions)
    # All of it with the lock: another thread's gradients give a node inputs that were made after it.
    with graph._lock:
        _fill(message, graph, from_version, add_shapes)
    return message


def _fill(message: Any, graph: Graph, from_version: int | None, add_shapes: bool) -> None:
    functions = list(graph._functions.values())
    for op in list(graph._operations):
        if from_version is not None and op._id <= from_version:
            continue
        node = node_to_proto(op, message.node.add())
        if add_shapes and op._outputs:
            shapes = attr_value_pb2.AttrValue()
            shapes.list.shape.extend(TensorShape.of(t._dims).as_proto() for t in op._outputs)
            node.attr["_output_shapes"].CopyFrom(shapes)
    for function in functions:
        message.library.function.append(function.definition)
        if function.grad_func_name:
            entry = message.library.gradient.add()
            entry.function_name, entry.gradient_func = function.name, function.grad_func_name


def op_def_to_proto(definition: OpDef) -> Any:
    """The signature of an op type as TensorFlow's OpDef proto."""
    message = op_def_pb2.OpDef(name=definition.name, is_stateful=definition.is_stateful)
    signature = definition.signature
    for arguments, field in (
        (signature.inputs, message.input_arg),
        (signature.outputs, message.output_arg),
    ):
        for argument in arguments:
            entry = field.add(name=argument.name, is_ref=argument.is_ref)
            if argument.dtype is not None:
                entry.type = argument.dtype.as_datatype_enum
            entry.type_attr = argument.type_attr or ""
            entry.type_list_attr = argument.type_list_attr or ""
            entry.number_attr = argument.number_attr or ""
    for spec in signature.attrs.values():
        entry = message.attr.add(name=spec.name, type=spec.kind)
        if spec.has_default:
            entry.default_value.CopyFrom(attr_value.to_proto(spec.kind, spec.default))
        if spec.minimum is not None:
            entry.has_minimum, entry.minimum = True, spec.minimum
        if spec.allowed is not None:
            kind = "list(type)" if "type" in spec.kind else "list(string)"
            entry.allowed_values.CopyFrom(attr_value.to_proto(kind, list(spec.allowed)))
    return message
