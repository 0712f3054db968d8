"""Draws against the numbers of TensorFlow 1.15 (tests/oracle/make_random.py), by NumPy and traced."""

import json
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from headrace.lowering import philox, random
from headrace.lowering import random_rejection as rejection

with np.load(Path(__file__).parents[1] / "data" / "random.npz") as archive:
    ANSWERS = dict(archive)
CASES = json.loads(str(ANSWERS["cases"]))
TRACED_OPS = sorted({case["op"] for case in CASES} - {"parameterized_truncated_normal"})


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def picked(size):
    return np.unique(np.r_[np.arange(0, size, max(1, size // 50)), max(0, size - 3) : size])


def first_state(case):
    if "stateless" in case:
        return philox.stateless_state(np.array(case["seeds"], case["stateless"]))
    return philox.initial_state(*case["seeds"])


def drawing(case):
    """The function of a state (and of an array, for ops that have one) that draws a case; and the array."""
    op, shape = case["op"], tuple(case.get("shape", ()))
    dtype = dtype_of(case.get("dtype", "float32"))
    if op in ("uniform", "normal", "truncated_normal"):
        return lambda state, _: getattr(random, op)(state, shape, dtype), None
    if op == "uniform_int":
        low, high = case["low"], case["high"]
        return lambda state, _: random.uniform_int(state, shape, low, high, dtype), None
    if op == "permutation":
        return lambda state, _: random.permutation(state, case["size"]), None
    if op == "gamma":
        alpha = np.array(case["alpha"], dtype)
        return lambda state, alpha: rejection.gamma(state, shape, alpha), alpha
    if op == "poisson":
        rate = np.array(case["rate"], case["rate_dtype"])
        return lambda state, rate: rejection.poisson(state, shape, rate, dtype), rate
    if op == "multinomial":
        logits = np.cos(np.arange(case["batch"] * case["classes"])).reshape(case["batch"], -1) * 3
        logits[1, 2], logits[3, 0] = -np.inf, np.nan
        logits = logits.astype(case["logits_dtype"])
        samples = case["samples"]
        return lambda state, logits: random.multinomial(state, logits, samples, dtype), logits
    parameters = [np.array(p, dtype) for p in case["parameters"]]
    draw = rejection.parameterized_truncated_normal
    return lambda state, _: draw(state, shape, *parameters), None


def assert_drawn(number, run, values):
    """Exactly TensorFlow's integers and uniforms; the rest within a few units in the last place."""
    case, values = CASES[number], np.asarray(values).reshape(-1)
    want = ANSWERS[f"{number}/{run}"]
    if values.dtype == ml_dtypes.bfloat16:
        want = want.view(ml_dtypes.bfloat16)
    if case["op"] == "permutation":
        want = want.astype(np.int64)
    assert values.dtype == want.dtype, case
    values = values[picked(values.size)]
    if case["op"] == "uniform" or values.dtype.kind in "iu":
        np.testing.assert_array_equal(values, want, err_msg=str(case))
        return
    # How far apart in units of the last place; one sign at a time, so that bits are ordered as
    # numbers.
    signed = np.dtype(f"i{values.dtype.itemsize}")
    assert (np.signbit(values) == np.signbit(want)).all(), case
    apart = np.abs(values.view(signed).astype(np.int64) - want.view(signed).astype(np.int64))
    limit = {"gamma": 8, "parameterized_truncated_normal": 8}.get(case["op"], 2)
    assert apart.max() <= limit, (case, apart.max())


@pytest.mark.parametrize("op", sorted({case["op"] for case in CASES}))
def test_numpy_draws_equal_tensorflows(op):
    for number, case in enumerate(CASES):
        if case["op"] == op:
            draw, array = drawing(case)
            state = first_state(case)
            for run in range(2):
                values, state = draw(state, array)
                assert isinstance(values, np.ndarray) and isinstance(state, np.ndarray)
                if "stateless" in case:
                    state = first_state(case)
                assert_drawn(number, run, values)


@pytest.mark.parametrize("op", TRACED_OPS)
def test_traced_draws_equal_tensorflows(op):
    compiled = {}
    with jax.enable_x64(True):
        for number, case in enumerate(CASES):
            # The shortest ones say nothing that the others do not, and each costs a compilation.
            if case["op"] == op and case.get("shape") != [3]:
                draw, array = drawing(case)
                what = json.dumps(
                    {k: v for k, v in case.items() if k not in ("seeds", "stateless")}
                )
                if what not in compiled:
                    compiled[what] = jax.jit(draw)
                state = first_state(case)
                for run in range(2):
                    values, new_state = compiled[what](state, array)
                    np.testing.assert_array_equal(
                        new_state, draw(state, array)[1], err_msg=str(case)
                    )
                    assert_drawn(number, run, values)
                    state = state if "stateless" in case else np.asarray(new_state)


def test_long_traced_draws_equal_numpys():
    """Sizes past which the traced code computes words apart, in parts, or in compacted lanes."""
    state = philox.initial_state(1, 2)
    alpha = np.array([0.5, 3.0], np.float32)
    draws = [
        lambda s: random.uniform(s, (20001,), np.float32),
        lambda s: random.normal(s, (20001,), np.float64),
        lambda s: random.truncated_normal(s, (4 * 16384 + 5,), np.float32),
        lambda s: rejection.gamma(s, (1500,), alpha),
        lambda s: rejection.poisson(s, (1500,), alpha * 8, np.int64),
    ]
    with jax.enable_x64(True):
        for draw in draws:
            want = draw(state)
            for got, wanted in zip(jax.jit(draw)(state), want, strict=True):
                np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-6, atol=1e-7)


def test_counter_carries_over_all_its_words():
    full = 2**32 - 1
    state = np.array([1, 2, full, full, full, 7], np.uint32)
    with jax.enable_x64(True):
        for flavour in (np.asarray, jax.numpy.asarray):
            moved = np.asarray(philox.advance(flavour(state), 3))
            assert moved.tolist() == [1, 2, 2, 0, 0, 8]
            # The third block of the one state is the first block of the other.
            words = philox.words_at(flavour(state), flavour(np.array([3], np.uint64)))
            again = philox.words_at(flavour(moved), flavour(np.array([0], np.uint64)))
            np.testing.assert_array_equal(np.array(words), np.array(again))
    assert philox.advance(state, 2**33).tolist() == [1, 2, full, 1, 0, 8]


def test_no_seeds_mean_a_new_stream_each_time():
    assert (philox.initial_state(0, 0) != philox.initial_state(0, 0)).any()
    assert philox.initial_state(-1, 2**33).tolist() == [2**32 - 1, 2**32 - 1, 0, 0, 0, 2]


def test_empty_draws():
    state = philox.initial_state(1, 2)
    for values, after in (
        random.uniform(state, (0, 3), np.float32),
        random.truncated_normal(state, (0, 3), np.float64),
        random.multinomial(state, np.zeros((0, 3), np.float32), 4, np.int64),
        rejection.gamma(state, (0, 3), np.float32(2)),
        random.permutation(state, 0),
    ):
        assert values.size == 0
        assert after.tolist() == state.tolist()


@pytest.mark.parametrize(
    "parameters, error",
    [
        ((0.0, -1.0, 0.0, 1.0), ValueError),
        ((0.0, 1.0, 2.0, 1.0), ValueError),
        ((0.0, 1.0, -np.inf, np.inf), ValueError),
    ],
)
def test_bounds_that_make_no_sense(parameters, error):
    arrays = [np.array(p, np.float32) for p in parameters]
    with pytest.raises(error, match="Invalid parameters"):
        rejection.parameterized_truncated_normal(philox.initial_state(1, 2), (3,), *arrays)
