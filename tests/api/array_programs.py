"""Programs with array functions: their nodes, shapes, values, gradients and errors are compared with TensorFlow's.

`tf` is either of the two. `x` is a placeholder [?, 3] fed with 4 rows, `u` one of unknown shape fed the same, `i` an
int32 scalar fed with 1, `k` a vector fed with [2, 0].
"""

# This file also runs under Python 3.7.

import numpy as np

X = np.arange(12, dtype=np.float32).reshape(4, 3) - 4
FEEDS = {"x": X, "u": X, "i": np.int32(1), "k": np.array([2, 0], np.int32)}


def inputs(tf):
    """The placeholders by name."""
    return {
        "x": tf.placeholder(tf.float32, [None, 3], name="x"),
        "u": tf.placeholder(tf.float32, name="u"),
        "i": tf.placeholder(tf.int32, [], name="i"),
        "k": tf.placeholder(tf.int32, [None], name="k"),
    }


# name -> program of (tf, x, u, i, k): a tensor or a list of them
PROGRAMS = {
    # ---- x[...]
    "row": lambda tf, x, u, i, k: x[i],
    "last": lambda tf, x, u, i, k: x[-1],
    "range": lambda tf, x, u, i, k: x[1:3, ::2],
    "backwards": lambda tf, x, u, i, k: x[::-1, 2:0:-1],
    "from_tensor": lambda tf, x, u, i, k: x[i:, i],
    "ellipsis": lambda tf, x, u, i, k: x[..., 1],
    "newaxis": lambda tf, x, u, i, k: x[:, tf.newaxis, ..., None],
    "long_index": lambda tf, x, u, i, k: x[:, tf.cast(i, tf.int64)],
    "unknown_rank": lambda tf, x, u, i, k: u[1:, 0],
    "mask": lambda tf, x, u, i, k: x[x > 2.0],
    "numpy_index": lambda tf, x, u, i, k: x[np.int64(2), np.int32(0)],
    "dimension_index": lambda tf, x, u, i, k: x[: x.shape[1], x.shape[1] - 1],
    "strided_slice": lambda tf, x, u, i, k: tf.strided_slice(x, [0, 0], [3, 3], end_mask=1),
    "slice": lambda tf, x, u, i, k: tf.slice(x, [i, 0], [2, -1]),
    "slice_all": lambda tf, x, u, i, k: tf.slice(x, [1, 1], [-1, -1]),
    # ---- shapes
    "shape": lambda tf, x, u, i, k: [
        tf.shape(x),
        tf.shape(x[:2, :2]),
        tf.shape(u, out_type=tf.int64),
    ],
    "size_rank": lambda tf, x, u, i, k: [
        tf.size(x),
        tf.size(u),
        tf.rank(x),
        tf.rank(u),
        tf.size([[1, 2]]),
    ],
    "shape_n": lambda tf, x, u, i, k: tf.shape_n([x, u]),
    "reshape": lambda tf, x, u, i, k: tf.reshape(x, [-1, 1, tf.shape(x)[1]]),
    "reshape_like": lambda tf, x, u, i, k: tf.reshape(u, tf.shape(x)),
    "reshape_concat": lambda tf, x, u, i, k: tf.reshape(x, tf.concat([tf.shape(x)[:1], [3, 1]], 0)),
    "squeeze": lambda tf, x, u, i, k: [
        tf.squeeze(x[:1], 0),
        tf.squeeze(x[:, :1], [-1]),
        tf.squeeze(u[:1]),
    ],
    "expand_dims": lambda tf, x, u, i, k: [tf.expand_dims(x, 1), tf.expand_dims(x, dim=-1)],
    "transpose": lambda tf, x, u, i, k: [tf.transpose(x), tf.transpose(x, [1, 0]), tf.transpose(u)],
    "matrix_transpose": lambda tf, x, u, i, k: [
        tf.matrix_transpose(x[None]),
        tf.linalg.transpose(u),
    ],
    "broadcast": lambda tf, x, u, i, k: [
        tf.broadcast_to(x, [2, 4, 3]),
        tf.broadcast_dynamic_shape(k, [2, 1]),
    ],
    "invert_permutation": lambda tf, x, u, i, k: tf.invert_permutation([2, 0, 1]),
    # ---- filled
    "zeros": lambda tf, x, u, i, k: [
        tf.zeros([2, 3]),
        tf.zeros([tf.shape(x)[0], 3]),
        tf.zeros(tf.shape(x)),
        tf.zeros([i]),
    ],
    "zeros_types": lambda tf, x, u, i, k: [
        tf.zeros([], tf.bool),
        tf.zeros([1], tf.string),
        tf.ones([1, 2], tf.int64),
    ],
    "zeros_large": lambda tf, x, u, i, k: [
        tf.zeros([1000, 2]),
        tf.ones(tf.TensorShape([1001]), tf.float64),
    ],
    "likes": lambda tf, x, u, i, k: [
        tf.zeros_like(x),
        tf.ones_like(x),
        tf.zeros_like(x, tf.int32),
        tf.ones_like([1, 2]),
    ],
    "fill": lambda tf, x, u, i, k: [tf.fill([i, 2], 1.5), tf.fill(k, "a")],
    # ---- joins
    "concat": lambda tf, x, u, i, k: [
        tf.concat([x, x + 1.0], 0),
        tf.concat([x, x[:, :1]], -1),
        tf.concat([u, x], 0),
    ],
    "concat_one": lambda tf, x, u, i, k: tf.concat([x], 0),
    "stack": lambda tf, x, u, i, k: [
        tf.stack([x, x]),
        tf.stack([x, x], 1),
        tf.stack([1, i]),
        tf.stack([[i, 2], [3, 4]]),
    ],
    "stack_constants": lambda tf, x, u, i, k: [
        tf.stack([[1, 2], [3, 4]]),
        tf.stack([1.0, 2.0], axis=-1),
    ],
    "packed": lambda tf, x, u, i, k: [
        tf.convert_to_tensor([i, 1]),
        tf.convert_to_tensor([[i, 1], [2, 3], [4, i]]),
    ],
    "unstack": lambda tf, x, u, i, k: tf.unstack(x, axis=1) + tf.unstack(u, 4),
    "split": lambda tf, x, u, i, k: (
        tf.split(x, 3, 1) + tf.split(x, [1, 2], 1) + tf.split(x, [1, -1], -1)
    ),
    "split_tensor": lambda tf, x, u, i, k: tf.split(x, tf.stack([i, 3]), num=2),
    "parallel_stack": lambda tf, x, u, i, k: tf.parallel_stack([[1, 2], [3, 4]]),
    "meshgrid": lambda tf, x, u, i, k: (
        tf.meshgrid([1, 2, 3], [4, 5]) + tf.meshgrid([1, 2], [3], indexing="ij")
    ),
    # ---- by index
    "gather": lambda tf, x, u, i, k: [
        tf.gather(x, k),
        tf.gather(x, k, axis=1),
        tf.gather(x, i),
        tf.gather(u, [0]),
    ],
    "gather_batch": lambda tf, x, u, i, k: tf.gather(
        x, [[1, 0], [2, 2], [0, 1], [1, 1]], batch_dims=1
    ),
    "gather_nd": lambda tf, x, u, i, k: [
        tf.gather_nd(x, [[1], [2]]),
        tf.gather_nd(x, [[1, 2], [0, 0]]),
    ],
    "scatter_nd": lambda tf, x, u, i, k: [
        tf.scatter_nd([[1], [1]], x[:2], [3, 3]),
        tf.scatter_nd([[i]], [2.0], [i + 1]),
    ],
    "tensor_scatter": lambda tf, x, u, i, k: [
        tf.tensor_scatter_update(x, [[0]], x[1:2]),
        tf.tensor_scatter_add(x, [[0], [0]], x[1:3]),
        tf.tensor_scatter_sub(x, [[0, 1]], [1.0]),
    ],
    "reverse_sequence": lambda tf, x, u, i, k: [
        tf.reverse_sequence(x, [1, 2, 3, 0], seq_axis=1, batch_axis=0),
        tf.reverse_sequence(x, [2, 3, 4], seq_dim=0, batch_dim=1),
    ],
    "dynamic": lambda tf, x, u, i, k: (
        tf.dynamic_partition(x, [1, 0, 1, 2], 3) + [tf.dynamic_stitch([k, [1]], [x[:2], x[2:3]])]
    ),
    "boolean_mask": lambda tf, x, u, i, k: [
        tf.boolean_mask(x, [True, False, True, False]),
        tf.boolean_mask(x, x > 1.0),
        tf.boolean_mask(x, [True, False, True], axis=1),
    ],
    "where": lambda tf, x, u, i, k: [
        tf.where(x > 1.0),
        tf.where([0.0, 2.0]),
        tf.where(x > 1.0, x, -x),
        tf.where_v2(x > 0.0, x, 0.0),
    ],
    # ---- placed
    "pad": lambda tf, x, u, i, k: [
        tf.pad(x, [[1, 0], [0, 2]]),
        tf.pad(x, [[1, 0], [0, 2]], constant_values=2.0),
    ],
    "pad_tensor": lambda tf, x, u, i, k: tf.pad(x, [[i, 1], [0, 1]]),
    "pad_mirror": lambda tf, x, u, i, k: [
        tf.pad(x, [[1, 2], [0, 2]], "reflect"),
        tf.pad(x, [[1, 0], [2, 3]], "SYMMETRIC"),
    ],
    "tile": lambda tf, x, u, i, k: [tf.tile(x, [2, 1]), tf.tile(x, [1, i + 1])],
    "reverse": lambda tf, x, u, i, k: [tf.reverse(x, [0]), tf.reverse(x, [-1, 0])],
    "roll": lambda tf, x, u, i, k: [tf.roll(x, i, 0), tf.roll(x, [1, -1], [1, 0])],
    "space": lambda tf, x, u, i, k: [
        tf.space_to_batch(x[None, :, :2, None], [[0, 0], [0, 2]], 2),
        tf.batch_to_space(tf.reshape(x, [4, 1, 3, 1]), [[0, 0], [1, 0]], 2),
        tf.space_to_depth(tf.reshape(x, [1, 2, 6, 1]), 2),
        tf.depth_to_space(tf.reshape(x, [1, 3, 1, 4]), 2),
    ],
    "space_paddings": lambda tf, x, u, i, k: list(
        tf.required_space_to_batch_paddings([5, 3], [2, 2], [[1, 0], [0, 0]])
    ),
    "patches": lambda tf, x, u, i, k: tf.image.extract_image_patches(
        tf.reshape(x, [1, 4, 3, 1]), [1, 2, 2, 1], [1, 2, 1, 1], [1, 1, 1, 1], "SAME"
    ),
    "diagonals": lambda tf, x, u, i, k: [
        tf.matrix_diag(x),
        tf.matrix_diag_part(x[1:]),
        tf.matrix_set_diag(x, [9.0, 8.0, 7.0]),
        tf.diag([1.0, 2.0]),
    ],
    "band_part": lambda tf, x, u, i, k: [
        tf.matrix_band_part(x, 1, 0),
        tf.linalg.band_part(x, tf.cast(i, tf.int64), -1),
    ],
    # ---- by value
    "one_hot": lambda tf, x, u, i, k: [
        tf.one_hot(k, 3),
        tf.one_hot(k, i + 2, on_value=5, axis=0),
        tf.one_hot(k, 3, True, False),
        tf.one_hot(k, 2, dtype=tf.int64),
    ],
    "sequence_mask": lambda tf, x, u, i, k: [
        tf.sequence_mask(k, 3),
        tf.sequence_mask([[1], [3]]),
        tf.sequence_mask(k, 2, tf.float32),
    ],
    "unique": lambda tf, x, u, i, k: (
        list(tf.unique([4, 4, 1])) + list(tf.unique_with_counts(["a", "b", "a"]))
    ),
    "setdiff1d": lambda tf, x, u, i, k: list(tf.setdiff1d([1, 2, 3, 2], [2])),
    "top_k": lambda tf, x, u, i, k: (
        list(tf.nn.top_k(x, 2)) + list(tf.math.top_k(x)) + [tf.nn.in_top_k(x, [2, 0, 1, 1], i + 1)]
    ),
    "searchsorted": lambda tf, x, u, i, k: [
        tf.searchsorted([1.0, 2.0, 2.0], [2.0, 0.0]),
        tf.searchsorted(x, x, side="right"),
    ],
    "sort": lambda tf, x, u, i, k: [tf.sort(x, direction="DESCENDING"), tf.argsort(x, axis=0)],
    "repeat": lambda tf, x, u, i, k: [tf.repeat(x, 2, axis=1), tf.repeat([1, 2, 3], [2, 0, 1])],
}
# Programs whose nodes are not TensorFlow's one by one: it computes the same with others.
OTHER_NODES = {"zeros", "gather_batch", "meshgrid", "sort", "repeat"}

