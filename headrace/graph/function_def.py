"""Functions of the library as FunctionDef protos, and back."""

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import function_pb2, graph_pb2

from headrace.core import dtypes
from headrace.graph import attr_value, raw
from headrace.graph.func_graph import (
    FuncGraph,
    GraphFunction,
    new_function,
    op_type_named,
    unique_function_name,
    with_lasting_effects,
)
from headrace.graph.graph import Graph
from headrace.graph.graph_def import node_to_proto
from headrace.graph.op_def import REGISTRY
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
        count = argument.count(op._attrs)
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
        if i < len(function.output_names):
            name = function.output_names[i]
        else:
            name = _argument_name(f"{names.get(tensor) or tensor._op._name}_out{i}", results)
        message.signature.output_arg.add(name=name, type=tensor._dtype.base_dtype.as_datatype_enum)
        message.ret[name] = names.get(tensor) or _output_reference(tensor)
    for op in graph.control_outputs:
        message.control_ret[op._name] = op._name
        message.signature.control_output.append(op._name)
    message.signature.description = function.description
    message.signature.is_stateful = any(op._definition.is_stateful for op in graph._operations)
    for name, value in function.attrs.items():
        message.attr[name].CopyFrom(value)
    return message


# ---- from the proto

# The names of second outputs of nodes of old control flow (Switch, Merge, TensorArrayV3, TensorArrayConcatV3).
_SECOND_OUTPUTS = frozenset(("output_true", "value_index", "flow", "lengths"))


def add_library(graph: Graph, library: Any) -> None:
    """Adds the functions of a FunctionDefLibrary to the library of `graph`; their bodies are built when they are used."""
    gradients = {entry.function_name: entry.gradient_func for entry in library.gradient}
    for definition in library.function:
        name = definition.signature.name
        if name not in graph._functions:
            graph._functions[name] = ImportedFunction(graph, definition, gradients.get(name))


class ImportedFunction(GraphFunction):
    """A function that came with a GraphDef. Raises ValueError where its body is asked for and cannot be built."""

    def __init__(self, graph: Graph, definition: Any, grad_func_name: str | None) -> None:
        self.name = definition.signature.name
        self.grad_func_name = grad_func_name
        self.plans = {}
        self.attrs = dict(definition.attr)
        self.output_names = [a.name for a in definition.signature.output_arg]
        self.description = definition.signature.description
        self.gradient = None
        self._outer, self._definition = graph, definition
        self._body: FuncGraph | None = None
        self._first = (0, 0)  # the state of the body when it was built

    @property
    def graph(self) -> FuncGraph:  # type: ignore[override]
        """The body."""
        if self._body is None:
            self._body = _Import(self._outer, self._definition).graph
            self._first = (self._body.version, self._body._mutations)
        return self._body

    @property
    def definition(self) -> Any:
        """The FunctionDef as it came, or as gradients have changed it since."""
        body = self._body
        if body is None or (body.version, body._mutations) == self._first:
            return self._definition
        return to_function_def(self)


def copy_of(function: GraphFunction) -> FuncGraph:
    """The body of `function` built a second time, with copies of the functions of its branches and loops.

    Asking for a gradient gives branches and loops more outputs: those of the copy may change, those of `function` not.
    """
    body = function.graph
    return _Import(body.outer_graph, to_function_def(function), body._functions).graph


def _copy_in_library(function: GraphFunction) -> attr_value.FunctionRef:
    body = copy_of(function)
    body.name = unique_function_name(body, function.name)
    return new_function(body)


