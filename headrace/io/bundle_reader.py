"""Reading V2 checkpoints; the format is described in `tensor_bundle`."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import struct
from collections.abc import Iterable, Sequence

import numpy as np

from headrace.core import dtypes, errors
from headrace.core.dtypes import DType
from headrace.io import protos
from headrace.io.bundle_format import (
    CHUNK,
    bytes_of,
    data_filename,
    dims_of,
    index_filename,
    length_for_checksum,
    read_index,
)
from headrace.io.checksum import crc32c, unmask
from headrace.io.coding import MalformedBytes, decode_varint
from headrace.io.local_files import RandomAccessFile, data_loss, local_path
from headrace.io.table import Table
from headrace.io.tensor_slice import Box, TensorSlice, assemble, intersect

_MAX_RANK = 254
# A reader that meets a writer looks again; only a writer in a tight loop gets this far.
_SNAPSHOT_ATTEMPTS = 100


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
            self._header, self._entries = read_index(table)
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
        self._slices = {
            name: self._parse_slices(name, entry)
            for key, entry in self._entries.items()
            if entry.slices
            for name in [key.decode("utf-8", "surrogateescape")]
        }
        slice_keys = {s.key(name) for name, slices in self._slices.items() for s in slices}
        self._names = sorted(
            key.decode("utf-8", "surrogateescape") for key in self._entries if key not in slice_keys
        )
        return is_one_save

    def keys(self) -> list[str]:
        """Returns the names of the tensors, sorted; a partitioned one counts once."""
        return list(self._names)

    def contains(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name.encode("utf-8", "surrogateescape") in self._entries

    def dtype_and_shape(self, name: str) -> tuple[DType, tuple[int, ...]]:
        """Returns a tensor's type and full shape.  Raises NotFoundError: no such tensor."""
        return self._dtype_and_shape(name, self._entry(name))

    def slices(self, name: str) -> list[TensorSlice]:
        """Returns the slices in which a partitioned tensor is stored; none for a plain one."""
        self._entry(name)
        return list(self._slices.get(name, ()))

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
            whole = TensorSlice.full(len(shape)), tuple((0, size) for size in shape)
            read = lambda *_: self._read_entry(name, entry)  # noqa: E731
            return assemble(name, shape, dtype.np_dtype, wanted, [whole], read)
        stored = []
        for tensor_slice in self.slices(name):
            box = self._resolve_stored(name, tensor_slice, shape)
            if any(intersect(box, other) is not None for _, other in stored):
                raise self._index_error(name, f"slice {tensor_slice} overlaps another")
            stored.append((tensor_slice, box))
        read = functools.partial(self._read_stored_slice, name, dtype)
        return assemble(name, shape, dtype.np_dtype, wanted, stored, read)

    def close(self) -> None:
        """Closes the files."""
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
        shape = tuple(dims_of(entry))
        if entry.shape.unknown_rank or len(shape) > _MAX_RANK or any(n < 0 for n in shape):
            raise self._index_error(name, f"invalid shape {list(shape)}")
        return dtype, shape

    def _parse_slices(self, name: str, entry) -> list[TensorSlice]:
        try:
            return [TensorSlice.from_proto(proto) for proto in entry.slices]
        except errors.InvalidArgumentError as error:
            raise self._index_error(name, error.message) from error

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
        view = bytes_of(array)
        checksum = 0
        for start in range(0, len(view), CHUNK):
            chunk = view[start : start + CHUNK]
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
        checksum = crc32c(b"".join(length_for_checksum(length, order) for length in lengths))
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


def _swap_bytes(array: np.ndarray, dtype: DType) -> None:
    """Turns the bytes of every number in `array` around."""
    size = dtype.real_dtype.size
    array.reshape(-1).view(f"u{size}").byteswap(inplace=True)
