"""V1 checkpoints: one table, in which every tensor (slice) is a protocol message.

Under the empty key lies a table of contents (SavedTensorSliceMeta): name, type, shape and
slices of each tensor. Under the key of each slice lies a SavedSlice, whose TensorProto has nothing
but the values. A sharded checkpoint is several such files, read as one through a pattern.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from headrace.core import dtypes, errors
from headrace.core.dtypes import DType
from headrace.io import protos, wire
from headrace.io.coding import MalformedBytes
from headrace.io.file_io import get_matching_files
from headrace.io.local_files import AtomicFile, data_loss, local_path
from headrace.io.table import Table, TableWriter
from headrace.io.tensor_slice import Box, TensorSlice, assemble, intersect

_META_KEY = b""
_VERSION = 1
_MAX_MESSAGE_BYTES = (1 << 31) - 1
_MAX_RANK = 254

# The field of TensorProto in which values of a type lie. Those of a fixed width have the NumPy
# type of their bytes too; a complex number is two values.
_FIXED_WIDTH_FIELDS = {
    dtypes.float32: ("float_val", "<f4"),
    dtypes.float64: ("double_val", "<f8"),
    dtypes.complex64: ("scomplex_val", "<c8"),
    dtypes.complex128: ("dcomplex_val", "<c16"),
}
_VARINT_FIELDS = {
    dtypes.int64: "int64_val",
    dtypes.bool: "bool_val",
    dtypes.float16: "half_val",
} | dict.fromkeys(
    (
        dtypes.int32, dtypes.int16, dtypes.int8, dtypes.uint16, dtypes.uint8,
        dtypes.qint32, dtypes.qint8, dtypes.quint8,
    ),
    "int_val",
)  # fmt: skip
_FIELD_NUMBERS = {f.name: f.number for f in protos.TensorProto.DESCRIPTOR.fields}
_DATA_FIELD = protos.SavedTensorSlices.DESCRIPTOR.fields_by_name["data"].number
_TENSOR_FIELD = protos.SavedSlice.DESCRIPTOR.fields_by_name["data"].number


class TensorSliceWriter:
    """Writes a V1 checkpoint: `add` what is to be in it, then `finish`."""

    def __init__(self, filename: str | bytes | os.PathLike):
        self._path = local_path(filename)
        self._metas: dict[str, object] = {}
        self._slices: dict[bytes, tuple[str, TensorSlice, np.ndarray, DType]] = {}

    def add(
        self,
        name: str,
        array: np.ndarray,
        full_shape: Sequence[int] | None = None,
        slice_spec: TensorSlice | Iterable[tuple[int, int | None]] | None = None,
        dtype: DType | None = None,
    ) -> None:
        """Adds a tensor, or the slice `slice_spec` of a tensor of `full_shape`.

        Raises UnimplementedError: a type that the format has no field for.
        InvalidArgumentError: a slice given twice, or one that contradicts an earlier one.
        """
        array = np.asarray(array)
        data_type = dtypes.as_dtype(array.dtype if dtype is None else dtype).base_dtype
        if data_type is not dtypes.string and not (
            data_type in _FIXED_WIDTH_FIELDS or data_type in _VARINT_FIELDS
        ):
            raise errors.UnimplementedError(
                None, None, f"Saving data type {data_type.name} not yet supported"
            )
        shape = array.shape if full_shape is None else tuple(int(size) for size in full_shape)
        tensor_slice = (
            TensorSlice.full(len(shape)) if slice_spec is None else TensorSlice.of(slice_spec)
        )
        if tensor_slice.shape_within(shape) != array.shape:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Slice {tensor_slice} of tensor '{name}' of shape {list(shape)} does not fit an "
                f"array of shape {list(array.shape)}.",
            )
        key = tensor_slice.key(name)
        meta = self._metas.get(name)
        if meta is None:
            meta = protos.SavedSliceMeta(name=name, type=data_type.as_datatype_enum)
            meta.shape.SetInParent()
            for size in shape:
                meta.shape.dim.add(size=size)
            self._metas[name] = meta
        elif (
            key in self._slices
            or meta.type != data_type.as_datatype_enum
            or [dim.size for dim in meta.shape.dim] != list(shape)
        ):
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Slice {tensor_slice} of tensor '{name}' ({data_type.name}, {list(shape)}) "
                "contradicts what was added under the same name.",
            )
        meta.slice.append(tensor_slice.to_proto())
        self._slices[key] = name, tensor_slice, array, data_type

    def finish(self) -> None:
        """Writes the file and puts it in place."""
        contents = protos.SavedTensorSlices()
        contents.meta.versions.producer = _VERSION
        # TensorFlow saves in the order of names, which makes equal files of equal content.
        contents.meta.tensor.extend(self._metas[name] for name in sorted(self._metas))
        with AtomicFile(self._path) as file:
            table = TableWriter(file)
            table.add(_META_KEY, contents.SerializeToString())
            for key in sorted(self._slices):
                table.add(key, _encode_slice(*self._slices[key]))
            table.finish()


def _encode_slice(name: str, tensor_slice: TensorSlice, array: np.ndarray, dtype: DType) -> bytes:
    """Returns the SavedTensorSlices message of one slice."""
    head = protos.SavedSlice(name=name, slice=tensor_slice.to_proto()).SerializeToString()
    tensor = wire.length_delimited(_TENSOR_FIELD, *_encode_values(array.reshape(-1), dtype))
    pieces = wire.length_delimited(_DATA_FIELD, head, *tensor)
    size = sum(len(piece) for piece in pieces)
    if size > _MAX_MESSAGE_BYTES:
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Tensor slice is too large to serialize: '{name}' takes {size} bytes, and a V1 "
            "checkpoint holds no more than 2 GiB of one. Use the V2 format.",
        )
    return b"".join(pieces)


def _encode_values(values: np.ndarray, dtype: DType) -> list[bytes | memoryview]:
    """Returns the pieces of a TensorProto with only the values."""
    if not values.size:
        return []
    if dtype in _FIXED_WIDTH_FIELDS:
        field, stored = _FIXED_WIDTH_FIELDS[dtype]
        raw = np.ascontiguousarray(values, stored).view(np.uint8).data
        return wire.length_delimited(_FIELD_NUMBERS[field], raw)
    proto = protos.TensorProto()
    if dtype is dtypes.string:
        items = values.tolist()
        proto.string_val.extend(i.encode() if isinstance(i, str) else i for i in items)
    else:
        if dtype is dtypes.float16:
            values = values.view(np.uint16)
        elif dtype.is_quantized and values.dtype.names is not None:
            values = values.view(values.dtype[0])
        getattr(proto, _VARINT_FIELDS[dtype]).extend(values.tolist())
    return [proto.SerializeToString()]


class TensorSliceReader:
    """A V1 checkpoint, open for reading: one file, or all that match a pattern.

    Raises, from any method, DataLossError: a file is truncated or altered.
    """

    def __init__(self, pattern: str | bytes | os.PathLike):
        """Opens the files and reads their contents tables.  Raises NotFoundError: no file."""
        self._tables: list[Table] = []
        self._tensors: dict[str, tuple[DType, tuple[int, ...], dict[TensorSlice, Box]]] = {}
        self._places: dict[bytes, Table] = {}
        pattern = local_path(pattern)
        try:
            paths = [pattern] if os.path.isfile(pattern) else get_matching_files(pattern)
        except errors.OpError as error:
            raise errors.InvalidArgumentError(
                None,
                None,
                "Unsuccessful TensorSliceReader constructor: Failed to get matching files on "
                f"{pattern}: {error.message}",
            ) from error
        if not paths:
            raise errors.NotFoundError(
                None,
                None,
                "Unsuccessful TensorSliceReader constructor: Failed to find any matching files "
                f"for {pattern}",
            )
        try:
            for path in paths:
                self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> None:
        try:
            table = Table(path)
        except errors.OpError as error:
            raise errors.DataLossError(
                None,
                None,
                f"Unable to open table file {path}: {error.message}: perhaps your file is in a "
                "different file format and you need to use a different restore operator?",
            ) from error
        self._tables.append(table)
        try:
            contents = protos.SavedTensorSlices.FromString(bytes(table.get(_META_KEY) or b""))
        except DecodeError as error:
            raise data_loss(path, "contents table", "not parseable") from error
        if not contents.HasField("meta"):
            raise data_loss(
                path,
                "contents table",
                "Failed to find the saved tensor slices at the beginning of the checkpoint file",
            )
        versions = contents.meta.versions
        if versions.min_consumer > _VERSION or _VERSION in versions.bad_consumers:
            raise errors.InvalidArgumentError(
                None,
                None,
                f"Checkpoint {path} was made for readers of version {versions.min_consumer} and "
                f"above; this one is version {_VERSION}.",
            )
        for meta in contents.meta.tensor:
            self._register(meta, table)

    def _register(self, meta, table: Table) -> None:
        where = f"contents of tensor '{meta.name}'"
        shape = tuple(dim.size for dim in meta.shape.dim)
        try:
            dtype = dtypes.as_dtype(meta.type)
        except TypeError:
            raise data_loss(table.path, where, f"unknown type number {meta.type}") from None
        if meta.shape.unknown_rank or len(shape) > _MAX_RANK or any(size < 0 for size in shape):
            raise data_loss(table.path, where, f"invalid shape {list(shape)}")
        known_dtype, known_shape, slices = self._tensors.setdefault(meta.name, (dtype, shape, {}))
        if (known_dtype, known_shape) != (dtype, shape):
            raise data_loss(table.path, where, "type or shape is not that of another file")
        for proto in meta.slice:
            try:
                tensor_slice = TensorSlice.from_proto(proto)
                box = tensor_slice.resolve(shape)
            except (errors.InvalidArgumentError, errors.InternalError) as error:
                raise data_loss(table.path, where, error.message) from error
            if any(intersect(box, other) is not None for other in slices.values()):
                raise data_loss(table.path, where, f"slice {tensor_slice} overlaps another")
            slices[tensor_slice] = box
            self._places[tensor_slice.key(meta.name)] = table

    def keys(self) -> list[str]:
        """Returns the names of the tensors, sorted."""
        return sorted(self._tensors)

    def contains(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._tensors

    def dtype_and_shape(self, name: str) -> tuple[DType, tuple[int, ...]]:
        """Returns a tensor's type and full shape.  Raises NotFoundError: no such tensor."""
        dtype, shape, _ = self._tensor(name)
        return dtype, shape

    def slices(self, name: str) -> list[TensorSlice]:
        """Returns the slices in which a partitioned tensor is stored; none for a plain one."""
        _, _, slices = self._tensor(name)
        return [] if any(s.is_full for s in slices) else list(slices)

    def read(self, name: str) -> np.ndarray:
        """Returns a tensor; of a partitioned one, its parts put together.

        Raises NotFoundError: no such tensor.
        """
        _, shape, _ = self._tensor(name)
        return self.read_slice(name, TensorSlice.full(len(shape)))

    def read_slice(
        self, name: str, slice_spec: TensorSlice | Iterable[tuple[int, int | None]]
    ) -> np.ndarray:
        """Returns a slice of a tensor, however it is stored.

        Raises NotFoundError: no such tensor.  InternalError: the slice does not fit it.
        InvalidArgumentError: the stored slices do not cover it.
        """
        dtype, shape, slices = self._tensor(name)

        def read(tensor_slice: TensorSlice, box: Box) -> np.ndarray:
            return self._read_stored(name, dtype, tensor_slice, box)

        wanted = TensorSlice.of(slice_spec)
        return assemble(name, shape, dtype.np_dtype, wanted, list(slices.items()), read)

    def close(self) -> None:
        """Closes the files."""
        for table in self._tables:
            table.close()

    def __enter__(self) -> TensorSliceReader:
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.close()

    def _tensor(self, name: str) -> tuple[DType, tuple[int, ...], dict[TensorSlice, Box]]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise errors.NotFoundError(None, None, f"{name} not found in checkpoint file")
        return tensor

    def _read_stored(
        self, name: str, dtype: DType, tensor_slice: TensorSlice, box: Box
    ) -> np.ndarray:
        key = tensor_slice.key(name)
        table = self._places[key]
        where = f"tensor '{name}'"
        message = table.get(key)
        if message is None:
            raise data_loss(table.path, where, f"slice {tensor_slice} is not stored")
        shape = [length for _, length in box]
        try:
            values = _decode_values(message, dtype)
        except (MalformedBytes, DecodeError, OverflowError) as error:
            raise data_loss(table.path, where, f"values of {dtype.name}: {error}") from error
        if values.size != math.prod(shape):
            raise data_loss(table.path, where, f"{values.size} values for a slice of shape {shape}")
        return values.reshape(shape)


