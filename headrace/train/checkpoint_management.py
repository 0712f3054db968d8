"""Which checkpoints there are: the state file `checkpoint`, and the files behind a prefix."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import text_format
from tensorboard.compat.proto import saver_pb2

from headrace.api.export import export
from headrace.core import errors
from headrace.io import checkpoint_reader, file_io
from headrace.io.protos import CheckpointState

_logger = logging.getLogger("tensorflow")


def _state_path(save_dir: str, latest_filename: str | None) -> str:
    return os.path.join(save_dir, "checkpoint" if latest_filename is None else latest_filename)


@export("train.generate_checkpoint_state_proto")
def generate_checkpoint_state_proto(
    save_dir: str | os.PathLike,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: list[str] | None = None,
    all_model_checkpoint_timestamps: list[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> Any:
    """The proto of the state file: the newest checkpoint, and all that are kept, oldest first.

    Paths are made relative to save_dir where both are relative. all_model_checkpoint_timestamps: seconds since 1970,
    one for each path. last_preserved_timestamp: when the last checkpoint was written that is kept for good.
    Raises ValueError: timestamps and paths differ in number.
    """
    save_dir = os.fspath(save_dir)
    # TF appends to the caller's list too.
    paths = [] if all_model_checkpoint_paths is None else all_model_checkpoint_paths
    if not paths or paths[-1] != model_checkpoint_path:
        _logger.info(
            "%s is not in all_model_checkpoint_paths. Manually adding it.", model_checkpoint_path
        )
        paths.append(model_checkpoint_path)
    if all_model_checkpoint_timestamps and len(all_model_checkpoint_timestamps) != len(paths):
        raise ValueError(
            f"Checkpoint timestamps, if provided, must match checkpoint paths (got paths {paths} and timestamps "
            f"{all_model_checkpoint_timestamps})"
        )
    if not os.path.isabs(save_dir):
        # A relative path counts from the state file, so that the folder can be moved.
        def relative(path: str) -> str:
            return path if os.path.isabs(path) else os.path.relpath(path, save_dir)

        model_checkpoint_path, paths = relative(model_checkpoint_path), [relative(p) for p in paths]
    return CheckpointState(
        model_checkpoint_path=model_checkpoint_path,
        all_model_checkpoint_paths=paths,
        all_model_checkpoint_timestamps=all_model_checkpoint_timestamps,
        last_preserved_timestamp=last_preserved_timestamp,
    )


@export("train.update_checkpoint_state")
def update_checkpoint_state(
    save_dir: str | os.PathLike,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: list[str] | None = None,
    latest_filename: str | None = None,
    all_model_checkpoint_timestamps: list[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> None:
    """Replaces the state file of `save_dir` in one step; arguments as of `generate_checkpoint_state_proto`.

    latest_filename: its name, "checkpoint" where None. Raises RuntimeError: the checkpoint itself has that path.
    """
    write_checkpoint_state(
        os.fspath(save_dir),
        model_checkpoint_path,
        all_model_checkpoint_paths,
        latest_filename,
        False,
        all_model_checkpoint_timestamps,
        last_preserved_timestamp,
    )


def write_checkpoint_state(
    save_dir: str,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: list[str] | None = None,
    latest_filename: str | None = None,
    save_relative_paths: bool = False,
    all_model_checkpoint_timestamps: list[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> None:
    """As `update_checkpoint_state`; save_relative_paths: absolute paths too are written relative to save_dir."""
    path, shown = _state_path(save_dir, latest_filename), model_checkpoint_path
    if save_relative_paths:

        def relative(checkpoint: str) -> str:
            return (
                os.path.relpath(checkpoint, save_dir) if os.path.isabs(checkpoint) else checkpoint
            )

        model_checkpoint_path = relative(model_checkpoint_path)
        all_model_checkpoint_paths = [relative(p) for p in all_model_checkpoint_paths or ()]
    state = generate_checkpoint_state_proto(
        save_dir,
        model_checkpoint_path,
        all_model_checkpoint_paths,
        all_model_checkpoint_timestamps,
        last_preserved_timestamp,
    )
    if path == state.model_checkpoint_path:
        raise RuntimeError(
            f"Save path '{shown}' conflicts with path used for checkpoint state.  Please use a different save path."
        )
    file_io.atomic_write(path, text_format.MessageToString(state).encode())


@export("train.get_checkpoint_state")
def get_checkpoint_state(
    checkpoint_dir: str | os.PathLike, latest_filename: str | None = None
) -> Any:
    """The CheckpointState in the state file of a folder, with full paths; None where there is none that can be read.

    Raises ValueError: a state file that names no checkpoint.
    """
    checkpoint_dir = os.fsdecode(checkpoint_dir)
    path = _state_path(checkpoint_dir, latest_filename)
    try:
        if not file_io.file_exists(path):
            return None
        state = text_format.Parse(file_io.read_file_to_string(path), CheckpointState())
    except (errors.OpError, text_format.ParseError, UnicodeDecodeError) as error:
        _logger.warning("%s: %s", type(error).__name__, error)
        _logger.warning("%s: Checkpoint ignored", path)
        return None
    if not state.model_checkpoint_path:
        raise ValueError(f"Invalid checkpoint state loaded from {checkpoint_dir}")
    # `join` leaves absolute paths alone.
    state.model_checkpoint_path = os.path.join(checkpoint_dir, state.model_checkpoint_path)
    state.all_model_checkpoint_paths[:] = [
        os.path.join(checkpoint_dir, p) for p in state.all_model_checkpoint_paths
    ]
    return state


@export("train.latest_checkpoint")
def latest_checkpoint(
    checkpoint_dir: str | os.PathLike, latest_filename: str | None = None
) -> str | None:
    """The prefix of the newest checkpoint of a folder, as its state file names it; None where it is not there."""
    state = get_checkpoint_state(checkpoint_dir, latest_filename)
    if state is None:
        return None
    if checkpoint_exists(state.model_checkpoint_path):
        return state.model_checkpoint_path
    _logger.error("Couldn't match files for checkpoint %s", state.model_checkpoint_path)
    return None


@export("train.checkpoint_exists")
def checkpoint_exists(checkpoint_prefix: str | os.PathLike) -> bool:
    """Whether there is a checkpoint of this prefix (which may be a pattern), of either format."""
    return checkpoint_reader.checkpoint_exists(checkpoint_prefix)


@export("train.get_checkpoint_mtimes")
def get_checkpoint_mtimes(checkpoint_prefixes: Iterable[str]) -> list[float]:
    """When the checkpoints were written, in seconds since 1970; those that do not exist are left out."""
    times = []
    for prefix in checkpoint_prefixes:
        for pattern in (f"{prefix}.index", prefix):
            files = _matching(pattern)
            if files:
                times.append(file_io.stat(files[0]).mtime_nsec / 1e9)
                break
    return times


def _matching(pattern: str) -> list[str]:
    try:
        return file_io.get_matching_files(pattern)
    except errors.NotFoundError:
        return []


@export("train.remove_checkpoint")
def remove_checkpoint(
    checkpoint_prefix: str,
    checkpoint_format_version: int = saver_pb2.SaverDef.V2,
    meta_graph_suffix: str = "meta",
) -> None:
    """Deletes the files of a checkpoint, its graph (`.meta`) included."""
    if checkpoint_format_version == saver_pb2.SaverDef.V2:
        # The index first: without it what is left is no checkpoint, rather than a damaged one.
        _delete(f"{checkpoint_prefix}.index")
        _delete(f"{checkpoint_prefix}.data-?????-of-?????")
    else:
        _delete(checkpoint_prefix)
    _delete(meta_graph_filename(checkpoint_prefix, meta_graph_suffix))


def _delete(pattern: str) -> None:
    for path in _matching(pattern):
        file_io.delete_file(path)


def meta_graph_filename(checkpoint_filename: str, meta_graph_suffix: str = "meta") -> str:
    """The path of the graph that belongs to a checkpoint, whose prefix may be that of its shards."""
    basename = re.sub(r"-[\d\?]+-of-\d+$", "", checkpoint_filename)
    return f"{basename}.{meta_graph_suffix}"
