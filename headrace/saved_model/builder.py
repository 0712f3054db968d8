"""Writing SavedModels: a directory with the graph, its signatures, its variables and its files."""

from __future__ import annotations

import os
from typing import Any

from google.protobuf import any_pb2, text_format
from tensorboard.compat.proto import meta_graph_pb2

from headrace.api import variables as variable_lists
from headrace.api.export import export
from headrace.api.framework import GraphKeys
from headrace.core import dtypes
from headrace.graph import default
from headrace.graph.constant_value import constant_value
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.io import file_io
from headrace.io.file_io import atomic_write
from headrace.io.protos import SavedModel
from headrace.saved_model.signatures import predict_signature_def
from headrace.train.saver import Saver

_ASSETS = "saved_model_assets"
_MAIN_OP = "saved_model_main_op"
_LEGACY_INIT_OP = "legacy_init_op"


@export(
    "saved_model.Builder",
    "saved_model.builder.SavedModelBuilder",
    "saved_model.experimental.Builder",
)
class SavedModelBuilder:
    """Builds a SavedModel: the variables once, with the first graph, then further graphs with other tags; then `save`.

    export_dir: a directory that does not exist, or is empty. Raises AssertionError: it is not empty.
    """

    def __init__(self, export_dir: str) -> None:
        if file_io.file_exists(export_dir):
            if file_io.list_directory(export_dir):
                raise AssertionError(
                    f"Export directory already exists, and isn't empty. Please choose a different export "
                    f"directory, or delete all "
                    f"the contents of the specified directory: {export_dir}"
                )
        else:
            file_io.recursive_create_dir(export_dir)
        self._export_dir = export_dir
        self._meta_graphs: list[Any] = []
        self._has_saved_variables = False

    def add_meta_graph(
        self,
        tags: Any,
        signature_def_map: Any = None,
        assets_collection: Any = None,
        legacy_init_op: Any = None,
        clear_devices: bool = False,
        main_op: Any = None,
        strip_default_attrs: bool = False,
        saver: Any = None,
    ) -> None:
        """Adds the default graph under `tags`. Raises AssertionError: no variables were saved yet."""
        if not self._has_saved_variables:
            raise AssertionError(
                "Graph state including variables and assets has not been saved yet. Please invoke "
                "`add_meta_graph_and_variables()` first."
            )
        self._validate(signature_def_map)
        self._add_operations(legacy_init_op, main_op)
        assets = self._save_assets(assets_collection)
        saver = saver or Saver(
            variable_lists._all_saveable_objects(), sharded=True, allow_empty=True
        )
        self._add(saver, tags, signature_def_map, clear_devices, strip_default_attrs, assets)

    def add_meta_graph_and_variables(
        self,
        sess: Any,
        tags: Any,
        signature_def_map: Any = None,
        assets_collection: Any = None,
        legacy_init_op: Any = None,
        clear_devices: bool = False,
        main_op: Any = None,
        strip_default_attrs: bool = False,
        saver: Any = None,
    ) -> None:
        """Adds the default graph under `tags` and writes the values that its variables have in `sess`.

        Raises AssertionError: variables were saved already.
        """
        if self._has_saved_variables:
            raise AssertionError(
                "Graph state including variables and assets has already been saved. Please invoke "
                "`add_meta_graph()` instead."
            )
        self._validate(signature_def_map)
        folder = os.path.join(self._export_dir, "variables")
        file_io.recursive_create_dir(folder)
        self._add_operations(legacy_init_op, main_op)
        saver = saver or Saver(
            variable_lists._all_saveable_objects(), sharded=True, allow_empty=True
        )
        saver.save(
            sess, os.path.join(folder, "variables"), write_meta_graph=False, write_state=False
        )
        assets = self._save_assets(assets_collection)
        self._add(saver, tags, signature_def_map, clear_devices, strip_default_attrs, assets)
        self._has_saved_variables = True

    def _add(
        self,
        saver: Any,
        tags: Any,
        signatures: Any,
        clear_devices: bool,
        strip_default_attrs: bool,
        assets: list[Any],
    ) -> None:
        meta_graph = saver.export_meta_graph(
            clear_devices=clear_devices, strip_default_attrs=strip_default_attrs
        )
        meta_graph.meta_info_def.tags.extend(tags)
        for name, signature in (signatures or {}).items():
            meta_graph.signature_def[name].CopyFrom(signature)
        meta_graph.asset_file_def.extend(assets)
        if assets:
            values = meta_graph.collection_def[_ASSETS].any_list.value
            for asset in assets:
                packed = any_pb2.Any()
                packed.type_url = "type.googleapis.com/tensorflow.AssetFileDef"
                packed.value = asset.SerializeToString()
                values.add().CopyFrom(packed)
        self._meta_graphs.append(meta_graph)

    def _add_operations(self, legacy_init_op: Any, main_op: Any) -> None:
        graph = default.get_default_graph()
        if legacy_init_op is not None and main_op is not None:
            raise ValueError("legacy_init_op and main_op cannot both be given")
        for op, key in ((main_op, _MAIN_OP), (legacy_init_op, _LEGACY_INIT_OP)):
            if op is None:
                continue
            if not isinstance(op, Operation):
                raise TypeError(f"main_op needs to be an Operation: {op!r}")
            graph.clear_collection(key)
            graph.add_to_collection(key, op)

    def _save_assets(self, collection: Any) -> list[Any]:
        """Copies the files that constants of a collection name; returns their AssetFileDefs."""
        found: list[Any] = []
        names: dict[str, str] = {}
        for tensor in collection or ():
            value = (
                constant_value(tensor)
                if isinstance(tensor, Tensor) and tensor.dtype == dtypes.string
                else None
            )
            if value is None:
                raise ValueError(f"Asset filepath tensor {tensor} must be a string constant.")
            path = value.item().decode()
            if not path:
                raise ValueError("Asset file path is empty.")
            name = os.path.basename(path)
            number = 0
            while name in names and names[name] != path:
                number += 1
                name = f"{os.path.basename(path)}_{number}"
            names[name] = path
            asset = meta_graph_pb2.AssetFileDef(filename=name)
            asset.tensor_info.name = tensor.name
            found.append(asset)
        if names:
            folder = os.path.join(self._export_dir, "assets")
            file_io.recursive_create_dir(folder)
            for name, path in names.items():
                file_io.copy(path, os.path.join(folder, name), overwrite=True)
        return found

    @staticmethod
    def _validate(signatures: Any) -> None:
        for name, signature in (signatures or {}).items():
            for infos in (signature.inputs, signature.outputs):
                for info in infos.values():
                    if info.WhichOneof("encoding") is None:
                        raise AssertionError(
                            f"All TensorInfo protos used in the SignatureDefs must have one of the "
                            f"'encoding' fields (e.g., name or "
                            f"coo_sparse) set: {info} in {name!r}"
                        )
                    if not info.dtype:
                        raise AssertionError(
                            f"All TensorInfo protos used in the SignatureDefs must have the dtype field "
                            f"set: {info} in {name!r}"
                        )

    def save(self, as_text: bool = False) -> bytes:
        """Writes the graphs to `saved_model.pb` (or `.pbtxt`); returns the path, as bytes."""
        file_io.recursive_create_dir(self._export_dir)
        if as_text:
            path = os.path.join(self._export_dir, "saved_model.pbtxt")
            parts = ["saved_model_schema_version: 1\n"]
            for meta_graph in self._meta_graphs:
                body = "".join(
                    f"  {line}\n" for line in text_format.MessageToString(meta_graph).splitlines()
                )
                parts.append(f"meta_graphs {{\n{body}}}\n")
            data = "".join(parts).encode()
        else:
            path = os.path.join(self._export_dir, "saved_model.pb")
            message = SavedModel(saved_model_schema_version=1)
            message.meta_graphs.extend(m.SerializeToString() for m in self._meta_graphs)
            data = message.SerializeToString()
        atomic_write(path, data)
        return path.encode()


@export("saved_model.simple_save")
def simple_save(
    session: Any, export_dir: str, inputs: Any, outputs: Any, legacy_init_op: Any = None
) -> None:
    """Writes a SavedModel for serving: the session's graph and variables, with one signature of these tensors."""
    builder = SavedModelBuilder(export_dir)
    builder.add_meta_graph_and_variables(
        session,
        tags=["serve"],
        signature_def_map={"serving_default": predict_signature_def(inputs, outputs)},
        assets_collection=default.get_default_graph().get_collection(GraphKeys.ASSET_FILEPATHS),
        main_op=legacy_init_op,
        clear_devices=True,
    )
    builder.save()
