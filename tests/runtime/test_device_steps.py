"""Steps over several devices: state, control flow, the host, errors, time limits, closing."""

import gc
import threading
import time

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.runtime.device_step import DeviceStep

ROUNDS = 3  # interpreted, compiled, compiled


def session(count=3, **kwargs):
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": count}, **kwargs))


def device_steps(sess):
    return [p.step for p in sess._prepared.values() if isinstance(p.step, DeviceStep)]


def test_one_device_is_left_as_it_is():
    with tf.device("/cpu:0"):
        a = tf.constant(2.0) * tf.placeholder_with_default(3.0, [])
    with session() as sess:
        assert [sess.run(a) for _ in range(ROUNDS)] == [6.0] * ROUNDS
        assert not device_steps(sess)


def test_programs_run_on_the_devices_that_were_asked_for():
    x = tf.placeholder(tf.float32, [2, 2])
    with tf.device("/cpu:2"):
        y = tf.matmul(x, x)
    with tf.device("/cpu:1"):
        z = tf.matmul(y, y)
    with session() as sess:
        for _ in range(ROUNDS):
            np.testing.assert_allclose(sess.run(z, {x: np.eye(2) * 2}), np.eye(2) * 16)
        (step,) = set(device_steps(sess))
        names = {n.device.index: n.device.physical for n in step._nodes}
        assert set(names) == {1, 2} and names[1] is not names[2]


def test_one_pair_for_a_tensor_and_a_device():
    x = tf.placeholder(tf.float32, [2])
    with tf.device("/cpu:0"):
        a = tf.square(x, name="a")
    with tf.device("/cpu:1"):
        consumers = [a + float(i) for i in range(5)]
        total = tf.add_n(consumers)
    with session() as sess:
        assert sess.run(total, {x: [1.0, 2.0]}).tolist() == [15.0, 30.0]
        (step,) = set(device_steps(sess))
        assert [n.what for n in step._arrivals] == [a]
        assert step._arrivals[0].key.endswith(";edge_1_a;0:0")


@pytest.mark.parametrize("resource", [False, True])
def test_variables_live_with_their_device_and_order_holds(resource):
    x = tf.placeholder(tf.float32, [])
    with tf.device("/cpu:1"):
        v = tf.Variable(1.0, use_resource=resource)
    with tf.device("/cpu:2"):
        w = tf.Variable(10.0, use_resource=resource)
    with tf.device("/cpu:0"):
        before = v.read_value() + 0.0
        with tf.control_dependencies([before]):
            first = tf.assign_add(v, x)
    with tf.device("/cpu:2"), tf.control_dependencies([first]):
        after = tf.assign_add(w, v.read_value())
    with session() as sess:
        sess.run([v.initializer, w.initializer])
        expected_v, expected_w = 1.0, 10.0
        for i in range(4):
            old, _, got = sess.run([before, first, after], {x: float(i)})
            assert old == expected_v
            expected_v += i
            expected_w += expected_v
            assert got == expected_w
        assert sess.run([v, w]) == [expected_v, expected_w]
        value = sess._resources.cell(v.op.name).value
        assert getattr(value, "device", None) in (None, sess._devices[1].physical)


def test_updates_that_no_edge_orders_are_all_made():
    with tf.device("/cpu:1"):
        v = tf.Variable(0.0)
    slow = tf.py_func(lambda: np.float32(100.0), [], tf.float32)
    with tf.device("/cpu:0"):
        ups = [tf.assign_add(v, slow), tf.assign_add(v, 1.0), tf.assign_add(v, tf.square(slow))]
    with session() as sess:
        sess.run(v.initializer)
        for i in range(1, 4):
            sess.run([u.op for u in ups])
            assert sess.run(v) == i * 10101.0


