"""Tables, the codes of their keys, and Snappy blocks."""

import base64
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core import errors
from headrace.io import coding, snappy
from headrace.io.checksum import crc32c, mask, unmask
from headrace.io.local_files import AtomicFile
from headrace.io.table import MAGIC, Table, TableWriter

UNSIGNED = st.integers(0, 2**64 - 1)
SIGNED = st.integers(-(2**63), 2**63 - 1)
EDGES = sorted({s * (2**k) + d for k in range(63) for s in (1, -1) for d in (-1, 0, 1)})


def write_table(path, entries):
    with AtomicFile(str(path)) as file:
        table = TableWriter(file)
        for key in sorted(entries):
            table.add(key, entries[key])
        table.finish()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=80),
    st.lists(st.tuples(st.binary(max_size=3), st.integers(100_000, 600_000)), max_size=3),
)
def test_round_trip(tmp_path_factory, entries, large):
    # Large values make blocks of their own, and with them separators between keys.
    entries.update({key: b"\x07" * size for key, size in large})
    path = tmp_path_factory.mktemp("table") / "t"
    write_table(path, entries)
    table = Table(str(path))
    assert {key: bytes(value) for key, value in table} == entries
    assert [key for key, _ in table] == sorted(entries)
    for key in entries:
        assert table.get(key) == entries[key]
        assert table.get(key + b"\0") == entries.get(key + b"\0")
    table.close()


def test_keys_must_increase():
    writer = TableWriter(io.BytesIO())
    writer.add(b"b", b"")
    for key in (b"b", b"a"):
        with pytest.raises(ValueError, match="must increase"):
            writer.add(key, b"")


@given(UNSIGNED)
def test_varints(value):
    encoded = coding.encode_varint(value)
    assert coding.decode_varint(b"xx" + encoded + b"x", 2, 2 + len(encoded)) == (
        value,
        2 + len(encoded),
    )
    with pytest.raises(coding.MalformedBytes):
        coding.decode_varint(encoded, 0, len(encoded) - 1)


@given(st.lists(st.binary(), min_size=2, max_size=2), st.lists(UNSIGNED, min_size=2, max_size=2))
def test_ordered_strings_and_unsigned_numbers(strings, numbers):
    for values, encode, decode in (
        (strings, coding.encode_ordered_string, coding.decode_ordered_string),
        (numbers, coding.encode_ordered_unsigned, coding.decode_ordered_unsigned),
    ):
        first, second = map(encode, values)
        assert decode(b"x" + first + b"y", 1) == (values[0], 1 + len(first))
        assert (first < second) == (values[0] < values[1])


def test_ordered_signed_numbers_at_the_edges():
    encoded = [coding.encode_ordered_signed(value) for value in EDGES]
    assert encoded == sorted(encoded)
    for value, code in zip(EDGES, encoded, strict=True):
        assert coding.decode_ordered_signed(code + b"z", 0) == (value, len(code))
        with pytest.raises(coding.MalformedBytes):
            coding.decode_ordered_signed(code[:-1], 0)
    # As in TensorFlow: six bits and a sign in one byte, then seven more with every byte.
    assert [coding.encode_ordered_signed(v).hex() for v in (0, -1, 63, 64, -64, -65, 2**63 - 1)] == [
        "80", "7f", "bf", "c040", "40", "3fbf", "ffc07fffffffffffffff",
    ]  # fmt: skip


@given(SIGNED)
def test_ordered_signed_numbers(value):
    encoded = coding.encode_ordered_signed(value)
    assert coding.decode_ordered_signed(encoded, 0) == (value, len(encoded))


@given(st.binary(max_size=64))
def test_masked_checksums(data):
    assert unmask(mask(crc32c(data))) == crc32c(data)
    assert crc32c(data[3:], crc32c(data[:3])) == crc32c(memoryview(bytearray(data)))


