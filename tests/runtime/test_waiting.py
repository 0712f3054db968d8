"""Steps that wait for a function of the program: they can be left, and let other steps of their session run."""

import threading
import time

import numpy as np
import pytest

import headrace as tf

LONG = 30  # seconds that a function waits that nobody releases


class Gate:
    """A function for `tf.py_func` that waits until it is released, where it is told to."""

    def __init__(self):
        self.entered, self.released, self.calls = threading.Event(), threading.Event(), 0

    def __call__(self, value, wait=True):
        self.calls += 1
        if wait:
            self.entered.set()
            self.released.wait(LONG)
        return value


def variable():
    return tf.Variable(np.float32(1), name="v")


def plain(gate, wait, stateful=True):
    v = variable()
    held = tf.py_func(gate, [v + 0.0, wait], tf.float32, stateful)
    held.set_shape([])
    return v, tf.assign_add(v, held)


def stateless(gate, wait):
    return plain(gate, wait, stateful=False)


def after_an_update(gate, wait):
    v = variable()
    with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        held = tf.py_func(gate, [np.float32(0), wait], tf.float32)
    return v, tf.identity(held)


def in_a_loop(gate, wait):
    v = variable()

    def body(i, total):
        more = tf.py_func(gate, [np.float32(1), tf.logical_and(wait, i > 1)], tf.float32)
        more.set_shape([])
        return i + 1, total + more

    _, total = tf.while_loop(lambda i, _: i < 4, body, [0, 0.0])
    return v, tf.assign_add(v, total)


def in_a_branch(gate, wait):
    v = variable()
    held = tf.cond(
        v > 0.0, lambda: tf.py_func(gate, [np.float32(2), wait], tf.float32), lambda: 1.0
    )
    held.set_shape([])
    return v, tf.assign_add(v, held)


def over_two_devices(gate, wait):
    with tf.device("/cpu:1"):
        return plain(gate, wait)


SHAPES = [plain, stateless, after_an_update, in_a_loop, in_a_branch, over_two_devices]


def session(**kwargs):
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}, **kwargs))


def left(work, release):
    """The error with which `work` ends in another thread once `release` has been called, and the seconds that took."""
    caught = []

    def guarded():
        try:
            work()
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    release()
    start = time.monotonic()
    thread.join(10)
    assert not thread.is_alive(), "the step hangs"
    return caught[0], time.monotonic() - start


