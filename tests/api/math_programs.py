"""Expressions of mathematics; nodes, values and gradients are compared with TensorFlow's: `tf` is either of the two."""

# This file also runs under Python 3.7.

import numpy as np

A = [[1.5, -2.25, 0.5], [-0.75, 3.0, 2.0]]
FEEDS = {
    "a": ("float32", A),
    "p": ("float32", [[0.5, 2.25, 0.25], [0.75, 3.0, 1.0]]),
    "v": ("float32", [0.5, -1.25, 2.0]),
    "i": ("int32", [[7, -7, 6], [-6, 5, -1]]),
    "h": ("float16", [1.0, 2.5]),
    "z": ("complex64", [0.5 + 0.25j, -1.0 + 2.0j, 3.0]),
    "t": ("bool", [True, False, True]),
    "d": ("float64", [0.25, 0.5]),
    "s": ("string", [b"x", b"y"]),
}

# Nodes, values, and the gradient by `a`, `p`, `v` or `z` where there is one.
EXPRESSIONS = """
a + a
a + 1
a + 2.5
2 - a
a * v
3 * a
a / v
1 / v
i / 2
i / i
i // 2
7 // i
a // v
i % 4
a % v
a ** 2
2.0 ** v
-a
abs(a)
abs(z)
a < 0.5
0.5 >= a
t & t
t | True
False ^ t
~t
s + "b"
"b" + s
h + 1
h * 0.5
[1.0, 2.0, 3.0] * v
v - np.array([1.0, 2.0, 3.0])
a @ tf.transpose(a)
z * 2
z + 1.0
tf.add(a, v)
tf.add(a, v, name="sum")
tf.subtract(a, 1.0)
tf.multiply(a, 2)
tf.divide(a, 2)
tf.divide(a, 2.0, name="q")
tf.truediv(i, 2)
tf.div(i, 4)
tf.div(a, v)
tf.floordiv(i, 4)
tf.realdiv(a, v)
tf.truncatediv(i, 4)
tf.truncatemod(i, 4)
tf.mod(a, 0.7)
tf.div_no_nan(a, [0.0, 1.0, 2.0])
tf.math.multiply_no_nan(a, [0.0, 1.0, 2.0])
tf.math.reciprocal_no_nan(tf.maximum(a, 0.0))
tf.math.xlogy(p, p)
tf.pow(p, v)
tf.pow(p, 2.0, name="square")
tf.maximum(a, v)
tf.minimum(a, 0.5)
tf.squared_difference(a, v)
tf.atan2(a, p)
tf.abs(a)
tf.abs(-3)
tf.negative(a)
tf.square(a)
tf.sqrt(p)
tf.rsqrt(p)
tf.exp(a)
tf.log(p)
tf.log1p(p)
tf.sigmoid(a)
tf.log_sigmoid(a)
tf.tanh(a)
tf.erf(a)
tf.lgamma(p)
tf.digamma(p)
tf.round(a)
tf.round(i)
tf.sign(a)
tf.math.bessel_i0(a)
tf.math.polyval([1.0, 2.0, 3.0], a)
tf.lbeta(p)
tf.logical_xor(t, True)
tf.equal(i, 6)
tf.not_equal(a, v)
tf.where(a > 0, a, 2 * a)
tf.where(tf.constant([True, False]), a, 2 * a)
tf.cast(a, tf.int32)
tf.cast(a, "float32")
tf.cast([1.7, 2.2], tf.int32)
tf.to_float(i)
tf.saturate_cast(300 * a, tf.int8)
tf.complex(a, 2 * a)
tf.real(z)
tf.imag(z)
tf.conj(z)
tf.conj(a)
tf.angle(z)
tf.add_n([a, a, 2 * a])
tf.add_n([a])
tf.add_n([a], name="only")
tf.accumulate_n([a, a])
tf.scalar_mul(2.0, a)
tf.reduce_sum(a)
tf.reduce_sum(a, 0)
tf.reduce_sum(a, [0, 1], keepdims=True, name="all")
tf.reduce_sum(i, axis=-1)
tf.reduce_sum([[1, 2], [3, 4]])
tf.reduce_mean(a, 1)
tf.reduce_mean(a, [])
tf.reduce_mean(i)
tf.reduce_prod(a, 0)
tf.reduce_max(a, 1)
tf.reduce_min(a)
tf.reduce_all(a > -1, 0)
tf.reduce_any(a > 2)
tf.reduce_logsumexp(a)
tf.reduce_logsumexp(a, 1, keepdims=True)
tf.math.reduce_variance(a, 1)
tf.math.reduce_std(a)
tf.math.reduce_euclidean_norm(p, 1)
tf.count_nonzero(tf.nn.relu(a), 0)
tf.count_nonzero(s)
tf.argmax(a, 1)
tf.argmin(a, output_type=tf.int32)
tf.cumsum(a, 1, exclusive=True)
tf.cumsum(a, reverse=True)
tf.cumprod(p, -1)
tf.range(5)
tf.range(1, 10, 3)
tf.range(0.0, 1.0, 0.25)
tf.range(3, delta=tf.constant(2, tf.int64))
tf.linspace(0.0, 1.0, 5)
tf.matmul(a, a, transpose_b=True)
tf.matmul(tf.stack([a, 2 * a]), a, adjoint_b=True)
tf.matmul(a, p, transpose_a=True, a_is_sparse=True)
tf.linalg.matvec(a, v)
tf.trace(tf.matmul(a, p, transpose_b=True))
tf.tensordot(a, a, [[1], [1]])
tf.tensordot(a, a, 2)
tf.tensordot(a, v, 1)
tf.cross(a, p)
tf.norm(a)
tf.norm(a, axis=1, keepdims=True)
tf.norm(a, ord=1, axis=0)
tf.norm(a, ord=np.inf, axis=[0, 1])
tf.norm(p, ord=3)
tf.linalg.normalize(a, axis=0)[0]
tf.nn.l2_normalize(a, 1)
tf.clip_by_value(a, -1.0, 1.0)
tf.clip_by_norm(a, 2.0)
tf.clip_by_norm(a, 2.0, axes=[0])
tf.clip_by_average_norm(a, 0.1)
tf.global_norm([a, None, v])
tf.clip_by_global_norm([a, None, v], 1.0)[0][0]
tf.segment_sum(a, [0, 0])
tf.segment_mean(a, [0, 1])
tf.segment_max(a, [1, 1])
tf.unsorted_segment_sum(a, [1, 0], 3)
tf.unsorted_segment_prod(a, [1, 1], 2)
tf.unsorted_segment_max(a, [1, 1], 2)
tf.unsorted_segment_mean(a, [1, 1], 2)
tf.unsorted_segment_sqrt_n(a, [1, 1], 2)
tf.sparse_segment_sum(a, [1, 0, 1], [0, 0, 2])
tf.sparse_segment_mean(a, [1, 0, 1], [0, 0, 1], num_segments=3)
tf.sparse_segment_sqrt_n(a, [1, 0, 1], [0, 0, 1])
tf.bincount([1, 1, 3], minlength=5)
tf.bincount([1, 1, 3], weights=[0.5, 1.0, 2.0])
tf.histogram_fixed_width(a, [-1.0, 2.0], 4)
tf.histogram_fixed_width_bins(a, [-1.0, 2.0], 4)
tf.zeta(p + 1, p)
tf.polygamma(tf.ones_like(p), p)
tf.igamma(p, p)
tf.betainc(p, p, tf.ones_like(p) / 4)
""".strip().splitlines()

