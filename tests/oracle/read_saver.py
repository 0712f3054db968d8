"""Lets the real TensorFlow 1.15 go on from what Headrace's Savers and summary writers leave.

From the root of the repository, with a folder that does not exist yet:
    PYTHONPATH=. python tests/oracle/read_saver.py write FOLDER
    PYTHON_OF_TENSORFLOW_1_15 tests/oracle/read_saver.py read FOLDER
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import saver_cases

KINDS = sorted(saver_cases.SAVERS)


def model(tf):
    """A net that learns, made of resource and reference variables; returns what trains it."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.get_variable("w", initializer=saver_cases.pattern("float32", [3, 2], 1) / 10)
    b = tf.get_variable("b", initializer=np.zeros(2, np.float32), use_resource=True)
    y = tf.tanh(tf.matmul(x, w) + b, name="y")
    loss = tf.reduce_mean(tf.square(y - 0.5), name="loss")
    dw, db = tf.gradients(loss, [w, b])
    updates = [w.assign_sub(0.1 * dw).op, b.assign_sub(0.1 * db, read_value=False)]
    train = tf.group(*updates, name="train")
    tf.summary.scalar("curve", loss)
    tf.summary.merge_all(name="all")
    tf.add_to_collection("outputs", y)
    return train


def go_on(sess, steps):
    """Trains `steps` steps through names; returns the losses and the last summary."""
    feed = {"x:0": saver_cases.pattern("float32", [4, 3], 2) / 5}
    losses = []
    for _ in range(steps):
        losses.append(float(sess.run("loss:0", feed)))
        sess.run("train", feed)
    return losses, sess.run("all/all:0", feed)


def write(folder):
    """Writes everything with Headrace."""
    import headrace as tf

    for name in (*KINDS, "net"):
        os.makedirs(os.path.join(folder, name))
    for kind in KINDS:
        with tf.Graph().as_default(), tf.Session() as sess:
            saver_cases.build(tf, v1=kind == "v1")
            sess.run(tf.global_variables_initializer())
            tf.train.Saver(**saver_cases.SAVERS[kind]).save(
                sess, os.path.join(folder, kind, "model"), 7
            )
    with tf.Graph().as_default(), tf.Session() as sess:
        model(tf)
        saver = tf.train.Saver()
        sess.run(tf.global_variables_initializer())
        go_on(sess, 3)
        saver.save(sess, os.path.join(folder, "net", "net"), strip_default_attrs=True)
        losses, summary = go_on(sess, 5)
        np.savez(
            os.path.join(folder, "expected.npz"),
            losses=losses,
            summary=np.frombuffer(summary, np.uint8),
        )
        with tf.summary.FileWriter(os.path.join(folder, "events"), sess.graph) as writer:
            writer.add_summary(summary, 4)


def read(folder):
    """Compares everything, read by TensorFlow."""
    import tensorflow as tf

    tf = tf.compat.v1
    tf.logging.set_verbosity(tf.logging.ERROR)
    for kind in KINDS:
        latest = tf.train.latest_checkpoint(os.path.join(folder, kind))
        with (
            tf.Graph().as_default(),
            tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as sess,
        ):
            variables = saver_cases.build(tf, v1=kind == "v1")
            sess.run(tf.global_variables_initializer())
            flat = [v for name in sorted(variables) for v in np.ravel(variables[name]).tolist()]
            expected = sess.run(flat)
        with (
            tf.Graph().as_default(),
            tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as sess,
        ):
            tf.train.import_meta_graph(latest + ".meta").restore(sess, latest)
            found = sess.run(
                [v.op.name + ("/Read/ReadVariableOp:0" if is_resource(v) else ":0") for v in flat]
            )
        for variable, a, b in zip(flat, expected, found):
            assert a.dtype == b.dtype and a.shape == b.shape, variable.name
            assert a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes(), (
                variable.name
            )
        print(kind, len(flat), "variables")
    with tf.Graph().as_default(), tf.Session() as sess:
        prefix = os.path.join(folder, "net", "net")
        tf.train.import_meta_graph(prefix + ".meta").restore(sess, prefix)
        assert [t.name for t in tf.get_collection("outputs")] == ["y:0"]
        expected = np.load(os.path.join(folder, "expected.npz"))
        losses, summary = go_on(sess, 5)
        np.testing.assert_allclose(losses, expected["losses"], rtol=1e-6)
        value = tf.Summary.FromString(summary).value[0]
        np.testing.assert_allclose(value.simple_value, losses[-1], rtol=0.2)
    (events,) = os.listdir(os.path.join(folder, "events"))
    found = list(tf.train.summary_iterator(os.path.join(folder, "events", events)))
    assert [e.WhichOneof("what") for e in found] == [
        "file_version",
        "graph_def",
        "meta_graph_def",
        "summary",
    ]
    with tf.Graph().as_default():
        tf.import_graph_def(tf.GraphDef.FromString(found[1].graph_def))
    assert found[3].step == 4 and found[3].summary.value[0].tag == "curve"
    print("net, losses", losses)


def is_resource(variable):
    return variable.op.type == "VarHandleOp"


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
