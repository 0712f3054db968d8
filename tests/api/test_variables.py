"""Variables as a session keeps them: values, order of reads and writes, failures, threads; both flavours."""

import threading

import numpy as np
import pytest

import headrace as tf
from headrace.graph import raw

both = pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


@both
def test_values(resource):
    v = tf.Variable([[1.0, 2.0]], use_resource=resource, name="v")
    steps = [
        v.assign([[3.0, 4.0]]),
        v.assign_add([[1.0, 1.0]]),
        v.assign_sub([[2.0, 2.0]]),
        tf.assign(v, [[5.0, 6.0]]),
        tf.scatter_update(v, [0], [[7.0, 8.0]]),
        v.scatter_add(tf.IndexedSlices([[1.0, 1.0]], [0])),
        v.scatter_nd_update([[0, 1]], [0.0]),
        v[0, 0].assign(9.0),
    ]
    values = [[3, 4], [4, 5], [2, 3], [5, 6], [7, 8], [8, 9], [8, 0], [9, 0]]
    assert (
        v.dtype.base_dtype == tf.float32 and v.shape == [1, 2] and v.graph is tf.get_default_graph()
    )
    sess = started()
    for _ in range(3):  # interpreted, compiled, and compiled again
        for step, value in zip(steps, values):
            np.testing.assert_array_equal(sess.run(step), [value])
            np.testing.assert_array_equal(sess.run(v), [value])
    v.load(np.float32([[1, 1]]), sess)
    np.testing.assert_array_equal(v.eval(sess), [[1, 1]])
    np.testing.assert_array_equal(sess.run(v.initialized_value()), [[1, 1]])


@both
def test_operators(resource):
    v = tf.Variable([4.0, 9.0], use_resource=resource)
    results = [
        v + 1.0,
        1.0 - v,
        v * v,
        v / 2.0,
        -v,
        abs(v),
        v**2.0,
        v > 5.0,
        v[1],
        np.float32([1, 2]) + v,
        v % 3.0,
    ]
    sess = started()
    got = [np.asarray(x).tolist() for x in sess.run(results)]
    assert got == [
        [5, 10], [-3, -8], [16, 81], [2, 4.5], [-4, -9], [4, 9], [16, 81], [False, True], 9, [5, 11], [1, 0],
    ]  # fmt: skip
    assert v.__add__.__doc__ == tf.Tensor.__add__.__doc__
    assert len({v: 1, tf.Variable(1.0): 2}) == 2 and v == v


@both
def test_order(resource):
    v = tf.Variable(1.0, use_resource=resource)
    write = v.assign_add(1.0)
    operation = getattr(write, "op", write)
    with tf.control_dependencies([operation]):
        ordered = [tf.identity(v), v.read_value(), tf.constant(1.0) * v]
        again = v.assign(v * 10.0)
    difference = write - v
    sess = started()
    for _ in range(3):
        sess.run(v.initializer)
        old, new, change = sess.run([v, ordered, difference])
        # What no edge orders after the write sees the value from before the run.
        assert (old, new, change) == (1.0, [2.0, 2.0, 2.0], 1.0)
        assert sess.run([v, again]) == [2.0, 30.0]
        assert sess.run(v) == 30.0


@both
def test_failed_runs_change_nothing(resource):
    table = tf.Variable(np.zeros([1000, 4], np.float32), use_resource=resource, name="table")
    total = tf.Variable(0.0, use_resource=resource, name="total")
    counted = total.assign_add(1.0)
    rows = tf.placeholder(tf.int32, [None])
    update = tf.group(
        getattr(counted, "op", counted), tf.scatter_add(table, rows, tf.gather(table, rows) + 1.0)
    )
    # A variable that takes another shape in the run that fails.
    shape = tf.placeholder(tf.int32, [1])
    loose = tf.Variable(np.zeros(2, np.float32), validate_shape=False, name="loose")
    reshape = tf.assign(loose, tf.fill(shape, tf.reduce_sum(loose) + 1.0), validate_shape=False)
    with tf.control_dependencies([reshape]):
        bad_reshape = tf.gather([1.0], rows)
    sess = started()
    for _ in range(4):
        before = sess.run([table, total, loose])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"indices\[2\] = 1000 is not in \[0, 1000\)"
        ):
            sess.run(update, {rows: [1, 2, 1000]})
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"indices\[0\] = 7 is not in \[0, 1\)"
        ):
            sess.run([bad_reshape, reshape], {rows: [7], shape: [5]})
        for old, now in zip(before, sess.run([table, total, loose])):
            np.testing.assert_array_equal(old, now)
        sess.run(update, {rows: [3, 999]})
        after = sess.run(table)
        np.testing.assert_array_equal(after[[3, 999]], 2 * before[0][[3, 999]] + 1)
        assert np.count_nonzero(after[:, 0]) == 2


