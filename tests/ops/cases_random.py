"""Random ops. Values are compared with TensorFlow's in tests/lowering/test_random.py and tests/api."""

import numpy as np

from tests.ops.case import Case

_SHAPE = np.array([2, 3], np.int32)
_SEEDS = {"seed": 87654321, "seed2": 7}
_SEED = np.array([3, -4], np.int64)
_LOGITS = np.array([[0.0, 1.0, -np.inf], [2.0, 0.0, 0.5]], np.float32)

CASES = [
    Case(op, [_SHAPE], {**_SEEDS, "dtype": dtype}, grad=False, id=f"{op}-{dtype}")
    for op in ("RandomUniform", "RandomStandardNormal", "TruncatedNormal")
    for dtype in ("float32", "float64", "half", "bfloat16")
]
CASES += [
    Case(op, [_SHAPE.astype(np.int64), _SEED], {"dtype": "float32"}, grad=False)
    for op in ("StatelessRandomUniform", "StatelessRandomNormal", "StatelessTruncatedNormal")
]
CASES += [
    Case("RandomUniformInt", [_SHAPE, np.int32(-2), np.int32(9)], _SEEDS, grad=False),
    Case("StatelessRandomUniformInt", [_SHAPE, _SEED, np.int64(0), np.int64(5)], grad=False),
    Case("RandomShuffle", [np.arange(12.0).reshape(4, 3)], _SEEDS, grad=False),
    Case("RandomShuffle", [np.float32(3)], _SEEDS, np.float32(3), grad=False, id="scalar"),
    Case("Multinomial", [_LOGITS, np.int32(4)], _SEEDS, grad=False),
    Case("StatelessMultinomial", [_LOGITS, np.int32(4), _SEED], grad=False),
    Case("RandomGamma", [_SHAPE, np.array([0.5, 3.0], np.float32)], _SEEDS, grad=False),
    # Of an exponential distribution (alpha = 1) at its median, and of others, by finite differences of the quantile.
    Case(
        "RandomGammaGrad",
        [np.array([1.0, 0.5, 4.0]), np.array([0.69314718, 0.2, 5.0])],
        {},
        np.array([0.96804483, 0.79405057, 1.16324889]),
        grad=False,
        rtol=1e-4,
    ),
    Case("RandomPoisson", [_SHAPE, np.array([0.5, 30.0], np.float32)], _SEEDS, grad=False),
    Case("RandomPoissonV2", [_SHAPE, np.array([0.5, 30.0])], _SEEDS, grad=False),
    Case(
        "ParameterizedTruncatedNormal",
        [_SHAPE, *(np.array(p, np.float32) for p in (0, 1, -1, 1))],
        _SEEDS,
        grad=False,
    ),
]

_TRUE = np.array([[3], [0]], np.int64)
_BATCH = {"num_true": 1, "num_sampled": 4, "unique": True}

CASES += [
    Case(f"{name}CandidateSampler", [_TRUE], {**_BATCH, **attrs, **_SEEDS}, grad=False)
    for name, attrs in (
        ("Uniform", {"range_max": 9}),
        ("LogUniform", {"range_max": 9}),
        ("LearnedUnigram", {"range_max": 9}),
        ("ThreadUnsafeUnigram", {"range_max": 9}),
        ("FixedUnigram", {"range_max": 5, "unigrams": [1.0, 2.0, 3.0, 4.0, 5.0]}),
        ("All", {}),
    )
]
CASES += [
    Case(
        "ComputeAccidentalHits",
        [_TRUE, np.array([5, 3], np.int64)],
        {"num_true": 1},
        [np.array([0]), np.array([1]), np.finfo(np.float32).min * np.ones(1, np.float32)],
        static=False,
    ),
]
