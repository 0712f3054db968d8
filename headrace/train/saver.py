"""`tf.train.Saver`: checkpoints of a session's variables, the graph beside them, and which ones are kept."""

from __future__ import annotations

import logging
import numbers
import os
import time
from typing import Any

from tensorboard.compat.proto import saver_pb2

from headrace.api.export import export, export_value
from headrace.core import errors
from headrace.graph import default
from headrace.graph import meta_graph as meta_graphs
from headrace.graph.collection_protos import (
    prepend_name_scope,
    register_proto_function,
    strip_name_scope,
)
from headrace.graph.graph import Graph
from headrace.graph.handles import handle_data
from headrace.io import file_io
from headrace.train import checkpoint_management as management
from headrace.train.object_based import object_graph_key_mapping, rekeyed_saveables
from headrace.train.saver_builder import BaseSaverBuilder, BulkSaverBuilder

SaverDef = saver_pb2.SaverDef
export_value(SaverDef, "train.SaverDef")
export_value(meta_graphs.MetaGraphDef, "MetaGraphDef")

_logger = logging.getLogger("tensorflow")
_SECONDS_PER_HOUR = 3600
_NAME_FIELDS = ("filename_tensor_name", "save_tensor_name", "restore_op_name")


def _saveable_objects(scope: str | None = None) -> list[Any]:
    """What a Saver saves unless told otherwise."""
    graph = default.get_default_graph()
    return graph.get_collection("variables", scope) + graph.get_collection(
        "saveable_objects", scope
    )


def get_saver_or_default() -> Saver:
    """The Saver of the default graph's collection SAVERS, made where there is none. Raises RuntimeError: several."""
    graph = default.get_default_graph()
    savers = graph.get_collection("savers")
    if len(savers) > 1:
        raise RuntimeError(
            "More than one item in collection savers. Please indicate which one to use by passing it to the "
            "constructor."
        )
    if savers:
        return savers[0]
    saver = Saver(sharded=True, allow_empty=True)
    graph.add_to_collection("savers", saver)
    return saver


