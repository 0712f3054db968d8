"""What branches and loops give: slices with indices of different types, structures."""

import collections

import pytest

import headrace as tf


def _slices(values, indices, kind):
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices, kind), tf.constant([5]))


def test_indices_become_64_bits_where_one_branch_has_them():
    pred = tf.placeholder(tf.bool, [])
    chosen = tf.cond(
        pred,
        lambda: _slices([1.0, 2.0], [1, 2], tf.int32),
        lambda: _slices([3.0], [4], tf.int64),
    )
    assert chosen.indices.dtype == tf.int64
    with tf.Session() as session:
        for taken, values, indices in ((True, [1.0, 2.0], [1, 2]), (False, [3.0], [4])):
            found = session.run(chosen, {pred: taken})
            assert (found.values.tolist(), found.indices.tolist()) == (values, indices)


def test_slices_and_a_tensor_are_refused():
    with pytest.raises(TypeError, match="Cannot reconcile"):
        tf.cond(
            tf.constant(True),
            lambda: _slices([1.0], [0], tf.int32),
            lambda: tf.constant([1.0]),
        )


def test_what_a_loop_returns():
    """The outermost structure is that of the body's result; a single tensor comes alone unless asked otherwise."""
    i = tf.constant(0)
    pair = collections.namedtuple("pair", "a b")

    def loop(body, variables, **kwargs):
        result = tf.while_loop(lambda *_: tf.constant(False), body, variables, **kwargs)
        return tf.nest.map_structure(lambda t: "T", result)

    assert loop(lambda i, e: (i + 1, e), [i, []]) == "T"
    assert loop(lambda p: (p,), [(i, i)]) == (("T", "T"),)
    assert loop(lambda p: [p], [(i,)]) == ("T",)
    assert loop(lambda p: p, [pair(i, i)]) == [pair("T", "T")]
    assert loop(lambda a, b: pair(a, b), pair(i, i)) == pair("T", "T")
    assert loop(lambda a, b: (a, b), [i, i]) == ("T", "T")
    assert loop(lambda a, b: [a, b], (i, i)) == ["T", "T"]
    assert loop(lambda p: p, [i], return_same_structure=True) == ["T"]
    assert loop(lambda p: p, [i], maximum_iterations=3) == "T"
    assert loop(lambda i, e: (i + 1, e), [i, []], maximum_iterations=3) == ("T", [])
    assert loop(lambda p: p, [(i, i)], maximum_iterations=3) == ("T", "T")


def test_shape_invariants_may_be_specs():
    def loop(start, spec):
        variables = [tf.constant(0), start]
        invariants = [tf.TensorSpec([], tf.int32), spec]
        return tf.while_loop(lambda i, *_: i < 3, lambda i, v: (i + 1, v), variables, invariants)[1]

    sparse = tf.SparseTensor([[0]], [1.0], [10])
    slices = _slices([1.0], [3], tf.int32)
    rows = tf.IndexedSlicesSpec([None], tf.float32, tf.int32, tf.int32)
    assert loop(sparse, tf.SparseTensorSpec([None])).values.shape.as_list() == [None]
    assert loop(slices, rows).values.shape.as_list() == [None]
    assert loop(tf.ones([2]), tf.TensorSpec([None])).shape.as_list() == [None]
    for start, spec in (
        (tf.ones([2]), tf.SparseTensorSpec([None])),
        (sparse, tf.TensorSpec([None])),
        (tf.ones([2]), tf.TensorSpec([None], tf.int32)),
        (sparse, tf.SparseTensorSpec([None], tf.int32)),
    ):
        with pytest.raises(TypeError, match="Invalid shape invariant"):
            loop(start, spec)


def test_types_stay():
    with pytest.raises(TypeError, match=r"float32.* but has type .*float16.* after 1 iteration"):
        tf.while_loop(lambda v: v < 3.0, lambda v: tf.cast(v, tf.float16), [1.0])
