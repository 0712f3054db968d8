"""Meta graphs with control flow as TensorFlow 1.15 writes it, and what they compute there.

PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_old_graphs.py record         (writes tests/data/old_graphs)
PYTHONPATH=. python tests/oracle/make_old_graphs.py export FOLDER        (Headrace imports them and writes its graphs)
PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_old_graphs.py check FOLDER   (TensorFlow loads and runs those)

Of each program there is NAME.meta.gz, and in NAME.npz the variables before ("before/VARIABLE") and after
("after/VARIABLE"), and for run i the feeds ("feed/i/TENSOR") and the values fetched ("fetch/i/TENSOR").
"""

import gzip
import os
import sys

import numpy as np

if sys.argv[1] == "export":
    import headrace as tf
    import headrace.contrib.seq2seq  # noqa: F401  (where GatherTree is)
else:
    import tensorflow as tf
    from tensorflow.contrib import seq2seq

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data", "old_graphs")


def training(rng):
    """A recurrent network of two layers over sequences of several lengths, and what trains it."""
    x = tf.placeholder(tf.float32, [None, None, 5], name="x")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    labels = tf.placeholder(tf.int32, [None, None], name="labels")
    rate = tf.placeholder_with_default(np.float32(0.05), [], name="rate")
    cells = [tf.nn.rnn_cell.BasicLSTMCell(8) for _ in range(2)]
    outputs, state = tf.nn.dynamic_rnn(
        tf.nn.rnn_cell.MultiRNNCell(cells), x, lengths, dtype=tf.float32
    )
    logits = tf.layers.dense(outputs, 4)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    mask = tf.sequence_mask(lengths, tf.shape(x)[1], tf.float32)
    loss = tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)
    loss = tf.identity(loss + 1e-2 * tf.reduce_mean(tf.square(state[1].c)), name="loss")
    optimizer = tf.train.AdamOptimizer(rate)
    grads, variables = zip(*optimizer.compute_gradients(loss))
    grads, norm = tf.clip_by_global_norm(grads, 0.5)
    tf.identity(norm, name="norm")
    optimizer.apply_gradients(
        list(zip(grads, variables)), tf.train.get_or_create_global_step(), name="train"
    )
    runs = []
    for batch, time in ((4, 6), (4, 6), (4, 6), (3, 9), (4, 6)):
        feeds = {
            "x:0": rng.randn(batch, time, 5).astype(np.float32),
            "lengths:0": rng.randint(1, time, batch).astype(np.int32),
            "labels:0": rng.randint(0, 4, (batch, time)).astype(np.int32),
        }
        runs.append((feeds, ["loss:0", "norm:0"], ["train"]))
    return runs


def beam_search(rng):
    """A decoder with attention that keeps the best three beginnings of a sentence."""
    source = tf.placeholder(tf.int32, [None, None], name="source")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    batch, beams, units, words = tf.size(lengths), 3, 8, 7
    table = tf.get_variable("table", [words, units], initializer=tf.random_normal_initializer())
    with tf.variable_scope("encoder", initializer=tf.random_normal_initializer(stddev=0.7)):
        memory, last = tf.nn.dynamic_rnn(
            tf.nn.rnn_cell.GRUCell(units),
            tf.nn.embedding_lookup(table, source),
            lengths,
            dtype=tf.float32,
        )
    with tf.variable_scope("decoder", initializer=tf.random_normal_initializer(stddev=0.7)):
        attention = seq2seq.LuongAttention(
            units,
            seq2seq.tile_batch(memory, beams),
            memory_sequence_length=seq2seq.tile_batch(lengths, beams),
        )
        cell = seq2seq.AttentionWrapper(
            tf.nn.rnn_cell.GRUCell(units), attention, attention_layer_size=units
        )
        state = cell.zero_state(batch * beams, tf.float32)
        decoder = seq2seq.BeamSearchDecoder(
            cell,
            table,
            tf.fill([batch], 1),
            0,
            state.clone(cell_state=seq2seq.tile_batch(last, beams)),
            beams,
            output_layer=tf.layers.Dense(words, use_bias=False),
            length_penalty_weight=0.6,
        )
        output, final, found = seq2seq.dynamic_decode(decoder, maximum_iterations=9)
    fetches = []
    for name, value in (
        ("ids", output.predicted_ids),
        ("scores", output.beam_search_decoder_output.scores),
        ("log_probs", final.log_probs),
        ("found", found),
    ):
        fetches.append(tf.identity(value, name=name).name)
    runs = []
    for batch_size, time in ((4, 5), (4, 5), (2, 7)):
        feeds = {
            "source:0": rng.randint(0, words, (batch_size, time)).astype(np.int32),
            "lengths:0": rng.randint(1, time + 1, batch_size).astype(np.int32),
        }
        runs.append((feeds, fetches, []))
    return runs


