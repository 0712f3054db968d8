"""Two independent heavy branches: on one device with one thread, and on two devices with a thread each.

    python benchmarks/device_branches.py

XLA runs branches of one program at once, on as many threads as the process has cores: to see what the executor gains, one
device gets one core. The two ways run in turns in processes of their own; the best step counts.
"""

import json
import os
import subprocess
import sys
import time

SIZE, DEPTH, STEPS, TURNS = 512, 30, 8, 15


def serve(devices):
    """Builds the graph with a branch on each of `devices`; then writes the shortest time of a turn for each line read."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import numpy as np

    import headrace as tf

    x = tf.placeholder(tf.float32, [SIZE, SIZE], name="x")
    results = []
    for number, device in enumerate(devices):
        with tf.device(device):
            y = x + float(number)  # the compiler would compute equal branches once
            for _ in range(DEPTH):
                y = tf.tanh(tf.matmul(y, x))
            results.append(tf.reduce_mean(y))
    total = tf.add_n(results)
    value = (np.random.RandomState(0).rand(SIZE, SIZE) / SIZE).astype(np.float32)
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as sess:
        for _ in range(3):
            sess.run(total, {x: value})
        for _ in sys.stdin:
            best = float("inf")
            for _ in range(STEPS):
                start = time.perf_counter()
                sess.run(total, {x: value})
                best = min(best, time.perf_counter() - start)
            print(json.dumps(best), flush=True)


def start(cores, devices):
    """A process that serves on so many cores."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    return subprocess.Popen(
        [sys.executable, __file__, *devices],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )


def main():
    """Prints both times and their quotient."""
    ways = [start(1, ["/cpu:0", "/cpu:0"]), start(2, ["/cpu:0", "/cpu:1"])]
    best = [float("inf")] * 2
    for _ in range(TURNS):
        for number, process in enumerate(ways):
            print(file=process.stdin, flush=True)
            best[number] = min(best[number], json.loads(process.stdout.readline()))
    for process in ways:
        process.stdin.close()
        process.wait()
    one, two = best
    print(f"two branches of {DEPTH} products of {SIZE} x {SIZE}, best of {TURNS * STEPS} steps")
    print(f"one device, one core    {one * 1e3:7.1f} ms")
    print(f"two devices, two cores  {two * 1e3:7.1f} ms   {one / two:.2f} times as fast")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1:])
    else:
        main()
