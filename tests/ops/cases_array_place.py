"""Rows for padding, tiling and turning, blocks of space, patches, and diagonals."""

import numpy as np

from tests.ops.case import Case

_X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
_WORDS = np.array(["a", "bc", ""])
_IMAGES = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3) / 10
_DEEP = np.arange(2 * 2 * 3 * 12, dtype=np.float32).reshape(2, 2, 3, 12) / 10
_NO = np.zeros((2, 2), np.int32)


def _i32(*values):
    return np.array(values, np.int32)


def _pads(*rows):
    return np.array(rows, np.int32)


def _mirror_grad(dy, paddings, mode):
    """dy summed over the places where an element was repeated."""
    dims = [d - b - a for d, (b, a) in zip(dy.shape, paddings)]
    where = np.pad(np.arange(np.prod(dims)).reshape(dims), paddings, mode=mode)
    total = np.zeros(np.prod(dims), np.float32)
    np.add.at(total, where.reshape(-1), dy.reshape(-1))
    return total.reshape(dims)


def _reversed_sequences(x, lengths, seq, batch):
    y = np.moveaxis(x, [batch, seq], [0, 1]).copy()
    for row, n in zip(y, lengths):
        row[:n] = row[:n][::-1].copy()
    return np.moveaxis(y, [0, 1], [batch, seq])


def _space_to_depth(x, block):
    n, h, w, c = x.shape
    x = x.reshape(n, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // block, w // block, block * block * c)


def _depth_to_space(x, block):
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, block, block, c // block**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * block, w * block, c // block**2)


def _space_to_batch(x, block):
    """Every block-th pixel from each place within the block, one batch for each."""
    return np.concatenate([x[:, i::block, j::block] for i in range(block) for j in range(block)])


def _nchw(x):
    return x.transpose(0, 3, 1, 2)


def _vect(x):
    n, h, w, c = x.shape
    return x.reshape(n, h, w, c // 4, 4).transpose(0, 3, 1, 2, 4)


def _image_patches(x, size, stride, rate, pad):
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)])
    reach = (size - 1) * rate + 1
    rows = range(0, x.shape[1] - reach + 1, stride)
    columns = range(0, x.shape[2] - reach + 1, stride)

    def flat(i, j):
        return x[:, i : i + reach : rate, j : j + reach : rate].reshape(len(x), -1)

    return np.stack([np.stack([flat(i, j) for j in columns], 1) for i in rows], 1)


def _diagonal(x, k):
    return np.stack([np.diagonal(m, k) for m in x])


