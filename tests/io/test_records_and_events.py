"""TFRecord files and event files."""

import base64
import gzip
import os
import threading
import time
import zlib

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from headrace.core import errors
from headrace.io import (
    EventFileWriter,
    RecordReader,
    TFRecordCompressionType,
    TFRecordOptions,
    TFRecordWriter,
    summary_iterator,
    tf_record_iterator,
)

RECORDS = [b"", b"first", b"second record " * 30]

# Written by TensorFlow 1.15 from RECORDS, with its default options.
TENSORFLOW_FILES = {
    "": (
        "AAAAAAAAAAApA5gH2OqCogUAAAAAAAAA6rIEPmZpcnN0Vf8j5aQBAAAAAAAAR+MognNlY29uZCByZWNvcmQgc2Vj"
        "b25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3Jk"
        "IHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJl"
        "Y29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29u"
        "ZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBz"
        "ZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNv"
        "cmQgc2Vjb25kIHJlY29yZCBzZWNvbmQgcmVjb3JkIHNlY29uZCByZWNvcmQgc2Vjb25kIHJlY29yZCBzZWNvbmQg"
        "cmVjb3JkIEqENuY="
    ),
    "ZLIB": "eJxjYIAATeYZ7DdeNS1ihfJfbWKxS8ssKi4J/a/8dAkjRND9sUZTcWpyfl6KQhGQKkpRGOUNRp5Xi9kzAJq2q2Y=",
    "GZIP": (
        "H4sIAAAAAAAAA2NggABN5hnsN141LWKF8l9tYrFLyywqLgn9r/x0CSNE0P2xRlNxanJ+XopCEZAqSlEY5Q1GnleL"
        "2TMAaEC8wdkBAAA="
    ),
}


@pytest.mark.parametrize("compression", TENSORFLOW_FILES)
def test_files_of_tensorflow(tmp_path, compression):
    path = tmp_path / "records"
    path.write_bytes(base64.b64decode(TENSORFLOW_FILES[compression]))
    assert list(tf_record_iterator(path, compression)) == RECORDS
    with TFRecordWriter(tmp_path / "ours", compression) as writer:
        for record in RECORDS:
            writer.write(record)
    content = {"": bytes, "ZLIB": zlib.decompress, "GZIP": gzip.decompress}[compression]
    assert content((tmp_path / "ours").read_bytes()) == content(path.read_bytes())


def test_options(tmp_path):
    kinds = TFRecordCompressionType
    string = TFRecordOptions.get_compression_type_string
    assert [string(o) for o in (None, "", kinds.NONE, kinds.ZLIB, kinds.GZIP, "GZIP")] == [
        "", "", "", "ZLIB", "GZIP", "GZIP",
    ]  # fmt: skip
    assert string(TFRecordOptions(kinds.ZLIB)) == "ZLIB"
    with pytest.raises(ValueError, match="Not a valid compression_type"):
        TFRecordOptions("SNAPPY")
    with pytest.raises(ValueError, match="Not a valid compression_type"):
        TFRecordWriter(tmp_path / "x", "LZ4")
    sizes = {}
    for level in (0, 9):
        options = TFRecordOptions("GZIP", compression_level=level, mem_level=8)
        with TFRecordWriter(tmp_path / "x", options) as writer:
            writer.write(b"a" * 10_000)
        sizes[level] = os.path.getsize(tmp_path / "x")
        assert list(tf_record_iterator(tmp_path / "x", options)) == [b"a" * 10_000]
    with TFRecordWriter(tmp_path / "x", TFRecordOptions("ZLIB", window_bits=8)) as writer:
        writer.write(b"small window")
    assert list(tf_record_iterator(tmp_path / "x", "ZLIB")) == [b"small window"]
    assert sizes[9] < 200 < 10_000 < sizes[0]


