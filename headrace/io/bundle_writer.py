"""Writing and merging V2 checkpoints; format and order of steps are described in `tensor_bundle`."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from headrace.core import dtypes, errors
from headrace.core.dtypes import DType
from headrace.io import protos
from headrace.io.bundle_format import (
    CHUNK,
    FORMAT_VERSION,
    HEADER_KEY,
    bytes_of,
    data_filename,
    dims_of,
    index_filename,
    length_for_checksum,
    read_index,
    show_key,
)
from headrace.io.checksum import crc32c, mask
from headrace.io.coding import encode_varint
from headrace.io.local_files import (
    AtomicFile,
    directory_lock,
    fsync_directory,
    local_path,
    os_errors_as_op_errors,
)
from headrace.io.table import Table, TableWriter
from headrace.io.tensor_slice import TensorSlice

_MIN_CONSUMER = 0


class BundleWriter:
    """Writes a checkpoint with one data file.

    As a context manager it finishes when the block ends, and leaves no trace when it raises.
    """

    def __init__(self, prefix: str | bytes | os.PathLike):
        """Starts the data file; makes the directory of `prefix` where only that is missing."""
        self._prefix = local_path(prefix)
        directory = os.path.dirname(self._prefix)
        if directory and not os.path.isdir(directory):
            with os_errors_as_op_errors(directory), contextlib.suppress(FileExistsError):
                os.mkdir(directory)
        self._entries: dict[bytes, object] = {}
        self._size = 0
        self._data = AtomicFile(data_filename(self._prefix, 0, 1))
        self._is_open = True

    def add(self, name: str, array: np.ndarray, dtype: DType | None = None) -> None:
        """Appends a tensor.

        array: any shape.  dtype: what to store it as, where the array's own type does not say
        (strings are arrays of objects, bytes or str).
        Raises InvalidArgumentError: a name given twice.  UnimplementedError: resources, variants.
        """
        self._add(_checked_name(name), np.asarray(array), dtype)

    def add_slice(
        self,
        name: str,
        full_shape: Sequence[int],
        slice_spec: TensorSlice | Iterable[tuple[int, int | None]],
        array: np.ndarray,
        dtype: DType | None = None,
    ) -> None:
        """Appends a slice of the tensor `name` of `full_shape`.

        slice_spec: (start, length) for each dimension; a length of None or -1 means all.
        Raises InvalidArgumentError: the array is not of the slice's shape, or type and shape
        contradict an earlier slice.  InternalError: the slice does not fit the shape.
        """
        key = _checked_name(name)
        array = np.asarray(array)
        shape = tuple(int(size) for size in full_shape)
        tensor_slice = TensorSlice.of(slice_spec)
        slice_shape = tensor_slice.shape_within(shape)
        if slice_shape != array.shape:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Slice {tensor_slice} of tensor '{name}' of shape {list(shape)} needs an array "
                f"of shape {list(slice_shape)}, got {list(array.shape)}.",
            )
        if slice_shape == shape:
            # TensorFlow stores a slice that is all of its tensor as the plain tensor.
            self._add(key, array, dtype)
            return
        data_type = _storable_dtype(name, array, dtype)
        entry = self._entries.get(key)
        if entry is None:
            entry = protos.BundleEntryProto(dtype=data_type.as_datatype_enum)
            _set_shape(entry, shape)
            self._entries[key] = entry
        elif (
            not entry.slices
            or entry.dtype != data_type.as_datatype_enum
            or dims_of(entry) != list(shape)
        ):
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Slice {tensor_slice} of tensor '{name}' ({data_type.name}, {list(shape)}) "
                "contradicts what was added under the same name.",
            )
        self._add(tensor_slice.key(name), array, dtype)
        entry.slices.append(tensor_slice.to_proto())

    def _add(self, key: bytes, array: np.ndarray, dtype: DType | None) -> None:
        if not self._is_open:
            raise errors.InternalError(None, None, "BundleWriter is closed")
        if key in self._entries:
            raise errors.InvalidArgumentError(None, None, f"Adding duplicate key: {show_key(key)}")
        data_type = _storable_dtype(show_key(key), array, dtype)
        entry = protos.BundleEntryProto(dtype=data_type.as_datatype_enum, offset=self._size)
        _set_shape(entry, array.shape)
        write = self._write_strings if data_type is dtypes.string else self._write_numbers
        entry.size, checksum = write(array)
        entry.crc32c = mask(checksum)
        self._size += entry.size
        self._entries[key] = entry

    def _write_numbers(self, array: np.ndarray) -> tuple[int, int]:
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        view = bytes_of(np.ascontiguousarray(array))
        checksum = 0
        for start in range(0, len(view), CHUNK):
            chunk = bytes(view[start : start + CHUNK])
            checksum = crc32c(chunk, checksum)
            self._data.write(chunk)
        return len(view), checksum

    def _write_strings(self, array: np.ndarray) -> tuple[int, int]:
        strings = [_as_bytes(item) for item in array.reshape(-1).tolist()]
        lengths = b"".join(encode_varint(len(string)) for string in strings)
        checksum = crc32c(b"".join(map(length_for_checksum, map(len, strings))))
        stored_checksum = struct.pack("<I", mask(checksum))
        checksum = crc32c(stored_checksum, checksum)
        self._data.write(lengths + stored_checksum)
        for string in strings:
            checksum = crc32c(string, checksum)
            self._data.write(string)
        return len(lengths) + 4 + sum(map(len, strings)), checksum

    def finish(self) -> None:
        """Puts the checkpoint in place; the writer takes no more tensors."""
        if not self._is_open:
            raise errors.InternalError(None, None, "BundleWriter is closed")
        self._is_open = False
        try:
            self._data.sync()
            self._data.release()
            _publish(self._prefix, [self._data.temporary_path], _version(), self._entries)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._data.temporary_path)

    def discard(self) -> None:
        """Gives up: removes what was written so far."""
        self._is_open = False
        self._data.discard()

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        if exception_type is not None:
            self.discard()
        elif self._is_open:
            self.finish()


def merge_bundles(
    prefixes: Sequence[str | bytes | os.PathLike],
    merged_prefix: str | bytes | os.PathLike,
    delete_old_dirs: bool = False,
) -> None:
    """Makes one checkpoint out of several, whose data files it takes over (MergeV2Checkpoints).

    delete_old_dirs: whether to remove the directories of `prefixes` that this leaves empty.
    Raises InvalidArgumentError: a tensor in two of them that is not a partitioned one.
    """
    merged = local_path(merged_prefix)
    sources = [local_path(prefix) for prefix in prefixes]
    directory = os.path.dirname(merged)
    if directory and not os.path.isdir(directory):
        with os_errors_as_op_errors(directory), contextlib.suppress(FileExistsError):
            os.mkdir(directory)
    entries: dict[bytes, object] = {}
    version = None
    shard_ids: dict[str, int] = {}
    for source in sources:
        header, source_entries = read_index(Table(index_filename(source)), close=True)
        if header.endianness != protos.BundleHeaderProto.LITTLE:
            raise errors.InvalidArgumentError(
                None, None, f"Merging bundles with conflicting endianness: {source}"
            )
        if version is None:
            version = header.version
        elif version != header.version:
            raise errors.InvalidArgumentError(
                None, None, f"Merging bundles with different format versions: {source}"
            )
        for key, entry in source_entries.items():
            present = entries.get(key)
            if present is None:
                entries[key] = entry
                data_file = data_filename(source, entry.shard_id, header.num_shards)
                entry.shard_id = shard_ids.setdefault(data_file, len(shard_ids))
                continue
            if not present.slices or not entry.slices:
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    f"Duplicate tensor keyed by {show_key(key)} encountered, "
                    f"when merging prefix: {source}",
                )
            if present.dtype != entry.dtype or present.shape != entry.shape:
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    f"Slices of tensor '{show_key(key)}' differ in type or full shape, "
                    f"when merging prefix: {source}",
                )
            present.slices.extend(entry.slices)
    _publish(merged, list(shard_ids), version or _version(), entries)
    # What follows tidies up; the merged checkpoint is complete without it.
    for source in sources:
        if source != merged:
            with contextlib.suppress(OSError):
                os.unlink(index_filename(source))
    if delete_old_dirs:
        for source_directory in {os.path.dirname(source) for source in sources} - {directory}:
            with contextlib.suppress(OSError):
                os.rmdir(source_directory)


def _publish(
    prefix: str, data_files: Sequence[str], version, entries: Mapping[bytes, object]
) -> None:
    """Makes the synced `data_files` (taken over) and an index of `entries` the checkpoint `prefix`.

    The order of its steps is what the module's docstring explains.
    """
    count = max(1, len(data_files))
    directory = os.path.dirname(prefix)
    # Two that save under one prefix at a time would rename each other's files.
    with os_errors_as_op_errors(prefix), directory_lock(directory):
        spare = count + 1 if _num_shards_in_place(prefix) == count else count
        for shard, data_file in enumerate(data_files):
            os.replace(data_file, data_filename(prefix, shard, spare))
        fsync_directory(directory)
        _write_index(prefix, spare, version, entries)
        if spare != count and _link_data_files(prefix, len(data_files), spare, count):
            _write_index(prefix, count, version, entries)
            spare = count
        _remove_data_files_except(prefix, spare)


def _link_data_files(prefix: str, shards: int, present: int, wanted: int) -> bool:
    """Gives the data files of count `present` the names of count `wanted` too, if it can be done."""
    for shard in range(shards):
        target = data_filename(prefix, shard, wanted)
        temporary = f"{target}.tempstate{secrets.randbits(64)}"
        try:
            os.link(data_filename(prefix, shard, present), temporary)
        except OSError as error:
            # Not every file system has links. The checkpoint is whole under the other names.
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                return False
            raise
        os.replace(temporary, target)
    fsync_directory(os.path.dirname(prefix))
    return True


def _write_index(prefix: str, num_shards: int, version, entries: Mapping[bytes, object]) -> None:
    header = protos.BundleHeaderProto(num_shards=num_shards)
    # Set even when both numbers are zero and the message is empty, as TensorFlow does.
    header.version.CopyFrom(version)
    with AtomicFile(index_filename(prefix)) as file:
        table = TableWriter(file)
        table.add(HEADER_KEY, header.SerializeToString())
        for key in sorted(entries):
            table.add(key, entries[key].SerializeToString())
        table.finish()


def _num_shards_in_place(prefix: str) -> int | None:
    """Returns the count that the present index of `prefix` uses; None without a usable one."""
    try:
        table = Table(index_filename(prefix))
        try:
            header = protos.BundleHeaderProto.FromString(bytes(table.get(HEADER_KEY) or b""))
        finally:
            table.close()
    except (errors.OpError, DecodeError):
        return None
    return header.num_shards


def _remove_data_files_except(prefix: str, num_shards: int) -> None:
    directory, base = os.path.split(prefix)
    pattern = re.compile(re.escape(base) + r"\.data-\d{5,}-of-(\d{5,})")
    with contextlib.suppress(OSError):
        for name in os.listdir(directory or "."):
            match = pattern.fullmatch(name)
            if match and int(match.group(1)) != num_shards:
                os.unlink(os.path.join(directory, name))


def _version():
    return protos.VersionDef(producer=FORMAT_VERSION, min_consumer=_MIN_CONSUMER)


def _checked_name(name: str) -> bytes:
    if not name:
        raise errors.InvalidArgumentError(None, None, "A tensor in a checkpoint needs a name.")
    return name.encode("utf-8", "surrogateescape")


def _storable_dtype(name: str, array: np.ndarray, dtype: DType | None) -> DType:
    data_type = dtypes.as_dtype(array.dtype if dtype is None else dtype).base_dtype
    if not data_type.is_numpy_compatible:
        raise errors.UnimplementedError(
            None, None, f"Tensor '{name}' is of type {data_type.name}, which cannot be saved."
        )
    if data_type is not dtypes.string and array.dtype.itemsize != data_type.size:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Tensor '{name}' is to be saved as {data_type.name}, got an array of {array.dtype}.",
        )
    return data_type


def _set_shape(entry, shape: Sequence[int]) -> None:
    entry.shape.SetInParent()
    for size in shape:
        entry.shape.dim.add(size=size)


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise errors.InvalidArgumentError(
        None, None, f"A string tensor holds a {type(item).__name__}; it needs bytes or str."
    )
