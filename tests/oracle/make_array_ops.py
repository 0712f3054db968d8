"""Writes tests/data/array_ops.json: TensorFlow's nodes, values, gradients and errors for tests/api/array_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_array_ops.py
"""

import json
import logging
import os
import warnings

import array_programs as programs
import numpy as np
import tensorflow as tf

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def plain(value):
    if value is None:
        return None
    value = np.asarray(value)
    if value.dtype == object:
        value = np.vectorize(lambda b: b.decode(), otypes=[object])(value)
    kind = "string" if value.dtype.kind == "O" else value.dtype.name
    if value.size > 64 and (value == value.reshape(-1)[0]).all():
        return [kind, list(value.shape), [value.reshape(-1)[0].item()]]
    return [kind, list(value.shape), value.reshape(-1).tolist()]


def answers(program):
    ((values, gradients),) = programs.values_of(tf, program)
    return [list(map(plain, values)), list(map(plain, gradients))]


answers = {
    "nodes": {
        name: programs.nodes_of(tf, program)
        for name, program in programs.PROGRAMS.items()
        if name not in programs.OTHER_NODES
    },
    "values": {name: answers(program) for name, program in programs.PROGRAMS.items()},
    "errors": {name: programs.error_of(tf, program) for name, program in programs.ERRORS.items()},
}
with open(os.path.join(ROOT, "data", "array_ops.json"), "w") as file:
    json.dump(answers, file, separators=(",", ":"), sort_keys=True)
