"""Programs with variables whose graphs, values and errors are compared with TensorFlow's: `tf` is either of the two."""

# This file also runs under Python 3.7.


def graph_of(tf, build):
    """The nodes that `build(tf)` adds: [name, op, inputs, colocation, device]."""
    graph = tf.Graph()
    with graph.as_default():
        build(tf)
    found = []
    for node in graph.as_graph_def().node:
        groups = [g.decode() for g in node.attr["_class"].list.s] if "_class" in node.attr else []
        found.append([node.name, node.op, list(node.input), groups, node.device])
    return found


def plain(tf):
    a = tf.Variable([1.0, 2.0])
    tf.Variable(3, name="b", trainable=False)
    tf.Variable(lambda: tf.constant([5.0]), name="a/b")
    a.read_value()
    a.assign(a)
    a.assign_add([1.0, 1.0], name="plus")
    a.assign_sub([1.0, 1.0])
    tf.assign(a, [0.0, 1.0], validate_shape=False)
    tf.scatter_add(a, [0], [1.0])
    tf.scatter_nd_update(a, [[0]], [1.0])
    a.scatter_sub(tf.IndexedSlices([1.0], [0]))
    tf.count_up_to(tf.Variable(0, name="count"), 3)
    tf.is_variable_initialized(a)
    tf.global_variables_initializer()
    tf.local_variables_initializer()


def resource(tf):
    c = tf.Variable([1.0, 2.0], name="c", use_resource=True)
    with tf.device("/cpu:1"):
        d = tf.Variable(
            lambda: tf.constant([5.0]), name="d", use_resource=True, caching_device="/cpu:0"
        )
    tf.identity(c)
    tf.identity(d)
    c.read_value()
    c.assign([3.0, 4.0])
    c.assign_add([3.0, 4.0])
    c.assign_sub([3.0, 4.0], read_value=False)
    tf.scatter_update(c, [0], [1.0])
    tf.scatter_nd_add(c, [[0]], [1.0])
    c.sparse_read([0])
    c.is_initialized()
    tf.initialize_all_variables()


def ones_of(tf):
    def ones(shape, dtype=None, partition_info=None):
        return tf.constant(1.0, shape=shape, name="ones")

    return ones


def scopes(tf):
    ones = ones_of(tf)
    with tf.variable_scope("s"):
        v = tf.get_variable("v", [2], initializer=ones)
        tf.identity(v, name="used")
        with tf.variable_scope("t", reuse=tf.AUTO_REUSE):
            tf.get_variable("w", initializer=[1.0])
            tf.get_variable("w", initializer=[1.0])
    with tf.variable_scope("s", reuse=True) as scope:
        tf.identity(tf.get_variable("v", [2]), name="used")
    with tf.name_scope("n"), tf.variable_scope(scope):
        tf.identity(tf.get_variable("v", [2]), name="used")
    with tf.variable_scope(scope, auxiliary_name_scope=False):
        tf.identity(tf.get_variable("v", [2]), name="bare")
    for _ in range(2):
        with tf.variable_scope(None, default_name="d", use_resource=True):
            tf.get_variable("v", [2], initializer=ones)
    tf.get_local_variable("local", [2], initializer=ones)
    tf.get_variable("r", [2], initializer=ones, regularizer=lambda x: tf.identity(x, name="loss"))


def parts(tf):
    ones = ones_of(tf)
    with tf.variable_scope("s", partitioner=tf.fixed_size_partitioner(3)):
        v = tf.get_variable("v", [7, 2], initializer=ones)
        tf.identity(v)
        tf.get_variable("scalar", [], initializer=ones)
    tf.create_partitioned_variables([4, 4], [1, 2], ones, name="p")


def order(tf):
    a, b = tf.constant(1), tf.constant(2)
    with tf.device("/cpu:0"):
        c = tf.constant(3)
    tf.group(a, b)
    tf.group(a, c, name="named")
    tf.group()
    tf.tuple([a, None, b], control_inputs=[c])


