"""Writes tests/data/sparse.json: TensorFlow's answers for tests/api/sparse_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_sparse.py
"""

import json
import logging
import os
import warnings

import sparse_programs as programs
import tensorflow as tf

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def kept(found):
    """One value of each: TensorFlow's two runs are equal."""
    return {"tensors": found["tensors"], "value": found["first"]}


answers = {e: kept(programs.answer(tf, e)) for e in programs.EXPRESSIONS}
failures = {e: programs.failure(tf, e)[:2] for e in programs.FAILURES}
with open(os.path.join(ROOT, "data", "sparse.json"), "w") as file:
    json.dump(
        {"answers": answers, "failures": failures}, file, separators=(",", ":"), sort_keys=True
    )
