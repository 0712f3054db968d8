"""Writes tests/data/optimizers: TensorFlow's graphs and numbers for tests/train/training_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/train PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_optimizers.py
"""

import gzip
import json
import logging
import os
import warnings

import numpy as np
import tensorflow as tf
import training_programs as programs

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
FOLDER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "optimizers"
)

graphs = {build.__name__: programs.nodes(tf, build) for build in programs.GRAPHS}
with gzip.GzipFile(os.path.join(FOLDER, "graphs.json.gz"), "w", mtime=0) as file:
    file.write(json.dumps(graphs, separators=(",", ":"), sort_keys=True).encode())

values = {}
for flavour in programs.FLAVOURS:
    for name, value in programs.train(tf, flavour).items():
        values["|".join((flavour, name))] = value
np.savez_compressed(os.path.join(FOLDER, "values.npz"), **values)
