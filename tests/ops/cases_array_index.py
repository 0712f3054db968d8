"""Rows for slices, gathers and scatters."""

import numpy as np

from tests.ops.case import Case

_X = np.arange(24, dtype=np.float32).reshape(4, 6) - 7
_CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
_WORDS = np.array(["a", "bc", "", "def"])


def _i32(*values):
    return np.array(values, np.int32)


def _rows(*rows):
    return np.array(rows, np.int32)


def _strided(x, start, stop, step, expected, **masks):
    attrs = {f"{name}_mask": mask for name, mask in masks.items()}
    return Case("StridedSlice", [x, _i32(*start), _i32(*stop), _i32(*step)], attrs, expected)


def _strided_grad(x, start, stop, step, index, **masks):
    """The gradient of `x[index]` is zeros with dy there."""
    attrs = {f"{name}_mask": mask for name, mask in masks.items()}
    dy = x[index] + 0.5
    expected = np.zeros_like(x)
    expected[index] = dy
    inputs = [_i32(*x.shape), _i32(*start), _i32(*stop), _i32(*step), dy]
    return Case("StridedSliceGrad", inputs, attrs, expected)


def _assigned(x, index, value):
    x = x.copy()
    x[index] = value
    return x


def _added(dims, indices, updates):
    x = np.zeros(dims, np.float32)
    np.add.at(x, tuple(indices.T), updates)
    return x


_AT = _rows([0], [2], [0])
_UPDATES = np.array([[1.0] * 6, [2.0] * 6, [0.5] * 6], np.float32)
_ONCE = _rows([3, 1], [0, 5])
_TWO = np.array([10.0, 20.0], np.float32)

