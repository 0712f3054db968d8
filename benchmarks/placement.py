"""Placement by cost on a graph with two heavy branches, beside one device and random placements: predicted and measured.

    python benchmarks/placement.py

What is predicted comes from XLA's count of the work of each operation and rates measured at the start; a second
prediction uses the times of a trace. One CPU device would use every core: it gets one core here, two devices get two.
"""

import os
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

import headrace as tf
from headrace.passes.cost_placement import makespan, schedule
from headrace.passes.placer import Placer
from headrace.runtime.node_costs import NodeCosts, measured_seconds

SIZE, DEPTH, STEPS, TURNS = 448, 12, 4, 25
CORES = sorted(os.sched_getaffinity(0))


def graph(device=None):
    """Two chains of products of different inputs, and a few operations that bring them together."""
    with tf.device(device):
        x = tf.placeholder(tf.float32, [SIZE, SIZE], name="x")
        ends = []
        for branch in range(2):
            with tf.name_scope(f"branch_{branch}"):
                y = x + float(branch)
                for _ in range(DEPTH):
                    y = tf.tanh(tf.matmul(y, x))
                ends.append(tf.reduce_mean(y, axis=0))
        return x, tf.reduce_sum(ends[0] * ends[1], name="end")


def fixed(placement):
    """A device function that puts operations where `placement` (by name) says."""
    return lambda op: placement.get(op.name, op.device)


def session(count, **graph_options):
    """A session on `count` devices."""
    options = tf.GraphOptions(**graph_options)
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": count}, graph_options=options))


def use_cores(count):
    """Has all threads of this process run on so many cores."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), CORES[:count])


def main():
    """Prints a line for each placement."""
    with tf.Graph().as_default():
        session(2).list_devices()  # XLA counts the cores when it starts
    use_cores(1)  # for the rates and the trace
    value = (np.random.RandomState(0).rand(SIZE, SIZE) / SIZE).astype(np.float32)
    with tf.Graph().as_default() as plain:
        x, end = graph()
        ops = plain.get_operations()
        with session(1) as sess:
            options = tf.RunOptions(trace_level=tf.RunOptions.SOFTWARE_TRACE)
            for _ in range(3):
                metadata = tf.RunMetadata()
                sess.run(end, {x: value}, options, metadata)
        measured = NodeCosts(measured_seconds(metadata.step_stats))
    estimated = NodeCosts()
    devices = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(2)]
    placer = Placer(devices, costs=estimated)
    placer.place(ops)
    by_cost = {op.name: placer.device_of(op) for op in ops}
    by_trace = schedule(ops, measured, lambda op: devices).device_of
    rng = np.random.RandomState(1)
    placements = {
        "one device": {},
        "by estimated cost": by_cost,
        "by measured cost": {op.name: device for op, device in by_trace.items()},
        "random, node by node": {op.name: devices[rng.randint(2)] for op in ops},
        "random, once more": {op.name: devices[rng.randint(2)] for op in ops},
    }
    running = {}
    for name, placement in placements.items():
        with tf.Graph().as_default():
            by_session = name == "by estimated cost"  # as a program asks for it
            inputs, result = graph(None if by_session else fixed(placement))
            sess = session(2, build_cost_model=1) if by_session else session(2)
            for _ in range(3):
                sess.run(result, {inputs: value})
            running[name] = sess, inputs, result
    best = dict.fromkeys(running, float("inf"))
    for _ in range(TURNS):
        for name, (sess, inputs, result) in running.items():
            use_cores(1 if name == "one device" else 2)
            for _ in range(STEPS):
                start = time.perf_counter()
                sess.run(result, {inputs: value})
                best[name] = min(best[name], time.perf_counter() - start)
    print(f"two branches of {DEPTH} products of {SIZE} x {SIZE}; makespan in ms")
    print(f"{'placement':<24}{'estimated':>12}{'from a trace':>14}{'measured':>12}")
    for name, placement in placements.items():
        where = placement.get
        predicted = [
            makespan(ops, costs, lambda op, where=where: where(op.name, devices[0])) * 1e3
            for costs in (estimated, measured)
        ]
        print(f"{name:<24}{predicted[0]:>12.1f}{predicted[1]:>14.1f}{best[name] * 1e3:>12.1f}")


if __name__ == "__main__":
    main()
