"""Programs as people wrote them for TensorFlow 1, run by `headrace run` without a change."""

import gzip
import struct

import pytest

from tests.cli.test_run import headrace

FLAGS_AND_TRAINING = """
from __future__ import absolute_import, division, print_function
import sys
import tensorflow as tf
from tensorflow.python.framework import ops, dtypes
from tensorflow.python.ops import array_ops, math_ops, variable_scope as vs
from tensorflow.python.client import device_lib
from tensorflow.core.framework import graph_pb2

flags = tf.app.flags
flags.DEFINE_float("learning_rate", 0.5, "step size")
flags.DEFINE_string("folder", "log", "where to")
FLAGS = flags.FLAGS

def main(_):
    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    with vs.variable_scope("model"):
        w = vs.get_variable("w", [2, 1], initializer=tf.ones_initializer())
    y = math_ops.matmul(x, w, name="y")
    loss = tf.reduce_mean(tf.square(y))
    train = tf.train.GradientDescentOptimizer(FLAGS.learning_rate).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train, feed_dict={x: [[1.0, 0.0]]})
        print(sess.run(w).tolist(), FLAGS.learning_rate)
        path = tf.train.Saver().save(sess, FLAGS.folder + "/model.ckpt")
        tf.train.write_graph(sess.graph_def, FLAGS.folder, "graph.pbtxt")
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(ops.get_default_graph().as_graph_def())
    print([n.name for n in definition.node if n.op == "Placeholder"], dtypes.float32 is tf.float32)
    print(array_ops.shape(x).op.type, isinstance(y, ops.Tensor), tf.VERSION == tf.__version__)
    print([d.device_type for d in device_lib.list_local_devices() if d.device_type == "CPU"])

if __name__ == "__main__":
    tf.app.run()
"""

FREEZE = """
import tensorflow.compat.v1 as tf
from tensorflow.python.tools import freeze_graph, inspect_checkpoint
frozen = freeze_graph.freeze_graph(
    "log/graph.pbtxt", "", False, "log/model.ckpt", "y", "save/restore_all", "save/Const:0",
    "log/frozen.pb", True, "")
print(sorted({n.op for n in frozen.node}))
with tf.Graph().as_default(), tf.Session() as sess:
    definition = tf.GraphDef.FromString(open("log/frozen.pb", "rb").read())
    y, = tf.import_graph_def(definition, return_elements=["y:0"], name="")
    print(sess.run(y, {"x:0": [[3.0, 1.0]]}).tolist())
inspect_checkpoint.print_tensors_in_checkpoint_file("log/model.ckpt", "", False, True)
"""

DIGITS = """
from tensorflow.examples.tutorials.mnist import input_data
mnist = input_data.read_data_sets("data", one_hot=True, validation_size=2, seed=5)
print(mnist.train.images.shape, mnist.train.images.dtype, mnist.test.labels.shape)
print([mnist.train.next_batch(3)[1].argmax(1).tolist() for _ in range(4)])
print(mnist.train.epochs_completed, mnist.validation.num_examples)
"""


def test_flags_training_and_private_modules(tmp_path):
    (tmp_path / "train.py").write_text(FLAGS_AND_TRAINING)
    done = headrace("run", "train.py", "--learning_rate=0.25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # TensorFlow 1.15 prints the same.
    assert done.stdout.splitlines() == [
        "[[0.5], [1.0]] 0.25",
        "['x'] True",
        "Shape True True",
        "['CPU']",
    ]
    (tmp_path / "freeze.py").write_text(FREEZE)
    done = headrace("run", "freeze.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] in (
        "['Const', 'Identity', 'MatMul', 'Placeholder']",
        "['Const', 'MatMul', 'Placeholder']",
    )
    assert lines[1:] == ["[[2.5]]", "tensor_name:  model/w", "# Total number of params: 2"]


@pytest.fixture
def digits(tmp_path):
    """The four files of MNIST's format, with 8 and 4 images of 2 by 2."""
    (tmp_path / "data").mkdir()
    for name, count in (("train", 8), ("t10k", 4)):
        labels = bytes(range(count))
        images = bytes(4 * count)
        for kind, content in (
            ("labels-idx1", struct.pack(">II", 2049, count) + labels),
            ("images-idx3", struct.pack(">IIII", 2051, count, 2, 2) + images),
        ):
            path = tmp_path / "data" / f"{name}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content))
    return tmp_path


def test_the_tutorials_digits(digits):
    (digits / "read.py").write_text(DIGITS)
    done = headrace("run", "read.py", cwd=digits)
    assert done.returncode == 0, done.stderr
    # TensorFlow 1.15 prints the same batches.
    assert done.stdout.splitlines() == EXPECTED_DIGITS


EXPECTED_DIGITS = [
    "(6, 4) float32 (4, 10)",
    "[[7, 4, 6], [3, 2, 5], [5, 4, 2], [6, 7, 3]]",
    "1 2",
]
