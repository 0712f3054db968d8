"""What the reader and the writer of V2 checkpoints share: names, header, entries."""

from __future__ import annotations

import struct

import numpy as np
from google.protobuf.message import DecodeError

from headrace.core import errors
from headrace.io import protos
from headrace.io.local_files import data_loss
from headrace.io.table import Table

HEADER_KEY = b""
FORMAT_VERSION = 1
_MAX_SHARDS = 100_000
# Tensors are copied and checksummed in pieces of this size. What is written is what was
# checksummed, even when the array changes meanwhile, and no tensor is in memory twice.
CHUNK = 8 << 20


def index_filename(prefix: str) -> str:
    """Returns the name of the index of the checkpoint `prefix`."""
    return f"{prefix}.index"


def data_filename(prefix: str, shard: int, num_shards: int) -> str:
    """Returns the name of a data file of the checkpoint `prefix`."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def read_index(table: Table, close: bool = False) -> tuple:
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
                    table.path, f"entry '{show_key(key)}'", "entry not parseable"
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
    if (
        header.version.min_consumer > FORMAT_VERSION
        or FORMAT_VERSION in header.version.bad_consumers
    ):
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Checkpoint {table.path} was made for readers of version "
            f"{header.version.min_consumer} and above; this one is version {FORMAT_VERSION}.",
        )
    for key, entry in entries.items():
        if not entry.slices and not 0 <= entry.shard_id < header.num_shards:
            raise data_loss(
                table.path,
                f"entry '{show_key(key)}'",
                f"data file {entry.shard_id} of {header.num_shards}",
            )
    return header, entries


def show_key(key: bytes) -> str:
    """A key as messages show it."""
    return key.decode("utf-8", "backslashreplace")


def dims_of(entry) -> list[int]:
    """The sizes of a stored tensor."""
    return [dim.size for dim in entry.shape.dim]


def bytes_of(array: np.ndarray) -> memoryview:
    """Returns the memory of a contiguous array, writable where the array is."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def length_for_checksum(length: int, order: str = "<") -> bytes:
    """The bytes of a string's length that its checksum covers."""
    # Lengths were 32 bits wide once, and the checksum of those that fit still is.
    return struct.pack(order + ("I" if length <= 0xFFFFFFFF else "Q"), length)
