"""Writes tests/data/core/answers.json: what TensorFlow 1.15 answers to the cases of tests/core.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/core PYTHON_OF_TENSORFLOW_1.15 tests/oracle/core.py
"""

import collections
import json
import logging
import os
import types
import warnings

import cases
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import device
from tensorflow.python.util import nest

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

NAMES = {
    "tf": tf,
    "np": np,
    "collections": collections,
    "S": tf.TensorShape,
    "D": tf.Dimension,
    "dt": tf.as_dtype,
    "proto": tf.make_tensor_proto,
    "nd": tf.make_ndarray,
    "nest": nest,
    "device": device,
    "node": lambda name: types.SimpleNamespace(device=name),
    "Point": cases.Point,
    "Pair": cases.Pair,
}

answers = {
    group: {e: cases.evaluate(e, NAMES) for e in expressions}
    for group, expressions in cases.GROUPS.items()
}
path = os.path.join(ROOT, "data", "core", "answers.json")
with open(path, "w") as f:
    json.dump(answers, f, indent=0, sort_keys=True)
print(path, {g: len(a) for g, a in answers.items()})