@export("train.Saver")
class Saver:
    """Saves variables to checkpoints and restores them.

    var_list: the variables (or SaveableObjects), a list, or a dictionary by their names in the checkpoint; None: all
    of the graph. reshape: restore what has another shape and as many elements. sharded: each device writes its own
    part. max_to_keep: how many checkpoints stay (None or 0: all). keep_checkpoint_every_n_hours: of those that would
    go, one in so many hours stays for good. name: prefix of the nodes. restore_sequentially: accepted; reading is
    sequential anyway. saver_def: the nodes of an earlier Saver, to use again. builder: makes the nodes. defer_build:
    wait for `build`. allow_empty: a graph without variables is no error. write_version: SaverDef.V1 or V2; either is
    read. pad_step_number: eight digits for the step. save_relative_paths: the state file holds relative paths.
    filename: default of the node that holds the path.
    Raises TypeError, ValueError: variables that cannot be saved, names that are not unique, none at all.
    """

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: Any = None,
        builder: BaseSaverBuilder | None = None,
        defer_build: bool = False,
        allow_empty: bool = False,
        write_version: int = SaverDef.V2,
        pad_step_number: bool = False,
        save_relative_paths: bool = False,
        filename: str | None = None,
    ) -> None:
        if defer_build and var_list:
            raise ValueError(
                "If `var_list` is provided then build cannot be deferred. Set defer_build=False or var_list=None."
            )
        self._var_list = var_list
        self._reshape = reshape
        self._sharded = sharded
        self._max_to_keep = max_to_keep
        self._keep_checkpoint_every_n_hours = keep_checkpoint_every_n_hours
        self._name = name
        self._restore_sequentially = restore_sequentially
        self.saver_def = saver_def
        self._builder = builder
        self._is_built = False
        self._allow_empty = allow_empty
        self._is_empty: bool | None = None
        self._write_version = write_version
        self._pad_step_number = pad_step_number
        self._save_relative_paths = save_relative_paths
        self._filename = filename
        # (path, seconds since 1970), oldest first.
        self._last_checkpoints: list[tuple[str, float]] = []
        self._checkpoints_to_be_deleted: list[tuple[str, float]] = []
        self._object_restore_saver: Saver | None = None
        if not defer_build:
            self.build()
        if self.saver_def is not None:
            self._check_saver_def()
            self._write_version = self.saver_def.version

    def build(self) -> None:
        """Adds the nodes, where the constructor was told not to. Raises ValueError: there are no variables."""
        if self._is_built:
            return
        self._is_built = True
        if self.saver_def is None:
            if self._var_list is None:
                self._var_list = _saveable_objects()
            self._is_empty = not self._var_list
            if self._is_empty:
                if self._allow_empty:
                    return
                raise ValueError("No variables to save")
            builder = self._builder = self._builder or BulkSaverBuilder(self._write_version)
            self.saver_def = builder.build(
                self._var_list,
                reshape=self._reshape,
                sharded=self._sharded,
                max_to_keep=self._max_to_keep,
                keep_checkpoint_every_n_hours=self._keep_checkpoint_every_n_hours,
                name=self._name,
                restore_sequentially=self._restore_sequentially,
                filename=self._filename,
            )
        elif self._name:
            saver_def, self.saver_def = self.saver_def, SaverDef()
            self.saver_def.CopyFrom(saver_def)
            for field in _NAME_FIELDS:
                setattr(
                    self.saver_def,
                    field,
                    prepend_name_scope(getattr(self.saver_def, field), self._name),
                )
        self._check_saver_def()
        self._next_checkpoint_time = (
            time.time() + self.saver_def.keep_checkpoint_every_n_hours * _SECONDS_PER_HOUR
        )

    def _check_saver_def(self) -> None:
        if not isinstance(self.saver_def, SaverDef):
            raise ValueError(f"saver_def must be a saver_pb2.SaverDef: {self.saver_def}")
        for field in _NAME_FIELDS[1:]:
            if not getattr(self.saver_def, field):
                raise ValueError(f"saver_def must specify the {field}: {self.saver_def}")

    # ---- saving

    def save(
        self,
        sess: Any,
        save_path: str | os.PathLike,
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> str | None:
        """Saves the variables of `sess`; returns the prefix of the files, None where there are no variables.

        save_path: the prefix; global_step (a number, a tensor or its name) is added to it as `-7`. latest_filename:
        the state file, "checkpoint" where None. write_meta_graph: write the graph too, to prefix.meta
        (meta_graph_suffix). strip_default_attrs, save_debug_info: see `export_meta_graph`. Whenever the process dies,
        `latest_checkpoint` finds a whole checkpoint: the variables are in place before the graph, the graph before the
        state file names both.
        Raises ValueError: latest_filename has a folder or is the checkpoint itself; the folder does not exist.
        TypeError: not a session. RuntimeError: `build` was not called.
        """
        if not self._is_built:
            raise RuntimeError("`build()` should be called before save if defer_build==True")
        latest_filename = "checkpoint" if latest_filename is None else latest_filename
        if os.path.split(latest_filename)[0]:
            raise ValueError("'latest_filename' must not contain path components")
        save_path = os.fsdecode(save_path)
        if self._write_version != SaverDef.V2:
            _logger.warning(
                "The V1 checkpoint format is deprecated: `Saver(write_version=tf.train.SaverDef.V2)` writes the "
                "newer one."
            )
        prefix = self._prefix(sess, save_path, global_step, latest_filename)
        if not (hasattr(sess, "run") and hasattr(sess, "graph")):
            raise TypeError(f"'sess' must be a Session; {sess}")
        path = None if self._is_empty else self._save_variables(sess, save_path, prefix)
        if write_meta_graph:
            with sess.graph.as_default():
                self.export_meta_graph(
                    management.meta_graph_filename(prefix, meta_graph_suffix),
                    strip_default_attrs=strip_default_attrs,
                    save_debug_info=save_debug_info,
                )
        if path is not None and write_state:
            self._record(path)
            management.write_checkpoint_state(
                os.path.dirname(save_path),
                path,
                self.last_checkpoints,
                latest_filename,
                self._save_relative_paths,
            )
            self._delete_old(meta_graph_suffix)
        return path

    def _prefix(self, sess: Any, save_path: str, global_step: Any, latest_filename: str) -> str:
        if global_step is None:
            if os.path.basename(save_path) == latest_filename and not self._sharded:
                # The state file would take the place of the checkpoint.
                raise ValueError(
                    f"'latest_filename' collides with 'save_path': '{latest_filename}' and '{save_path}'"
                )
            return save_path
        if not isinstance(global_step, numbers.Integral):
            global_step = int(sess.run(global_step))
        return (
            f"{save_path}-{global_step:08d}"
            if self._pad_step_number
            else f"{save_path}-{global_step}"
        )

    def _save_variables(self, sess: Any, save_path: str, prefix: str) -> str:
        try:
            path = sess.run(
                self.saver_def.save_tensor_name, {self.saver_def.filename_tensor_name: prefix}
            )
        except (errors.FailedPreconditionError, errors.NotFoundError) as error:
            folder = os.path.dirname(save_path)
            if folder and not file_io.is_directory(folder):
                raise ValueError(
                    f"Parent directory of {save_path} doesn't exist, can't save."
                ) from error
            raise
        return path.decode() if isinstance(path, bytes) else str(path)

    def _record(self, path: str) -> None:
        """Files `path` as the newest checkpoint."""
        if not self.saver_def.max_to_keep:
            return
        self._last_checkpoints = [entry for entry in self._last_checkpoints if entry[0] != path]
        self._last_checkpoints.append((path, time.time()))
        if len(self._last_checkpoints) > self.saver_def.max_to_keep:
            self._checkpoints_to_be_deleted.append(self._last_checkpoints.pop(0))

    def _delete_old(self, meta_graph_suffix: str) -> None:
        """Deletes the checkpoint that is one too many, unless its time to be kept for good has come."""
        if not self._checkpoints_to_be_deleted:
            return
        path, written = self._checkpoints_to_be_deleted.pop(0)
        if written > self._next_checkpoint_time:
            self._next_checkpoint_time += (
                self.saver_def.keep_checkpoint_every_n_hours * _SECONDS_PER_HOUR
            )
            return
        try:
            management.remove_checkpoint(path, self.saver_def.version, meta_graph_suffix)
        except errors.OpError as error:
            _logger.warning("Ignoring: %s", error)

    # ---- restoring

    def restore(self, sess: Any, save_path: str | os.PathLike | None) -> None:
        """Gives the variables of `sess` the values of a checkpoint; they need not be initialised.

        save_path: what `save` or `latest_checkpoint` returned.
        Raises ValueError: there is no such checkpoint. NotFoundError: it lacks a variable. InvalidArgumentError: a
        variable has another shape or type there. DataLossError: a file is truncated or altered.
        """
        if self._is_empty:
            return
        if save_path is None:
            raise ValueError("Can't load save_path when it is None.")
        prefix = os.fsdecode(save_path)
        if not management.checkpoint_exists(prefix):
            raise ValueError(f"The passed save_path is not a valid checkpoint: {prefix}")
        _logger.info("Restoring parameters from %s", prefix)
        try:
            sess.run(self.saver_def.restore_op_name, {self.saver_def.filename_tensor_name: prefix})
        except errors.NotFoundError as error:
            try:
                names_to_keys = object_graph_key_mapping(prefix)
            except errors.NotFoundError:
                cause = "a Variable name or other graph key that is missing"
                # The new error repeats the text of `error`.
                raise _restore_error(error, prefix, cause) from None
            self._restore_by_objects(sess, prefix, names_to_keys)
        except errors.InvalidArgumentError as error:
            raise _restore_error(
                error, prefix, "a mismatch between the current graph and the graph"
            ) from error

    def _restore_by_objects(self, sess: Any, prefix: str, names_to_keys: dict[str, str]) -> None:
        """Restores a checkpoint of `tf.train.Checkpoint`, which has other keys; needs nodes of its own, made once."""
        with sess.graph.as_default():
            saveables = rekeyed_saveables(names_to_keys, self._var_list or _saveable_objects())
            if self._object_restore_saver is None:
                self._object_restore_saver = Saver(saveables)
        self._object_restore_saver.restore(sess, prefix)

    # ---- which checkpoints there are

    @property
    def last_checkpoints(self) -> list[str]:
        """The prefixes of the checkpoints that are kept, oldest first."""
        return [path for path, _ in self._last_checkpoints]

    def set_last_checkpoints(self, last_checkpoints: list[str]) -> None:
        """Replaces the list of checkpoints that are kept, oldest first; their times are not known."""
        assert isinstance(last_checkpoints, list)
        self._last_checkpoints = [(path, float("inf")) for path in last_checkpoints]

    def set_last_checkpoints_with_time(
        self, last_checkpoints_with_time: list[tuple[str, float]]
    ) -> None:
        """As `set_last_checkpoints`, with pairs of prefix and time in seconds since 1970."""
        assert isinstance(last_checkpoints_with_time, list)
        self._last_checkpoints = last_checkpoints_with_time

    def recover_last_checkpoints(self, checkpoint_paths: list[str]) -> None:
        """Takes over the checkpoints of an earlier process as far as they exist, with their times."""
        found = []
        for path in checkpoint_paths:
            times = management.get_checkpoint_mtimes([path])
            if times:
                found.append((path, times[0]))
        self.set_last_checkpoints_with_time(found)

    # ---- protos

    def as_saver_def(self) -> Any:
        """The SaverDef: which nodes save and restore."""
        return self.saver_def

    def to_proto(self, export_scope: str | None = None) -> Any:
        """The SaverDef with `export_scope` taken off its names; None where they are outside of it."""
        if export_scope is None:
            return self.saver_def
        if not all(
            getattr(self.saver_def, field).startswith(export_scope) for field in _NAME_FIELDS
        ):
            return None
        proto = SaverDef()
        proto.CopyFrom(self.saver_def)
        for field in _NAME_FIELDS:
            setattr(proto, field, strip_name_scope(getattr(proto, field), export_scope))
        return proto

    @staticmethod
    def from_proto(saver_def: Any, import_scope: str | None = None) -> Saver:
        """The Saver for nodes that are in the graph already."""
        return Saver(saver_def=saver_def, name=import_scope)

    def export_meta_graph(
        self,
        filename: str | None = None,
        collection_list: list[str] | None = None,
        as_text: bool = False,
        export_scope: str | None = None,
        clear_devices: bool = False,
        clear_extraneous_savers: bool = False,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> Any:
        """The MetaGraphDef of the default graph with this Saver; arguments as of `tf.train.export_meta_graph`."""
        return export_meta_graph(
            filename=filename,
            graph_def=default.get_default_graph().as_graph_def(add_shapes=True),
            saver_def=self.saver_def,
            collection_list=collection_list,
            as_text=as_text,
            export_scope=export_scope,
            clear_devices=clear_devices,
            clear_extraneous_savers=clear_extraneous_savers,
            strip_default_attrs=strip_default_attrs,
            save_debug_info=save_debug_info,
        )

    @staticmethod
    def _add_collection_def(meta_graph_def: Any, key: Any, export_scope: str | None = None) -> None:
        """Adds a collection of the default graph to a MetaGraphDef."""
        meta_graphs.add_collection_def(meta_graph_def, key, export_scope=export_scope)


def _restore_error(error: errors.OpError, prefix: str, cause: str) -> errors.OpError:
    message = (
        f"Restoring from checkpoint failed. This is most likely due to {cause} from the checkpoint. Please ensure that "
        f"the graph is the one that was saved.\nCheckpoint: {prefix}\n"
    )
    variable = _assigned_variable(error.op)
    if variable is not None:
        message += f"Variable: {variable}\n"
    return type(error)(error.node_def, error.op, f"{message}Original error:\n\n{error.message}")


def _assigned_variable(op: Any) -> str | None:
    """The name of the variable that an operation writes."""
    if op is None or not op.definition.overwrites or not op.inputs:
        return None
    target = op.inputs[0]
    return target.op.name if target.dtype.is_ref_dtype or handle_data(target) is not None else None


register_proto_function(
    "savers", proto_type=SaverDef, to_proto=Saver.to_proto, from_proto=Saver.from_proto
)


@export("train.import_meta_graph")
def import_meta_graph(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    import_scope: str | None = None,
    **kwargs: Any,
) -> Saver | None:
    """Adds a saved graph to the default graph: its nodes and its collections.

    meta_graph_or_file: a MetaGraphDef or the path of a file that holds one. clear_devices: forget where nodes were
    placed. import_scope: prefix of all names. kwargs: `input_map`, `return_elements` and the like, see
    `import_scoped_meta_graph`.
    Returns the Saver that restores its variables, None where it has none. Raises IOError: no such file.
    """
    return _import_meta_graph_with_return_elements(
        meta_graph_or_file, clear_devices, import_scope, **kwargs
    )[0]


def _import_meta_graph_with_return_elements(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    import_scope: str | None = None,
    return_elements: list[str] | None = None,
    **kwargs: Any,
) -> tuple[Saver | None, Any]:
    """As `import_meta_graph`, together with the imported operations and tensors of these names."""
    meta_graph = meta_graph_or_file
    if not isinstance(meta_graph, meta_graphs.MetaGraphDef):
        meta_graph = meta_graphs.read_meta_graph_file(os.fsdecode(meta_graph))
    variables, elements = meta_graphs.import_scoped_meta_graph_with_return_elements(
        meta_graph,
        clear_devices=clear_devices,
        import_scope=import_scope,
        return_elements=return_elements,
        **kwargs,
    )
    if meta_graph.HasField("saver_def"):
        scope = import_scope
        for name, variable in variables.items():
            # The scope may have got a number.
            scope = variable.name[: -len(name)]
            break
        saver_def = SaverDef()
        saver_def.CopyFrom(meta_graph.saver_def)
        return Saver(saver_def=saver_def, name=scope), elements
    if _saveable_objects(import_scope):
        return Saver(), elements
    _logger.info("Saver not created because there are no variables in the graph to restore")
    return None, elements


@export("train.export_meta_graph")
def export_meta_graph(
    filename: str | None = None,
    meta_info_def: Any = None,
    graph_def: Any = None,
    saver_def: Any = None,
    collection_list: list[str] | None = None,
    as_text: bool = False,
    graph: Graph | None = None,
    export_scope: str | None = None,
    clear_devices: bool = False,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
    save_debug_info: bool = False,
    **kwargs: Any,
) -> Any:
    """The MetaGraphDef of a graph: its nodes, its collections, and the Saver of saver_def.

    filename: where to write it too (as_text: as readable text). meta_info_def: what to say about it. graph_def: its
    nodes, those of `graph` (the default graph where None) unless given. collection_list: which collections, all where
    None. export_scope: only this scope, which is taken off the names. clear_devices: forget where nodes were placed.
    clear_extraneous_savers: leave out the nodes of other Savers. strip_default_attrs: leave out attrs that have their
    default value. save_debug_info: write the lines of the program that made the nodes beside it.
    """
    return meta_graphs.export_scoped_meta_graph(
        filename=filename,
        meta_info_def=meta_info_def,
        graph_def=graph_def,
        saver_def=saver_def,
        collection_list=collection_list,
        as_text=as_text,
        graph=graph,
        export_scope=export_scope,
        clear_devices=clear_devices,
        clear_extraneous_savers=clear_extraneous_savers,
        strip_default_attrs=strip_default_attrs,
        save_debug_info=save_debug_info,
        **kwargs,
    )[0]
