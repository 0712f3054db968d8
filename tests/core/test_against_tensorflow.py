"""Types, shapes, values, structures and device names: the answers of TensorFlow 1.15."""

import collections
import json
import types
from pathlib import Path

import numpy as np
import pytest

from headrace.core import device_spec, dtypes, nest, tensor_proto, tensor_shape
from tests.core import cases

# Written by tests/oracle/core.py.
ANSWERS = json.loads((Path(__file__).parents[1] / "data/core/answers.json").read_text())

NAMES = {
    "tf": types.SimpleNamespace(
        TensorShape=tensor_shape.TensorShape, DeviceSpec=device_spec.DeviceSpec
    ),
    "np": np,
    "collections": collections,
    "S": tensor_shape.TensorShape,
    "D": tensor_shape.Dimension,
    "dt": dtypes.as_dtype,
    "proto": tensor_proto.make_tensor_proto,
    "nd": tensor_proto.make_ndarray,
    "nest": nest,
    "device": device_spec,
    "node": lambda name: types.SimpleNamespace(device=name),
    "Point": cases.Point,
    "Pair": cases.Pair,
}

# TF differs: these are errors there, and have an obvious answer here.
ACCEPTED_HERE = {
    "dt(10).limits": {"tuple": [0, True]},
    "nd(proto(2**63))": {"dtype": "uint64", "shape": [], "values": 1 << 63},
}

# Messages that go on here, with what to do about it.
LONGER_HERE = (
    "__int__ returned non-int",
    "__index__ returned non-int",
    "None values not supported.",
)

# Errors that Python or NumPy words, differently from version to version: the class must agree.
NOT_OUR_WORDS = (
    "int() argument",
    "list index",
    "__init__() got an unexpected",
    "<class ",
    "setting an array element",
    "20",
    "21",
)


def agrees(got, wanted):
    if isinstance(wanted, dict) and wanted.get("message", "").startswith(NOT_OUR_WORDS):
        return isinstance(got, dict) and got.get("error") == wanted["error"]
    if isinstance(wanted, dict) and wanted.get("message", "").startswith(LONGER_HERE):
        return got["error"] == wanted["error"] and got["message"].startswith(wanted["message"])
    return got == wanted


@pytest.mark.parametrize("group", cases.GROUPS)
def test_answers_are_tensorflows(group):
    expressions = cases.GROUPS[group]
    assert set(ANSWERS[group]) == set(expressions), "run tests/oracle/core.py again"
    wrong = []
    for expression in expressions:
        wanted = ACCEPTED_HERE.get(expression, ANSWERS[group][expression])
        got = cases.evaluate(expression, NAMES)
        if not agrees(got, json.loads(json.dumps(wanted).replace("'cases.", "'tests.core.cases."))):
            wrong.append(f"{expression}\n  gives {got}\n  needs {wanted}")
    assert not wrong, "\n".join(wrong)