# Values and gradients only: our nodes are others on purpose (one Einsum node; a matrix norm without loops).
VALUES = """
tf.einsum("ij,kj->ik", a, a)
tf.einsum("ij,kj", a, a)
tf.einsum("ij->j", a)
tf.einsum("ij,j->i", a, v)
tf.einsum("...j,j->...", a, v)
tf.einsum("ii", tf.matmul(a, a, transpose_b=True))
tf.einsum("ij,ik,k->jk", a, a, v)
tf.nn.zero_fraction(tf.nn.relu(a))
tf.confusion_matrix([0, 1, 1], [1, 1, 0])
""".strip().splitlines()

# What fails while the graph is built, or while it runs.
FAILURES = """
a + i
i + 2.5
a + [1.0, 2.0]
i // 0
i % 0
tf.add(a, tf.constant([1.0, 2.0]))
tf.truediv(a, d)
tf.truediv(s, s)
tf.divide(a, 2, name="q")
tf.reduce_sum(a, 2)
tf.reduce_sum(a, 1, reduction_indices=1)
tf.reduce_sum(a, keepdims=True, keep_dims=True)
tf.argmax(a, 0, dimension=1)
tf.argmax(a, 5)
tf.matmul(a, a)
tf.matmul(a, p, transpose_a=True, adjoint_a=True)
tf.add_n([])
tf.add_n([a, v])
tf.add_n([a, i])
tf.tensordot(a, a, [[0], [0, 1]])
tf.tensordot(a, a, 3)
tf.einsum("ij,jk->ik", a)
tf.einsum("ij,jk", a, a)
tf.einsum("iij->j", a)
tf.einsum("ij->k", a)
tf.norm(a, ord=-1)
tf.norm(a, axis=(0, 0))
tf.norm(a, ord=3, axis=(0, 1))
tf.scalar_mul(v, a)
tf.complex(a, tf.cast(a, tf.float64))
tf.segment_sum(a, [1, 0])
tf.unsorted_segment_sum(a, [0, 3], 2)
tf.range(5, 1)
tf.range(1, 5, 0)
tf.linspace(0.0, 1.0, 0)
tf.clip_by_value(v, a, a)
tf.global_norm(a)
tf.less(a, "x")
tf.cross(v, v[:2])
tf.bitcast(v, tf.float64)
tf.accumulate_n([a, v])
""".strip().splitlines()


