"""The nodes of a Saver: those that save, those that restore, and the SaverDef that names them."""

from __future__ import annotations

import uuid
from typing import Any

from tensorboard.compat.proto import saver_pb2

from headrace.api.control_flow_basic import group, with_dependencies
from headrace.api.framework import name_scope
from headrace.core import device_spec, dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph import default, raw
from headrace.graph.convert import constant_from_value
from headrace.graph.tensor import Tensor
from headrace.train.saveable_object import (
    ReferenceVariableSaveable,
    ResourceVariableSaveable,
    SaveableObject,
    SaveSpec,
    set_cpu0,
    validate_and_slice_inputs,
)

SaverDef = saver_pb2.SaverDef


class BaseSaverBuilder:
    """Makes the nodes; subclasses may make others by overriding `save_op` and `restore_op`."""

    SaveSpec = SaveSpec
    SaveableObject = SaveableObject
    VariableSaveable = ReferenceVariableSaveable
    ResourceVariableSaveable = ResourceVariableSaveable

    def __init__(self, write_version: int = SaverDef.V2) -> None:
        self._write_version = write_version

    # ---- to override

    def save_op(self, filename_tensor: Tensor, saveables: list[SaveableObject]) -> Any:
        """Adds the operation that saves. Raises RuntimeError: a write_version that there is not."""
        specs = [spec for saveable in saveables for spec in saveable.specs]
        names, slices = [s.name for s in specs], [s.slice_spec for s in specs]
        tensors = [s.tensor for s in specs]
        if self._write_version == SaverDef.V1:
            return raw.SaveSlices(filename_tensor, names, slices, tensors, name="save")
        if self._write_version == SaverDef.V2:
            return raw.SaveV2(filename_tensor, names, slices, tensors)
        raise RuntimeError(f"Unexpected write_version: {self._write_version}")

    def restore_op(
        self, filename_tensor: Tensor, saveable: SaveableObject, preferred_shard: int
    ) -> list[Tensor]:
        """Adds the operations that read what one object saved."""
        return [
            raw.RestoreV2(
                filename_tensor,
                [s.name],
                [s.slice_spec],
                dtypes=[dtypes.as_dtype(s.dtype).base_dtype],
            )[0]
            for s in saveable.specs
        ]

    def bulk_restore(
        self,
        filename_tensor: Tensor,
        saveables: list[SaveableObject],
        preferred_shard: int,
        restore_sequentially: bool,
    ) -> list[Tensor]:
        """Adds the operations that read what all objects saved; here one for each, where the object is."""
        found: list[Tensor] = []
        for saveable in saveables:
            device = set_cpu0(saveable.device) if saveable.device else None
            with default.get_default_graph().device(device):
                found += self.restore_op(filename_tensor, saveable, preferred_shard)
        return found

    def sharded_filename(self, filename_tensor: Tensor, shard: int, num_shards: Tensor) -> Tensor:
        """Adds the operation that names a shard."""
        return raw.ShardedFilename(filename_tensor, shard, num_shards)

    # ---- saving

    def _add_save_ops(self, filename_tensor: Tensor, saveables: list[SaveableObject]) -> Tensor:
        return with_dependencies([self.save_op(filename_tensor, saveables)], filename_tensor)

    def _add_sharded_save_ops(self, filename_tensor: Tensor, per_device: list[Any]) -> Tensor:
        if self._write_version == SaverDef.V2:
            return self._add_merged_save_ops(filename_tensor, per_device)
        graph = default.get_default_graph()
        num_shards = constant_from_value(len(per_device), dtypes.int32, "num_shards")
        saves = []
        for shard, (device, saveables) in enumerate(per_device):
            with graph.device(device):
                filename = self.sharded_filename(filename_tensor, shard, num_shards)
                saves.append(self._add_save_ops(filename, saveables))
        with graph.control_dependencies([s.op for s in saves]):
            return raw.ShardedFilespec(filename_tensor, num_shards)

    def _add_merged_save_ops(self, prefix: Tensor, per_device: list[Any]) -> Tensor:
        """Each device writes a checkpoint of its own to a folder of this run; the last step makes them one."""
        graph = default.get_default_graph()
        folder = raw.StringJoin([prefix, f"_temp_{uuid.uuid4().hex}/part"])
        num_shards = constant_from_value(len(per_device), dtypes.int32, "num_shards")
        saves, names, device = [], [], ""
        for shard, (device, saveables) in enumerate(per_device):
            with graph.device(set_cpu0(device)):
                names.append(self.sharded_filename(folder, shard, num_shards))
                saves.append(self._add_save_ops(names[-1], saveables))
        with graph.control_dependencies([s.op for s in saves]), graph.device(set_cpu0(device)):
            merge = raw.MergeV2Checkpoints(names, prefix, delete_old_dirs=True)
            with graph.control_dependencies([merge]):
                return raw.Identity(prefix)

    # ---- restoring

    def _add_restore_ops(
        self,
        filename_tensor: Tensor,
        saveables: list[SaveableObject],
        restore_sequentially: bool,
        reshape: bool,
        preferred_shard: int = -1,
        name: str = "restore_all",
    ) -> Any:
        tensors = iter(
            self.bulk_restore(filename_tensor, saveables, preferred_shard, restore_sequentially)
        )
        assigns = []
        for saveable in saveables:
            shapes = [_target_shape(s.tensor) for s in saveable.specs] if reshape else None
            assigns.append(saveable.restore([next(tensors) for _ in saveable.specs], shapes))
        return group(*assigns, name=name)

    def _add_sharded_restore_ops(
        self,
        filename_tensor: Tensor,
        per_device: list[Any],
        restore_sequentially: bool,
        reshape: bool,
    ) -> Any:
        restores = []
        for shard, (device, saveables) in enumerate(per_device):
            with default.get_default_graph().device(device):
                restores.append(
                    self._add_restore_ops(
                        filename_tensor,
                        saveables,
                        restore_sequentially,
                        reshape,
                        shard,
                        "restore_shard",
                    )
                )
        return group(*restores, name="restore_all")

    # ---- all of it

    def _group_by_device(
        self, saveables: list[SaveableObject]
    ) -> list[tuple[str, list[SaveableObject]]]:
        per_device: dict[str, list[SaveableObject]] = {}
        for saveable in saveables:
            # The device of the tensor that is saved, which for a part of a resource variable is its copy on the CPU.
            devices = {device_spec.canonical_name(spec.tensor.device) for spec in saveable.specs}
            if len(devices) != 1:
                raise ValueError(
                    f"All tensors of a saveable object must be on the same device: {saveable.name}"
                )
            per_device.setdefault(devices.pop(), []).append(saveable)
        return sorted(per_device.items(), key=lambda item: item[0])

    def build(
        self,
        names_to_saveables: Any,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        filename: str | None = "model",
    ) -> Any:
        """Adds the nodes and returns the SaverDef; arguments as of `tf.train.Saver`.

        Raises TypeError: not variables. ValueError: two under one name, or one under two.
        """
        saveables = validate_and_slice_inputs(names_to_saveables)
        with name_scope(name, "save", [s.op for s in saveables]):
            filename_tensor: Any = filename or "model"
            for node in ("filename", "Const"):
                filename_tensor = raw.PlaceholderWithDefault(
                    filename_tensor, shape=TensorShape([]), name=node
                )
            if sharded:
                per_device = self._group_by_device(saveables)
                save = self._add_sharded_save_ops(filename_tensor, per_device)
                restore = self._add_sharded_restore_ops(
                    filename_tensor, per_device, restore_sequentially, reshape
                )
            else:
                save = self._add_save_ops(filename_tensor, saveables)
                restore = self._add_restore_ops(
                    filename_tensor, saveables, restore_sequentially, reshape
                )
        _name_partitioned_variables(default.get_default_graph())
        return SaverDef(
            filename_tensor_name=filename_tensor.name,
            save_tensor_name=save.name,
            restore_op_name=restore.name,
            max_to_keep=max_to_keep or 0,
            sharded=sharded,
            keep_checkpoint_every_n_hours=keep_checkpoint_every_n_hours,
            version=self._write_version,
        )


class BulkSaverBuilder(BaseSaverBuilder):
    """Reads everything with one operation."""

    def bulk_restore(
        self,
        filename_tensor: Tensor,
        saveables: list[SaveableObject],
        preferred_shard: int,
        restore_sequentially: bool,
    ) -> list[Tensor]:
        specs = [spec for saveable in saveables for spec in saveable.specs]
        kinds = [dtypes.as_dtype(s.dtype).base_dtype for s in specs]
        with default.get_default_graph().device("cpu:0"):
            return raw.RestoreV2(
                filename_tensor,
                [s.name for s in specs],
                [s.slice_spec for s in specs],
                dtypes=kinds,
            )


def _target_shape(tensor: Tensor) -> Any:
    return tensor.shape if tensor.shape.is_fully_defined() else raw.Shape(tensor)


def _name_partitioned_variables(graph: Any) -> None:
    """Makes the node of each partitioned variable in a collection: the exported collection names it."""
    for key in graph.get_all_collection_keys():
        for element in graph.get_collection(key):
            if hasattr(element, "_get_variable_list") and element.name not in graph._by_name:
                element.as_tensor()
