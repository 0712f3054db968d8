"""Writes tests/data/math.json: TensorFlow's answers for tests/api/math_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_math.py
"""

import json
import logging
import os
import warnings

import math_programs as programs
import tensorflow as tf

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def kept(found):
    """One value of each: TensorFlow's two runs are equal."""
    return {
        "nodes": found["nodes"],
        "dtype": found["dtype"],
        "shape": found["shape"],
        "value": found["first"],
        "gradients": found["first gradients"],
    }


answers = {e: kept(programs.answer(tf, e)) for e in programs.EXPRESSIONS + programs.VALUES}
for expression in programs.VALUES:
    del answers[expression]["nodes"]
failures = {e: programs.failure(tf, e)[:2] for e in programs.FAILURES}
with open(os.path.join(ROOT, "data", "math.json"), "w") as file:
    json.dump(
        {"answers": answers, "failures": failures}, file, separators=(",", ":"), sort_keys=True
    )
