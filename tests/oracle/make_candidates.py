"""Writes tests/data/candidates.json: what TensorFlow 1.15 draws for tests/api/candidate_cases.py, in two runs.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_candidates.py
"""

import json
import os
import sys
import tempfile

import tensorflow as tf

_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_TESTS, "api"))
import candidate_cases as cases  # noqa: E402


def main():
    answers = []
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as vocabulary, tf.Session() as session:
        vocabulary.write("".join(f"word{i},{1 + i % 5}\n" for i in range(18)))
        vocabulary.flush()
        names = {"tf": tf, "TRUE": cases.TRUE, "VOCABULARY": vocabulary.name}
        for expression in cases.SAMPLERS:
            tensors = eval(expression, names)
            runs = [[v.reshape(-1).tolist() for v in session.run(tensors)] for _ in range(2)]
            answers.append(runs)
    with open(os.path.join(_TESTS, "data", "candidates.json"), "w") as file:
        json.dump(answers, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
