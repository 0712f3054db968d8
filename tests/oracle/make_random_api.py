"""Writes tests/data/random_api.json: what TensorFlow 1.15 makes of the programs of tests/api/random_cases.py.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_random_api.py
"""

import json
import os
import sys

import tensorflow as tf
from tensorflow.python.framework import random_seed
from tensorflow.python.ops import init_ops

_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_TESTS, "api"))
import random_cases as cases  # noqa: E402


def plain(values):
    """Values as JSON holds them: numbers in full, strings as text."""
    if values.dtype.kind in "SO":
        return [v.decode() for v in values.reshape(-1)]
    kind = int if values.dtype.kind in "iu" else float
    return [kind(v) for v in values.reshape(-1)]


def nodes(graph):
    return [
        [o.type, o.name] + [o.get_attr(a) for a in ("seed", "seed2") if a in o.node_def.attr]
        for o in graph.get_operations()
    ]


def programs(expressions):
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1234)
        tensors = [eval(e, {"tf": tf}) for e in expressions]
        answer = {"nodes": nodes(graph), "dtypes": [t.dtype.name for t in tensors]}
        answer["shapes"] = [t.shape.as_list() for t in tensors]
        with tf.Session() as session:
            answer["runs"] = [[plain(v) for v in session.run(tensors)] for _ in range(2)]
        return answer


def kernels():
    answers = []
    for name, shape in cases.KERNELS:
        with tf.Graph().as_default(), tf.Session() as session:
            initializer = getattr(init_ops, name)(gain=1.5, seed=11)
            answers.append(plain(session.run(initializer(shape))))
    return answers


def seeds():
    answers = []
    for graph_seed, op_seed in cases.SEEDS:
        with tf.Graph().as_default():
            tf.set_random_seed(graph_seed)
            tf.constant(1), tf.constant(2)
            answers.append(random_seed.get_seed(op_seed))
    return answers


def main():
    answers = {
        "draws": programs(cases.DRAWS),
        "initializers": programs(cases.INITIALIZERS),
        "kernels": kernels(),
        "seeds": seeds(),
    }
    with open(os.path.join(_TESTS, "data", "random_api.json"), "w") as file:
        json.dump(answers, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
