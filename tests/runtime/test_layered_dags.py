"""Random graphs over four devices give what one device gives: alone, under eight threads, with failures and time limits.

HEADRACE_STRESS_STEPS=10000 in the environment makes as many steps in each of the three tests, on graphs of 500 nodes.
"""

import os
import threading
import time

import numpy as np
import pytest

import headrace as tf
from headrace.runtime.device_step import DeviceStep
from tests.runtime.layered_dags import Failure, LayeredDag, session

FULL = int(os.environ.get("HEADRACE_STRESS_STEPS", "0"))
STEPS, NODES, GRAPHS = (FULL, 500, max(1, FULL // 2500)) if FULL else (24, 60, 1)
DEVICES = 4


def equal(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_four_devices_equal_one(seed):
    dag = LayeredDag(seed, NODES, DEVICES)
    with session(dag, DEVICES) as several, session(dag) as one:
        for number in range(STEPS // GRAPHS):
            fetches = dag.fetches[number % 2]
            feed = dag.feed(number)
            equal(several.run(fetches, feed), one.run(fetches, feed))
        equal(several.run(dag.variables), one.run(dag.variables))
        counts = {
            p.step: sum(op.type != "Const" for op in p.step.ops) for p in several._prepared.values()
        }
        steps = {step for step, count in counts.items() if count >= NODES}
        assert len(steps) == 2 and all(isinstance(s, DeviceStep) for s in steps)
        assert {n.device.index for s in steps for n in s._nodes} == set(range(DEVICES))


def run_in_threads(count, work):
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3000 if FULL else 120)
        assert not thread.is_alive(), "a step hangs"
    if failures:
        raise failures[0]


def replay(dag, log, variables):
    """Makes the steps again on one device, in the order of their tickets, and compares everything."""
    log.sort(key=lambda entry: entry[0])
    assert [ticket for ticket, *_ in log] == list(range(1, len(log) + 1))
    with session(dag) as one:
        for _, group, number, values in log:
            equal(values, one.run(dag.fetches[group], dag.feed(number)))
        equal(variables, one.run(dag.variables))


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_eight_threads_are_some_order_of_their_steps(seed):
    dag = LayeredDag(100 + seed, NODES, DEVICES)
    log = []
    per_thread = STEPS // GRAPHS // 8
    with session(dag, DEVICES) as several:

        def work(thread):
            for i in range(per_thread):
                number = thread * per_thread + i
                group = number % 2
                values = several.run(dag.fetches[group], dag.feed(number))
                log.append((int(values[0]), group, number, values))

        run_in_threads(8, work)
        variables = several.run(dag.variables)
    assert len(log) == 8 * per_thread
    replay(dag, log, variables)


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_failures_and_time_limits_leave_no_trace(seed):
    released = threading.Event()
    dag = LayeredDag(200 + seed, NODES, DEVICES, faults=True, sleep=lambda: released.wait(2))
    log, refused = [], []
    per_thread = STEPS // GRAPHS // 8
    faults = [None, "python", None, "gather", None, None, "sleep", None]
    expected = {
        "python": tf.errors.UnknownError,
        "gather": tf.errors.InvalidArgumentError,
        "sleep": tf.errors.DeadlineExceededError,
    }
    with session(dag, DEVICES) as several:
        for group in (0, 1):  # compiled before time limits are set
            for _ in range(2):
                values = several.run(dag.fetches[group], dag.feed(0))
                log.append((int(values[0]), group, 0, values))

        def work(thread):
            for i in range(per_thread):
                number = thread * per_thread + i
                group, fault = (0, faults[number % 8])
                options = tf.RunOptions(timeout_in_ms=30) if fault == "sleep" else None
                try:
                    values = several.run(dag.fetches[group], dag.feed(number, fault), options)
                except tf.errors.OpError as error:
                    assert type(error) is expected[fault], (fault, error)
                    assert fault != "python" or isinstance(error.__cause__, Failure)
                    refused.append(fault)
                else:
                    assert fault is None
                    log.append((int(values[0]), group, number, values))

        run_in_threads(8, work)
        released.set()
        time.sleep(0.05)  # what was left behind ends, and changes nothing
        variables = several.run(dag.variables)
    assert len(log) - 4 + len(refused) == 8 * per_thread and set(refused) == set(expected)
    replay(dag, log, variables)
