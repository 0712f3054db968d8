"""MirroredStrategy on CPU devices: the numbers of TensorFlow 1.15, and the rules of where what may be called."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.distribute import programs

NUMBERS = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "distribute" / "mirrored.json").read_text()
)
SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


def same(found, wanted, place=""):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same(found[key], wanted[key], f"{place}/{key}")
    elif isinstance(wanted, list) and any(isinstance(w, (list, dict)) for w in wanted):
        assert len(found) == len(wanted), place
        for i, pair in enumerate(zip(found, wanted, strict=True)):
            same(*pair, f"{place}/{i}")
    else:
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6, err_msg=place)


@pytest.mark.parametrize("case", sorted(NUMBERS))
def test_as_tensorflow(case):
    name, _, count = case.partition("/")
    found = programs.run(tf, programs.PROGRAMS[name], int(count))
    same(found, NUMBERS[case], case)
    if not name.startswith("on_read"):
        for copies in found["variables"].values():
            assert all(copy == copies[0] for copy in copies), "the copies differ"
