"""Datasets of what files hold: lines, records of one length, TFRecords; and of the names of files."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from headrace.core import dtypes, errors
from headrace.core.tensor_shape import TensorShape
from headrace.io.file_io import get_matching_files
from headrace.io.local_files import data_loss, local_path, os_errors_as_op_errors
from headrace.io.tf_record import RecordReader
from headrace.ops.datasets.dataset import (
    Dataset,
    GetNext,
    IteratorContext,
    define_dataset,
    scalar_argument,
    vector_argument,
)

_COMPRESSIONS = ("", "ZLIB", "GZIP")
# So much is decompressed at a time.
_CHUNK = 1 << 18
_GZIP = 16


class FileDataset(Dataset):
    """What one file after the other holds, scalar strings. `open` goes through one file."""

    def __init__(self, op: Any, filenames: Any, compression: Any, buffer_size: Any) -> None:
        super().__init__(op)
        self.types, self.shapes = [dtypes.string], [TensorShape([])]
        self._names = vector_argument(op, filenames, "filenames")
        compression = scalar_argument(op, compression, "compression_type")
        self._compression = compression.decode() if isinstance(compression, bytes) else compression
        if self._compression not in _COMPRESSIONS:
            raise op.invalid("Unsupported compression_type.")
        self._buffer_size = scalar_argument(op, buffer_size, "buffer_size")
        if self._buffer_size < 0:
            raise op.invalid("`buffer_size` must be >= 0 (0 == default)")

    def open(self, path: str) -> Iterator[bytes]:
        """The elements of one file."""
        raise NotImplementedError

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        names = iter(self._names)
        current: Iterator[bytes] | None = None

        def get_next():
            nonlocal current
            while True:
                if current is None:
                    name = next(names, None)
                    if name is None:
                        return None
                    current = self.open(local_path(name))
                try:
                    found = next(current, None)
                except BaseException:
                    current = None  # goes on with the next file
                    raise
                if found is not None:
                    return (text(found),)
                current = None

        return get_next


def text(value: bytes) -> np.ndarray:
    """A scalar string."""
    array = np.empty((), object)
    array[()] = value
    return array


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    with os_errors_as_op_errors(path):
        file = open(path, "rb", buffering=_CHUNK)
    with file:
        yield file


class Content:
    """The bytes of a file that may be compressed, read bit by bit."""

    def __init__(self, file: BinaryIO, path: str, compression: str) -> None:
        self._file, self._path = file, path
        self._bits = zlib.MAX_WBITS + (_GZIP if compression == "GZIP" else 0)
        self._inflater = zlib.decompressobj(self._bits) if compression else None
        self._rest = b""
        self._ended = False

    def chunk(self) -> bytes:
        """The next bytes; none at the end. Raises DataLossError: the compressed stream is damaged."""
        with os_errors_as_op_errors(self._path):
            if self._inflater is None:
                return self._file.read(_CHUNK)
            while not self._ended:
                data = self._rest or self._file.read(_CHUNK)
                if not data:
                    self._ended = True
                    if not self._inflater.eof:
                        raise data_loss(
                            self._path, "compressed stream", "the file ends before the stream does"
                        )
                    break
                if self._inflater.eof:  # several streams on end
                    self._inflater = zlib.decompressobj(self._bits)
                try:
                    found = self._inflater.decompress(data, _CHUNK)
                except zlib.error as error:
                    raise data_loss(self._path, "compressed stream", str(error)) from error
                self._rest = self._inflater.unconsumed_tail or self._inflater.unused_data
                if found:
                    return found
        return b""


class _TextLines(FileDataset):
    """The lines without their ends."""

    def open(self, path: str) -> Iterator[bytes]:
        with _opened(path) as file:
            content = Content(file, path, self._compression)
            rest: list[bytes] = []
            while chunk := content.chunk():
                if b"\n" not in chunk:
                    rest.append(chunk)
                    continue
                first, *lines = chunk.split(b"\n")
                yield _line(b"".join([*rest, first]))
                rest = [lines.pop()]
                yield from map(_line, lines)
            last = b"".join(rest)
            if last:
                yield _line(last)


def _line(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


@define_dataset(
    "TextLineDataset",
    "filenames: string, compression_type: string, buffer_size: int64",
    stateful=True,
)
def _text_line_dataset(op, filenames, compression, buffer_size):
    return _TextLines(op, filenames, compression, buffer_size)


class _Records(FileDataset):
    """TFRecords. A record's length is checked before memory is taken for it (`io.tf_record`)."""

    def open(self, path: str) -> Iterator[bytes]:
        with RecordReader(path, self._compression) as reader:
            while (record := reader.read()) is not None:
                yield record


