"""Graphs with everything around them as a proto, MetaGraphDef: nodes, collections, and how to restore variables."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import (
    graph_debug_info_pb2,
    graph_pb2,
    meta_graph_pb2,
    op_def_pb2,
    saver_pb2,
)

from headrace.core import tensor_proto
from headrace.graph import collection_protos, default
from headrace.graph import graph_def as graph_protos
from headrace.graph.collection_protos import prepend_name_scope, strip_name_scope
from headrace.graph.graph import Graph
from headrace.graph.op_def import REGISTRY
from headrace.io import file_io

MetaGraphDef = meta_graph_pb2.MetaGraphDef
# The release whose files these are; readers decide by it what an older file lacks.
TENSORFLOW_VERSION = "1.15.5"
UNBOUND_INPUTS = "unbound_inputs"

_UNBOUND_PREFIX = "$unbound_inputs_"
_OPS_WITHOUT_DEFINITION = frozenset({"_Arg", "_Retval", "_ListToArray", "_ArrayToList"})
_SAVER_OPS = frozenset(
    "Save SaveSlice SaveSlices SaveV2 LegacySave LegacySaveSlice Restore RestoreSlice RestoreV2 LegacyRestore "
    "LegacyRestoreSlice".split()
)
_VARIABLE_COLLECTIONS = frozenset(
    "variables local_variables metric_variables model_variables trainable_variables moving_average_variables "
    "concatenated_variables trainable_resource_variables".split()
)
# What TensorFlow notes of loops and branches made of single nodes; importing makes functions of them.
_CONTEXTS = frozenset({"cond_context", "while_context"})
_logger = logging.getLogger("tensorflow")

# ---- which op types a graph uses


@functools.cache
def _op_def_proto(op_type: str) -> Any:
    return graph_protos.op_def_to_proto(REGISTRY[op_type])


def ops_used_by_graph_def(graph_def: Any) -> set[str]:
    """The op types of the nodes, those inside functions of the library included, the functions themselves left out."""
    functions = {f.signature.name: f for f in graph_def.library.function}
    used: set[str] = set()
    pending = [graph_def.node]
    while pending:
        for node in pending.pop():
            if node.op not in used and node.op in functions:
                pending.append(functions[node.op].node_def)
            used.add(node.op)
    return used - functions.keys()


def stripped_op_list_for_graph(graph_def: Any) -> Any:
    """An OpList with the signatures of the op types in use. Raises ValueError: one is not registered."""
    used = ops_used_by_graph_def(graph_def) - _OPS_WITHOUT_DEFINITION
    for name in sorted(used):
        if name not in REGISTRY:
            raise ValueError(f"Op {name} is used by the graph, but is not registered")
    return op_def_pb2.OpList(op=[_op_def_proto(name) for name in sorted(used)])


def _equal_values(first: Any, second: Any) -> bool:
    if first == second:
        return True
    if first.WhichOneof("value") != "tensor" or second.WhichOneof("value") != "tensor":
        return False
    a, b = tensor_proto.make_ndarray(first.tensor), tensor_proto.make_ndarray(second.tensor)
    return first.tensor.dtype == second.tensor.dtype and a.shape == b.shape and bool((a == b).all())


def strip_graph_default_valued_attrs(meta_graph: Any) -> None:
    """Takes away the attrs that have the value that their op type gives them anyway, and says so in the proto."""
    library = meta_graph.graph_def.library.function
    functions = {f.signature.name for f in library}
    for nodes in (meta_graph.graph_def.node, *(f.node_def for f in library)):
        for node in nodes:
            if node.op in functions or node.op not in REGISTRY:
                continue
            for attr in _op_def_proto(node.op).attr:
                if (
                    attr.HasField("default_value")
                    and attr.name in node.attr
                    and _equal_values(node.attr[attr.name], attr.default_value)
                ):
                    del node.attr[attr.name]
    meta_graph.meta_info_def.stripped_default_attrs = True


# ---- collections


def _kind_of(item: Any) -> str:
    if isinstance(item, (str, bytes)):
        return "bytes_list"
    if isinstance(item, int):
        return "int64_list"
    if isinstance(item, float):
        return "float_list"
    from google.protobuf.any_pb2 import Any as AnyProto

    return "any_list" if isinstance(item, AnyProto) else "node_list"


def _is_included(name: Any, export_scope: str | None, exclude: Iterable[str]) -> bool:
    if not isinstance(name, str):
        name = getattr(name, "name", None)
        if name is None:
            return True
    if name in exclude or name.partition(":")[0] in exclude:
        return False
    return name.startswith(_UNBOUND_PREFIX) or not export_scope or name.startswith(export_scope)


def add_collection_def(
    meta_graph: Any,
    key: Any,
    graph: Graph | None = None,
    export_scope: str | None = None,
    exclude_nodes: Iterable[str] = (),
    override_contents: list[Any] | None = None,
) -> None:
    """Adds the collection `key` to the proto; one that has no form as a proto is left out, with a warning."""
    if not isinstance(key, (str, bytes)):
        _logger.warning(
            "Only collections with string type keys will be serialized. This key has %s", type(key)
        )
        return
    graph = graph or default.get_default_graph()
    items = override_contents or graph.get_collection(key)
    items = [item for item in items if _is_included(item, export_scope, exclude_nodes or ())]
    if not items:
        return
    try:
        _fill_collection(meta_graph.collection_def[key], key, items, export_scope)
    except Exception as error:  # Whatever a program puts into a collection must not keep its graph from being saved.
        _logger.warning(
            "Issue encountered when serializing %s.\nType is unsupported, or the types of the items don't match field "
            "type in CollectionDef. Note this is a warning and probably safe to ignore.\n%s",
            key,
            error,
        )
        meta_graph.collection_def.pop(key, None)


def _fill_collection(proto: Any, key: Any, items: list[Any], export_scope: str | None) -> None:
    to_proto = collection_protos.get_to_proto_function(key)
    if to_proto is not None:
        for item in items:
            member = to_proto(item, export_scope=export_scope)
            if member is not None:
                proto.bytes_list.value.append(member.SerializeToString())
        return
    kind = _kind_of(items[0])
    values = getattr(proto, kind).value
    if kind == "node_list":
        names = [item.name for item in items]
        values.extend(
            strip_name_scope(n, export_scope) for n in names if n.startswith(export_scope or "")
        )
    elif kind == "bytes_list":
        values.extend(item if isinstance(item, bytes) else item.encode() for item in items)
    else:
        values.extend(items)


# ---- export


def create_meta_graph_def(
    meta_info_def: Any = None,
    graph_def: Any = None,
    saver_def: Any = None,
    collection_list: Iterable[Any] | None = None,
    graph: Graph | None = None,
    export_scope: str | None = None,
    exclude_nodes: Iterable[str] | None = None,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
) -> Any:
    """The MetaGraphDef of `graph`, with `graph_def` in place of its nodes where one is given.

    Raises TypeError: an argument of another type. ValueError: a node of a type that is not registered.
    """
    for value, kind, what in (
        (graph, Graph, "graph"),
        (meta_info_def, MetaGraphDef.MetaInfoDef, "meta_info_def"),
        (graph_def, graph_pb2.GraphDef, "graph_def"),
        (saver_def, saver_pb2.SaverDef, "saver_def"),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{what} must be of type {kind.__name__}, not {type(value)}")
    graph = graph or default.get_default_graph()
    meta_graph = MetaGraphDef()
    info = meta_graph.meta_info_def
    if meta_info_def is not None:
        info.CopyFrom(meta_info_def)
    info.tensorflow_version = TENSORFLOW_VERSION
    info.tensorflow_git_version = f"v{TENSORFLOW_VERSION}"
    meta_graph.graph_def.CopyFrom(
        graph.as_graph_def(add_shapes=True) if graph_def is None else graph_def
    )
    if not info.stripped_op_list.op:
        info.stripped_op_list.CopyFrom(stripped_op_list_for_graph(meta_graph.graph_def))
    if strip_default_attrs:
        strip_graph_default_valued_attrs(meta_graph)
    if saver_def is not None:
        meta_graph.saver_def.CopyFrom(saver_def)
    keys = graph.get_all_collection_keys() if collection_list is None else collection_list
    for key in keys:
        only_saver = None
        if clear_extraneous_savers and key == "savers":
            only_saver = [collection_protos.get_from_proto_function(key)(saver_def)]  # type: ignore[misc]
        add_collection_def(meta_graph, key, graph, export_scope, exclude_nodes or (), only_saver)
    return meta_graph


def _scoped_node(
    node: Any, export_scope: str | None, unbound: list[str], clear_devices: bool
) -> Any:
    """A copy of a NodeDef without `export_scope`; inputs from outside it get a name that importers have to map."""
    copy = type(node)()
    copy.CopyFrom(node)
    for i, name in enumerate(node.input):
        if export_scope and not name.lstrip("^").startswith(export_scope):
            mark, bare = ("^", name[1:]) if name.startswith("^") else ("", name)
            copy.input[i] = f"{mark}{_UNBOUND_PREFIX}{bare}"
            unbound.append(copy.input[i])
        else:
            copy.input[i] = strip_name_scope(name, export_scope)
    copy.name = strip_name_scope(node.name, export_scope)
    if "_class" in node.attr:
        groups = [s.decode() for s in node.attr["_class"].list.s]
        inside = [
            g for g in groups if not export_scope or g.partition("@")[2].startswith(export_scope)
        ]
        copy.attr["_class"].list.s[:] = [strip_name_scope(g, export_scope).encode() for g in inside]
    if node.op in ("Enter", "RefEnter") and "frame_name" in node.attr:
        frame = node.attr["frame_name"].s.decode()
        copy.attr["frame_name"].s = strip_name_scope(frame, export_scope).encode()
    if clear_devices:
        copy.device = ""
    return copy


def _scope_of(name: str) -> str:
    return name.lstrip("^").partition(":")[0].rpartition("/")[0]


def _extraneous_saver_nodes(graph_def: Any, saver_def: Any) -> set[str]:
    """The nodes of savers other than that of `saver_def`; each saver has a name scope of its own."""
    saver_nodes = {node.name for node in graph_def.node if node.op in _SAVER_OPS}
    scopes = {_scope_of(name) for name in saver_nodes} - saver_nodes
    if saver_def is not None:
        scopes -= {_scope_of(saver_def.save_tensor_name), _scope_of(saver_def.restore_op_name)}
    prefixes = tuple(f"{scope}/" for scope in scopes)
    return {node.name for node in graph_def.node if prefixes and node.name.startswith(prefixes)}


def _rewritten(
    graph: Graph,
    graph_def: Any,
    export_scope: str | None,
    exclude: set[str],
    clear_devices: bool,
    unbound_inputs_col_name: str | None,
) -> Any:
    source = graph.as_graph_def(add_shapes=True) if graph_def is None else graph_def
    result = graph_pb2.GraphDef(versions=source.versions, library=source.library)
    unbound: list[str] = []
    for node in source.node:
        if _is_included(node.name, export_scope, exclude):
            result.node.append(_scoped_node(node, export_scope, unbound, clear_devices))
    if unbound_inputs_col_name:
        graph._collections.pop(unbound_inputs_col_name, None)
        for name in unbound:
            graph.get_collection_ref(unbound_inputs_col_name).append(name)
    return result


def export_scoped_meta_graph(
    filename: str | None = None,
    graph_def: Any = None,
    graph: Graph | None = None,
    export_scope: str | None = None,
    as_text: bool = False,
    unbound_inputs_col_name: str | None = UNBOUND_INPUTS,
    clear_devices: bool = False,
    saver_def: Any = None,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
    save_debug_info: bool = False,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """The MetaGraphDef of a graph or of one of its scopes, and the variables in it by their name inside the scope.

    filename: where to write it too. export_scope: taken off all names. unbound_inputs_col_name: the collection that
    gets the names of inputs from outside the scope. save_debug_info: also write the lines that made the nodes
    (`.debug`).
    Raises TypeError, ValueError: see `create_meta_graph_def`.
    """
    graph = graph or default.get_default_graph()
    exclude: set[str] = set()
    if clear_extraneous_savers:
        exclude = _extraneous_saver_nodes(graph_def or graph.as_graph_def(), saver_def)
    if export_scope or clear_extraneous_savers or clear_devices:
        graph_def = _rewritten(
            graph, graph_def, export_scope, exclude, clear_devices, unbound_inputs_col_name
        )
    variables = {
        strip_name_scope(v.name, export_scope): v
        for v in graph.get_collection("variables", scope=export_scope)
        if _is_included(v, export_scope, exclude)
    }
    meta_graph = create_meta_graph_def(
        graph_def=graph_def,
        graph=graph,
        export_scope=export_scope,
        exclude_nodes=exclude,
        clear_extraneous_savers=clear_extraneous_savers,
        saver_def=saver_def,
        strip_default_attrs=strip_default_attrs,
        **kwargs,
    )
    if filename:
        write_proto(meta_graph, filename, as_text)
        if save_debug_info:
            _write_debug_info(
                graph, meta_graph, export_scope, os.path.splitext(filename)[0] + ".debug", as_text
            )
    return meta_graph, variables


def write_proto(message: Any, path: str, as_text: bool = False) -> None:
    """Writes a proto so that nobody ever sees a part of it; makes its directory where there is none."""
    if os.path.dirname(path):
        file_io.recursive_create_dir(os.path.dirname(path))
    content = (
        text_format.MessageToString(message).encode() if as_text else message.SerializeToString()
    )
    file_io.atomic_write(path, content)


def _write_debug_info(
    graph: Graph, meta_graph: Any, export_scope: str | None, path: str, as_text: bool
) -> None:
    info = graph_debug_info_pb2.GraphDebugInfo()
    files: dict[str, int] = {}
    for node in meta_graph.graph_def.node:
        op = graph.get_operation_by_name(prepend_name_scope(node.name, export_scope))
        trace = info.traces[f"{op.name}@"]
        for frame in op.traceback:
            file, line, function, text = tuple(frame)[:4]
            trace.file_line_cols.add(
                file_index=files.setdefault(file, len(files)),
                line=line or 0,
                func=function or "",
                code=text or "",
            )
    info.files.extend(files)
    write_proto(info, path, as_text)


# ---- import


def read_meta_graph_file(filename: str) -> Any:
    """The MetaGraphDef in a file, binary or text. Raises IOError: there is no such file, or it holds something else."""
    if not file_io.file_exists(filename):
        raise OSError(f"File {filename} does not exist.")
    content = file_io.read_file_to_string(filename, binary_mode=True)
    try:
        return MetaGraphDef.FromString(content)
    except DecodeError:
        pass
    try:
        return text_format.Parse(content.decode("utf-8"), MetaGraphDef())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise OSError(f"Cannot parse file {filename}: {error}.") from None


def _check_unbound(
    meta_graph: Any, input_map: dict[str, Any] | None, collection: str | None
) -> None:
    if not collection or collection not in meta_graph.collection_def:
        return
    proto = meta_graph.collection_def[collection]
    kind = proto.WhichOneof("kind")
    names = (
        [n if isinstance(n, str) else n.decode() for n in getattr(proto, kind).value]
        if kind
        else []
    )
    if names and (not input_map or sorted(names) != sorted(input_map)):
        missing = ",".join(n for n in names if not input_map or n not in input_map)
        raise ValueError(
            f"Graph contains unbound inputs: {missing}. Must provide these inputs through input_map."
        )


def import_scoped_meta_graph_with_return_elements(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    graph: Graph | None = None,
    import_scope: str | None = None,
    input_map: dict[str, Any] | None = None,
    unbound_inputs_col_name: str | None = UNBOUND_INPUTS,
    restore_collections_predicate: Callable[[str], bool] = lambda key: True,
    return_elements: list[str] | None = None,
) -> tuple[dict[str, Any], Any]:
    """Adds the nodes and the collections of a MetaGraphDef to `graph`.

    input_map: tensors to use in place of those of these names in the proto. restore_collections_predicate: which
    collections to restore. Returns the imported variables by their name without import_scope, and the elements asked
    for.
    Raises ValueError: inputs from outside the exported scope that input_map does not name. IOError: no such file.
    """
    from headrace.graph.import_graph_def import import_graph_def

    meta_graph = meta_graph_or_file
    if not isinstance(meta_graph, MetaGraphDef):
        meta_graph = read_meta_graph_file(meta_graph)
    _check_unbound(meta_graph, input_map, unbound_inputs_col_name)
    graph = graph or default.get_default_graph()
    with graph.as_default():
        graph_def = meta_graph.graph_def
        if clear_devices:
            for node in graph_def.node:
                node.device = ""
        info = meta_graph.meta_info_def
        scope = graph.unique_name(import_scope or "", mark_as_used=False)
        elements = import_graph_def(
            graph_def,
            name=import_scope or scope,
            input_map=input_map,
            producer_op_list=info.stripped_op_list if info.HasField("stripped_op_list") else None,
            return_elements=return_elements,
        )
        _restore_collections(
            graph, meta_graph, scope, unbound_inputs_col_name, restore_collections_predicate
        )
    variables = {
        strip_name_scope(v.name, scope): v
        for v in graph.get_collection("variables", scope=re.escape(scope) or None)
    }
    return variables, elements


def import_scoped_meta_graph(meta_graph_or_file: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """As `import_scoped_meta_graph_with_return_elements`, without the elements."""
    return import_scoped_meta_graph_with_return_elements(meta_graph_or_file, *args, **kwargs)[0]


def _restore_collections(
    graph: Graph, meta_graph: Any, scope: str, unbound: str | None, wanted: Callable[[str], bool]
) -> None:
    # A variable that is in several collections is one object in all of them.
    variables: dict[bytes, Any] = {}
    says_trainable = _version(meta_graph.meta_info_def.tensorflow_version) >= (1, 9)
    keys = sorted(meta_graph.collection_def, key=lambda key: (key != "trainable_variables", key))
    for key in keys:
        if key == unbound or key in _CONTEXTS or not wanted(key):
            continue
        proto = meta_graph.collection_def[key]
        kind = proto.WhichOneof("kind")
        if kind is None:
            _logger.error("Cannot identify data type for collection %s. Skipping.", key)
            continue
        values = getattr(proto, kind).value
        registered = "variables" if key == "metric_variables" else key
        from_proto = collection_protos.get_from_proto_function(registered)
        if from_proto is not None and kind == "bytes_list":
            proto_type = collection_protos.get_collection_proto_type(registered)
            for value in values:
                if key in _VARIABLE_COLLECTIONS and value in variables:
                    graph.add_to_collection(key, variables[value])
                    continue
                member_proto = proto_type.FromString(value)
                if key in _VARIABLE_COLLECTIONS and not says_trainable:
                    member_proto.trainable = key == "trainable_variables"
                member = variables[value] = from_proto(member_proto, import_scope=scope)
                graph.add_to_collection(key, member)
        elif kind == "node_list":
            for value in values:
                name = prepend_name_scope(value, scope)
                # What lies inside an old loop or branch has no name any more (the import warns of the rest).
                if name.partition(":")[0] not in graph._left_out:
                    graph.add_to_collection(key, graph.as_graph_element(name))
        elif kind == "bytes_list":
            for value in values:
                graph.add_to_collection(
                    key, prepend_name_scope(value.decode(), scope) if scope else value
                )
        else:
            for value in values:
                graph.add_to_collection(key, int(value) if kind == "int64_list" else value)


def _version(text: str) -> tuple[int, ...]:
    # A file that does not say its version is of our own making.
    numbers = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, numbers.groups())) if numbers else (1, 15)


def copy_scoped_meta_graph(
    from_scope: str, to_scope: str, from_graph: Graph | None = None, to_graph: Graph | None = None
) -> dict[str, Any]:
    """Copies a scope of one graph to another scope or graph; returns the new variables by their name in the scope.

    Raises ValueError: the same scope of the same graph.
    """
    from_graph = from_graph or default.get_default_graph()
    to_graph = to_graph or default.get_default_graph()
    if from_graph is to_graph and from_scope == to_scope:
        raise ValueError(
            "'from_scope' and 'to_scope' need to be different when performing copy in the same graph."
        )
    meta_graph, _ = export_scoped_meta_graph(export_scope=from_scope, graph=from_graph)
    return import_scoped_meta_graph(meta_graph, graph=to_graph, import_scope=to_scope)