def test_control_flow_uses_variables_of_other_devices():
    with tf.device("/cpu:1"):
        v = tf.Variable(1.0, use_resource=True)
    p = tf.placeholder(tf.bool, [])
    with tf.device("/cpu:0"):
        branch = tf.cond(p, lambda: v.assign_add(1.0), lambda: v.read_value() * 1.0)
        with tf.control_dependencies([branch]):
            _, total = tf.while_loop(
                lambda i, a: i < 3, lambda i, a: (i + 1, a + v.read_value()), [0, 0.0]
            )
    with session() as sess:
        sess.run(v.initializer)
        value = 1.0
        for choice in (True, False, True, True):
            value += choice
            assert sess.run([branch, total], {p: choice}) == [value, 3 * value]
        assert sess.run(v) == value


def test_random_numbers_are_those_of_one_device():
    def build():
        tf.set_random_seed(7)
        with tf.device("/cpu:1"):
            a = tf.random_normal([4])
        with tf.device("/cpu:2"):
            b = tf.random_uniform([4]) + a
        return [a, b]

    with tf.Graph().as_default(), session() as sess:
        fetches = build()
        several = [sess.run(fetches) for _ in range(4)]
    with tf.Graph().as_default(), session(1, allow_soft_placement=True) as sess:
        fetches = build()
        one = [sess.run(fetches) for _ in range(4)]
    np.testing.assert_allclose(several, one, rtol=1e-6)


def test_lists_and_strings_cross_devices():
    with tf.device("/cpu:1"):
        array = tf.TensorArray(tf.float32, 3).unstack(
            tf.placeholder_with_default([1.0, 2.0, 3.0], [3])
        )
        text = tf.py_func(lambda: b"abc", [], tf.string)
    with tf.device("/cpu:2"):
        array = array.write(1, 20.0)
        doubled = tf.py_func(lambda s: s + s, [text], tf.string)
    with tf.device("/cpu:0"):
        total = array.stack() * 2.0
    with session() as sess:
        for _ in range(ROUNDS):
            got = sess.run([total, doubled])
            assert got[0].tolist() == [2.0, 40.0, 6.0] and got[1] == b"abcabc"


def test_shapes_that_another_device_decides():
    n = tf.placeholder(tf.int32, [])
    with tf.device("/cpu:1"):
        m = n * 2
    with tf.device("/cpu:2"):
        ones = tf.reduce_sum(tf.ones(tf.stack([m, 3])))
    with session() as sess:
        assert [sess.run(ones, {n: i}) for i in (1, 2, 2, 3)] == [6.0, 12.0, 12.0, 18.0]


def test_towers_train_as_one_model():
    def build(devices):
        rng = np.random.RandomState(0)
        data = tf.constant(rng.rand(8, 4).astype(np.float32))
        with tf.device("/cpu:0"):
            w = tf.get_variable("w", [4, 1], initializer=tf.ones_initializer())
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        grads = []
        for i in range(2):
            with tf.device(devices[i]):
                loss = tf.reduce_mean(tf.square(tf.matmul(data[4 * i : 4 * i + 4], w) - 1.0))
                grads.append(optimizer.compute_gradients(loss, [w]))
        with tf.device("/cpu:0"):
            mean = (grads[0][0][0] + grads[1][0][0]) / 2.0
            train = optimizer.apply_gradients([(mean, w)])
        return w, train, tf.global_variables_initializer()

    results = []
    for devices in (["/cpu:0", "/cpu:0"], ["/cpu:1", "/cpu:2"]):
        with tf.Graph().as_default(), session() as sess:
            w, train, init = build(devices)
            sess.run(init)
            for _ in range(5):
                sess.run(train)
            results.append(sess.run(w))
            assert bool(device_steps(sess)) == (devices[0] == "/cpu:1")
            if devices[0] == "/cpu:1":
                step = next(p.step for p in sess._prepared.values() if train in p.step.targets)
                # One program for each tower, one before and one after: no more.
                assert len(step.split.segments) <= 4
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


def failing():
    with tf.device("/cpu:1"):
        v = tf.Variable([1.0, 2.0], name="v")
        update = tf.assign_add(v, [1.0, 1.0])
    index = tf.placeholder(tf.int32, [])
    with tf.device("/cpu:2"), tf.control_dependencies([update]):
        picked = tf.gather(tf.constant([1.0, 2.0, 3.0]), index, name="pick")
    return v, update, index, picked


