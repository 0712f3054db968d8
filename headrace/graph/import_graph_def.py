"""GraphDef protos into the default graph: `import_graph_def`."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorboard.compat.proto import graph_pb2
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from headrace.core import device_spec, errors
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import TensorShape
from headrace.graph import attr_value, default, function_def, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.func_graph import op_type_named
from headrace.graph.graph import TENSORFLOW_VERSION, VERSION, VERSION_MIN_PRODUCER, Graph
from headrace.graph.op_def import REGISTRY, ArgSpec, Effect, OpDef
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_COLOCATION = "loc:@"
# TensorFlow's names of types in the messages of its importer.
_TYPE_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def import_graph_def(
    graph_def: Any,
    input_map: dict[Any, Any] | None = None,
    return_elements: Sequence[Any] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """Adds the nodes of a GraphDef to the default graph, under the scope `name` ("import" where None).

    input_map: names of tensors of `graph_def` ("a:0", "a", or "^a" for a control input) with the tensors to use
    instead. return_elements: names of operations and tensors of `graph_def` to return. op_dict: not used.
    producer_op_list: the ops (OpList) as the producer of the graph knew them; attrs that are unknown here and have its
    default are dropped.
    Raises TypeError: not a GraphDef, not a dictionary of names, not names. ValueError: the graph is not well-formed, or
    a name is not in it. tf.errors.NotFoundError: an op type that does not exist here.
    """
    graph_def = _as_graph_def(graph_def)
    if input_map is None:
        input_map = {}
    elif not isinstance(input_map, dict) or not all(isinstance(k, (str, bytes)) for k in input_map):
        raise TypeError("input_map must be a dictionary mapping strings to Tensor objects.")
    if return_elements is not None:
        if not all(isinstance(e, (str, bytes)) for e in return_elements):
            raise TypeError("return_elements must be a list of strings.")
        return_elements = [_text(e) for e in return_elements]
        for element in return_elements:
            _parse_element(element)
    dropped = _defaults_of_producer(producer_op_list)
    graph = default.get_default_graph()
    with graph.name_scope("import" if name is None else name) as scope:
        mapped = _converted(graph, name, {_text(k): v for k, v in input_map.items()})
    importer = _Importer(graph, graph_def, scope.removesuffix("/"), mapped, dropped)
    with graph._lock:
        importer.run()
    return None if return_elements is None else [importer.element(e) for e in return_elements]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _as_graph_def(message: Any) -> Any:
    if isinstance(message, graph_pb2.GraphDef):
        return message
    # The same message by another copy of the protos.
    if getattr(getattr(message, "DESCRIPTOR", None), "name", None) != "GraphDef":
        raise TypeError("graph_def must be a GraphDef proto.")
    return graph_pb2.GraphDef.FromString(message.SerializeToString())


def _parse_element(name: str) -> tuple[str, int]:
    """ "a:1" -> ("a", 1), "a" -> ("a", 0). Raises ValueError: neither."""
    op_name, colon, index = name.partition(":")
    if not colon:
        return op_name, 0
    if not index.isdigit():
        raise ValueError(f"Cannot convert {name!r} to a tensor name.")
    return op_name, int(index)


def _defaults_of_producer(op_list: Any) -> dict[tuple[str, str], Any]:
    """(op type, attr) -> default, for attrs that the producer had and we do not know."""
    found = {}
    for op in op_list.op if op_list is not None else ():
        known = REGISTRY.get(op.name)
        for attr in op.attr if known is not None else ():
            if attr.name not in known.signature.attrs and attr.HasField("default_value"):
                found[op.name, attr.name] = attr.default_value
    return found


def _converted(graph: Graph, name: str | None, input_map: dict[str, Any]) -> dict[str, Any]:
    """`input_map` with tensors for values; made inside the scope of the import."""
    if all(
        isinstance(v, Tensor) or (k[0] == "^" and isinstance(v, Operation))
        for k, v in input_map.items()
    ):
        return input_map
    if name == "":
        raise ValueError(
            "tf.import_graph_def() requires a non-empty `name` if `input_map` contains non-Tensor values. Try calling "
            "tf.convert_to_tensor() on `input_map` values before calling tf.import_graph_def()."
        )
    with graph.name_scope("_inputs"):
        return {
            k: v if isinstance(v, Operation) else convert_to_tensor(v) for k, v in input_map.items()
        }


@dataclass(slots=True)
class Unit:
    """A loop or branch of an old GraphDef: its inputs (as NodeDefs have them), and what adds it.

    build(tensors of the inputs, scope of the import) -> tensors of its results.
    """

    inputs: list[str]
    build: Callable[[list[Tensor], str], list[Tensor]]


ConvertControlFlow = Callable[[Any], tuple[list[Any], dict[str, Unit]] | None]
convert_control_flow: ConvertControlFlow | None = None
"""GraphDef -> its nodes without Switch, Merge, Enter, Exit, and the loops and branches that these were; or None.

