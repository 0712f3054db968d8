"""Runs that fetch nothing and return before they are done: what comes after them sees what they did, or how they failed."""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.lowering.compilations import COMPILED
from headrace.runtime import late_runs, late_step
from headrace.runtime.late_step import Trial


class Always(Trial):
    """A trial whose outcome stands."""

    def __init__(self):
        super().__init__()
        self.late = True

    def note(self, begun, seconds):
        return 0


@pytest.fixture
def always(monkeypatch):
    """Every step that may return before it is done does so. Gives the names of the steps that were handed over."""
    monkeypatch.setattr(late_step, "Trial", Always)
    monkeypatch.setattr(late_step, "_NO_PROGRAM", 0)
    handed = []
    plain = late_runs.LateRuns.hand_over

    def hand_over(self, call, feed_values, name):
        run = plain(self, call, feed_values, name)
        if run is not None:
            handed.append(name)
        return run

    monkeypatch.setattr(late_runs.LateRuns, "hand_over", hand_over)
    return handed


def adding(side=8, times=1):
    """(fed, variable, operation): it adds what is fed to the variable, which takes so many products of `side` cubed."""
    x = tf.placeholder(tf.float32, [side, side])
    v = tf.get_variable("v", [side, side], initializer=tf.zeros_initializer())
    more = x
    for _ in range(times):
        more = tf.matmul(more, np.eye(side, dtype=np.float32)) + 0 * x
    return x, v, tf.assign_add(v, more).op


def started(op, feeds=None, **options):
    """A session in which the step was a program twice."""
    sess = tf.Session(**options)
    sess.run(tf.global_variables_initializer())
    for _ in range(4):
        sess.run(op, feeds)
    return sess


def full(value, side=8):
    return np.full([side, side], value, np.float32)


def step_of(sess, op):
    """What plans and runs the operation of a session."""
    prepared = [p for p in sess._prepared.values() if p.step.targets == (op,)]
    return prepared[0].step


def hold(sess, op, gate):
    """Has the next run of `op` wait until it is let through."""
    step = step_of(sess, op)
    plain = step.run

    def run(arrays):
        step.run = plain
        assert gate.wait(30)
        return plain(arrays)

    step.run = run


def fail(sess, op, error):
    """Has the next run of `op` fail."""
    step = step_of(sess, op)
    plain = step.run

    def run(arrays):
        step.run = plain
        raise error

    step.run = run


def test_what_is_fed_may_change_and_results_are_those_of_runs_that_wait(always):
    x, v, add = adding()
    twice = tf.assign(v, 2 * v).op
    fed = full(1)
    with started([add], {x: fed}) as sess:
        wanted = 4.0
        for i in range(30):
            fed[:] = i
            sess.run([add] if i % 2 else add, {x: fed})
            fed[:] = -1e6
            wanted += i
            if i % 7 == 0:
                sess.run(twice)
                wanted *= 2
            if i % 3 == 0:
                assert (sess.run(v) == wanted).all()
        assert (sess.run(v) == wanted).all()
    assert len(always) > 30


def test_types_layouts_and_lists(always):
    kinds = [tf.float64, tf.int64, tf.bool, tf.complex128, tf.bfloat16, tf.uint8]
    feeds, updates, variables = {}, [], []
    wanted = (np.arange(24).reshape(4, 6) % 3)[::2, ::-1]
    for i, kind in enumerate(kinds):
        x = tf.placeholder(kind, [None, None])
        v = tf.get_variable(f"v{i}", [2, 6], kind, tf.zeros_initializer())
        updates.append(tf.assign(v, x).op)
        variables.append(v)
        feeds[x] = wanted.astype(kind.as_numpy_dtype)
    feeds[tf.placeholder(tf.float32, [2, 6])] = wanted.tolist()
    with started(tf.group(*updates), feeds) as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(tf.group(*updates), feeds)
        step = tf.group(*updates)
        for _ in range(5):
            sess.run(tf.global_variables_initializer())
            sess.run(step, feeds)
            for kind, found in zip(kinds, sess.run(variables), strict=True):
                np.testing.assert_array_equal(found, wanted.astype(kind.as_numpy_dtype))
    assert always


def test_a_run_returns_before_it_is_done_and_is_not_compiled_again(always):
    x, v, add = adding()
    fed, gate, compiled = full(1), threading.Event(), []
    listen = lambda name, *_, **__: compiled.append(name)  # noqa: E731
    with started(add, {x: fed}) as sess:
        sess.run(v)
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            hold(sess, add, gate)
            sess.run(add, {x: fed})
            run = sess._late.pending
            assert run is not None and not run.is_over
            threading.Timer(0.05, gate.set).start()
            assert (sess.run(v) == 5).all()
            assert run.is_over and sess._late.pending is None
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
    assert COMPILED not in compiled


