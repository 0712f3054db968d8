"""Writes tests/data/optimizers/ops.npz: what TensorFlow's training ops leave, for tests/ops/cases_training.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/ops PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_training_ops.py
"""

import logging
import os
import warnings

import numpy as np
import tensorflow as tf
import training_rows as rows
from tensorflow.python.framework import op_def_registry

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
FOLDER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "optimizers"
)


def left_by(name, attrs):
    """The variable and its slots after the op."""
    arguments = [a.name for a in op_def_registry.get_registered_ops()[name].input_arg]
    with tf.Graph().as_default(), tf.Session() as sess:
        variables, given = [], {}
        for argument, array in zip(arguments, rows.inputs(name, arguments)):
            if array.ndim < 2 or argument in ("grad", "delta"):
                given[argument] = array
                continue
            variable = tf.Variable(array, use_resource=name.startswith("Resource"))
            variables.append(variable)
            given[argument] = variable.handle if name.startswith("Resource") else variable._ref()
        op = getattr(tf.raw_ops, name)(**given, **attrs)
        sess.run(tf.global_variables_initializer())
        sess.run(op)
        return sess.run(variables)


values = {}
for name in rows.NAMES:
    for attrs in ({}, rows.VARIANTS.get(name)):
        if attrs is not None:
            for i, value in enumerate(left_by(name, attrs)):
                values["|".join((name, ",".join(attrs), str(i)))] = value
np.savez_compressed(os.path.join(FOLDER, "ops.npz"), **values)
