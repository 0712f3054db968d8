"""Writes tests/data/distribute/mirrored.json with TensorFlow 1.15's numbers: python tests/oracle/make_distribute.py

Runs the programs of tests/distribute/programs.py under MirroredStrategy on two and four CPU devices.
"""

import json
import os
import sys

import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "distribute"))
import programs  # noqa: E402

tf = tf.compat.v1


def main():
    results = {}
    for name, program in sorted(programs.PROGRAMS.items()):
        for count in (2, 4):
            results[f"{name}/{count}"] = programs.run(tf, program, count)
    folder = os.path.join(HERE, "..", "data", "distribute")
    if not os.path.isdir(folder):
        os.makedirs(folder)
    with open(os.path.join(folder, "mirrored.json"), "w") as file:
        json.dump(results, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main()
