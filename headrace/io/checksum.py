"""CRC-32C, plain and in the masked form that TensorFlow's files store."""

from __future__ import annotations

import google_crc32c
import numpy as np

# A checksum of data that holds its own checksum is weak; files therefore store it
# rotated and with this added.
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview | np.ndarray, crc: int = 0) -> int:
    """Returns the CRC-32C of `data`, going on from `crc`."""
    if not isinstance(data, bytes):
        # The library takes bytes and read-only arrays; this makes one without a copy.
        data = np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)
        data.flags.writeable = False
    return google_crc32c.extend(crc, data)


def mask(crc: int) -> int:
    """Returns the stored form of `crc`."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """Returns the CRC-32C whose stored form is `masked`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of `data` in its stored form."""
    return mask(crc32c(data))