@pytest.mark.parametrize("runs_before", [0, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_closing_ends_a_step_that_waits(shape, runs_before):
    gate, wait = Gate(), tf.placeholder(tf.bool, [])
    v, update = shape(gate, wait)
    sess = session()
    sess.run(v.initializer)
    for _ in range(runs_before):
        sess.run(update, {wait: False})

    def close():
        assert gate.entered.wait(10)
        sess.close()

    try:
        error, seconds = left(lambda: sess.run(update, {wait: True}), close)
        assert isinstance(error, tf.errors.CancelledError) and "Session has been closed" in str(
            error
        )
        assert seconds < 2
    finally:
        gate.released.set()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_time_limit_ends_a_step_that_waits(shape):
    gate, wait = Gate(), tf.placeholder(tf.bool, [])
    v, update = shape(gate, wait)
    with session() as sess, session(operation_timeout_in_ms=100) as limited:
        options = tf.RunOptions(timeout_in_ms=100)
        traced = tf.RunOptions(timeout_in_ms=100, trace_level=tf.RunOptions.FULL_TRACE)
        for s, given in ((sess, options), (limited, None), (sess, options), (sess, traced)):
            s.run(v.initializer)
            start = time.monotonic()
            with pytest.raises(tf.errors.DeadlineExceededError):
                s.run(update, {wait: True}, given)
            assert 0.05 < time.monotonic() - start < 3
            assert s.run(v) == 1.0
            if s is sess:  # the other one may need longer than its limit to compile
                s.run(update, {wait: False})
                assert s.run(v) != 1.0
        gate.released.set()
        time.sleep(0.05)  # what was left ends, and changes nothing
        wanted = sess.run(v)
        time.sleep(0.02)
        assert sess.run(v) == wanted


@pytest.mark.parametrize("how", ["close", "limit"])
@pytest.mark.parametrize("calls", [True, False])
def test_a_loop_that_never_ends_is_left_and_stops(how, calls):
    count = [0]

    def step(values):
        count[0] += 1
        return values

    def body(values):
        # On the host: it calls a function of the program, or its shapes depend on values.
        values = tf.py_func(step, [values], tf.int32) if calls else tf.unique(values)[0]
        values.set_shape([None])
        return values

    loop = tf.while_loop(
        lambda v: tf.size(v) > 0, body, [tf.constant([1, 2, 3])], [tf.TensorShape([None])]
    )
    sess = session()
    options = tf.RunOptions(timeout_in_ms=200) if how == "limit" else None

    def release():
        time.sleep(0.3)
        if how == "close":
            sess.close()

    error, seconds = left(lambda: sess.run(loop, options=options), release)
    wanted = tf.errors.CancelledError if how == "close" else tf.errors.DeadlineExceededError
    assert isinstance(error, wanted) and seconds < 2
    time.sleep(0.1)
    before = count[0]
    time.sleep(0.1)
    assert count[0] == before


def test_an_interrupt_and_an_error_pass_through():
    def interrupted():
        raise KeyboardInterrupt

    def failing():
        raise ValueError("of the program")

    with session() as sess:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                sess.run(tf.py_func(interrupted, [], tf.float32))
            with pytest.raises(tf.errors.InvalidArgumentError, match="of the program") as caught:
                sess.run(tf.py_func(failing, [], tf.float32))
            assert str(caught.value).count("test_waiting.py") == 2  # where it was raised and made
            assert "headrace/runtime" not in str(caught.value)


@pytest.mark.parametrize("place", ["/cpu:0", "/cpu:1"])
def test_functions_without_state_and_arguments_are_constants(place):
    numbers = iter(range(100))
    with tf.device(place):
        one = tf.py_func(lambda: next(numbers), [], tf.int64, stateful=False)
        two = tf.py_func(lambda: [next(numbers), next(numbers)], [], [tf.int64] * 2, stateful=False)
        total = one + 10
    with session() as sess:
        assert [sess.run(one) for _ in range(3)] == [0, 0, 0]
        assert [sess.run([one, total]) for _ in range(3)] == [[0, 10]] * 3
        assert [sess.run(two) for _ in range(3)] == [[1, 2]] * 3


def test_partial_runs_are_left():
    gate = Gate()
    x = tf.placeholder(tf.float32, [])
    held = tf.py_func(gate, [x], tf.float32)
    sess = session()
    handle = sess.partial_run_setup([held], [x])

    def close():
        assert gate.entered.wait(10)
        sess.close()

    error, _ = left(lambda: sess.partial_run(handle, held, {x: 1.0}), close)
    assert isinstance(error, tf.errors.CancelledError)
    gate.released.set()


# ---- a function that runs the same session


def nested(devices, inner, stateful=True, fail=False):
    """An update, a function that runs `inner(v)` in the same session, and updates that come after it."""
    with tf.device(devices[0]):
        v = tf.get_variable("v", initializer=np.float32(1), use_resource=devices[2])
        w = tf.get_variable("w", initializer=np.float32(10), use_resource=devices[2])
        first = tf.assign_add(v, 1.0).op
    within = inner(v)
    sessions = []

    def call(fails):
        found = np.float32(sessions[0].run(within))
        if fails:
            raise ValueError("fails after the inner run")
        return found

    fails = tf.placeholder_with_default(False, [])
    with tf.device(devices[1]), tf.control_dependencies([first]):
        seen = tf.py_func(call, [fails], tf.float32, stateful)
        seen.set_shape([])
    with tf.device(devices[0]), tf.control_dependencies([seen]):
        last = tf.assign_add(v, seen * 10.0)
        other = tf.assign_add(w, 1.0).op
    sess = session()
    sessions.append(sess)
    sess.run([v.initializer, w.initializer])
    return sess, v, w, fails, [seen, last, other]


PLACES = [
    ("/cpu:0", "/cpu:0", False),
    ("/cpu:0", "/cpu:0", True),
    ("/cpu:1", "/cpu:0", False),
    ("/cpu:1", "/cpu:1", True),
]
INNER = {
    "reads": (lambda v: v.read_value() + 0.0, 0.0),
    "writes": (lambda v: tf.assign_add(v, 100.0), 100.0),
}


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("stateful", [True, False])
def test_an_inner_run_sees_the_variables_as_they_are_then(places, inner, stateful):
    build, more = INNER[inner]
    sess, v, w, _, fetches = nested(places, build, stateful)
    value = 1.0
    for i in range(4):
        seen = value + 1.0 + more
        value = seen + 10.0 * seen
        assert sess.run(fetches)[:2] == [seen, value]
        assert sess.run([v, w]) == [value, 11.0 + i]
    sess.close()


@pytest.mark.parametrize("places", PLACES)
def test_a_failure_after_an_inner_run_takes_back_what_is_still_ours(places):
    with tf.Graph().as_default():
        sess, v, w, fails, fetches = nested(places, INNER["reads"][0])
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="after the inner run"):
                sess.run(fetches, {fails: True})
            assert sess.run([v, w]) == [1.0, 10.0]
    with tf.Graph().as_default():
        sess, v, w, fails, fetches = nested(places, INNER["writes"][0])
        for i in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="after the inner run"):
                sess.run(fetches, {fails: True})
            # The inner step has built on the update: both stay, as in TensorFlow.
            assert sess.run([v, w]) == [1.0 + 101.0 * (i + 1), 10.0]


