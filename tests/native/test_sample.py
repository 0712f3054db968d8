"""The kernel of the candidate samplers draws what NumPy draws."""

import jax
import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.lowering import candidates, philox
from headrace.native.sample import Distribution, sample

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")

_COUNTS = np.array([1, 3, 0, 7, 2, 9, 1], np.uint32)
_TABLE = candidates.AliasTable(np.array([1, 0.5, 3, 0, 2, 1.5], np.float32))

# name: distribution, number of classes, NumPy's draw, tables
CASES = {
    "uniform": (Distribution.UNIFORM, 1000, candidates.uniform(1000), {}),
    "uniform, a power of two": (Distribution.UNIFORM, 64, candidates.uniform(64), {}),
    "uniform, one class": (Distribution.UNIFORM, 1, candidates.uniform(1), {}),
    "log-uniform": (Distribution.LOG_UNIFORM, 50_000, candidates.log_uniform(50_000), {}),
    "weighted": (Distribution.WEIGHTED, 7, candidates.weighted(_COUNTS), {"counts": _COUNTS}),
    "weighted, a power of two": (
        Distribution.WEIGHTED, 4, candidates.weighted(np.array([8, 1, 3, 4])),
        {"counts": np.array([8, 1, 3, 4], np.uint32)},
    ),
    "alias": (
        Distribution.ALIAS, 6, _TABLE.draw, {"share": _TABLE.share, "alias": _TABLE.alias},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("unique", [False, True])
def test_the_kernel_draws_what_numpy_draws(name, unique):
    distribution, classes, draw, tables = CASES[name]
    count = min(classes, 5) if unique else 300
    if unique and classes == 50_000:
        count = 700
    state = philox.initial_state(3, 5)
    state[2:4] = 0xFFFFFFFF  # the counter carries
    with jax.enable_x64(True):
        drawn = jax.jit(lambda s: sample(s, count, unique, distribution, classes, **tables))
        for _ in range(3):
            sampled, tries, after = map(np.asarray, drawn(state))
            expected, expected_tries = candidates.pick(state, count, unique, draw)
            np.testing.assert_array_equal(sampled, expected)
            assert tries == expected_tries
            assert len(set(sampled.tolist())) == count or not unique
            np.testing.assert_array_equal(after, candidates.after_batch(state, count))
            state = after


_SAMPLERS = {
    "uniform": lambda t: tf.random.uniform_candidate_sampler(t, 2, 9, True, 40, seed=1),
    "log_uniform": lambda t: tf.random.log_uniform_candidate_sampler(t, 2, 9, True, 40, seed=1),
    "log_uniform, not unique": lambda t: tf.random.log_uniform_candidate_sampler(
        t, 2, 9, False, 40, seed=1
    ),
    "learned_unigram": lambda t: tf.random.learned_unigram_candidate_sampler(
        t, 2, 9, True, 40, seed=1
    ),
    "fixed_unigram": lambda t: tf.random.fixed_unigram_candidate_sampler(
        t, 2, 9, True, 40, unigrams=[1.0 + i % 4 for i in range(40)], distortion=0.75, seed=1
    ),
    "all": lambda t: tf.nn.all_candidate_sampler(t, 2, 40, True, seed=1),
}


@pytest.mark.parametrize("name", _SAMPLERS)
def test_a_compiled_step_goes_on_as_an_interpreted_one(name):
    true = tf.placeholder(tf.int64, [None, 2])
    tensors = _SAMPLERS[name](true)
    # Enough that no run of the first session is interpreted.
    more = [tf.reduce_sum(tf.matmul(tf.ones([2, 2]), tf.fill([2, 2], float(i)))) for i in range(2)]
    feeds = [{true: [[i, 3], [5, 39 - i]]} for i in range(4)]
    with tf.Session() as session:
        found = [session.run([*tensors, *more], fed)[:3] for fed in feeds]
        (island,) = [
            island
            for prepared in session._prepared.values()
            for island in prepared.step.programs.islands.values()
        ][:1]
        assert any("CandidateSampler" in op.type for op in island.ops)
    with tf.Session() as session, native.without():
        expected = [session.run(tensors, fed) for fed in feeds]
    for run, expected_run in zip(found, expected, strict=True):
        np.testing.assert_array_equal(run[0], expected_run[0])
        for counts, expected_counts in zip(run[1:], expected_run[1:], strict=True):
            np.testing.assert_allclose(counts, expected_counts, rtol=2e-6)
            assert counts.dtype == np.float32


def test_a_step_with_sampled_losses_is_one_program_that_updates_its_table_in_place():
    table = tf.get_variable("table", [512, 8])
    biases = tf.get_variable("biases", [512])
    inputs, labels = tf.placeholder(tf.float32, [4, 8]), tf.placeholder(tf.int64, [4, 1])
    loss = tf.reduce_mean(tf.nn.nce_loss(table, biases, labels, inputs, 6, 512))
    train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    feeds = {inputs: np.ones([4, 8]), labels: [[1], [2], [3], [500]]}

    def place():
        return session._resources.cell("table").value.unsafe_buffer_pointer()

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        losses = [session.run([loss, train], feeds)[0] for _ in range(8)]
        before = place()
        losses += [session.run([loss, train], feeds)[0] for _ in range(30)]
        assert place() == before
        assert np.mean(losses[-5:]) < np.mean(losses[:5])
        step = next(
            p.step for p in session._prepared.values() if p.step.order.writers and p.step.feeds
        )
        assert len(step.split.segments) == 1


def test_failures_in_a_program():
    true = tf.placeholder(tf.int64, [None, 1])
    counted = tf.Variable(0)
    learned = tf.random.learned_unigram_candidate_sampler(true, 1, 2, True, 5)[0]
    few = tf.random.fixed_unigram_candidate_sampler(
        true, 1, 3, False, 4, unigrams=[1.0, 0.0, 0.0, 1.0]
    )[0]
    with tf.control_dependencies([counted.assign_add(1)]):
        learned, few = tf.identity(learned), tf.identity(few)
    with tf.Session() as session:
        session.run(counted.initializer)
        for i in range(4):
            assert sorted(session.run(learned, {true: [[4]]})) != []
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"not in \[0, 5\)"):
                session.run(learned, {true: [[5]]})
            assert set(session.run(few, {true: [[0]]})) <= {0, 3}
            assert session.run(counted) == 2 * (i + 1)
