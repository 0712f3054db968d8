"""Damaged checkpoints and record files: a typed error or the very same values, never anything else.

Every case also has to do with little memory, whatever lengths the file claims.
"""

import pathlib
import shutil
import tracemalloc

import numpy as np
import pytest

from headrace.core import errors
from headrace.io import (
    BundleReader,
    TensorSliceReader,
    TFRecordWriter,
    merge_bundles,
    protos,
    tf_record_iterator,
)
from headrace.io.checksum import crc32c, mask, masked_crc32c
from headrace.io.local_files import AtomicFile
from headrace.io.table import TableWriter

STORED = pathlib.Path(__file__).parents[1] / "data" / "checkpoints"
MEMORY = 16 << 20


def contents_of(reader_class, path):
    """Returns all that a checkpoint holds, in a form that can be compared."""
    with reader_class(path) as reader:
        return {
            name: (
                reader.dtype_and_shape(name),
                array.tolist() if array.dtype == object else array.tobytes(),
            )
            for name in reader.keys()
            for array in [reader.read(name)]
        }


@pytest.fixture
def little_memory():
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


def damaged(data, stride):
    """Yields what is wrong, and `data` with a byte changed, cut short, or with bytes appended."""
    for place in range(0, len(data), stride):
        for bit in (1 << place % 8, 0xFF):
            changed = bytearray(data)
            changed[place] ^= bit
            yield f"byte {place} changed by {bit:02x}", bytes(changed)
    for end in range(0, len(data), stride):
        yield f"cut at {end}", data[:end]
    yield "appended", data + b"\0" * 7


@pytest.mark.parametrize(
    "files, damaged_file, stride, reader_class",
    [
        (["sharded.*"], "sharded.index", 1, BundleReader),
        (["sharded.*"], "sharded.data-00002-of-00003", 5, BundleReader),
        (["v2.*"], "v2.index", 13, BundleReader),
        (["v2.*"], "v2.data-00000-of-00001", 151, BundleReader),
        (["v1"], "v1", 41, TensorSliceReader),
    ],
)
def test_damaged_checkpoints(tmp_path, little_memory, files, damaged_file, stride, reader_class):
    for pattern in files:
        for path in STORED.glob(pattern):
            shutil.copy(path, tmp_path)
    path = tmp_path / damaged_file
    prefix = tmp_path / damaged_file.split(".")[0]
    expected = contents_of(reader_class, prefix)
    data = path.read_bytes()
    harmless = lost = 0
    for what, content in damaged(data, stride):
        path.write_bytes(content)
        try:
            found = contents_of(reader_class, prefix)
        except errors.DataLossError as error:
            assert str(path) in str(error), what
            lost += 1
            continue
        # Bytes that mean nothing: padding of the footer, the empty metaindex block.
        assert found == expected, what
        harmless += 1
    assert lost > 10 * harmless or damaged_file == "sharded.index"
    assert lost > 3 * harmless


def write_bundle(prefix, data, tensors, **header):
    """Writes an index that says what it likes, with true checksums."""
    pathlib.Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    with AtomicFile(f"{prefix}.index") as file:
        table = TableWriter(file)
        header = protos.BundleHeaderProto(**{"num_shards": 1, **header})
        table.add(b"", header.SerializeToString())
        for key, entry in sorted(tensors.items()):
            table.add(key, entry if isinstance(entry, bytes) else entry.SerializeToString())
        table.finish()


def entry(dtype, shape, data=b"", **fields):
    proto = protos.BundleEntryProto(
        **{"dtype": dtype, "size": len(data), "crc32c": masked_crc32c(data), **fields}
    )
    for size in shape:
        proto.shape.dim.add(size=size)
    return proto


def sliced(shape, *slices):
    proto = entry(1, shape)
    for extents in slices:
        tensor_slice = proto.slices.add()
        for start, length in extents:
            extent = tensor_slice.extent.add(start=start)
            extent.length = length
    return proto


DATA = b"\x01\x00\x00\x00" * 4


