"""Random numbers by the compiled kernel against those that XLA makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.lowering import random
from headrace.native import library
from headrace.native import random as kernel

pytestmark = pytest.mark.skipif(
    not native.available() or not kernel._has_kernel(), reason="there is no kernel here"
)

# The second one's counter runs over from each of its words into the next.
STATES = [[1, 2, 3, 4, 5, 6], [7, 0, 0xFFFFFFF0, 0xFFFFFFFF, 0xFFFFFFFF, 9]]
SIZES = [4096, 4097, 4127, 100_003]


def drawn(draw, state, size, dtype):
    """What `draw` gives in a program, and whether the kernel made it."""
    with jax.enable_x64(True):
        program = jax.jit(lambda s: draw(s, (size,), dtype))
        state = jnp.array(state, jnp.uint32)
        by_kernel = "headrace_random" in program.lower(state).as_text()
        return *map(np.asarray, program(state)), by_kernel


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_the_numbers_are_those_of_xla(monkeypatch, draw):
    for state in STATES:
        for size in SIZES:
            monkeypatch.setattr(library, "_loaded", True)
            got, next_state, by_kernel = drawn(draw, state, size, np.float32)
            monkeypatch.setattr(library, "_loaded", False)
            want, state_wanted, by_xla = drawn(draw, state, size, np.float32)
            assert by_kernel and not by_xla
            assert got.dtype == np.float32 and got.shape == (size,)
            np.testing.assert_array_equal(next_state, state_wanted)
            if draw is random.uniform:
                np.testing.assert_array_equal(got, want)
            else:
                # The compiler may round a product and a sum once or twice: one number in millions differs.
                np.testing.assert_array_max_ulp(got, want, 1)
                assert (got != want).sum() <= 2


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.truncated_normal])
def test_numpys_states_give_the_numbers_of_programs(draw):
    for state in STATES:
        for size in SIZES:
            got, next_state = draw(np.array(state, np.uint32), (size,), np.float32)
            want, state_wanted, _ = drawn(draw, state, size, np.float32)
            assert isinstance(got, np.ndarray) and got.dtype == np.float32
            np.testing.assert_array_equal(next_state, state_wanted)
            np.testing.assert_array_equal(got, want)


def test_few_numbers_and_other_types_are_made_by_xla():
    assert not drawn(random.normal, STATES[0], 4095, np.float32)[2]
    assert not drawn(random.normal, STATES[0], 4096, np.float64)[2]
    assert drawn(random.normal, STATES[0], 4096, np.float16)[2]
    assert drawn(random.uniform, STATES[0], 4096, np.float32)[2]
    assert not drawn(random.uniform, STATES[0], 4096, np.float16)[2]


def test_draws_in_loops_go_on_from_one_another(monkeypatch):
    results = []
    for on in (True, False):
        monkeypatch.setattr(library, "_loaded", on)
        tf.reset_default_graph()

        def body(i, total):
            noise = tf.random_normal([100, 50], seed=3)
            return i + 1, total + tf.nn.dropout(noise, rate=0.5, seed=4)

        total = tf.while_loop(lambda i, t: i < 4, body, [0, tf.zeros([100, 50])])[1]
        with tf.Session() as session:
            results.append([session.run(total) for _ in range(3)])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    assert not np.allclose(results[0][0], results[0][1])
