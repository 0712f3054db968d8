"""Programs of `tf.nn` and `tf.losses` whose names and values are compared with TensorFlow's: `tf` is either of the two.

This file also runs under Python 3.7. A program returns the tensors to look at, floats first: the gradients of the first
one with respect to those in `tf.get_collection("xs")` are compared too.
"""

import numpy as np

_rng = np.random.RandomState(5)


def _normal(*shape):
    return _rng.randn(*shape).astype(np.float32)


IMAGE, SEQUENCE, VOLUME = _normal(2, 5, 6, 3), _normal(2, 7, 3), _normal(1, 3, 4, 3, 2)
FILTER, FILTER_1D, FILTER_3D = _normal(3, 2, 3, 2), _normal(3, 3, 2), _normal(2, 2, 1, 2, 3)
LOGITS, LABELS = _normal(4, 3), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)
WEIGHTS = np.array([[1.0], [0.5], [0.0], [2.0]], np.float32)
TABLE = _normal(7, 3)


def _x(tf, value, name=None):
    """`value` as a constant with respect to which gradients are compared."""
    tensor = tf.constant(value, name=name)
    tf.add_to_collection("xs", tensor)
    return tensor


PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def _define(name, function):
    function.__name__ = name
    program(function)


# ---- activations and friends

for _name in "relu relu6 crelu elu selu leaky_relu softplus softsign sigmoid tanh".split():
    _define("nn_" + _name, lambda tf, f=_name: [getattr(tf.nn, f)(_x(tf, LOGITS))])
_define("swish", lambda tf: [tf.nn.swish(_x(tf, LOGITS)) + 0.0])
for _axis in (-1, 0, 1):
    _define(f"softmax_{_axis}", lambda tf, a=_axis: [tf.nn.softmax(_x(tf, SEQUENCE), axis=a)])
_define("log_softmax", lambda tf: [tf.nn.log_softmax(_x(tf, SEQUENCE), axis=1)])
_define("l2_normalize", lambda tf: [tf.nn.l2_normalize(_x(tf, LOGITS), axis=1)])
_define("lrn", lambda tf: [tf.nn.lrn(_x(tf, IMAGE), 1, 1.0, 0.5, 0.75)])
_define("zero_fraction", lambda tf: [tf.nn.zero_fraction(tf.constant([0.0, 1.0, 0.0, 4.0]))])
_define(
    "xw_plus_b",
    lambda tf: [tf.nn.xw_plus_b(_x(tf, LOGITS), _x(tf, LOGITS.T), [1.0, 2.0, 3.0, 4.0])],
)
_define(
    "relu_layer",
    lambda tf: [tf.nn.relu_layer(_x(tf, LOGITS), _x(tf, LOGITS.T), [1.0, 2.0, 3.0, 4.0])],
)
_define("bias_add", lambda tf: [tf.nn.bias_add(_x(tf, IMAGE), _x(tf, [1.0, 2.0, 3.0]), name="b")])


@program
def dropout(tf):
    tf.set_random_seed(3)
    x = tf.constant(np.ones((4, 5), np.float32))
    tf.add_to_collection("xs", x)
    return [
        tf.nn.dropout(x, 0.4, seed=7),
        tf.nn.dropout(x, rate=0.25, noise_shape=[None, 1]),
        tf.nn.dropout(x, keep_prob=tf.constant(0.5), name="mine"),
    ]


# ---- cross entropies

_define(
    "softmax_cross_entropy",
    lambda tf: [
        tf.nn.softmax_cross_entropy_with_logits_v2(labels=_x(tf, LABELS), logits=_x(tf, LOGITS)),
        tf.nn.softmax_cross_entropy_with_logits(labels=LABELS.T, logits=LOGITS.T, dim=0),
    ],
)
_define(
    "sparse_softmax_cross_entropy",
    lambda tf: [
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1, 0, 2, 1], logits=_x(tf, LOGITS)),
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=np.zeros((2, 7), np.int32), logits=SEQUENCE
        ),
    ],
)
_define(
    "sigmoid_cross_entropy",
    lambda tf: [
        tf.nn.sigmoid_cross_entropy_with_logits(labels=_x(tf, LABELS), logits=_x(tf, LOGITS)),
        tf.nn.weighted_cross_entropy_with_logits(LABELS, LOGITS, 2.5),
    ],
)
_define(
    "log_poisson_loss",
    lambda tf: [
        tf.nn.log_poisson_loss([0.5, 1.0, 3.0], _x(tf, [0.25, -1.0, 2.0]), compute_full_loss=True),
    ],
)

# ---- moments, batch normalisation

_define("moments", lambda tf: list(tf.nn.moments(_x(tf, IMAGE), [0, 1, 2])))
_define("moments_kept", lambda tf: list(tf.nn.moments(_x(tf, LOGITS), [1], keep_dims=True))[::-1])
_define("weighted_moments", lambda tf: list(tf.nn.weighted_moments(_x(tf, LOGITS), [0], WEIGHTS)))


