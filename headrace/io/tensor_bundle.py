"""V2 checkpoints ("tensor bundles"), byte for byte TensorFlow's: an index and its data files.

`PREFIX.index` is a table: under the empty key a BundleHeaderProto, under each tensor's name a
BundleEntryProto with its type, shape and place in a data file. `PREFIX.data-SSSSS-of-NNNNN` hold
the tensors' bytes, one after the other. A partitioned tensor has an entry that lists its slices,
and each slice an entry of its own, under a key made of the name and the slice.

Saving is atomic. The index names the data files only through their count NNNNN, and putting it in
place is one rename: that rename is the moment at which the new checkpoint takes the place
of the old. So nothing that the index in place refers to may be touched before it:

1. data files are written under temporary names, synced, and renamed to names with a count
   that the present index does not use; the directory is synced;
2. the new index is written, synced, renamed over the old; the directory is synced;
3. only where the present index already used the wanted count, step 1 took the count above it, and
   now that nothing refers to the wanted names, the data files are linked to them and an index with
   the wanted count is renamed into place. So a finished save leaves exactly TensorFlow's files;
4. data files of other counts, which nothing refers to any more, are removed.

A process that dies at any point leaves an index whose data files are whole, old or new. A
reader holds the index and all data files open and then looks whether the index is still in place:
if so, they belong together, whatever is renamed or removed later.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from headrace.core import dtypes, errors
from headrace.core.dtypes import DType
from headrace.io import protos
from headrace.io.checksum import crc32c, mask, unmask
from headrace.io.coding import MalformedBytes, decode_varint, encode_varint
from headrace.io.local_files import (
    AtomicFile,
    RandomAccessFile,
    data_loss,
    fsync_directory,
    local_path,
    os_errors_as_op_errors,
)
from headrace.io.table import Table, TableWriter
from headrace.io.tensor_slice import Box, TensorSlice, assemble, intersect

HEADER_KEY = b""
_VERSION = 1
_MIN_CONSUMER = 0
_MAX_SHARDS = 100_000
_MAX_RANK = 254
# Copied and checksummed in one piece: what is written is what was checksummed, even when the
# array changes meanwhile, and no tensor is ever in memory twice.
_CHUNK = 8 << 20
# A reader that meets a writer looks again; only a writer in a tight loop gets this far.
_SNAPSHOT_ATTEMPTS = 100


def index_filename(prefix: str) -> str:
    """Returns the name of the index of the checkpoint `prefix`."""
    return f"{prefix}.index"


def data_filename(prefix: str, shard: int, num_shards: int) -> str:
    """Returns the name of a data file of the checkpoint `prefix`."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


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
            or _dims(entry) != list(shape)
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
            raise errors.InvalidArgumentError(None, None, f"Adding duplicate key: {_show(key)}")
        data_type = _storable_dtype(_show(key), array, dtype)
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
        view = _bytes_of(np.ascontiguousarray(array))
        checksum = 0
        for start in range(0, len(view), _CHUNK):
            chunk = bytes(view[start : start + _CHUNK])
            checksum = crc32c(chunk, checksum)
            self._data.write(chunk)
        return len(view), checksum

    def _write_strings(self, array: np.ndarray) -> tuple[int, int]:
        strings = [_as_bytes(item) for item in array.reshape(-1).tolist()]
        lengths = b"".join(encode_varint(len(string)) for string in strings)
        checksum = crc32c(b"".join(map(_length_for_checksum, map(len, strings))))
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
        header, source_entries = _read_index(Table(index_filename(source)), close=True)
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
                    f"Duplicate tensor keyed by {_show(key)} encountered, "
                    f"when merging prefix: {source}",
                )
            if present.dtype != entry.dtype or present.shape != entry.shape:
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    f"Slices of tensor '{_show(key)}' differ in type or full shape, "
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
    spare = count + 1 if _num_shards_in_place(prefix) == count else count
    directory = os.path.dirname(prefix)
    with os_errors_as_op_errors(prefix):
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
        temporary = f"{target}.tempstate{os.getpid()}"
        try:
            os.link(data_filename(prefix, shard, present), temporary)
            os.replace(temporary, target)
        except OSError as error:
            # Not every file system has links. The checkpoint is whole under the other names.
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                return False
            raise
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


