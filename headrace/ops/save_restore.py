"""Checkpoints as ops: SaveV2 and RestoreV2 with their sharded names, and the ops of the V1 format."""

from __future__ import annotations

import difflib
import os
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph import shapes
from headrace.graph.op_def import Effect, define
from headrace.graph.tensor import Dims
from headrace.io import (
    BundleWriter,
    TensorSliceReader,
    TensorSliceWriter,
    merge_bundles,
    open_checkpoint,
    parse_shape_and_slice,
)
from headrace.ops.files import errors_of

_MOST_NAMES_TO_LIST = 20


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _names(array: np.ndarray) -> list[str]:
    return [_text(name) for name in array.reshape(-1).tolist()]


def _only(op: Any, array: np.ndarray, what: str) -> str:
    if array.size != 1:
        raise op.invalid(f"Input {what} should have a single element, got {array.size} instead.")
    return _text(array.reshape(-1)[0])


def _check_lists(op: Any, names: np.ndarray, slices: np.ndarray) -> None:
    if names.ndim != 1 or slices.ndim != 1:
        raise op.invalid(
            "Input tensor_names and shape_and_slices should be an 1-D tensors, got "
            f"{list(names.shape)} and {list(slices.shape)} instead."
        )
    if names.size != slices.size:
        raise op.invalid(
            f"tensor_names and shape_and_slices have different number of elements: {names.size} vs. {slices.size}"
        )


def _check_count(op: Any, names: np.ndarray, tensors: list[Any]) -> None:
    if names.size != len(tensors):
        raise op.invalid(f"Got {names.size} tensor names but {len(tensors)} tensors.")


def _parse_slice(op: Any, text: str, tensor: np.ndarray) -> tuple[Any, Any]:
    """The full shape and the slice that `text` describes, which has to be of the shape of `tensor`."""
    full_shape, tensor_slice, slice_shape = parse_shape_and_slice(text)
    if slice_shape != tensor.shape:
        raise op.invalid(
            "Slice in shape_and_slice specification does not match the shape of the tensor to save: "
            f"{text}, tensor: {list(tensor.shape)}"
        )
    return full_shape, tensor_slice


# ---- SaveV2

save_v2 = define(
    "SaveV2",
    "prefix: string, tensor_names: string, shape_and_slices: string, tensors: dtypes ->",
    "dtypes: list(type) >= 1",
    effects=Effect.STATEFUL,
    host_only=True,
)


def _vector_of_size(op, dims: Dims, size: int, what: str) -> None:
    (found,) = shapes.with_rank(op, dims, 1, what)
    shapes.merge_size(op, found, size, f"{what} and the number of tensors must be equal")


@save_v2.shape
def _save_v2_shape(op, prefix, tensor_names, shape_and_slices, tensors):
    shapes.with_rank(op, prefix, 0, "prefix")
    _vector_of_size(op, tensor_names, len(tensors), "tensor_names")
    _vector_of_size(op, shape_and_slices, len(tensors), "shape_and_slices")


@save_v2.host
def _save_v2_host(op, prefix, tensor_names, shape_and_slices, tensors):
    _check_lists(op, tensor_names, shape_and_slices)
    _check_count(op, tensor_names, tensors)
    with errors_of(op), BundleWriter(_only(op, prefix, "prefix")) as writer:
        rows = zip(
            _names(tensor_names), _names(shape_and_slices), tensors, op.attr("dtypes"), strict=True
        )
        for name, slice_text, tensor, dtype in rows:
            if slice_text:
                writer.add_slice(name, *_parse_slice(op, slice_text, tensor), tensor, dtype)
            else:
                writer.add(name, tensor, dtype)
    return ()


save_v2.not_differentiable()

# ---- RestoreV2: reads both formats

restore_v2 = define(
    "RestoreV2",
    "prefix: string, tensor_names: string, shape_and_slices: string -> tensors: dtypes",
    "dtypes: list(type) >= 1",
    effects=Effect.STATEFUL,
    host_only=True,
)


def _slice_dims(op, slice_text: bytes | str) -> Dims:
    """The shape of what is restored, known where a slice is given."""
    if not slice_text:
        return None
    try:
        return parse_shape_and_slice(_text(slice_text))[2]
    except errors.OpError as error:
        raise op.error(error.message) from None


@restore_v2.shape
def _restore_v2_shape(op, prefix, tensor_names, shape_and_slices):
    count = len(op.attr("dtypes"))
    shapes.with_rank(op, prefix, 0, "prefix")
    _vector_of_size(op, tensor_names, count, "tensor_names")
    _vector_of_size(op, shape_and_slices, count, "shape_and_slices")
    slices = op.static(2)
    return [None] * count if slices is None else [_slice_dims(op, text) for text in slices.tolist()]