ERRORS = {
    "stack_axis": lambda tf, x, u, i, k: tf.stack([x, x], 4),
    "stack_shapes": lambda tf, x, u, i, k: tf.stack([x, x[:, :2]]),
    "concat_shapes": lambda tf, x, u, i, k: tf.concat([x, x[:, :2]], 0),
    "concat_rank": lambda tf, x, u, i, k: tf.concat([x, [1.0]], 0),
    "concat_axis": lambda tf, x, u, i, k: tf.concat([x, x], 2),
    "reshape": lambda tf, x, u, i, k: tf.reshape([1, 2, 3], [2, 2]),
    "reshape_divides": lambda tf, x, u, i, k: tf.reshape([1, 2, 3], [2, -1]),
    "squeeze": lambda tf, x, u, i, k: tf.squeeze(x, 1),
    "squeeze_names": lambda tf, x, u, i, k: tf.squeeze(x, axis=0, squeeze_dims=0),
    "expand_dims": lambda tf, x, u, i, k: tf.expand_dims(x, 4),
    "expand_dims_axis": lambda tf, x, u, i, k: tf.expand_dims(x),
    "transpose": lambda tf, x, u, i, k: tf.transpose(x, [0, 1, 2]),
    "unstack": lambda tf, x, u, i, k: tf.unstack(x),
    "unstack_num": lambda tf, x, u, i, k: tf.unstack(x, 2, 1),
    "split": lambda tf, x, u, i, k: tf.split(x, 2, 1),
    "split_scalar": lambda tf, x, u, i, k: tf.split(x, i),
    "index_type": lambda tf, x, u, i, k: x["a"],
    "index_float": lambda tf, x, u, i, k: x[0.5],
    "index_bounds": lambda tf, x, u, i, k: x[:, 3],
    "index_many": lambda tf, x, u, i, k: x[0, 0, 0],
    "assign": lambda tf, x, u, i, k: x[0].assign([1.0, 2.0, 3.0]),
    "gather_axis": lambda tf, x, u, i, k: tf.gather(x, k, axis=2),
    "gather_nd": lambda tf, x, u, i, k: tf.gather_nd(x, [[1, 2, 3]]),
    "scatter_nd": lambda tf, x, u, i, k: tf.scatter_nd([[1]], [[2.0, 3.0]], [4]),
    "pad_mode": lambda tf, x, u, i, k: tf.pad(x, [[0, 0], [0, 0]], "WRAP"),
    "pad_negative": lambda tf, x, u, i, k: tf.pad(x, [[0, 0], [-1, 0]]),
    "one_hot": lambda tf, x, u, i, k: tf.one_hot(k, 3, on_value=1, off_value=0.0),
    "mask_rank": lambda tf, x, u, i, k: tf.boolean_mask(x, u > 0.0),
    "mask_shape": lambda tf, x, u, i, k: tf.boolean_mask(x, [[True, False]]),
    "where": lambda tf, x, u, i, k: tf.where(x > 0.0, x),
    "meshgrid": lambda tf, x, u, i, k: tf.meshgrid([1], [2], indexing="yx"),
    "sequence_mask": lambda tf, x, u, i, k: tf.sequence_mask([1], [2]),
    "searchsorted": lambda tf, x, u, i, k: tf.searchsorted([1], [1], side="up"),
    "fill": lambda tf, x, u, i, k: tf.fill([-2], 0),
    "tile": lambda tf, x, u, i, k: tf.tile(x, [1]),
    "reverse": lambda tf, x, u, i, k: tf.reverse(x, [0, 0]),
    "broadcast_static": lambda tf, x, u, i, k: tf.broadcast_static_shape(
        tf.TensorShape([2]), tf.TensorShape([3])
    ),
    # ---- met when it runs
    "run_reshape": lambda tf, x, u, i, k: tf.reshape(x, [5, -1]),
    "run_index": lambda tf, x, u, i, k: x[i + 3],
    "run_slice": lambda tf, x, u, i, k: tf.slice(x, [3, 0], [2, 1]),
    "run_gather": lambda tf, x, u, i, k: tf.gather(x, k + 3),
    "run_gather_column": lambda tf, x, u, i, k: tf.gather(x, [[0, 1], [i, 3]], axis=1),
    "run_gather_nd": lambda tf, x, u, i, k: tf.gather_nd(x, [[0, 0], [i, 3]]),
    "run_scatter_nd": lambda tf, x, u, i, k: tf.scatter_nd([[i], [-1]], [1.0, 2.0], [2]),
    "run_concat": lambda tf, x, u, i, k: tf.concat([u, x[:, :2]], 0),
    "run_top_k": lambda tf, x, u, i, k: tf.nn.top_k(x, i + 3),
    "run_partition": lambda tf, x, u, i, k: tf.dynamic_partition(k, k, 2),
    "run_ensure_shape": lambda tf, x, u, i, k: tf.ensure_shape(u, [None, 4]),
    "run_permutation": lambda tf, x, u, i, k: tf.invert_permutation(k),
}