def inputs(tf):
    """The placeholders that expressions use, by name; feeds for them."""
    named, feeds = {}, {}
    for name, (dtype, value) in FEEDS.items():
        array = np.array(value, object if dtype == "string" else dtype)
        named[name] = tf.placeholder(dtype, array.shape, name)
        feeds[named[name]] = array
    return named, feeds


def shown(value):
    """A value as JSON."""
    array = np.asarray(value)
    if array.dtype.kind == "c":
        return [array.real.tolist(), array.imag.tolist()]
    if array.dtype.kind in "OS":
        return [v.decode() for v in array.ravel().tolist()]
    return array.astype(np.float64).tolist()


def answer(tf, expression):
    """nodes: [name, op, inputs]; value, type and static shape; the gradient by each input that has one."""
    graph = tf.Graph()
    with graph.as_default():
        named, feeds = inputs(tf)
        first = len(graph.get_operations())
        out = eval(expression, dict(named, tf=tf, np=np))
        nodes = [
            [op.name, op.type, [t.name for t in op.inputs]] for op in graph.get_operations()[first:]
        ]
        found = {"nodes": nodes, "dtype": out.dtype.name, "shape": str(out.shape)}
        grads = []
        if out.dtype.is_floating or out.dtype.is_complex:
            xs = [named[n] for n in "apvz"]
            weights = tf.reshape(tf.range(tf.size(out)) % 3 + 1, tf.shape(out))
            try:
                found_grads = tf.gradients(out, xs, tf.cast(weights, out.dtype))
                grads = [(n, g) for n, g in zip("apvz", found_grads) if g is not None]
            except LookupError:
                found["no gradient"] = True
        with tf.Session() as session:
            for run in ("first", "second"):
                value, slopes = session.run([out, [g for _, g in grads]], feeds)
                found[run] = shown(value)
                found[run + " gradients"] = {n: shown(g) for (n, _), g in zip(grads, slopes)}
    return found


def failure(tf, expression):
    """The class of the error, when it comes, and its message."""
    graph = tf.Graph()
    with graph.as_default():
        named, feeds = inputs(tf)
        try:
            out = eval(expression, dict(named, tf=tf, np=np))
        except Exception as error:
            return [type(error).__name__, "building", str(error)]
        with tf.Session() as session:
            try:
                session.run(out, feeds)
            except Exception as error:
                return [type(error).__name__, "running", str(error)]
    return ["none", "", ""]
