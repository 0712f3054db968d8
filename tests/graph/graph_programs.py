"""Small programs that build graphs; TensorFlow's own Python (3.7) runs them too, see tests/oracle/graphs.py.

Each takes the module `tf` and returns (fetches, feeds by tensor name): what to run after the initialiser.
"""

import numpy as np


def _values(*shape):
    size = int(np.prod(shape))
    return ((np.arange(size) * 37 % 11 - 5) / 4.0).astype(np.float32).reshape(shape)


def dense(tf):
    """A two-layer network with its gradients."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.Variable(_values(3, 4), name="w")
    b = tf.Variable(np.zeros(4, np.float32), name="b")
    with tf.name_scope("layer"):
        hidden = tf.nn.relu(tf.matmul(x, w) + b, name="hidden")
    loss = tf.reduce_mean(tf.square(hidden), name="loss")
    dw, db, dx = tf.gradients(loss, [w, b, x])
    return [loss, dw, db, dx], {"x:0": _values(2, 3)}


def resources(tf):
    """Resource variables: read, assigned, gathered, differentiated."""
    with tf.variable_scope("scope", use_resource=True):
        table = tf.get_variable("table", initializer=_values(5, 2))
        scale = tf.get_variable("scale", initializer=np.float32(1.5))
    rows = tf.gather(table, [4, 0, 4], name="rows")
    loss = tf.reduce_sum(rows * rows * scale, name="loss")
    slices, dscale = tf.gradients(loss, [table, scale])
    with tf.control_dependencies([loss]):
        bump = tf.assign_add(scale, 1.0)
    with tf.control_dependencies([bump]):
        after = tf.identity(scale.read_value(), name="after")
    return [loss, slices.values, slices.indices, dscale, after], {}


def scopes(tf):
    """Names, devices, colocation, control dependencies."""
    with tf.name_scope("outer"):
        a = tf.constant([1.0, 2.0], name="a")
        with tf.name_scope("inner"), tf.device("/job:worker/task:1"):
            b = tf.identity(a, name="b")
            with tf.device("/device:CPU:0"):
                c = tf.identity(b, name="c")
        with tf.name_scope("inner"):
            d = tf.constant(3, name="a")
    with tf.get_default_graph().colocate_with(c.op):
        e = tf.identity(d, name="e")
    with tf.control_dependencies([a, b.op]):
        f = tf.no_op(name="f")
        with tf.control_dependencies([e]):
            tf.identity(a, name="g")
        with tf.control_dependencies(None):
            tf.constant([True, False], name="h")
    del f
    tf.constant(0, name="case")
    tf.constant(1, name="Case")
    with tf.name_scope("outer/"):
        tf.constant(2, name="a")
    with tf.device(lambda op: "/device:GPU:3" if op.type == "Identity" else "/job:ps"):
        tf.identity(tf.constant(["text", b"\\xff\\x00"], name="strings"), name="i")
    return [], {}


def values(tf):
    """Constants of many types, and ops that carry them."""
    found = []
    for dtype in (tf.float16, tf.float64, tf.int8, tf.int64, tf.uint8, tf.complex64):
        constant = tf.constant([[1, 2], [3, 4]], dtype, name="c_" + dtype.name)
        found.append(tf.transpose(constant, name="t_" + dtype.name))
    found.append(tf.cast(tf.constant([0.5, -1.5]), tf.int32, name="cast"))
    found.append(tf.concat([tf.zeros([2, 1]), tf.ones([2, 2])], axis=1, name="concat"))
    found.append(tf.strided_slice(tf.range(10), [1], [9], [3], name="slice"))
    x = tf.placeholder_with_default(tf.constant([2.0]), [None], name="default")
    found.append(tf.reduce_sum(tf.stack([x, x * 3.0], axis=1), axis=[0], keepdims=True, name="sum"))
    return found, {}


def shared(tf):
    """One tensor used many times, several ys, stopped gradients, unused outputs."""
    x = tf.constant(_values(2, 3), name="x")
    parts = tf.split(x * x, 3, axis=1, name="split")
    u = parts[0] + parts[2]
    v = tf.stop_gradient(x) * tf.tanh(x)
    grads = tf.gradients(
        [u, v], [x, parts[0], u], name="first", grad_ys=[tf.fill([2, 1], 2.0), None]
    )
    again = tf.gradients(tf.reduce_sum(grads[0]), x, name="second")
    return [*grads, *again], {}


def _defun(tf):
    if tf.__name__ == "tensorflow":
        from tensorflow.python.framework.function import Defun
    else:
        from headrace.api.defun import Defun
    return Defun


def functions(tf):
    """Functions called by name: captured tensors, gradients derived, declared and second, functions in functions."""
    defun = _defun(tf)
    x = tf.placeholder(tf.float32, [2, 3], name="x")
    k = tf.constant(_values(3, 2), name="k")

    @defun(tf.float32, func_name="Affine", out_names=["map", "sum"])
    def affine(a):
        """An affine map."""
        return tf.tanh(tf.matmul(a, k)), tf.reduce_sum(a)

    @defun(tf.float32, tf.float32, func_name="CubeGrad")
    def cube_grad(a, da):
        return 10.0 * a * da

    @defun(tf.float32, func_name="Cube", grad_func=cube_grad, noinline=True)
    def cube(a):
        return a * a * a

    @defun(tf.float32, func_name="Outer")
    def outer(a):
        u, v = affine(a)
        return cube(u) * v

    y = outer(x)
    u, v = affine(x, name="again")
    dx, dk = tf.gradients([y, u, v], [x, k])
    return [y, u, v, dx, dk], {"x:0": _values(2, 3)}


def old_functions(tf):
    """Functions with a branch and a loop inside."""
    defun = _defun(tf)
    x = tf.placeholder(tf.float32, [2, 3], name="x")
    n = tf.placeholder(tf.int32, [], name="n")

    @defun(tf.float32, tf.int32, func_name="Power")
    def power(a, m):
        def step(i, v, kept):
            return i + 1, v * a, kept.write(i, v)

        kept = tf.TensorArray(tf.float32, m, element_shape=[2, 3])
        _, v, kept = tf.while_loop(lambda i, *_: i < m, step, [0, tf.ones_like(a), kept])
        return v + tf.reduce_sum(kept.stack(), 0)

    @defun(tf.float32, func_name="Signed")
    def signed(a):
        return tf.cond(tf.reduce_sum(a) > 0, lambda: a * 2.0, lambda: -a)

    return [power(x, n), signed(x), signed(-x)], {"x:0": _values(2, 3), "n:0": np.int32(3)}


def old_loops(tf):
    """Loops as TensorFlow 1.15 writes them: several variables, what does not change, growing shapes, one in another."""
    limit = tf.placeholder_with_default(np.int32(5), [], name="limit")
    w = tf.Variable(_values(2, 2), name="w")
    x = tf.constant(_values(2, 2), name="x")
    i, total = tf.while_loop(
        lambda i, total: i < limit,
        lambda i, total: (i + 1, tf.tanh(tf.matmul(total, w) + x) + 0.5),
        [0, tf.ones([2, 2])],
        name="loop",
    )
    grown = tf.while_loop(
        lambda i, rows: tf.reduce_sum(rows) < 12.0,
        lambda i, rows: (i + 1, tf.concat([rows, tf.fill([1, 2], tf.cast(i, tf.float32))], 0)),
        [tf.constant(1), tf.zeros([1, 2])],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 2])],
        name="grow",
    )[1]

    def outer(i, acc):
        inner = tf.while_loop(
            lambda j, a: j < i, lambda j, a: (j + 1, a + j * limit), [0, acc], name="inner"
        )
        return i + 1, inner[1] + 1

    nested = tf.while_loop(lambda i, acc: i < 4, outer, [0, 0], name="nested")[1]
    return [i, total, grown, nested, tf.identity(total * 2.0, name="after")], {}


def old_branches(tf):
    """Conditions as TensorFlow 1.15 writes them: several results, constants, one in another, in and around loops."""
    x = tf.constant(3.0, name="x")
    found = []
    for flag in (True, False):
        pred = tf.placeholder_with_default(flag, [], name=f"flag{flag:d}")
        found += tf.cond(
            pred, lambda: (x * 2.0, tf.constant(1)), lambda: (x - 1.0, tf.constant(2)), name="pair"
        )
        inner = lambda: tf.cond(x > 5.0, lambda: x * 10.0, lambda: x * 100.0, name="inner")  # noqa: E731
        found.append(tf.cond(pred, inner, lambda: x, name="outer"))
        found.append(
            tf.cond(
                pred,
                lambda: tf.while_loop(lambda v: v < 50.0, lambda v: v * x, [x], name="loop"),
                lambda: tf.constant(7.0),
                name="around",
            )
        )
    collatz = tf.while_loop(
        lambda n, steps: n > 1,
        lambda n, steps: (
            tf.cond(tf.equal(n % 2, 0), lambda: n // 2, lambda: 3 * n + 1),
            steps + 1,
        ),
        [27, 0],
        name="collatz",
    )[1]
    return [*found, collatz], {}


def old_arrays(tf):
    """TensorArrays as TensorFlow 1.15 writes them, and the recurrent network that is made of them."""
    x = tf.constant(_values(4, 3), name="x")
    array = tf.TensorArray(tf.float32, 4, element_shape=[3], clear_after_read=False).unstack(x)
    out = tf.TensorArray(tf.float32, 4)
    _, out, last = tf.while_loop(
        lambda i, out, state: i < 4,
        lambda i, out, state: (i + 1, out.write(i, state + array.read(i)), state + array.read(i)),
        [0, out, tf.zeros([3])],
        name="sums",
    )
    single = tf.TensorArray(tf.int32, 3, element_shape=[], clear_after_read=False)
    single = single.write(1, 7).write(0, 5).write(2, 9)
    cell = tf.nn.rnn_cell.BasicLSTMCell(2, name="cell")
    with tf.variable_scope("rnn", initializer=tf.constant_initializer(0.3)):
        outputs, state = tf.nn.dynamic_rnn(
            cell, tf.constant(_values(2, 5, 3)), [5, 2], dtype=tf.float32
        )
    return [
        out.stack(),
        last,
        single.gather([2, 1]),
        single.size(),
        single.read(0),
        outputs,
        state.c,
        state.h,
    ], {}


def old_training(tf):
    """A recurrent network with everything that trains it; only what it computes is fetched."""
    cell = tf.nn.rnn_cell.GRUCell(3, name="cell")
    with tf.variable_scope("rnn", initializer=tf.constant_initializer(0.2)):
        outputs, state = tf.nn.dynamic_rnn(cell, tf.constant(_values(2, 4, 3)), dtype=tf.float32)
    keep = tf.placeholder_with_default(False, [], name="training")
    state = tf.cond(
        keep, lambda: tf.nn.dropout(state, rate=0.5), lambda: state * 1.0, name="dropout"
    )
    loss = tf.reduce_mean(tf.square(state), name="loss")
    tf.train.GradientDescentOptimizer(0.1).minimize(loss, name="train")
    return [outputs, state, loss], {}


PROGRAMS = {f.__name__: f for f in (dense, resources, scopes, values, shared, functions)}
# As nodes Switch, Merge, Enter, ... in TensorFlow; here they are If and While from the start.
OLD_CONTROL_FLOW = {
    f.__name__: f for f in (old_loops, old_branches, old_arrays, old_training, old_functions)
}


def describe(node):
    """A NodeDef as plain lists: what two exports of one program have in common."""
    attrs = sorted(
        (k, str(node.attr[k])) for k in node.attr if k in ("T", "dtype", "_class", "N", "shape")
    )
    return [node.name, node.op, list(node.input), node.device, attrs]
