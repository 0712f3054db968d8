"""Rows for shapes, reshapes, joins and cuts, and tensors filled with one value."""

import numpy as np

from tests.ops.case import Case

_X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
_Y = np.array([[0.5, -1.0, 2.0, 4.0]], np.float32)
_WORDS = np.array([["ab", "c", ""], ["d", "efg", "h"]])
_C = (_X + 1j * _X[::-1]).astype(np.complex64)


def _i32(*values):
    return np.array(values, np.int32)


def _fill_words(dims, value):
    return np.full(dims, "ab")


CASES = [
    Case("Shape", [_X], {}, _i32(3, 4)),
    Case("Shape", [_WORDS], {"out_type": "int64"}, np.array([2, 3], np.int64)),
    Case("ShapeN", [[_X, _X[:2, :1]]], {}, [_i32(3, 4), _i32(2, 1)]),
    Case("Size", [_X], {}, np.int32(12)),
    Case("Size", [_WORDS], {"out_type": "int64"}, np.int64(6)),
    Case("Rank", [_X], {}, np.int32(2)),
    Case("Reshape", [_X, _i32(2, 6)], {}, _X.reshape(2, 6)),
    Case("Reshape", [_X, np.array([2, -1, 3], np.int64)], {}, _X.reshape(2, 2, 3)),
    Case(
        "Reshape",
        [np.zeros((0, 6), np.float32), _i32(0, -1, 3)],
        {},
        np.zeros((0, 2, 3)),
        static=False,
    ),
    Case("Reshape", [_WORDS, _i32(-1)], {}, _WORDS.reshape(-1)),
    Case("Squeeze", [_X[:, None, :1]], {}, _X[:, 0]),
    Case("Squeeze", [_X[:, None, :1]], {"squeeze_dims": [-2]}, _X[:, :1]),
    Case("Squeeze", [_WORDS[None]], {"squeeze_dims": [0]}, _WORDS),
    Case("ExpandDims", [_X, np.int32(1)], {}, _X[:, None]),
    Case("ExpandDims", [_X, np.int64(-1)], {}, _X[..., None]),
    Case("ExpandDims", [_WORDS, np.int32(0)], {}, _WORDS[None]),
    Case("Transpose", [_X[None], _i32(2, 0, 1)], {}, _X[None].transpose(2, 0, 1)),
    Case("Transpose", [_WORDS, _i32(1, 0)], {}, _WORDS.T),
    Case("ConjugateTranspose", [_C, _i32(1, 0)], {}, _C.conj().T),
    Case("ConjugateTranspose", [_X, _i32(1, 0)], {}, _X.T),
    Case("InvertPermutation", [_i32(2, 0, 3, 1)], {}, _i32(1, 3, 0, 2)),
    Case("BroadcastTo", [_Y, _i32(2, 3, 4)], {}, np.broadcast_to(_Y, (2, 3, 4))),
    Case("BroadcastTo", [np.float32(3), _i32(2)], {}, np.full(2, 3.0)),
    Case("BroadcastTo", [_WORDS[:1], _i32(2, 3)], {}, np.broadcast_to(_WORDS[:1], (2, 3))),
    Case("Fill", [_i32(2, 3), np.float32(1.5)], {}, np.full((2, 3), 1.5)),
    Case("Fill", [np.array([2], np.int64), np.array("ab")], {}, _fill_words),
    Case("ZerosLike", [_X], {}, np.zeros((3, 4))),
    Case("ZerosLike", [_WORDS], {}, np.full((2, 3), "")),
    Case("OnesLike", [_X], {}, np.ones((3, 4))),
    Case("OnesLike", [np.array([False, True])], {}, np.array([True, True])),
    Case("GuaranteeConst", [_X], {}, _X),
    Case("DeepCopy", [_X], {}, _X),
    Case("Empty", [_i32(2, 3)], {"dtype": "float32", "init": True}, np.zeros((2, 3))),
    Case("EnsureShape", [_X], {"shape": [None, 4]}, _X),
    # ---- joins
    Case("Concat", [np.int32(0), [_X, _Y]], {}, np.concatenate([_X, _Y])),
    Case("ConcatV2", [[_X, _Y], np.int32(0)], {}, np.concatenate([_X, _Y])),
    Case(
        "ConcatV2", [[_X, _X[:, :2], _X], np.int64(-1)], {}, np.concatenate([_X, _X[:, :2], _X], 1)
    ),
    Case("ConcatV2", [[_WORDS, _WORDS], np.int32(1)], {}, np.concatenate([_WORDS, _WORDS], 1)),
    Case(
        "ConcatOffset",
        [np.int32(1), [_i32(2, 3, 5), _i32(2, 7, 5), _i32(2, 1, 5)]],
        {},
        [_i32(0, 0, 0), _i32(0, 3, 0), _i32(0, 10, 0)],
    ),
    Case("Pack", [[_X, _X + 1]], {}, np.stack([_X, _X + 1])),
    Case("Pack", [[_X, _X + 1]], {"axis": -1}, np.stack([_X, _X + 1], -1)),
    Case("Pack", [[_WORDS, _WORDS]], {"axis": 1}, np.stack([_WORDS, _WORDS], 1)),
    Case("Unpack", [_X], {"num": 3}, list(_X)),
    Case("Unpack", [_X], {"num": 4, "axis": -1}, list(_X.T)),
    Case("Unpack", [_WORDS], {"num": 2}, list(_WORDS)),
    Case("ParallelConcat", [[_Y, _Y + 1]], {"shape": [2, 4]}, np.concatenate([_Y, _Y + 1])),
    Case("Split", [np.int32(1), _X], {"num_split": 2}, np.split(_X, 2, 1)),
    Case("Split", [np.int32(-2), _X], {"num_split": 3}, np.split(_X, 3)),
    Case("Split", [np.int32(0), _WORDS], {"num_split": 2}, np.split(_WORDS, 2)),
    Case(
        "SplitV",
        [_X, np.array([1, 3], np.int64), np.int32(1)],
        {"num_split": 2},
        np.split(_X, [1], 1),
    ),
    Case("SplitV", [_X, _i32(1, -1), np.int32(0)], {"num_split": 2}, np.split(_X, [1])),
    Case("SplitV", [_X, _i32(3), np.int32(0)], {"num_split": 1}, [_X]),
]
