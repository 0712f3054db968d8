"""Ops of neural networks on small arrays: what both `cases_nn.py` and `tests/oracle/make_nn.py` read.

Written for Python 3.7 too. Each row: (id, op type, inputs by argument, attrs, how the row is checked).
"""

import numpy as np

_rng = np.random.RandomState(3)


def _normal(*shape):
    return _rng.randn(*shape).astype(np.float32)


def _distinct(*shape):
    """Values that differ by 0.25 at least: no maximum is near another one."""
    count = int(np.prod(shape))
    return (_rng.permutation(count).reshape(shape) * 0.25 - count / 8).astype(np.float32)


def _sizes(*values):
    return np.array(values, np.int32)


_NO_GRAD = {"grad": False}
_X = np.array([[-7.0, -3.0, -0.5], [0.25, 2.0, 8.0]], np.float32)
_G = np.array([[1.0, -2.0, 0.5], [3.0, 0.75, -1.0]], np.float32)
ROWS = []


def _row(name, op, inputs, attrs=None, **checks):
    ROWS.append((name, op, inputs, attrs or {}, checks))


# ---- activations

for _op, _second in (
    ("Relu", _X), ("Relu6", _X), ("LeakyRelu", _X), ("Elu", None), ("Selu", None), ("Softplus", _X),
    ("Softsign", _X),
):  # fmt: skip
    _row("", _op, [_X])
    # The second argument is the output for those whose derivative is a function of it.
    _row("", _op + "Grad", [_G, np.where(_X < 0, np.expm1(_X), _X) if _second is None else _second])
_row("relu_int", "Relu", [np.array([-3, 0, 5], np.int32)])
_row("relu_half", "Relu", [_X.astype(np.float16)])
_row("leaky_alpha", "LeakyRelu", [_X], {"alpha": 0.5})
_row("softplus_far", "Softplus", [np.array([-200.0, 0.0, 200.0], np.float32)], **_NO_GRAD)
_row("relu_empty", "Relu", [np.zeros((0, 3), np.float32)])

# ---- softmax, cross entropies

_L = _normal(3, 4)
_P = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]], np.float32)
_row("", "Softmax", [_L])
_row("softmax_3d", "Softmax", [_normal(2, 2, 3)])
_row("softmax_large", "Softmax", [np.array([[1000.0, 999.0, -1000.0]], np.float32)], **_NO_GRAD)
_row("", "LogSoftmax", [_L])
_row("", "SoftmaxCrossEntropyWithLogits", [_L, _P], {}, grad=(0,))
_row("xent_broadcast", "SoftmaxCrossEntropyWithLogits", [_L, _P[:1]], {}, grad=(0,))
_row("", "SparseSoftmaxCrossEntropyWithLogits", [_L, np.array([1, 3, 0], np.int64)], {}, **_NO_GRAD)

# ---- biases, norms

