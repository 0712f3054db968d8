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


PROGRAMS = {f.__name__: f for f in (dense, resources, scopes, values, shared)}


def describe(node):
    """A NodeDef as plain lists: what two exports of one program have in common."""
    attrs = sorted(
        (k, str(node.attr[k])) for k in node.attr if k in ("T", "dtype", "_class", "N", "shape")
    )
    return [node.name, node.op, list(node.input), node.device, attrs]