def test_a_run_without_variables_does_not_wait(always):
    x, v, add = adding()
    y, gate = tf.placeholder(tf.float32, []), threading.Event()
    twice = y * 2
    with started(add, {x: full(1)}) as sess:
        for _ in range(4):
            sess.run(twice, {y: 1})
        hold(sess, add, gate)
        sess.run(add, {x: full(1)})
        assert sess.run(twice, {y: 4}) == 8
        assert not sess._late.pending.is_over
        gate.set()
        assert (sess.run(v) == 5).all()


def test_which_runs_are_waited_for(always):
    """Those that may fail, that fetch, that have operations of the host, or that are given options."""
    rows = tf.placeholder(tf.int32, [None])
    v = tf.get_variable("v", [8], initializer=tf.zeros_initializer())
    checked = tf.scatter_add(v, rows, tf.ones_like(rows, tf.float32)).op
    ones = tf.reshape(tf.py_func(lambda: np.ones(8, np.float32), [], tf.float32), [8])
    called = tf.assign_add(v, ones).op
    plain = tf.assign_add(v, tf.ones([8]))
    with tf.Session() as sess:
        sess.run(v.initializer)
        for _ in range(6):
            sess.run(checked, {rows: [1, 2]})
            sess.run(called)
            sess.run(plain)
            sess.run([plain.op, v])
            sess.run(plain.op, options=tf.RunOptions(trace_level=tf.RunOptions.NO_TRACE))
        assert not always
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(checked, {rows: [9]})
        for _ in range(3):
            sess.run(plain.op)
        assert always


def test_another_shape_is_waited_for_once(always):
    x = tf.placeholder(tf.float32, [None])
    v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
    w = tf.Variable([0.0], validate_shape=False)
    add = tf.group(tf.assign_add(v, tf.reduce_sum(x)), tf.assign_add(w, w * 0.0 + 1.0))
    grow = tf.assign(w, [1.0, 2.0], validate_shape=False)
    counts = []
    with started(add, {x: np.ones(3)}) as sess:
        for size in (3, 5, 5, 3, 5):
            before = len(always)
            sess.run(add, {x: np.ones(size, np.float32)})
            counts.append(len(always) - before)
        assert sess.run(v) == 12 + 21
        sess.run(grow)
        for _ in range(2):
            before = len(always)
            sess.run(add, {x: np.ones(3, np.float32)})
            counts.append(len(always) - before)
        assert sess.run(w).tolist() == [3, 4]
    assert counts == [1, 0, 1, 1, 1, 0, 1]


FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")


def test_a_failure_is_raised_once_by_the_next_run(always):
    x, v, add = adding()
    y = tf.placeholder(tf.float32, [])
    twice = y * 2
    waits = {
        "fetch": lambda sess: sess.run(v),
        "same": lambda sess: sess.run(add, {x: full(1)}),
        "options": lambda sess: sess.run(v, options=tf.RunOptions(timeout_in_ms=9000)),
        "callable": lambda sess: sess.make_callable(v)(),
        "partial": lambda sess: sess.partial_run(
            sess.partial_run_setup([v.op, twice], [y]), twice, {y: 1}
        ),
    }
    with started(add, {x: full(1)}) as sess:
        for name, wait in waits.items():
            fail(sess, add, FULL)
            sess.run(add, {x: full(1)})
            with pytest.raises(tf.errors.ResourceExhaustedError) as raised:
                wait(sess)
            text = str(raised.value)
            assert "Out of memory" in text and add.name in text, name
            assert "test_late_runs.py" in text and "returned before" in text
            wait(sess)
        assert sess.run(v)[0, 0] == 5  # of "same", nothing of those that failed
        fail(sess, add, ZeroDivisionError("a mistake of ours"))
        sess.run(add, {x: full(1)})
        with pytest.raises(tf.errors.InternalError, match="ZeroDivisionError: a mistake of ours"):
            sess.run(v)


def test_a_failure_is_raised_by_close_or_beside_what_was_raised(always):
    x, _, add = adding()
    sess = started(add, {x: full(1)})
    fail(sess, add, FULL)
    sess.run(add, {x: full(1)})
    with pytest.raises(tf.errors.ResourceExhaustedError):
        sess.close()
    sess.close()
    with pytest.raises(RuntimeError, match="closed"):
        sess.run(add, {x: full(1)})
    with pytest.raises(KeyError) as raised, started(add, {x: full(1)}) as sess:
        fail(sess, add, FULL)
        sess.run(add, {x: full(1)})
        raise KeyError("the block's")
    assert "Out of memory" in raised.value.__notes__[0]


