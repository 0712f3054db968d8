"""What is fed goes into programs without a copy where it can, and runs of several threads are under way at once."""

import threading
import time

import numpy as np

import headrace as tf
from headrace.lowering.jax_adapter import ARRAY, on_device, x64
from headrace.runtime.ready_arguments import aligned_copy, ready_input

LARGE = 1 << 18


def _address(array):
    if array.__class__ is ARRAY:
        return array.unsafe_buffer_pointer()
    return array.__array_interface__["data"][0]


def test_arrays_of_a_run_that_returns_early_are_copied_once():
    for kind in (np.float64, np.int64, np.bool_, np.complex64):
        copy = aligned_copy(np.ones(LARGE, kind))
        with x64():
            there = on_device(copy)
        assert there.dtype == kind and _address(there) == _address(copy)
        assert not there.committed
        assert ready_input(there) is there


def test_as_many_runs_are_under_way_as_there_are_threads():
    """Each waits in the middle of its step until all of them have come there."""
    count = 4
    barrier = threading.Barrier(count, timeout=30)
    steps = []
    for i in range(count):
        v = tf.Variable(float(i))
        met = tf.py_func(lambda: np.float32(barrier.wait() >= 0), [], tf.float32)
        steps.append((v, tf.assign_add(v, tf.reshape(met, []))))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        found = {}

        def work(i):
            for _ in range(3):
                found[i] = sess.run(steps[i][1])

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {i: i + 3.0 for i in range(count)}


def test_a_program_lets_other_threads_run_theirs():
    """While a long program is at work, other steps come and go."""
    x = tf.placeholder(tf.float32, [600, 600])
    product = x
    for _ in range(12):
        product = tf.matmul(product, x)
    long, y = tf.reduce_sum(product), tf.placeholder(tf.float32, [300])
    short = tf.reduce_sum(tf.sqrt(y))
    fed, few = np.eye(600, dtype=np.float32), np.ones(300, np.float32)
    with tf.Session() as sess:
        for _ in range(3):
            sess.run(long, {x: fed})
            sess.run(short, {y: few})
        ended = []

        def work():
            for _ in range(3):
                sess.run(long, {x: fed})
                ended.append(time.perf_counter())

        thread = threading.Thread(target=work, daemon=True)
        begun = time.perf_counter()
        thread.start()
        times = []
        while thread.is_alive():
            assert sess.run(short, {y: few}) == 300
            times.append(time.perf_counter())
        thread.join()
    inside = [t for t in times if begun < t < ended[-1]]
    assert len(inside) > 3
