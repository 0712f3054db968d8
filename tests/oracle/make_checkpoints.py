"""Writes the checkpoints of tests/data/checkpoints with the real TensorFlow 1.15.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_checkpoints.py

Values are patterns of raw bytes (see `tests/io/checkpoint_cases.py`, shared with the tests), so
that the tests can make them again without TensorFlow.
"""

import hashlib
import json
import os
import shutil
import sys

import tensorflow as tf
from tensorflow.python.framework import dtypes
from tensorflow.python.ops import gen_io_ops

_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_TESTS, "io"))
import checkpoint_cases as cases  # noqa: E402

_OUT = os.path.join(_TESTS, "data", "checkpoints")


def feed(dtype_name, array, feeds):
    """Returns a tensor that is fed `array` as it is."""
    dtype = dtypes.as_dtype(dtype_name)
    if dtype_name == "bfloat16":
        bits = tf.compat.v1.placeholder(tf.uint16, array.shape)
        feeds[bits] = array
        return tf.bitcast(bits, tf.bfloat16)
    if dtype.is_quantized:
        array = array.view(dtype.as_numpy_dtype)
    tensor = tf.compat.v1.placeholder(dtype, array.shape)
    feeds[tensor] = array
    return tensor


def save(op, prefix, tensors):
    """Runs the save op `op` on (name, shape_and_slice, dtype name, array) in the given order."""
    with tf.Graph().as_default():
        feeds = {}
        fed = [feed(dtype, array, feeds) for _, _, dtype, array in tensors]
        node = op(prefix, [t[0] for t in tensors], [t[1] for t in tensors], fed)
        with tf.compat.v1.Session() as session:
            session.run(node, feeds)


def merge(prefixes, target):
    with tf.Graph().as_default():
        node = gen_io_ops.merge_v2_checkpoints(prefixes, target, delete_old_dirs=True)
        with tf.compat.v1.Session() as session:
            session.run(node)


def main():
    shutil.rmtree(_OUT, ignore_errors=True)
    os.makedirs(_OUT)
    path = lambda name: os.path.join(_OUT, name)  # noqa: E731
    save(gen_io_ops.save_v2, path("v2"), cases.v2_tensors())
    save(gen_io_ops.save_slices, path("v1"), cases.v1_tensors())
    parts = []
    for i, tensors in enumerate(cases.shards()):
        parts.append(path(f"temp_{i}/part"))
        save(gen_io_ops.save_v2, parts[-1], tensors)
    merge(parts, path("sharded"))
    # Too large to keep: only what they hash to.
    hashes = {}
    save(gen_io_ops.save_v2, path("many"), cases.many_tensors())
    save(gen_io_ops.save_slices, path("many_v1"), cases.many_tensors())
    for name in ("many.index", "many.data-00000-of-00001", "many_v1"):
        with open(path(name), "rb") as file:
            hashes[name] = hashlib.sha256(file.read()).hexdigest()
        os.remove(path(name))
    with open(path("hashes.json"), "w") as file:
        json.dump(hashes, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
