"""Summaries: ops that turn values into serialized `Summary` messages for TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorboard.compat.proto import summary_pb2

from headrace.core import dtypes
from headrace.graph import shapes
from headrace.graph.op_def import define
from headrace.ops import summary_values


def _serialized(summary: Any) -> np.ndarray:
    return np.array(summary.SerializeToString(), dtype=object)


def _is_like_scalar(array: np.ndarray) -> bool:
    """TensorFlow takes a vector of one element wherever these ops want a scalar."""
    return array.shape in ((), (1,))


def _tag(op: Any, array: np.ndarray) -> str:
    if not _is_like_scalar(array):
        raise op.invalid(f"tag must be a scalar, got a tensor of shape {list(array.shape)}")
    return _text(array.reshape(-1)[0])


def _text(tag: bytes) -> str:
    return tag.decode("utf-8", "replace")


# ---- ScalarSummary

scalar_summary = define(
    "ScalarSummary", "tags: string, values: T -> summary: string", "T: {real}", host_only=True
)
scalar_summary.shape(shapes.scalar)


@scalar_summary.host
def _scalar_summary_host(op, tags, values):
    if tags.shape != values.shape and not (_is_like_scalar(tags) and _is_like_scalar(values)):
        only = f" (tag '{_text(tags.item())}')" if tags.size == 1 else ""
        raise op.invalid(
            f"tags and values not the same shape: {list(tags.shape)} != {list(values.shape)}{only}"
        )
    summary = summary_pb2.Summary()
    for tag, value in zip(tags.reshape(-1).tolist(), values.reshape(-1), strict=True):
        summary.value.add(tag=_text(tag), simple_value=float(np.float32(value)))
    return _serialized(summary)


scalar_summary.not_differentiable()

# ---- HistogramSummary

histogram_summary = define(
    "HistogramSummary",
    "tag: string, values: T -> summary: string",
    "T: {real} = float",
    host_only=True,
)
histogram_summary.shape(shapes.scalar)


@histogram_summary.host
def _histogram_summary_host(op, tag, values):
    flat = values.reshape(-1).astype(np.float64)
    finite = np.isfinite(flat)
    if not finite.all():
        first = flat[np.argmin(finite)]
        raise op.invalid(
            f"{'Nan' if np.isnan(first) else 'Infinity'} in summary histogram for: {op.name}"
        )
    summary = summary_pb2.Summary()
    summary_values.fill_histogram(summary.value.add(tag=_tag(op, tag)).histo, flat)
    return _serialized(summary)


histogram_summary.not_differentiable()

# ---- ImageSummary

image_summary = define(
    "ImageSummary",
    "tag: string, tensor: T -> summary: string",
    "max_images: int >= 1 = 3, T: {uint8, float, half, double} = float, bad_color: tensor = uint8[255, 0, 0, 255]",
    host_only=True,
)
image_summary.shape(shapes.scalar)

_MOST_PIXELS = 1 << 29


@image_summary.host
def _image_summary_host(op, tag, tensor):
    if tensor.ndim != 4 or tensor.shape[3] not in (1, 3, 4):
        raise op.invalid(f"Tensor must be 4-D with last dim 1, 3, or 4, not {list(tensor.shape)}")
    _, height, width, channels = tensor.shape
    if height * width >= _MOST_PIXELS:
        raise op.invalid(f"Tensor too large for summary {list(tensor.shape)}")
    if not height * width:
        raise op.invalid(f"input tensor must have non-zero dims. Found: {list(tensor.shape)}.")
    bad_color = op.attr("bad_color").array
    if bad_color.dtype != np.uint8 or bad_color.ndim != 1:
        raise op.invalid(
            f"bad_color must be a vector of uint8, got {bad_color.dtype} of shape {list(bad_color.shape)}"
        )
    if tensor.dtype != np.uint8 and bad_color.size < channels:
        raise op.invalid(
            f"expected depth <= bad_color.size, got depth = {channels}, bad_color.size = {bad_color.size}"
        )
    summary, base, count = summary_pb2.Summary(), _tag(op, tag), op.attr("max_images")
    for i, image in enumerate(tensor[:count]):
        value = summary.value.add(tag=f"{base}/image/{i}" if count > 1 else f"{base}/image")
        value.image.height, value.image.width, value.image.colorspace = height, width, channels
        pixels = (
            image if image.dtype == np.uint8 else summary_values.to_uint8_image(image, bad_color)
        )
        value.image.encoded_image_string = summary_values.encode_png(pixels)
    return _serialized(summary)


image_summary.not_differentiable()

# ---- AudioSummary, AudioSummaryV2: the sample rate as an attr, and as an input

audio_summary = define(
    "AudioSummary",
    "tag: string, tensor: float -> summary: string",
    "sample_rate: float, max_outputs: int >= 1 = 3",
    host_only=True,
)
audio_summary.shape(shapes.scalar)


def _audio(op: Any, tag: np.ndarray, tensor: np.ndarray, sample_rate: float) -> np.ndarray:
    if tensor.ndim not in (2, 3):
        raise op.invalid(f"Tensor must be 3-D or 2-D, got: {list(tensor.shape)}")
    if not sample_rate > 0:
        raise op.invalid(f"sample_rate must be > 0, got {sample_rate}")
    sounds = tensor[..., None] if tensor.ndim == 2 else tensor
    _, frames, channels = sounds.shape
    if not frames or not 0 < channels < 1 << 16:
        raise op.invalid(
            f"needs at least one frame and 1 to 65535 channels, got {list(tensor.shape)}"
        )
    summary, base, count = summary_pb2.Summary(), _tag(op, tag), op.attr("max_outputs")
    for i, sound in enumerate(sounds[:count]):
        value = summary.value.add(tag=f"{base}/audio/{i}" if count > 1 else f"{base}/audio")
        value.audio.sample_rate, value.audio.num_channels = sample_rate, channels
        value.audio.length_frames, value.audio.content_type = frames, "audio/wav"
        value.audio.encoded_audio_string = summary_values.encode_wav(
            sound, max(1, round(sample_rate))
        )
    return _serialized(summary)


@audio_summary.host
def _audio_summary_host(op, tag, tensor):
    return _audio(op, tag, tensor, op.attr("sample_rate"))


audio_summary.not_differentiable()

audio_summary_v2 = define(
    "AudioSummaryV2",
    "tag: string, tensor: float, sample_rate: float -> summary: string",
    "max_outputs: int >= 1 = 3",
    host_only=True,
)
audio_summary_v2.shape(shapes.scalar)


@audio_summary_v2.host
def _audio_summary_v2_host(op, tag, tensor, sample_rate):
    return _audio(op, tag, tensor, float(sample_rate))


audio_summary_v2.not_differentiable()

# ---- TensorSummary, TensorSummaryV2


def _fill_tensor(proto: Any, array: np.ndarray, dtype: dtypes.DType) -> None:
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == dtypes.string:
        proto.string_val.extend(array.reshape(-1).tolist())
    else:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()


tensor_summary = define(
    "TensorSummary",
    "tensor: T -> summary: string",
    "T: type, description: string = '', labels: list(string) = [], display_name: string = ''",
    host_only=True,
)
tensor_summary.shape(shapes.scalar)


@tensor_summary.host
def _tensor_summary_host(op, tensor):
    summary = summary_pb2.Summary()
    _fill_tensor(summary.value.add(node_name=op.name).tensor, tensor, op.attr("T"))
    return _serialized(summary)


tensor_summary.not_differentiable()

tensor_summary_v2 = define(
    "TensorSummaryV2",
    "tag: string, tensor: T, serialized_summary_metadata: string -> summary: string",
    "T: type",
    host_only=True,
)
tensor_summary_v2.shape(shapes.scalar)


@tensor_summary_v2.host
def _tensor_summary_v2_host(op, tag, tensor, serialized_summary_metadata):
    summary = summary_pb2.Summary()
    value = summary.value.add(tag=_tag(op, tag))
    _fill_tensor(value.tensor, tensor, op.attr("T"))
    value.metadata.ParseFromString(serialized_summary_metadata.item())
    return _serialized(summary)


tensor_summary_v2.not_differentiable()

# ---- MergeSummary

merge_summary = define(
    "MergeSummary", "inputs: N*string -> summary: string", "N: int >= 1", host_only=True
)
merge_summary.shape(shapes.scalar)


@merge_summary.host
def _merge_summary_host(op, inputs):
    from google.protobuf.message import DecodeError

    merged, tags = summary_pb2.Summary(), set()
    for text in (item for array in inputs for item in array.reshape(-1).tolist()):
        try:
            values = summary_pb2.Summary.FromString(text).value
        except DecodeError:
            raise op.invalid("Could not parse one of the summary inputs") from None
        for value in values:
            if value.tag and value.tag in tags:
                raise op.invalid(f"Duplicate tag {value.tag} found in summary inputs")
            tags.add(value.tag)
            merged.value.append(value)
    return _serialized(merged)


merge_summary.not_differentiable()