def test_a_failure_nobody_waits_for_is_logged(always, caplog):
    x, _, add = adding()
    sess = started(add, {x: full(1)})
    fail(sess, add, FULL)
    sess.run(add, {x: full(1)})
    sess._late.pending.wait()
    with caplog.at_level(logging.ERROR, logger="headrace"):
        del sess
        gc.collect()
    assert "Out of memory" in caplog.text


def test_time_limits_and_closing_while_a_run_is_under_way(always):
    x, v, add = adding()
    gate = threading.Event()
    sess = started(add, {x: full(1)})
    sess.run(v, options=tf.RunOptions(timeout_in_ms=60_000))
    hold(sess, add, gate)
    sess.run(add, {x: full(1)})
    with pytest.raises(tf.errors.DeadlineExceededError):
        sess.run(v, options=tf.RunOptions(timeout_in_ms=20))
    gate.set()
    assert sess.run(v, options=tf.RunOptions(timeout_in_ms=60_000))[0, 0] == 5
    gate.clear()
    hold(sess, add, gate)
    sess.run(add, {x: full(1)})
    run = sess._late.pending
    threading.Timer(0.05, gate.set).start()
    sess.close()
    assert run.is_over and run.failure is None


def test_a_step_that_holds_the_variables_runs_others_itself(always):
    """A function that is called by a step runs another one, which must not wait for the first."""
    x, v, add = adding()
    sess = started(add, {x: full(1)})
    with sess._resources.lock:  # as such a step does
        sess.run(add, {x: full(1)})
        before = len(always)
        sess.run(add, {x: full(1)})
        assert len(always) == before
    held = tf.py_func(lambda: (sess.run(add, {x: full(1)}), np.float32(0))[1], [], tf.float32)
    for _ in range(4):
        sess.run(held)
    assert len(always) > before
    assert sess.run(v)[0, 0] == 10
    sess.close()


def test_settings_of_jax_in_a_block_hold(always):
    x, v, add = adding()
    with started(add, {x: full(1)}) as sess:
        with jax.default_matmul_precision("highest"):
            sess.run(add, {x: full(1)})
        before = len(always)
        with jax.default_matmul_precision("highest"):
            sess.run(add, {x: full(1)})
        assert len(always) == before
        sess.run(add, {x: full(1)})
        assert len(always) == before + 1
        assert sess.run(v)[0, 0] == 7


def test_two_sessions_do_not_wait_for_each_other(always):
    x, v, add = adding()
    fed, gate = full(1), threading.Event()
    with started(add, {x: fed}) as one, started(add, {x: fed}) as other:
        one.run(v), other.run(v)  # nothing is under way: there is room for one in the process
        hold(one, add, gate)
        one.run(add, {x: fed})
        before = len(always)
        other.run(add, {x: fed})  # in this thread
        assert len(always) == before and other.run(v)[0, 0] == 5
        gate.set()
        assert one.run(v)[0, 0] == 5


@pytest.mark.parametrize("where", ["before it begins", "while it is under way"])
def test_an_interrupt(always, where):
    """A run that has not begun does not happen; of one that is under way the wait ends, and the next call waits again."""
    x, v, add = adding()
    gate, other = threading.Event(), threading.Event()
    sess = started(add, {x: full(1)})
    sess.run(v)

    def holding():
        with sess._resources.lock:
            other.set()
            gate.wait(30)

    if where == "before it begins":
        threading.Thread(target=holding).start()
        other.wait(30)
    else:
        hold(sess, add, gate)
        sess.run(add, {x: full(1)})
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        sess.run(add, {x: full(1)})
    gate.set()
    assert sess.run(v)[0, 0] == (4 if where == "before it begins" else 5)
    before = len(always)
    sess.run(add, {x: full(1)})
    assert len(always) == before + 1
    sess.close()


_AT_EXIT = """
import sys, time
import headrace as tf
from headrace.runtime import late_step
late_step.Trial.late = property(lambda self: True, lambda self, value: None)
late_step.Trial.note = lambda self, begun, seconds: 0
late_step._NO_PROGRAM = 0
x = tf.placeholder(tf.float32, [])
v = tf.Variable(1.0)
op = tf.assign(v, x).op
sess = tf.Session()
sess.run(v.initializer)
for _ in range(4):
    sess.run(op, {x: 1})
(step,) = {p.step for p in sess._prepared.values() if p.step.feeds}
sess.run(v)
plain = step.run
def run(arrays):
    if sys.argv[1] == "fails":
        raise MemoryError("of this test")
    time.sleep(0.3)
    plain(arrays)
    print("done", flush=True)
step.run = run
sess.run(op, {x: 3})
print("returned", flush=True)
"""


