"""Datasets of what files hold."""

import gzip
import struct
import zlib

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements

COMPRESS = {"": lambda b: b, "GZIP": gzip.compress, "ZLIB": zlib.compress}


@pytest.mark.parametrize("compression", COMPRESS)
def test_text_lines(tmp_path, compression):
    contents = [b"one\ntwo\r\n\nlast", b"", b"x" * 700_000 + b"\nend\n"]
    names = []
    for i, content in enumerate(contents):
        path = tmp_path / f"{i}.txt"
        path.write_bytes(COMPRESS[compression](content))
        names.append(str(path))
    expected = [b"one", b"two", b"", b"last", b"x" * 700_000, b"end"]
    dataset = tf.data.TextLineDataset(names, compression)
    assert elements(dataset) == expected
    assert isinstance(dataset, tf.data.Dataset) and dataset.output_types == tf.string
    in_turn = tf.data.TextLineDataset(names[::2], compression, num_parallel_reads=2)
    assert elements(in_turn) == [b"one", expected[4], b"two", b"end", b"", b"last"]


@pytest.mark.parametrize("compression", COMPRESS)
def test_records(tmp_path, compression):
    names = []
    for i in range(3):
        names.append(str(tmp_path / f"{i}.tfrecord"))
        with tf.python_io.TFRecordWriter(
            names[-1], tf.python_io.TFRecordOptions(compression)
        ) as writer:
            for j in range(i + 1):
                writer.write(b"%d-%d" % (i, j) * 3)
    expected = [b"%d-%d" % (i, j) * 3 for i in range(3) for j in range(i + 1)]
    assert elements(tf.data.TFRecordDataset(names, compression)) == expected
    listed = tf.data.Dataset.list_files(str(tmp_path / "*.tfrecord"), shuffle=False)
    assert elements(listed) == [n.encode() for n in names]
    assert elements(tf.data.TFRecordDataset(listed, compression), one_shot=False) == expected
    parallel = tf.data.TFRecordDataset(names, compression, num_parallel_reads=3)
    assert sorted(elements(parallel)) == sorted(expected)
    shuffled = elements(tf.data.Dataset.list_files(str(tmp_path / "*.tfrecord"), seed=1))
    assert sorted(shuffled) == [n.encode() for n in names]


def test_damaged_records_and_missing_files(tmp_path):
    path = tmp_path / "damaged"
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        writer.write(b"fine")
        writer.write(b"damaged")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    element = tf.data.TFRecordDataset(str(path)).make_one_shot_iterator().get_next()
    with tf.Session() as session:
        assert session.run(element) == b"fine"
        with pytest.raises(tf.errors.DataLossError, match="damaged"):
            session.run(element)
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"\0\0\0\0")  # a length that no file has
    with pytest.raises(tf.errors.DataLossError):
        elements(tf.data.TFRecordDataset(str(path)))
    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        elements(tf.data.TFRecordDataset(str(tmp_path / "missing")))
    with pytest.raises(tf.errors.InvalidArgumentError, match="No files matched"):
        elements(tf.data.Dataset.list_files(str(tmp_path / "no*")), one_shot=False)
    with pytest.raises(tf.errors.DataLossError, match="compressed stream"):
        elements(tf.data.TextLineDataset(str(path), "GZIP"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unsupported compression_type"):
        elements(tf.data.TextLineDataset(str(path), "LZW"))
    with pytest.raises(TypeError, match=r"tf\.string"):
        tf.data.TextLineDataset(tf.data.Dataset.range(3))


@pytest.mark.parametrize("compression", COMPRESS)
def test_records_of_one_length(tmp_path, compression):
    path = tmp_path / "fixed"
    content = b"HEAD" + b"".join(struct.pack("<i", i) for i in range(5)) + b"FF"
    path.write_bytes(COMPRESS[compression](content))
    dataset = tf.data.FixedLengthRecordDataset(
        [str(path)] * 2, 4, header_bytes=4, footer_bytes=2, compression_type=compression
    )
    found = [struct.unpack("<i", e)[0] for e in elements(dataset)]
    assert found == list(range(5)) * 2
    wrong = tf.data.FixedLengthRecordDataset(str(path), 3, 4, 2, compression_type=compression)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.DataLossError)):
        elements(wrong)


def test_a_cache_in_a_file(tmp_path):
    calls = []

    def call(x):
        calls.append(int(x))
        return x * 2

    def pipeline():
        dataset = tf.data.Dataset.range(12).map(lambda x: tf.py_func(call, [x], tf.int64))
        return dataset.cache(str(tmp_path / "cache")).repeat(2)

    for _ in range(2):  # the second pipeline reads what the first one has written
        found = [int(x) for x in elements(pipeline(), one_shot=False)]
        assert found == [2 * i for i in range(12)] * 2
    assert calls == list(range(12))
    assert not (tmp_path / "cache.lockfile").exists()
    keys = tf.train.load_checkpoint(str(tmp_path / "cache")).get_variable_to_shape_map()
    assert sorted(keys)[:2] == ["      0_0", "      1_0"]
    iterator = tf.data.Dataset.range(3).cache(str(tmp_path / "other")).make_initializable_iterator()
    element = iterator.get_next()
    with tf.Session() as a, tf.Session() as b:
        a.run(iterator.initializer)
        b.run(iterator.initializer)
        assert a.run(element) == 0
        with pytest.raises(tf.errors.AlreadyExistsError, match="lockfile"):
            b.run(element)


def test_a_cache_in_memory_keeps_only_whole_iterations():
    calls = []

    def call(x):
        calls.append(int(x))
        return np.int64(x)

    dataset = tf.data.Dataset.range(3).map(lambda x: tf.py_func(call, [x], tf.int64)).cache()
    taken = dataset.take(2).repeat(2).concatenate(dataset.repeat(2))
    assert [int(x) for x in elements(taken, one_shot=False)] == [0, 1, 0, 1] + [0, 1, 2] * 2
    assert calls == [0, 1, 0, 1, 0, 1, 2]
