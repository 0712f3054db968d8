"""Writes tests/data/keras_recurrent.npz: what TensorFlow 1.15 makes of tests/keras/recurrent_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api:tests/keras PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_keras_recurrent.py
"""

import logging
import os
import warnings

import numpy as np
import tensorflow as tf
from recurrent_programs import PROGRAMS
from rnn_programs import FEEDS, evaluate

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
answers = {}
for key, function in PROGRAMS.items():
    # Names of layers count through the graph.
    names, runs = evaluate(tf, function, FEEDS[:2])
    answers[key + "/names"] = np.array(names)
    for number, arrays in enumerate(runs):
        for i, array in enumerate(arrays):
            answers[f"{key}/{number}/{i}"] = array
np.savez_compressed(os.path.join(ROOT, "data", "keras_recurrent.npz"), **answers)