def templates(tf):
    def layer(x):
        return x + tf.get_variable("v", [2], initializer=tf.zeros_initializer())

    shared = tf.make_template("shared", layer)
    shared(1.0)
    shared(2.0)
    tf.make_template("shared", layer, create_scope_now_=True)(1.0)


GRAPHS = (plain, resource, scopes, parts, order, templates)


def errors(tf):
    """Programs that must fail: {what: function}."""

    def again():
        tf.get_variable("x", [2])
        tf.get_variable("x", [2])

    def shared(**arguments):
        tf.get_variable("x", [3])
        tf.get_variable_scope().reuse_variables()
        tf.get_variable("x", **arguments)

    def missing():
        with tf.variable_scope("s", reuse=True):
            tf.get_variable("x", [2])

    def cut(parts, shape=(4, 4)):
        tf.get_variable("x", list(shape), partitioner=lambda **unused: parts)

    def cut_whole():
        tf.get_variable("x", [4])
        with tf.variable_scope("", reuse=True):
            tf.get_variable("x", [4], partitioner=tf.fixed_size_partitioner(2))

    def whole_cut():
        tf.get_variable("x", [4], partitioner=tf.fixed_size_partitioner(2))
        tf.get_variable("x", [4])

    def other_cut():
        tf.get_variable("x", [4], partitioner=tf.fixed_size_partitioner(2))
        with tf.variable_scope("", reuse=True):
            tf.get_variable("x", [4], partitioner=tf.fixed_size_partitioner(4))

    return {
        "again": again,
        "other shape": lambda: shared(shape=[2]),
        "other type": lambda: shared(shape=[3], dtype=tf.int32),
        "missing": missing,
        "value and shape": lambda: tf.get_variable("x", [1], initializer=[1.0]),
        "value and type": lambda: tf.get_variable(
            "x", dtype=tf.int32, initializer=tf.constant([1.0])
        ),
        "no shape": lambda: tf.get_variable("x"),
        "complex": lambda: tf.get_variable("x", [1], dtype=tf.complex64),
        "no value": lambda: tf.Variable(),
        "unknown shape": lambda: tf.Variable(tf.placeholder(tf.float32, [None])),
        "collections": lambda: tf.Variable(1.0, collections="variables"),
        "constraint": lambda: tf.Variable(1.0, constraint=3),
        "iterate": lambda: list(tf.Variable([1.0])),
        "rank": lambda: tf.Variable([1.0]).assign([[1.0]]),
        "type": lambda: tf.Variable([1.0]).assign(tf.constant([1])),
        "resource shape": lambda: tf.Variable([1.0], use_resource=True).assign([1.0, 2.0]),
        "resource +=": lambda: tf.Variable([1.0], use_resource=True).__iadd__(1.0),
        "slices": lambda: tf.Variable([1.0]).scatter_add(3.0),
        "scope name": lambda: tf.variable_scope(None),
        "scope reuse": lambda: tf.variable_scope("a", reuse=3),
        "scope type": lambda: tf.variable_scope(3).__enter__(),
        "default reuse": lambda: tf.variable_scope(None, "a", reuse=True).__enter__(),
        "getter": lambda: tf.get_variable("x", [1], custom_getter=3),
        "two axes": lambda: cut([2, 2]),
        "no parts": lambda: cut([0, 1]),
        "rank of parts": lambda: cut([2]),
        "cut whole": cut_whole,
        "whole cut": whole_cut,
        "other cut": other_cut,
        "slicing": lambda: tf.create_partitioned_variables([4], [1, 2], tf.zeros_initializer()),
        "group": lambda: tf.group(3),
        "group argument": lambda: tf.group(names="x"),
        "tuple": lambda: tf.tuple([None]),
    }


def failure(tf, function):
    """[class, first line] of the error of `function`, None where it raises none."""
    with tf.Graph().as_default():
        try:
            function()
        except Exception as error:
            return [type(error).__name__, str(error).split("\n")[0]]
    return None
