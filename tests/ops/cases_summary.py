"""Rows for summaries; their values are compared with TensorFlow's bytes in `tests/summary`."""

from __future__ import annotations

import numpy as np
from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

from headrace.ops import summary_values
from tests.ops.case import Case

_PICTURE = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
_SOUND = np.array([[0.5, -0.25, 0.0]], np.float32)


def _summary(**fields):
    return np.array(summary_pb2.Summary(value=[fields]).SerializeToString(), dtype=object)


def _histogram(limits, buckets, **fields):
    return {"bucket_limit": limits, "bucket": buckets, **fields}


def _vector(*items, **fields):
    shape = {"dim": [{"size": len(items)}]}
    return tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=items)


_IMAGE = {"height": 2, "width": 2, "colorspace": 3}
_IMAGE["encoded_image_string"] = summary_values.encode_png(_PICTURE[0])
_AUDIO = {"sample_rate": 4.0, "num_channels": 1, "length_frames": 3, "content_type": "audio/wav"}
_AUDIO["encoded_audio_string"] = summary_values.encode_wav(_SOUND[0][:, None], 4)
_ZEROS = _histogram(
    [0.0, 1e-12, np.finfo(np.float64).max], [0.0, 2.0, 0.0], num=2.0, min=0.0, max=0.0
)
_METADATA = summary_pb2.SummaryMetadata(display_name="d")

CASES = [
    Case(
        "ScalarSummary", ["t", np.float64(0.1)], {}, _summary(tag="t", simple_value=np.float32(0.1))
    ),
    Case("ScalarSummary", [np.array(["t"]), np.int8([-3])], {}, _summary(tag="t", simple_value=-3)),
    Case(
        "HistogramSummary", ["h", np.zeros([2, 1], np.float32)], {}, _summary(tag="h", histo=_ZEROS)
    ),
    Case("ImageSummary", ["i", _PICTURE], {"max_images": 1}, _summary(tag="i/image", image=_IMAGE)),
    Case("ImageSummary", ["i", _PICTURE], {}, _summary(tag="i/image/0", image=_IMAGE)),
    Case(
        "AudioSummary", ["a", _SOUND], {"sample_rate": 4.0}, _summary(tag="a/audio/0", audio=_AUDIO)
    ),
    Case(
        "AudioSummaryV2",
        ["a", _SOUND[..., None], np.float32(4)],
        {"max_outputs": 1},
        _summary(tag="a/audio", audio=_AUDIO),
    ),
    Case(
        "TensorSummary",
        [np.array(["x", "y"])],
        {},
        _summary(node_name="TensorSummary", tensor=_vector(b"x", b"y")),
    ),
    Case(
        "TensorSummaryV2",
        ["t", np.array(["x"]), np.array(_METADATA.SerializeToString(), dtype=object)],
        {},
        _summary(tag="t", tensor=_vector(b"x"), metadata=_METADATA),
    ),
    Case(
        "MergeSummary",
        [
            [
                _summary(tag="a", simple_value=1),
                np.array([_summary(tag="b", simple_value=2).item()], object),
            ]
        ],
        {},
        np.array(
            _summary(tag="a", simple_value=1).item() + _summary(tag="b", simple_value=2).item(),
            dtype=object,
        ),
    ),
]