def test_a_failure_after_an_update_takes_it_back():
    v, update, index, picked = failing()
    with session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value v"):
            sess.run([update, picked], {index: 0})
        sess.run(v.initializer)
        for i in range(ROUNDS):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"pick.*9 is not in"
            ) as caught:
                sess.run([update, picked], {index: 9})
            assert "test_device_steps.py" in str(caught.value)
            assert sess.run(v).tolist() == [1.0 + i, 2.0 + i]
            sess.run([update, picked], {index: 1})


def test_the_first_of_several_errors_is_the_one():
    started, order = threading.Event(), []

    def first():
        order.append("first")
        started.set()
        raise ValueError("the first")

    def second():
        started.wait(10)
        time.sleep(0.05)
        order.append("second")
        raise ValueError("the second")

    after = []
    with tf.device("/cpu:0"):
        a = tf.py_func(first, [], tf.float32)
    with tf.device("/cpu:1"):
        b = tf.py_func(second, [], tf.float32)
    c = tf.py_func(lambda x: after.append(1) or x, [b], tf.float32)
    with session() as sess:
        with pytest.raises(tf.errors.OpError, match="the first"):
            sess.run([a, b, c])
        time.sleep(0.15)
    assert order == ["first", "second"] and not after


def test_host_operations_run_at_once():
    barrier = threading.Barrier(2, timeout=20)

    def meet(x):
        barrier.wait()
        return x

    x = tf.placeholder(tf.float32, [])
    with tf.device("/cpu:0"):
        a = tf.py_func(meet, [x], tf.float32)
    with tf.device("/cpu:1"):
        b = tf.py_func(meet, [x], tf.float32)
    with session() as sess:
        assert sess.run([a, b], {x: 2.0}) == [2.0, 2.0]


@pytest.mark.parametrize("device", ["/cpu:0", "/cpu:1"])
def test_a_time_limit_leaves_the_variables_and_the_session(device):
    release = threading.Event()
    v = tf.Variable(1.0)
    x = tf.placeholder(tf.bool, [])
    with tf.device(device):
        held = tf.py_func(lambda wait: not (wait and release.wait(30)), [x], tf.bool)
        with tf.control_dependencies([held]):
            update = tf.assign_add(v, 1.0)
    with session() as sess:
        sess.run(v.initializer)
        sess.run(update, {x: False})
        start = time.monotonic()
        with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out"):
            sess.run(update, {x: True}, tf.RunOptions(timeout_in_ms=60))
        assert time.monotonic() - start < 10
        assert sess.run(update, {x: False}) == 3.0
        release.set()
        assert sess.run(v) == 3.0
    limited = session(operation_timeout_in_ms=60)
    release.clear()
    limited.run(v.initializer)
    with pytest.raises(tf.errors.DeadlineExceededError):
        limited.run(update, {x: True})
    release.set()


def test_closing_ends_what_runs():
    release, running = threading.Event(), threading.Event()

    def hold():
        running.set()
        release.wait(30)
        return np.float32(1.0)

    with tf.device("/cpu:1"):
        v = tf.Variable(1.0)
        update = tf.assign_add(v, tf.py_func(hold, [], tf.float32))
    sess = session()
    sess.run(v.initializer)
    caught = []

    def work():
        try:
            sess.run(update)
        except tf.errors.CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(10)
    sess.close()
    thread.join(10)
    release.set()
    assert not thread.is_alive() and "Session has been closed" in str(caught[0])


