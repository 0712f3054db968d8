"""Random tensors, seeds and initializers against TensorFlow 1.15 (tests/oracle/make_random_api.py)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.api import init_ops, init_orthogonal, random_seed

sys.path.insert(0, str(Path(__file__).parent))
import random_cases as cases

ANSWERS = json.loads((Path(__file__).parents[1] / "data" / "random_api.json").read_text())


def nodes_of(graph):
    """Type, name and seeds of each node."""
    return [
        [op.type, op.name] + [op.get_attr(a) for a in ("seed", "seed2") if a in op.node_def.attr]
        for op in graph.get_operations()
    ]


def assert_close(values, want, what):
    """TensorFlow's values, to a few units in the last place of the type."""
    values = np.asarray(values).reshape(-1)
    if values.dtype.kind in "SO":
        assert [v.decode() for v in values] == want, what
        return
    exact = values.dtype.kind in "iu"
    tolerance = 0 if exact else {2: 1e-2, 4: 2e-6, 8: 1e-13}[values.dtype.itemsize]
    np.testing.assert_allclose(
        values.astype(float), want, rtol=tolerance, atol=tolerance, err_msg=what
    )


@pytest.mark.parametrize("group", ["draws", "initializers"])
def test_programs_have_tensorflows_nodes_and_values(group):
    expressions, answer = getattr(cases, group.upper()), ANSWERS[group]
    tf.set_random_seed(1234)
    tensors = [eval(expression, {"tf": tf}) for expression in expressions]
    assert [t.dtype.name for t in tensors] == answer["dtypes"]
    assert [t.shape.as_list() for t in tensors] == answer["shapes"]
    assert nodes_of(tf.get_default_graph()) == answer["nodes"]
    with tf.Session() as session:
        for run in answer["runs"]:  # the first one is interpreted, the second one compiled
            for expression, value, want in zip(expressions, session.run(tensors), run, strict=True):
                assert_close(value, want, expression)


@pytest.mark.parametrize(
    "number", range(len(cases.KERNELS)), ids=[f"{name}-{shape}" for name, shape in cases.KERNELS]
)
def test_orthogonal_kernels(number):
    name, shape = cases.KERNELS[number]
    kernel = getattr(init_orthogonal, name)(gain=1.5, seed=11)(shape)
    with tf.Session() as session:
        value = session.run(kernel)
    assert value.shape == tuple(shape)
    np.testing.assert_allclose(value.reshape(-1), ANSWERS["kernels"][number], atol=2e-6)


def test_seeds_of_an_operation():
    got = []
    for graph_seed, op_seed in cases.SEEDS:
        with tf.Graph().as_default():
            tf.set_random_seed(graph_seed)
            tf.constant(1), tf.constant(2)
            got.append(list(random_seed.get_seed(op_seed)))
    assert got == ANSWERS["seeds"]


def test_a_session_goes_on_and_a_new_one_begins_anew():
    seeded, free = tf.random_uniform([4], seed=3), tf.random_uniform([4])
    runs = []
    for _ in range(2):
        with tf.Session() as session:
            runs.append([session.run([seeded, free]) for _ in range(3)])
    for i in range(3):
        np.testing.assert_array_equal(runs[0][i][0], runs[1][i][0])
        assert (runs[0][i][1] != runs[1][i][1]).any()
    assert (runs[0][0][0] != runs[0][1][0]).any() and (runs[0][1][0] != runs[0][2][0]).any()


def test_both_gradients_of_a_gamma_sample():
    """The reparameterised gradient by alpha against finite differences of the quantile function."""
    alpha, beta = tf.constant([0.7, 3.0], tf.float64), tf.constant(2.0, tf.float64)
    sample = tf.random_gamma([50], alpha, beta, tf.float64, seed=1)
    gradients = tf.gradients(sample, [alpha, beta])
    with tf.Session() as session:
        x, (by_alpha, by_beta) = session.run([sample, gradients])
    from scipy import stats

    want = []
    for column, a in enumerate((0.7, 3.0)):
        level = stats.gamma.cdf(2 * x[:, column], a)
        steps = [stats.gamma.ppf(level, a + h) / 2 for h in (1e-5, -1e-5)]
        want.append(((steps[0] - steps[1]) / 2e-5).sum())
    np.testing.assert_allclose(by_alpha, want, rtol=1e-4)
    np.testing.assert_allclose(by_beta, -x.sum() / 2, rtol=1e-12)


