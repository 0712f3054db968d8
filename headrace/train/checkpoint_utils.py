"""Checkpoints by hand: what is in one, single values, and variables that start from one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from headrace.api.export import export, export_value
from headrace.api.variable_base import Variable
from headrace.core import dtypes
from headrace.graph import default, raw
from headrace.io import CheckpointReader, file_io, summary_iterator
from headrace.train.checkpoint_management import latest_checkpoint
from headrace.train.saveable_object import op_list_to_dict, saveable_objects_for_op

export_value(summary_iterator, "train.summary_iterator")

_logger = logging.getLogger("tensorflow")


@export("train.NewCheckpointReader")
def NewCheckpointReader(filepattern: str | os.PathLike) -> CheckpointReader:
    """The tensors of a checkpoint, by name. Raises NotFoundError: there is none. DataLossError: a file is damaged."""
    return CheckpointReader(filepattern)


def _checkpoint_of(ckpt_dir_or_file: str | os.PathLike) -> str | None:
    path = os.fsdecode(ckpt_dir_or_file)
    return latest_checkpoint(path) if file_io.is_directory(path) else path


@export("train.load_checkpoint")
def load_checkpoint(ckpt_dir_or_file: str | os.PathLike) -> CheckpointReader:
    """The tensors of a checkpoint: that of a prefix, or the newest of a folder.

    Raises ValueError: a folder without one.
    """
    path = _checkpoint_of(ckpt_dir_or_file)
    if path is None:
        raise ValueError(
            f"Couldn't find 'checkpoint' file or checkpoints in given directory {ckpt_dir_or_file}"
        )
    return CheckpointReader(path)


@export("train.load_variable")
def load_variable(ckpt_dir_or_file: str | os.PathLike, name: str) -> Any:
    """The value of the variable `name` (with or without ":0") in a checkpoint.

    Raises NotFoundError: no such variable.
    """
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


@export("train.list_variables")
def list_variables(ckpt_dir_or_file: str | os.PathLike) -> list[tuple[str, list[int]]]:
    """The names and shapes of the variables in a checkpoint, in the order of their names."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def wait_for_new_checkpoint(
    checkpoint_dir: str,
    last_checkpoint: str | None = None,
    seconds_to_sleep: float = 1,
    timeout: float | None = None,
) -> str | None:
    """Waits until the newest checkpoint of a folder is not last_checkpoint; None after `timeout` seconds."""
    _logger.info("Waiting for new checkpoint at %s", checkpoint_dir)
    stop = None if timeout is None else time.time() + timeout
    while True:
        path = latest_checkpoint(checkpoint_dir)
        if path is not None and path != last_checkpoint:
            _logger.info("Found new checkpoint at %s", path)
            return path
        if stop is not None and time.time() + seconds_to_sleep > stop:
            return None
        time.sleep(seconds_to_sleep)


