"""Training steps of a character language model: two LSTMs of 256 units, 32 sequences of 64 steps, Adam, clipping.

    python benchmarks/char_rnn.py                                  Headrace alone
    python benchmarks/char_rnn.py OTHER_PYTHON                     beside TensorFlow 2's graph mode in that Python
    python benchmarks/char_rnn.py OTHER_PYTHON tensorflow          beside TensorFlow 1

Both run in turns in processes of their own, so that what else the machine does meets both; the median of all steps counts.
Then 30 batches of 30 different lengths: the whole time, compilation included.
"""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

TURNS, STEPS = 4, 8
BATCH, TIME, UNITS, LAYERS = 32, 64, 256, 2


def build(tf, size):
    """(characters, next characters, loss, training step) of the model for an alphabet of `size`."""

    class Cell:
        """The LSTM by hand: TensorFlow 2 has no cells without Keras 2."""

        state_size, output_size = (UNITS, UNITS), UNITS

        def __init__(self, number):
            self.name = f"cell_{number}"

        def zero_state(self, batch_size, dtype):
            return tf.zeros([batch_size, UNITS], dtype), tf.zeros([batch_size, UNITS], dtype)

        def __call__(self, x, state):
            c, h = state
            with tf.variable_scope(self.name, reuse=tf.AUTO_REUSE):
                kernel = tf.get_variable("kernel", [UNITS + UNITS, 4 * UNITS])
                bias = tf.get_variable("bias", [4 * UNITS], initializer=tf.zeros_initializer())
            gates = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), kernel), bias)
            i, j, f, o = tf.split(gates, 4, 1)
            c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
            h = tf.tanh(c) * tf.sigmoid(o)
            return h, (c, h)

    x = tf.placeholder(tf.int32, [BATCH, None])
    y = tf.placeholder(tf.int32, [BATCH, None])
    outputs = tf.nn.embedding_lookup(tf.get_variable("characters", [size, UNITS]), x)
    for number in range(LAYERS):
        cell = Cell(number)
        state = cell.zero_state(BATCH, tf.float32)
        steps = tf.shape(outputs)[1]
        by_time = tf.transpose(outputs, [1, 0, 2])
        source = tf.TensorArray(tf.float32, steps, element_shape=[BATCH, UNITS]).unstack(by_time)
        results = tf.TensorArray(tf.float32, steps, element_shape=[BATCH, UNITS])

        def step(t, c, h, results, cell=cell, source=source):
            h, (c, h) = cell(source.read(t), (c, h))
            return t + 1, c, h, results.write(t, h)

        loop = tf.while_loop(lambda t, *_: t < steps, step, [0, *state, results])  # noqa: B023
        outputs = tf.transpose(loop[3].stack(), [1, 0, 2])
    weights = tf.get_variable("weights", [UNITS, size])
    logits = tf.matmul(tf.reshape(outputs, [-1, UNITS]), weights)
    labels = tf.reshape(y, [-1])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses)
    variables = tf.trainable_variables()
    grads, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 5.0)
    return x, y, loss, tf.train.AdamOptimizer(2e-3).apply_gradients(zip(grads, variables))


def serve(name):
    """Trains on the module `name`: a turn for each line read, the different lengths at the line "lengths"."""
    tf = importlib.import_module(name)
    if hasattr(tf, "disable_v2_behavior"):
        tf.disable_v2_behavior()
    import numpy as np

    text = np.frombuffer(Path(np.__file__).read_bytes(), np.uint8)
    alphabet, codes = np.unique(text, return_inverse=True)
    x, y, loss, train = build(tf, len(alphabet))
    random = np.random.RandomState(0)

    def batch(steps):
        starts = random.randint(0, len(codes) - steps - 1, BATCH)
        rows = codes[starts[:, None] + np.arange(steps + 1)]
        return {x: rows[:, :-1], y: rows[:, 1:]}

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(3):
            session.run([loss, train], batch(TIME))
        for line in sys.stdin:
            times = []
            lengths = range(20, 50) if line.strip() == "lengths" else [TIME] * STEPS
            for steps in lengths:
                feeds = batch(steps)
                start = time.perf_counter()
                value, _ = session.run([loss, train], feeds)
                times.append(time.perf_counter() - start)
            print(json.dumps({"times": times, "loss": float(value)}), flush=True)


def main(others):
    """Prints the medians, and the time that the different lengths take."""
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
    times = {side: [] for side in sides}
    for turn in ["step"] * TURNS + ["lengths"]:
        for side, child in children.items():
            child.stdin.write(f"{turn}\n")
            child.stdin.flush()
            answer = json.loads(child.stdout.readline())
            if turn == "lengths":
                print(
                    f"{side}: 30 lengths in {sum(answer['times']):.1f} s, loss {answer['loss']:.2f}"
                )
            else:
                times[side] += answer["times"]
    for side, found in times.items():
        found.sort()
        print(f"{side}: {1000 * found[len(found) // 2]:.0f} ms a step (best {1000 * found[0]:.0f})")
    for child in children.values():
        child.stdin.close()
        child.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(sys.argv[1:])