@pytest.mark.parametrize("compression", ["", "ZLIB", "GZIP"])
def test_flushed_records_can_be_read_before_the_file_is_closed(tmp_path, compression):
    path = tmp_path / "records"
    writer = TFRecordWriter(path, compression)
    writer.write("one")
    writer.flush()
    reader = RecordReader(path, compression)
    assert reader.offset == 0
    assert reader.read() == b"one"
    assert reader.offset == 16 + len("one")
    writer.write(b"two")
    writer.close()
    writer.close()
    with pytest.raises(errors.FailedPreconditionError, match="previously closed"):
        writer.write(b"three")
    assert list(tf_record_iterator(path, compression)) == [b"one", b"two"]
    reader.close()


def test_gzip_files_on_end_and_long_records(tmp_path):
    long = os.urandom(3 << 20)
    for compression in ("GZIP", ""):
        paths = [tmp_path / "a", tmp_path / "b"]
        for path in paths:
            with TFRecordWriter(path, compression) as writer:
                writer.write(long)
                writer.write(b"end")
        (tmp_path / "both").write_bytes(b"".join(path.read_bytes() for path in paths))
        assert list(tf_record_iterator(tmp_path / "both", compression)) == [long, b"end"] * 2


def test_missing_files(tmp_path):
    with pytest.raises(errors.NotFoundError, match="absent"):
        next(tf_record_iterator(tmp_path / "absent"))
    with pytest.raises(errors.NotFoundError, match="no/x"):
        TFRecordWriter(tmp_path / "no" / "x")


def scalar(step, value):
    return Event(step=step, summary=Summary(value=[Summary.Value(tag="loss", simple_value=value)]))


def test_events(tmp_path):
    logdir = tmp_path / "logs" / "run"
    before = int(time.time())
    writer = EventFileWriter(str(logdir), max_queue=2, flush_secs=0.01, filename_suffix=".v2")
    assert writer.get_logdir() == str(logdir)
    threads = [
        threading.Thread(target=lambda: [writer.add_event(scalar(s, 0.5)) for s in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    (name,) = os.listdir(logdir)
    prefix, seconds, rest = name.split(".tfevents.")[0], *name.split(".tfevents.")[1].split(".", 1)
    assert prefix == "events.out" and len(seconds) == 10 and rest.endswith(".v2")
    assert before <= int(seconds) <= time.time()
    first, *others = summary_iterator(logdir / name)
    assert first.file_version == "brain.Event:2" and first.wall_time == int(seconds)
    assert sorted(e.step for e in others) == sorted(list(range(50)) * 4)
    writer.close()
    writer.close()
    writer.add_event(scalar(1, 1.0))
    # A reopened writer begins a new file, in the same second too.
    writer.reopen()
    writer.reopen()
    writer.add_event(scalar(2, 1.0))
    writer.close()
    names = sorted(os.listdir(logdir))
    assert len(names) == 2
    steps = [[e.step for e in summary_iterator(logdir / name)] for name in names]
    assert sorted(steps, key=len)[0] == [0, 2]


def test_the_first_event_is_readable_at_once(tmp_path):
    writer = EventFileWriter(str(tmp_path), flush_secs=1000)
    writer.add_event(scalar(5, 1.0))
    deadline = time.monotonic() + 10
    (name,) = os.listdir(tmp_path)
    while len(list(summary_iterator(tmp_path / name))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    writer.close()


def test_a_full_disk_is_reported(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full stands for a full disk, and is not here")
    writer = EventFileWriter(str(tmp_path))
    (name,) = os.listdir(tmp_path)
    writer.close()
    os.unlink(tmp_path / name)
    writer.reopen()
    writer._events.open()
    writer._events._writer._file.close()
    writer._events._writer._file = open("/dev/full", "wb", buffering=16)
    writer.add_event(scalar(1, 1.0))
    with pytest.raises(errors.ResourceExhaustedError):
        writer.flush()
    writer._events._writer._file = open(os.devnull, "wb")
    writer.close()


def test_damaged_event_files(tmp_path):
    with TFRecordWriter(tmp_path / "events") as writer:
        writer.write(Event(step=3).SerializeToString())
        writer.write(b"\xff\xff")
    events = summary_iterator(tmp_path / "events")
    assert next(events).step == 3
    with pytest.raises(errors.DataLossError, match="not an Event"):
        next(events)