@restore_v2.host
def _restore_v2_host(op, prefix, tensor_names, shape_and_slices):
    wanted = op.attr("dtypes")
    if tensor_names.size != len(wanted):
        raise op.invalid(
            f"Got {tensor_names.size} tensor names, but {len(wanted)} expected dtypes."
        )
    _check_lists(op, tensor_names, shape_and_slices)
    path, names = _only(op, prefix, "prefix"), _names(tensor_names)
    with errors_of(op), open_checkpoint(path) as reader:
        _check_contents(op, reader, path, names, wanted)
        restored: dict[int, np.ndarray] = {}
        slices = _names(shape_and_slices)
        # In the order of the file.
        for i in sorted(range(len(names)), key=names.__getitem__):
            restored[i] = _read(op, reader, path, names[i], slices[i])
    return [restored[i] for i in range(len(names))]


restore_v2.not_differentiable()


def _check_contents(op: Any, reader: Any, path: str, names: list[str], wanted: list[Any]) -> None:
    """Raises NotFoundError: names that the checkpoint lacks. InvalidArgumentError: it holds them in another type."""
    missing = [name for name in names if not reader.contains(name)]
    if missing:
        raise errors.NotFoundError(
            None, op, _missing_message(op, path, missing, names, reader.keys())
        )
    different = []
    for name, dtype in zip(names, wanted, strict=True):
        stored = reader.dtype_and_shape(name)[0]
        if stored.base_dtype != dtype.base_dtype:
            different.append(
                f"tensor_name = {name}; expected dtype {dtype.name} does not equal original dtype {stored.name}"
            )
    if different:
        raise op.invalid("\n".join(different) + f" (checkpoint {path})")


def _missing_message(
    op: Any, path: str, missing: list[str], names: list[str], stored: list[str]
) -> str:
    lines = [f"{op.type} op {op.name!r}: Key {missing[0]} not found in checkpoint {path}"]
    if len(missing) > 1:
        lines.append(f"  missing: {_list_names(missing)}")
    unused = sorted(set(stored) - set(names))
    lines.append(f"  in the checkpoint and not asked for: {_list_names(unused)}")
    for name in missing[:3]:
        close = difflib.get_close_matches(name, stored, n=3)
        if close:
            lines.append(f"  nearest to {name}: {', '.join(close)}")
    return "\n".join(lines)


def _list_names(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES_TO_LIST]) or "nothing"
    rest = len(names) - _MOST_NAMES_TO_LIST
    return f"{shown} and {rest} more" if rest > 0 else shown


def _read(op: Any, reader: Any, path: str, name: str, slice_text: str) -> np.ndarray:
    if not slice_text:
        return reader.read(name)
    full_shape, tensor_slice, _ = parse_shape_and_slice(slice_text)
    stored = reader.dtype_and_shape(name)[1]
    if tuple(stored) != full_shape:
        raise op.invalid(
            f"tensor_name = {name}; shape in shape_and_slice spec {list(full_shape)} does not match the shape stored "
            f"in checkpoint: {list(stored)} (checkpoint {path})"
        )
    return reader.read_slice(name, tensor_slice)


# ---- MergeV2Checkpoints

merge_v2_checkpoints = define(
    "MergeV2Checkpoints",
    "checkpoint_prefixes: string, destination_prefix: string ->",
    "delete_old_dirs: bool = true",
    effects=Effect.STATEFUL,
    host_only=True,
)


@merge_v2_checkpoints.shape
def _merge_v2_checkpoints_shape(op, checkpoint_prefixes, destination_prefix):
    shapes.with_rank(op, checkpoint_prefixes, 1, "checkpoint_prefixes")
    shapes.with_rank(op, destination_prefix, 0, "destination_prefix")


@merge_v2_checkpoints.host
def _merge_v2_checkpoints_host(op, checkpoint_prefixes, destination_prefix):
    with errors_of(op):
        merge_bundles(
            _names(checkpoint_prefixes),
            _only(op, destination_prefix, "prefix"),
            op.attr("delete_old_dirs"),
        )
    return ()


merge_v2_checkpoints.not_differentiable()

# ---- ShardedFilename, ShardedFilespec

sharded_filename = define(
    "ShardedFilename",
    "basename: string, shard: int32, num_shards: int32 -> filename: string",
    host_only=True,
)


@sharded_filename.shape
def _sharded_filename_shape(op, basename, shard, num_shards):
    for dims, what in ((basename, "basename"), (shard, "shard"), (num_shards, "num_shards")):
        shapes.with_rank(op, dims, 0, what)
    return ()


