"""Summaries: TensorFlow's own bytes for the same program, and what is refused."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headrace as tf
from tests.summary import summary_cases

STORED = json.loads((Path(__file__).resolve().parents[1] / "data" / "summaries.json").read_text())


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_against_tensorflow():
    summaries = summary_cases.build(tf)
    with tf.Session() as sess:
        values = sess.run(summaries)
    assert values.keys() == STORED.keys()
    for name, (node, op_type, stored) in STORED.items():
        op = summaries[name].op
        assert (op.name, op.type) == (node, op_type)
        assert summaries[name].shape.as_list() == []
        own, expected = (tf.Summary.FromString(b) for b in (values[name], base64.b64decode(stored)))
        assert len(own.value) == len(expected.value), name
        for a, b in zip(own.value, expected.value, strict=True):
            if a.HasField("image"):
                # Another compressor, the same picture.
                assert np.array_equal(
                    pixels(a.image.encoded_image_string), pixels(b.image.encoded_image_string)
                ), name
                a.image.ClearField("encoded_image_string")
                b.image.ClearField("encoded_image_string")
            if a.HasField("histo"):
                # TensorFlow adds one value after the other; the order shows in the last bits.
                for field in ("sum", "sum_squares"):
                    assert np.isclose(
                        getattr(a.histo, field), getattr(b.histo, field), rtol=1e-13
                    ), name
                    a.histo.ClearField(field)
                    b.histo.ClearField(field)
            assert a == b, name
    keys = tf.get_collection(tf.GraphKeys.SUMMARIES)
    assert keys == [s for name, s in summaries.items() if name != "merged"]


def test_collections_and_merge_all():
    one = tf.summary.scalar("one", 1.0)
    two = tf.summary.histogram("scope/two", [1.0], collections=["mine", "ours"])
    assert list(tf.summary.merge_all().op.inputs) == [one]
    assert list(tf.summary.merge_all("mine").op.inputs) == [two] == tf.get_collection("ours")
    assert tf.summary.merge_all("nobody's") is None and tf.summary.merge_all(scope="scope") is None
    assert list(tf.summary.merge_all(key="ours", scope="scope", name="all").op.inputs) == [two]
    with (
        tf.Session() as sess,
        pytest.raises(tf.errors.InvalidArgumentError, match="Duplicate tag one"),
    ):
        sess.run(tf.summary.merge([one, one]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.summary.histogram("h", [1.0, np.nan]), "Nan in summary histogram for: h"),
        (lambda: tf.summary.histogram("h", [np.inf]), "Infinity in summary histogram for: h"),
        (
            lambda: tf.summary.scalar("s", [1.0, 2.0]),
            r"not the same shape: \[\] != \[2\] \(tag 's'\)",
        ),
        (lambda: tf.summary.image("i", np.zeros([2, 3, 3], "f")), "Tensor must be 4-D"),
        (lambda: tf.summary.image("i", np.zeros([1, 3, 3, 2], "f")), "last dim 1, 3, or 4"),
        (lambda: tf.summary.image("i", np.zeros([1, 0, 3, 3], "f")), "non-zero"),
        (lambda: tf.summary.audio("a", np.zeros([1, 1, 1, 1], "f"), 1.0), "3-D or 2-D"),
        (lambda: tf.summary.audio("a", np.zeros([1, 4], "f"), 0.0), "sample_rate"),
        (lambda: tf.summary.merge([tf.constant("\xff no summary")]), "Could not parse"),
    ],
)
def test_refused(make, message):
    summary = make()
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match=message):
        sess.run(summary)


def test_descriptions_and_text():
    with pytest.raises(ValueError, match="dtype string"):
        tf.summary.text("t", tf.constant(1))
    node = tf.NodeDef(op="TensorSummary")
    node.attr["description"].s = b'{"typeHint": "scalar"}'
    assert tf.summary.get_summary_description(node) == tf.summary.SummaryDescription(
        type_hint="scalar"
    )
    with pytest.raises(ValueError, match="Const"):
        tf.summary.get_summary_description(tf.NodeDef(op="Const"))
