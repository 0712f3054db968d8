"""Memory and time of a deep stack whose gradients compute the forward pass again.

Run it from the root of the repository: python benchmarks/recompute.py [--depth 32] [--rows 4096] [--units 256]
It prints, for the plain step, for `tf.contrib.layers.recompute_grad` and for the option of ConfigProto (with no budget, and
with half of what the plain step takes): the temporary memory that XLA says the program takes, the peak of a process of
its own during a step above what it has between steps (Linux), and the time of a step, all of them measured in turns.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import headrace as tf

MODES = ("plain", "recompute_grad", "option", "half budget")
FULL = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)


def block(h, units):
    """Two layers with some elementwise work, added to what came in."""
    inner = tf.tanh(tf.layers.dense(h, units, name="a"))
    inner = inner * tf.sigmoid(inner)
    return h + tf.tanh(tf.layers.dense(inner, units, name="b"))


def make(mode, args, budget=None):
    """(session, training step, loss, feed) of the stack."""
    graph = tf.Graph()
    with graph.as_default(), tf.variable_scope("", use_resource=True):
        x = tf.placeholder(tf.float32, [args.rows, args.units])
        wrap = tf.contrib.layers.recompute_grad if mode == "recompute_grad" else lambda f: f
        h = x
        for i in range(args.depth):
            with tf.variable_scope(f"block{i}"):
                h = wrap(lambda h: block(h, args.units))(h)
        loss = tf.reduce_mean(tf.square(h))
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        init = tf.global_variables_initializer()
    config = tf.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    if mode == "option":
        rewrite.memory_optimization = "RECOMPUTATION_HEURISTICS"
    elif mode == "half budget":
        optimizer = rewrite.custom_optimizers.add(name="rematerialize")
        optimizer.parameter_map["budget_bytes"].i = budget
    sess = tf.Session(graph=graph, config=config)
    sess.run(init)
    feed = {x: np.random.RandomState(0).randn(args.rows, args.units).astype(np.float32)}
    return sess, train, loss, feed


def temporary(sess, train, loss, feed):
    """The temporary memory of the step's program, as XLA has it."""
    metadata = tf.RunMetadata()
    sess.run([train, loss], feed, options=FULL, run_metadata=metadata)
    nodes = metadata.step_stats.dev_stats[0].node_stats
    return sum(n.memory_stats.temp_memory_size for n in nodes)


def status_of_process(name):
    """A line of /proc/self/status in bytes: VmRSS is what the process has, VmHWM the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024


def measure_memory(mode, args):
    """In a process of its own: prints the temporary memory and by how much the peak has grown."""
    step = make(mode, args, args.budget)
    sess, train, loss, feed = step
    for _ in range(3):
        sess.run([train, loss], feed)
    # The last step may still hold memory for a moment, and the C library what compiling took: the peak counts from here.
    time.sleep(1)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status_of_process("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    sess.run([train, loss], feed)
    grown = status_of_process("VmHWM") - before
    print(json.dumps({"temporary": temporary(*step), "grown": grown}))


def memory_of(mode, args, budget):
    """What a process of its own says of a mode."""
    command = [sys.executable, __file__, "--mode", mode, "--budget", str(budget)]
    command += ["--depth", str(args.depth), "--rows", str(args.rows), "--units", str(args.units)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def times_of(args, budget):
    """The median time of a step of each mode, measured in turns."""
    steps = {mode: make(mode, args, budget) for mode in MODES}
    times = {mode: [] for mode in MODES}
    for turn in range(args.turns + 2):
        for mode, (sess, train, loss, feed) in steps.items():
            start = time.perf_counter()
            sess.run([train, loss], feed)
            if turn >= 2:
                times[mode].append(time.perf_counter() - start)
    return {mode: float(np.median(found)) for mode, found in times.items()}


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--budget", type=int, default=0)
    args = parser.parse_args()
    if args.mode:
        measure_memory(args.mode, args)
        return
    memory = {"plain": memory_of("plain", args, 0)}
    budget = memory["plain"]["temporary"] // 2
    memory |= {mode: memory_of(mode, args, budget) for mode in MODES[1:]}
    times = times_of(args, budget)
    mib = 2**20
    for mode in MODES:
        found = memory[mode]
        print(
            f"{mode:15} temporary {found['temporary'] / mib:7.0f} MiB "
            f"({found['temporary'] / memory['plain']['temporary']:.2f})  "
            f"process +{found['grown'] / mib:6.0f} MiB ({found['grown'] / memory['plain']['grown']:.2f})  "
            f"step {times[mode] * 1e3:7.1f} ms ({times[mode] / times['plain']:.2f})"
        )


if __name__ == "__main__":
    main()
