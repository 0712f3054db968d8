"""Writes tests/data/nn.npz: what TensorFlow 1.15 computes for the rows of tests/ops/nn_rows.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/ops PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_nn.py
"""

import logging
import os
import warnings

import numpy as np
import tensorflow as tf
from nn_rows import ROWS
from tensorflow.python.framework import op_def_registry

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
definitions = op_def_registry.get_registered_ops()
answers = {}
for name, op, inputs, attrs, _ in ROWS:
    if "#" in attrs:  # TensorFlow has no CPU kernel, or no longer makes such nodes
        continue
    with tf.Graph().as_default():
        # Fed, not constants: the constant folding of 1.15 fails on batch normalisation.
        given = {
            a.name: tf.compat.v1.placeholder(v.dtype, v.shape)
            for a, v in zip(definitions[op].input_arg, inputs)
        }
        feeds = dict(zip(given.values(), inputs))
        result = getattr(tf.raw_ops, op)(**given, **attrs)
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        with tf.compat.v1.Session() as session:
            for i, value in enumerate(session.run(outputs, feeds)):
                answers[f"{name}/{i}"] = value
np.savez_compressed(os.path.join(ROOT, "data", "nn.npz"), **answers)
