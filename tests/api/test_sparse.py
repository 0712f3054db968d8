"""Sparse tensors and assertions against TensorFlow's answers: names, shapes, values, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api import sparse_programs as programs

STORED = json.loads((Path(__file__).parents[1] / "data" / "sparse.json").read_text())
ANSWERS, FAILURES = STORED["answers"], STORED["failures"]


def plain_name(name):
    """A name without the number that tells it from others: TensorFlow uses up names where it tries twice."""
    return re.sub(r"_\d+(?=/|$)", "", name)


def compare(found, wanted, what):
    """Asserts that fetched values agree: types, shapes, elements."""
    if isinstance(wanted, list) and len(wanted) == 3 and isinstance(wanted[0], str):
        assert found[:2] == wanted[:2], what
        if isinstance(wanted[2], list):
            np.testing.assert_allclose(found[2], wanted[2], rtol=1e-5, atol=1e-6, err_msg=what)
            return
    if isinstance(wanted, list):
        assert len(found) == len(wanted), what
        for f, w in zip(found, wanted, strict=True):
            compare(f, w, what)
    else:
        assert found == wanted, what


@pytest.mark.parametrize("expression", programs.EXPRESSIONS)
def test_expression(expression):
    found, wanted = programs.answer(tf, expression), ANSWERS[expression]
    assert len(found["tensors"]) == len(wanted["tensors"])
    for (name, dims), (wanted_name, wanted_dims) in zip(
        found["tensors"], wanted["tensors"], strict=True
    ):
        if not wanted_name.endswith(
            ("Merge", "Merge_1", "Merge_2", "Exit")
        ):  # branches and loops are one node here
            assert plain_name(name) == plain_name(wanted_name)
        if wanted_dims is not None:  # we may know more
            assert len(dims) == len(wanted_dims)
            assert all(w in (None, d) for d, w in zip(dims, wanted_dims, strict=True))
    compare(found["first"], wanted["value"], "interpreted")
    compare(found["second"], wanted["value"], "compiled")


@pytest.mark.parametrize("expression", programs.FAILURES)
def test_failure(expression):
    kind, when, message = programs.failure(tf, expression)
    assert [kind, when] == FAILURES[expression]
    assert message


def test_session_takes_and_gives_sparse_tensors():
    x = tf.sparse_placeholder(tf.float32, [None, 3])
    assert (x.dtype, x.shape.as_list()) == (tf.float32, [None, None])
    value = tf.SparseTensorValue(np.array([[0, 1]]), np.array([5.0], np.float32), np.array([2, 3]))
    with tf.Session() as session:
        for feed in (value, tuple(value)):
            got = session.run({"a": [x, x.values]}, {x: feed})["a"]
            assert isinstance(got[0], tf.SparseTensorValue)
            np.testing.assert_array_equal(got[0].indices, value.indices)
            assert got[1].tolist() == [5.0]
        assert x.eval({x: value}).dense_shape.tolist() == [2, 3]
        run = session.make_callable(tf.sparse.to_dense(x), [x.indices, x.values, x.dense_shape])
        assert run(*value).tolist() == [[0, 5, 0], [0, 0, 0]]
        with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value"):
            session.run(x)


def test_gradients():
    """By values and by dense tensors, against finite differences."""
    at, shape = [[0, 1], [1, 0], [1, 2]], [2, 3]
    values, dense = np.array([1.0, -2.0, 0.5]), np.linspace(0.3, 2, 6).reshape(2, 3)
    v, d = tf.placeholder(tf.float64, [3]), tf.placeholder(tf.float64, [2, 3])
    s, other = tf.SparseTensor(at, v, shape), tf.SparseTensor([[0, 1], [1, 1]], v[:2], shape)
    losses = {
        "add": tf.sparse_add(s, other).values,
        "add dense": tf.sparse_add(s, d),
        "matmul": tf.sparse_tensor_dense_matmul(s, d, adjoint_b=True),
        "slice": tf.sparse_slice(s, [0, 1], [2, 2]).values,
        "reorder": tf.sparse_reorder(tf.SparseTensor(at[::-1], v, shape)).values,
        "scale": (s * d).values,
        "divide": (s / d).values,
        "softmax": tf.sparse_softmax(s).values,
        "sum": tf.sparse_reduce_sum(s, 1, keepdims=True),
        "dense": tf.sparse.to_dense(s, v[0]),
        "fill": tf.sparse_fill_empty_rows(
            tf.SparseTensor([[0, 0], [0, 1], [2, 1]], v, [3, 3]), v[1]
        )[0].values,
        "transpose": tf.sparse_transpose(s).values,
    }
    with tf.Session() as session:
        for what, out in losses.items():
            loss = (
                tf.reduce_sum(tf.square(out) * tf.cast(tf.range(1, tf.size(out) + 1), tf.float64))
                if out.shape.ndims == 1
                else tf.reduce_sum(tf.square(out))
            )
            grads = tf.gradients(loss, [v, d])
            feeds = {v: values, d: dense}
            for _ in range(2):
                got = session.run([g for g in grads if g is not None], feeds)
            for x, grad in zip(
                [x for x, g in zip([v, d], grads, strict=True) if g is not None], got, strict=True
            ):
                for place in np.ndindex(grad.shape):
                    step = np.zeros(grad.shape)
                    step[place] = 1e-5
                    up, down = (
                        session.run(loss, {**feeds, x: feeds[x] + way * step}) for way in (1, -1)
                    )
                    np.testing.assert_allclose(
                        grad[place],
                        (up - down) / 2e-5,
                        rtol=1e-4,
                        atol=1e-6,
                        err_msg=f"{what} {place}",
                    )


def test_training_step_with_assertions_is_one_program():
    x = tf.placeholder(tf.float32, [None, 2])
    w = tf.Variable([[1.0], [2.0]])
    with tf.control_dependencies(
        [tf.assert_positive(x), tf.assert_rank(x, 2), tf.assert_less(x, 9.0)]
    ):
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w)))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run([train, loss], {x: [[1.0, 2.0]]})
        before = session.run(w)
        for _ in range(2):
            with pytest.raises(
                tf.errors.InvalidArgumentError,
                match=r"(?s)Condition x > 0 did not hold.*\[1 -2\].*defined at",
            ):
                session.run([train, loss], {x: [[1.0, -2.0]]})
        np.testing.assert_array_equal(session.run(w), before)
        steps = [prepared.step for prepared in session._prepared.values()]
        assert all(len(step.split.segments) <= 1 for step in steps)
        assert all(part.is_island for step in steps for part in step.split.segments)
        assert any(op.type == "Assert" for step in steps for op in step.ops)


def test_spec_and_structure():
    s = tf.SparseTensor([[0, 1]], [1.0], [2, 3])
    spec = tf.SparseTensorSpec.from_value(s)
    assert (spec, spec.shape.as_list(), spec.dtype) == (
        tf.SparseTensorSpec([2, 3]),
        [2, 3],
        tf.float32,
    )
    assert spec.is_compatible_with(s) and not tf.SparseTensorSpec([3, 3]).is_compatible_with(s)
    assert tf.nest.flatten([s, 1], expand_composites=True) == [
        s.indices,
        s.values,
        s.dense_shape,
        1,
    ]
    assert (s.op, s.graph, s.name) == (s.values.op, tf.get_default_graph(), s.values.name)
    doubled = tf.square(s)
    assert doubled.values.op in s.consumers()
    assert "SparseTensor(indices=Tensor(" in str(s)
    boxed = spec._to_tensor_list(s)
    (back,) = [spec._from_tensor_list(boxed)]
    batch = tf.SparseTensorSpec([None, 3])._to_batched_tensor_list(s)[0]
    (second,) = [tf.SparseTensorSpec([3])._from_compatible_tensor_list([batch[0]])]
    with tf.Session() as session:
        assert session.run(back).indices.tolist() == [[0, 1]]
        assert session.run(second).indices.tolist() == [[1]]


def test_private_functions_that_programs_import():
    from headrace.compat.private.python.ops import sparse_ops

    s = tf.SparseTensor([[0, 1], [2, 0]], [1.0, 2.0], [3, 4])
    numbers = sparse_ops._add_many_sparse_to_tensors_map(s)
    number = sparse_ops._add_sparse_to_tensors_map(s, shared_name="one")
    fed, other = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.int64, [None])
    rows = sparse_ops._take_many_sparse_from_tensors_map(numbers.op, fed, rank=2)
    whole = sparse_ops._take_many_sparse_from_tensors_map(number.op, other)
    added = sparse_ops.sparse_dense_cwise_add(s, [10.0, 20.0, 30.0, 40.0])
    packed = sparse_ops.deserialize_sparse(tf.serialize_many_sparse(s), tf.float32, rank=2)
    with tf.Session() as session:
        kept = session.run(numbers)
        got = session.run(rows, {fed: kept[[2, 0]]})
        assert (got.indices.tolist(), got.values.tolist()) == ([[0, 0], [1, 1]], [2.0, 1.0])
        with pytest.raises(tf.errors.InvalidArgumentError, match="Unable to find SparseTensor: 2"):
            session.run(rows, {fed: kept[2:]})
        twice = session.run(whole, {other: [session.run(number) for _ in range(2)]})
        assert (twice.dense_shape.tolist(), len(twice.values)) == ([2, 3, 4], 4)
        assert session.run(added.values).tolist() == [21.0, 12.0]
        np.testing.assert_array_equal(session.run(packed).indices, session.run(s).indices)
    with pytest.raises(TypeError, match="must be one of AddSparseToTensorsMap"):
        sparse_ops._take_many_sparse_from_tensors_map(s.op, fed)
