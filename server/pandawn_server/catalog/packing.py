"""Turns a draft into stored values: what goes into the head, what into parts, and when to pack.

A small change costs one small value: it goes into the tail of the head, and a full tail becomes another part.
Everything is rewritten only when many parts or outdated records have accumulated, so keeping a cache of 100,000
files current does not cost 100,000 records per change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pandawn_server.catalog.codec import (
    Head,
    Record,
    decode_records,
    encode_part,
    encode_records,
)
from pandawn_server.catalog.draft import Draft, random_id
from pandawn_server.domain.catalog.inventory import NodeKey

_MAX_TAIL_BYTES = 1024
"""Maximum bytes of records in a head: each match reads the heads again, so they must stay small."""

_MAX_PART_COST = 200_000
"""Maximum characters in a part, counting `_RECORD_COST` more for each record.

Even with four bytes per character it stays below memcached's limit of 1 MiB for a value."""

_RECORD_COST = 16
"""Bytes of a record besides its names: a size of 8 and four lengths of 2."""

_MAX_APPENDED = 64
"""Maximum parts appended before a packing: a process that does not know the node reads that many more values in
its multi-get."""

_SPARE_RECORDS = 1024
"""Outdated records that do not justify a packing; beyond them, as many as there are files."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What to store: first the parts by id, then the head. After that, `outdated` parts may be deleted."""

    head: Head
    parts: dict[int, bytes]
    outdated: tuple[int, ...]


def is_crowded(head: Head) -> bool:
    """Whether the next change should pack everything: then make the draft with `pack=True`."""
    return (
        head.appended >= _MAX_APPENDED or head.part_records > 2 * head.file_count + _SPARE_RECORDS
    )


def pack(key: NodeKey, draft: Draft, before: Head | None, now: datetime) -> Packed:
    """Encodes a draft of a known node; `before` is the head it started from."""
    assert draft.state is not None
    new = list(draft.changes.values())
    kept: tuple[int, ...] = ()
    outdated: tuple[int, ...] = before.parts if before else ()
    part_records, appended = 0, 0
    if before is not None and not draft.cleared:
        kept, outdated = before.parts, ()
        part_records, appended = before.part_records, before.appended
        new = [*_rows(before.tail), *new]
    else:
        new = [record for record in new if record.size_bytes >= 0]
    tail = encode_records(new)
    parts: dict[int, bytes] = {}
    if len(tail) > _MAX_TAIL_BYTES:
        tail = encode_records(())
        for chunk in _chunks(new):
            part_id = random_id()
            parts[part_id] = encode_part(part_id, encode_records(chunk))
        part_records += len(new)
        if not draft.cleared:
            appended += len(parts)
    head = Head(
        key=key,
        state=draft.state,
        update_time=now,
        file_count=draft.file_count,
        total_bytes=draft.total_bytes,
        part_records=part_records,
        appended=appended,
        parts=(*kept, *parts),
        tail=tail,
    )
    return Packed(head, parts, outdated)


def _rows(tail: bytes) -> Iterator[Record]:
    records = decode_records(tail)
    columns = zip(
        records.scopes, records.lfns, records.guids, records.versions, records.sizes, strict=True
    )
    return map(Record._make, columns)


def _chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    begin = cost = 0
    for at, record in enumerate(records):
        more = _RECORD_COST + sum(map(len, record[:-1]))
        if cost + more > _MAX_PART_COST and at > begin:
            yield records[begin:at]
            begin, cost = at, 0
        cost += more
    yield records[begin:]
