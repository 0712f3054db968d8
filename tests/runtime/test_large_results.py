"""Large results are not copied where nobody else has their memory, and belong to the caller all the same."""

import gc

import numpy as np
import pytest

import headrace as tf

_SHAPE = [512, 256]
_RUNS = 4


def _run(session, fetches, feeds=None):
    """The results of several runs, the last of them of compiled ones."""
    return [session.run(fetches, feeds) for _ in range(_RUNS)]


def test_a_large_result_is_not_copied_and_can_be_written_to():
    x = tf.placeholder(tf.float32, [None, 256])
    y, small = tf.tanh(x) * 2.0, tf.reduce_sum(x)
    fed = np.random.RandomState(0).randn(*_SHAPE).astype(np.float32)
    with tf.Session() as session:
        for fetches in (y, [y, small]):
            results = [r[0] if isinstance(r, list) else r for r in _run(session, fetches, {x: fed})]
            for i, result in enumerate(results):
                assert result.flags.writeable and result.flags.c_contiguous
                np.testing.assert_allclose(result, np.tanh(fed) * 2, rtol=1e-6)
                result[:] = i
            assert not results[-1].flags.owndata
            gc.collect()
            for i, result in enumerate(results):
                assert (result == i).all()


@pytest.mark.parametrize("kind", ["reference", "resource"])
def test_results_are_nobody_elses(kind):
    """Variables before and after a step, what is fed, constants, and values that are fetched twice."""
    x = tf.placeholder(tf.float32, _SHAPE)
    variable = tf.get_variable(
        "v", _SHAPE, initializer=tf.zeros_initializer(), use_resource=kind == "resource"
    )
    other = tf.get_variable(
        "o", _SHAPE, initializer=tf.ones_initializer(), use_resource=kind == "resource"
    )
    constant = tf.constant(np.full(_SHAPE, 3, np.float32))
    before = tf.identity(variable)
    with tf.control_dependencies([before]):
        step = variable.assign_add(x + other)
    with tf.control_dependencies([step]):
        after = variable.read_value()
    fetches = [before, after, other, tf.identity(x), constant, tf.identity(after), after + 1.0, x]
    fed = np.ones(_SHAPE, np.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for run in range(6):
            results = session.run(fetches, {x: fed})
            expected = [2 * run, 2 * run + 2, 1, 1, 3, 2 * run + 2, 2 * run + 3, 1]
            assert [float(r[5, 5]) for r in results] == expected
            for a in range(len(results)):
                assert not np.shares_memory(results[a], fed)
                for b in range(a):
                    assert not np.shares_memory(results[a], results[b])
            for result in results:
                assert (result == result[0, 0]).all()
                result[:] = -100
        assert (session.run(variable) == 12).all() and (session.run(other) == 1).all()
        for _ in range(_RUNS):
            alone = session.run(other)
            assert (alone == 1).all()
            alone[:] = 5
        kept = session.run(variable)
        session.run(step, {x: fed})
        assert (kept == 12).all()


def test_what_is_fetched_outlives_the_session():
    x = tf.placeholder(tf.float64, _SHAPE)
    with tf.Session() as session:
        results = _run(session, tf.sqrt(x), {x: np.full(_SHAPE, 4.0)})
    del session
    gc.collect()
    assert all((r == 2).all() for r in results)


@pytest.mark.parametrize("kind", [tf.bool, tf.int8, tf.int64, tf.complex64, tf.bfloat16, tf.half])
def test_types(kind):
    x = tf.placeholder(tf.float32, [1024, 1024])
    fed = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024) % 7
    with tf.Session() as session:
        for result in _run(session, tf.cast(x, kind), {x: fed}):
            assert result.dtype == kind.as_numpy_dtype and result.flags.writeable
            np.testing.assert_array_equal(result, fed.astype(kind.as_numpy_dtype))