# Made by Google's library: runs, overlapping copies, literals that need a length byte.
SNAPPY_CONTENT = (
    b"0123456789" * 9
    + bytes(range(256))
    + b"ab" * 40
    + b"the table of contents, the table of blocks, the end"
)
SNAPPY_BLOCK = base64.b85decode(
    "-2)^rF)}kWH8wXmIsOU&J_-Q9009C61O)~M2nh-c3=Iws5D^j+6crX17#SKH9337XAR!_nBqb&%C@Cr{EG;fCFcpgM*E%"
    "~qJw87`K|(`BMMg(RNlHshO-@fxQBqS>RaRG6Sz23MU0z>cVPa!sWoBn+X=-b1ZEkOHadLBXb#`}nd3t+%eSUv{fr5jCg"
    "@%WSiHeJijgF6yk&=^?m6n&7nVOrNot~edp`xRtrKYE-sj922t*)=Iv9hzYwYImoxw^Z&y}rM|!NSAD#m2|T$;!*j&Cbu"
    "z(bCh@)z;V8+1lIO-QM5e;o{@u<>u$;>FVq3?e6dJ@$&QZ_4fDp`TG0({r>-9Vqs!oVqs!oVqs!oVqs!oV)hOISafJ*Aa"
    "r43Y-J#CW*}p4ZggdCbaN~qG8X_iVr*|?YjZ3hbZBKDWo~2"
)


def test_snappy():
    assert snappy.decompress(SNAPPY_BLOCK) == SNAPPY_CONTENT
    for end in range(len(SNAPPY_BLOCK)):
        with pytest.raises(coding.MalformedBytes):
            snappy.decompress(SNAPPY_BLOCK[:end])
    for block, match in [
        (b"\xff\xff\xff\xff\x0f\x00a", "cannot stand for"),
        (b"\x04\x00a\x01\x05", "outside the block"),
        (b"\x04\x00a\x01\x00", "outside the block"),
        (b"\x02\x00a\x0d\x01", "outside the block"),
        (b"\x01\x04ab", "past the stated length"),
        (b"\x03\x00a", "holds 1"),
        (b"\xff\xff\xff\xff\xff\xff", "varint"),
    ]:
        with pytest.raises(coding.MalformedBytes, match=match):
            snappy.decompress(block)


def block(content, compression=0):
    stored = content + bytes([compression])
    return stored + struct.pack("<I", mask(crc32c(stored)))


def table_of(content, compression=0, offset=0, length=None):
    """Returns a table whose one data block has `content`, as it is, with a valid checksum."""
    data = block(content, compression)
    handle = coding.encode_varint(offset) + coding.encode_varint(
        len(content) if length is None else length
    )
    index = block(bytes([0, 1, len(handle)]) + b"z" + handle + struct.pack("<II", 0, 1))
    footer = b"\0\0" + coding.encode_varint(len(data)) + coding.encode_varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def entry(shared, key, value, value_length=None):
    length = len(value) if value_length is None else value_length
    return b"".join(map(coding.encode_varint, (shared, len(key), length))) + key + value


RESTARTS = struct.pack("<II", 0, 1)


def test_compressed_blocks_are_read(tmp_path):
    content = entry(0, b"k", b"v") + RESTARTS
    literal = coding.encode_varint(len(content)) + bytes([(len(content) - 1) << 2]) + content
    (tmp_path / "t").write_bytes(table_of(literal, compression=1))
    assert bytes(Table(str(tmp_path / "t")).get(b"k")) == b"v"


@pytest.mark.parametrize(
    "data, match",
    [
        (table_of(entry(0, b"k", b"v") + RESTARTS, compression=2), "unknown compression type 2"),
        (table_of(b"\x05\x00", compression=1), "cut off"),
        (table_of(b""), "without restart points"),
        (table_of(struct.pack("<I", 2**32 - 1)), "restart points"),
        (table_of(entry(0, b"k", b"v", 2**40) + RESTARTS), "past the end of its block"),
        (table_of(entry(2, b"k", b"v") + RESTARTS), "past the end of its block"),
        (table_of(entry(0, b"k", b"") * 2 + RESTARTS), "out of order"),
        (table_of(entry(0, b"k", b""), offset=2**60), "truncated or altered"),
        (table_of(entry(0, b"k", b""), length=2**60), "truncated or altered"),
        (b"short", "too short to be an sstable"),
        (b"\0" * 100, "bad magic number"),
    ],
)
def test_false_tables_with_true_checksums(tmp_path, data, match):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(errors.DataLossError, match=match):
        Table(str(tmp_path / "t")).get(b"k")
