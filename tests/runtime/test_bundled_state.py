"""Small variables pass between programs and the session in one buffer; nobody who uses them can tell."""

import threading

import numpy as np
import pytest

import headrace as tf
from headrace import native
from headrace.runtime.resources import Bundle

needs_kernels = pytest.mark.skipif(not native.available(), reason="needs the compiled kernels")

_LARGE = 4096  # elements of a variable that is in no bundle


def _network(count=6):
    """Variables of several types and sizes, and a step that adds a fed number to all of them."""
    added = tf.placeholder(tf.float32, [], name="added")
    kinds = [tf.float32, tf.float64, tf.int32, tf.int64, tf.bfloat16]
    variables = [
        tf.Variable(tf.cast(tf.fill([i + 1], i), kinds[i % len(kinds)]), name=f"v{i}")
        for i in range(count)
    ]
    variables += [tf.Variable(tf.zeros([_LARGE]), name="large"), tf.Variable(0.0, name="scalar")]
    step = tf.group(
        *[v.assign_add(tf.fill(v.shape, tf.cast(added, v.dtype.base_dtype))) for v in variables]
    )
    return added, variables, step


def _expected(variables, total):
    return [
        np.full(v.shape.as_list(), (i if i < len(variables) - 2 else 0) + total)
        for i, v in enumerate(variables)
    ]


def _check(session, variables, total):
    for found, expected in zip(session.run(variables), _expected(variables, total), strict=True):
        np.testing.assert_array_equal(np.asarray(found, np.float64), expected)


def _bundles(session):
    """How many variables are in each of the buffers that hold several."""
    held = [c.held for c in session._resources._cells.values() if c.held.__class__ is Bundle]
    return sorted(sum(h is b for h in held) for b in {id(b): b for b in held}.values())


@needs_kernels
def test_the_small_variables_of_a_step_share_a_buffer():
    added, variables, step = _network()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(4):
            session.run(step, {added: 1})
        assert _bundles(session) == [7]
        _check(session, variables, 4)
        session.run(step, {added: 1})
        assert _bundles(session) == [7]  # reading them has changed nothing
        _check(session, variables, 5)


def test_steps_with_other_variables_and_other_groups():
    added, variables, step = _network()
    other = tf.group(*[v.assign_add(tf.ones_like(v)) for v in variables[1:6]])
    total = tf.add_n([tf.reduce_sum(tf.cast(v, tf.float64)) for v in variables[:4]])
    base = sum((i + 1) * i for i in range(4))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        ones = 0
        for number in range(1, 7):
            session.run(step, {added: 1})
            assert session.run(total) == base + 10 * number + 9 * ones
            if number % 2:
                session.run(other)
                ones += 1
                assert session.run(total) == base + 10 * number + 9 * ones
        session.run(variables[2].initializer)
        session.run(step, {added: 1})
        np.testing.assert_array_equal(session.run(variables[2]), [3, 3, 3])
        np.testing.assert_array_equal(session.run(variables[3]), [3 + 7 + ones] * 4)
        variables[3].load([9, 8, 7, 6], session)
        session.run(step, {added: 1})
        np.testing.assert_array_equal(session.run(variables[3]), [10, 9, 8, 7])


def test_fetched_values_stay_as_they_are_and_can_be_written_to():
    added, variables, step = _network()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        kept = []
        for _ in range(4):
            kept.append(session.run([step, *variables], {added: 1})[1:])
        first = session.run(variables[1])
        first[:] = 99
        for values in kept:
            values[3][:] = 55
        _check(session, variables, 4)
        session.run(step, {added: 1})
        assert (first == 99).all() and all((values[3] == 55).all() for values in kept)
        assert kept[0][1].base is None


def test_a_step_that_fails_changes_nothing():
    added, variables, step = _network()
    where = tf.placeholder(tf.int32, [])
    with tf.control_dependencies([step]):
        checked = tf.gather(tf.constant([1.0, 2.0]), where)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for i in range(4):
            assert session.run(checked, {added: 1, where: i % 2}) == 1 + i % 2
            with pytest.raises(tf.errors.InvalidArgumentError, match="2 is not in"):
                session.run(checked, {added: 1, where: 2})
            _check(session, variables, i + 1)


