"""L2Loss of sizes around those of the parts that are added up for themselves."""

import numpy as np
import pytest

import headrace as tf


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 20_000])
def test_sizes(size, dtype):
    value = np.random.RandomState(size).randn(size).astype(dtype)
    x = tf.placeholder(dtype, [None])
    with tf.Session() as session:
        got = session.run(tf.nn.l2_loss(x), {x: value})
        turned = session.run(tf.nn.l2_loss(tf.transpose(tf.reshape(x, [size, 1]))), {x: value})
    assert got.dtype == dtype
    want = np.sum(value.astype(np.float64) ** 2) / 2
    for result in (got, turned):
        np.testing.assert_allclose(result, want, rtol=2e-3 if dtype == np.float16 else 2e-6)
