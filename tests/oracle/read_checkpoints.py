"""Lets the real TensorFlow 1.15 read what Headrace writes, bit for bit.

From the root of the repository, with a folder that does not exist yet:
    PYTHONPATH=. python tests/oracle/read_checkpoints.py write FOLDER
    PYTHON_OF_TENSORFLOW_1_15 tests/oracle/read_checkpoints.py read FOLDER

The tests show that our files are TensorFlow's, byte for byte, where both can write the same; this is
for the rest: checkpoints saved over others, kept without hard links, records, events.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "io"))
import checkpoint_cases as cases

RECORDS = [b"", b"one", b"two " * 1000, bytes(range(256))]
COMPRESSIONS = ["", "ZLIB", "GZIP"]
CHECKPOINTS = {
    "v2": cases.v2_tensors(),
    "v1": cases.v1_tensors(),
    "overwritten": cases.v2_tensors(),
    "without_links": cases.v2_tensors(),
    "sharded": [tensor for shard in cases.shards() for tensor in shard],
    "sharded_again": [tensor for shard in cases.shards() for tensor in shard],
    "many": cases.many_tensors()[::10],
}


def write(folder):
    """Writes everything with Headrace."""
    import test_checkpoints as ours
    from tensorboard.compat.proto.event_pb2 import Event

    from headrace.io import EventFileWriter, TFRecordWriter, merge_bundles

    os.makedirs(folder)

    def path(name):
        return os.path.join(folder, name)

    ours.write_v1(path("v1"), CHECKPOINTS["v1"])
    ours.write_v2(path("v2"), CHECKPOINTS["v2"])
    ours.write_v2(path("many"), CHECKPOINTS["many"])
    for _ in range(3):
        ours.write_v2(path("overwritten"), CHECKPOINTS["overwritten"])
    for name, saves in (("sharded", 1), ("sharded_again", 3)):
        for _ in range(saves):
            parts = []
            for i, tensors in enumerate(cases.shards()):
                parts.append(path("temp_{}/part".format(i)))  # noqa: UP032 (read by Python 3.7 too)
                ours.write_v2(parts[-1], tensors)
            merge_bundles(parts, path(name), delete_old_dirs=True)
    link = os.link

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    os.link = refuse
    for _ in range(2):
        ours.write_v2(path("without_links"), CHECKPOINTS["without_links"])
    os.link = link
    for compression in COMPRESSIONS:
        with TFRecordWriter(path("records" + compression), compression) as writer:
            for i, record in enumerate(RECORDS):
                writer.write(record)
                if i == 1:
                    writer.flush()
    events = EventFileWriter(path("events"))
    for step in range(5):
        events.add_event(Event(step=step, wall_time=step))
    events.close()


def read(folder):
    """Reads everything with TensorFlow and compares."""
    import tensorflow as tf
    from tensorflow.python.ops import gen_io_ops

    def fetch(array):
        return array.tolist() if array.dtype == object else array.tobytes()

    compared = 0
    for checkpoint, tensors in CHECKPOINTS.items():
        prefix = os.path.join(folder, checkpoint)
        assert tf.compat.v1.train.checkpoint_exists(prefix), prefix
        restore = gen_io_ops.restore_v2
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            restored = restore(
                prefix,
                [t[0] for t in tensors],
                [t[1] for t in tensors],
                [tf.as_dtype(t[2]) for t in tensors],
            )
            for (name, spec, _, expected), value in zip(tensors, session.run(restored)):
                if isinstance(value, bytes):
                    value = np.array(value, object)
                assert value.shape == expected.shape, (checkpoint, name, spec, value.shape)
                assert fetch(value) == fetch(expected), (checkpoint, name, spec)
                compared += 1
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
        assert set(reader.get_variable_to_shape_map()) == {t[0] for t in tensors}, checkpoint
    for compression in COMPRESSIONS:
        path = os.path.join(folder, "records" + compression)
        found = list(tf.compat.v1.io.tf_record_iterator(path, compression or None))
        assert found == RECORDS, compression
        compared += len(found)
    (name,) = os.listdir(os.path.join(folder, "events"))
    events = list(tf.compat.v1.train.summary_iterator(os.path.join(folder, "events", name)))
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == list(range(5))
    print("TensorFlow %s read %d values as written" % (tf.__version__, compared))  # noqa: UP031


if __name__ == "__main__":
    assert np.little_endian
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
