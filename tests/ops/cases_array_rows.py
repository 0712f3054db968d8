"""Rows for ops that find rows by value, by number or by rank."""

import numpy as np

from tests.ops.case import Case

_X = np.array([[3.0, -1.0, 4.0, 1.0], [5.0, 9.0, -2.0, 6.0]], np.float32)
_LIST = np.array([7, 2, 7, 7, 5, 2])
_WORDS = np.array(["b", "a", "b", "c"])
_INF = np.inf


def _i32(*values):
    return np.array(values, np.int32)


def _i64(*values):
    return np.array(values, np.int64)


_TABLE = np.array([[1, 0, 1], [2, 2, 2], [1, 0, 1]], np.int32)
_SORTED = np.array([[1.0, 3.0, 3.0, 8.0], [0.0, 0.5, 2.0, 2.5]], np.float32)
_WANTED = np.array([[3.0, 0.0, 9.0], [0.5, 2.2, -1.0]], np.float32)


def _bounds(side):
    return np.stack([np.searchsorted(r, v, side) for r, v in zip(_SORTED, _WANTED)])


CASES = [
    Case("Where", [_X > 2], {}, np.argwhere(_X > 2), static=False),
    Case("Where", [_X[0] * 0], {}, np.zeros((0, 1)), static=False),
    Case("Unique", [_LIST], {}, [_i64(7, 2, 5), _i32(0, 1, 0, 0, 2, 1)], static=False),
    Case(
        "Unique",
        [_WORDS],
        {"out_idx": "int64"},
        [np.array(["b", "a", "c"]), _i64(0, 1, 0, 2)],
        static=False,
    ),
    Case("UniqueV2", [_TABLE, _i64(0)], {}, [_TABLE[:2], _i32(0, 1, 0)], static=False),
    Case("UniqueV2", [_TABLE, _i32(1)], {}, [_TABLE[:, :2], _i32(0, 1, 0)], static=False),
    Case("UniqueV2", [_LIST, _i64()], {}, [_i64(7, 2, 5), _i32(0, 1, 0, 0, 2, 1)], static=False),
    Case(
        "UniqueWithCounts",
        [_LIST],
        {},
        [_i64(7, 2, 5), _i32(0, 1, 0, 0, 2, 1), _i32(3, 2, 1)],
        static=False,
    ),
    Case(
        "UniqueWithCountsV2",
        [_TABLE, _i64(0)],
        {},
        [_TABLE[:2], _i32(0, 1, 0), _i32(2, 1)],
        static=False,
    ),
    Case("ListDiff", [_LIST, _i64(7, 1)], {}, [_i64(2, 5, 2), _i32(1, 4, 5)], static=False),
    Case(
        "ListDiff",
        [_WORDS, np.array(["b"])],
        {"out_idx": "int64"},
        [np.array(["a", "c"]), _i64(1, 3)],
        static=False,
    ),
    Case(
        "DynamicPartition",
        [_X, _i32(1, 0)],
        {"num_partitions": 3},
        [_X[1:], _X[:1], _X[:0]],
        static=False,
        grad=False,
    ),
    Case(
        "DynamicPartition",
        [_WORDS, _i32(1, 0, 1, 0)],
        {"num_partitions": 2},
        [_WORDS[[1, 3]], _WORDS[[0, 2]]],
        static=False,
    ),
    Case(
        "DynamicStitch",
        [[_i32(2, 0), np.int32(1)], [_X, _X[0] + 1]],
        {},
        np.stack([_X[1], _X[0] + 1, _X[0]]),
        static=False,
        grad=False,
    ),
    Case(
        "ParallelDynamicStitch",
        [[_i32(1, 0), _i32(0, 3)], [_X[0, :2], _X[1, :2]]],
        {},
        np.array([5, 3, 0, 9], np.float32),
        static=False,
        grad=False,
    ),
    Case(
        "OneHot",
        [_i64(1, -1, 2), np.int32(3), np.float32(1), np.float32(0)],
        {},
        np.eye(3)[[1, 0, 2]] * [[1], [0], [1]],
    ),
    Case(
        "OneHot",
        [_i32(0, 2), np.int32(3), np.array("on"), np.array("off")],
        {"axis": 0},
        np.array([["on", "off"], ["off", "off"], ["off", "on"]]),
    ),
    Case(
        "OneHot",
        [np.array([[200]], np.uint8), np.int32(201), np.int32(5), np.int32(-1)],
        {"axis": 1},
        np.where(np.arange(201) == 200, 5, -1).reshape(1, 201, 1),
    ),
    # ---- ranks
    Case("TopK", [_X], {"k": 2}, [np.array([[4, 3], [9, 6]]), np.array([[2, 0], [1, 3]])]),
    Case(
        "TopKV2",
        [_X, np.int32(3)],
        {},
        [np.array([[4, 3, 1], [9, 6, 5]]), np.array([[2, 0, 3], [1, 3, 0]])],
    ),
    Case("TopKV2", [_i32(2, 5, 5, 2, 5), np.int32(4)], {}, [_i32(5, 5, 5, 2), _i32(1, 2, 4, 0)]),
    Case("InTopK", [_X, _i32(0, 2)], {"k": 2}, np.array([True, False])),
    Case(
        "InTopKV2",
        [
            np.array([[1, 1, 0], [1, _INF, 0], [1, 2, 3], [1, 2, 3]], np.float32),
            _i64(1, 0, 3, 1),
            np.int64(2),
        ],
        {},
        np.array([True, False, False, True]),
    ),
    Case("NthElement", [_X, np.int32(1)], {}, np.array([1, 5])),
    Case("NthElement", [_X, np.int32(0)], {"reverse": True}, np.array([4, 9])),
    Case("LowerBound", [_SORTED, _WANTED], {}, _bounds("left")),
    Case("UpperBound", [_SORTED, _WANTED], {"out_type": "int64"}, _bounds("right")),
    Case(
        "EditDistance",
        [
            np.array([[0, 0], [1, 0], [1, 1]]),
            np.array(["a", "b", "c"]),
            _i64(3, 2),
            np.array([[1, 0], [2, 0], [2, 1]]),
            np.array(["c", "x", "y"]),
            _i64(3, 2),
        ],
        {},
        np.array([_INF, 1.0, 1.0]),
        static=False,
    ),
    Case(
        "EditDistance",
        [
            np.array([[0], [1]]),
            _i64(1, 2),
            _i64(2),
            np.array([[0], [1], [2]]),
            _i64(1, 3, 2),
            _i64(3),
        ],
        {"normalize": False},
        np.array(1.0),
        static=False,
    ),
]
