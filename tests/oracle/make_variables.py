"""Writes tests/data/variables/answers.json: TensorFlow's graphs and errors for tests/api/variable_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_variables.py
"""

import json
import logging
import os
import warnings

import tensorflow as tf
import variable_programs as programs

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

answers = {
    "graphs": {build.__name__: programs.graph_of(tf, build) for build in programs.GRAPHS},
    "errors": {name: programs.failure(tf, f) for name, f in programs.errors(tf).items()},
}
with open(os.path.join(ROOT, "data", "variables", "answers.json"), "w") as file:
    json.dump(answers, file, separators=(",", ":"), sort_keys=True)