def test_random_crop_is_a_part_of_the_value():
    value = np.arange(6 * 7 * 3).reshape(6, 7, 3)
    crop = tf.random_crop(tf.constant(value), [4, 2, 3], seed=1)
    assert crop.shape.as_list() == [4, 2, 3]
    fed = tf.placeholder(tf.float32)
    too_large = tf.random_crop(fed, [9])
    with tf.Session() as session:
        found = set()
        for _ in range(20):
            part = session.run(crop)
            row, column = divmod(part[0, 0, 0] // 3, 7)
            np.testing.assert_array_equal(part, value[row : row + 4, column : column + 2])
            found.add((row, column))
        assert len(found) > 5
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Need value.shape >= size"):
            session.run(too_large, {fed: np.zeros(8)})


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: tf.random_uniform([2], dtype=tf.int32), ValueError, "Must specify maxval"),
        (lambda: tf.random_uniform([2], dtype=tf.bool), ValueError, "Invalid dtype"),
        (lambda: tf.random_normal([[2]]), ValueError, "rank 1"),
        (lambda: tf.multinomial([1.0], 2), ValueError, "rank 2"),
        (lambda: tf.random_normal_initializer(dtype=tf.int32), ValueError, "floating point"),
        (lambda: tf.constant_initializer({}), TypeError, "Invalid type for initial value"),
        (lambda: tf.constant_initializer([1, 2, 3])([2]), ValueError, "Too many elements"),
        (lambda: tf.variance_scaling_initializer(0.0), ValueError, "`scale` must be positive"),
        (lambda: tf.variance_scaling_initializer(mode="fan"), ValueError, "Invalid `mode`"),
        (lambda: tf.orthogonal_initializer()([3]), ValueError, "at least two-dimensional"),
        (lambda: tf.initializers.identity()([3]), ValueError, "2D matrices"),
        (lambda: init_orthogonal.ConvolutionOrthogonal2D()([2, 3, 1, 1]), ValueError, "equal"),
        (lambda: init_orthogonal.ConvolutionOrthogonal1D()([2, 3, 1]), ValueError, "In_filters"),
    ],
)
def test_mistakes_while_building(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: tf.random_uniform([2], 5, 5, tf.int32), "Need minval < maxval, got 5 >= 5"),
        (lambda: tf.multinomial(tf.zeros([2, 0]), 1), "num_classes should be positive"),
        (lambda: tf.multinomial([[1.0]], -1), "num_samples should be nonnegative"),
    ],
)
def test_mistakes_while_running(make, words):
    tensor = make()
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=words):
        session.run(tensor)


def test_configurations_give_the_same_initializer_again():
    classes = [
        init_ops.Zeros, init_ops.Ones, init_ops.Constant, init_ops.RandomUniform,
        init_ops.RandomNormal, init_ops.TruncatedNormal, init_ops.UniformUnitScaling,
        init_ops.VarianceScaling, init_ops.GlorotUniform, init_ops.GlorotNormal,
        init_ops.Identity, init_orthogonal.Orthogonal, init_orthogonal.ConvolutionOrthogonal2D,
    ]  # fmt: skip
    for cls in classes:
        config = cls().get_config()
        assert config["dtype"] == "float32" and json.dumps(config)
        assert cls.from_config(config).get_config() == config
    scaled = init_ops.VarianceScaling(2.0, "fan_out", "uniform", 3, tf.float64)
    assert scaled.get_config() == {
        "scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": 3, "dtype": "float64",
    }  # fmt: skip
    assert type(scaled).from_config(scaled.get_config())([2, 2]).dtype == tf.float64


def test_a_part_of_a_variable_is_scaled_as_the_whole():
    class Part:
        full_shape, var_offset = [100, 4], [20, 0]

    with tf.Session() as session:
        part = session.run(init_ops.VarianceScaling(seed=1)([25, 4], partition_info=Part))
        whole = session.run(init_ops.VarianceScaling(seed=1)([100, 4]))
        np.testing.assert_allclose(part, whole[:25], rtol=1e-6)
        identity = session.run(init_ops.Identity()([25, 4], partition_info=Part))
        assert not identity.any() and identity.shape == (25, 4)