`api/legacy_control_flow.py` sets it: loops and branches are built with functions of that room.
"""


def import_nodes(
    protos: Sequence[Any], units: dict[str, Unit], known: dict[str, Tensor], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Adds nodes without old control flow, loops and branches to the body under construction.

    known: tensors that these take from elsewhere. Returns the tensors `wanted`; all names are with the output's index.
    """
    graph_def = graph_pb2.GraphDef(node=protos)
    importer = _Importer(default.get_default_graph(), graph_def, "", known, {})
    importer.converted = list(protos), units
    importer.run()
    return {name: importer.element(name) for name in wanted}


@dataclass(slots=True)
class _Node:
    """A NodeDef with its inputs taken apart."""

    proto: Any
    definition: OpDef
    unit: Unit | None = None
    data: list[tuple[str, int, str]] = field(default_factory=list)  # (node, output, as written)
    control: list[tuple[str, str]] = field(default_factory=list)


class _Importer:
    """One import: `made` are the new operations by their names in the GraphDef."""

    def __init__(
        self,
        graph: Graph,
        graph_def: Any,
        prefix: str,
        input_map: dict[str, Any],
        dropped: dict[tuple[str, str], Any],
    ) -> None:
        self._graph, self._graph_def, self._prefix, self._dropped = (
            graph,
            graph_def,
            prefix,
            dropped,
        )
        self._map: dict[tuple[str, int], Tensor] = {}
        self._control_map: dict[str, Operation] = {}
        self._keys: dict[tuple[str, int] | str, str] = {}
        for key, value in input_map.items():
            if key[0] == "^":
                self._control_map[key[1:]] = value if isinstance(value, Operation) else value.op
                self._keys[key[1:]] = key
            else:
                self._map[_parse_element(key)] = value
                self._keys[_parse_element(key)] = key
        self._used: set[Any] = set()
        self._names: dict[str, str] = {}  # name in the GraphDef -> name in the graph
        self.made: dict[str, Operation] = {}
        self._outputs: dict[str, list[Tensor]] = {}  # of these, and of loops and branches
        self._protos: Iterable[Any] = graph_def.node
        self.converted: tuple[list[Any], dict[str, Unit]] | None = None

    def run(self) -> None:
        check_versions(self._graph_def.versions)
        if self._graph_def.HasField("versions"):
            self._merge_versions()
        self._add_library()
        nodes = self._read_nodes()
        order = self._sorted(nodes)
        self._choose_names(order)
        for node in order:
            self._check_colocation(node, nodes)
        for node in order:
            name = node.proto.name
            inputs = self._inputs(node)
            if node.unit is not None:
                self._outputs[name] = node.unit.build(
                    inputs, f"{self._prefix}/" if self._prefix else ""
                )
            else:
                self.made[name] = self._add(node, inputs)
                self._outputs[name] = self.made[name]._outputs
        self._set_devices()
        unused = [
            written
            for key, written in self._keys.items()
            if key not in self._used and not self._exists(key)
        ]
        if unused:
            raise ValueError(
                f"Attempted to map inputs that were not found in graph_def: [{', '.join(unused)}]"
            )

    def element(self, name: str) -> Any:
        """The operation or tensor of this name in the GraphDef."""
        op_name, index = _parse_element(name)
        if ":" not in name:
            if op_name not in self.made:
                raise ValueError(f"Requested return node '{op_name}' not found in graph def")
            return self.made[op_name]
        if (op_name, index) in self._map:
            return self._map[op_name, index]
        op = self.made.get(op_name)
        if op is None:
            raise ValueError(f"Requested return tensor '{op_name}:{index}' not found in graph def")
        if index >= len(op._outputs):
            raise ValueError(
                f"Invalid return output {index} of node '{op_name}', which has {len(op._outputs)} output(s)"
            )
        return op._outputs[index]

    def _exists(self, key: tuple[str, int] | str) -> bool:
        if isinstance(key, str):
            return key in self.made
        op = self.made.get(key[0])
        return op is not None and key[1] < len(op._outputs)

    def _merge_versions(self) -> None:
        versions = self._graph_def.versions
        self._graph._producer = min(self._graph._producer, versions.producer)
        self._graph._min_consumer = max(self._graph._min_consumer, versions.min_consumer)

    def _add_library(self) -> None:
        function_def.add_library(self._graph, self._graph_def.library)

    # ---- reading

    def _read_nodes(self) -> dict[str, _Node]:
        nodes: dict[str, _Node] = {}
        for proto in self._graph_def.node:
            if proto.name in nodes:
                raise ValueError(f"Node '{proto.name}' is not unique")
            nodes[proto.name] = _Node(proto, REGISTRY["NoOp"])
        converted = self.converted
        if converted is None and convert_control_flow is not None:
            converted = convert_control_flow(self._graph_def)
        self._protos, units = converted or (self._graph_def.node, {})
        if converted is not None:
            lost = {proto.name for proto in self._graph_def.node}
            lost.difference_update(proto.name for proto in self._protos)
            self._graph._left_out.update(f"{self._prefix}/{n}" if self._prefix else n for n in lost)
        nodes.clear()
        for name, unit in units.items():
            proto = NodeDef(name=name, op="NoOp", input=unit.inputs)
            nodes[name] = _Node(proto, REGISTRY["NoOp"], unit)
            self._take_apart(nodes[name])
        for proto in self._protos:
            try:
                definition = op_type_named(self._graph, proto.op)
            except LookupError:
                raise errors.NotFoundError(
                    None,
                    None,
                    f"Op type not registered '{proto.op}' in this binary (node '{proto.name}'). Make sure the Op "
                    "and Kernel are registered in the binary running in this process.",
                ) from None
            nodes[proto.name] = _Node(proto, definition)
            self._take_apart(nodes[proto.name])
        for node in nodes.values():
            for source, index, text in node.data:
                if (source, index) not in self._map and source not in nodes:
                    raise ValueError(f"Node '{node.proto.name}': Unknown input node '{text}'")
            for source, text in node.control:
                if source not in self._control_map and source not in nodes:
                    raise ValueError(f"Node '{node.proto.name}': Unknown input node '{text}'")
        return nodes

    @staticmethod
    def _take_apart(node: _Node) -> None:
        for text in node.proto.input:
            if text[0] == "^":
                node.control.append((text[1:], text))
            else:
                source, colon, index = text.rpartition(":")
                if colon and index.isdigit():
                    node.data.append((source, int(index), text))
                else:
                    node.data.append((text, 0, text))

    def _sorted(self, nodes: dict[str, _Node]) -> list[_Node]:
        """The nodes, each after its inputs; otherwise in the order of the GraphDef."""
        waiting: dict[str, int] = {}
        users: dict[str, list[str]] = collections.defaultdict(list)
        for name, node in nodes.items():
            sources = [s for s, i, _ in node.data if (s, i) not in self._map]
            sources += [s for s, _ in node.control if s not in self._control_map]
            waiting[name] = len(sources)
            for source in sources:
                users[source].append(name)
        names = list(nodes)
        number = {name: i for i, name in enumerate(names)}
        ready = [number[name] for name in names if not waiting[name]]
        order = []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(nodes[name])
            for user in users[name]:
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, number[user])
        if len(order) < len(nodes):
            left = [name for name in nodes if waiting[name]]
            kinds = sorted({nodes[name].proto.op for name in left})
            raise ValueError(
                f"{len(left)} nodes in a cycle: {', '.join(left[:5])} ({', '.join(kinds)})"
            )
        return order

    def _choose_names(self, order: Iterable[_Node]) -> None:
        """Names under the scope, with `_1`, `_2`, ... where one is taken by a node or is a scope of nodes."""
        names = [node.proto.name for node in order if node.unit is None]
        taken = set(self._graph._by_name)
        scopes = {scope for name in taken for scope in _scopes_of(name)}
        to_come = frozenset(names) if not self._prefix else frozenset()
        for name in names:
            wanted = new = f"{self._prefix}/{name}" if self._prefix else name
            count = 0
            while new in taken or new in scopes or (count and new in to_come):
                count += 1
                new = f"{wanted}_{count}"
            taken.add(new)
            self._names[name] = new

    def _check_colocation(self, node: _Node, nodes: dict[str, _Node]) -> None:
        for group in node.proto.attr["_class"].list.s if "_class" in node.proto.attr else ():
            text = group.decode()
            if text.startswith(_COLOCATION) and text[len(_COLOCATION) :] not in nodes:
                raise ValueError(
                    f"Node '{node.proto.name}' expects to be colocated with unknown node '{text[len(_COLOCATION) :]}'"
                )

    # ---- adding

    def _inputs(self, node: _Node) -> list[Tensor]:
        """The tensors that the node takes. Raises ValueError: one is not there."""
        inputs = []
        for source, index, _ in node.data:
            mapped = self._map.get((source, index))
            if mapped is not None:
                self._used.add((source, index))
                if mapped.graph is not self._graph and self._graph.building_function:
                    mapped = self._graph.capture(mapped)  # type: ignore[attr-defined]
                inputs.append(mapped)
                continue
            outputs = self._outputs[source]
            if index >= len(outputs):
                raise ValueError(
                    f"Node '{node.proto.name}': Connecting to invalid output {index} of source node {source} which has "
                    f"{len(outputs)} outputs"
                )
            inputs.append(outputs[index])
        return inputs

    def _add(self, node: _Node, inputs: list[Tensor]) -> Operation:
        proto, definition = node.proto, node.definition
        attrs = self._attrs(node)
        control = []
        for source, _ in node.control:
            if source in self._control_map:
                self._used.add(source)
                control.append(self._control_map[source])
            else:
                control.append(self.made[source])
        name = self._names[proto.name]
        self._check_inputs(node, name, inputs, attrs)
        declared = attrs.pop("_output_shapes", None)
        types = raw.output_types(definition.signature, attrs)
        op = self._graph.add_imported(definition, inputs, attrs, types, name, control)
        if declared is not None:
            _merge_declared_shapes(op, declared)
        return op

    def _attrs(self, node: _Node) -> dict[str, Any]:
        proto, definition = node.proto, node.definition
        specs = definition.signature.attrs
        attrs: dict[str, Any] = {}
        given = {k: v for k, v in proto.attr.items() if v.WhichOneof("value") is not None}
        for name, value in given.items():
            if name in specs or name[0] == "_":
                continue
            if (proto.op, name) in self._dropped and self._dropped[proto.op, name] == value:
                continue
            raise ValueError(
                f"NodeDef mentions attr '{name}' not in {_describe(definition)}; NodeDef: {proto.name}. (Check whether "
                "your GraphDef-interpreting binary is up to date with your GraphDef-generating binary.)"
            )
        for name, spec in specs.items():
            if name in given:
                try:
                    attrs[name] = attr_value.check(
                        spec, attr_value.from_proto(given[name]), definition.name
                    )
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"Node '{proto.name}' ({definition.name}), attr '{name}': {error}"
                    ) from None
            elif spec.has_default:
                attrs[name] = raw.default_of(spec)
            else:
                raise ValueError(
                    f"NodeDef missing attr '{name}' from {_describe(definition)}; NodeDef: {proto.name}"
                )
        for name, value in given.items():
            if name[0] == "_":
                attrs[name] = attr_value.from_proto(value)
        if "_class" in attrs:
            attrs["_class"] = [self._colocation(group) for group in attrs["_class"]]
        return attrs

    def _colocation(self, group: str) -> str:
        if not group.startswith(_COLOCATION):
            return group
        return _COLOCATION + self._names[group[len(_COLOCATION) :]]

    def _check_inputs(
        self, node: _Node, name: str, inputs: list[Tensor], attrs: dict[str, Any]
    ) -> None:
        wanted = [
            (kind, argument.is_ref)
            for argument in node.definition.signature.inputs
            for kind in _types_of(argument, attrs)
        ]
        if len(wanted) != len(inputs):
            expected = ", ".join(_type_name(kind, is_ref) for kind, is_ref in wanted)
            raise ValueError(
                f"NodeDef expected inputs '{expected}' do not match {len(inputs)} inputs specified; "
                f"{_describe(node.definition)}; NodeDef: {node.proto.name}"
            )
        for i, (tensor, (kind, is_ref)) in enumerate(zip(inputs, wanted, strict=True)):
            got = tensor._dtype
            if got.base_dtype is not kind.base_dtype or (is_ref and not got.is_ref_dtype):
                passed = _type_name(got.base_dtype, got.is_ref_dtype)
                raise ValueError(
                    f"Input {i} of node {name} was passed {passed} from {tensor.name} "
                    f"incompatible with expected {_type_name(kind, is_ref)}."
                )

    def _set_devices(self) -> None:
        """Device functions apply to what the GraphDef asks for; colocated nodes take the device of their anchor."""
        colocated = []
        for proto in self._protos:
            op = self.made[proto.name]
            anchors = [
                g[len(_COLOCATION) :]
                for g in op._attrs.get("_class", ())
                if g.startswith(_COLOCATION)
            ]
            anchors = [name for name in anchors if name != op._name]
            if anchors:
                colocated.append((op, anchors))
                continue
            if proto.device:
                with self._graph.device(proto.device):
                    self._graph._apply_devices(op)
            elif self._graph._scopes.devices:
                self._graph._apply_devices(op)
        for op, anchors in colocated:
            for anchor in anchors:
                device = self._graph._by_name[anchor]._device
                if device:
                    op._set_device(device_spec.DeviceSpec.from_string(device))
                    break


