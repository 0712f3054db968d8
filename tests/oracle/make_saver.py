"""Writes the checkpoints of tests/data/saver with the real TensorFlow 1.15, and what nodes its Savers have.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_saver.py
"""

import json
import os
import shutil
import sys

import tensorflow as tf

_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_TESTS, "train"))
import saver_cases  # noqa: E402

_OUT = os.path.join(_TESTS, "data", "saver")


def main():
    shutil.rmtree(_OUT, ignore_errors=True)
    nodes = {}
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
    for kind, arguments in sorted(saver_cases.SAVERS.items()):
        folder = os.path.join(_OUT, kind)
        os.makedirs(folder)
        with tf.Graph().as_default() as graph:
            saver_cases.build(tf.compat.v1, v1=kind == "v1")
            saver = tf.compat.v1.train.Saver(**arguments)
            with tf.compat.v1.Session(config=config) as sess:
                sess.run(tf.compat.v1.global_variables_initializer())
                os.chdir(folder)
                saver.save(sess, "./model", global_step=7, write_meta_graph=kind == "v2")
            nodes[kind] = [
                [
                    op.name,
                    op.type,
                    [t.name for t in op.inputs],
                    sorted(c.name for c in op.control_inputs),
                    op.device,
                ]
                for op in graph.get_operations()
                if op.name.startswith("save/")
            ]
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        variables = saver_cases.build_few(tf.compat.v1)
        sess.run(tf.compat.v1.global_variables_initializer())
        os.makedirs(os.path.join(_OUT, "objects"))
        tf.train.Checkpoint(a=variables[0], b=variables[1]).write(
            os.path.join(_OUT, "objects", "model"), sess
        )
    with open(os.path.join(_OUT, "nodes.json"), "w") as file:
        json.dump(nodes, file, indent=0)


if __name__ == "__main__":
    main()
