"""Memory that programs give back stays with the process, unless somebody says otherwise."""

import subprocess
import sys

import pytest

# Writes 64 MB in each of ten runs; prints how many pages were mapped anew in the last five.
_PROGRAM = """
import resource
import numpy as np
import headrace as tf
x = tf.placeholder(tf.float32, [4096, 1024])
y = tf.reduce_sum(tf.matmul(tf.nn.relu(x), tf.transpose(tf.nn.relu(x) + 1.0)))
data = np.ones([4096, 1024], np.float32)
with tf.Session() as session:
    for _ in range(5):
        session.run(y, {x: data})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        session.run(y, {x: data})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables):
    import os

    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**environment, "JAX_PLATFORMS": "cpu", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_pages_are_not_mapped_anew():
    kept, given_back = faults(), faults(HEADRACE_KEEP_MEMORY="0")
    if given_back < 20_000:
        pytest.skip("this system's allocator keeps memory anyway")
    assert kept < given_back / 3
    assert faults(MALLOC_TRIM_THRESHOLD_="100000") > given_back / 2
