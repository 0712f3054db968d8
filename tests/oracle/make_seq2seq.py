"""Writes tests/data/seq2seq.npz: what TensorFlow 1.15 makes of the programs of tests/contrib/seq2seq_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/contrib PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_seq2seq.py
"""

import logging
import os
import warnings

import numpy as np
import tensorflow as tf
from seq2seq_programs import PROGRAMS, evaluate

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
answers = {}
for key, program in PROGRAMS.items():
    names, values = evaluate(tf, program)
    answers[key + "/names"] = np.array(names)
    for name, value in values.items():
        for i, array in enumerate(value if isinstance(value, (list, tuple)) else (value,)):
            if hasattr(array, "values"):
                array = array.values
            answers[f"{key}/{name}.{i}"] = array
np.savez_compressed(os.path.join(ROOT, "data", "seq2seq.npz"), **answers)
