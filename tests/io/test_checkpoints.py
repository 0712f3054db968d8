"""Checkpoints against TensorFlow's: what it wrote reads back bit-equal, what we write is its bytes."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

from headrace.core import dtypes, errors
from headrace.io import (
    BundleReader,
    BundleWriter,
    CheckpointReader,
    TensorSlice,
    TensorSliceReader,
    TensorSliceWriter,
    checkpoint_exists,
    merge_bundles,
    parse_shape_and_slice,
)

sys.path.insert(0, os.path.dirname(__file__))
import checkpoint_cases as cases

STORED = pathlib.Path(__file__).parents[1] / "data" / "checkpoints"


def as_typed(dtype_name, array):
    """Returns the array as the element type that `dtype_name` has here."""
    return array if dtype_name == "string" else array.view(dtypes.as_dtype(dtype_name).np_dtype)


def whole_tensors(tensors):
    """Returns name -> (dtype name, full array) of cases in which some are slices."""
    whole = {}
    for name, spec, dtype_name, array in tensors:
        if spec:
            shape, _, _ = parse_shape_and_slice(spec)
            array = cases.pattern(dtype_name, shape, 7)
        whole[name] = dtype_name, array
    return whole


def write_v2(prefix, tensors):
    with BundleWriter(prefix) as writer:
        for name, spec, dtype_name, array in tensors:
            array = as_typed(dtype_name, array)
            if spec:
                shape, tensor_slice, _ = parse_shape_and_slice(spec)
                writer.add_slice(name, shape, tensor_slice, array)
            else:
                writer.add(name, array)


def write_v1(path, tensors):
    writer = TensorSliceWriter(path)
    for name, spec, dtype_name, array in tensors:
        shape, tensor_slice = parse_shape_and_slice(spec)[:2] if spec else (None, None)
        writer.add(name, as_typed(dtype_name, array), shape, tensor_slice)
    writer.finish()


def assert_same(actual, dtype_name, expected):
    assert actual.shape == expected.shape
    assert actual.dtype == dtypes.as_dtype(dtype_name).np_dtype
    if dtype_name == "string":
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()


def file_bytes(folder, stem):
    return {
        p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir() if p.name.startswith(stem)
    }


def shard_tensors():
    return [tensor for shard in cases.shards() for tensor in shard]


@pytest.mark.parametrize(
    "name, tensors, reader_class",
    [
        ("v2", cases.v2_tensors(), BundleReader),
        ("v1", cases.v1_tensors(), TensorSliceReader),
        ("sharded", shard_tensors(), BundleReader),
    ],
)
def test_reads_what_tensorflow_wrote(name, tensors, reader_class):
    expected = whole_tensors(tensors)
    with reader_class(STORED / name) as reader:
        assert reader.keys() == sorted(expected)
        for key, (dtype_name, array) in expected.items():
            assert reader.contains(key)
            assert reader.dtype_and_shape(key) == (dtypes.as_dtype(dtype_name), array.shape)
            assert_same(reader.read(key), dtype_name, array)


def test_writes_the_bytes_that_tensorflow_writes(tmp_path):
    write_v2(tmp_path / "v2", cases.v2_tensors())
    write_v1(tmp_path / "v1", cases.v1_tensors())
    parts = []
    for i, tensors in enumerate(cases.shards()):
        parts.append(tmp_path / f"temp_{i}" / "part")
        write_v2(parts[-1], tensors)
    merge_bundles(parts, tmp_path / "sharded", delete_old_dirs=True)
    for stem in ("v1", "v2", "sharded"):
        assert file_bytes(tmp_path, stem) == file_bytes(STORED, stem)
    assert not list(tmp_path.glob("temp_*"))


def test_tables_of_many_blocks_are_tensorflows_too(tmp_path):
    tensors = cases.many_tensors()
    write_v2(tmp_path / "many", tensors)
    write_v1(tmp_path / "many_v1", tensors)
    for name, expected in json.loads((STORED / "hashes.json").read_text()).items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == expected, name
    for reader in (BundleReader(tmp_path / "many"), TensorSliceReader(tmp_path / "many_v1")):
        assert len(reader.keys()) == len(tensors)
        for name, _, dtype_name, array in tensors[::137]:
            assert_same(reader.read(name), dtype_name, array)


@pytest.mark.parametrize("name, reader_class", [("v2", BundleReader), ("v1", TensorSliceReader)])
def test_slices_are_put_together(name, reader_class):
    full = cases.pattern("float32", (5, 200), 7)
    with reader_class(STORED / name) as reader:
        assert [str(s) for s in reader.slices("part/grid")] == cases.GRID
        for text in ("-:-", "0,2:130,70", "1,3:100,60", "4,1:-", "0,5:199,1"):
            tensor_slice = TensorSlice.parse(text)
            index = tuple(slice(a, a + n) for a, n in tensor_slice.resolve(full.shape))
            assert_same(reader.read_slice("part/grid", tensor_slice), "float32", full[index])
        # A tensor that was stored whole can be read in slices.
        whole = cases.pattern("float32", (2, 3), 0)
        assert_same(reader.read_slice("all/float32", [(1, 1), (0, None)]), "float32", whole[1:2])
        with pytest.raises(errors.InternalError, match="out of bounds"):
            reader.read_slice("part/grid", [(4, 2), (0, None)])
        with pytest.raises(errors.InternalError, match="Mismatching ranks"):
            reader.read_slice("part/grid", [(4, 1)])
        with pytest.raises(errors.NotFoundError, match="absent"):
            reader.read("absent")


def test_missing_slices_are_an_error(tmp_path):
    write_v2(tmp_path / "half", [t for t in cases.v2_tensors() if t[0] == "part/grid"][:2])
    with BundleReader(tmp_path / "half") as reader:
        with pytest.raises(errors.InvalidArgumentError, match="sufficient slices"):
            reader.read("part/grid")
        assert reader.read_slice("part/grid", [(0, 2), (0, 200)]).shape == (2, 200)


def test_checkpoint_reader_reads_both_formats(tmp_path):
    for name, line in (("v2", b"DT_BFLOAT16"), ("v1", b"DT_HALF")):
        reader = CheckpointReader(str(STORED / name))
        assert reader.get_variable_to_shape_map()["part/grid"] == [5, 200]
        assert reader.get_variable_to_dtype_map()["all/float16"] is dtypes.float16
        assert reader.has_tensor("scalar/int32") and not reader.has_tensor("int32")
        assert reader.get_tensor("strings/scalar") == b"one"
        assert reader.get_tensor("strings/matrix").tolist()[0][2] == b"\x00\xff"
        assert b"all/int32 (DT_INT32) [2,3]\n" in reader.debug_string()
        assert b"part/grid (DT_FLOAT) [5,200], 3 slices\n" in reader.debug_string()
        assert line in reader.debug_string()
        reader.close()
    assert checkpoint_exists(STORED / "v1") and checkpoint_exists(str(STORED / "v*"))
    assert not checkpoint_exists(STORED / "absent") and not checkpoint_exists("/absent/absent")
    with pytest.raises(errors.NotFoundError, match="Failed to find any matching files"):
        CheckpointReader(str(tmp_path / "absent"))
    with pytest.raises(errors.DataLossError, match="different file format"):
        CheckpointReader(str(STORED / "hashes.json"))
    # A sharded V1 checkpoint is a pattern.
    tensors = cases.v1_tensors()
    write_v1(tmp_path / "s-0", [t for t in tensors if t[1]][:1] + tensors[:3])
    write_v1(tmp_path / "s-1", [t for t in tensors if t[1]][1:])
    reader = CheckpointReader(str(tmp_path / "s-?"))
    assert_same(reader.get_tensor("part/grid"), "float32", cases.pattern("float32", (5, 200), 7))


def test_what_cannot_be_stored_is_refused(tmp_path):
    with BundleWriter(tmp_path / "c") as writer:
        writer.add("x", np.ones((4, 2), np.float32))
        for call, error, match in [
            (lambda: writer.add("x", np.ones(1)), errors.InvalidArgumentError, "duplicate key"),
            (lambda: writer.add("", np.ones(1)), errors.InvalidArgumentError, "name"),
            (
                lambda: writer.add("v", np.empty(1, object), dtypes.variant),
                errors.UnimplementedError,
                "variant",
            ),
            (
                lambda: writer.add_slice("x", (8, 2), [(0, 4), (0, 2)], np.ones((4, 2))),
                errors.InvalidArgumentError,
                "contradicts",
            ),
            (
                lambda: writer.add_slice("y", (8, 2), [(0, 4), (0, 2)], np.ones((3, 2))),
                errors.InvalidArgumentError,
                "needs an array",
            ),
            (
                lambda: writer.add_slice("y", (8,), [(0, 0)], np.ones(0)),
                errors.InvalidArgumentError,
                "positive length",
            ),
            (
                lambda: writer.add("s", np.array([1.5, None])),
                errors.InvalidArgumentError,
                "float; it needs bytes or str",
            ),
        ]:
            with pytest.raises(error, match=match):
                call()
    assert BundleReader(tmp_path / "c").keys() == ["x"]
    with pytest.raises(errors.UnimplementedError, match="bfloat16"):
        TensorSliceWriter(tmp_path / "v1").add("x", np.ones(1, ml_dtypes.bfloat16))
    with pytest.raises(errors.NotFoundError):
        BundleWriter(tmp_path / "no" / "such" / "c")
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "d") as writer:
        writer.add("x", np.ones(3))
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == ["c.data-00000-of-00001", "c.index"]


def test_layouts_and_byte_orders_of_arrays(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {
        "big": base.astype(">f4"),
        "columns": np.asfortranarray(base),
        "scalar": np.float64(2.5),
        "steps": base[::2, ::-1],
        "text": np.array(["a", "é"]),
    }
    for write, read in ((BundleWriter, BundleReader), (TensorSliceWriter, TensorSliceReader)):
        writer = write(tmp_path / write.__name__)
        for name, array in arrays.items():
            writer.add(name, array)
        writer.finish()
        with read(tmp_path / write.__name__) as reader:
            for name, array in arrays.items():
                if name == "text":
                    assert reader.read(name).tolist() == [b"a", "é".encode()]
                else:
                    np.testing.assert_array_equal(reader.read(name), array)
                    assert reader.read(name).dtype.isnative


def test_merge_refuses_the_same_tensor_twice(tmp_path):
    for part in "ab":
        write_v2(tmp_path / part, [("x", "", "int32", cases.pattern("int32", (2,)))])
    with pytest.raises(errors.InvalidArgumentError, match="Duplicate tensor keyed by x"):
        merge_bundles([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert BundleReader(tmp_path / "a").keys() == ["x"] and not checkpoint_exists(tmp_path / "m")


def test_messages_live_beside_other_definitions():
    # What a real TensorFlow in the same process would do to the default pool.
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool
f = descriptor_pb2.FileDescriptorProto(
    name="tensorflow/core/protobuf/tensor_bundle.proto", package="tensorflow")
f.message_type.add(name="BundleEntryProto").field.add(name="other", number=1, type=9, label=1)
descriptor_pool.Default().Add(f)
from headrace.io import protos
assert protos.BundleEntryProto(crc32c=7).SerializeToString() == b"\\x35\\x07\\0\\0\\0"
assert protos.CheckpointState.DESCRIPTOR.full_name == "tensorflow.CheckpointState"
"""
    environment = dict(os.environ, PYTHONPATH=str(pathlib.Path(__file__).parents[2]))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_big_endian_files_are_read(tmp_path):
    from headrace.io import protos
    from headrace.io.checksum import masked_crc32c
    from headrace.io.local_files import AtomicFile
    from headrace.io.table import TableWriter

    values = np.array([1 + 2j, -3.5j], np.complex64)
    raw = values.view(np.float32).astype(">f4").tobytes()
    (tmp_path / "c.data-00000-of-00001").write_bytes(raw)
    entry = protos.BundleEntryProto(dtype=8, size=len(raw), crc32c=masked_crc32c(raw))
    entry.shape.dim.add(size=2)
    with AtomicFile(str(tmp_path / "c.index")) as file:
        table = TableWriter(file)
        table.add(b"", protos.BundleHeaderProto(num_shards=1, endianness=1).SerializeToString())
        table.add(b"x", entry.SerializeToString())
        table.finish()
    np.testing.assert_array_equal(BundleReader(tmp_path / "c").read("x"), values)