def check_versions(versions: Any) -> None:
    """Raises ValueError: a graph of these versions (VersionDef) is too old or too new for us."""
    if versions.producer < VERSION_MIN_PRODUCER:
        raise ValueError(
            f"GraphDef producer version {versions.producer} below min producer {VERSION_MIN_PRODUCER} supported by "
            f"TensorFlow {TENSORFLOW_VERSION}.  Please regenerate your graph."
        )
    if versions.min_consumer > VERSION:
        raise ValueError(
            f"GraphDef min consumer version {versions.min_consumer} above current version {VERSION} for TensorFlow "
            f"{TENSORFLOW_VERSION}.  Please upgrade TensorFlow."
        )
    if VERSION in versions.bad_consumers:
        raise ValueError(
            f"GraphDef disallows consumer version {VERSION}.  Please upgrade TensorFlow: this version is likely buggy."
        )


def _scopes_of(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def _types_of(argument: ArgSpec, attrs: dict[str, Any]) -> list[DType]:
    if argument.type_list_attr is not None:
        return attrs[argument.type_list_attr]
    kind: Any = argument.dtype if argument.type_attr is None else attrs[argument.type_attr]
    return [kind] * (attrs[argument.number_attr] if argument.number_attr is not None else 1)


def _type_name(kind: DType, is_ref: bool) -> str:
    return _TYPE_NAMES.get(kind.name, kind.name) + ("_ref" if is_ref else "")


def _describe(definition: OpDef) -> str:
    return (
        f"Op<name={definition.name}; signature={definition.arguments}; attr={definition.attr_text}>"
    )


def _merge_declared_shapes(op: Operation, declared: Sequence[TensorShape]) -> None:
    """Adds what `_output_shapes` says. Raises ValueError: it contradicts what the op's rule finds."""
    for tensor, shape in zip(op._outputs, declared, strict=False):
        if tensor.shape.is_compatible_with(shape):
            tensor.set_shape(shape)
        elif not op._definition.effects & Effect.STATEFUL:
            # Old producers wrote wrong shapes for handles (queues, barriers); nothing else may differ.
            raise ValueError(
                f"Node '{op._name}' ({op.type}): Shapes {tensor.shape} and {shape} are not compatible; its attr "
                "_output_shapes is inconsistent with the GraphDef."
            )