@sharded_filename.host
def _sharded_filename_host(op, basename, shard, num_shards):
    return np.array(
        basename.item() + b"-%05d-of-%05d" % (shard.item(), num_shards.item()), dtype=object
    )


sharded_filename.not_differentiable()

sharded_filespec = define(
    "ShardedFilespec", "basename: string, num_shards: int32 -> filename: string", host_only=True
)


@sharded_filespec.shape
def _sharded_filespec_shape(op, basename, num_shards):
    shapes.with_rank(op, basename, 0, "basename")
    shapes.with_rank(op, num_shards, 0, "num_shards")
    return ()


@sharded_filespec.host
def _sharded_filespec_host(op, basename, num_shards):
    return np.array(basename.item() + b"-?????-of-%05d" % num_shards.item(), dtype=object)


sharded_filespec.not_differentiable()

# ---- Save, SaveSlices: the V1 format

save = define(
    "Save",
    "filename: string, tensor_names: string, data: T ->",
    "T: list(type) >= 1",
    effects=Effect.STATEFUL,
    host_only=True,
)


@save.shape
def _save_shape(op, filename, tensor_names, data):
    shapes.with_rank(op, filename, 0, "filename")
    _vector_of_size(op, tensor_names, len(data), "tensor_names")


@save.host
def _save_host(op, filename, tensor_names, data):
    slices = np.full(tensor_names.shape, b"", dtype=object)
    return _save_slices_host(op, filename, tensor_names, slices, data)


save.not_differentiable()

save_slices = define(
    "SaveSlices",
    "filename: string, tensor_names: string, shapes_and_slices: string, data: T ->",
    "T: list(type) >= 1",
    effects=Effect.STATEFUL,
    host_only=True,
)


@save_slices.shape
def _save_slices_shape(op, filename, tensor_names, shapes_and_slices, data):
    _save_shape(op, filename, tensor_names, data)
    _vector_of_size(op, shapes_and_slices, len(data), "shapes_and_slices")


@save_slices.host
def _save_slices_host(op, filename, tensor_names, shapes_and_slices, data):
    _check_lists(op, tensor_names, shapes_and_slices)
    _check_count(op, tensor_names, data)
    path = _only(op, filename, "filename")
    rows = zip(_names(tensor_names), _names(shapes_and_slices), data, op.attr("T"), strict=True)
    with errors_of(op):
        writer = TensorSliceWriter(path)
        for name, slice_text, tensor, dtype in sorted(rows, key=lambda row: row[0]):
            full_shape, tensor_slice = (
                _parse_slice(op, slice_text, tensor) if slice_text else (None, None)
            )
            writer.add(name, tensor, full_shape, tensor_slice, dtype)
        writer.finish()
    return ()


save_slices.not_differentiable()

# ---- Restore, RestoreSlice: the V1 format

restore = define(
    "Restore",
    "file_pattern: string, tensor_name: string -> tensor: dt",
    "dt: type, preferred_shard: int = -1",
    effects=Effect.STATEFUL,
    host_only=True,
)


@restore.shape
def _restore_shape(op, file_pattern, tensor_name):
    shapes.with_rank(op, file_pattern, 0, "file_pattern")
    shapes.with_rank(op, tensor_name, 0, "tensor_name")
    return None


@restore.host
def _restore_host(op, file_pattern, tensor_name):
    return _restore_slice_host(op, file_pattern, tensor_name, np.array(b"", dtype=object))


restore.not_differentiable()

restore_slice = define(
    "RestoreSlice",
    "file_pattern: string, tensor_name: string, shape_and_slice: string -> tensor: dt",
    "dt: type, preferred_shard: int = -1",
    effects=Effect.STATEFUL,
    host_only=True,
)


@restore_slice.shape
def _restore_slice_shape(op, file_pattern, tensor_name, shape_and_slice):
    _restore_shape(op, file_pattern, tensor_name)
    shapes.with_rank(op, shape_and_slice, 0, "shape_and_slice")
    text = op.static(2)
    return None if text is None else _slice_dims(op, text.item())


@restore_slice.host
def _restore_slice_host(op, file_pattern, tensor_name, shape_and_slice):
    path, name = _only(op, file_pattern, "file_pattern"), _only(op, tensor_name, "tensor_name")
    slice_text = _only(op, shape_and_slice, "shape_and_slice")
    with errors_of(op), TensorSliceReader(os.fsencode(path)) as reader:
        _check_contents(op, reader, path, [name], [op.attr("dt")])
        return _read(op, reader, path, name, slice_text)


restore_slice.not_differentiable()