@define_dataset(
    "TFRecordDataset",
    "filenames: string, compression_type: string, buffer_size: int64",
    stateful=True,
)
def _tf_record_dataset(op, filenames, compression, buffer_size):
    return _Records(op, filenames, compression, buffer_size)


class _FixedLength(FileDataset):
    """Records of one length, between a header and a footer."""

    def __init__(self, op, filenames, header, record, footer, buffer_size, compression):
        super().__init__(op, filenames, compression, buffer_size)
        given = (header, "header_bytes"), (record, "record_bytes"), (footer, "footer_bytes")
        self._header, self._record, self._footer = (scalar_argument(op, v, n) for v, n in given)
        if self._header < 0:
            raise op.invalid("header_bytes must be >= 0")
        if self._record <= 0:
            raise op.invalid("record_bytes must be > 0")
        if self._footer < 0:
            raise op.invalid("footer_bytes must be >= 0")

    def open(self, path: str) -> Iterator[bytes]:
        with _opened(path) as file:
            content = Content(file, path, self._compression)
            size = self._record
            if not self._compression:
                with os_errors_as_op_errors(path):
                    length = file.seek(0, 2)
                    file.seek(0)
                body = length - self._header - self._footer
                if body % size:
                    raise self.op.invalid(
                        f"Excess bytes: file {path!r} has a body length of {body} bytes, which is not a multiple of the "
                        f"record length ({size} bytes)."
                    )
            buffer, skip = bytearray(), self._header
            while chunk := content.chunk():
                buffer += chunk
                if skip:
                    done = min(skip, len(buffer))
                    del buffer[:done]
                    skip -= done
                    if skip:
                        continue
                last = len(buffer) - self._footer - size
                at = 0
                while at <= last:
                    yield bytes(buffer[at : at + size])
                    at += size
                del buffer[:at]
            if len(buffer) != self._footer or skip:
                raise errors.DataLossError(
                    None,
                    self.op,
                    f"{self.op.type} op {self.op.name!r}: file {path!r} does not end with a whole record "
                    f"({len(buffer)} bytes are left over, the footer has {self._footer})",
                )


@define_dataset(
    "FixedLengthRecordDataset",
    "filenames: string, header_bytes: int64, record_bytes: int64, footer_bytes: int64, buffer_size: int64",
    stateful=True,
)
def _fixed_length_record_dataset(op, filenames, header, record, footer, buffer_size):
    empty = np.array("", object)
    return _FixedLength(op, filenames, header, record, footer, buffer_size, empty)


@define_dataset(
    "FixedLengthRecordDatasetV2",
    "filenames: string, header_bytes: int64, record_bytes: int64, footer_bytes: int64, buffer_size: int64, "
    "compression_type: string",
    stateful=True,
)
def _fixed_length_record_dataset_v2(
    op, filenames, header, record, footer, buffer_size, compression
):
    return _FixedLength(op, filenames, header, record, footer, buffer_size, compression)


class _MatchingFiles(Dataset):
    """The names of the files that match patterns."""

    def __init__(self, op, patterns):
        super().__init__(op)
        self.types, self.shapes = [dtypes.string], [TensorShape([])]
        self._patterns = vector_argument(op, patterns, "patterns")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        found: list[Iterator[str]] = []

        def get_next():
            if not found:
                names = sorted(n for p in self._patterns for n in get_matching_files(p))
                if not names:
                    raise errors.NotFoundError(
                        None, self.op, f"Don't find any matched files for {self._patterns}"
                    )
                found.append(iter(names))
            name = next(found[0], None)
            return None if name is None else (text(name.encode()),)

        return get_next


for _name in ("MatchingFilesDataset", "ExperimentalMatchingFilesDataset"):
    define_dataset(_name, "patterns: string", stateful=True)(_MatchingFiles)
