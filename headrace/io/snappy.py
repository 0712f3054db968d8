"""The reading half of the Snappy block format, for tables that other writers compressed."""

from __future__ import annotations

from headrace.io.coding import MalformedBytes, decode_varint

# No element of the format yields more than 64 bytes, and none is shorter than 2 bytes
# (copies) or yields more than it stores (literals): a longer claim is false.
_MAX_EXPANSION = 32


def decompress(data: bytes) -> bytes:
    """Returns the bytes that the Snappy block `data` stands for.

    Raises MalformedBytes: a length, an offset or a tag that no compressor writes.
    """
    length, position = decode_varint(data, 0, min(len(data), 5))
    if length > _MAX_EXPANSION * len(data):
        raise MalformedBytes(f"{len(data)} compressed bytes cannot stand for {length}")
    output = bytearray()
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        kind = tag & 3
        if kind == 0:
            count = (tag >> 2) + 1
            if count > 60:
                width = count - 60
                count = int.from_bytes(_take(data, position, width), "little") + 1
                position += width
            if len(output) + count > length:
                raise MalformedBytes("a literal goes past the stated length")
            output += _take(data, position, count)
            position += count
            continue
        if kind == 1:
            count = (tag >> 2 & 7) + 4
            offset = (tag >> 5) << 8 | _take(data, position, 1)[0]
            position += 1
        else:
            width = 2 if kind == 2 else 4
            count = (tag >> 2) + 1
            offset = int.from_bytes(_take(data, position, width), "little")
            position += width
        if not 0 < offset <= len(output) or len(output) + count > length:
            raise MalformedBytes("a copy refers to bytes outside the block")
        start = len(output) - offset
        # A copy may overlap what it writes: a short offset repeats its bytes.
        piece = output[start : start + count]
        output += (piece * (count // len(piece) + 1))[:count]
    if len(output) != length:
        raise MalformedBytes(f"stated length {length}, but the block holds {len(output)}")
    return bytes(output)


def _take(data: bytes, position: int, count: int) -> bytes:
    piece = data[position : position + count]
    if len(piece) != count:
        raise MalformedBytes("the block is cut off")
    return piece