def nested(rng):
    """Loops and branches in loops and branches, with all gradients."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    steps = tf.placeholder(tf.int32, [], name="steps")
    flag = tf.placeholder(tf.bool, [], name="flag")
    w = tf.get_variable("w", [3, 3], initializer=tf.random_normal_initializer(stddev=0.4))
    b = tf.get_variable("b", [3], initializer=tf.random_normal_initializer(stddev=0.4))

    def inner(i, state):
        def step(j, s):
            big = tf.reduce_sum(s) > 0.5
            moved = tf.cond(
                big, lambda: tf.tanh(tf.matmul(s, w)) * x, lambda: tf.sin(s) + b * tf.to_float(j)
            )
            return j + 1, tf.cond(flag, lambda: moved * s, lambda: moved)

        return tf.while_loop(lambda j, _: j <= i % 3, step, [tf.constant(0), state])[1]

    def outer(i, state, total):
        new = tf.cond(
            tf.equal(i % 2, 0), lambda: inner(i, state), lambda: tf.exp(-tf.square(state)) + b
        )
        once = tf.while_loop(
            lambda k, _: k < 2, lambda k, v: (k + 1, v * tf.sigmoid(new) + x), [0, new]
        )[1]
        return i + 1, once, total + tf.reduce_mean(once * new)

    _, last, total = tf.while_loop(
        lambda i, *_: i < steps, outer, [tf.constant(0), x, tf.constant(0.0)]
    )
    around = tf.cond(
        flag,
        lambda: tf.while_loop(
            lambda v: tf.reduce_sum(v) < 9.0,
            lambda v: v * 1.5 + tf.square(b[0]),
            [tf.square(w[0, 0]) + 1.0],
        ),
        lambda: tf.reduce_sum(tf.square(w)),
    )
    loss = tf.identity(total + tf.reduce_sum(tf.tanh(last)) + around, name="loss")
    fetches = [loss.name]
    for name, grad in zip(("dx", "dw", "db"), tf.gradients(loss, [x, w, b])):
        fetches.append(tf.identity(grad, name=name).name)
    runs = []
    for rows, count, on in ((2, 4, True), (2, 4, False), (2, 7, True), (2, 0, True)):
        feeds = {
            "x:0": rng.randn(rows, 3).astype(np.float32) * 0.5,
            "steps:0": np.int32(count),
            "flag:0": np.bool_(on),
        }
        runs.append((feeds, fetches, []))
    return runs


def branches(rng):
    """Gradients of gradients of branches in branches, of variables of both kinds, of random numbers."""
    p, q = (tf.placeholder(tf.bool, [], name=name) for name in "pq")
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    normal = tf.random_normal_initializer(stddev=0.5)
    w = tf.get_variable("w", [3, 3], initializer=normal)
    b = tf.get_variable("b", [3], initializer=normal, use_resource=True)
    y = tf.cond(
        p,
        lambda: tf.cond(q, lambda: tf.tanh(tf.matmul(x, w)), lambda: tf.matmul(x, w) * b),
        lambda: tf.sin(x) + b,
    )
    z = tf.cond(p, lambda: y * 2.0, lambda: y * w[0])
    loss = tf.reduce_sum(z * y)
    first = tf.gradients(loss, [x, w, b])
    loss += tf.add_n([tf.reduce_sum(tf.square(tf.convert_to_tensor(g))) for g in first])
    some = tf.cond(q, lambda: tf.nn.dropout(x * b, rate=0.5, seed=3), lambda: x * b)
    count = tf.get_variable(
        "count", [], initializer=tf.zeros_initializer(), trainable=False, use_resource=True
    )

    def counted():
        with tf.control_dependencies([tf.assign_add(count, 1.0)]):
            return tf.tanh(x * b) * tf.exp(x)

    some += tf.cond(p, counted, lambda: x)
    loss = tf.identity(loss + tf.reduce_sum(tf.square(some)), name="loss")
    fetches = [loss.name]
    for name, grad in zip(("dx", "dw", "db"), tf.gradients(loss, [x, w, b])):
        fetches.append(tf.identity(grad, name=name).name)
    runs = []
    for first, second in ((True, True), (True, False), (False, False)):
        feeds = {
            "x:0": rng.randn(2, 3).astype(np.float32),
            "p:0": np.bool_(first),
            "q:0": np.bool_(second),
        }
        runs.append((feeds, fetches, []))
    return runs


def arrays(rng):
    """Gradients of TensorArrays: read and written in branches and inner loops, of pieces, of what nobody reads."""
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.get_variable("w", [3], initializer=tf.random_normal_initializer(stddev=0.5))
    n = tf.shape(x)[0]

    def array_of(value):
        return tf.TensorArray(tf.float32, n, clear_after_read=False).unstack(value)

    source = array_of(x)

    def branching(i, out, state):
        value = tf.cond(
            tf.equal(i % 2, 0), lambda: source.read(i) * w, lambda: source.read(i - 1) + state
        )
        return i + 1, out.write(i, value * state), state + tf.reduce_mean(value)

    empty = tf.TensorArray(tf.float32, n)
    one = tf.while_loop(lambda i, *_: i < n, branching, [0, empty, 1.0])

    def inner(i, state, out):
        array, sums = array_of(x * state), tf.TensorArray(tf.float32, n)
        _, sums, rest = tf.while_loop(
            lambda j, *_: j < n,
            lambda j, a, r: (j + 1, a.write(j, tf.sin(array.read(j)) * w + r), array.read(j) - r),
            [0, sums, state],
        )
        mean = tf.reduce_mean(sums.stack(), 0)
        return i + 1, mean + rest * 0.1, out.write(i, mean)

    two = tf.while_loop(lambda i, *_: i < 3, inner, [0, w, tf.TensorArray(tf.float32, 3)])
    pieces = tf.TensorArray(tf.float32, 3, infer_shape=False).split(x, [1, 2, 1])
    three = tf.while_loop(
        lambda i, _: i < 3,
        lambda i, a: (i + 1, a.write(i, pieces.read(i) * w * tf.to_float(i + 1))),
        [0, tf.TensorArray(tf.float32, 3, infer_shape=False)],
    )[1].concat()
    own = tf.TensorArray(tf.float32, n, clear_after_read=False).write(0, w)
    four = tf.while_loop(
        lambda i, *_: i < n,
        lambda i, a, s: (i + 1, a.write(i, tf.tanh(a.read(i - 1) * w)), s + a.read(i - 1)),
        [1, own, tf.zeros([3])],
    )[2]
    table = tf.get_variable("table", [7, 3], initializer=tf.random_normal_initializer())
    five = tf.while_loop(
        lambda i, _: i < n,
        lambda i, s: (i + 1, s * tf.nn.embedding_lookup(table, i * 3 % 7) + 1.0),
        [0, tf.ones([3])],
    )[1]
    growing = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[3])
    growing = tf.while_loop(
        lambda i, *_: i < n,
        lambda i, a, s: (i + 1, a.write(i * 3, s), tf.cos(s * w)),
        [0, growing, w],
    )[1]
    six = growing.gather(tf.range(0, growing.size(), 3))
    parts = (one[1].stack(), one[2], two[1], two[2].stack() * w, three, four, five, six)
    loss = tf.add_n([tf.reduce_sum(tf.tanh(part)) for part in parts], name="loss")
    fetches = [loss.name]
    for name, grad in zip(("dx", "dw", "dtable"), tf.gradients(loss, [x, w, table])):
        fetches.append(tf.identity(tf.convert_to_tensor(grad), name=name).name)
    return [({"x:0": rng.randn(4, 3).astype(np.float32)}, fetches, [])] * 2


PROGRAMS = {f.__name__: f for f in (training, beam_search, nested, branches, arrays)}


def values_of_variables(sess):
    """Name -> value."""
    return {v.op.name: sess.run(v) for v in tf.global_variables()}


def record():
    """Builds and runs the programs."""
    if not os.path.isdir(DATA):
        os.makedirs(DATA)
    for name, program in sorted(PROGRAMS.items()):
        arrays = {}
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(3)
            runs = program(np.random.RandomState(7))
            init = tf.global_variables_initializer()
            meta = tf.train.export_meta_graph(clear_devices=True, strip_default_attrs=True)
            with open(os.path.join(DATA, name + ".meta.gz"), "wb") as f:
                with gzip.GzipFile("", "wb", 9, f, mtime=0) as packed:
                    packed.write(meta.SerializeToString(deterministic=True))
            sess.run(init)
            for variable, value in values_of_variables(sess).items():
                arrays["before/" + variable] = value
            for i, (feeds, fetches, targets) in enumerate(runs):
                found = sess.run([fetches, targets], feeds)[0]
                arrays.update({f"feed/{i}/{k}": v for k, v in feeds.items()})
                arrays.update({f"fetch/{i}/{k}": v for k, v in zip(fetches, found)})
            for variable, value in values_of_variables(sess).items():
                arrays["after/" + variable] = value
        np.savez_compressed(os.path.join(DATA, name + ".npz"), **arrays)


def export(folder):
    """Writes what Headrace exports after it has imported the meta graphs."""
    for name in sorted(PROGRAMS):
        with gzip.open(os.path.join(DATA, name + ".meta.gz")) as f:
            meta = tf.MetaGraphDef.FromString(f.read())
        with tf.Graph().as_default() as graph:
            tf.train.import_meta_graph(meta)
            with open(os.path.join(folder, name + ".pb"), "wb") as f:
                f.write(graph.as_graph_def().SerializeToString())


def load(sess, variable, value):
    """Gives a variable a value."""
    op = sess.graph.get_operation_by_name(variable)
    if op.type == "VarHandleOp":
        sess.run(tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value))
    else:
        sess.run(tf.assign(op.outputs[0], value))


def check(folder):
    """Loads these graphs into TensorFlow and compares what they compute."""
    for name in sorted(PROGRAMS):
        graph_def = tf.GraphDef()
        with open(os.path.join(folder, name + ".pb"), "rb") as f:
            graph_def.ParseFromString(f.read())
        arrays = np.load(os.path.join(DATA, name + ".npz"))

        def stored(kind, arrays=arrays):
            return {k[len(kind) :]: arrays[k] for k in arrays.files if k.startswith(kind)}

        with tf.Graph().as_default(), tf.Session() as sess:
            tf.import_graph_def(graph_def, name="")
            for variable, value in stored("before/").items():
                load(sess, variable, value)
            number = 0
            while stored(f"feed/{number}/"):
                expected = stored(f"fetch/{number}/")
                targets = ["train"] if name == "training" else []
                found, _ = sess.run([list(expected), targets], stored(f"feed/{number}/"))
                for key, value in zip(expected, found):
                    np.testing.assert_allclose(
                        value, expected[key], rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}"
                    )
                number += 1
        print(name, "agrees in", number, "runs")


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record()
    else:
        (export if sys.argv[1] == "export" else check)(sys.argv[2])