class _Import:
    """The body of one FunctionDef, built node by node as their inputs come to exist."""

    def __init__(
        self, graph: Graph, definition: Any, copied: dict[str, GraphFunction] | None = None
    ) -> None:
        self._copied = copied  # the library whose functions branches and loops get copies of
        self.graph = FuncGraph(definition.signature.name, graph)
        self.graph._scopes.name = ""
        self.graph._names_in_use = {}
        self.name = definition.signature.name
        self._values: dict[str, Tensor] = {}
        self._ops: dict[str, Operation] = {}
        outputs = definition.signature.output_arg
        with self.graph.as_default():
            for argument in definition.signature.input_arg:
                kind = dtypes.as_dtype(argument.type)
                self._values[argument.name] = self.graph.add_input(kind, None, argument.name)
            if all(self._runs_in_functions(node.op) for node in definition.node_def):
                self._add_nodes(definition)
                self.graph.outputs = [self._tensor(definition.ret[a.name]) for a in outputs]
            else:
                self.graph.outputs = self._add_old_nodes(definition)
        named = [self._ops[n] for n in definition.control_ret.values()]
        self.graph.control_outputs = [*dict.fromkeys((*named, *with_lasting_effects(self.graph)))]

    def _is_known(self, op_type: str) -> bool:
        return op_type in REGISTRY or op_type in self.graph._functions

    def _runs_in_functions(self, op_type: str) -> bool:
        """Whether nodes of this type can be in a body as they are: Switch, Merge and those of loops run in graphs only."""
        return self._is_known(op_type) and not op_type_named(self.graph, op_type).flow

    def _add_old_nodes(self, definition: Any) -> list[Tensor]:
        """Adds the nodes of a body with branches and loops of the older kind, by way of a GraphDef; returns the outputs."""
        from headrace.graph.import_graph_def import import_graph_def

        nodes = {node.name: node for node in definition.node_def}
        graph_def = graph_pb2.GraphDef()
        for argument in definition.signature.input_arg:
            node = graph_def.node.add(name=argument.name, op="Placeholder")
            node.attr["dtype"].type = argument.type
        for node in definition.node_def:
            copy = graph_def.node.add()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(self._numbered(i, nodes) for i in node.input)
        results = [
            self._numbered(definition.ret[a.name], nodes) for a in definition.signature.output_arg
        ]
        mapped = {f"{name}:0": tensor for name, tensor in self._values.items()}
        wanted = [r if ":" in r else f"{r}:0" for r in results]
        found = import_graph_def(graph_def, mapped, [*wanted, *definition.control_ret.values()], "")
        assert found is not None
        self._ops = dict(zip(definition.control_ret.values(), found[len(wanted) :], strict=True))
        return found[: len(wanted)]

    def _numbered(self, reference: str, nodes: dict[str, Any]) -> str:
        """`node:argument:index` with the number of the output of the node, as a GraphDef has it."""
        name, colon, rest = reference.partition(":")
        if not colon:
            return reference
        argument_name, _, index = rest.partition(":")
        node = nodes[name]
        if not self._is_known(node.op):
            second = argument_name in _SECOND_OUTPUTS
            return f"{name}:{int(second) + int(index or 0)}"
        at = 0
        for argument in op_type_named(self.graph, node.op).signature.outputs:
            if argument.name == argument_name:
                return f"{name}:{at + int(index or 0)}"
            if argument.number_attr is not None:
                at += node.attr[argument.number_attr].i
            elif argument.type_list_attr is not None:
                at += len(node.attr[argument.type_list_attr].list.type)
            else:
                at += 1
        raise ValueError(f"function {self.name!r}: {node.op} has no output {argument_name!r}")

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
            kind = op_type_named(self.graph, node.op)
        except LookupError as error:
            raise ValueError(f"function {self.name!r}, node {node.name!r}: {error}") from None
        inputs = [self._tensor(i) for i in node.input if not i.startswith("^")]
        control = [self._ops[i[1:]] for i in node.input if i.startswith("^") and i[1:] in self._ops]
        attrs = {k: attr_value.from_proto(v) for k, v in node.attr.items()}
        if self._copied is not None and kind.derived_rule is None:
            for attr in kind.function_attrs:
                reference = attrs.get(attr)
                if isinstance(reference, attr_value.FunctionRef):
                    attrs[attr] = _copy_in_library(self._copied[reference.name])
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
            if argument.name == argument_name:
                return op._outputs[at + int(index or 0)]
            at += argument.count(op._attrs)
        raise ValueError(
            f"function {self.name!r}: {op.type} op {name!r} has no output {argument_name!r}"
        )
