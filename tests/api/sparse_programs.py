"""Expressions of sparse tensors and of assertions; compared with TensorFlow's answers: `tf` is either of the two."""

# This file also runs under Python 3.7.

import numpy as np

# `s`, `o`: sparse matrices of one shape; `f`: one that is fed; `m`: another height; `u`: out of order; `w`: words;
# `c`: a cube; `n`: integers; `d`, `r`, `x`: dense; `k`: of unknown shape.
EXPRESSIONS = """
s
tf.sparse.to_dense(s)
tf.sparse.to_dense(w, default_value="-")
tf.sparse.to_dense(f)
tf.sparse_to_dense([0, 2], [4], 1.5)
tf.sparse_to_dense([[0, 1], [1, 0]], [2, 2], [3, 4], -1, name="table")
tf.sparse.from_dense(d)
tf.sparse.eye(3)
tf.sparse.eye(2, 4, dtype=tf.int32)
tf.sparse_add(s, o)
tf.sparse_add(s, o, threshold=4.0)
tf.sparse_add(s, f)
tf.sparse_add(s, d)
tf.sparse.add(d, s)
tf.sparse_concat(0, [s, m])
tf.sparse_concat(-1, [s, o, s])
tf.sparse.concat(axis=0, sp_inputs=[s, c2], expand_nonconcat_dim=True)
tf.sparse_concat(0, [f, s])
tf.sparse_split(sp_input=s, num_split=2, axis=1)
tf.sparse.split(sp_input=c, num_split=3, axis=2)
tf.sparse_slice(s, [0, 1], [2, 3])
tf.sparse_slice(f, [1, 0], [9, 9])
tf.sparse_reorder(u)
tf.sparse_reorder(f)
tf.sparse_reshape(s, [2, -1])
tf.sparse_reshape(c, [6, 2])
tf.sparse_reshape(f, [-1])
tf.sparse_transpose(s)
tf.sparse_transpose(c, [2, 0, 1])
tf.sparse_transpose(f)
tf.sparse.expand_dims(s, 1)
tf.sparse.expand_dims(s)
tf.sparse_retain(s, [True, False, True, False])
tf.sparse_reset_shape(s)
tf.sparse_reset_shape(s, [5, 6])
tf.sparse_reset_shape(f, [5, 6])
tf.sparse_fill_empty_rows(s, -1.0)
tf.sparse_fill_empty_rows(w, "none")
tf.sparse_merge(n, s, 20)
tf.sparse_merge([n, n], s, [20, 30], already_sorted=True)
tf.sparse_to_indicator(n, 20)
tf.sparse_reduce_sum(s)
tf.sparse_reduce_sum(s, 1)
tf.sparse_reduce_sum(c, [0, -1], keepdims=True)
tf.sparse_reduce_sum(f, axis=0)
tf.sparse_reduce_max(s, axis=1)
tf.sparse_reduce_sum_sparse(s, 1)
tf.sparse_reduce_max_sparse(s, 0, keep_dims=True)
tf.sparse_softmax(c)
tf.sparse_maximum(s, o)
tf.sparse_minimum(s, o)
tf.sparse_tensor_dense_matmul(s, x)
tf.sparse_tensor_dense_matmul(s, d, adjoint_a=True)
tf.sparse.matmul(s, d, adjoint_b=True)
tf.sparse_tensor_dense_matmul(f, x, name="product")
s * r
r * s
s / r
s * 2.0
s * d
n / 2
tf.square(s)
tf.abs(s)
tf.negative(s, name="minus")
tf.sqrt(tf.abs(s))
tf.cast(s, tf.int32)
tf.shape(s)
tf.rank(f)
tf.size(s)
tf.sparse_mask(tf.IndexedSlices(d, [4, 2, 0]), [2, 7])
tf.nn.embedding_lookup_sparse(x, n4, None, combiner="sum")
tf.nn.embedding_lookup_sparse(x, n4, s, combiner="mean")
tf.nn.safe_embedding_lookup_sparse([x], n4, combiner="sqrtn", default_id=1)
tf.cond(flag, lambda: s, lambda: tf.sparse_reorder(u))
tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.sparse_add(a, o)), [0, s])
tf.convert_to_tensor_or_sparse_tensor(tf.SparseTensorValue([[0]], [1.0], [2]))
tf.edit_distance(w, w)
tf.shape(tf.serialize_sparse(s))
tf.shape(tf.serialize_many_sparse(w))
tf.deserialize_many_sparse(tf.serialize_many_sparse(c), tf.float32, rank=3)
tf.deserialize_many_sparse([tf.serialize_sparse(s), tf.serialize_sparse(m)], tf.float32)
list(tf.raw_ops.DeserializeSparse(serialized_sparse=tf.serialize_sparse(w), dtype=tf.string))
list(tf.raw_ops.DeserializeSparse(serialized_sparse=tf.serialize_many_sparse(c, out_type=tf.variant), dtype=tf.float32))
list(through_map(tf.raw_ops.AddManySparseToTensorsMap, "many"))
tf.is_non_decreasing([1, 1, 2])
tf.is_non_decreasing(k)
tf.is_strictly_increasing([1, 1, 2])
tf.is_strictly_increasing(k)
tf.is_strictly_increasing([[5]])
tf.is_numeric_tensor(d), tf.is_numeric_tensor(tf.constant("a")), tf.is_numeric_tensor(1)
tf.assert_same_float_dtype([d, None, x]).name
tf.assert_same_float_dtype().name
tf.assert_scalar(3)
held(tf.assert_equal(d, d))
held(tf.assert_equal([1, 2], [1, 2]))
held(tf.assert_equal(k, [1.0, 2.0], message="told"))
held(tf.assert_none_equal(k, 3.0))
held(tf.assert_less(k, 9.0, data=["seen", k], summarize=1))
held(tf.assert_less_equal(k, [1.0, 2.0], name="mine"))
held(tf.assert_greater(k, 0.0))
held(tf.assert_greater_equal(k, 1.0))
held(tf.assert_negative(-k))
held(tf.assert_positive(k))
held(tf.assert_non_negative(k))
held(tf.assert_non_positive(-k))
held(tf.assert_near(k, k + 1e-8))
held(tf.assert_near(k, k + 0.1, rtol=0.2, atol=0.1))
held(tf.assert_rank(d, 2))
held(tf.assert_rank(k, 1))
held(tf.assert_rank_at_least(d, 1))
held(tf.assert_rank_at_least(k, 1))
held(tf.assert_rank_in(d, [1, 2]))
held(tf.assert_rank_in(k, [1, 3]))
held(tf.assert_integer(n.values))
held(tf.assert_type(d, tf.float32))
held(tf.debugging.assert_shapes([(d, ("a", 4)), (x, (4, "b")), (k, ("c",))]))
""".strip().split("\n")

