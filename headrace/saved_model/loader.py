"""Reading SavedModels into a session."""

from __future__ import annotations

import os
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import meta_graph_pb2

from headrace.api.export import export
from headrace.core import errors
from headrace.io import file_io
from headrace.io.protos import SavedModel
from headrace.train.saver import _import_meta_graph_with_return_elements


@export(
    "saved_model.maybe_saved_model_directory",
    "saved_model.loader.maybe_saved_model_directory",
    "saved_model.contains_saved_model",
)
def maybe_saved_model_directory(export_dir: str) -> bool:
    """Whether the directory holds a `saved_model.pb` or `saved_model.pbtxt`."""
    return any(
        file_io.file_exists(os.path.join(export_dir, name))
        for name in ("saved_model.pb", "saved_model.pbtxt")
    )


def parse_saved_model(export_dir: str) -> list[Any]:
    """The MetaGraphDefs of a SavedModel. Raises IOError: there is none, or it does not parse."""
    path = os.path.join(export_dir, "saved_model.pb")
    if file_io.file_exists(path):
        message = SavedModel()
        try:
            message.ParseFromString(file_io.read_file_to_string(path, binary_mode=True))
            return [meta_graph_pb2.MetaGraphDef.FromString(data) for data in message.meta_graphs]
        except DecodeError as error:
            raise OSError(f"Cannot parse file {path}: {error}.") from None
    path = os.path.join(export_dir, "saved_model.pbtxt")
    if file_io.file_exists(path):
        try:
            return _parse_text(file_io.read_file_to_string(path))
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise OSError(f"Cannot parse file {path}: {error}.") from None
    raise OSError(
        f"SavedModel file does not exist at: {export_dir}/{{saved_model.pbtxt|saved_model.pb}}"
    )


def _parse_text(text: str) -> list[Any]:
    """The MetaGraphDefs of the text form: its blocks `meta_graphs { ... }`."""
    found = []
    depth = 0
    block: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if depth == 0:
            if stripped.startswith("meta_graphs"):
                depth, block = 1, []
            continue
        outside = _outside_strings(stripped)
        depth += outside.count("{") - outside.count("}")
        if depth == 0:
            found.append(
                text_format.Parse(
                    "\n".join(block), meta_graph_pb2.MetaGraphDef(), allow_unknown_field=True
                )
            )
        else:
            block.append(line)
    return found


def _outside_strings(line: str) -> str:
    out, quoted, escaped = [], False, False
    for c in line:
        if quoted:
            if escaped:
                escaped = False
            elif c == "\\":
                escaped = True
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        else:
            out.append(c)
    return "".join(out)


@export("saved_model.load", "saved_model.loader.load")
def load(
    sess: Any, tags: Any, export_dir: str, import_scope: str | None = None, **saver_kwargs: Any
) -> Any:
    """Adds the graph with exactly these `tags` to the session's graph, restores its variables and runs its main operation.

    Returns its MetaGraphDef. Raises RuntimeError: there is no graph with these tags. IOError: no SavedModel.
    """
    meta_graphs = parse_saved_model(export_dir)
    wanted = {tags} if isinstance(tags, str) else set(tags)
    meta_graph = next((m for m in meta_graphs if set(m.meta_info_def.tags) == wanted), None)
    if meta_graph is None:
        known = [sorted(m.meta_info_def.tags) for m in meta_graphs]
        raise RuntimeError(
            f"MetaGraphDef associated with tags {sorted(wanted)} could not be found in SavedModel at "
            f"{export_dir}; it has {known}."
        )
    with sess.graph.as_default():
        saver, _ = _import_meta_graph_with_return_elements(
            meta_graph, import_scope=import_scope, **saver_kwargs
        )
        if saver is not None:
            saver.restore(sess, os.path.join(export_dir, "variables", "variables"))
        elif file_io.file_exists(os.path.join(export_dir, "variables", "variables.index")) and any(
            key in meta_graph.collection_def for key in ("variables", "trainable_variables")
        ):
            raise errors.FailedPreconditionError(
                None, None, f"{export_dir}: the graph has variables but no Saver"
            )
        feeds = _asset_feeds(meta_graph, export_dir, import_scope)
        main = _main_op(meta_graph, import_scope, sess.graph)
        if main is not None:
            sess.run(main, feeds)
    return meta_graph


def _asset_feeds(meta_graph: Any, export_dir: str, import_scope: str | None) -> dict[str, str]:
    feeds = {}
    for asset in meta_graph.asset_file_def:
        name = asset.tensor_info.name
        name = f"{import_scope}/{name}" if import_scope else name
        feeds[name] = os.path.join(export_dir, "assets", asset.filename)
    return feeds


def _main_op(meta_graph: Any, import_scope: str | None, graph: Any) -> Any:
    signature = (
        meta_graph.signature_def.get("__saved_model_init_op")
        if "__saved_model_init_op" in meta_graph.signature_def
        else None
    )
    if signature is not None:
        name = signature.outputs["__saved_model_init_op"].name
        return graph.as_graph_element(f"{import_scope}/{name}" if import_scope else name)
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta_graph.collection_def:
            nodes = meta_graph.collection_def[key].node_list.value
            if len(nodes) != 1:
                raise RuntimeError(
                    f"Expected exactly one op in collection {key}, found {len(nodes)}: {list(nodes)}"
                )
            name = nodes[0]
            return graph.as_graph_element(f"{import_scope}/{name}" if import_scope else name)
    return None


@export("saved_model.main_op_with_restore", "saved_model.main_op.main_op_with_restore")
def main_op_with_restore(restore_op_name: str) -> Any:
    """An operation that initialises variables and tables, and runs a restore operation after that."""
    from headrace.api.control_flow_basic import group
    from headrace.graph import default

    main = main_op()
    with default.get_default_graph().control_dependencies([main]):
        return group(default.get_default_graph().get_operation_by_name(restore_op_name))


@export("saved_model.main_op.main_op")
def main_op() -> Any:
    """An operation that initialises the variables and tables of the default graph."""
    from headrace.api.control_flow_basic import group
    from headrace.api.framework import GraphKeys
    from headrace.api.variables import global_variables_initializer, local_variables_initializer
    from headrace.graph import default

    tables = default.get_default_graph().get_collection(GraphKeys.TABLE_INITIALIZERS)
    return group(global_variables_initializer(), local_variables_initializer(), *tables)
