"""Arguments are there when a program is called: it runs in the calling thread and gives its scratch memory back there."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import headrace as tf
from headrace.lowering.jax_adapter import ARRAY
from headrace.runtime.ready_arguments import ready_input, to_device
from headrace.runtime.resources import Cell


def _address(array):
    return array.__array_interface__["data"][0]


def _at(offset, count, dtype=np.float32):
    """An array of so many elements that begins `offset` bytes after a multiple of 64."""
    size = np.dtype(dtype).itemsize * count
    memory = np.zeros(size + 128, np.uint8)
    start = -_address(memory) % 64 + offset
    return memory[start : start + size].view(dtype)


LARGE = 40_000


@pytest.mark.parametrize(
    "value, copied",
    [
        (np.float32(3), False),
        (_at(16, 100), False),
        (_at(0, LARGE), False),
        (_at(0, LARGE).reshape(200, 200), False),
        (_at(16, LARGE), True),
        (_at(4, LARGE).reshape(200, 200), True),
        (_at(0, LARGE).reshape(200, 200).T[:, 1:], True),
        (_at(0, 2 * LARGE)[::2], True),
        (_at(32, LARGE, ml_dtypes.bfloat16)[:0], False),
        (_at(2, 2 * LARGE, ml_dtypes.bfloat16), True),
        (_at(8, LARGE, np.complex64), True),
    ],
)
def test_inputs_that_xla_takes_as_they_are(value, copied):
    if isinstance(value, np.ndarray) and value.size:
        value[...] = np.arange(value.size).reshape(value.shape) % 100
    ready = ready_input(value)
    assert (ready is not value) == copied
    assert ready.dtype == value.dtype and ready.shape == value.shape
    if copied:
        assert not _address(ready) % 64 and ready.flags.c_contiguous
        assert not np.shares_memory(ready, value)
        np.testing.assert_array_equal(ready, value)


def test_variables_move_to_the_device_and_stay_the_same():
    cells = [Cell("a"), Cell("b"), Cell("c")]
    old = np.arange(6.0)
    cells[0].value, cells[1].value = old, np.int64(7)
    to_device(cells)
    assert [c.value.__class__ is ARRAY for c in cells] == [True, True, False]
    assert cells[0].value.dtype == np.float64 and int(cells[1].value) == 7
    old[:] = 0  # what moved is a copy
    np.testing.assert_array_equal(cells[0].value, np.arange(6.0))
    here = cells[0].value
    to_device(cells)
    assert cells[0].value is here
    assert cells[0].holds(old) and cells[0].holds(here)
    assert not cells[0].holds(np.arange(6.0)) and not cells[1].holds(old)
    cells[0].value = np.arange(6.0)
    assert not cells[0].holds(old)
    cells[0].value = None
    del here
    assert not cells[0].holds(old)


@pytest.mark.parametrize(
    "value",
    [
        _at(0, 64),
        _at(0, LARGE).reshape(200, 200),
        _at(16, LARGE).reshape(200, 200).T,
        _at(0, 64, np.bool_),
        _at(0, 64, np.complex128),
        _at(0, 64, ml_dtypes.bfloat16)[::2],
        np.zeros((0, 3), np.int64),
        np.zeros((), np.float64),
    ],
)
def test_moving_a_variable_copies_it_and_compiles_nothing(value):
    if value.size:
        value[...] = 1
    cell = Cell("v")
    cell.value = value
    before = tf.compilations().count
    to_device([cell])
    assert tf.compilations().count == before
    assert cell.value.__class__ is ARRAY
    assert cell.value.dtype == value.dtype and cell.value.shape == value.shape
    value[...] = 0
    np.testing.assert_array_equal(np.asarray(cell.value), np.ones(value.shape, value.dtype))


def test_a_fed_array_may_change_after_the_run():
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.zeros(LARGE, np.float32))
    add = tf.assign_add(v, 2.0 * x)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for offset in (0, 4):
            fed = _at(offset, LARGE)
            fed[:] = 1.0
            for _ in range(3):
                sess.run(add.op, {x: fed})
            fed[:] = 100.0
        np.testing.assert_array_equal(sess.run(v), np.full(LARGE, 12.0, np.float32))


_PROGRAM = """
import numpy as np
import headrace as tf
v = tf.Variable(np.eye(700, dtype=np.float32))
x = tf.placeholder(tf.float32, [700, 700])
product = v
for _ in range(8):
    product = tf.matmul(product, x)
step = tf.assign(v, product).op
with tf.Session() as sess:
    sess.run(v.initializer)
    fed = np.eye(700, dtype=np.float32)
    ready = []
    for _ in range(5):
        sess.run(step, {x: fed})
        (cell,) = [c for c in sess._resources._cells.values()]
        ready.append(not hasattr(cell.value, "is_ready") or cell.value.is_ready())
    print(all(ready))
"""


@pytest.mark.skipif(os.environ.get("JAX_PLATFORMS", "cpu") != "cpu", reason="of the CPU")
def test_a_step_is_done_when_run_returns():
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