@program
def statistics(tf):
    count, mean_ss, variance_ss, shift = tf.nn.sufficient_statistics(_x(tf, LOGITS), [0], shift=0.5)
    return list(tf.nn.normalize_moments(count, mean_ss, variance_ss, shift)) + [count]


@program
def batch_normalization(tf):
    x = _x(tf, IMAGE)
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    return [
        tf.nn.batch_normalization(
            x, mean, variance, [0.5, 1.0, -1.0], _x(tf, [1.0, 2.0, 3.0]), 1e-3
        )
    ]


@program
def fused_batch_norm(tf):
    y, mean, variance = tf.nn.fused_batch_norm(
        _x(tf, IMAGE), _x(tf, [1.0, 2.0, 3.0]), _x(tf, [0.5, 1.0, -1.0])
    )
    return [y, mean, variance]


@program
def fused_batch_norm_frozen(tf):
    y, _, _ = tf.nn.fused_batch_norm(
        _x(tf, IMAGE), _x(tf, [1.0, 2.0, 3.0]), _x(tf, [0.5, 1.0, -1.0]),
        mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.5], is_training=False,
    )  # fmt: skip
    return [y]


@program
def fused_batch_norm_second(tf):
    """The gradients of a gradient."""
    xs = [_x(tf, IMAGE), _x(tf, [1.0, 2.0, 3.0])]
    y, _, _ = tf.nn.fused_batch_norm(xs[0], xs[1], [0.5, 1.0, -1.0])
    first = tf.gradients(y * y * IMAGE[::-1].copy(), xs)
    return [tf.reduce_sum(first[0] * IMAGE[:, ::-1].copy()) + tf.reduce_sum(first[1] * first[1])]


# ---- convolutions

_define("conv1d", lambda tf: [tf.nn.conv1d(_x(tf, SEQUENCE), _x(tf, FILTER_1D), 2, "SAME")])
_define("conv2d", lambda tf: [tf.nn.conv2d(_x(tf, IMAGE), _x(tf, FILTER), [1, 2, 1, 1], "SAME")])
_define(
    "conv2d_explicit",
    lambda tf: [tf.nn.conv2d(_x(tf, IMAGE), _x(tf, FILTER), 1, [[0, 0], [1, 0], [0, 2], [0, 0]])],
)
_define(
    "conv3d", lambda tf: [tf.nn.conv3d(_x(tf, VOLUME), _x(tf, FILTER_3D), [1, 1, 2, 1, 1], "VALID")]
)
_define(
    "convolution",
    lambda tf: [tf.nn.convolution(_x(tf, IMAGE), _x(tf, FILTER), "VALID", strides=[1, 2])],
)
_define("atrous", lambda tf: [tf.nn.atrous_conv2d(_x(tf, IMAGE), _x(tf, FILTER), 2, "SAME") + 0.0])
_define(
    "atrous_transpose",
    lambda tf: [
        tf.nn.atrous_conv2d_transpose(_x(tf, IMAGE), _x(tf, _FILTER_BACK), [2, 5, 6, 2], 2, "SAME")
        + 0.0
    ],
)
_FILTER_BACK = _normal(3, 2, 2, 3)
_define(
    "conv2d_transpose",
    lambda tf: [
        tf.nn.conv2d_transpose(_x(tf, IMAGE), _x(tf, _FILTER_BACK), [2, 10, 12, 2], [1, 2, 2, 1])
    ],
)
_define(
    "conv_transpose_1d",
    lambda tf: [
        tf.nn.conv_transpose(
            _x(tf, SEQUENCE), _x(tf, FILTER_1D.transpose(0, 2, 1).copy()), [2, 13, 2], 2
        )
    ],
)
_DEPTHWISE = _normal(2, 2, 3, 2)
_define(
    "depthwise",
    lambda tf: [tf.nn.depthwise_conv2d(_x(tf, IMAGE), _x(tf, _DEPTHWISE), [1, 1, 1, 1], "SAME")],
)
_define(
    "depthwise_dilated",
    lambda tf: [
        tf.nn.depthwise_conv2d(_x(tf, IMAGE), _x(tf, _DEPTHWISE), [1, 1, 1, 1], "SAME", rate=[2, 3])
    ],
)
_POINTWISE = _normal(1, 1, 6, 2)
_define(
    "separable",
    lambda tf: [
        tf.nn.separable_conv2d(
            _x(tf, IMAGE), _x(tf, _DEPTHWISE), _x(tf, _POINTWISE), [1, 2, 2, 1], "SAME"
        )
    ],
)

# ---- pooling

