"""Programs with random tensors, as expressions of `tf`: tests and tests/oracle/make_random_api.py evaluate them."""

# Built one after the other in one graph with the graph-level seed 1234, so that each has the seed TensorFlow gives it.
DRAWS = [
    "tf.random_normal([2, 3])",
    "tf.random_normal([5], mean=[1., 2., 3., 4., 5.], stddev=2.0, dtype=tf.float64, seed=7, name='given')",
    "tf.random_uniform([4])",
    "tf.random_uniform([2, tf.Dimension(3)], minval=-2, maxval=5.5, dtype=tf.float16)",
    "tf.random_uniform([7], 3, 9, tf.int32)",
    "tf.random_uniform([], maxval=10**12, dtype=tf.int64, seed=0)",
    "tf.random.uniform(tf.TensorShape([3, 2]), dtype=tf.bfloat16)",
    "tf.random.truncated_normal([9], stddev=0.1)",
    "tf.random_shuffle([[1, 2], [3, 4], [5, 6]])",
    "tf.random_shuffle(list('abcdef'), seed=-5)",
    "tf.multinomial([[0.1, 0.2, 3.0], [1.0, 1.0, 1.0]], 5)",
    "tf.random.categorical([[0.1, 0.2, 3.0]], 5, dtype=tf.int32, seed=2**40)",
    "tf.random_gamma([3], [0.5, 2.0], [[3.0], [4.0]])",
    "tf.random_gamma([2], 1e-4)",
    "tf.random_poisson([0.5, 30.0], [4])",
    "tf.random_poisson(2.0, [4], dtype=tf.int32)",
    "tf.random.stateless_uniform([3], [1, 2], -1.0, 1.0)",
    "tf.random.stateless_uniform([3], [1, 2], 0, 100, tf.int64)",
    "tf.random.stateless_normal([3], [1, 2], 10.0, 0.5)",
    "tf.random.stateless_truncated_normal([3], seed=[1, 2], dtype=tf.float64)",
    "tf.random.stateless_multinomial([[0.1, 0.2, 3.0]], 4, [3, 4])",
    "tf.random.stateless_categorical([[0.1, 0.2, 3.0]], 4, [3, 4], tf.int32)",
]

INITIALIZERS = [
    "tf.zeros_initializer()([2, 3])",
    "tf.ones_initializer()([2], dtype=tf.int32)",
    "tf.constant_initializer([1, 2, 3])([2, 2])",
    "tf.random_uniform_initializer(-1, 2)([4])",
    "tf.random_uniform_initializer(0, 9, dtype=tf.int32)([4])",
    "tf.random_normal_initializer(1.0, 2.0, seed=3)([2, 2], dtype=tf.float64)",
    "tf.truncated_normal_initializer(stddev=0.1)([6])",
    "tf.uniform_unit_scaling_initializer(1.43)([3, 4, 5])",
    "tf.variance_scaling_initializer()([4, 5])",
    "tf.variance_scaling_initializer(2.0, 'fan_out', 'untruncated_normal')([3, 3, 2, 4])",
    "tf.variance_scaling_initializer(2.0, 'fan_avg', 'uniform', seed=1)([5])",
    "tf.glorot_uniform_initializer()([3, 2])",
    "tf.initializers.glorot_normal(seed=4)([3, 2])",
    "tf.initializers.lecun_normal()([3, 2])",
    "tf.initializers.lecun_uniform(1)([3, 2])",
    "tf.initializers.he_normal(2)([3, 2])",
    "tf.initializers.he_uniform()([3, 2])",
    "tf.orthogonal_initializer(2.0)([3, 4, 5])",
    "tf.orthogonal_initializer(seed=1)([6, 4])",
    "tf.initializers.identity(3.0)([2, 3])",
]

# Initializers that TensorFlow exports from its module only; seeds are given, since they count nodes otherwise.
KERNELS = [
    ("ConvolutionDeltaOrthogonal", [3, 2, 4]),
    ("ConvolutionDeltaOrthogonal", [3, 3, 3, 2, 2]),
    ("ConvolutionOrthogonal1D", [3, 2, 4]),
    ("ConvolutionOrthogonal2D", [3, 3, 2, 4]),
    ("ConvolutionOrthogonal2D", [1, 1, 2, 4]),
    ("ConvolutionOrthogonal3D", [3, 3, 3, 2, 3]),
]

SEEDS = [(None, None), (None, 0), (None, 5), (0, 0), (1, None), (2**31, -1), (-7, 2**33)]
