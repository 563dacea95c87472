"""Pins: a person's statement that a node has files which no cache reports; stored in the database."""

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
"""Maximum pinned files per node: they are written as one value, and each server keeps them in memory."""

_MAX_PACKED_BYTES = MAX_PLAIN_BYTES
"""Their maximum size before packing; names of usual length, with versions, take half of it."""

_MAX_TOTAL_BYTES = 2**63 - 1
"""Maximum sum that the database and the contracts can hold; no node has as much."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """The pins of a node after a change that added or removed `changed` files."""

    changed: int
    file_count: int
    total_bytes: int


def pin_files(context: Context, key: NodeKey, files: Sequence[CachedFile]) -> Pinned:
    """Pins files on a node; a file that is already pinned gets the new GUID.

    Another version or size is another file; but of files with one name and unknown version, the last one pinned
    replaces the earlier one.

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
            # From now on it is listed and located like a node that a cache has reported.
            nodes.record_contact(tx, [key], context.clock())
    refresh_pins(context)
    return Pinned(len(held) - count_before, pinned.file_count, pinned.total_bytes)


def unpin_files(context: Context, key: NodeKey, refs: Collection[FileRef] | None) -> Pinned:
    """Removes the pins of some files of a node, or all with `refs` None.

    Raises `NotFoundError` (NODE_NOT_FOUND) if nothing is pinned there.
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
    """Up to `limit` nodes with pins after a key, by (site, node), each with whether they still count."""
    now = context.clock()
    with context.db.read() as tx:
        found = pins.list_pins(tx, after, limit, site)
    return [(one, now - one.contact_time <= context.catalog.pins.silence) for one in found]


def pinned_files(context: Context, key: NodeKey) -> list[CachedFile]:
    """The files pinned on a node, whether they count or not."""
    with context.db.read() as tx:
        packed = pins.get_pins(tx, [key]).get(key)
    return [] if packed is None else _unpacked(packed)


def refresh_pins(context: Context) -> int:
    """Reads changed pins from the database; returns the number of nodes that changed.

    Pins of nodes that were silent for too long do not count until the nodes report again.
    """
    with context.catalog.pins.refreshing:
        changed = _refresh(context)
    context.desks.nodes_changed(changed)
    return len(changed)


def _refresh(context: Context) -> set[NodeKey]:
    now = context.clock()
    known = context.catalog.pins.nodes
    with context.db.read() as tx:
        valid = {
            one.key: one.version
            for one in pins.all_pins(tx)
            if now - one.contact_time <= context.catalog.pins.silence
        }
        changed = {
            key
            for key, version in valid.items()
            if key not in known or known[key].version != version
        }
        read = pins.get_pins(tx, changed)
    gone = known.keys() - valid.keys()
    if changed or gone:
        kept = {key: known[key] for key in valid if key in known}
        fresh = {
            key: PinnedFiles.of(packed.version, _unpacked(packed), packed.update_time)
            for key, packed in read.items()
        }
        context.catalog.pins.replace({**kept, **fresh})
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
    # Random, because a counter would start again after all pins were removed.
    version = context.rng.getrandbits(62) + 1
    packed = PackedPins(version, encode_part(version, records), context.clock())
    pins.put(tx, key, before, packed, file_count=len(files), total_bytes=total_bytes)
    return Pinned(0, len(files), total_bytes)


def _by_id(packed: PackedPins | None) -> dict[FileId, CachedFile]:
    files = [] if packed is None else _unpacked(packed)
    return {file.file_id: file for file in files}


def _distinct(files: Iterable[CachedFile]) -> dict[FileId, CachedFile]:
    """The files by identity; of files with one name and unknown version, the last one."""
    last = {file.file_id if file.version else (file.scope, file.lfn): file for file in files}
    return {file.file_id: file for file in last.values()}


def _unpacked(packed: PackedPins) -> list[CachedFile]:
    records = decode_part(packed.version, packed.files)
    columns = zip(
        records.lfns, records.sizes, records.scopes, records.guids, records.versions, strict=True
    )
    return [CachedFile(*row) for row in columns]


def _without(held: dict[FileId, CachedFile], refs: Iterable[FileRef]) -> dict[FileId, CachedFile]:
    # A reference without a version matches any.
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
