"""Writes tests/data/nn_api.npz: what TensorFlow 1.15 makes of the programs of tests/api/nn_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_nn_api.py
"""

import logging
import os
import warnings

import numpy as np
import tensorflow as tf
from nn_programs import PROGRAMS, evaluate

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
answers = {}
for key, function in PROGRAMS.items():
    names, values, grads = evaluate(tf, function)
    answers[key + "/names"] = np.array(names)
    for kind, arrays in (("value", values), ("grad", grads)):
        for i, array in enumerate(arrays):
            answers[f"{key}/{kind}{i}"] = array
np.savez_compressed(os.path.join(ROOT, "data", "nn_api.npz"), **answers)