def _decode_values(message: memoryview, dtype: DType) -> np.ndarray:
    """Returns the values in a SavedTensorSlices message, in one dimension."""
    if dtype in _FIXED_WIDTH_FIELDS:
        field, stored = _FIXED_WIDTH_FIELDS[dtype]
        run = _only_field(message, _DATA_FIELD, _TENSOR_FIELD, _FIELD_NUMBERS[field])
        if run is not None:
            if len(run) % np.dtype(stored).itemsize:
                raise MalformedBytes(f"{len(run)} bytes of {dtype.name}")
            return np.frombuffer(run, stored).astype(dtype.np_dtype)
    # A run in pieces, or numbers of varying width: what the protobuf library is for.
    proto = protos.SavedTensorSlices.FromString(bytes(message)).data.data
    if dtype is dtypes.string:
        strings = np.empty(len(proto.string_val), np.object_)
        strings[:] = list(proto.string_val)
        return strings
    if dtype in _FIXED_WIDTH_FIELDS:
        real = dtype.real_dtype.np_dtype
        values = np.array(getattr(proto, field), real)
        if values.nbytes % dtype.size:
            raise MalformedBytes(f"{len(values)} parts of {dtype.name}")
        return values.view(dtype.np_dtype)
    if dtype not in _VARINT_FIELDS:
        raise MalformedBytes("a type that the format has no field for")
    values = np.array(getattr(proto, _VARINT_FIELDS[dtype]), np.int64)
    if dtype is dtypes.float16:
        return _narrow(values, np.dtype(np.uint16)).view(np.float16)
    if dtype.is_quantized:
        return _narrow(values, dtype.np_dtype[0]).view(dtype.np_dtype)
    return _narrow(values, dtype.np_dtype)


def _only_field(message: memoryview, *path: int) -> memoryview | None:
    """Returns the content of the field at `path`; None where it is missing or not the only one."""
    content: memoryview | None = message
    for number in path:
        found = [c for n, c in wire.fields(content) if n == number]
        if len(found) != 1 or found[0] is None:
            return None
        content = found[0]
    return content


def _narrow(values: np.ndarray, np_dtype: np.dtype) -> np.ndarray:
    narrowed = values.astype(np_dtype)
    if (narrowed.astype(np.int64) != values).any():
        raise MalformedBytes(f"a value that is no {np_dtype}")
    return narrowed