def test_few_rows_of_a_large_table_are_changed_in_place():
    table = tf.Variable(lambda: tf.zeros([200_000, 8]), use_resource=True)
    rows = tf.placeholder(tf.int32, [None])
    update = tf.scatter_add(table, rows, tf.gather(table, rows) + 1.0).op
    sess = started()
    for _ in range(2):
        sess.run(update, {rows: [1, 2]})
    cell = sess._resources.cell("Variable")
    address = cell.value.unsafe_buffer_pointer()
    sess.run(update, {rows: [1, 2]})
    assert cell.value.unsafe_buffer_pointer() == address
    with pytest.raises(tf.errors.InvalidArgumentError):
        sess.run(update, {rows: [-1, 2]})
    assert cell.value.unsafe_buffer_pointer() == address
    np.testing.assert_array_equal(sess.run(table[:4, 0]), [0, 7, 7, 0])


@both
def test_uninitialized(resource):
    v = tf.Variable([1.0], use_resource=resource, name="v")
    w = tf.Variable([1.0], use_resource=resource, name="w")
    read = v * 2.0
    line = (read.op.inputs[0] if resource else v).op.site().lineno
    words = r"Attempting to use uninitialized value v"
    if resource:
        words = r"Error while reading resource variable v from Container: localhost\. This could mean that"
    asked = [
        tf.is_variable_initialized(v),
        tf.report_uninitialized_variables(),
        tf.assert_variables_initialized(),
    ]
    sess = tf.Session()
    for _ in range(3):
        with pytest.raises(
            tf.errors.FailedPreconditionError, match=rf"(?s){words}.*test_variables.py:{line}"
        ):
            sess.run(read)
        state, names = sess.run(asked[:2])
        assert not state and names.tolist() == [b"v", b"w"]
    with pytest.raises(tf.errors.FailedPreconditionError):
        sess.run(asked[2])
    sess.run(v.initializer)
    for _ in range(3):
        state, names = sess.run(asked[:2])
        assert state and names.tolist() == [b"w"]
    # Asked after a write, in the run that writes.
    with tf.control_dependencies([w.initializer]):
        later = tf.is_variable_initialized(w) if not resource else w.is_initialized()
    assert sess.run(later)
    sess.run(asked[2])


@both
def test_initial_values_from_other_variables(resource):
    a = tf.Variable(tf.random_normal([3], seed=3), use_resource=resource, name="a")
    b = tf.Variable(a.initialized_value() * 2.0, use_resource=resource, name="b")
    c = tf.Variable((b if not resource else b.initialized_value()) + 1.0, name="c")
    either = a.initialized_value()
    init = tf.global_variables_initializer()
    for _ in range(2):
        sess = tf.Session()
        for _ in range(3):
            assert sess.run(either).shape == (
                3,
            )  # not initialised: the branch that reads it is not taken
        for _ in range(3):
            sess.run([a.initializer, init] if resource else init)
            x, y, z, w = sess.run([a, b, c, either])
            np.testing.assert_allclose(y, 2 * x)
            np.testing.assert_allclose(z, y + 1)
            np.testing.assert_array_equal(w, x)
            sess = tf.Session()


@both
def test_shape_may_change_without_validation(resource):
    x = tf.placeholder(tf.float32)
    if resource:
        v = tf.Variable([1.0], shape=tf.TensorShape(None), use_resource=True)
        change = v.assign(x)
    else:
        v = tf.Variable(x, validate_shape=False)
        change = tf.assign(v, x, validate_shape=False)
    assert v.shape.ndims is None
    sess = tf.Session()
    sess.run(v.initializer, {x: [1.0, 2.0]})
    for size in (3, 5, 3):
        assert sess.run(change, {x: np.ones(size)}).shape == (size,)
        assert sess.run(v).shape == (size,)