class BundleReader:
    """A checkpoint, open for reading; what it returns is one save, whatever is saved meanwhile.

    Raises, from any method, DataLossError: a file is truncated or altered.
    """

    def __init__(self, prefix: str | bytes | os.PathLike):
        """Opens the checkpoint.  Raises NotFoundError: there is none."""
        self.prefix = local_path(prefix)
        for _ in range(_SNAPSHOT_ATTEMPTS):
            if self._open():
                return
            self.close()
        raise errors.UnavailableError(
            None, None, f"The checkpoint {self.prefix} is replaced faster than it can be opened."
        )

    def _open(self) -> bool:
        """Opens index and data files; returns False if they need not belong to one save."""
        table = Table(index_filename(self.prefix))
        self._data_files: dict[int, RandomAccessFile] = {}
        try:
            self._header, self._entries = _read_index(table)
            self._num_shards = self._header.num_shards
            for entry in self._entries.values():
                if not entry.slices and entry.shard_id not in self._data_files:
                    # One that is missing is an error only for who reads from it.
                    with contextlib.suppress(errors.NotFoundError):
                        self._data_files[entry.shard_id] = RandomAccessFile(
                            data_filename(self.prefix, entry.shard_id, self._num_shards)
                        )
            is_one_save = table.file.is_still_at_its_path()
        finally:
            table.close()
        slice_keys = {
            TensorSlice.from_proto(proto).key(key.decode("utf-8", "surrogateescape"))
            for key, entry in self._entries.items()
            for proto in entry.slices
        }
        self._names = sorted(
            key.decode("utf-8", "surrogateescape") for key in self._entries if key not in slice_keys
        )
        return is_one_save

    def keys(self) -> list[str]:
        """Returns the names of the tensors, sorted; a partitioned one counts once."""
        return list(self._names)

    def contains(self, name: str) -> bool:
        return name.encode("utf-8", "surrogateescape") in self._entries

    def dtype_and_shape(self, name: str) -> tuple[DType, tuple[int, ...]]:
        """Returns a tensor's type and full shape.  Raises NotFoundError: no such tensor."""
        return self._dtype_and_shape(name, self._entry(name))

    def slices(self, name: str) -> list[TensorSlice]:
        """Returns the slices in which a partitioned tensor is stored; none for a plain one."""
        return [TensorSlice.from_proto(proto) for proto in self._entry(name).slices]

    def read(self, name: str) -> np.ndarray:
        """Returns a tensor; of a partitioned one, its parts put together.

        Strings come as an array of `bytes` objects.
        Raises NotFoundError: no such tensor.  UnimplementedError: resources, variants.
        """
        entry = self._entry(name)
        if not entry.slices:
            return self._read_entry(name, entry)
        _, shape = self._dtype_and_shape(name, entry)
        return self.read_slice(name, TensorSlice.full(len(shape)))

    def read_slice(
        self, name: str, slice_spec: TensorSlice | Iterable[tuple[int, int | None]]
    ) -> np.ndarray:
        """Returns a slice of a tensor, however it is stored.

        Raises NotFoundError: no such tensor.  InternalError: the slice does not fit it.
        InvalidArgumentError: the stored slices do not cover it.
        """
        entry = self._entry(name)
        dtype, shape = self._dtype_and_shape(name, entry)
        wanted = TensorSlice.of(slice_spec)
        if not entry.slices:
            stored = [(TensorSlice.full(len(shape)), tuple((0, size) for size in shape))]
            return assemble(
                name,
                shape,
                dtype.np_dtype,
                wanted,
                stored,
                lambda *_: self._read_entry(name, entry),
            )
        stored = []
        for tensor_slice in self.slices(name):
            box = self._resolve_stored(name, tensor_slice, shape)
            if any(intersect(box, other) is not None for _, other in stored):
                raise self._index_error(name, f"slice {tensor_slice} overlaps another")
            stored.append((tensor_slice, box))
        return assemble(
            name,
            shape,
            dtype.np_dtype,
            wanted,
            stored,
            functools.partial(self._read_stored_slice, name, dtype),
        )

    def close(self) -> None:
        for file in self._data_files.values():
            file.close()

    def __enter__(self) -> BundleReader:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.close()

    def _entry(self, name: str):
        entry = self._entries.get(name.encode("utf-8", "surrogateescape"))
        if entry is None:
            raise errors.NotFoundError(None, None, f"Key {name} not found in checkpoint")
        return entry

    def _index_error(self, name: str, what: str) -> errors.DataLossError:
        return data_loss(index_filename(self.prefix), f"entry '{name}'", what)

    def _dtype_and_shape(self, name: str, entry) -> tuple[DType, tuple[int, ...]]:
        try:
            dtype = dtypes.as_dtype(entry.dtype)
        except TypeError:
            raise self._index_error(name, f"unknown type number {entry.dtype}") from None
        shape = tuple(_dims(entry))
        if entry.shape.unknown_rank or len(shape) > _MAX_RANK or any(n < 0 for n in shape):
            raise self._index_error(name, f"invalid shape {list(shape)}")
        return dtype, shape

    def _resolve_stored(self, name: str, tensor_slice: TensorSlice, shape: Sequence[int]) -> Box:
        try:
            return tensor_slice.resolve(shape)
        except errors.InternalError as error:
            raise self._index_error(name, error.message) from error

    def _read_stored_slice(
        self, name: str, dtype: DType, tensor_slice: TensorSlice, box: Box
    ) -> np.ndarray:
        entry = self._entries.get(tensor_slice.key(name))
        if entry is None:
            raise self._index_error(name, f"slice {tensor_slice} is not stored")
        place = f"{name}[{tensor_slice}]"
        if entry.slices or self._dtype_and_shape(place, entry) != (dtype, tuple(n for _, n in box)):
            raise self._index_error(place, "the slice is not of its tensor's type and shape")
        return self._read_entry(place, entry)

    def _read_entry(self, name: str, entry) -> np.ndarray:
        dtype, shape = self._dtype_and_shape(name, entry)
        if dtype.is_ref_dtype or not dtype.is_numpy_compatible:
            raise errors.UnimplementedError(
                None, None, f"Tensor '{name}' in {self.prefix} is of type {dtype.name}, "
                "which cannot be restored."
            )  # fmt: skip
        file = self._data_files.get(entry.shard_id)
        if file is None:
            path = data_filename(self.prefix, entry.shard_id, self._num_shards)
            raise errors.NotFoundError(None, None, f"{path}; No such file or directory")
        count = math.prod(shape)
        is_string = dtype is dtypes.string
        if (count > entry.size) if is_string else (count * dtype.size != entry.size):
            raise self._index_error(
                name, f"stored size {entry.size} does not fit {dtype.name} of shape {list(shape)}"
            )
        where = f"tensor '{name}'"
        file.check_range(entry.offset, entry.size, where)
        swap = self._header.endianness == protos.BundleHeaderProto.BIG
        if is_string:
            return self._read_strings(file, entry, count, where, swap).reshape(shape)
        array = np.empty(shape, dtype.np_dtype)
        view = _bytes_of(array)
        checksum = 0
        for start in range(0, len(view), _CHUNK):
            chunk = view[start : start + _CHUNK]
            file.read_into(entry.offset + start, chunk, where)
            checksum = crc32c(chunk, checksum)
        self._check(entry, checksum, file, where)
        if dtype is dtypes.bool and view and np.frombuffer(view, np.uint8).max() > 1:
            raise data_loss(file.path, where, "a bool that is neither 0 nor 1")
        if swap:
            _swap_bytes(array, dtype)
        return array

    def _read_strings(
        self, file: RandomAccessFile, entry, count: int, where: str, swap: bool
    ) -> np.ndarray:
        if entry.size == 0 and count == 0:
            return np.empty(0, np.object_)
        data = file.read(entry.offset, entry.size, where)
        lengths = []
        position = 0
        try:
            for _ in range(count):
                length, position = decode_varint(data, position, len(data))
                lengths.append(length)
        except MalformedBytes as error:
            raise data_loss(file.path, where, f"string lengths: {error}") from error
        end = position + 4
        if end + sum(lengths) != len(data):
            raise data_loss(
                file.path, where, f"string lengths do not add up to the stored size {entry.size}"
            )
        order = ">" if swap else "<"
        checksum = crc32c(b"".join(_length_for_checksum(length, order) for length in lengths))
        if unmask(struct.unpack_from(order + "I", data, position)[0]) != checksum:
            raise data_loss(file.path, where, "the length checksum does not match")
        self._check(entry, crc32c(memoryview(data)[position:], checksum), file, where)
        strings = np.empty(count, np.object_)
        for i, length in enumerate(lengths):
            strings[i] = data[end : end + length]
            end += length
        return strings

    def _check(self, entry, checksum: int, file: RandomAccessFile, where: str) -> None:
        if unmask(entry.crc32c) != checksum:
            raise data_loss(
                file.path,
                where,
                f"Checksum does not match: stored {unmask(entry.crc32c):08x} vs. "
                f"calculated on the restored bytes {checksum:08x}",
            )


