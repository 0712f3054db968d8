"""Orders and random numbers are those of TensorFlow 1.15 (tests/oracle/make_datasets.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.datasets.elements import elements
from tests.oracle.dataset_pipelines import PIPELINES

STORED = json.loads((Path(__file__).parents[1] / "data" / "datasets.json").read_text())


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_the_elements_are_tensorflows(name):
    make, one_shot, count, seed = PIPELINES[name]
    if seed is not None:
        tf.set_random_seed(seed)
    found = elements(make(tf), one_shot, count)
    assert len(found) == len(STORED[name]) > 3
    for mine, theirs in zip(found, STORED[name], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
