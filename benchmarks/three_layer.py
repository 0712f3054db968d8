"""Steps per second of the small network that tutorials train: 2-3-1 units, Adam, batches of ten rows fed from NumPy and lists.

    python benchmarks/three_layer.py                                  Headrace alone
    python benchmarks/three_layer.py OTHER_PYTHON                     beside TensorFlow 2's graph mode in that Python
    python benchmarks/three_layer.py OTHER_PYTHON tensorflow          beside TensorFlow 1

Both run in turns in processes of their own, so that what else the machine does meets both; the best turn of each counts.
"""

import importlib
import json
import subprocess
import sys
import time

TURNS, STEPS = 7, 1500


def serve(name):
    """Builds the program on the module `name`; then runs one turn for each line read, and writes its times."""
    tf = importlib.import_module(name)
    if hasattr(tf, "disable_v2_behavior"):
        tf.disable_v2_behavior()
    from numpy.random import RandomState

    w1 = tf.Variable(tf.random_normal([2, 3], stddev=1, seed=1))
    w2 = tf.Variable(tf.random_normal([3, 1], stddev=1, seed=1))
    x = tf.placeholder(tf.float32, shape=(None, 2))
    y = tf.placeholder(tf.float32, shape=(None, 1))
    guess = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, w1)), w2))
    cross_entropy = -tf.reduce_mean(y * tf.log(tf.clip_by_value(guess, 1e-10, 1.0)))
    train_step = tf.train.AdamOptimizer(0.001).minimize(cross_entropy)
    rows = RandomState(1).rand(516, 2)  # float64, as NumPy makes it
    labels = [[int(a + b < 1)] for a, b in rows]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())

        def turn():
            for i in range(STEPS):
                start = i * 10 % 510
                feeds = {x: rows[start : start + 10], y: labels[start : start + 10]}
                sess.run(train_step, feed_dict=feeds)

        turn()
        for _ in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            turn()
            times = [time.perf_counter() - wall, time.process_time() - cpu]
            print(json.dumps(times), flush=True)


def main(others):
    sides = {"headrace": (sys.executable, "headrace")}
    if others:
        sides["tensorflow"] = (others[0], [*others, "tensorflow.compat.v1"][1])
    children = {
        side: subprocess.Popen(
            [python, __file__, "--serve", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for side, (python, module) in sides.items()
    }
    best = {side: [float("inf")] * 2 for side in children}
    for _ in range(TURNS):
        for side, child in children.items():
            child.stdin.write("go\n")
            child.stdin.flush()
            found = json.loads(child.stdout.readline())
            best[side] = [min(pair) for pair in zip(best[side], found)]
    for side, (wall, cpu) in best.items():
        children[side].stdin.close()
        children[side].wait()
        micros = [t / STEPS * 1e6 for t in (wall, cpu)]
        print(
            f"{side:12} {STEPS / wall:8.0f} steps/s   {micros[0]:6.1f} us a step, {micros[1]:6.1f} us of CPU"
        )
    if len(best) > 1:
        print(f"{best['tensorflow'][0] / best['headrace'][0]:.2f} times as fast")


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main(sys.argv[1:])
