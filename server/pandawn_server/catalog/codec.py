"""The binary format of a node's values in the catalog: a head, and parts with most of its files.

All numbers are little-endian. A *record* states that a file (name, version and size) is held, or no longer
held. Records are replayed in order, so the last one about a file counts, and replaying some twice
changes nothing.

    value   := magic 2 bytes, version u8, flags u8, CRC-32 of all else u32, rest
    head    := value "PH": fixed fields (`_HEAD`), site, node, ids of the parts u64 each, records
               (the newest, too few for a part of their own)
    part    := value "PP", flags 1 if packed by zlib: id u64, plain size u32, records
    records := count u32, sizes i64 each (-1 - size: no longer held), scopes, lfns, guids, versions
    column  := bytes u32, then if not 0: lengths in characters u16 each, UTF-8 of all strings

Stored bytes are not trusted: any fault raises `CodecError`, and the node counts as unknown. Columns make decoding
three times as fast as record after record; zlib's fastest level makes a part of real file names four times
as small.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from pandawn_server.domain.catalog.inventory import CachedFile, CacheState, CacheSummary, NodeKey

VERSION = 2
"""Version of the format, and part of every key, so that servers of two versions do not share values.

Pins are stored in the database as parts of some version, so parts of version 1 can be read too.
"""

_WITHOUT_VERSIONS = 1
"""The format version without file versions: the versions of all its files are unknown."""

_COMPRESS_FROM_BYTES = 2048
"""Below this size zlib costs more time than it saves space."""

MAX_PLAIN_BYTES = 32 * 2**20
"""Maximum unpacked size of a part: bounds what a forged value can make us allocate."""

MAX_PARTS = 3000
"""Maximum parts of a node: a million files with the longest names take 2,500 (see `packing`)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_START = struct.Struct("<2sBB")
_CHECKSUM = struct.Struct("<I")
_PART = struct.Struct("<QI")
# Epoch, sequence, digest, update time in microseconds, file count, total bytes (low and high),
# records in parts, parts appended since packing, number of parts, bytes of site and node.
_HEAD = struct.Struct("<QqQqQQQQHHHH")
_COUNT = struct.Struct("<I")


class CodecError(Exception):
    """The stored bytes are not valid in this format."""


def gone(size: int) -> int:
    """Marks a size as that of a file no longer held; applied again, it gives the size back."""
    return -1 - size


class Record(NamedTuple):
    """A file is held, or no longer held: then `size_bytes` is `gone(its size)`."""

    scope: str
    lfn: str
    guid: str
    version: str
    size_bytes: int

    @classmethod
    def of(cls, file: CachedFile) -> Record:
        """The record of a file that is held."""
        return cls(file.scope, file.lfn, file.guid, file.version, file.size_bytes)


@dataclass(frozen=True, slots=True)
class Records:
    """Records by column, in the order of `Record`; all columns have the same length."""

    scopes: Sequence[str]
    lfns: Sequence[str]
    guids: Sequence[str]
    versions: Sequence[str]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Head:
    """The value that leads to all other values of a node.

    `parts` are the part ids in order of replay, with `part_records` records in all; `appended` of the parts were
    added since the last packing. `tail` has the newest records, encoded.
    """

    key: NodeKey
    state: CacheState
    update_time: datetime
    file_count: int
    total_bytes: int
    part_records: int
    appended: int
    parts: tuple[int, ...]
    tail: bytes

    @property
    def summary(self) -> CacheSummary:
        """The state and sums of the cache."""
        return CacheSummary(
            self.key, self.state, self.file_count, self.total_bytes, self.update_time
        )


def encode_records(records: Sequence[Record]) -> bytes:
    """Encodes records. Raises `ValueError` for a name of more than 65,535 characters."""
    if not records:
        return _COUNT.pack(0)
    scopes, lfns, guids, versions, sizes = zip(*records, strict=True)
    return b"".join(
        (
            _COUNT.pack(len(records)),
            struct.pack(f"<{len(records)}q", *sizes),
            _encode_column(scopes),
            _encode_column(lfns),
            _encode_column(guids),
            _encode_column(versions),
        )
    )


def decode_records(data: bytes, version: int = VERSION) -> Records:
    """Decodes the output of `encode_records`, of the given format version; no bytes may follow."""
    if len(data) < _COUNT.size:
        raise CodecError("records end before their count")
    (count,) = _COUNT.unpack_from(data)
    if count == 0:
        if len(data) != _COUNT.size:
            raise CodecError("bytes after the last record")
        return Records((), (), (), (), ())
    position = _COUNT.size + 8 * count
    if position > len(data):
        raise CodecError(f"records end before the {count} sizes")
    sizes = struct.unpack_from(f"<{count}q", data, _COUNT.size)
    scopes, position = _decode_column(data, position, count)
    lfns, position = _decode_column(data, position, count)
    guids, position = _decode_column(data, position, count)
    versions: Sequence[str] = ("",) * count
    if version != _WITHOUT_VERSIONS:
        versions, position = _decode_column(data, position, count)
    if position != len(data):
        raise CodecError("bytes after the last record")
    return Records(scopes, lfns, guids, versions, sizes)


def _encode_column(strings: Sequence[str]) -> bytes:
    text = "".join(strings).encode()
    if not text:
        return _COUNT.pack(0)
    lengths = list(map(len, strings))
    if max(lengths) > 0xFFFF:
        raise ValueError(f"a name of {max(lengths)} characters does not fit into the catalog")
    return _COUNT.pack(len(text)) + struct.pack(f"<{len(strings)}H", *lengths) + text