def outputs_of(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


def nodes_of(tf, program):
    """What `program` adds to the graph: [name, op, inputs, static shapes]."""
    with tf.Graph().as_default() as graph:
        program(tf, **inputs(tf))
        return [
            [op.name, op.type, [t.name for t in op.inputs], [str(t.shape) for t in op.outputs]]
            for op in graph.get_operations()[4:]
        ]


def values_of(tf, program, times=1):
    """(values, gradients by x of the sum of the squares of the float outputs, or None) of each of `times` runs."""
    with tf.Graph().as_default():
        placeholders = inputs(tf)
        results = [tf.convert_to_tensor(t) for t in outputs_of(program(tf, **placeholders))]
        floats = [t for t in results if t.dtype.base_dtype == tf.float32]
        sources = [placeholders["x"], placeholders["u"]]
        grads = (
            tf.gradients([tf.reduce_sum(t * t) for t in floats], sources)
            if floats
            else [None, None]
        )
        grads = [None if g is None else tf.convert_to_tensor(g) for g in grads]
        feeds = {placeholders[name]: value for name, value in FEEDS.items()}
        found = []
        with tf.Session() as sess:
            for _ in range(times):
                values, gradients = sess.run([results, [g for g in grads if g is not None]], feeds)
                rest = iter(gradients)
                found.append((values, [None if g is None else next(rest) for g in grads]))
        return found


def error_of(tf, program):
    """[class, message] of what `program` raises while the graph is built or run."""
    with tf.Graph().as_default():
        placeholders = inputs(tf)
        try:
            result = program(tf, **placeholders)
            with tf.Session() as sess:
                sess.run(result, {placeholders[name]: value for name, value in FEEDS.items()})
        except Exception as error:
            return [type(error).__name__, str(error).split("\n")[0]]
    return None
