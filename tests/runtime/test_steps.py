"""Steps: which value of a variable an operation sees, what a failing run leaves behind, and that programs do what the
interpreter does. Each program runs several times: the first run of a step is interpreted, later ones are compiled."""

import gc
import tracemalloc

import jax
import numpy as np
import pytest

import headrace as tf

RUNS = 4
BOTH = pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])


def variable(value, name, resource):
    return tf.get_variable(name, initializer=tf.convert_to_tensor(value), use_resource=resource)


def started(**config):
    sess = tf.Session(**config)
    sess.run(tf.global_variables_initializer())
    return sess


# ---- versions of variables


@BOTH
def test_reads_before_and_after_writes(resource):
    v = variable(1.0, "v", resource)
    before = tf.identity(v.read_value())
    with tf.control_dependencies([before]):
        double = v.assign(v.read_value() * 2.0)
    with tf.control_dependencies([double]):
        between = tf.identity(v.read_value())
    with tf.control_dependencies([between]):
        plus = v.assign_add(3.0)
    with tf.control_dependencies([plus]):
        after = tf.identity(v.read_value())
    sess = started()
    expected = 1.0
    for _ in range(RUNS):
        got = sess.run([before, between, after])
        assert got == [expected, expected * 2, expected * 2 + 3]
        expected = expected * 2 + 3
        assert sess.run(v) == expected
    # Part of it: what is not asked for does not happen.
    for _ in range(RUNS):
        assert sess.run([before, between]) == [expected, expected * 2]
        expected *= 2
        assert sess.run(before) == expected


@BOTH
def test_two_variables_change_places(resource):
    a, b = variable([1.0, 2.0], "a", resource), variable([3.0, 4.0], "b", resource)
    old_a, old_b = tf.identity(a.read_value()), tf.identity(b.read_value())
    with tf.control_dependencies([old_a, old_b]):
        swap = tf.group(a.assign(old_b), b.assign(old_a))
    sess = started()
    for run in range(RUNS):
        sess.run(swap)
        got = [x.tolist() for x in sess.run([a, b])]
        assert got == [[1.0, 2.0], [3.0, 4.0]][:: 1 if run % 2 else -1]


@BOTH
def test_many_writes_in_one_run(resource):
    v, log = variable(0.0, "v", resource), variable([0.0] * 4, "log", resource)
    last = []
    for i in range(4):
        with tf.control_dependencies(last):
            up = v.assign_add(float(10**i))
        with tf.control_dependencies([up]):
            note = tf.scatter_update(log, [i], [v.read_value()])
        last = [note]
    sess = started()
    for run in range(1, RUNS + 1):
        sess.run(last)
        base = (run - 1) * 1111.0
        assert sess.run(log).tolist() == [base + 1, base + 11, base + 111, base + 1111]
        assert sess.run(v) == run * 1111.0


@BOTH
def test_initialisers_and_slots_in_one_group(resource):
    v = variable([1.0, 2.0], "v", resource)
    w = tf.get_variable("w", initializer=v.initialized_value() * 3.0, use_resource=resource)
    x = tf.placeholder(tf.float32, [])
    loss = tf.reduce_sum(tf.square(v - w)) * x
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
    results = []
    for _ in range(2):
        sess = started()
        assert sess.run(w).tolist() == [3.0, 6.0]
        results.append([sess.run([loss, train], {x: 1.0 + i})[0] for i in range(RUNS)])
    assert results[0] == results[1] and results[0][-1] != results[0][0]


def test_a_variable_that_is_read_by_the_host():
    v = tf.Variable([1.0, 2.0])
    seen = []
    up = v.assign_add([1.0, 1.0])
    with tf.control_dependencies([up]):
        told = tf.py_func(
            lambda value: seen.append(value.tolist()) or np.int64(0), [v.read_value()], tf.int64
        )
    with tf.control_dependencies([told]):
        again = v.assign_add([10.0, 10.0])
    sess = started()
    for _ in range(RUNS):
        sess.run(again)
    assert seen == [[2.0 + 11 * i, 3.0 + 11 * i] for i in range(RUNS)]
    assert sess.run(v).tolist() == [1.0 + 11 * RUNS, 2.0 + 11 * RUNS]


def test_fetched_values_outlive_later_runs():
    v = tf.Variable(tf.zeros([1000]))
    up = v.assign_add(tf.ones([1000]))
    sess = started()
    kept = [sess.run([v.read_value(), up])[1] for _ in range(6)]
    kept += [sess.run(v) for _ in range(2)]
    assert [k[0] for k in kept] == [1, 2, 3, 4, 5, 6, 6, 6]


# ---- runs that fail


def failing(kind, x):
    """An operation that fails where x is negative."""
    if kind == "check":
        return tf.check_numerics(tf.log(x), "loss")
    if kind == "gather":
        return tf.gather(tf.ones([4]), tf.cast(x, tf.int32))
    if kind == "assert":
        with tf.control_dependencies([tf.Assert(tf.greater_equal(x, 0.0), [x])]):
            return tf.identity(x)
    if kind == "python":
        return tf.py_func(lambda value: np.float32({1.0: 1.0}[float(value)]), [x], tf.float32)
    return tf.reshape(tf.ones([3]), [tf.cast(x, tf.int32) * 3])


