"""The ops that write files and checkpoints, and what reading ones refuse."""

import numpy as np
import pytest

import headrace as tf
from headrace.graph import raw
from headrace.io import TensorSliceReader, open_checkpoint


@pytest.fixture
def run():
    with tf.Session() as sess:
        yield sess.run


def test_write_file(run, tmp_path):
    path = tmp_path / "a" / "b" / "c"
    for content in ("\u00e9", b"\x00\xff", ""):
        run(tf.io.write_file(str(path), content))
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
        assert run(tf.read_file(str(path))) == path.read_bytes()
    with pytest.raises(tf.errors.NotFoundError, match="ReadFile op 'ReadFile"):
        run(tf.io.read_file(str(tmp_path / "none")))
    assert run(tf.matching_files(str(tmp_path / "a" / "*" / "?"))).tolist() == [str(path).encode()]


@pytest.mark.parametrize("op", ["Save", "SaveSlices", "SaveV2"])
def test_save(run, tmp_path, op):
    prefix = str(tmp_path / "m")
    x, text = np.arange(6.0).reshape(2, 3), np.array(["a", "b"], object)
    if op == "Save":
        names, tensors, slices = ["x", "t"], [x, text], []
    else:
        names, tensors, slices = (
            ["x", "x", "t"],
            [x[:1], x[1:], text],
            [["2 3 0,1:-", "2 3 1,1:-", ""]],
        )
    run(getattr(raw, op)(prefix, names, *slices, tensors))
    with open_checkpoint(prefix) as reader:
        assert reader.keys() == ["t", "x"] and np.array_equal(reader.read("x"), x)
        assert reader.read("t").tolist() == [b"a", b"b"]
        assert isinstance(reader, TensorSliceReader) == (op != "SaveV2")


def test_merge(run, tmp_path):
    parts = [str(tmp_path / "m_temp" / f"part-{i}") for i in range(2)]
    for i, part in enumerate(parts):
        run(raw.SaveV2(part, [f"v{i}"], [""], [np.float32(i)]))
    run(raw.MergeV2Checkpoints(parts, str(tmp_path / "m")))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m.data-00000-of-00002",
        "m.data-00001-of-00002",
        "m.index",
    ]
    restored = raw.RestoreV2(str(tmp_path / "m"), ["v1", "v0"], ["", ""], dtypes=[tf.float32] * 2)
    assert run(restored) == [1.0, 0.0]


def test_refused(run, tmp_path):
    prefix = str(tmp_path / "m")
    run(raw.SaveV2(prefix, ["x"], [""], [np.zeros([3, 4], np.float32)]))

    def restore(name, spec, dtype=tf.float32):
        return raw.RestoreV2(prefix, [name], [spec], dtypes=[dtype])[0]

    for make, error, message in (
        (lambda: restore("y", ""), tf.errors.NotFoundError, "Key y not found"),
        (
            lambda: restore("x", "", tf.int32),
            tf.errors.InvalidArgumentError,
            "expected dtype int32",
        ),
        (
            lambda: restore("x", "4 4 0,1:-"),
            tf.errors.InvalidArgumentError,
            r"\[4, 4\] does not match",
        ),
        (
            lambda: raw.SaveV2(prefix, ["x"], ["3 4 0,2:-"], [np.zeros([3, 4])]),
            tf.errors.InvalidArgumentError,
            "does not match the shape of the tensor",
        ),
        (
            lambda: raw.StringJoin([tf.placeholder_with_default(["a", "b"], None), ["c"]]),
            tf.errors.InvalidArgumentError,
            "shapes do not match",
        ),
    ):
        op = make()
        with pytest.raises(error, match=message) as caught:
            run(op)
        assert caught.value.op is not None
    assert (
        restore("x", "3 4 0,1:-").shape.as_list() == [1, 4] and restore("x", "").shape.ndims is None
    )
    for bad in (
        lambda: restore("x", "3 4 0,9:-"),
        lambda: raw.RestoreV2(prefix, ["x", "y"], [""], dtypes=[tf.int32]),
    ):
        with pytest.raises(ValueError, match="RestoreV2"):
            bad()
