"""The harness sees what it is for: ops with one wrong rule each fail."""

import jax.numpy as jnp
import numpy as np
import pytest

from headrace.graph import raw, shapes
from headrace.graph.op_def import REGISTRY, define
from tests.ops.case import Case
from tests.ops.test_cases import test_row as check_row

X = np.array([[0.5, -1.5, 2.0]], np.float32)


@pytest.fixture
def twice():
    """An op that doubles its input, complete and right; forgotten after the test."""
    op = define("TwiceInTest", "x: T -> y: T", "T: {float, double, int32}")
    op.shape(shapes.unchanged)
    op.lower(lambda op, x: x + x)
    op.host(lambda op, x: x + x)
    op.gradient(lambda op, dy: raw.Mul(dy, np.array(2, dy.dtype.as_numpy_dtype)))
    yield op
    del REGISTRY["TwiceInTest"]


def row(**changes):
    return Case("TwiceInTest", [X], {}, lambda x: x + x, **changes)


def test_a_right_op_passes(twice):
    check_row(row())
    check_row(Case("TwiceInTest", [X.astype(np.int32)], {}, lambda x: 2 * x))


WRONG = {
    "compiled, output 0": lambda op: op.lower(lambda op, x: x * 2.001),
    "compiled, output 0: float64": lambda op: op.lower(lambda op, x: (x + x).astype(jnp.float64)),
    "host, output 0: float64": lambda op: op.host(lambda op, x: (x + x).astype(np.float64)),
    "host, output 0": lambda op: op.host(lambda op, x: x + x + 0.1),
    "static shape of output 0": lambda op: op.shape(lambda op, x: (None, 3)),
    "inputs known as": lambda op: op.shape(lambda op, x: x if x == (1, 3) else (2, 3)),
    "gradient of input 0, against jax": lambda op: op.gradient(
        lambda op, dy: raw.Mul(dy, np.array(2.1, dy.dtype.as_numpy_dtype))
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_rule_fails(twice, words):
    WRONG[words](twice)
    with pytest.raises(AssertionError, match=words):
        check_row(row())


def test_a_gradient_that_stops_fails(twice):
    twice.gradient(lambda op, dy: None)
    with pytest.raises(AssertionError, match=r"against jax\.vjp"):
        check_row(row())
    check_row(row(grad=False))


def test_a_wrong_expectation_fails(twice):
    case = row()
    case.expected = X
    with pytest.raises(AssertionError, match="compiled, output 0"):
        check_row(case)