@BOTH
@pytest.mark.parametrize("kind", ["check", "gather", "assert", "python", "reshape"])
def test_a_run_that_fails_changes_nothing(kind, resource):
    x = tf.placeholder(tf.float32, [])
    v, w = variable(tf.ones([3]), "v", resource), variable(5.0, "w", resource)
    first = v.assign_add([1.0, 2.0, 3.0])
    with tf.control_dependencies([first]):
        risky = failing(kind, x)
    with tf.control_dependencies([risky]):
        second = w.assign_add(1.0)
    both = tf.group(first, second)
    sess = started()
    runs = 0
    for value in (1.0, -2.0, 1.0, 1.0, -2.0, -2.0, 1.0, -2.0):
        if value > 0:
            sess.run(both, {x: value})
            runs += 1
        else:
            with pytest.raises(tf.errors.OpError, match=r"defined at .*test_steps"):
                sess.run(both, {x: value})
        got = sess.run([v, w])
        assert got[0].tolist() == [1 + runs, 1 + 2 * runs, 1 + 3 * runs] and got[1] == 5 + runs


def test_a_run_that_lacks_a_value_changes_nothing():
    v = tf.Variable(1.0, name="v")
    w = tf.Variable(2.0, name="w")
    up = tf.group(v.assign_add(1.0), w.assign_add(1.0))
    sess = tf.Session()
    sess.run(v.initializer)
    for _ in range(RUNS):
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value w"):
            sess.run(up)
        assert sess.run(v) == 1.0
    sess.run(w.initializer)
    for _ in range(RUNS):
        sess.run(up)
    assert sess.run([v, w]) == [1.0 + RUNS, 2.0 + RUNS]


# ---- interpreted and compiled


def dense():
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.nn.softmax(tf.tanh(tf.matmul(x, [[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]]) + [0.1, 0.2]))
    return (
        [y, tf.argmax(y, 1), tf.reduce_mean(y, 0)],
        x,
        [np.arange(6.0).reshape(2, 3), np.ones([1, 3])],
    )


def integers():
    x = tf.placeholder(tf.int32, [None])
    return (
        [
            x // 3,
            x % 3,
            tf.truncatediv(x, 3),
            tf.cumsum(x),
            tf.cast(x, tf.float64) / 7,
            tf.bitwise.left_shift(x, 2),
        ],
        x,
        [[-7, 7, 8], [-1]],
    )


def ranges():
    n = tf.placeholder(tf.int32, [])
    r = tf.range(n)
    return (
        [
            r,
            tf.reduce_sum(r),
            tf.ones([n, 2]),
            tf.one_hot(r, n),
            tf.reshape(tf.range(n * 2), [n, 2]),
        ],
        n,
        [3, 5, 3, 0],
    )


def fed_shapes():
    s = tf.placeholder(tf.int32, [2])
    x = tf.reshape(tf.range(12), s)
    return (
        [
            x,
            tf.transpose(x),
            tf.shape(x),
            tf.fill(s, 2.0),
            tf.tile([[1]], s),
            tf.pad(x, [[1, 0], [0, 1]]),
        ],
        s,
        [
            [3, 4],
            [12, 1],
            [2, 6],
        ],
    )


def slices():
    i = tf.placeholder(tf.int32, [])
    x = tf.reshape(tf.range(24), [4, 6])
    return (
        [
            x[i],
            x[i:],
            x[:, i],
            tf.slice(x, [i, 0], [1, i + 1]),
            tf.gather(x, [i, 0], axis=1),
            x[:i, ::-1],
        ],
        i,
        [1, 2, 0],
    )


def picked():
    x = tf.placeholder(tf.float32, [None])
    kept = tf.boolean_mask(x, x > 0.0)
    values, places = tf.unique(kept)
    return (
        [kept, tf.reduce_sum(kept), values, places, tf.where(x > 0.0) * 2, tf.size(values) + 1],
        x,
        [
            [1.0, -1.0, 2.0, 1.0],
            [-1.0],
            [3.0, 3.0],
        ],
    )


def strings():
    x = tf.placeholder(tf.string, [None])
    joined = tf.concat([x, ["-"], x], 0)
    count = tf.cast(tf.size(joined), tf.float32) * 2.0
    return (
        [joined, count, tf.fill([tf.size(x)], count + 1.0), tf.equal(x, "a")],
        x,
        [["a", "b"], ["c"]],
    )


def islands():
    x = tf.placeholder(tf.float32, [2, 2])
    y = tf.matmul(x, x) + 1.0
    z = tf.py_func(lambda v: v * 2, [y], tf.float32)
    z.set_shape([2, 2])
    u = tf.matmul(z, y)
    w = tf.py_func(lambda v: v - 1, [u], tf.float32)
    return [w + y, tf.reduce_sum(u), tf.nn.relu(w) * z], x, [np.eye(2), np.ones([2, 2])]


