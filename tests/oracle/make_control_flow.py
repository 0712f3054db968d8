"""Writes tests/data/control_flow.json and tests/data/graphs/case.pbtxt.

That is what TensorFlow 1.15 makes of tests/api/control_flow_programs.py.

Run it under TensorFlow 1.15's Python, from the root of the repository:
    PYTHONPATH=tests/api PYTHON_OF_TENSORFLOW_1.15 tests/oracle/make_control_flow.py
"""

import json
import logging
import os

import tensorflow as tf
from control_flow_programs import effects, pure_runs

logging.disable(logging.WARNING)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
with tf.Graph().as_default() as graph:
    k, x = tf.placeholder(tf.int32, [], name="k"), tf.placeholder(tf.float32, [], name="x")
    y = tf.switch_case(k, [lambda: x, lambda: x * 2.0, lambda: x * x + 2.0])
    tf.identity(y, name="y")
    tf.identity(tf.gradients(y, x)[0], name="slope")
    tf.io.write_graph(graph, os.path.join(ROOT, "data", "graphs"), "case.pbtxt")
answers = {"pure": pure_runs(tf), "effects": effects(tf)}
with open(os.path.join(ROOT, "data", "control_flow.json"), "w") as file:
    json.dump(answers, file, indent=0, sort_keys=True)
    file.write("\n")