def test_variables_are_saved_and_restored(tmp_path):
    added, variables, step = _network()
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(step, {added: 1})
        path = saver.save(session, str(tmp_path / "model"))
        session.run(step, {added: 1})
        _check(session, variables, 4)
        saver.restore(session, path)
        _check(session, variables, 3)
        session.run(step, {added: 2})
        _check(session, variables, 5)
    with tf.Session() as session:
        saver.restore(session, path)
        for _ in range(3):
            session.run(step, {added: 1})
        _check(session, variables, 6)


def test_two_sessions_have_each_their_own():
    added, variables, step = _network()
    with tf.Session() as one, tf.Session() as two:
        for session in (one, two):
            session.run(tf.global_variables_initializer())
        for _ in range(3):
            one.run(step, {added: 1})
            two.run(step, {added: 2})
        _check(one, variables, 3)
        _check(two, variables, 6)


def test_a_variable_may_change_its_shape():
    size = tf.placeholder(tf.int32, [])
    free = tf.Variable(tf.zeros([2]), validate_shape=False, name="free")
    others = [tf.Variable(float(i)) for i in range(4)]
    grown = tf.assign(free, tf.concat([free, tf.ones([1])], 0), validate_shape=False)
    resized = tf.assign(free, tf.fill([size], 5.0), validate_shape=False)
    add = tf.group(
        tf.assign(free, free + 1.0, validate_shape=False), *[v.assign_add(1.0) for v in others]
    )
    both = tf.group(grown, *[v.assign_add(1.0) for v in others])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run(add)
        np.testing.assert_array_equal(session.run(free), [3, 3])
        session.run(resized, {size: 3})
        for _ in range(2):
            session.run(add)
        np.testing.assert_array_equal(session.run(free), [7, 7, 7])
        for length in (4, 5, 6):
            session.run(both)
            assert session.run(free).shape == (length,)
        assert session.run(others) == [8, 9, 10, 11]


def test_random_operations_go_on_with_their_numbers():
    drawn = [tf.random_uniform([3], seed=i) for i in range(5)]
    with tf.Session() as session:
        found = [session.run(drawn) for _ in range(5)]
    with tf.Session() as session, native.without():
        expected = [session.run(drawn) for _ in range(5)]
    np.testing.assert_array_equal(found, expected)
    assert len({tuple(run[0]) for run in found}) == 5


def test_what_is_missing_is_named():
    added, variables, step = _network()
    others = [v for v in variables if v is not variables[2]]
    with tf.Session() as session:
        session.run(tf.variables_initializer(others))
        for _ in range(3):
            with pytest.raises(tf.errors.FailedPreconditionError, match="value v2"):
                session.run(step, {added: 1})
        session.run(variables[2].initializer)
        for _ in range(3):
            session.run(step, {added: 1})
        _check(session, variables, 3)


def test_steps_in_several_threads():
    added, variables, step = _network()
    half = tf.group(*[v.assign_add(tf.ones_like(v)) for v in variables[:4]])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        runs = (lambda: session.run(step, {added: 1}), lambda: session.run(half))
        threads = [
            threading.Thread(target=lambda run=run: [run() for _ in range(40)]) for run in runs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, value in enumerate(session.run(variables[:6])):
            expected = number + 40 + (40 if number < 4 else 0)
            np.testing.assert_array_equal(
                np.asarray(value, np.float64), np.full(number + 1, expected)
            )


def test_many_small_results_of_a_run():
    x = tf.placeholder(tf.float32, [None])
    fetches = [tf.cast(x * i, kind) for i in range(9) for kind in (tf.float32, tf.int32, tf.bool)]
    fetches += [tf.reduce_sum(x), tf.zeros([0]), x, tf.fill([_LARGE], 2.0) * x[0], tf.constant(3)]
    with tf.Session() as session:
        for size in (2, 2, 2, 2000, 2000, 0):
            fed = np.arange(size, dtype=np.float32) + 1
            if not size:
                fetches.pop(-2)
            found = session.run(fetches, {x: fed})
            for i in range(9):
                for value, kind in zip(found[3 * i : 3 * i + 3], (np.float32, np.int32, np.bool_)):
                    np.testing.assert_array_equal(value, (fed * i).astype(kind))
                    assert value.dtype == kind and value.flags.writeable and value.flags.owndata
            assert isinstance(found[27], np.float32) and found[27] == fed.sum()
            assert found[28].shape == (0,) and found[-1] == 3
            np.testing.assert_array_equal(found[29], fed)
            assert found[29] is not fed
            if size:
                np.testing.assert_array_equal(found[30], np.full(_LARGE, 2.0))
