"""Writes tests/data/random.npz: what TensorFlow 1.15's random ops draw.

Run:  PYTHON_OF_TENSORFLOW_1_15 tests/oracle/make_random.py

The file holds `cases`, a JSON list of {op, dtype, seeds, ...}, and for case i the arrays `i/0` and
`i/1`: some elements of the first and of the second run. Of a long result only the elements that
`picked` names are kept.
"""

import json
import os

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import gen_random_ops as stateful
from tensorflow.python.ops import gen_stateless_random_ops as stateless

_OUT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "random.npz"
)

# Op-level seed only, large, negative, and wider than 32 bits.
SEEDS = [(87654321, 7), (2**31 + 5, -3), (-(2**62) - 1, 2**40)]
STATELESS_SEEDS = [(0, 0), (5, -7), (2**31, -(2**62) - 3)]
FLOATS = ["float16", "bfloat16", "float32", "float64"]


def picked(size):
    """Which elements of a result are kept."""
    return np.unique(np.r_[np.arange(0, size, max(1, size // 50)), max(0, size - 3) : size])


def cases():
    for n, seeds in enumerate(SEEDS):
        for dtype in FLOATS:
            for op in "uniform", "normal", "truncated_normal":
                # Shorter than a block; several dimensions; past 256 groups with an incomplete one.
                for shape in ([3], [2, 5, 3], [2050]):
                    yield dict(op=op, seeds=seeds, shape=shape, dtype=dtype)
        for dtype in "int32", "int64":
            for low, high in (-5, 1000), (0, 2**31 - 1), (-(2**31), 2**31 - 1):
                yield dict(
                    op="uniform_int", seeds=seeds, shape=[301], dtype=dtype, low=low, high=high
                )
        for size in 2, 5, 64, 1003:
            yield dict(op="permutation", seeds=seeds, size=size)
        for dtype in "float16", "float32", "float64":
            parameters = [[0.3, 1.0], [2.5, 40.0]] if n else [1.0, 0.05, 9.0]
            yield dict(op="gamma", seeds=seeds, shape=[70, 2], dtype=dtype, alpha=parameters)
            parameters = [[0.0, 0.7], [9.9, 10.0]] if n else [3.0, 25.0, 1000.0]
            yield dict(
                op="poisson",
                seeds=seeds,
                shape=[70, 2],
                rate_dtype=dtype,
                rate=parameters,
                dtype="int32" if n else dtype,
            )
            for bounds in (
                (0, 1, -1, 1),
                (0, 1, -5, 5),
                (1, 2, 4, 12),
                (0, 1, 6, 6.5),
                (1, 3, -np.inf, -2),
                (0, 2, -0.5, np.inf),
            ):
                yield dict(
                    op="parameterized_truncated_normal",
                    seeds=seeds,
                    shape=[11, 23],
                    dtype=dtype,
                    parameters=list(bounds),
                )
            yield dict(
                op="parameterized_truncated_normal", seeds=seeds, shape=[3, 7], dtype=dtype,
                parameters=[[0, 1, 2], 1, [-1, 2, -9], [1, 8, 9]],
            )  # fmt: skip
            yield dict(
                op="multinomial",
                seeds=seeds,
                samples=33,
                dtype="int64" if n else "int32",
                logits_dtype=dtype,
                batch=5,
                classes=9,
            )
    for seeds in STATELESS_SEEDS:
        for seed_dtype in ["int64"] + (["int32"] if max(map(abs, seeds)) < 2**31 else []):
            common = dict(stateless=seed_dtype, seeds=seeds)
            for op in "uniform", "normal", "truncated_normal":
                yield dict(common, op=op, shape=[5, 7], dtype="float32")
            yield dict(common, op="uniform_int", shape=[31], dtype="int64", low=-4, high=17)
            yield dict(
                common,
                op="multinomial",
                samples=33,
                dtype="int64",
                logits_dtype="float32",
                batch=5,
                classes=9,
            )


def logits(case):
    """Log-probabilities of a multinomial case, two of them not finite."""
    rows = np.cos(np.arange(case["batch"] * case["classes"])).reshape(case["batch"], -1) * 3
    rows[1, 2], rows[3, 0] = -np.inf, np.nan
    return tf.constant(rows, case["logits_dtype"])


def build(case):
    """The op of a case."""
    op = case["op"]
    if "stateless" in case:
        seeds = tf.constant(case["seeds"], case["stateless"])
        if op == "multinomial":
            return stateless.stateless_multinomial(
                logits(case), case["samples"], seeds, case["dtype"]
            )
        if op == "uniform_int":
            bounds = [tf.constant(case[name], case["dtype"]) for name in ("low", "high")]
            return stateless.stateless_random_uniform_int(case["shape"], seeds, *bounds)
        make = dict(
            uniform=stateless.stateless_random_uniform,
            normal=stateless.stateless_random_normal,
            truncated_normal=stateless.stateless_truncated_normal,
        )
        return make[op](case["shape"], seeds, case["dtype"])
    seeds = dict(zip(("seed", "seed2"), case["seeds"]))
    if op == "multinomial":
        return stateful.multinomial(
            logits(case), case["samples"], output_dtype=case["dtype"], **seeds
        )
    if op == "uniform_int":
        bounds = [tf.constant(case[name], case["dtype"]) for name in ("low", "high")]
        return stateful.random_uniform_int(case["shape"], *bounds, **seeds)
    if op == "permutation":
        return stateful.random_shuffle(tf.range(case["size"]), **seeds)
    if op == "gamma":
        return stateful.random_gamma(
            case["shape"], tf.constant(case["alpha"], case["dtype"]), **seeds
        )
    if op == "poisson":
        rate = tf.constant(case["rate"], case["rate_dtype"])
        return stateful.random_poisson_v2(case["shape"], rate, dtype=case["dtype"], **seeds)
    if op == "parameterized_truncated_normal":
        parameters = [tf.constant(p, case["dtype"]) for p in case["parameters"]]
        return stateful.parameterized_truncated_normal(case["shape"], *parameters, **seeds)
    make = dict(
        uniform=stateful.random_uniform,
        normal=stateful.random_standard_normal,
        truncated_normal=stateful.truncated_normal,
    )
    return make[op](case["shape"], case["dtype"], **seeds)


def main():
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Constant folding would turn stateless draws into constants of another kernel's making.
    config.graph_options.optimizer_options.opt_level = -1
    every = list(cases())
    arrays = {"cases": np.array(json.dumps(every))}
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        ops = [build(case) for case in every]
        for run in range(2):
            for i, values in enumerate(session.run(ops)):
                values = values.reshape(-1)
                if values.dtype == tf.bfloat16.as_numpy_dtype:
                    values = values.view(np.uint16)
                arrays[f"{i}/{run}"] = values[picked(values.size)]
    np.savez_compressed(_OUT, **arrays)


if __name__ == "__main__":
    main()
