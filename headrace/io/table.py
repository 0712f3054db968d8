"""Sorted tables of byte strings, in the file format of TensorFlow's (LevelDB's) SSTables.

A file is a row of blocks, then a fixed footer:

    data block ...  metaindex block (empty)  index block  footer

A block is entries, the offsets of its restart points (uint32 each), their number, and a trailer:
one byte of compression type and the masked CRC-32C of all before. An entry stores of its key
only what differs from the key before; at a restart point it stores the whole key. The index
block has for every data block a key that is not less than any in it, and where it lies.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from typing import Protocol

from headrace.io import snappy
from headrace.io.checksum import crc32c, mask, unmask
from headrace.io.coding import MalformedBytes, decode_varint, encode_varint
from headrace.io.local_files import RandomAccessFile, data_loss

MAGIC = 0xDB4775248B80FB57
_TRAILER = struct.Struct("<BI")
_FOOTER_LENGTH = 48
_NO_COMPRESSION = 0
_SNAPPY_COMPRESSION = 1

# TensorFlow's values; a table is byte for byte the same only with these.
_BLOCK_SIZE = 262144
_RESTART_INTERVAL = 16

# Blocks up to this size stay parsed, for neighbouring look-ups; a block with one large tensor
# is not worth its memory.
_CACHED_BLOCK_SIZE = 4 * _BLOCK_SIZE


class _Sink(Protocol):
    def write(self, data: bytes | bytearray | memoryview) -> None: ...


class _BlockBuilder:
    """Collects the entries of one block."""

    def __init__(self, restart_interval: int):
        self._restart_interval = restart_interval
        self.reset()

    def reset(self) -> None:
        self._buffer = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self._last_key = b""

    @property
    def is_empty(self) -> bool:
        return not self._buffer

    @property
    def size(self) -> int:
        return len(self._buffer) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart < self._restart_interval:
            shared = _shared_prefix_length(self._last_key, key)
        else:
            self._restarts.append(len(self._buffer))
            self._since_restart = 0
        self._buffer += encode_varint(shared)
        self._buffer += encode_varint(len(key) - shared)
        self._buffer += encode_varint(len(value))
        self._buffer += key[shared:]
        self._buffer += value
        self._last_key = key
        self._since_restart += 1

    def finish(self) -> bytearray:
        self._buffer += struct.pack(f"<{len(self._restarts)}I", *self._restarts)
        self._buffer += struct.pack("<I", len(self._restarts))
        return self._buffer


class TableWriter:
    """Writes a table to `sink`, whose `write` takes bytes; keys come in increasing order.

    Blocks are never compressed: TensorFlow's checkpoints are not, and some of its readers
    were built without Snappy.
    """

    def __init__(self, sink: _Sink):
        self._sink = sink
        self._offset = 0
        self._data_block = _BlockBuilder(_RESTART_INTERVAL)
        self._index_block = _BlockBuilder(1)
        self._last_key: bytes | None = None
        self._pending_handle: bytes | None = None

    def add(self, key: bytes, value: bytes) -> None:
        """Appends an entry.  Raises ValueError: `key` is not greater than the one before."""
        if self._last_key is not None:
            if key <= self._last_key:
                raise ValueError(f"Table keys must increase, got {key!r} after {self._last_key!r}.")
            if len(key) + len(value) >= 2 * _BLOCK_SIZE:
                self._flush()
        if self._pending_handle is not None:
            assert self._last_key is not None
            # A short key between the blocks will do for the index.
            self._index_block.add(_shortest_separator(self._last_key, key), self._pending_handle)
            self._pending_handle = None
        self._last_key = key
        self._data_block.add(key, value)
        if self._data_block.size >= _BLOCK_SIZE:
            self._flush()

    def finish(self) -> None:
        """Writes what is pending, the index and the footer; the sink stays open."""
        self._flush()
        metaindex_handle = self._write_block(_BlockBuilder(_RESTART_INTERVAL))
        if self._pending_handle is not None:
            assert self._last_key is not None
            self._index_block.add(_short_successor(self._last_key), self._pending_handle)
        footer = metaindex_handle + self._write_block(self._index_block)
        self._sink.write(footer.ljust(_FOOTER_LENGTH - 8, b"\0") + struct.pack("<Q", MAGIC))

    def _flush(self) -> None:
        if not self._data_block.is_empty:
            self._pending_handle = self._write_block(self._data_block)
            self._data_block.reset()

    def _write_block(self, block: _BlockBuilder) -> bytes:
        content = block.finish()
        checksum = crc32c(bytes([_NO_COMPRESSION]), crc32c(content))
        self._sink.write(content)
        self._sink.write(_TRAILER.pack(_NO_COMPRESSION, mask(checksum)))
        handle = encode_varint(self._offset) + encode_varint(len(content))
        self._offset += len(content) + _TRAILER.size
        return handle


class Table:
    """A table file, open for reading.

    Raises, from any method, DataLossError: a length, offset, order or checksum is wrong.
    """

    def __init__(self, path: str):
        """Opens `path` and reads its index.  Raises NotFoundError: no such file."""
        self._file = RandomAccessFile(path)
        self.path = path
        try:
            self._read_index()
        except BaseException:
            self._file.close()
            raise

    def _read_index(self) -> None:
        size = self._file.size
        if size < _FOOTER_LENGTH:
            raise data_loss(self.path, "footer", "the file is too short to be an sstable")
        footer = self._file.read(size - _FOOTER_LENGTH, _FOOTER_LENGTH, "footer")
        if struct.unpack("<Q", footer[-8:])[0] != MAGIC:
            raise data_loss(self.path, "footer", "not an sstable (bad magic number)")
        try:
            _, position = _decode_handle(footer, 0, _FOOTER_LENGTH - 8)
            handle, _ = _decode_handle(footer, position, _FOOTER_LENGTH - 8)
        except MalformedBytes as error:
            raise data_loss(self.path, "footer", str(error)) from error
        self._index_keys, index_values = self._read_block(handle, "index block")
        try:
            self._handles = [_decode_handle(v, 0, len(v))[0] for v in index_values]
        except MalformedBytes as error:
            raise data_loss(self.path, "index block", str(error)) from error
        self._cached_handle: tuple[int, int] | None = None
        self._cached_block: tuple[list[bytes], list[memoryview]] = ([], [])

    @property
    def file(self) -> RandomAccessFile:
        """The file that the table is read from."""
        return self._file

    def get(self, key: bytes) -> memoryview | None:
        """Returns the value of `key`, or None where the table has no such key."""
        block_number = bisect.bisect_left(self._index_keys, key)
        if block_number == len(self._handles):
            return None
        keys, values = self._data_block(block_number)
        place = bisect.bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            return values[place]
        return None

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yields all keys and values in order."""
        last_key = None
        for block_number in range(len(self._handles)):
            for key, value in zip(*self._data_block(block_number), strict=True):
                if last_key is not None and key <= last_key:
                    raise data_loss(
                        self.path, f"data block {block_number}", "keys are out of order"
                    )
                last_key = key
                yield key, value

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _data_block(self, block_number: int) -> tuple[list[bytes], list[memoryview]]:
        handle = self._handles[block_number]
        if handle == self._cached_handle:
            return self._cached_block
        block = self._read_block(handle, f"data block {block_number}")
        if handle[1] <= _CACHED_BLOCK_SIZE:
            self._cached_handle, self._cached_block = handle, block
        return block

    def _read_block(
        self, handle: tuple[int, int], where: str
    ) -> tuple[list[bytes], list[memoryview]]:
        offset, length = handle
        stored = self._file.read(offset, length + _TRAILER.size, where)
        compression, checksum = _TRAILER.unpack_from(stored, length)
        if crc32c(memoryview(stored)[: length + 1]) != unmask(checksum):
            raise data_loss(self.path, f"{where} at byte {offset}", "block checksum mismatch")
        try:
            if compression == _NO_COMPRESSION:
                content = memoryview(stored)[:length]
            elif compression == _SNAPPY_COMPRESSION:
                content = memoryview(snappy.decompress(stored[:length]))
            else:
                raise MalformedBytes(f"unknown compression type {compression}")
            return _parse_block(content)
        except MalformedBytes as error:
            raise data_loss(self.path, f"{where} at byte {offset}", str(error)) from error