_row("", "BiasAdd", [_normal(2, 2, 3), _normal(3)])
_row("bias_nchw", "BiasAdd", [_normal(2, 3, 2, 1), _normal(3)], {"data_format": "NCHW"})
_row("", "BiasAddV1", [_normal(2, 3), _normal(3)])
_row("", "BiasAddGrad", [_normal(2, 2, 3)])
_row("bias_grad_nchw", "BiasAddGrad", [_normal(2, 3, 2)], {"data_format": "NCHW", "#": "GPU only"})
_row("", "L2Loss", [_L])
_IMAGE = _normal(1, 2, 2, 5)
_LRN = {"depth_radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.75}
_row("", "LRN", [_IMAGE], _LRN, rtol=1e-4)
_row("", "LRNGrad", [_normal(1, 2, 2, 5), _IMAGE, _normal(1, 2, 2, 5)], _LRN, grad=False, rtol=1e-4)
_BN = [_normal(2, 3, 2, 3), _normal(3), _normal(3)]
_NONE = np.zeros((0,), np.float32)
_STATISTICS = [_normal(3), np.abs(_normal(3)) + 0.5]
for _v in ("", "V2", "V3"):
    _more = [np.zeros((), np.float32)] if _v == "V3" else []
    _row("", "FusedBatchNorm" + _v, _BN + [_NONE, _NONE], {"epsilon": 0.01}, **_NO_GRAD)
    _row(
        "",
        "FusedBatchNorm" + _v,
        _BN + _STATISTICS,
        {"epsilon": 0.01, "is_training": False},
        **_NO_GRAD,
    )
    _row(
        "", "FusedBatchNormGrad" + _v, [_normal(2, 3, 2, 3)] + _BN[:2] + _STATISTICS + _more,
        {"epsilon": 0.01}, grad=False, rtol=1e-4,
    )  # fmt: skip
    # The last two outputs hold nothing of use.
    _row(
        "", "FusedBatchNormGrad" + _v, [_normal(2, 3, 2, 3)] + _BN[:2] + _STATISTICS + _more,
        {"epsilon": 0.01, "is_training": False}, grad=False, rtol=1e-4,
    )  # fmt: skip
_GLOBAL = {"variance_epsilon": 0.01, "scale_after_normalization": True, "#": "removed"}
_row(
    "",
    "BatchNormWithGlobalNormalization",
    [_BN[0]] + _STATISTICS + [_normal(3), _normal(3)],
    _GLOBAL,
)
_row(
    "unscaled", "BatchNormWithGlobalNormalization", [_BN[0]] + _STATISTICS + [_normal(3), _normal(3)],
    dict(_GLOBAL, scale_after_normalization=False),
)  # fmt: skip
_row(
    "",
    "BatchNormWithGlobalNormalizationGrad",
    [_BN[0]] + _STATISTICS + [_normal(3), _BN[0] + 1],
    _GLOBAL,
)
_row("", "DataFormatDimMap", [np.array([0, 1, 2, 3, -1, -2], np.int32)])
_row("", "DataFormatVecPermute", [np.array([7, 4, 9, 3], np.int32)])
_row("", "DataFormatVecPermute", [np.arange(8, dtype=np.int32).reshape(4, 2)])

# ---- convolutions: (image, filter, strides, padding, dilations), forward and both ways back

_CONVOLUTIONS = [
    ((2, 5, 4, 2), (3, 2, 2, 3), (1, 1), "SAME", (1, 1)),
    ((1, 6, 7, 1), (2, 3, 1, 2), (2, 3), "VALID", (1, 1)),
    ((1, 6, 5, 2), (3, 3, 2, 1), (2, 2), "SAME", (1, 1)),
    ((1, 3, 3, 2), (1, 1, 2, 2), (2, 2), "SAME", (1, 1)),
]
for _i, (_image, _filter, _s, _padding, _d) in enumerate(_CONVOLUTIONS):
    _attrs = {"strides": [1, _s[0], _s[1], 1], "padding": _padding}
    _x, _w = _normal(*_image), _normal(*_filter)
    if _padding == "SAME":
        _places = [-(-n // s) for n, s in zip(_image[1:3], _s)]
    else:
        _places = [(n - k) // s + 1 for n, k, s in zip(_image[1:3], _filter[:2], _s)]
    _dy = _normal(_image[0], _places[0], _places[1], _filter[3])
    _row(f"conv{_i}", "Conv2D", [_x, _w], _attrs)
    _row(f"conv_input{_i}", "Conv2DBackpropInput", [_sizes(*_image), _w, _dy], _attrs)
    _row(f"conv_filter{_i}", "Conv2DBackpropFilter", [_x, _sizes(*_filter), _dy], _attrs)
_row(
    "conv_explicit", "Conv2D", [_normal(1, 4, 3, 2), _normal(2, 2, 2, 2)],
    {"strides": [1, 1, 2, 1], "padding": "EXPLICIT", "explicit_paddings": [0, 0, 1, 0, 2, 1, 0, 0]},
)  # fmt: skip
_UNIT = {"strides": [1, 1, 1, 1], "padding": "SAME"}
_row(
    "conv_dilated", "Conv2D", [_normal(1, 6, 6, 1), _normal(2, 2, 1, 2)],
    dict(_UNIT, dilations=[1, 2, 3, 1]),
)  # fmt: skip
_row(
    "conv_empty",
    "Conv2D",
    [np.zeros((0, 4, 4, 1), np.float32), _normal(2, 2, 1, 2)],
    _UNIT,
    **_NO_GRAD,
)

for _i, (_s, _padding) in enumerate([(1, "SAME"), (2, "VALID")]):
    _attrs = {"strides": [1, _s, _s, 1], "padding": _padding}
    _dy = _normal(1, 5, 4, 4) if _s == 1 else _normal(1, 2, 2, 4)
    _x, _w = _normal(1, 5, 4, 2), _normal(2, 2, 2, 2)
    _row(f"depthwise{_i}", "DepthwiseConv2dNative", [_x, _w], _attrs)
    _row(
        f"depthwise_input{_i}",
        "DepthwiseConv2dNativeBackpropInput",
        [_sizes(1, 5, 4, 2), _w, _dy],
        _attrs,
    )
    _row(
        f"depthwise_filter{_i}",
        "DepthwiseConv2dNativeBackpropFilter",
        [_x, _sizes(2, 2, 2, 2), _dy],
        _attrs,
    )

_attrs = {"strides": [1, 2, 1, 2, 1], "padding": "SAME"}
_x, _w, _dy = _normal(1, 3, 2, 4, 2), _normal(2, 2, 2, 2, 1), _normal(1, 2, 2, 2, 1)
_row("", "Conv3D", [_x, _w], _attrs)
_row("", "Conv3DBackpropInputV2", [_sizes(1, 3, 2, 4, 2), _w, _dy], _attrs)
_row("", "Conv3DBackpropFilterV2", [_x, _sizes(2, 2, 2, 2, 1), _dy], _attrs)
_row("", "Conv3DBackpropInput", [_x, _w, _dy], dict(_attrs, **{"#": "removed"}))
_row("", "Conv3DBackpropFilter", [_x, _w, _dy], dict(_attrs, **{"#": "removed"}))

# ---- pooling: tiles, overlapping windows, gaps, windows over channels

_POOLS = [
    ((1, 4, 6, 2), (1, 2, 3, 1), (1, 2, 3, 1), "VALID"),
    ((1, 5, 5, 1), (1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
    ((2, 5, 4, 1), (1, 3, 2, 1), (1, 1, 1, 1), "SAME"),
    ((1, 6, 7, 1), (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
    ((1, 5, 6, 1), (1, 2, 1, 1), (1, 3, 2, 1), "VALID"),
]
for _i, (_image, _k, _s, _padding) in enumerate(_POOLS):
    _attrs = {"ksize": list(_k), "strides": list(_s), "padding": _padding}
    _x = _distinct(*_image)
    if _padding == "SAME":
        _places = [-(-n // s) for n, s in zip(_image, _s)]
    else:
        _places = [(n - k) // s + 1 for n, k, s in zip(_image, _k, _s)]
    _dy = _normal(*_places)
    _row(f"max{_i}", "MaxPool", [_x], _attrs)
    _row(f"average{_i}", "AvgPool", [_x], _attrs)
    _row(f"average_grad{_i}", "AvgPoolGrad", [_sizes(*_image), _dy], _attrs)
    _row(
        f"argmax{_i}", "MaxPoolWithArgmax", [_x], dict(_attrs, include_batch_in_index=bool(_i % 2))
    )
    # With the output of the pooling in place of None.
    _row(f"max_grad{_i}", "MaxPoolGrad", [_x, None, _dy], _attrs)
    if _i in (0, 3):
        _row(f"max_grad_grad{_i}", "MaxPoolGradGrad", [_x, None, _normal(*_image)], _attrs)
_row(
    "max_ties", "MaxPoolGrad", [np.ones((1, 3, 3, 1), np.float32), None, _normal(1, 2, 2, 1)],
    {"ksize": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "padding": "VALID"},
)  # fmt: skip
_row(
    "max_channels", "MaxPool", [_distinct(1, 2, 2, 4)],
    {"ksize": [1, 1, 1, 2], "strides": [1, 1, 1, 2], "padding": "SAME"},
)  # fmt: skip
_row(
    "max_int", "MaxPool", [np.arange(16, dtype=np.int32).reshape(1, 4, 4, 1)],
    {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"},
)  # fmt: skip
_x = _distinct(1, 4, 4, 1)
_PADDING = {"padding": "VALID"}
_row("", "MaxPoolV2", [_x, _sizes(1, 2, 2, 1), _sizes(1, 2, 2, 1)], _PADDING)
_row(
    "",
    "MaxPoolGradV2",
    [_x, None, _normal(1, 2, 2, 1), _sizes(1, 2, 2, 1), _sizes(1, 2, 2, 1)],
    _PADDING,
)
_row(
    "",
    "MaxPoolGradGradV2",
    [_x, None, _normal(1, 4, 4, 1), _sizes(1, 2, 2, 1), _sizes(1, 2, 2, 1)],
    _PADDING,
)
_attrs = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"}
_at = np.array([[[[1], [2]], [[8], [15]]]], np.int64)
_row("", "MaxPoolGradWithArgmax", [_x, _normal(1, 2, 2, 1), _at], dict(_attrs, **{"#": "GPU only"}))
_row(
    "",
    "MaxPoolGradGradWithArgmax",
    [_x, _normal(1, 4, 4, 1), _at],
    dict(_attrs, **{"#": "GPU only"}),
)
_attrs = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 2, 1, 2, 1], "padding": "SAME"}
_x, _dy = _distinct(1, 3, 2, 3, 1), _normal(1, 2, 2, 2, 1)
_row("", "MaxPool3D", [_x], _attrs)
_row("", "AvgPool3D", [_x], _attrs)
_row("", "AvgPool3DGrad", [_sizes(1, 3, 2, 3, 1), _dy], _attrs)
_row("", "MaxPool3DGrad", [_x, None, _dy], _attrs)
_row("", "MaxPool3DGradGrad", [_x, None, _normal(1, 3, 2, 3, 1)], _attrs)

# ---- morphology, fractional pooling

_attrs = {"strides": [1, 2, 1, 1], "rates": [1, 1, 2, 1], "padding": "SAME"}
_x, _w = _distinct(1, 4, 5, 2), _normal(2, 2, 2) * 0.05
_row("", "Dilation2D", [_x, _w], _attrs)
_row("", "Dilation2DBackpropInput", [_x, _w, _normal(1, 2, 5, 2)], _attrs, **_NO_GRAD)
_row("", "Dilation2DBackpropFilter", [_x, _w, _normal(1, 2, 5, 2)], _attrs, **_NO_GRAD)
_x = _distinct(1, 7, 6, 2)
for _name in ("FractionalMaxPool", "FractionalAvgPool"):
    for _pseudo, _overlapping in ((True, False), (False, True)):
        _row(
            "", _name, [_x],
            {
                "pooling_ratio": [1.0, 1.5, 1.7, 1.0], "pseudo_random": _pseudo, "overlapping": _overlapping,
                "deterministic": True, "seed": 341261, "seed2": 4,
            },
        )  # fmt: skip
_ROWS_OF, _COLUMNS_OF = np.array([0, 2, 3, 5, 7], np.int64), np.array([0, 2, 4, 6], np.int64)
_y = np.empty((1, 4, 3, 2), np.float32)
for _i, _j in np.ndindex(4, 3):
    _rows, _columns = slice(*_ROWS_OF[_i : _i + 2]), slice(*_COLUMNS_OF[_j : _j + 2])
    _y[:, _i, _j] = _x[:, _rows, _columns].max((1, 2))
_row("", "FractionalMaxPoolGrad", [_x, _y, _normal(1, 4, 3, 2), _ROWS_OF, _COLUMNS_OF])
_row(
    "", "FractionalAvgPoolGrad", [np.array([1, 7, 6, 2], np.int64), _normal(1, 4, 3, 2), _ROWS_OF, _COLUMNS_OF],
    {"overlapping": True},
)  # fmt: skip


def _complete():
    """Names every row, and puts the output of the pooling where a gradient op wants it."""
    seen = set()
    for i, (name, op, inputs, attrs, checks) in enumerate(ROWS):
        name = name or op
        while name in seen:
            name += "_"
        seen.add(name)
        if any(v is None for v in inputs):
            if "ksize" in attrs:
                k, s = attrs["ksize"], attrs["strides"]
            else:
                k, s = inputs[3].tolist(), inputs[4].tolist()
            inputs = [
                _max_pool(inputs[0], k, s, attrs["padding"]) if v is None else v for v in inputs
            ]
            # The maxima follow from the input: moving one or the other alone has no meaning.
            checks = dict(checks, grad=(2,))
        ROWS[i] = (name, op, inputs, attrs, checks)


def _max_pool(x, ksize, strides, padding):
    pads, places = [], []
    for n, k, s in zip(x.shape, ksize, strides):
        p = -(-n // s) if padding == "SAME" else (n - k) // s + 1
        total = max((p - 1) * s + k - n, 0) if padding == "SAME" else 0
        pads.append((total // 2, total - total // 2))
        places.append(p)
    padded = np.pad(x, pads, "constant", constant_values=-np.inf)
    y = np.empty(places, x.dtype)
    for at in np.ndindex(*places):
        y[at] = padded[tuple(slice(i * s, i * s + k) for i, s, k in zip(at, strides, ksize))].max()
    return y


_complete()