@pytest.mark.parametrize(
    "tensor, match",
    [
        (entry(1, [4], DATA, size=1 << 60), "does not fit"),
        (entry(1, [1 << 58], DATA, size=1 << 60), "truncated or altered"),
        (entry(1, [1 << 62, 1 << 62], DATA), "does not fit"),
        (entry(1, [4], DATA, offset=1), "truncated or altered"),
        (entry(1, [4], DATA, offset=-4), "truncated or altered"),
        (entry(1, [-4], DATA, size=-16), "invalid shape"),
        (entry(1, [1] * 300, DATA[:4]), "invalid shape"),
        (entry(1, [4], DATA, crc32c=5), "Checksum does not match"),
        (entry(1, [4], DATA, shard_id=1), "data file 1 of 1"),
        (entry(1, [4], DATA, shard_id=-1), "data file -1 of 1"),
        (entry(99, [4], DATA), "unknown type number 99"),
        (entry(7, [1 << 60], DATA), "does not fit"),
        (entry(7, [16], DATA), "do not add up"),
        (entry(7, [1], DATA), "do not add up"),
        (entry(10, [16], DATA.replace(b"\0", b"\2")), None),
        (b"\xff\xff", "not parseable"),
        (sliced([4], [(0, 1 << 62)]), "out of bounds"),
        (sliced([4], [(-1, 2)]), "non-negative start"),
        (sliced([4], [(0, 2)], [(1, 2)]), "overlaps"),
        (sliced([1 << 60], [(0, 1 << 60)]), "is not stored"),
        (sliced([4], [(0, 1)], [(1, 3)]), "is not stored"),
        (sliced([4], [(0, 1), (0, 1)]), "Mismatching ranks"),
    ],
)
def test_false_indexes_with_true_checksums(tmp_path, little_memory, tensor, match):
    data = DATA
    if match is None:
        data, match = DATA.replace(b"\0", b"\2"), "neither 0 nor 1"
    write_bundle(tmp_path / "c", data, {b"x": tensor})
    with pytest.raises(errors.DataLossError, match=match):
        BundleReader(tmp_path / "c").read("x")


def test_false_headers(tmp_path):
    for header, error, match in [
        ({"num_shards": 0}, errors.DataLossError, "0 data files"),
        ({"num_shards": 1 << 30}, errors.DataLossError, "data files"),
        ({"endianness": 2}, errors.DataLossError, "byte order 2"),
        ({"version": {"min_consumer": 2}}, errors.InvalidArgumentError, "version 2"),
        ({"version": {"bad_consumers": [1]}}, errors.InvalidArgumentError, "this one is version 1"),
    ]:
        write_bundle(tmp_path / "c", DATA, {}, **header)
        with pytest.raises(error, match=match):
            BundleReader(tmp_path / "c")
        with pytest.raises(error, match=match):
            merge_bundles([tmp_path / "c"], tmp_path / "merged")
    with AtomicFile(str(tmp_path / "c.index")) as file:
        table = TableWriter(file)
        table.add(b"x", entry(1, [4], DATA).SerializeToString())
        table.finish()
    with pytest.raises(errors.DataLossError, match="no header"):
        BundleReader(tmp_path / "c")
    with pytest.raises(errors.DataLossError, match="Failed to find the saved tensor slices"):
        TensorSliceReader(tmp_path / "c.index")


def test_a_missing_data_file_hurts_only_its_tensors(tmp_path):
    for path in STORED.glob("sharded.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "sharded.data-00001-of-00003").unlink()
    with BundleReader(tmp_path / "sharded") as reader:
        assert reader.read("b").shape == (4,)
        with pytest.raises(errors.NotFoundError, match="data-00001-of-00003"):
            reader.read("a")


def test_false_v1_tables(tmp_path, little_memory):
    meta = protos.SavedTensorSlices()
    tensor = meta.meta.tensor.add(name="x", type=4)
    tensor.shape.dim.add(size=1 << 50)
    tensor.slice.add().extent.add()
    for number, value, match in [
        (4, protos.TensorProto(int_val=[1, 2]), "2 values for a slice"),
        (4, protos.TensorProto(int_val=[300]), "no uint8"),
        (1, protos.TensorProto(float_val=[1.0]), "1 values for a slice"),
        (14, protos.TensorProto(half_val=[1]), "no field"),
        (98, protos.TensorProto(), "unknown type number"),
    ]:
        tensor.type = number
        message = protos.SavedTensorSlices(data={"name": "x", "data": value})
        with AtomicFile(str(tmp_path / "c")) as file:
            table = TableWriter(file)
            table.add(b"", meta.SerializeToString())
            table.add(b"\x00x\x00\x01\x01\x01\x80\x7f", message.SerializeToString())
            table.finish()
        with pytest.raises(errors.DataLossError, match=match):
            TensorSliceReader(tmp_path / "c").read("x")


@pytest.mark.parametrize("compression, stride", [("", 1), ("ZLIB", 1), ("GZIP", 1)])
def test_damaged_records(tmp_path, little_memory, compression, stride):
    path = tmp_path / "records"
    records = [b"", b"one", b"\0" * 100, np.arange(40).tobytes()]
    with TFRecordWriter(path, compression) as writer:
        for record in records:
            writer.write(record)
    expected = list(tf_record_iterator(path, compression))
    assert expected == records
    lost = 0
    for what, content in damaged(path.read_bytes(), stride):
        path.write_bytes(content)
        found = []
        try:
            for record in tf_record_iterator(path, compression):
                found.append(record)
        except errors.DataLossError as error:
            assert str(path) in str(error)
            lost += 1
        # What came before the damage came out right.
        assert found == records[: len(found)], what
    assert lost > 100


def test_a_false_length_with_a_true_checksum(tmp_path, little_memory):
    length = (1 << 62).to_bytes(8, "little")
    path = tmp_path / "records"
    path.write_bytes(length + mask(crc32c(length)).to_bytes(4, "little") + b"rest")
    with pytest.raises(errors.DataLossError, match="truncated record"):
        list(tf_record_iterator(path))
