"""Graphs between TensorFlow 1.15 and Headrace, in both directions. From the root of the repository:

PYTHON_OF_TENSORFLOW_1_15 tests/oracle/graphs.py record           (writes tests/data/graphs)
PYTHONPATH=. python tests/oracle/graphs.py write FOLDER            (Headrace's graphs and values)
PYTHON_OF_TENSORFLOW_1_15 tests/oracle/graphs.py check FOLDER     (TensorFlow loads and runs them)
"""

import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "graph"))
import graph_programs as programs  # noqa: E402

DATA = os.path.join(HERE, "..", "data", "graphs")


def build_and_run(tf, name):
    """(GraphDef, names of the fetches, their values, feeds, name of the initialiser) of a program."""
    with tf.Graph().as_default() as graph:
        fetches, feeds = {**programs.PROGRAMS, **programs.OLD_CONTROL_FLOW}[name](tf)
        before = graph.as_graph_def()
        init = tf.global_variables_initializer()
        found = []
        if fetches:
            with tf.Session() as sess:
                sess.run(init)
                found = sess.run(fetches, feeds)
        return graph.as_graph_def(), before, [t.name for t in fetches], found, feeds, init.name


def save(tf, folder):
    answers, arrays = {}, {}
    names = list(programs.PROGRAMS)
    if tf.__name__ == "tensorflow":
        names += list(programs.OLD_CONTROL_FLOW)
    for name in names:
        graph_def, before, names, found, feeds, init = build_and_run(tf, name)
        with open(os.path.join(folder, name + ".pb"), "wb") as f:
            f.write(graph_def.SerializeToString())
        answers[name] = dict(
            fetches=names, init=init, nodes=[programs.describe(n) for n in before.node]
        )
        for i, value in enumerate(found):
            arrays[f"{name}/{i}"] = value
        for tensor, value in feeds.items():
            arrays[f"{name}/feed/{tensor}"] = value
    with open(os.path.join(folder, "answers.json"), "w") as f:
        json.dump(answers, f, indent=0, sort_keys=True)
    np.savez(os.path.join(folder, "values.npz"), **arrays)


def load_and_run(tf, folder):
    """Loads the graphs of `folder`, runs them and compares; returns how many values agreed."""
    with open(os.path.join(folder, "answers.json")) as f:
        answers = json.load(f)
    arrays = np.load(os.path.join(folder, "values.npz"))
    count = 0
    for name, answer in sorted(answers.items()):
        graph_def = tf.GraphDef()
        with open(os.path.join(folder, name + ".pb"), "rb") as f:
            graph_def.ParseFromString(f.read())
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.import_graph_def(graph_def, name="")
            prefix = name + "/feed/"
            feeds = {k[len(prefix) :]: arrays[k] for k in arrays.files if k.startswith(prefix)}
            found = []
            if answer["fetches"]:
                sess.run(answer["init"])
                found = sess.run(answer["fetches"], feeds)
        for i, value in enumerate(found):
            np.testing.assert_allclose(
                value,
                arrays[f"{name}/{i}"],
                rtol=1e-5,
                err_msg=name,
            )
            count += 1
    return count


if __name__ == "__main__":
    command = sys.argv[1]
    if command == "write":
        import headrace

        if not os.path.isdir(sys.argv[2]):
            os.makedirs(sys.argv[2])
        save(headrace, sys.argv[2])
    else:
        import tensorflow

        if command == "record":
            save(tensorflow, DATA)
        else:
            print("values that agree:", load_and_run(tensorflow, sys.argv[2]))