@pytest.mark.parametrize("place", ["/cpu:0", "/cpu:1"])
def test_no_update_is_lost_while_others_wait(place):
    count, workers = 25, 4
    with tf.device(place):
        v = tf.Variable(np.zeros(100, np.float32))
        before = tf.assign_add(v, np.ones(100, np.float32))
    with tf.control_dependencies([before.op]):
        held = tf.py_func(lambda: time.sleep(0.001) or np.float32(1), [], tf.float32)
        held.set_shape([])
    with tf.device(place), tf.control_dependencies([held]):
        after = tf.assign_add(v, held * np.ones(100, np.float32))
    alone = tf.assign_add(v, np.ones(100, np.float32))  # one program, which writes in place
    with session() as sess:
        sess.run(v.initializer)
        wrong = []

        def work(number):
            for i in range(count):
                got = sess.run(alone if (number + i) % 3 == 0 else after)
                if np.unique(got).size != 1:
                    wrong.append(got)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        singles = sum((n + i) % 3 == 0 for n in range(workers) for i in range(count))
        assert not wrong
        assert np.unique(sess.run(v)).tolist() == [2.0 * (count * workers - singles) + singles]


def test_a_training_step_and_a_function_of_its_loss():
    x = tf.placeholder(tf.float32, [4])
    w = tf.Variable(np.ones(4, np.float32))
    loss = tf.reduce_sum(tf.square(w * x))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    seen = []
    sess = session()

    def note(value):
        seen.append((float(value), float(sess.run(loss, {x: np.ones(4)}))))
        return value

    noted = tf.py_func(note, [loss], tf.float32)
    sess.run(w.initializer)
    losses = [float(sess.run([train, noted], {x: np.ones(4)})[1]) for _ in range(4)]
    np.testing.assert_allclose(losses, [4.0 * 0.64**i for i in range(4)], rtol=1e-5)
    assert [a for a, _ in seen] == losses and sess.run(loss, {x: np.ones(4)}) < losses[-1]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("place", ["/cpu:0", "/cpu:1"])
def test_functions_of_one_step_may_wait_for_each_other(place, fails):
    met, after = threading.Barrier(3, timeout=10), []

    def meet(value):
        met.wait()
        if fails and value == 2.0:
            raise ValueError("failed after meeting")
        return value

    x = tf.placeholder(tf.float32, [3])
    with tf.device(place):
        first, second, third = (tf.py_func(meet, [x[i]], tf.float32) for i in range(3))
        with tf.control_dependencies([second]):
            last = tf.py_func(lambda a: after.append(a) or a, [first], tf.float32)
    with session() as sess:
        for _ in range(3):
            feed = {x: [1.0, 2.0, 3.0]}
            if fails:
                with pytest.raises(tf.errors.InvalidArgumentError, match="after meeting"):
                    sess.run([last, second, third], feed)
            else:
                assert sess.run([last, second, third], feed) == [1.0, 2.0, 3.0]
        assert after == [] if fails else [1.0] * 3
