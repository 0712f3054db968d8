"""Mathematics against TensorFlow's answers: node names, types, shapes, values, gradients and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api import math_programs as programs

STORED = json.loads((Path(__file__).parents[1] / "data" / "math.json").read_text())
ANSWERS, FAILURES = STORED["answers"], STORED["failures"]


def close(got, wanted, what):
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5, err_msg=what)


@pytest.mark.parametrize("expression", [*programs.EXPRESSIONS, *programs.VALUES])
def test_expression(expression):
    found, wanted = programs.answer(tf, expression), ANSWERS[expression]
    if "nodes" in wanted:
        assert found["nodes"] == wanted["nodes"]
    assert (found["dtype"], found["shape"]) == (wanted["dtype"], wanted["shape"])
    for run in ("first", "second"):  # interpreted, then compiled
        if found["dtype"] == "string":
            assert found[run] == wanted["value"]
        else:
            close(found[run], wanted["value"], f"{run} value")
        slopes = found[f"{run} gradients"]
        assert slopes.keys() == wanted["gradients"].keys()
        for name, slope in slopes.items():
            close(slope, wanted["gradients"][name], f"{run} gradient by {name}")


@pytest.mark.parametrize("expression", programs.FAILURES)
def test_failure(expression):
    kind, when, message = programs.failure(tf, expression)
    assert [kind, when] == FAILURES[expression]
    assert message


# In TensorFlow some of these have no kernel for the type, or fail while the graph is built.
DIVISIONS = [
    "tf.truncatediv(i, [0, 1, 2])",
    "tf.div(i, 0)",
    "tf.realdiv(i, 0)",
    "tf.truncatemod(i, 0)",
]


@pytest.mark.parametrize("expression", [*DIVISIONS, "tf.pow(i, -1)"])
def test_values_without_result(expression):
    """Fails in every run, interpreted and compiled; a divisor that is not zero in a later run is fine."""
    named, feeds = programs.inputs(tf)
    with tf.Session() as session:
        divisor = tf.placeholder(tf.int32, [])
        text = expression.replace("[0, 1, 2]", "n").replace("-1", "n").replace(" 0)", " n)")
        out = eval(text, dict(named, tf=tf, n=divisor))
        bad = -1 if "pow" in expression else 0
        for value in (bad, bad, 2, 2, bad):
            if value == bad:
                with pytest.raises(tf.errors.InvalidArgumentError, match=r"[Ii]nteger"):
                    session.run(out, {**feeds, divisor: value})
            else:
                assert session.run(out, {**feeds, divisor: value}).shape == (2, 3)


def test_confusion_matrix_refuses_classes():
    with tf.Session() as session:
        for labels, classes, message in (
            ([-1], None, "`labels` contains negative"),
            ([5], 3, "out of bound"),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                session.run(tf.confusion_matrix(labels, [0], classes))


def test_shapes_that_nothing_is_known_of():
    """The same results where only the run knows shapes and axes."""
    a = np.array(programs.A, np.float32)
    x, axis = tf.placeholder(tf.float32), tf.placeholder(tf.int32)
    total = tf.reduce_sum(x, axis)
    products = tf.reduce_prod(x, axis)
    scaled = tf.multiply(x, tf.placeholder_with_default(2.0, None)) / tf.norm(x)
    pairs = tf.tensordot(x, x, [[1], [1]])
    slopes = tf.gradients([tf.square(total), products, scaled, tf.reduce_mean(x)], x)[0]
    known = tf.constant(a)
    expected = [tf.reduce_sum(known, 1), tf.reduce_prod(known, 1), 2 * known / tf.norm(known)]
    wanted = tf.gradients(
        [tf.square(expected[0]), expected[1], expected[2], tf.reduce_mean(known)], known
    )[0]
    with tf.Session() as session:
        for _ in range(2):
            got = session.run([total, products, scaled, pairs, slopes], {x: a, axis: 1})
            for value, want in zip(
                got, session.run([*expected, tf.matmul(known, known, transpose_b=True), wanted])
            ):
                close(value, want, "unknown shapes")


def test_sizes_stay_known_through_arithmetic():
    """Sizes computed from static shapes fold, division included: shapes that follow from them are known."""
    x = tf.placeholder(tf.float32, [6, 4])
    sizes = tf.shape(x)
    y = tf.reshape(x, [sizes[0] // 2, sizes[1] * 2])
    assert y.shape.as_list() == [3, 8]
    assert tf.range(sizes[0] % 4).shape.as_list() == [2]
    assert tf.zeros(
        tf.cast(tf.ceil(tf.cast(sizes, tf.float32) / 4.0), tf.int32)
    ).shape.as_list() == [2, 1]


def test_operators_leave_the_other_operand_its_turn():
    class Wrapped:
        def __radd__(self, other):
            return "reflected"

    assert tf.constant(1.0) + Wrapped() == "reflected"
    with pytest.raises(TypeError):
        tf.constant(1.0) - Wrapped()


def test_indexed_slices():
    slices = tf.IndexedSlices(tf.constant([[3.0, 4.0]]), tf.constant([1]), tf.constant([3, 2]))
    doubled = tf.scalar_mul(2.0, slices)
    clipped = tf.clip_by_norm(slices, 1.0)
    cast = tf.cast(slices, tf.float64)
    (globally, none), size = tf.clip_by_global_norm([slices, None], 2.5)
    assert none is None and cast.dtype == tf.float64
    with tf.Session() as session:
        values = session.run(
            [doubled.values, clipped.values, globally.values, size, tf.add_n([slices, slices])]
        )
    for got, want in zip(values, ([[6, 8]], [[0.6, 0.8]], [[1.5, 2]], 5, [[0, 0], [6, 8], [0, 0]])):
        close(got, want, "slices")


def test_gradients_that_no_difference_shows():
    """Products with zeros, one or more in a segment; ties of extremes, which share; second derivatives by numbers."""
    with tf.Session() as session:
        x = tf.constant([[0.0, 2.0], [3.0, 4.0], [0.0, 5.0], [7.0, 1.0]])
        by_product = tf.gradients(tf.unsorted_segment_prod(x, [0, 0, 0, 1], 2), x)[0]
        close(session.run(by_product), [[0, 20], [0, 10], [0, 8], [1, 1]], "product of segments")
        ties = tf.constant([2.0, 1.0, 2.0])
        close(session.run(tf.gradients(tf.reduce_max(ties), ties)[0]), [0.5, 0, 0.5], "ties")
        z = tf.constant([2.5, 3.0], tf.float64)
        q = tf.constant([0.5, 1.5], tf.float64)
        slope = tf.gradients(tf.zeta(z, q), q)[0]
        near = (tf.zeta(z, q + 1e-6) - tf.zeta(z, q - 1e-6)) / 2e-6
        close(session.run(slope), session.run(near), "zeta")


def test_rising_elements():
    with tf.Session() as session:
        for x, weak, strict in (
            ([1, 1, 2], True, False),
            ([[1.0, 2.0], [3.0, 4.0]], True, True),
            ([2, 1], False, False),
        ):
            assert session.run([tf.is_non_decreasing(x), tf.math.is_strictly_increasing(x)]) == [
                weak,
                strict,
            ]
        assert session.run(tf.is_strictly_increasing(tf.zeros([0])))
        with pytest.raises(TypeError, match="numeric"):
            tf.is_non_decreasing(["a"])
