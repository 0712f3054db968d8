"""The values of summaries as TensorBoard takes them: histograms, pictures, sound."""

from __future__ import annotations

import functools
import io
import math
import struct
from typing import Any

import numpy as np

# ---- histograms


@functools.cache
def bucket_limits() -> np.ndarray:
    """The upper ends of the buckets: powers of 1.1 from 1e-12 to 1e20, of both signs, and the greatest double."""
    positive = []
    limit = 1e-12
    while limit < 1e20:
        positive.append(limit)
        limit *= 1.1
    largest = np.finfo(np.float64).max
    return np.array([-largest, *(-p for p in reversed(positive)), 0.0, *positive, largest])


def fill_histogram(proto: Any, values: np.ndarray) -> None:
    """Writes the histogram of `values` (flat, finite float64) to a HistogramProto; runs of empty buckets become one."""
    limits = bucket_limits()
    # A value that equals a limit belongs to the bucket above it.
    counts = np.bincount(np.searchsorted(limits, values, side="right"), minlength=limits.size)
    proto.min = float(values.min(initial=limits[-1]))
    proto.max = float(values.max(initial=-limits[-1]))
    proto.num, proto.sum = values.size, float(values.sum())
    proto.sum_squares = float(np.square(values).sum())
    filled = counts > 0
    # The last bucket of each run of empty ones stays, and so does every filled one.
    kept = filled | np.append(filled[1:], True)
    proto.bucket_limit.extend(limits[kept].tolist())
    proto.bucket.extend(counts[kept].astype(np.float64).tolist())


# ---- pictures

_SMALLEST_RANGE = 1e-6
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_uint8_image(image: np.ndarray, bad_color: np.ndarray) -> np.ndarray:
    """A picture of floats [height, width, channels] scaled to bytes; pixels that are not finite become `bad_color`.

    Without negative values the largest becomes 255; with them 0 becomes 128 and the largest magnitude lies 127 away.
    """
    finite = np.isfinite(image).all(axis=-1)
    pixels = image[finite].astype(np.float32)
    low, high = float(pixels.min(initial=math.inf)), float(pixels.max(initial=-math.inf))
    kind = image.dtype.type
    if low < 0:
        largest = max(abs(low), abs(high))
        scale, offset = (
            kind(0 if largest < _SMALLEST_RANGE else np.float32(127) / np.float32(largest)),
            kind(128),
        )
    else:
        scale, offset = (
            kind(0 if high < _SMALLEST_RANGE else np.float32(255) / np.float32(high)),
            kind(0),
        )
    out = np.empty(image.shape, np.uint8)
    out[finite] = (image[finite] * scale + offset).astype(np.uint8)
    out[~finite] = bad_color[: image.shape[-1]]
    return out


def encode_png(image: np.ndarray) -> bytes:
    """A picture of bytes [height, width, 1, 3 or 4] as PNG."""
    from PIL import Image

    channels = image.shape[-1]
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
    assert picture.mode == _MODES[channels]
    picture.save(buffer, "PNG")
    return buffer.getvalue()


# ---- sound

_BYTES_PER_SAMPLE = 2


def encode_wav(sound: np.ndarray, sample_rate: int) -> bytes:
    """Sound [frames, channels] of floats in [-1, 1) as a WAV file of 16 bits; what lies outside is clipped."""
    channels = sound.shape[1]
    samples = sound.astype(np.float32) * np.float32(1 << 15)
    # Halves are rounded away from zero; np.round takes them to even numbers.
    rounded = np.trunc(samples + np.copysign(np.float32(0.5), samples))
    data = np.clip(rounded, -(1 << 15), (1 << 15) - 1).astype("<i2").tobytes()
    bytes_per_frame = _BYTES_PER_SAMPLE * channels
    layout = struct.pack(
        "<HHIIHH",
        1,
        channels,
        sample_rate,
        sample_rate * bytes_per_frame,
        bytes_per_frame,
        8 * _BYTES_PER_SAMPLE,
    )
    body = (
        b"WAVE"
        + b"fmt "
        + struct.pack("<I", len(layout))
        + layout
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body
