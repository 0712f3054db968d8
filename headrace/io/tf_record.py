"""TFRecord files: byte strings one after the other, each with its length and two checksums.

    uint64 length, masked CRC-32C of the length, the bytes, masked CRC-32C of the bytes

All of it may be inside one ZLIB or GZIP stream.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from headrace.core import errors
from headrace.io.checksum import crc32c, masked_crc32c, unmask
from headrace.io.local_files import data_loss, local_path, os_errors_as_op_errors

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_LENGTH = _LENGTH.size + _CHECKSUM.size
# No length is believed further than this before bytes to that extent have been read.
_CHUNK = 1 << 20
_GZIP_WINDOW_BITS = 16


class TFRecordCompressionType:
    """How a file of records is compressed."""

    NONE = 0
    ZLIB = 1
    GZIP = 2


class TFRecordOptions:
    """How to compress a file of records; None is zlib's default, buffer sizes mean nothing here."""

    compression_type_map = {
        TFRecordCompressionType.ZLIB: "ZLIB",
        TFRecordCompressionType.GZIP: "GZIP",
        TFRecordCompressionType.NONE: "",
    }

    def __init__(
        self,
        compression_type: Any = None,
        flush_mode: int | None = None,
        input_buffer_size: int | None = None,
        output_buffer_size: int | None = None,
        window_bits: int | None = None,
        compression_level: int | None = None,
        compression_method: int | None = None,
        mem_level: int | None = None,
        compression_strategy: int | None = None,
    ):
        """Raises ValueError: an unknown compression type."""
        self.get_compression_type_string(compression_type)
        self.compression_type = compression_type
        self.flush_mode = flush_mode
        self.input_buffer_size = input_buffer_size
        self.output_buffer_size = output_buffer_size
        self.window_bits = window_bits
        self.compression_level = compression_level
        self.compression_method = compression_method
        self.mem_level = mem_level
        self.compression_strategy = compression_strategy

    @classmethod
    def get_compression_type_string(cls, options: Any) -> str:
        """Returns "", "ZLIB" or "GZIP" for options, a TFRecordCompressionType or such a string.

        Raises ValueError: anything else.
        """
        if not options:
            return ""
        if isinstance(options, TFRecordOptions):
            return cls.get_compression_type_string(options.compression_type)
        if options in cls.compression_type_map:
            return cls.compression_type_map[options]
        if options in cls.compression_type_map.values():
            return options
        raise ValueError(f'Not a valid compression_type: "{options}"')


def _window_bits(compression: str) -> int:
    return zlib.MAX_WBITS + (_GZIP_WINDOW_BITS if compression == "GZIP" else 0)


class TFRecordWriter:
    """Writes records to a file.  As a context manager it closes the file when the block ends."""

    def __init__(self, path: str | bytes | os.PathLike, options: Any = None):
        """Makes the file, empty.

        options: TFRecordOptions, a TFRecordCompressionType, or "", "ZLIB" or "GZIP".
        Raises NotFoundError: no such directory.  ValueError: an unknown compression type.
        """
        if not isinstance(options, TFRecordOptions):
            options = TFRecordOptions(compression_type=options)
        self._compressor = _make_compressor(options)
        self._flush_mode = options.flush_mode
        self._path = local_path(path)
        with os_errors_as_op_errors(self._path):
            self._file: BinaryIO | None = open(self._path, "wb", buffering=1 << 18)

    def write(self, record: bytes | str) -> None:
        """Appends a record; text is encoded as UTF-8."""
        data = record.encode() if isinstance(record, str) else record
        length = _LENGTH.pack(len(data))
        head = length + _CHECKSUM.pack(masked_crc32c(length))
        self._append(head, data, _CHECKSUM.pack(masked_crc32c(data)))

    def _append(self, *pieces: bytes) -> None:
        file = self._open_file()
        with os_errors_as_op_errors(self._path):
            for piece in pieces:
                file.write(piece if self._compressor is None else self._compressor.compress(piece))
            if self._compressor is not None and self._flush_mode:
                file.write(self._compressor.flush(self._flush_mode))

    def flush(self) -> None:
        """Hands everything written so far to the operating system, readable."""
        file = self._open_file()
        with os_errors_as_op_errors(self._path):
            if self._compressor is not None:
                file.write(self._compressor.flush(zlib.Z_SYNC_FLUSH))
            file.flush()

    def close(self) -> None:
        """Ends the compressed stream, if any, and closes the file."""
        file, self._file = self._file, None
        if file is not None:
            with os_errors_as_op_errors(self._path), file:
                if self._compressor is not None:
                    file.write(self._compressor.flush())

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise errors.FailedPreconditionError(
                None, None, f"Writer not initialized or previously closed: {self._path}"
            )
        return self._file

    def __enter__(self) -> TFRecordWriter:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_file", None) is not None:
            self.close()


