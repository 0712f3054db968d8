"""Rows for the ops that train: one step on a variable and its slots, with TensorFlow's numbers for what it leaves.

The sparse ones name a row twice: TensorFlow updates it two times. tests/oracle/make_training_ops.py computed the numbers.
"""

from pathlib import Path

import numpy as np

from headrace.graph.op_def import REGISTRY
from tests.ops import training_rows as rows
from tests.ops.case import Case

LEFT = np.load(Path(__file__).parents[1] / "data/optimizers/ops.npz")


def _row(name, attrs):
    arguments = [a.name for a in REGISTRY[name].signature.inputs]
    keys = sorted(k for k in LEFT.files if k.startswith(f"{name}|{','.join(attrs)}|"))
    expected = [LEFT[k] for k in keys]
    if not name.startswith("Resource"):
        expected = expected[:1]  # a reference op returns the variable
    label = "-".join((name, *attrs))
    return Case(name, rows.inputs(name, arguments), attrs, expected, rtol=1e-5, atol=1e-6, id=label)


CASES = [
    _row(name, attrs)
    for name in rows.NAMES
    for attrs in ({}, rows.VARIANTS.get(name))
    if attrs is not None
]
