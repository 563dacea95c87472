"""What the catalog stores reads back as it was written, and nothing else reads at all."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.catalog.codec import (
    CodecError,
    Head,
    Record,
    Records,
    decode_head,
    decode_part,
    decode_records,
    encode_head,
    encode_part,
    encode_records,
)
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey

unsigned = st.integers(0, 2**64 - 1)
names = st.text(max_size=300)
records = st.lists(
    st.builds(Record, names, names, names, names, st.integers(-(2**63), 2**63 - 1)), max_size=20
)
heads = st.builds(
    Head,
    key=st.builds(NodeKey, names, names),
    state=st.builds(CacheState, unsigned, st.integers(0, 2**63 - 1), unsigned),
    update_time=st.datetimes(timezones=st.just(UTC)),
    file_count=unsigned,
    total_bytes=st.integers(0, 2**128 - 1),
    part_records=unsigned,
    appended=st.integers(0, 2**16 - 1),
    parts=st.lists(unsigned, max_size=20, unique=True).map(tuple),
    tail=records.map(encode_records),
)
# Compressible and not, below and above the size from which parts are packed.
big_records = st.builds(
    lambda some, times: some * times, records.filter(bool), st.sampled_from([1, 3, 50])
)


def rows(decoded: Records) -> list[Record]:
    columns = zip(
        decoded.scopes,
        decoded.lfns,
        decoded.guids,
        decoded.versions,
        decoded.sizes,
        strict=True,
    )
    return [Record(*row) for row in columns]


@given(records)
def test_records_read_back_as_they_were_written(written: list[Record]) -> None:
    assert rows(decode_records(encode_records(written))) == written


@given(big_records, unsigned)
def test_a_part_reads_back_as_it_was_written(written: list[Record], part_id: int) -> None:
    assert rows(decode_part(part_id, encode_part(part_id, encode_records(written)))) == written


@given(heads)
def test_a_head_reads_back_as_it_was_written(head: Head) -> None:
    assert decode_head(head.key, encode_head(head)) == head


@given(heads, st.builds(NodeKey, names, names))
def test_a_head_is_not_read_as_that_of_another_node(head: Head, other: NodeKey) -> None:
    if other != head.key:
        with pytest.raises(CodecError):
            decode_head(other, encode_head(head))


@given(big_records, unsigned, unsigned)
def test_a_part_is_not_read_under_another_id(
    written: list[Record], part_id: int, other: int
) -> None:
    if other != part_id:
        with pytest.raises(CodecError):
            decode_part(other, encode_part(part_id, encode_records(written)))


@given(st.binary(max_size=200))
def test_foreign_bytes_raise_a_codec_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_head(NodeKey("", ""), data)
    with pytest.raises(CodecError):
        decode_part(0, data)


@given(heads, st.data())
def test_a_damaged_head_raises_a_codec_error(head: Head, data: st.DataObject) -> None:
    with pytest.raises(CodecError):
        decode_head(head.key, damaged(encode_head(head), data))


@given(big_records, unsigned, st.data())
def test_a_damaged_part_raises_a_codec_error(
    written: list[Record], part_id: int, data: st.DataObject
) -> None:
    with pytest.raises(CodecError):
        decode_part(part_id, damaged(encode_part(part_id, encode_records(written)), data))


@given(heads, st.data())
def test_a_forged_head_is_read_or_raises_a_codec_error(head: Head, data: st.DataObject) -> None:
    forged = forge(damaged(encode_head(head), data))
    with suppress(CodecError):
        decode_records(decode_head(head.key, forged).tail)


@given(big_records, unsigned, st.data())
def test_a_forged_part_is_read_or_raises_a_codec_error(
    written: list[Record], part_id: int, data: st.DataObject
) -> None:
    forged = forge(damaged(encode_part(part_id, encode_records(written)), data))
    try:
        found = decode_part(part_id, forged)
    except CodecError:
        return
    rows(found)


@given(heads.filter(lambda head: bool(head.parts)))
def test_a_head_that_names_a_part_twice_is_not_read(head: Head) -> None:
    with pytest.raises(CodecError, match="twice"):
        decode_head(head.key, encode_head(replace(head, parts=head.parts * 2)))


@given(st.binary(max_size=100))
def test_forged_records_are_read_or_raise_a_codec_error(data: bytes) -> None:
    with suppress(CodecError):
        rows(decode_records(data))


def test_a_part_of_the_first_format_has_files_of_unknown_version() -> None:
    names = "a.root" + "b.root"
    records = (
        struct.pack("<I2q", 2, 7, 9)
        + bytes(4)
        + struct.pack("<I2H", len(names), 6, 6)
        + names.encode()
        + bytes(4)
    )
    rest = struct.pack("<QI", 5, len(records)) + records
    found = decode_part(5, forge(b"PP\x01\x00" + bytes(4) + rest))
    assert rows(found) == [Record("", "a.root", "", "", 7), Record("", "b.root", "", "", 9)]


def test_a_part_that_unpacks_to_gigabytes_is_refused_unread() -> None:
    packed = zlib.compress(bytes(2**20), level=9)
    for claimed in (2**31, 2**20 - 1, 10):
        rest = struct.pack("<QI", 7, claimed) + packed
        with pytest.raises(CodecError, match=r"unpacked size|not have the size"):
            decode_part(7, forge(b"PP\x02\x01" + bytes(4) + rest))


def test_a_name_too_long_for_the_format_is_refused_when_written() -> None:
    with pytest.raises(ValueError, match="65536 characters"):
        encode_records([Record("", "x" * 65536, "", "", 1)])


def damaged(value: bytes, data: st.DataObject) -> bytes:
    """Something else than `value`: a few bytes changed, cut off, or put in."""
    at = data.draw(st.integers(0, len(value) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "insert"]))
    if kind == "cut":
        return value[:at]
    if kind == "insert":
        return value[:at] + data.draw(st.binary(min_size=1, max_size=9)) + value[at:]
    return value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]


def forge(value: bytes) -> bytes:
    """The value with a checksum that fits."""
    return value[:4] + struct.pack("<I", zlib.crc32(value[:4] + value[8:])) + value[8:]