def _make_compressor(options: TFRecordOptions) -> Any:
    compression = options.get_compression_type_string(options.compression_type)
    if not compression:
        return None

    def or_default(value: int | None, default: int) -> int:
        return default if value is None else value

    # TensorFlow's defaults, of which only the memory level is not zlib's.
    return zlib.compressobj(
        or_default(options.compression_level, zlib.Z_DEFAULT_COMPRESSION),
        or_default(options.compression_method, zlib.DEFLATED),
        or_default(options.window_bits, _window_bits(compression)),
        or_default(options.mem_level, 9),
        or_default(options.compression_strategy, zlib.Z_DEFAULT_STRATEGY),
    )


class _Stream(Protocol):
    def read(self, size: int) -> bytes: ...


class _InflatingStream:
    """The content of a compressed file, which may be several streams on end."""

    def __init__(self, file: BinaryIO, path: str, window_bits: int):
        self._file = file
        self._path = path
        self._window_bits = window_bits
        self._inflater = zlib.decompressobj(window_bits)
        self._started = False
        self._pending = b""

    def read(self, size: int) -> bytes:
        """Returns at least one and at most `size` bytes, or none at the end."""
        while True:
            if not self._pending:
                self._pending = self._file.read(_CHUNK)
                if not self._pending:
                    if self._started and not self._inflater.eof:
                        raise data_loss(
                            self._path, "compressed stream", "the file ends before the stream does"
                        )
                    return b""
            if self._inflater.eof:
                self._inflater = zlib.decompressobj(self._window_bits)
            self._started = True
            try:
                data = self._inflater.decompress(self._pending, size)
            except zlib.error as error:
                raise data_loss(self._path, "compressed stream", str(error)) from error
            self._pending = self._inflater.unconsumed_tail or self._inflater.unused_data
            if data:
                return data


class RecordReader:
    """Reads the records of a file in order."""

    def __init__(self, path: str | bytes | os.PathLike, options: Any = None):
        """Opens the file.  options: as TFRecordWriter's.  Raises NotFoundError."""
        compression = TFRecordOptions.get_compression_type_string(options)
        self._path = local_path(path)
        with os_errors_as_op_errors(self._path):
            self._file = open(self._path, "rb", buffering=1 << 18)
        self._stream: _Stream = self._file
        if compression:
            # The largest window reads every stream, whatever window it was written with.
            self._stream = _InflatingStream(self._file, self._path, _window_bits(compression))
        self._offset = 0

    @property
    def offset(self) -> int:
        """Where the next record begins, in bytes of uncompressed content."""
        return self._offset

    def read(self) -> bytes | None:
        """Returns the next record, or None after the last.

        Raises DataLossError: the record is cut off or does not fit its checksums.
        """
        header = self._read_up_to(_HEADER_LENGTH)
        if not header:
            return None
        if len(header) < _HEADER_LENGTH:
            raise self._error("truncated record")
        length_bytes = header[: _LENGTH.size]
        if unmask(_CHECKSUM.unpack(header[_LENGTH.size :])[0]) != crc32c(length_bytes):
            raise self._error("corrupted record: its length does not fit its checksum")
        (length,) = _LENGTH.unpack(length_bytes)
        body = self._read_up_to(length + _CHECKSUM.size)
        if len(body) < length + _CHECKSUM.size:
            raise self._error(f"truncated record: {len(body)} of {length} bytes are there")
        record = body[:length]
        if unmask(_CHECKSUM.unpack_from(body, length)[0]) != crc32c(record):
            raise self._error("corrupted record: its bytes do not fit their checksum")
        self._offset += _HEADER_LENGTH + len(body)
        return record

    def _error(self, what: str) -> errors.DataLossError:
        return data_loss(self._path, f"record at byte {self._offset}", what)

    def _read_up_to(self, size: int) -> bytes:
        with os_errors_as_op_errors(self._path):
            data = self._stream.read(min(size, _CHUNK))
            if len(data) == size or not data:
                return data
            pieces = bytearray(data)
            while len(pieces) < size:
                data = self._stream.read(min(size - len(pieces), _CHUNK))
                if not data:
                    break
                pieces += data
            return bytes(pieces)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.close()


def tf_record_iterator(path: str | bytes | os.PathLike, options: Any = None) -> Iterator[bytes]:
    """Yields the records of a file.

    options: TFRecordOptions, a TFRecordCompressionType, or "", "ZLIB" or "GZIP".
    Raises NotFoundError; DataLossError: a record is cut off or does not fit its checksums.
    """
    with RecordReader(path, options) as reader:
        while (record := reader.read()) is not None:
            yield record
