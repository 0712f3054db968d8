"""Large results come without a copy, and still belong to the caller alone."""

import gc

import numpy as np
import pytest

import headrace as tf
from headrace.runtime.owned import is_owned

SIDE = 300  # 360 kB of float32


def ones():
    return np.ones((SIDE, SIDE), np.float32)


def runs(fetches, feeds, count=5):
    """The results of the last run, by then a single call of a program."""
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(count):
            results = sess.run(fetches, feeds)
    return results


@pytest.mark.parametrize("kind", [tf.float32, tf.float64, tf.int32, tf.complex64, tf.bool])
def test_no_copy_of_what_the_program_made(kind):
    x = tf.placeholder(tf.float32, [SIDE, SIDE])
    y = tf.cast(tf.matmul(x, x) + 1, kind)
    result = runs(y, {x: ones()})
    assert is_owned(result)
    assert result.flags.writeable and result.flags.c_contiguous
    assert result.dtype == kind.as_numpy_dtype
    np.testing.assert_array_equal(result, np.full((SIDE, SIDE), SIDE + 1).astype(result.dtype))


def test_small_results_and_other_types_are_copied():
    x = tf.placeholder(tf.float32, [SIDE, SIDE])
    small, strange = runs([tf.matmul(x, x)[:9, :9], tf.cast(x * 2, tf.bfloat16)], {x: ones()})
    assert not is_owned(small) and not is_owned(strange)
    assert strange[0, 0] == 2 and small[0, 0] == SIDE


def test_what_others_hold_is_copied():
    """Feeds, variables before and after the step, constants: writing into a result changes none of them."""
    x = tf.placeholder(tf.float32, [SIDE, SIDE])
    v = tf.Variable(ones(), use_resource=True)
    old = tf.identity(v.read_value())
    with tf.control_dependencies([old]):
        new = v.assign_add(tf.ones([SIDE, SIDE])).read_value()
    same = tf.reshape(x, [SIDE, SIDE])
    constant = tf.constant(np.arange(SIDE * SIDE, dtype=np.float32))
    fed = ones()
    with tf.Session() as sess:
        sess.run(v.initializer)
        for i in range(6):
            for result in sess.run([old, new, same, x, constant, x + 1], {x: fed}):
                result[...] = -7
            assert (sess.run(v) == i + 2).all()
        assert (fed == 1).all()
        assert sess.run(constant)[5] == 5


def test_results_stay_when_session_and_later_runs_are_gone():
    x = tf.placeholder(tf.float32, [SIDE, SIDE])
    y = tf.matmul(x, x)
    with tf.Session() as sess:
        results = [sess.run(y, {x: ones() * i}) for i in range(6)]
    sess.close()
    del sess
    gc.collect()
    assert is_owned(results[-1])
    for i, result in enumerate(results):
        assert (result == SIDE * i * i).all()


def test_a_result_fetched_with_what_is_written():
    """The new value is both a result and the variable's: the variable keeps its own."""
    v = tf.Variable(ones(), use_resource=True)
    product = tf.matmul(v.read_value(), tf.eye(SIDE)) + 1
    write = v.assign(product)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for i in range(6):
            result, _ = sess.run([product, write.op])
            assert (result == i + 2).all()
            result[...] = -1
        assert (sess.run(v) == 7).all()


def test_shapes_for_which_a_result_is_its_argument():
    """A reshape does nothing for one of the shapes: then its result is the feed."""
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.reshape(x, [-1, SIDE])
    with tf.Session() as sess:
        for shape in [(2 * SIDE, SIDE // 2), (SIDE, SIDE)] * 4:
            fed = np.ones(shape, np.float32)
            result = sess.run(y, {x: fed})
            result[...] = 3
            assert (fed == 1).all()
