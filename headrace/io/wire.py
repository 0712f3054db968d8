"""The little of the protocol buffer wire format that large arrays need.

A message with a tensor of a gigabyte is neither built nor parsed as a message: its fixed-width
numbers lie in it as one run of bytes, which NumPy writes and reads in place.
"""

from __future__ import annotations

from collections.abc import Iterator

from headrace.io.coding import MalformedBytes, decode_varint, encode_varint

_VARINT = 0
_FIXED64 = 1
_LENGTH_DELIMITED = 2
_FIXED32 = 5


def length_delimited(number: int, *pieces: bytes | memoryview) -> list[bytes | memoryview]:
    """Returns the pieces that make up field `number` with the content `pieces`."""
    head = encode_varint(number << 3 | _LENGTH_DELIMITED)
    return [head + encode_varint(sum(len(piece) for piece in pieces)), *pieces]


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yields the number of every field of `message`, and the content of length-delimited ones.

    Raises MalformedBytes: a field goes past the end, or is of a kind long out of use.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = decode_varint(message, position, end)
        number, wire_type = tag >> 3, tag & 7
        content = None
        if wire_type == _VARINT:
            _, position = decode_varint(message, position, end)
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        elif wire_type == _LENGTH_DELIMITED:
            length, position = decode_varint(message, position, end)
            content = message[position : position + length]
            position += length
        else:
            raise MalformedBytes(f"field {number} is of wire type {wire_type}")
        if position > end:
            raise MalformedBytes(f"field {number} goes past the end of its message")
        yield number, content