@export("train.checkpoints_iterator")
def checkpoints_iterator(
    checkpoint_dir: str,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Yields the newest checkpoint of a folder each time that there is a new one.

    min_interval_secs: at least so much time from one to the next. timeout: seconds to wait for one; then it ends,
    unless timeout_fn says that more will come by returning False.
    """
    path = None
    while True:
        found = wait_for_new_checkpoint(checkpoint_dir, path, timeout=timeout)
        if found is None:
            if timeout_fn is None:
                _logger.info("Timed-out waiting for a checkpoint.")
            if timeout_fn is None or timeout_fn():
                return
            continue
        start, path = time.time(), found
        yield found
        time.sleep(max(0.0, start + min_interval_secs - time.time()))


# ---- initial values from a checkpoint


@export("train.init_from_checkpoint")
def init_from_checkpoint(
    ckpt_dir_or_file: str | os.PathLike, assignment_map: dict[str, Any]
) -> None:
    """Makes the initializers of variables read a checkpoint.

    assignment_map: names in the checkpoint, each with a variable, a list of the slices of one, or the name of one; or
    scopes ("old/": "new/", "/" for no scope), whose variables are found by name.
    Raises ValueError: a tensor that the checkpoint lacks or holds in another shape; a variable that does not exist.
    """
    path = _checkpoint_of(ckpt_dir_or_file)
    stored = load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map()
    variables = _variables_by_name()
    for name, target in sorted(assignment_map.items(), key=lambda item: item[0]):
        found = target if _is_variable_or_list(target) else _find(target, variables)
        if found is None:
            _init_scope(str(path), ckpt_dir_or_file, stored, name, target, variables)
            continue
        if name not in stored:
            raise ValueError(
                f"Tensor {name} is not found in {ckpt_dir_or_file} checkpoint {stored}"
            )
        if isinstance(found, Variable) and not found.shape.is_compatible_with(stored[name]):
            raise ValueError(
                f"Shape of variable {found.name} ({found.shape}) doesn't match with shape of tensor {name} "
                f"({stored[name]}) from checkpoint reader."
            )
        _set_initializers(found, str(path), name)


def _variables_by_name() -> dict[str, Any]:
    from headrace.api.get_variable import get_default_variable_store

    return get_default_variable_store()._vars


def _is_variable_or_list(value: Any) -> bool:
    return isinstance(value, Variable) or (
        isinstance(value, (list, tuple)) and all(isinstance(v, Variable) for v in value)
    )


def _find(name: str, variables: dict[str, Any]) -> Any:
    """The variable of this name, or the list of its slices."""
    if name in variables:
        return variables[name]
    slices = []
    while f"{name}/part_{len(slices)}" in variables:
        slices.append(variables[f"{name}/part_{len(slices)}"])
    return slices or None


def _init_scope(
    path: str,
    shown: Any,
    stored: dict[str, Any],
    source: str,
    target: str,
    variables: dict[str, Any],
) -> None:
    scope = target.rpartition("/")[0]
    if not source.endswith("/"):
        raise ValueError(
            f"Assignment map with scope only name {scope} should map to scope only {source}. Should be "
            "'scope/': 'other_scope/'."
        )
    names = {n.partition("/part_")[0] for n in variables if not scope or n.startswith(f"{scope}/")}
    for name in sorted(names):
        inner = (
            name[len(scope) :] if target == "/" else name[len(scope) + 1 :] if scope else name[1:]
        )
        full = (inner if source == "/" else source + inner).removesuffix("/")
        if full not in stored:
            raise ValueError(
                f"Tensor {full} ({name[len(scope) + 1 :]} in {source}) is not found in {shown} checkpoint"
            )
        _set_initializers(_find(name, variables), path, full)


def _set_initializers(found: Any, path: str, name: str) -> None:
    if isinstance(found, Variable):
        _set_initializer(found, path, name, "")
        return
    names = [v._save_slice_info.full_name for v in found]
    for other in names:
        if other != names[0]:
            raise ValueError(f"Slices must all be from the same tensor: {names[0]} != {other}")
    for variable in found:
        _set_initializer(variable, path, name, variable._save_slice_info.spec)


def _set_initializer(variable: Any, path: str, name: str, slice_spec: str) -> None:
    graph = default.get_default_graph()
    kind = dtypes.as_dtype(variable.dtype).base_dtype
    with graph.device(variable.device), graph.device("/cpu:0"):
        value = raw.RestoreV2(
            path, [name], [slice_spec], dtypes=[kind], name="checkpoint_initializer"
        )[0]
        ((saved_as, target),) = op_list_to_dict([variable]).items()
        (saveable,) = saveable_objects_for_op(target, saved_as)
    assign = saveable.restore([value], None)
    variable._initializer_op = getattr(assign, "op", assign)
    value.set_shape(variable.shape)
    variable._initial_value = value
    _logger.debug("Initialize variable %s from checkpoint %s with %s", variable.name, path, name)
