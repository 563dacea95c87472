"""Somebody's word that nodes have files which no cache reports: kept in the database, believed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pandawn_server.catalog.codec import (
    MAX_PLAIN_BYTES,
    Record,
    decode_part,
    encode_part,
    encode_records,
)
from pandawn_server.catalog.pins import PinnedFiles
from pandawn_server.domain.catalog.inventory import CachedFile, FileId, FileRef, NodeKey, NodePins
from pandawn_server.domain.errors import ExhaustedError, NotFoundError
from pandawn_server.storage.catalog import pins
from pandawn_server.storage.catalog.pins import PackedPins
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import nodes
from pandawn_server.usecases.context import Context

MAX_PINS = 100_000
"""Most pinned files of a node: they are written as one value, and each server keeps them at hand."""

_MAX_PACKED_BYTES = MAX_PLAIN_BYTES
"""Most bytes of them before packing; names of usual length, with versions, take half of it."""

_MAX_TOTAL_BYTES = 2**63 - 1
"""What the database and the contracts hold of a sum; no node has as much."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What is pinned on a node after a change that added or removed `changed` files."""

    changed: int
    file_count: int
    total_bytes: int


def pin_files(context: Context, key: NodeKey, files: Sequence[CachedFile]) -> Pinned:
    """Pins files on a node; one pinned already gets the GUID given here.

    Another version or size is another file; but of the files of a name whose version nobody knows,
    the last one pinned takes the place of the one before.

    Raises `ExhaustedError` (TOO_MANY_PINS), and then changes nothing.
    """
    with context.db.write() as tx:
        before = pins.get_for_update(tx, key)
        held = _by_id(before)
        count_before = len(held)
        unknown = {(file.scope, file.lfn) for file in files if not file.version}
        held = {one: file for one, file in held.items() if one[2] or one[:2] not in unknown}
        held.update(_distinct(files))
        pinned = _write(context, tx, key, before, held)
        if not nodes.get_nodes(tx, [key]):
            # Listed and located from now on, as a node that a cache has told of.
            nodes.record_contact(tx, [key], context.clock())
    refresh_pins(context)
    return Pinned(len(held) - count_before, pinned.file_count, pinned.total_bytes)


def unpin_files(context: Context, key: NodeKey, refs: Collection[FileRef] | None) -> Pinned:
    """Takes away the pins of some files of a node, of all with None.

    Raises `NotFoundError` (NODE_NOT_FOUND) when nothing is pinned there.
    """
    with context.db.write() as tx:
        before = pins.get_for_update(tx, key)
        if before is None:
            raise _nothing_pinned(key)
        held = _by_id(before)
        count_before = len(held)
        left = {} if refs is None else _without(held, refs)
        pinned = _write(context, tx, key, before, left)
    refresh_pins(context)
    return Pinned(count_before - len(left), pinned.file_count, pinned.total_bytes)


def list_pins(
    context: Context, after: NodeKey | None, limit: int, site: str
) -> list[tuple[NodePins, bool]]:
    """Up to `limit` nodes with pins after a key, by (site, node), each with whether they are believed."""
    now = context.clock()
    with context.db.read() as tx:
        found = pins.list_pins(tx, after, limit, site)
    return [(one, now - one.contact_time <= context.pins.silence) for one in found]


def pinned_files(context: Context, key: NodeKey) -> list[CachedFile]:
    """What is pinned on a node, believed or not."""
    with context.db.read() as tx:
        packed = pins.get_pins(tx, [key]).get(key)
    return [] if packed is None else _unpacked(packed)


def refresh_pins(context: Context) -> int:
    """Brings this process up to date; returns on how many nodes something had changed.

    Pins of nodes that were silent for too long are left out until they are heard of again.
    """
    with context.pins.refreshing:
        changed = _refresh(context)
    context.desks.nodes_changed(changed)
    return len(changed)


def _refresh(context: Context) -> set[NodeKey]:
    now = context.clock()
    known = context.pins.nodes
    with context.db.read() as tx:
        believed = {
            one.key: one.version
            for one in pins.all_pins(tx)
            if now - one.contact_time <= context.pins.silence
        }
        changed = {
            key
            for key, version in believed.items()
            if key not in known or known[key].version != version
        }
        read = pins.get_pins(tx, changed)
    gone = known.keys() - believed.keys()
    if changed or gone:
        kept = {key: known[key] for key in believed if key in known}
        fresh = {
            key: PinnedFiles.of(packed.version, _unpacked(packed), packed.update_time)
            for key, packed in read.items()
        }
        context.pins.replace({**kept, **fresh})
    return changed | gone


def _write(
    context: Context,
    tx: Transaction,
    key: NodeKey,
    before: PackedPins | None,
    held: dict[FileId, CachedFile],
) -> Pinned:
    if not held:
        pins.remove(tx, key)
        return Pinned(0, 0, 0)
    files = [held[file_id] for file_id in sorted(held)]
    records = encode_records([Record.of(file) for file in files])
    if len(files) > MAX_PINS or len(records) > _MAX_PACKED_BYTES:
        raise ExhaustedError(
            "TOO_MANY_PINS",
            f"node {key.node!r} of site {key.site!r} would have {len(files):,} pinned files with "
            f"{len(records):,} bytes of names; {MAX_PINS:,} and {_MAX_PACKED_BYTES:,} are allowed: "
            "unpin others first, or let a cache on the node report its files",
            metadata={"site": key.site, "node": key.node},
        )
    total_bytes = min(sum(file.size_bytes for file in files), _MAX_TOTAL_BYTES)
    # Random: a number that went on counting would come again after all pins were taken away.
    version = context.rng.getrandbits(62) + 1
    packed = PackedPins(version, encode_part(version, records), context.clock())
    pins.put(tx, key, before, packed, file_count=len(files), total_bytes=total_bytes)
    return Pinned(0, len(files), total_bytes)


def _by_id(packed: PackedPins | None) -> dict[FileId, CachedFile]:
    files = [] if packed is None else _unpacked(packed)
    return {file.file_id: file for file in files}


def _distinct(files: Iterable[CachedFile]) -> dict[FileId, CachedFile]:
    """The files by identity: of a name without versions the last one."""
    last = {file.file_id if file.version else (file.scope, file.lfn): file for file in files}
    return {file.file_id: file for file in last.values()}


def _unpacked(packed: PackedPins) -> list[CachedFile]:
    records = decode_part(packed.version, packed.files)
    columns = zip(
        records.lfns, records.sizes, records.scopes, records.guids, records.versions, strict=True
    )
    return [CachedFile(*row) for row in columns]


def _without(held: dict[FileId, CachedFile], refs: Iterable[FileRef]) -> dict[FileId, CachedFile]:
    # Each with its version, and with none, which means any.
    names = {(ref.scope, ref.lfn, ref.version) for ref in refs if ref.lfn}
    guids = {(ref.guid, ref.version) for ref in refs if not ref.lfn}
    return {
        file_id: file
        for file_id, file in held.items()
        if names.isdisjoint((file_id[:3], (*file_id[:2], "")))
        and guids.isdisjoint(((file.guid, file.version), (file.guid, "")))
    }


def _nothing_pinned(key: NodeKey) -> NotFoundError:
    return NotFoundError(
        "NODE_NOT_FOUND",
        f"no file is pinned on node {key.node!r} at site {key.site!r}; "
        "`pandawn cache pins` lists the nodes with pinned files",
        metadata={"site": key.site, "node": key.node},
    )
