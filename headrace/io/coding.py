"""Integers and strings as bytes: varints, and the order-keeping code of checkpoint keys."""

from __future__ import annotations

import re


class MalformedBytes(ValueError):
    """Bytes that no writer produces; the reader that knows the file turns it into DataLossError."""


def encode_varint(value: int) -> bytes:
    """Returns the unsigned `value`, seven bits a byte, low bits first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes | memoryview, position: int, limit: int) -> tuple[int, int]:
    """Returns the varint at `position` and the position after it.

    Raises MalformedBytes: it does not end before `limit`, or is over 64 bits.
    """
    value = shift = 0
    while position < limit:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
        shift += 7
        if shift > 63:
            break
    raise MalformedBytes("a varint is cut off or too long")


# The ordered code: encodings compare, byte by byte, as the values do.


def encode_ordered_string(value: bytes) -> bytes:
    """Returns `value` with 0x00 and 0xff escaped and the terminator 00 01."""
    escaped = re.sub(rb"[\x00\xff]", lambda m: m[0] + bytes([0xFF - m[0][0]]), value)
    return escaped + b"\x00\x01"


def encode_ordered_unsigned(value: int) -> bytes:
    """Returns `value` (64 bits) as a length byte and its big-endian bytes."""
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "big")


def encode_ordered_signed(value: int) -> bytes:
    """Returns `value` (64 bits): its length in unary in the high bits, then big-endian.

    A number of n bytes holds 7 n - 1 bits and a sign; the header is the sign bit inverted,
    followed by n - 1 more of the same and one of the other kind, laid over the sign extension.
    """
    bits = (~value if value < 0 else value).bit_length()
    length = min(bits // 7 + 1, 10)
    encoded = value % (1 << (8 * length))
    header = ((1 << length) - 1) << (7 * length)
    return (encoded ^ header).to_bytes(length, "big")


def decode_ordered_string(data: bytes, position: int) -> tuple[bytes, int]:
    """Returns the string at `position` and the position after its terminator."""
    value = bytearray()
    while position + 1 < len(data):
        byte, following = data[position], data[position + 1]
        if byte == 0x00 and following == 0x01:
            return bytes(value), position + 2
        if byte in (0x00, 0xFF):
            if following != 0xFF - byte:
                break
            position += 1
        value.append(byte)
        position += 1
    raise MalformedBytes("an ordered string is cut off or wrongly escaped")


def decode_ordered_unsigned(data: bytes, position: int) -> tuple[int, int]:
    """Returns the unsigned number at `position` and the position after it."""
    end = position + 1 + (data[position] if position < len(data) else 0)
    if position >= len(data) or end > len(data) or end - position > 9:
        raise MalformedBytes("an ordered number is cut off or too long")
    return int.from_bytes(data[position + 1 : end], "big"), end


def decode_ordered_signed(data: bytes, position: int) -> tuple[int, int]:
    """Returns the signed number at `position` and the position after it."""
    head = int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "big")
    negative = not head & 0x8000
    if negative:
        head ^= 0xFFFF
    length = 0
    while length < 16 and head & (0x8000 >> length):
        length += 1
    if length > 10 or position + length > len(data):
        raise MalformedBytes("an ordered number is cut off or too long")
    encoded = int.from_bytes(data[position : position + length], "big")
    header = ((1 << length) - 1) << (7 * length)
    value = encoded ^ header
    if negative:
        value -= 1 << (8 * length)
    return value, position + length