# Raised while the graph is built, or when it runs; TensorFlow and we agree on the class and on when.
FAILURES = """
tf.SparseTensor([[0, 0]], [1.0, 2.0], [3, 3])
tf.SparseTensor([0, 1], [1.0, 2.0], [3])
tf.SparseTensor.from_value(3)
tf.convert_to_tensor_or_sparse_tensor(s, tf.int32)
tf.convert_to_tensor(s)
tf.sparse_to_dense([[1], [0]], [3], [1, 2])
tf.sparse_to_dense([[1], [1]], [3], [1, 2])
tf.sparse_to_dense([[5]], [3], [1])
tf.sparse_to_dense([[5]], [3], [1], validate_indices=False)
tf.sparse_to_dense([[0]], [3], [1, 2, 3])
tf.sparse.to_dense(u)
tf.sparse_add(d, d)
tf.sparse_add(s, m)
tf.sparse_add(f, m)
tf.sparse_add(f, x)
tf.sparse_concat(0, s)
tf.sparse_concat(0, [s, c2])
tf.sparse_split(s, 2, 1)
tf.sparse_split(sp_input=s, num_split=9, axis=1)
tf.sparse_split(sp_input=s, num_split=2)
tf.sparse_reshape(s, [5, 5])
tf.sparse_reshape(s, [-1, -1])
tf.sparse_reshape(f, [5, 5])
tf.sparse_reset_shape(s, [2, 2])
tf.sparse_reset_shape(s, [5])
tf.sparse_reset_shape(f, [2, 2])
tf.sparse_retain(s, [True])
tf.sparse_merge(n, s, "a")
tf.sparse_merge([n], s, [1, 2])
tf.sparse_reduce_sum(s, 5)
tf.sparse_tensor_dense_matmul(s, d)
tf.sparse_tensor_dense_matmul(f, d)
tf.sparse_tensor_dense_matmul(tf.SparseTensor([[7, 0]], [1.0], [2, 3]), d)
s * [[[1.0]]]
n / r
tf.sparse.expand_dims(s, "a")
tf.deserialize_many_sparse(tf.serialize_many_sparse(s), tf.int32)
tf.deserialize_many_sparse([["a", "b", "c"]], tf.int32)
tf.deserialize_many_sparse([tf.serialize_sparse(s), tf.serialize_sparse(c)], tf.float32)
tf.serialize_many_sparse(tf.SparseTensor([[0]], [1.0], [3]))
tf.deserialize_many_sparse(tf.serialize_sparse(s), tf.float32)
list(tf.raw_ops.TakeManySparseFromTensorsMap(sparse_handles=[5], dtype=tf.float32, shared_name="empty"))
tf.assert_equal([1], [2])
tf.assert_equal(k, [2.0, 2.0])
tf.assert_none_equal(k, 1.0)
tf.assert_less(k, 1.0)
tf.assert_less_equal([2.0], 1.0)
tf.assert_greater(k, 1.0)
tf.assert_greater_equal(1, 2)
tf.assert_positive(-k)
tf.assert_positive([0])
tf.assert_negative(k)
tf.assert_non_positive(k)
tf.assert_non_negative(-k)
tf.assert_near(k, k + 1.0)
tf.assert_near(1, 2)
tf.assert_rank(d, 1)
tf.assert_rank(k, 2)
tf.assert_rank(d, [2])
tf.assert_rank(d, 2.0)
tf.assert_rank_at_least(d, 3)
tf.assert_rank_at_least(k, 3)
tf.assert_rank_in(d, [0, 3])
tf.assert_rank_in(k, [0, 3])
tf.assert_integer(d)
tf.assert_type(d, tf.int32)
tf.assert_scalar([1])
tf.assert_scalar(k)
tf.assert_proper_iterable(d)
tf.assert_proper_iterable("abc")
tf.assert_proper_iterable(3)
tf.assert_same_float_dtype([d, n])
tf.assert_same_float_dtype([n])
tf.is_non_decreasing(["a", "b"])
tf.debugging.assert_shapes([(d, ("a", "a"))])
tf.debugging.assert_shapes([(d, 3)])
tf.debugging.assert_shapes([(k, (3,))])
""".strip().split("\n")