_SQUARE = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3)
_WIDE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
_BAND = np.array([[[8.0, 9.0, 0.0], [1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]], np.float32)
_TRIDIAGONAL = np.array([[[1.0, 8.0, 0.0], [4.0, 2.0, 9.0], [0.0, 5.0, 3.0]]], np.float32)

CASES = [
    Case("Pad", [_X, _pads([1, 0], [0, 2])], {}, np.pad(_X, [(1, 0), (0, 2)])),
    Case("Pad", [_WORDS, _pads([1, 1])], {}, np.array(["", "a", "bc", "", ""])),
    Case(
        "PadV2",
        [_X, _pads([1, 0], [0, 2]).astype(np.int64), np.float32(7)],
        {},
        np.pad(_X, [(1, 0), (0, 2)], constant_values=7),
        grad=(0,),
    ),
    Case(
        "MirrorPad",
        [_X, _pads([2, 1], [0, 3])],
        {"mode": "REFLECT"},
        np.pad(_X, [(2, 1), (0, 3)], "reflect"),
    ),
    Case(
        "MirrorPad",
        [_X, _pads([3, 1], [0, 4])],
        {"mode": "SYMMETRIC"},
        np.pad(_X, [(3, 1), (0, 4)], "symmetric"),
    ),
    Case(
        "MirrorPad",
        [_WORDS, _pads([2, 0])],
        {"mode": "SYMMETRIC"},
        np.array(["bc", "a", "a", "bc", ""]),
    ),
    Case(
        "MirrorPadGrad",
        [_X, _pads([1, 0], [1, 1])],
        {"mode": "SYMMETRIC"},
        _mirror_grad(_X, [(1, 0), (1, 1)], "symmetric"),
    ),
    Case(
        "MirrorPadGrad",
        [_IMAGES[0, :, :, 0], _pads([1, 1], [2, 0]).astype(np.int64)],
        {"mode": "REFLECT"},
        _mirror_grad(_IMAGES[0, :, :, 0], [(1, 1), (2, 0)], "reflect"),
    ),
    Case("Tile", [_X, _i32(2, 3)], {}, np.tile(_X, (2, 3))),
    Case("Tile", [_X, np.array([1, 0], np.int64)], {}, np.zeros((3, 0))),
    Case("Tile", [_WORDS, _i32(2)], {}, np.tile(_WORDS, 2)),
    Case("TileGrad", [_X, _i32(3, 2)], {}, _X.reshape(3, 1, 2, 2).sum((0, 2))),
    Case("Reverse", [_X, np.array([False, True])], {}, _X[:, ::-1]),
    Case("ReverseV2", [_X, _i32(-1, 0)], {}, _X[::-1, ::-1]),
    Case("ReverseV2", [_WORDS, _i32(0)], {}, _WORDS[::-1]),
    Case(
        "ReverseSequence",
        [_X, np.array([2, 0, 4])],
        {"seq_dim": 1},
        _reversed_sequences(_X, [2, 0, 4], 1, 0),
    ),
    Case(
        "ReverseSequence",
        [_WIDE, _i32(1, 2, 0, 2)],
        {"seq_dim": 0, "batch_dim": 2},
        _reversed_sequences(_WIDE, [1, 2, 0, 2], 0, 2),
    ),
    Case("Roll", [_X, _i32(1, -2), _i32(0, 1)], {}, np.roll(_X, (1, -2), (0, 1))),
    Case("Roll", [_X, np.int64(5), np.int32(-1)], {}, np.roll(_X, 5, -1)),
    # ---- blocks of space
    Case("SpaceToBatchND", [_IMAGES, _i32(2, 2), _NO], {}, _space_to_batch(_IMAGES, 2)),
    Case(
        "SpaceToBatchND",
        [_IMAGES, _i32(2, 3), _pads([1, 1], [0, 3])],
        {},
        lambda x, block, pads: np.concatenate(
            [
                np.pad(x, [(0, 0), (1, 1), (0, 3), (0, 0)])[:, i::2, j::3]
                for i in range(2)
                for j in range(3)
            ]
        ),
    ),
    Case("SpaceToBatch", [_IMAGES, _NO], {"block_size": 2}, _space_to_batch(_IMAGES, 2)),
    Case("BatchToSpaceND", [_space_to_batch(_IMAGES, 2), _i32(2, 2), _NO], {}, _IMAGES),
    Case(
        "BatchToSpaceND",
        [_space_to_batch(_IMAGES, 2), _i32(2, 2), _pads([1, 0], [2, 1])],
        {},
        _IMAGES[:, 1:, 2:5],
    ),
    Case(
        "BatchToSpace",
        [_space_to_batch(_IMAGES, 2), _pads([0, 1], [0, 0])],
        {"block_size": 2},
        _IMAGES[:, :3],
    ),
    Case("SpaceToDepth", [_IMAGES], {"block_size": 2}, _space_to_depth(_IMAGES, 2)),
    Case(
        "SpaceToDepth",
        [_nchw(_IMAGES)],
        {"block_size": 2, "data_format": "NCHW"},
        _nchw(_space_to_depth(_IMAGES, 2)),
    ),
    Case("DepthToSpace", [_DEEP], {"block_size": 2}, _depth_to_space(_DEEP, 2)),
    Case(
        "DepthToSpace",
        [_vect(np.tile(_DEEP, 4))],
        {"block_size": 2, "data_format": "NCHW_VECT_C"},
        _vect(_depth_to_space(np.tile(_DEEP, 4), 2)),
    ),
    # ---- patches
    Case(
        "ExtractImagePatches",
        [_IMAGES],
        {
            "ksizes": [1, 2, 2, 1],
            "strides": [1, 2, 2, 1],
            "rates": [1, 1, 1, 1],
            "padding": "VALID",
        },
        _image_patches(_IMAGES, 2, 2, 1, (0, 0)),
    ),
    Case(
        "ExtractImagePatches",
        [_IMAGES],
        {"ksizes": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "rates": [1, 2, 2, 1], "padding": "SAME"},
        _image_patches(_IMAGES, 2, 1, 2, (1, 1)),
    ),
    Case(
        "ExtractVolumePatches",
        [_IMAGES[:, :2, :2, :, None]],
        {"ksizes": [1, 2, 2, 2, 1], "strides": [1, 1, 1, 1, 1], "padding": "VALID"},
        lambda x: np.stack([x[:, :2, :2, k : k + 2].reshape(2, 8) for k in range(2)], 1)[
            :, None, None
        ],
    ),
    # ---- diagonals
    Case("Diag", [_X[:2]], {}, np.diag(_X[:2].reshape(-1)).reshape(2, 4, 2, 4)),
    Case(
        "DiagPart",
        [np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)],
        {},
        np.array([[0, 5], [10, 15]]),
    ),
    Case("MatrixDiag", [_X], {}, np.stack([np.diag(r) for r in _X])),
    Case("BatchMatrixDiag", [_X], {}, np.stack([np.diag(r) for r in _X])),
    Case("MatrixDiagPart", [_WIDE], {}, _diagonal(_WIDE, 0)),
    Case("MatrixDiagPart", [_SQUARE], {}, _diagonal(_SQUARE, 0)),
    Case("BatchMatrixDiagPart", [_SQUARE], {}, _diagonal(_SQUARE, 0)),
    Case(
        "MatrixSetDiag",
        [_WIDE, np.ones((2, 3), np.float32)],
        {},
        lambda x, d: np.where(np.eye(3, 4, dtype=bool), d[..., None], x),
    ),
    Case(
        "MatrixSetDiag",
        [_X.T, np.ones(3, np.float32)],
        {},
        lambda x, d: np.where(np.eye(4, 3, dtype=bool), 1, x),
    ),
    Case(
        "BatchMatrixSetDiag", [_SQUARE, np.zeros((1, 3), np.float32)], {}, _SQUARE * (1 - np.eye(3))
    ),
    Case("MatrixBandPart", [_WIDE, np.int64(1), np.int64(-1)], {}, np.triu(_WIDE, -1)),
    Case("MatrixBandPart", [_WIDE, np.int32(0), np.int32(2)], {}, np.triu(np.tril(_WIDE, 2))),
    Case("BatchMatrixBandPart", [_WIDE, np.int64(-1), np.int64(0)], {}, np.tril(_WIDE)),
    Case(
        "MatrixDiagV2",
        [_BAND, _i32(-1, 1), np.int32(-1), np.int32(-1), np.float32(0)],
        {},
        _TRIDIAGONAL,
        grad=(0,),
    ),
    Case(
        "MatrixDiagV2",
        [_X[0, :2], np.int32(1), np.int32(2), np.int32(4), np.float32(9)],
        {},
        np.array([[9, -5, 9, 9], [9, 9, -4, 9]]),
        grad=(0,),
    ),
    Case("MatrixDiagPartV2", [_TRIDIAGONAL, _i32(-1, 1), np.float32(0)], {}, _BAND, grad=(0,)),
    Case(
        "MatrixDiagPartV2",
        [_WIDE, np.int32(-1), np.float32(0)],
        {},
        _diagonal(_WIDE, -1),
        grad=(0,),
    ),
    Case("MatrixSetDiagV2", [0 * _TRIDIAGONAL, _BAND, _i32(-1, 1)], {}, _TRIDIAGONAL),
]