@both
def test_fed_arrays_stay_the_callers(resource):
    v = tf.Variable([0.0, 0.0], use_resource=resource)
    x = tf.placeholder(tf.float32, [2])
    set_v = v.assign(x)
    sess = started()
    for _ in range(3):
        array = np.float32([1, 2])
        sess.run(set_v, {x: array})
        array[:] = -1
        got = sess.run(v)
        got[:] = -2
        np.testing.assert_array_equal(sess.run(v), [1, 2])


@both
def test_strings(resource):
    v = tf.Variable([b"a", b"b"], use_resource=resource)
    put = tf.scatter_update(v, [1], ["new"])
    sess = started()
    for _ in range(3):
        assert sess.run(put).tolist() == [b"a", b"new"] and sess.run(v).tolist() == [b"a", b"new"]


@both
def test_count_up_to(resource):
    count = tf.Variable(0, use_resource=resource)
    step = count.count_up_to(3)
    sess = started()
    assert [sess.run(step) for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(tf.errors.OutOfRangeError, match="Reached limit of 3"):
            sess.run(step)
    assert sess.run(count) == 3


@both
def test_sessions_and_containers(resource):
    with tf.container("box"):
        v = tf.Variable(1.0, use_resource=resource, name="v")
    w = tf.Variable(2.0, use_resource=resource, name="w")
    assert v.op.get_attr("container") == b"box" and w.op.get_attr("container") == b""
    one, two = started(), started()
    one.run([v.assign(5.0), w.assign(6.0)])
    assert one.run([v, w]) == [5.0, 6.0] and two.run([v, w]) == [1.0, 2.0]


def test_both_flavours_share_by_name():
    v = tf.Variable([1.0, 2.0], use_resource=True, name="v")
    other = raw.VarHandleOp(dtype=tf.float32, shape=[2], shared_name="v", name="other")
    old = raw.Variable(shape=[2], dtype=tf.float32, shared_name="v")
    read = raw.ReadVariableOp(other, dtype=tf.float32)
    assert read.shape == [2] and old.shape == [2]
    sess = started()
    sess.run(v.assign([3.0, 4.0]).op)
    np.testing.assert_array_equal(sess.run([read, old]), [[3, 4], [3, 4]])
    sess.run(raw.DestroyResourceOp(other))
    with pytest.raises(tf.errors.FailedPreconditionError):
        sess.run(v)
    with pytest.raises(tf.errors.NotFoundError):
        sess.run(raw.DestroyResourceOp(other, ignore_lookup_error=False))


def test_temporary_variable():
    temporary = raw.TemporaryVariable(shape=[2], dtype=tf.float32, var_name="t")
    filled = raw.Assign(temporary, [1.0, 2.0])
    more = raw.AssignAdd(filled, [1.0, 1.0])
    result = raw.DestroyTemporaryVariable(more, var_name="t")
    sess = tf.Session()
    for _ in range(3):
        np.testing.assert_array_equal(sess.run(result), [2, 3])


@both
def test_threads(resource):
    v = tf.Variable(np.zeros(50, np.float32), use_resource=resource)
    add = v.assign_add(np.ones(50, np.float32))
    operation = getattr(add, "op", add)
    fetches = [v, tf.identity(v), add, v * 2.0]
    sess = started()
    torn, failed = [], []

    def work():
        try:
            for i in range(80):
                sess.run(operation)
                value = np.asarray(sess.run(fetches[i % 4]))
                if value.min() != value.max():
                    torn.append(value)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torn and not failed and sess.run(v)[0] == 400.0


@both
def test_protos(resource):
    with tf.variable_scope("scope"):
        v = tf.get_variable(
            "v", [2], use_resource=resource, initializer=tf.ones_initializer(), trainable=False
        )
    v._set_save_slice_info(tf.Variable.SaveSliceInfo("whole", [4], [0], [2]))
    proto = v.to_proto()
    again = tf.Variable.from_proto(proto)
    assert type(again) is type(v) and again.to_proto() == proto
    assert (again.name, again.shape, again.trainable) == (v.name, v.shape, False)
    assert again._get_save_slice_info().spec == "4 0,2"
    inner = v.to_proto(export_scope="scope")
    assert inner.variable_name == "v:0" and v.to_proto(export_scope="other") is None
    assert tf.Variable.from_proto(inner, import_scope="scope").name == v.name
    sess = started()
    np.testing.assert_array_equal(
        sess.run(again.initializer) or sess.run(again.value() + 1.0), [2, 2]
    )


@both
def test_reads_through_a_handle(resource):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    v = tf.Variable(table, use_resource=resource)
    values = [tf.gather(v, [2, 0]), tf.gather_nd(v, [[1, 2]])]
    if resource:
        values += [v.sparse_read([2, 0]), v.gather_nd([[1, 2]])]
        grads = [g for x in values for g in tf.gradients(x, v)]
        values += [tf.convert_to_tensor(g) for g in grads]
    sess = started()
    rows = np.zeros([4, 3], np.float32)
    rows[[2, 0]] = 1
    spot = np.zeros([4, 3], np.float32)
    spot[1, 2] = 1
    expected = [table[[2, 0]], table[[1], [2]]] * 2 + [rows, spot] * 2
    for got, wanted in zip(sess.run(values), expected):
        np.testing.assert_array_equal(got, wanted)


def test_batch_scatter_update():
    start = np.zeros([2, 3, 2], np.float32)
    indices = np.array([[2, 0], [1, 2]])
    updates = np.arange(8, dtype=np.float32).reshape(2, 2, 2) + 1
    wanted = start.copy()
    for b in range(2):
        wanted[b, indices[b]] = updates[b]
    for resource in (False, True):
        v = tf.Variable(start, use_resource=resource)
        done = tf.batch_scatter_update(v, indices, updates)
        np.testing.assert_array_equal(started().run(done), wanted)


def test_tuple_and_group_order():
    v = tf.Variable(0.0)
    a, b = v.assign_add(1.0), tf.constant(2.0)
    late = tf.tuple(
        [b, None, tf.IndexedSlices(tf.constant([1.0]), tf.constant([0]))], control_inputs=[a]
    )
    both_done = tf.group(late[0], a)
    sess = started()
    assert sess.run(late[0]) == 2.0 and late[1] is None and isinstance(late[2], tf.IndexedSlices)
    assert sess.run(v) == 1.0
    assert sess.run(both_done) is None and sess.run(v) == 2.0


@both
def test_branches_and_loops(resource):
    taken = tf.placeholder(tf.bool, [])
    v = tf.Variable(1.0, use_resource=resource, name="v")
    table = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2), use_resource=resource)

    def writes():
        with tf.control_dependencies([v.assign_add(10.0).op]):
            return v.read_value()

    def creates():
        return v + tf.get_variable(
            "inner", [], initializer=tf.constant_initializer(5.0), use_resource=resource
        )

    chosen = tf.cond(taken, creates, writes)
    with tf.control_dependencies([chosen]):
        after = tf.identity(v)
    _, power = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * v), [0, tf.constant(1.0)])
    slope = tf.gradients(power, v)[0]
    rows = tf.cond(taken, lambda: tf.gather(table, [0, 0, 1]), lambda: tf.zeros([3, 2]))
    rows_slope = tf.convert_to_tensor(tf.gradients(rows, table)[0])

    def count(i):
        with tf.control_dependencies([v.assign_add(1.0).op]):
            return i + 1

    counted = tf.while_loop(lambda i: i < 4, count, [0])
    sess = started()
    assert [x.op.name for x in tf.global_variables()] == ["v", "Variable", "inner"]
    for _ in range(3):
        # A branch that was not taken has written nothing.
        assert sess.run([chosen, after], {taken: True}) == [6.0, 1.0]
        assert sess.run([chosen, after], {taken: False}) == [11.0, 11.0]
        sess.run(v.assign(2.0))
        assert sess.run([power, slope]) == [8.0, 12.0]
        assert sess.run(counted) == 4 and sess.run(v) == 6.0
        np.testing.assert_array_equal(sess.run(rows_slope, {taken: True}), [[2, 2], [1, 1], [0, 0]])
        sess.run(v.assign(1.0))