_AT = [[0, 1], [0, 3], [2, 0], [2, 2]]
_FED = {"f": (_AT, [1.5, 2.5, -3.0, 4.0], [3, 4]), "k": [1.0, 2.0]}


def inputs(tf):
    """(the names that expressions use, feeds)"""
    d = np.linspace(-1, 2, 12).reshape(3, 4).astype(np.float32)
    named = {
        "s": tf.SparseTensor(_AT, [1.0, -2.0, 3.0, 4.0], [3, 4]),
        "o": tf.SparseTensor([[0, 0], [0, 3], [1, 2], [2, 0]], [5.0, 2.0, 7.0, -8.0], [3, 4]),
        "f": tf.sparse_placeholder(tf.float32, name="f"),
        "m": tf.SparseTensor([[0, 1], [1, 0]], [9.0, 10.0], [2, 4]),
        "u": tf.SparseTensor([[2, 0], [0, 3], [2, 2], [0, 1]], [3.0, -2.0, 4.0, 1.0], [3, 4]),
        "w": tf.SparseTensor(_AT, ["a", "b", "c", "d"], [3, 4]),
        "c": tf.SparseTensor(
            [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 2]], [1.0, 2.0, 3.0, 4.0], [2, 2, 3]
        ),
        "c2": tf.SparseTensor([[1, 5]], [6.0], [2, 6]),
        "n": tf.SparseTensor(_AT, np.array([3, 9, 4, 13]), [3, 4]),
        "n4": tf.SparseTensor([[0, 1], [0, 3], [1, 0], [2, 2]], np.array([3, 1, 0, 3]), [3, 4]),
        "d": tf.constant(d),
        "x": tf.constant(d.T),
        "r": tf.constant([2.0, -1.0, 3.0, 0.5]),
        "k": tf.placeholder(tf.float32, name="k"),
        "flag": tf.placeholder_with_default(True, []),
        "np": np,
        "tf": tf,
    }

    def held(operation):
        with tf.control_dependencies([operation]):
            return tf.constant(7)

    def through_map(add, name):
        handles = add(
            sparse_indices=named["s"].indices,
            sparse_values=named["s"].values,
            sparse_shape=named["s"].dense_shape,
            container="",
            shared_name=name,
        )
        return tf.raw_ops.TakeManySparseFromTensorsMap(
            sparse_handles=handles, dtype=tf.float32, container="", shared_name=name
        )

    named["through_map"] = through_map
    named["held"] = held
    return named, {named["f"]: tf.SparseTensorValue(*_FED["f"]), named["k"]: _FED["k"]}


def _flat(value):
    """A fetched value as lists, types by name."""
    if isinstance(value, (list, tuple)):
        return [_flat(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    array = np.asarray(value)
    if array.dtype == object:
        return [
            v.decode("latin-1") if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()
        ]
    return [array.dtype.name, list(array.shape), array.reshape(-1).tolist()]


def _plain(found):
    """What has no value of its own in a session: IndexedSlices become their parts."""
    if hasattr(found, "_replace") or not isinstance(found, (list, tuple)):
        return found
    return [_plain(f) for f in found]


def _described(found):
    """(name of the node that gives the values, static shape) of each tensor."""
    if isinstance(found, (list, tuple)):
        return [part for f in found for part in _described(f)]
    shape = getattr(found, "shape", None)
    known = None if shape is None or shape.ndims is None else shape.as_list()
    return [[found.op.name, known]]


def answer(tf, expression):
    """Names, static shapes and values (twice) of an expression."""
    with tf.Graph().as_default():
        named, feeds = inputs(tf)
        found = _plain(eval(expression, named))
        if isinstance(found, str) or (isinstance(found, list) and isinstance(found[0], bool)):
            return {"tensors": [], "first": found, "second": found}
        with tf.Session() as session:
            first = _flat(session.run(found, feeds))
            second = _flat(session.run(found, feeds))
        return {"tensors": _described(found), "first": first, "second": second}


def failure(tf, expression):
    """(the class, "build" or "run", the message) of what an expression raises."""
    with tf.Graph().as_default():
        named, feeds = inputs(tf)
        try:
            found = eval(expression, named)
        except Exception as error:
            return type(error).__name__, "build", str(error)
        with tf.Session() as session:
            try:
                session.run(found, feeds)
            except Exception as error:
                return type(error).__name__, "run", str(error)
    return None, None, ""
