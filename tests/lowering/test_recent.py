"""Programs that have not been used for long are let go, and made again when they are needed."""

import gc
import weakref

import numpy as np

import headrace as tf
from headrace.lowering.recent import Recent
from headrace.runtime import kernels


def test_what_was_used_last_stays():
    recent = Recent(2)
    recent.add("a", 1)
    recent.add("b", 2)
    assert recent.find("a") == 1
    recent.add("c", 3)
    assert [recent.find(k) for k in "abc"] == [1, None, 3]
    assert recent.values() == [1, 3] and len(recent) == 2
    recent.add("a", 4)
    assert recent.values() == [3, 4]
    recent.clear()
    assert len(recent) == 0 and recent.find("a") is None


def test_kernels_of_many_shapes_are_not_all_kept(monkeypatch):
    held = Recent(2)
    monkeypatch.setattr(kernels, "_kernels", held)
    op = tf.tanh(tf.placeholder(tf.float32)).op
    programs = []
    for count in (1, 2, 3, 1):
        value = np.arange(count, dtype=np.float32)
        (found,) = kernels.run_kernel(op, [value])
        np.testing.assert_allclose(found, np.tanh(value), rtol=1e-6)
        programs.append(weakref.ref(held.values()[-1][0]))
    kernels.run_kernel(op, [value])
    gc.collect()
    assert len(held) == 2
    assert [p() is not None for p in programs] == [False, False, True, True]


def test_values_that_decide_shapes_do_not_fill_the_memory():
    n = tf.placeholder(tf.int32, [])
    total = tf.reduce_sum(tf.sqrt(tf.cast(tf.range(n), tf.float32)))
    with tf.Session() as sess:
        sess.run(total, {n: 1})
        prepared = next(iter(sess._prepared.values()))
        island = None
        for count in (2, 3, 4, 2, 5, 2):
            expected = np.sqrt(np.arange(count, dtype=np.float32)).sum()
            np.testing.assert_allclose(sess.run(total, {n: count}), expected, rtol=1e-6)
            if island is None:
                (island,) = prepared.step.programs.islands.values()
                island._programs.most = 2
        assert len(island._programs) == 2