@pytest.mark.parametrize("how", ["goes well", "fails"])
def test_the_process_ends_after_its_runs(how):
    done = subprocess.run(
        [sys.executable, "-c", _AT_EXIT, how], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["returned", "done"][: 1 if how == "fails" else 2]
    if how == "fails":
        assert "failed after it had returned" in done.stderr and "of this test" in done.stderr
    else:
        assert not done.stderr


_HEAP = """
import headrace as tf
from headrace.runtime import allocator, late_runs
with tf.Session() as sess:
    sess.run(tf.matmul(tf.ones([300, 300]), tf.ones([300, 300])))
if allocator.keep_freed_memory():
    assert allocator.in_first_heap()
    plain, answers = late_runs._serve, []
    def serve(any_heap, found):
        answers.append(any_heap or allocator.in_first_heap())
        plain(any_heap, found)
    late_runs._serve = serve
    assert late_runs._start()
    print(answers[-1], len(answers) <= late_runs._MOST_THREADS, any(answers[:-1]))
else:
    print(True, True, False)
"""


def test_the_thread_has_the_heap_of_the_main_thread():
    done = subprocess.run([sys.executable, "-c", _HEAP], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize("closing", [False, True])
def test_many_threads(always, closing):
    """Each adds, and looks now and then: sums never go back, and at the end nothing is missing."""
    x, v, add = adding(64)
    other = tf.placeholder(tf.float32, [])
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    take = tf.assign_add(w, other).op
    sess = started(tf.group(add, take), {x: full(1, 64), other: 1})
    sess.run(tf.global_variables_initializer())
    added, taken, wrong = [0] * 4, [0] * 4, []
    closed = threading.Event()

    def work(i):
        rng = np.random.RandomState(i)
        last = 0.0
        fed = full(1, 64)
        try:
            for _ in range(60):
                kind = rng.randint(5)
                if kind < 2:
                    fed[:] = 1
                    sess.run(add, {x: fed})
                    fed[:] = -50
                    added[i] += 1
                elif kind == 2:
                    sess.run([take], {other: 1})
                    taken[i] += 1
                elif kind == 3:
                    found = sess.run(v)
                    if not (found == found[0, 0]).all() or found[0, 0] < last:
                        wrong.append(found)
                    last = found[0, 0]
                else:
                    sess.run([v.op, w])
        except (RuntimeError, tf.errors.CancelledError) as error:
            if not closed.is_set():
                wrong.append(error)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    if closing:
        time.sleep(0.02)
        closed.set()
        sess.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    assert not wrong
    if not closing:
        assert (sess.run(v) == sum(added)).all() and sess.run(w) == sum(taken)
        sess.close()
    assert always


# ---- whether it pays


def simulate(trial, seconds, gap, gap_late, runs):
    """Runs of so many `seconds`, with `gap` seconds between them, `gap_late` where they return before; how many do."""
    now, late, pause = 1000.0, 0, 0
    for _ in range(runs):
        begun = now
        late += trial.late
        now += gap_late if trial.late else seconds + gap
        if pause:
            pause -= 1
        else:
            pause = trial.note(begun, seconds)
    return late


@pytest.mark.parametrize(
    "seconds, gap, cycle_late, least, most",
    [
        (5e-3, 4e-3, 5.2e-3, 0.95, 1.0),  # worth it
        (5e-3, 4e-3, 8.9e-3, 0.0, 0.05),  # nothing is gained
        (5e-3, 5e-5, 1e-3, 0.0, 0.0),  # nothing to gain
        (4e-4, 1e-2, 1e-2, 0.0, 0.0),  # a short step
    ],
)
def test_whether_it_pays(seconds, gap, cycle_late, least, most):
    share = simulate(Trial(), seconds, gap, cycle_late, 5000) / 5000
    assert least <= share <= most


def test_what_changes_is_noticed():
    trial = Trial()
    assert simulate(trial, 5e-3, 4e-3, 5e-3, 100) > 80
    assert simulate(trial, 1e-4, 4e-3, 4e-3, 200) < 40  # the steps became short
    assert simulate(trial, 5e-3, 4e-3, 5e-3, 400) > 200


def test_a_training_loop_finds_out(monkeypatch):
    """The program does something between its runs, which return early after a while."""
    x, v, add = adding(200, 8)
    monkeypatch.setattr(late_step, "_LEAST_BEFORE", 1e-5)
    monkeypatch.setattr(late_step, "_NO_PROGRAM", 0)
    fed = full(1, 200)
    with started(add, {x: fed}) as sess:
        for _ in range(12):
            sess.run(add, {x: fed})
            time.sleep(0.01)
        sess.run(v)
        gate = threading.Event()
        hold(sess, add, gate)
        sess.run(add, {x: fed})
        assert not sess._late.pending.is_over
        gate.set()
        assert sess.run(v)[0, 0] == 17