def _decode_column(data: bytes, position: int, count: int) -> tuple[Sequence[str], int]:
    try:
        (size,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        if size == 0:
            return ("",) * count, position
        lengths = struct.unpack_from(f"<{count}H", data, position)
        position += 2 * count
        text = data[position : position + size].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise CodecError(f"a column of names is broken: {error}") from error
    # Detects a text that was cut short too.
    if position + size > len(data) or sum(lengths) != len(text):
        raise CodecError("a column of names does not have the length it states")
    ends = accumulate(lengths)
    return [text[end - n : end] for end, n in zip(ends, lengths, strict=True)], position + size


def encode_part(part_id: int, records: bytes) -> bytes:
    """Encodes a part from encoded records."""
    body, flags = records, 0
    if len(records) >= _COMPRESS_FROM_BYTES:
        packed = zlib.compress(records, level=1)
        if len(packed) < len(records):
            body, flags = packed, 1
    rest = _PART.pack(part_id, len(records)) + body
    return _close(_START.pack(b"PP", VERSION, flags), rest)


def decode_part(part_id: int, data: bytes) -> Records:
    """Decodes the part with that id, of the current or the first format version."""
    version, flags, rest = _open(b"PP", data, {VERSION, _WITHOUT_VERSIONS})
    if flags > 1 or len(rest) < _PART.size:
        raise CodecError("not a valid start of a part")
    found, size = _PART.unpack_from(rest)
    if found != part_id:
        raise CodecError(f"part {found:x} instead of {part_id:x}")
    body = rest[_PART.size :]
    if flags:
        if size > MAX_PLAIN_BYTES:
            raise CodecError(f"a part states an unpacked size of {size} bytes")
        unpacker = zlib.decompressobj()
        try:
            # One byte more than stated, to detect excess; never 0, which would mean no limit.
            body = unpacker.decompress(body, size + 1)
        except zlib.error as error:
            raise CodecError(f"a part does not unpack: {error}") from error
    if len(body) != size:
        raise CodecError("a part does not have the size it states")
    return decode_records(body, version)


def encode_head(head: Head) -> bytes:
    """Encodes a head."""
    site, node = head.key.site.encode(), head.key.node.encode()
    rest = b"".join(
        (
            _HEAD.pack(
                head.state.epoch,
                head.state.sequence,
                head.state.digest,
                (head.update_time - _EPOCH) // _MICROSECOND,
                head.file_count,
                # The sizes of a million files may add up to more than 64 bits, if only by a false report.
                head.total_bytes & (2**64 - 1),
                head.total_bytes >> 64,
                head.part_records,
                head.appended,
                len(head.parts),
                len(site),
                len(node),
            ),
            site,
            node,
            struct.pack(f"<{len(head.parts)}Q", *head.parts),
            head.tail,
        )
    )
    return _close(_START.pack(b"PH", VERSION, 0), rest)


def decode_head(key: NodeKey, data: bytes) -> Head:
    """Decodes a node's head; the value must contain the node's full name."""
    _, flags, rest = _open(b"PH", data, {VERSION})
    if flags:
        raise CodecError("a head with flags")
    try:
        (
            epoch,
            sequence,
            digest,
            update_us,
            file_count,
            bytes_low,
            bytes_high,
            part_records,
            appended,
            part_count,
            site_size,
            node_size,
        ) = _HEAD.unpack_from(rest)
        node_from = _HEAD.size + site_size
        parts_from = node_from + node_size
        tail_from = parts_from + 8 * part_count
        parts = struct.unpack_from(f"<{part_count}Q", rest, parts_from)
        found = NodeKey(rest[_HEAD.size : node_from].decode(), rest[node_from:parts_from].decode())
        update_time = _EPOCH + timedelta(microseconds=update_us)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise CodecError(f"a head is broken: {error}") from error
    if len(parts) > MAX_PARTS or len(set(parts)) != len(parts):
        # Never written by us; a part listed often enough would take minutes to replay.
        raise CodecError(f"a head of {len(parts)} parts, or with a part listed twice")
    if found != key:
        raise CodecError(f"the head of {found}, not of {key}")
    return Head(
        key=key,
        state=CacheState(epoch, sequence, digest),
        update_time=update_time,
        file_count=file_count,
        total_bytes=bytes_low | bytes_high << 64,
        part_records=part_records,
        appended=appended,
        parts=parts,
        tail=rest[tail_from:],
    )


def _close(start: bytes, rest: bytes) -> bytes:
    """Inserts the checksum of both between the start of a value and its rest."""
    return start + _CHECKSUM.pack(zlib.crc32(rest, zlib.crc32(start))) + rest


def _open(magic: bytes, data: bytes, versions: Collection[int]) -> tuple[int, int, bytes]:
    """Checks the start of any value; returns the format version, the flags and the rest."""
    rest_from = _START.size + _CHECKSUM.size
    if len(data) < rest_from:
        raise CodecError(f"a value of {len(data)} bytes")
    found, version, flags = _START.unpack_from(data)
    if found != magic or version not in versions:
        raise CodecError(f"a value of another kind or version: {found!r} {version}")
    start, rest = data[: _START.size], data[rest_from:]
    checksum = zlib.crc32(rest, zlib.crc32(start))
    if _CHECKSUM.unpack_from(data, _START.size) != (checksum,):
        raise CodecError("a value does not match its checksum")
    return version, flags, rest
