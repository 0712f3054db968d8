"""What a training loop takes whose program prepares each batch itself: `python -m benchmarks.overlap [tensorflow]`.

Batches come from NumPy, from Python alone, or after a wait, as for a file. Run with TensorFlow's Python and the argument
`tensorflow`, it measures that; with HEADRACE_LATE_RUNS=0, Headrace as it is where no run returns before it is done. The
table stands in docs/performance.md.
"""

import statistics
import sys
import time

import numpy as np

if sys.argv[1:] == ["tensorflow"]:
    import tensorflow.compat.v1 as tf  # pyright: ignore[reportMissingImports]

    tf.disable_v2_behavior()
else:
    import headrace as tf

ROWS, FEATURES, CLASSES, BATCH = 20_000, 784, 10, 128
TURNS, STEPS, SETTLING = 4, 60, 200

random = np.random.RandomState(0)
IMAGES = random.randint(0, 256, (ROWS, FEATURES)).astype(np.uint8)
LABELS = random.randint(0, CLASSES, ROWS).astype(np.int32)
WORDS = {f"w{i}": i for i in range(2000)}
TEXT = " ".join(WORDS) * 10


FIRST = IMAGES[:BATCH].astype(np.float32), LABELS[:BATCH]


def ready_made():
    return FIRST


def with_numpy():
    """Scales, normalises, and adds noise."""
    rows = random.randint(0, ROWS, BATCH)
    images = IMAGES[rows].astype(np.float32) / np.float32(255)
    images -= images.mean(1, keepdims=True)
    images /= images.std(1, keepdims=True) + 1e-5
    images += random.standard_normal(images.shape).astype(np.float32) * np.float32(0.05)
    return images, LABELS[rows]


def with_python():
    """Looks words up, for as long as it takes."""
    for _ in range(2):
        [WORDS.get(word, 0) for word in TEXT.split()]
    rows = random.randint(0, ROWS, BATCH)
    return IMAGES[rows].astype(np.float32), LABELS[rows]


def with_a_wait():
    time.sleep(0.004)
    rows = random.randint(0, ROWS, BATCH)
    return IMAGES[rows].astype(np.float32), LABELS[rows]


def network():
    """(images, labels, training step) of two layers of 512."""
    x, y = tf.placeholder(tf.float32, [None, FEATURES]), tf.placeholder(tf.int32, [None])
    out, width = x, FEATURES
    for i, units in enumerate((512, 512, CLASSES)):
        w = tf.get_variable(f"w{i}", [width, units])
        b = tf.get_variable(f"b{i}", [units], initializer=tf.zeros_initializer())
        out = tf.matmul(tf.nn.relu(out) if i else out, w) + b
        width = units
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=out)
    return x, y, tf.train.AdamOptimizer(1e-3).minimize(tf.reduce_mean(loss))


def milliseconds(work, steps):
    start = time.perf_counter()
    for _ in range(steps):
        work()
    return (time.perf_counter() - start) / steps * 1000


def main():
    x, y, train = network()
    print("| batches | ms alone | ms a step |\n|---|---:|---:|")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for prepare in (ready_made, with_numpy, with_python, with_a_wait):

            def step(prepare=prepare):
                images, labels = prepare()
                session.run(train, {x: images, y: labels})

            alone = milliseconds(prepare, STEPS)
            milliseconds(step, SETTLING)
            taken = statistics.median(milliseconds(step, STEPS) for _ in range(TURNS))
            print(f"| {prepare.__name__.replace('_', ' ')} | {alone:.2f} | {taken:.2f} |")


if __name__ == "__main__":
    main()
