"""Some results of branches and loops: what they need, compute and do, as TensorFlow 1.15's runs of the same programs."""

import json
from pathlib import Path

import numpy as np

import headrace as tf
from tests.api.control_flow_programs import effects, pure_runs

ANSWERS = json.loads(
    (Path(__file__).parents[1] / "data" / "control_flow.json").read_text(encoding="utf-8")
)


def test_only_what_is_needed_is_asked_for():
    found, expected = pure_runs(tf), ANSWERS["pure"]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, str):
            assert found[key] == value, key
        else:
            np.testing.assert_allclose(found[key], value, rtol=1e-6, err_msg=key)


def test_only_what_is_needed_has_effects():
    assert effects(tf) == ANSWERS["effects"]