CASES = [
    Case("Slice", [_X, _i32(1, 2), _i32(2, 3)], {}, _X[1:3, 2:5]),
    Case("Slice", [_X, np.array([1, 0], np.int64), np.array([-1, 2], np.int64)], {}, _X[1:, :2]),
    Case("Slice", [_WORDS, _i32(1), _i32(2)], {}, _WORDS[1:3]),
    _strided(_X, [1, 0], [3, 4], [1, 2], _X[1:3, 0:4:2]),
    _strided(_X, [-1, 5], [-4, 0], [-2, -1], _X[-1:-4:-2, 5:0:-1]),
    _strided(_X, [0, 0], [0, 0], [-1, 1], _X[::-1], begin=3, end=3),
    _strided(_X, [2, 1], [3, 4], [1, 1], _X[2, 1:4], shrink_axis=1),
    _strided(_X, [-1, -1], [0, 0], [1, 1], _X[-1, -1], shrink_axis=3),
    _strided(_CUBE, [0, 1], [0, 2], [1, 1], _CUBE[..., 1], ellipsis=1, shrink_axis=2),
    _strided(
        _CUBE,
        [1, 0, 0, 1],
        [2, 0, 0, 3],
        [1, 1, 1, 1],
        _CUBE[1:2, None, ..., 1:3],
        new_axis=2,
        ellipsis=4,
    ),
    _strided(_X, [3, 1], [1, 9], [1, 3], _X[3:1, 1:9:3]),
    Case("StridedSlice", [_WORDS, _i32(3), _i32(0), _i32(-1)], {}, _WORDS[3:0:-1]),
    _strided_grad(_X, [1, 0], [3, 4], [1, 2], np.s_[1:3, 0:4:2]),
    _strided_grad(_X, [-1, 5], [-4, 0], [-2, -1], np.s_[-1:-4:-2, 5:0:-1]),
    _strided_grad(_CUBE, [0, 1], [0, 2], [1, 1], np.s_[..., 1], ellipsis=1, shrink_axis=2),
    Case(
        "StridedSliceAssign",
        [_X, _i32(0, 1), _i32(4, 6), _i32(2, 2), np.ones((2, 3), np.float32)],
        {},
        _assigned(_X, np.s_[0:4:2, 1:6:2], 1),
    ),
    Case(
        "ResourceStridedSliceAssign",
        [_X, _i32(-1, 2), _i32(0, 4), _i32(1, 1), _TWO],
        {"shrink_axis_mask": 1},
        _assigned(_X, np.s_[-1, 2:4], _TWO),
    ),
    # ---- gathers
    Case("Gather", [_X, _rows([3, 0], [1, 1])], {}, _X[[[3, 0], [1, 1]]]),
    Case("GatherV2", [_X, _i32(2, 0, 2), np.int32(0)], {}, _X[[2, 0, 2]]),
    Case("GatherV2", [_X, np.int32(2), np.int32(0)], {}, _X[2]),
    Case(
        "GatherV2", [_CUBE, _rows([3, 0], [0, 0]), np.int32(-1)], {}, _CUBE[..., [[3, 0], [0, 0]]]
    ),
    Case("GatherV2", [_CUBE, np.array([2, 0, 2]), np.int64(1)], {}, _CUBE[:, [2, 0, 2]]),
    Case(
        "GatherV2",
        [_CUBE, _rows([2, 0], [1, 1]), np.int32(1)],
        {"batch_dims": 1},
        np.stack([_CUBE[0][[2, 0]], _CUBE[1][[1, 1]]]),
    ),
    Case(
        "GatherV2",
        [_CUBE, _rows([2, 0], [1, 1]), np.int32(2)],
        {"batch_dims": 1},
        np.stack([_CUBE[0][:, [2, 0]], _CUBE[1][:, [1, 1]]]),
    ),
    Case("GatherV2", [_WORDS, _i32(3, 0), np.int32(0)], {}, _WORDS[[3, 0]]),
    Case("GatherNd", [_X, _rows([3, 1], [0, 5])], {}, _X[[3, 0], [1, 5]]),
    Case("GatherNd", [_X, _rows([3], [3])], {}, _X[[3, 3]]),
    Case("GatherNd", [_CUBE, np.array([[[0, 1]], [[1, 2]]])], {}, _CUBE[[[0], [1]], [[1], [2]]]),
    Case("GatherNd", [_X, np.zeros((2, 0), np.int32)], {}, np.stack([_X, _X])),
    Case("GatherNd", [_WORDS, _rows([3], [0])], {}, _WORDS[[3, 0]]),
    Case("UnravelIndex", [_i32(22, 41, 37), _i32(7, 6)], {}, np.array([[3, 6, 6], [4, 5, 1]])),
    Case("UnravelIndex", [np.int64(1621), np.array([6, 7, 8, 9])], {}, np.array([3, 1, 4, 1])),
    # ---- scatters
    Case("ScatterNd", [_AT, _UPDATES, _i32(4, 6)], {}, _added((4, 6), _AT, _UPDATES)),
    Case("ScatterNd", [_ONCE, _TWO, _i32(4, 6)], {}, _added((4, 6), _ONCE, _TWO)),
    Case(
        "ScatterNd",
        [_rows([1], [1], [3]), np.array(["a", "b", "c"]), _i32(4)],
        {},
        np.array(["", "ab", "", "c"]),
    ),
    Case("TensorScatterUpdate", [_X, _ONCE, _TWO], {}, _assigned(_X, ([3, 0], [1, 5]), _TWO)),
    Case("TensorScatterAdd", [_X, _AT, _UPDATES], {}, _X + _added((4, 6), _AT, _UPDATES)),
    Case("TensorScatterSub", [_X, _AT, _UPDATES], {}, _X - _added((4, 6), _AT, _UPDATES)),
    Case("ScatterNdNonAliasingAdd", [_X, _AT, _UPDATES], {}, _X + _added((4, 6), _AT, _UPDATES)),
    Case(
        "ScatterNdNonAliasingAdd",
        [np.array([True, False, False]), _rows([1], [1]), np.array([True, False])],
        {},
        np.array([True, True, False]),
    ),
]