def test_partial_runs_and_traces_follow_the_placement():
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    with tf.device("/cpu:1"):
        v = tf.Variable(5.0, use_resource=True)
        a = x + v
    with tf.device("/cpu:2"):
        w = tf.Variable(1.0)
        b = tf.square(a, name="square") * y * w
    with session() as sess:
        sess.run([v.initializer, w.initializer])
        for _ in range(ROUNDS):
            assert sess.run(b, {x: 1.0, y: 2.0}) == 72.0
        handle = sess.partial_run_setup([a, b], [x, y])
        assert sess.partial_run(handle, a, {x: 1.0}) == 6.0
        assert sess.partial_run(handle, b, {y: 2.0}) == 72.0
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        assert sess.run(b, {x: 1.0, y: 2.0}, options, metadata) == 72.0
        ran = {n.node_name: d.device for d in metadata.step_stats.dev_stats for n in d.node_stats}
        assert ran["square"].endswith("CPU:2")


def test_steps_of_one_device_and_of_several_share_variables():
    x = tf.placeholder(tf.float32, [64])
    with tf.device("/cpu:0"):
        v = tf.Variable(tf.zeros([64]))
        alone = tf.assign_add(v, x)  # one program, which writes in place
    with tf.device("/cpu:1"):
        square = tf.square(v + 0.0 * x)
    with tf.device("/cpu:0"), tf.control_dependencies([square]):
        together = tf.assign_add(v, 2.0 * x)
    one, count = np.ones(64), 40
    with session() as sess:
        sess.run(v.initializer)
        wrong = []

        def work(number):
            for i in range(count):
                kind = (number + i) % 4
                if kind == 0:
                    got = sess.run(alone, {x: one})
                elif kind == 1:
                    got, _ = sess.run([together, square], {x: one})
                else:
                    got = np.sqrt(sess.run(square, {x: one})) if kind == 2 else sess.run(v)
                if np.unique(got).size != 1:  # half of an update
                    wrong.append(got)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not wrong
        np.testing.assert_array_equal(sess.run(v), 3.0 * count * one)
        assert len(set(device_steps(sess))) >= 2


def test_variables_of_several_devices_are_saved_and_restored(tmp_path):
    for i in range(3):
        with tf.device(f"/cpu:{i}"):
            tf.get_variable(
                f"v{i}", [2], initializer=tf.random_normal_initializer(seed=i), use_resource=i == 1
            )
    variables = tf.global_variables()
    missing = tf.report_uninitialized_variables()
    saver = tf.train.Saver()
    with session() as sess:
        assert sess.run(missing).tolist() == [b"v0", b"v1", b"v2"]
        sess.run(tf.global_variables_initializer())
        assert sess.run(missing).tolist() == []
        values = sess.run(variables)
        path = saver.save(sess, str(tmp_path / "model"))
    with session() as sess:
        for _ in range(ROUNDS):
            saver.restore(sess, path)
        np.testing.assert_array_equal(sess.run(variables), values)
        homes = [getattr(sess._resources.cell(f"v{i}").value, "device", None) for i in range(3)]
        allowed = [(None, d.physical) for d in sess._devices]
        assert all(home in known for home, known in zip(homes, allowed, strict=True))


def test_old_values_go_without_the_garbage_collector():
    x = tf.placeholder(tf.float32, [])
    updates = []
    for i in range(2):
        with tf.device(f"/cpu:{i}"):
            v = tf.get_variable(f"v{i}", [777, 13], initializer=tf.zeros_initializer())
            updates.append(tf.assign_sub(v, v * x + 1.0).op)

    def alive():
        return sum(a.shape == (777, 13) for a in jax.live_arrays())

    with session() as sess:
        sess.run(tf.global_variables_initializer())
        gc.collect()
        gc.disable()
        try:
            counts = [sess.run(updates, {x: 0.5}) and alive() for _ in range(8)]
        finally:
            gc.enable()
    assert (
        max(counts[4:]) <= 4
    )  # those of two variables, and what the threads of devices let go of next


def test_more_devices_than_jax_has():
    x = tf.placeholder(tf.float32, [2])
    parts = []
    for i in range(9):
        with tf.device(f"/cpu:{i}"):
            parts.append(tf.square(x) + float(i))
    total = tf.add_n(parts)
    with session(9) as sess:
        for _ in range(ROUNDS):
            assert sess.run(total, {x: [1.0, 2.0]}).tolist() == [45.0, 72.0]