def branches():
    x = tf.placeholder(tf.float32, [])
    y = tf.cond(x > 1.0, lambda: tf.square(x), lambda: x - 10.0)
    n, total = tf.while_loop(lambda i, t: t < 50.0, lambda i, t: (i + 1, t + x * x), [0, x])
    return [y, n, total, tf.case([(x > 2.0, lambda: 1.0)], default=lambda: 2.0)], x, [0.5, 3.0, 2.0]


PROGRAMS = [dense, integers, ranges, fed_shapes, slices, picked, strings, islands, branches]


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda build: build.__name__)
def test_every_run_gives_the_same(build):
    fetches, x, values = build()
    sess = tf.Session()
    first = [
        tf.Session().run(fetches, {x: value}) for value in values
    ]  # a session each: interpreted where it can be
    for _ in range(RUNS):
        for value, wanted in zip(values, first, strict=True):
            for got, expected, tensor in zip(
                sess.run(fetches, {x: value}), wanted, fetches, strict=True
            ):
                assert got.dtype == expected.dtype == tensor.dtype.as_numpy_dtype
                assert tensor.shape.is_compatible_with(got.shape)
                if got.dtype.kind == "f":
                    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)
                else:
                    np.testing.assert_array_equal(got, expected)
    for i, tensor in enumerate(fetches):  # each alone: other islands, the same numbers
        got = sess.run(tensor, {x: values[0]})
        np.testing.assert_allclose(
            got, first[0][i], rtol=2e-6
        ) if got.dtype.kind == "f" else np.testing.assert_array_equal(got, first[0][i])


def test_numpy_answers():
    fetches, x, _ = ranges()
    sess = tf.Session()
    for n in (4, 4, 4, 2, 4):
        r, total, ones, hot, pairs = sess.run(fetches, {x: n})
        assert r.tolist() == list(range(n)) and total == sum(range(n)) and ones.shape == (n, 2)
        assert (
            hot.tolist() == np.eye(n).tolist()
            and pairs.tolist() == np.arange(2 * n).reshape(n, 2).tolist()
        )


def test_lists_whose_elements_differ_in_shape_are_interpreted():
    n = tf.placeholder(tf.int32, [])
    array = tf.TensorArray(tf.float32, size=3, infer_shape=False)
    for i in range(3):
        array = array.write(i, tf.ones([i + n]))
    parts, total = [array.read(i) for i in range(3)], array.concat()
    sess = tf.Session()
    for run in range(RUNS):
        got = sess.run([*parts, total], {n: run})
        assert [len(g) for g in got] == [run, run + 1, run + 2, 3 * run + 3]


def test_random_steps_go_on_where_they_were():
    tf.set_random_seed(7)
    draw = tf.random_uniform([3], seed=1)
    v = tf.Variable(tf.zeros([3]))
    step = v.assign(draw)
    sequences = []
    for _ in range(2):
        sess = started()
        values = [sess.run(draw).tolist() for _ in range(RUNS)] + [
            sess.run([step, draw])[1].tolist() for _ in range(RUNS)
        ]
        sequences.append(values)
        assert len({tuple(v) for v in values}) == 2 * RUNS
    assert sequences[0] == sequences[1]


def test_changed_graphs_are_planned_again():
    a, b = tf.constant(1.0), tf.constant(2.0)
    c = tf.identity(a)
    v = tf.Variable(0.0)
    up = v.assign_add(1.0)
    sess = started()
    assert [sess.run(c) for _ in range(3)] == [1.0] * 3
    call = sess.make_callable(c)
    c.op._update_input(0, b)
    assert [sess.run(c), call()] == [2.0, 2.0]
    c.op._add_control_input(up.op)
    assert [sess.run(c), call()] == [2.0, 2.0] and sess.run(v) == 2.0


# ---- memory


def test_memory_stays_flat():
    x = tf.placeholder(tf.float32, [None, 8])
    w = tf.Variable(tf.ones([8, 8]))
    hidden = tf.nn.relu(tf.matmul(x, w))
    loss = tf.reduce_mean(tf.square(hidden - 1.0))
    train = tf.train.AdamOptimizer(0.001).minimize(loss)
    told = tf.py_func(lambda value: value + 1, [loss], tf.float32)
    sess = started()
    batches = [np.ones([size, 8], np.float32) for size in (4, 5)]

    def run(times):
        for i in range(times):
            feed = {x: batches[i % 2]}
            sess.run([train, loss], feed)
            sess.run(hidden, feed)
            if i % 10 == 0:
                sess.run([told, train], feed)
                with pytest.raises(ValueError):
                    sess.run(loss, {x: np.ones(3)})
        gc.collect()
        return len(jax.live_arrays()), tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        run(200)
        arrays, bytes_before = run(100)
        arrays_after, bytes_after = run(1500)
    finally:
        tracemalloc.stop()
    assert arrays_after <= arrays + 2
    assert bytes_after - bytes_before < 60_000
