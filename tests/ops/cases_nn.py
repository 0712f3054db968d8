"""Rows for the ops of neural networks: `nn_rows.py` with TensorFlow's answers (see `tests/oracle/make_nn.py`)."""

from pathlib import Path

import numpy as np

from tests.ops.case import Case
from tests.ops.nn_rows import ROWS

with np.load(Path(__file__).parent.parent / "data" / "nn.npz") as _file:
    _ANSWERS = dict(_file)


def _expected(name):
    found = []
    while f"{name}/{len(found)}" in _ANSWERS:
        found.append(_ANSWERS[f"{name}/{len(found)}"])
    return found


def _place(x, dy, argmax):
    dx = np.zeros(x.size, np.float32)
    np.add.at(dx, argmax.reshape(-1), dy.reshape(-1))
    return dx.reshape(x.shape)


def _normalized(t, m, v, beta, gamma):
    return (t - m) / np.sqrt(v + 0.01) * gamma + beta


def _normalized_grad(t, m, v, gamma, dy):
    r = 1 / np.sqrt(v + 0.01)
    total, total_x = dy.sum((0, 1, 2)), (dy * (t - m)).sum((0, 1, 2))
    return [dy * r * gamma, -total * r * gamma, -0.5 * total_x * gamma * r**3, total, total_x * r]


# What TensorFlow computes on GPUs only, or no more.
_OTHERS = {
    "BatchNormWithGlobalNormalization": _normalized,
    "unscaled": lambda t, m, v, beta, gamma: _normalized(t, m, v, beta, 1.0),
    "BatchNormWithGlobalNormalizationGrad": _normalized_grad,
    "Conv3DBackpropInput": _expected("Conv3DBackpropInputV2"),
    "Conv3DBackpropFilter": _expected("Conv3DBackpropFilterV2"),
    "bias_grad_nchw": lambda dy: dy.sum((0, 2)),
    "MaxPoolGradWithArgmax": _place,
    "MaxPoolGradGradWithArgmax": lambda x, ddx, argmax: ddx.reshape(-1)[argmax],
}


def _without_leftovers(op, inputs, attrs, expected):
    """The answers, with what ours returns where TensorFlow's kernels on CPUs leave what was in memory."""
    training = attrs.get("is_training", True)
    if "Grad" in op:
        unused = np.zeros(0 if training else 3, np.float32)
        return [*expected[:3], unused, unused]
    if training:
        return expected
    mean, variance = inputs[3:5]
    return [expected[0], mean, variance, mean, variance, *expected[5:]]


def _case(name, op, inputs, attrs, checks):
    attrs = {k: v for k, v in attrs.items() if k != "#"}
    expected = _OTHERS[name] if name in _OTHERS else _expected(name)
    static = op != "FusedBatchNormV3"  # the last output is what a GPU library likes
    if op.startswith("FusedBatchNorm"):
        expected = _without_leftovers(op, inputs, attrs, expected)
    return Case(op, inputs, attrs, expected, id=name, static=static, **checks)


CASES = [_case(*row) for row in ROWS]
