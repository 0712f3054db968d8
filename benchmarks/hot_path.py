"""Where the time of a `sess.run` goes: `python -m benchmarks.hot_path`. The table stands in docs/performance.md."""

import statistics
import time

import numpy as np

import headrace as tf
from headrace.session import feeds as feeding
from headrace.session.session import to_result

TURNS, CALLS = 15, 200


def microseconds(call):
    """The median over turns of the CPU time that a call takes."""
    for _ in range(20):
        call()
    found = []
    for _ in range(TURNS):
        start = time.process_time_ns()
        for _ in range(CALLS):
            call()
        found.append((time.process_time_ns() - start) / CALLS / 1000)
    return statistics.median(found)


def parts(session, fetches, feeds):
    """{part: microseconds} of a run that is one compiled program."""
    for _ in range(3):
        session.run(fetches, feeds)
    (prepared,) = [
        p for key, p in session._prepared.items() if p.tensors == tuple(feeds) and _of(key, fetches)
    ]
    step = prepared.step
    deadline = time.monotonic() + 60  # a large step is compiled in another thread meanwhile
    while step._compiled is None and time.monotonic() < deadline:
        session.run(fetches, feeds)
    arrays = [feeding.to_array(t, v) for t, v in feeds.items()]
    run = step._compiled

    def to_numpy():
        return prepared.build([to_result(r) for r in run(arrays)])

    whole = microseconds(lambda: session.run(fetches, feeds))
    convert = microseconds(lambda: list(map(feeding.to_array, prepared.tensors, feeds.values())))
    call, fetched = microseconds(lambda: run(arrays)), microseconds(to_numpy)
    return {
        "whole run": whole,
        "feeds become arrays": convert,
        "the call: variables, program, variables": call,
        "results become NumPy's": fetched - call,
        "the rest: key, look-up": whole - convert - fetched,
    }


def _of(key, fetches):
    return key[0] is fetches or (isinstance(key[0], tuple) and set(key[0][1:]) == set(fetches))


def network(layers, units):
    """(fetches, feeds) of a network's training step."""
    x = tf.placeholder(tf.float32, [None, units])
    out = x
    for i in range(layers):
        w = tf.get_variable(f"w{i}", [units, units])
        out = tf.tanh(tf.matmul(out, w) + tf.get_variable(f"b{i}", [units]))
    loss = tf.reduce_mean(tf.square(out))
    train = tf.train.AdamOptimizer(1e-3).minimize(loss)
    return [loss, train], {x: np.ones([8, units], np.float32)}


def product():
    x = tf.placeholder(tf.float32, [64, 64])
    return tf.reduce_sum(tf.matmul(x, x) + 1.0, 1), {x: np.ones([64, 64], np.float32)}


def main():
    cases = {
        "product of a fed matrix": product,
        "Adam, 2 layers": lambda: network(2, 8),
        "Adam, 20 layers": lambda: network(20, 8),
        "Adam, 100 layers": lambda: network(100, 8),
    }
    columns = {}
    for name, build in cases.items():
        with tf.Graph().as_default():
            fetches, feeds = build()
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                columns[name] = parts(session, fetches, feeds)
    print("| microseconds | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for part in next(iter(columns.values())):
        print(f"| {part} | " + " | ".join(f"{c[part]:.1f}" for c in columns.values()) + " |")


if __name__ == "__main__":
    main()