def _parse_block(content: memoryview) -> tuple[list[bytes], list[memoryview]]:
    """Returns the keys and the values of a block."""
    size = len(content)
    if size < 4:
        raise MalformedBytes("a block without restart points")
    (restart_count,) = struct.unpack_from("<I", content, size - 4)
    limit = size - 4 - 4 * restart_count
    if limit < 0:
        raise MalformedBytes(f"a block of {size} bytes cannot have {restart_count} restart points")
    # Entries are read from the first on, so that the restart points themselves are not needed.
    keys: list[bytes] = []
    values: list[memoryview] = []
    key = b""
    position = 0
    while position < limit:
        shared, position = decode_varint(content, position, limit)
        unshared, position = decode_varint(content, position, limit)
        value_length, position = decode_varint(content, position, limit)
        value_start = position + unshared
        if shared > len(key) or value_start + value_length > limit:
            raise MalformedBytes("an entry goes past the end of its block")
        new_key = key[:shared] + bytes(content[position:value_start])
        if keys and new_key <= key:
            raise MalformedBytes("keys are out of order")
        key = new_key
        position = value_start + value_length
        keys.append(key)
        values.append(content[value_start:position])
    return keys, values


def _decode_handle(
    data: bytes | memoryview, position: int, limit: int
) -> tuple[tuple[int, int], int]:
    """Returns a block's (offset, length) and the position after them."""
    offset, position = decode_varint(data, position, limit)
    length, position = decode_varint(data, position, limit)
    return (offset, length), position


def _shared_prefix_length(first: bytes, second: bytes) -> int:
    limit = min(len(first), len(second))
    if first[:limit] == second[:limit]:
        return limit
    length = 0
    while first[length] == second[length]:
        length += 1
    return length


def _shortest_separator(start: bytes, limit: bytes) -> bytes:
    """Returns a short key that is at least `start` and less than `limit`."""
    shared = _shared_prefix_length(start, limit)
    if shared < min(len(start), len(limit)):
        byte = start[shared]
        if byte < 0xFF and byte + 1 < limit[shared]:
            return start[:shared] + bytes([byte + 1])
    return start


def _short_successor(key: bytes) -> bytes:
    """Returns a short key that is at least `key`."""
    for place, byte in enumerate(key):
        if byte != 0xFF:
            return key[:place] + bytes([byte + 1])
    return key
