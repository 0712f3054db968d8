"""Rows for checkpoints and files (those that read), and for joining strings. What writes is in `test_files.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import headrace as tf
from tests.ops.case import Case
from tests.train import saver_cases

_SAVED = Path(__file__).resolve().parents[1] / "data" / "saver"
_V2, _V1 = str(_SAVED / "v2" / "model-7"), str(_SAVED / "v1" / "model-7")
_PARTS = saver_cases.pattern("float32", [5, 4], 8)
_HALVES = saver_cases.pattern("float16", [5], 0)


def _text(value):
    return np.array(value, dtype=object)


def _restore(prefix, names, slices, expected, dtypes):
    return Case(
        "RestoreV2",
        [_text(prefix), _text(names), _text(slices)],
        {"dtypes": dtypes},
        expected,
        static=False,
    )


CASES = [
    Case("StringJoin", [["a", "b", "c"]], {}, b"abc"),
    Case(
        "StringJoin",
        [["a", ["x", "y"], "", ["1", "2"]]],
        {"separator": "-"},
        _text(["a-x--1", "a-y--2"]),
    ),
    Case("StringJoin", [[[["\u00e9"]]]], {}, _text([["\u00e9".encode()]])),
    Case("ShardedFilename", ["dir/m", np.int32(4), np.int32(100)], {}, "dir/m-00004-of-00100"),
    Case("ShardedFilespec", ["m", np.int32(7)], {}, "m-?????-of-00007"),
    Case(
        "ReadFile",
        [str(_SAVED / "v2" / "checkpoint")],
        {},
        _text((_SAVED / "v2" / "checkpoint").read_bytes()),
    ),
    Case(
        "MatchingFiles",
        [_text([str(_SAVED / "[sv]*" / "*-7.index"), str(_SAVED / "v1" / "model-?")])],
        {},
        _text([str(_SAVED / "sharded" / "model-7.index"), _V1, _V2 + ".index"]),
        static=False,
    ),
    _restore(
        _V2,
        ["types/float16", "cut/parts", "text"],
        ["", "5 4 1,3:-", ""],
        [_HALVES, _PARTS[1:4], _text([[b"", b"a\x00b"], [b"\xff", b"x" * 300]])],
        [tf.float16, tf.float32, tf.string],
    ),
    _restore(_V2, ["cut/parts"], ["5 4 2,3:1,2"], [_PARTS[2:, 1:3]], [tf.float32]),
    _restore(
        _V1, ["types/float16", "cut/parts"], ["", ""], [_HALVES, _PARTS], [tf.float16, tf.float32]
    ),
    Case("Restore", [_V1, "cut/parts"], {"dt": tf.float32}, _PARTS, static=False),
    Case(
        "RestoreSlice",
        [_V1, "cut/parts", "5 4 2,2:-"],
        {"dt": tf.float32},
        _PARTS[2:4],
        static=False,
    ),
    Case("RestoreSlice", [_V1, "scalar", ""], {"dt": tf.float32}, np.float32(0.75), static=False),
]
