"""Writes tests/data/summaries.json: the bytes of the summaries of tests/summary/summary_cases.py, from TensorFlow 1.15.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_summaries.py
"""

import base64
import json
import os
import sys

import tensorflow as tf

_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_TESTS, "summary"))
import summary_cases  # noqa: E402


def main():
    with tf.compat.v1.Session() as sess:
        summaries = summary_cases.build(tf.compat.v1)
        values = sess.run(summaries)
    stored = {
        name: [summaries[name].op.name, summaries[name].op.type, base64.b64encode(value).decode()]
        for name, value in values.items()
    }
    with open(os.path.join(_TESTS, "data", "summaries.json"), "w") as file:
        json.dump(stored, file, indent=0, sort_keys=True)


if __name__ == "__main__":
    main()