def _read_index(table: Table, close: bool = False) -> tuple:
    """Returns the header and the entries (by key) of an index, parsed and checked."""
    try:
        header = None
        entries: dict[bytes, object] = {}
        for key, value in table:
            try:
                if key == HEADER_KEY:
                    header = protos.BundleHeaderProto.FromString(bytes(value))
                else:
                    entries[key] = protos.BundleEntryProto.FromString(bytes(value))
            except DecodeError as error:
                raise data_loss(
                    table.path, f"entry '{_show(key)}'", "entry not parseable"
                ) from error
    finally:
        if close:
            table.close()
    if header is None:
        raise data_loss(table.path, "header", "no header entry")
    if not 0 < header.num_shards < _MAX_SHARDS or header.endianness not in (0, 1):
        raise data_loss(
            table.path,
            "header",
            f"{header.num_shards} data files of byte order {header.endianness}",
        )
    if header.version.min_consumer > _VERSION or _VERSION in header.version.bad_consumers:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Checkpoint {table.path} was made for readers of version "
            f"{header.version.min_consumer} and above; this one is version {_VERSION}.",
        )
    for key, entry in entries.items():
        if not entry.slices and not 0 <= entry.shard_id < header.num_shards:
            raise data_loss(
                table.path,
                f"entry '{_show(key)}'",
                f"data file {entry.shard_id} of {header.num_shards}",
            )
    return header, entries


def _version():
    return protos.VersionDef(producer=_VERSION, min_consumer=_MIN_CONSUMER)


def _checked_name(name: str) -> bytes:
    if not name:
        raise errors.InvalidArgumentError(None, None, "A tensor in a checkpoint needs a name.")
    return name.encode("utf-8", "surrogateescape")


def _show(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


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


def _dims(entry) -> list[int]:
    return [dim.size for dim in entry.shape.dim]


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the memory of a contiguous array, writable where the array is."""
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise errors.InvalidArgumentError(
        None, None, f"A string tensor holds a {type(item).__name__}; it needs bytes or str."
    )


def _length_for_checksum(length: int, order: str = "<") -> bytes:
    # Lengths were 32 bits wide once, and the checksum of those that fit still is.
    return struct.pack(order + ("I" if length <= 0xFFFFFFFF else "Q"), length)


def _swap_bytes(array: np.ndarray, dtype: DType) -> None:
    """Turns the bytes of every number in `array` around."""
    size = dtype.real_dtype.size
    array.reshape(-1).view(f"u{size}").byteswap(inplace=True)