_define("max_pool", lambda tf: [tf.nn.max_pool(_x(tf, IMAGE), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")])
_define("max_pool_v2", lambda tf: [tf.nn.max_pool_v2(_x(tf, VOLUME), 2, 1, "SAME")])
_define("max_pool1d", lambda tf: [tf.nn.max_pool1d(_x(tf, SEQUENCE), 3, 2, "VALID")])
_define("avg_pool", lambda tf: [tf.nn.avg_pool(_x(tf, IMAGE), 3, 2, "SAME")])
_define("avg_pool1d", lambda tf: [tf.nn.avg_pool1d(_x(tf, SEQUENCE), 3, 2, "SAME")])
_define("avg_pool3d", lambda tf: [tf.nn.avg_pool3d(_x(tf, VOLUME), 2, 1, "VALID")])
_define(
    "argmax", lambda tf: list(tf.nn.max_pool_with_argmax(IMAGE, [1, 2, 2, 1], [1, 1, 1, 1], "SAME"))
)
_define("pool", lambda tf: [tf.nn.pool(_x(tf, SEQUENCE), [2], "AVG", "SAME", strides=[2])])
_define(
    "pool_dilated",
    lambda tf: [tf.nn.pool(_x(tf, IMAGE), [2, 2], "MAX", "VALID", dilation_rate=[2, 1])],
)
_MORPHOLOGY = _normal(2, 2, 3)
_define(
    "erosion2d",
    lambda tf: [
        tf.nn.erosion2d(_x(tf, IMAGE), _x(tf, _MORPHOLOGY), [1, 1, 1, 1], [1, 1, 2, 1], "SAME")
    ],
)

# ---- tables

_IDS = np.array([[0, 6], [3, 3]], np.int64)
_define("embedding", lambda tf: [tf.nn.embedding_lookup(_x(tf, TABLE), _IDS)])
_define("embedding_clipped", lambda tf: [tf.nn.embedding_lookup(_x(tf, TABLE), _IDS, max_norm=1.0)])
for _strategy in ("mod", "div"):
    _define(
        "embedding_" + _strategy,
        lambda tf, s=_strategy: [
            tf.nn.embedding_lookup(
                [_x(tf, TABLE[:3]), _x(tf, TABLE[3:5]), _x(tf, TABLE[5:])], _IDS, s
            )
        ],
    )
for _sampled in ("nce_loss", "sampled_softmax_loss"):
    _define(
        _sampled,
        lambda tf, f=_sampled: [
            getattr(tf.nn, f)(
                _x(tf, TABLE), _x(tf, TABLE[:, 0].copy()), tf.constant([[1], [4], [0], [6]], tf.int64),
                _x(tf, LOGITS), 3, 7,
                sampled_values=(
                    tf.constant([2, 4, 5], tf.int64), tf.constant([[0.5], [0.25], [1.0], [0.125]]),
                    tf.constant([0.5, 0.25, 0.75]),
                ),
                remove_accidental_hits=True,
            )
        ],
    )  # fmt: skip

# ---- losses

for _loss, _options in (
    ("absolute_difference", {}),
    ("mean_squared_error", {}),
    ("cosine_distance", {"axis": 1}),
    ("hinge_loss", {}),
    ("huber_loss", {"delta": 0.5}),
    ("mean_pairwise_squared_error", {}),
    ("sigmoid_cross_entropy", {"label_smoothing": 0.1}),
):
    _define(
        "loss_" + _loss,
        lambda tf, f=_loss, o=_options: [
            getattr(tf.losses, f)(_x(tf, LABELS), _x(tf, LOGITS), weights=WEIGHTS, **o)
        ],
    )
_define("loss_log", lambda tf: [tf.losses.log_loss(LABELS, _x(tf, np.abs(LOGITS) % 1))])


@program
def collected_losses(tf):
    x = _x(tf, LOGITS)
    with tf.name_scope("model"):
        tf.losses.softmax_cross_entropy(LABELS, x, label_smoothing=0.1)
        tf.losses.sparse_softmax_cross_entropy(np.array([[1], [0], [2], [1]]), x, weights=WEIGHTS)
    tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, tf.nn.l2_loss(x, name="reg"))
    losses = tf.losses
    return [losses.get_total_loss(), losses.get_regularization_loss()] + losses.get_losses("model")


@program
def reductions(tf):
    x = _x(tf, LOGITS)
    names = ("NONE", "SUM", "MEAN", "SUM_OVER_BATCH_SIZE", "SUM_BY_NONZERO_WEIGHTS")
    return [
        tf.losses.compute_weighted_loss(x, WEIGHTS, reduction=getattr(tf.losses.Reduction, n))
        for n in names
    ]


def evaluate(tf, function):
    """(names of the tensors, their values, the gradients of the first one with respect to the xs)."""
    with tf.Graph().as_default() as graph:
        tensors = function(tf)
        xs = tf.get_collection("xs")
        grads = tf.gradients(tensors[0] * tensors[0], xs) if xs else []
        grads = [tf.convert_to_tensor(g) if g is not None else tf.zeros([0]) for g in grads]
        with tf.Session(graph=graph) as session:
            values, derivatives = session.run([tensors, grads])
    return [t.name for t in tensors], values, derivatives
