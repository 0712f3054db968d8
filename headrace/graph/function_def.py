"""Functions of the library as FunctionDef protos, and back."""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import function_pb2

from headrace.core import dtypes
from headrace.graph import attr_value, raw
from headrace.graph.func_graph import FuncGraph, GraphFunction
from headrace.graph.graph import Graph
from headrace.graph.graph_def import node_to_proto
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

# ---- to the proto


def _argument_name(name: str, taken: set[str]) -> str:
    """A name that the proto allows for an argument: lower case, letters, digits and "_"."""
    base = (
        "".join(c if c.isalnum() else "_" for c in name.rpartition("/")[2].lower()).strip("_")
        or "arg"
    )
    if not base[0].isalpha():
        base = f"arg_{base}"
    unique, number = base, 0
    while unique in taken:
        number += 1
        unique = f"{base}_{number}"
    taken.add(unique)
    return unique


def _output_reference(tensor: Tensor) -> str:
    """An output as the nodes of a function name it: `node:argument:index`."""
    op = tensor._op
    at = tensor._index
    for argument in op._definition.signature.outputs:
        count = 1
        if argument.number_attr is not None:
            count = op._attrs[argument.number_attr]
        elif argument.type_list_attr is not None:
            count = len(op._attrs[argument.type_list_attr])
        if at < count:
            return f"{op._name}:{argument.name}:{at}"
        at -= count
    raise AssertionError(f"{op.type} has no output {tensor._index}")


def to_function_def(function: GraphFunction) -> Any:
    """The FunctionDef of a function."""
    graph = function.graph
    message = function_pb2.FunctionDef()
    message.signature.name = function.name
    taken: set[str] = set()
    names: dict[Tensor, str] = {}
    for tensor in graph.inputs:
        name = names[tensor] = _argument_name(tensor._op._name, taken)
        message.signature.input_arg.add(name=name, type=tensor._dtype.base_dtype.as_datatype_enum)
    inputs = set(graph.inputs)
    for op in graph._operations:
        if op._outputs and op._outputs[0] in inputs:
            continue
        node = node_to_proto(op, message.node_def.add())
        del node.input[:]
        node.input.extend(names.get(t) or _output_reference(t) for t in op._inputs)
        node.input.extend(
            f"^{c._name}"
            for c in op._control_inputs
            if not (c._outputs and c._outputs[0] in inputs)
        )
    results: set[str] = set()
    for i, tensor in enumerate(graph.outputs):
        name = _argument_name(f"{names.get(tensor) or tensor._op._name}_out{i}", results)
        message.signature.output_arg.add(name=name, type=tensor._dtype.base_dtype.as_datatype_enum)
        message.ret[name] = names.get(tensor) or _output_reference(tensor)
    for op in graph.control_outputs:
        message.control_ret[op._name] = op._name
        message.signature.control_output.append(op._name)
    return message


# ---- from the proto


def add_library(graph: Graph, library: Any) -> None:
    """Adds the functions of a FunctionDefLibrary to the library of `graph`; their bodies are built when they are used."""
    gradients = {entry.function_name: entry.gradient_func for entry in library.gradient}
    for definition in library.function:
        name = definition.signature.name
        if name not in graph._functions:
            graph._functions[name] = ImportedFunction(graph, definition, gradients.get(name, ""))


class ImportedFunction(GraphFunction):
    """A function that came with a GraphDef. Raises ValueError where its body is asked for and cannot be built."""

    def __init__(self, graph: Graph, definition: Any, grad_func_name: str) -> None:
        self.name = definition.signature.name
        self.grad_func_name = grad_func_name
        self.plans = {}
        self._outer, self._definition = graph, definition
        self._body: FuncGraph | None = None

    @property
    def graph(self) -> FuncGraph:  # type: ignore[override]
        """The body."""
        if self._body is None:
            self._body = _Import(self._outer, self._definition).graph
        return self._body

    @property
    def definition(self) -> Any:
        """The FunctionDef as it came, or as gradients have changed it since."""
        return self._definition if self._body is None else to_function_def(self)


class _Import:
    """The body of one FunctionDef, built node by node as their inputs come to exist."""

    def __init__(self, graph: Graph, definition: Any) -> None:
        self.graph = FuncGraph(definition.signature.name, graph)
        self.graph._scopes.name = ""
        self.graph._names_in_use = {}
        self.name = definition.signature.name
        self._values: dict[str, Tensor] = {}
        self._ops: dict[str, Operation] = {}
        with self.graph.as_default():
            for argument in definition.signature.input_arg:
                kind = dtypes.as_dtype(argument.type)
                self._values[argument.name] = self.graph.add_input(kind, None, argument.name)
            self._add_nodes(definition)
        outputs = definition.signature.output_arg
        self.graph.outputs = [self._tensor(definition.ret[a.name]) for a in outputs]
        self.graph.control_outputs = [self._ops[n] for n in definition.control_ret.values()]

    def _add_nodes(self, definition: Any) -> None:
        waiting = list(definition.node_def)
        while waiting:
            later = []
            for node in waiting:
                if all(self._exists(i) for i in node.input):
                    self._add(node)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                raise ValueError(
                    f"function {self.name!r}: inputs of {later[0].name!r} do not exist: {list(later[0].input)}"
                )
            waiting = later

    def _exists(self, reference: str) -> bool:
        if reference.startswith("^"):
            return reference[1:] in self._ops or reference[1:] in self._values
        return reference.partition(":")[0] in self._ops or reference in self._values

    def _add(self, node: Any) -> None:
        try:
            kind = lookup(node.op)
        except LookupError as error:
            raise ValueError(f"function {self.name!r}, node {node.name!r}: {error}") from None
        inputs = [self._tensor(i) for i in node.input if not i.startswith("^")]
        control = [self._ops[i[1:]] for i in node.input if i.startswith("^") and i[1:] in self._ops]
        attrs = {k: attr_value.from_proto(v) for k, v in node.attr.items()}
        with self.graph.control_dependencies(control), self.graph.device(node.device or None):
            self._ops[node.name] = raw.build_from_parts(self.graph, kind, inputs, attrs, node.name)

    def _tensor(self, reference: str) -> Tensor:
        """The tensor that an input of a node names. Raises ValueError: there is none."""
        found = self._values.get(reference)
        if found is not None:
            return found
        name, _, rest = reference.partition(":")
        argument_name, _, index = rest.partition(":")
        op = self._ops.get(name)
        if op is None:
            raise ValueError(f"function {self.name!r}: {reference!r} does not exist")
        if not argument_name or argument_name.isdigit():
            return op._outputs[int(argument_name or 0)]
        at = 0
        for argument in op._definition.signature.outputs:
            count = 1
            if argument.number_attr is not None:
                count = op._attrs[argument.number_attr]
            elif argument.type_list_attr is not None:
                count = len(op._attrs[argument.type_list_attr])
            if argument.name == argument_name:
                return op._outputs[at + int(index or 0)]
            at += count
        raise ValueError(
            f"function {self.name!r}: {op.type} op {name!r} has no output {argument_name!r}"
        )