def test_a_save_over_the_same_prefix_leaves_one_checkpoint(tmp_path, monkeypatch):
    prefix = tmp_path / "c"

    def save(value, shards=1):
        parts = []
        for i in range(shards):
            parts.append(tmp_path / f"part{i}")
            write_v2(parts[-1], [(f"x{i}", "", "int32", np.full(3, value, np.int32))])
        merge_bundles(parts, prefix)

    def check(value, shards, count):
        with BundleReader(prefix) as reader:
            assert [reader.read(f"x{i}").tolist() for i in range(shards)] == [[value] * 3] * shards
        names = [f"c.data-{i:05d}-of-{count:05d}" for i in range(shards)]
        assert sorted(os.listdir(tmp_path)) == [*names, "c.index"]

    for value, shards in enumerate([1, 1, 2, 2, 2, 1, 3, 1, 1]):
        save(value, shards)
        check(value, shards, shards)
    # A reader that was opened before a save goes on reading what it was opened on.
    with BundleReader(prefix) as reader:
        save(100)
        assert reader.read("x0").tolist() == [8] * 3

    # Without hard links the files keep the other names, and are as good.
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(101)
    check(101, 1, 2)
    save(102)
    check(102, 1, 1)
    shutil.rmtree(tmp_path)


def test_threads_may_save_under_one_prefix(tmp_path):
    failures = []

    def save(value):
        try:
            for _ in range(8):
                write_v2(tmp_path / "c", [("x", "", "int32", np.full(100, value, np.int32))])
                with BundleReader(tmp_path / "c") as reader:
                    assert len(set(reader.read("x").tolist())) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(os.listdir(tmp_path)) == ["c.data-00000-of-00001", "c.index"]
