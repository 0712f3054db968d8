"""tf.contrib.eager in graphs: defun, and gradients of Python functions."""

import numpy as np
import pytest

import headrace as tf

tfe = tf.contrib.eager


def _run(fetches):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches)


def test_gradients_of_functions():
    """For arguments by number and name, for variables, to the second order."""

    def f(x, y):
        return x * x * y

    x, y = tf.constant(3.0), tf.constant(5.0)
    value, (dx,) = tfe.value_and_gradients_function(f, ["x"])(x, y)
    both = tfe.gradients_function(f)(x, y, dy=2.0)
    second = tfe.gradients_function(lambda v: tfe.gradients_function(f, [0])(v, y)[0])(x)
    assert _run([value, dx, both, second]) == [45.0, 30.0, [60.0, 18.0], [10.0]]
    w = tfe.Variable(4.0, name="w")
    unused = tfe.Variable(1.0)
    ((dw, variable),) = tfe.implicit_gradients(lambda v: v * w * w)(x)
    assert variable is w and unused is not w and _run(dw) == 24.0
    for make, message in (
        (lambda: tfe.gradients_function(f, ["z"])(x, y), "no argument"),
        (lambda: tfe.gradients_function(lambda v: None)(x), "returns None"),
        (lambda: tfe.implicit_gradients(lambda v: v + 1)(x), "No trainable variables"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_defun():
    """Plain and with a signature, whose shapes its body sees; one body for all calls of a kind; concrete functions."""
    shapes = []

    @tfe.defun
    def plain(x, scale=2.0):
        shapes.append(x.shape.as_list())
        return {"scaled": x * scale}

    @tfe.defun(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def signed(x):
        shapes.append(x.shape.as_list())
        return tf.reduce_sum(x, 0)

    two, four = tf.ones([2, 3]), tf.ones([4, 3])
    results = [plain(two)["scaled"], plain(two, 3.0)["scaled"], signed(two), signed(four)]
    assert shapes == [[2, 3], [2, 3], [None, 3]]
    concrete = signed.get_concrete_function()
    assert [t.shape.as_list() for t in concrete.inputs] == [[None, 3]]
    assert concrete.function_def.signature.name == concrete.name and concrete.outputs
    again = plain.get_concrete_function(tf.TensorSpec([], tf.float32))
    assert again.structured_outputs["scaled"] is again.outputs[0] and not again.captured_inputs
    results += [concrete(tf.ones([5, 3])), again(7.0)["scaled"]]
    values = _run(results)
    for value, expected in zip(values, (2.0, 3.0, 2.0, 4.0, 5.0, 14.0), strict=True):
        np.testing.assert_array_equal(value, np.full(np.shape(value), expected))
    with pytest.raises(TypeError, match="takes 1 tensors"):
        concrete(two, four)
    assert not tfe.executing_eagerly()
