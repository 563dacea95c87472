"""What this process keeps of a node to answer queries: a compact view, or all entries."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pandawn_server.catalog.codec import Head, Records, gone
from pandawn_server.catalog.contents import HeldFiles, first_not_before, held_files, key_of
from pandawn_server.domain.catalog.inventory import CachedFile, FileId, FileRef

_INSERT_ONE_BY_ONE = 64
"""Up to this many records are inserted into the arrays in place; more are merged through a dictionary."""

_SCAN_FACTOR = 8
"""A look-up by bisection costs about as much as scanning 8 keys (measured)."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The files of one node, and the head they belong to."""

    raw: bytes
    head: Head
    held: HeldFiles
    total_bytes: int

    def is_sound(self) -> bool:
        """Whether the files add up to the sums in the head.

        They do not if the view continues one that the head does not continue: after a flush, or when two servers
        went on separately while one of them could not reach a memcached.
        """
        sums = (self.head.file_count, self.head.total_bytes)
        return (len(self.held), self.total_bytes) == sums


def follow(base: View | None, raw: bytes, head: Head, news: Iterable[Records]) -> View:
    """The view after `news`, starting from a copy of `base`, or from nothing if it is None."""
    held = (
        HeldFiles(base.held.names[:], base.held.keys[:], base.held.sizes[:])
        if base
        else HeldFiles(array("q"), array("q"), array("q"))
    )
    total_bytes = base.total_bytes if base else 0
    for records in news:
        changes = _changes(records)
        if len(changes) <= _INSERT_ONE_BY_ONE:
            total_bytes += _insert(held, changes)
        else:
            held = _merged(held, changes)
            total_bytes = sum(held.sizes)
    return View(raw, head, held, total_bytes)


def _changes(records: Records) -> dict[int, tuple[int, int]]:
    """Changes by file key: the number of the name, and the size in the record."""
    names = list(map(hash, zip(records.scopes, records.lfns, strict=True)))
    sizes = records.sizes
    if sizes and min(sizes) < 0:
        sizes = [size if size >= 0 else gone(size) for size in sizes]
    keys = map(hash, zip(names, records.versions, sizes, strict=True))
    return dict(zip(keys, zip(names, records.sizes, strict=True), strict=True))


def _insert(held: HeldFiles, changes: Mapping[int, tuple[int, int]]) -> int:
    """Applies changes to the arrays; returns by how many bytes the sum of sizes grew."""
    names, keys, sizes = held.names, held.keys, held.sizes
    more_bytes = 0
    for key, (name, size) in changes.items():
        at = first_not_before(names, keys, name, key)
        if at < len(keys) and names[at] == name and keys[at] == key:
            if size < 0:
                more_bytes -= sizes[at]
                del names[at], keys[at], sizes[at]
        elif size >= 0:
            names.insert(at, name)
            keys.insert(at, key)
            sizes.insert(at, size)
            more_bytes += size
    return more_bytes


def _merged(held: HeldFiles, changes: Mapping[int, tuple[int, int]]) -> HeldFiles:
    merged = dict(zip(held.keys, zip(held.names, held.sizes, strict=True), strict=True))
    merged.update(changes)
    return held_files((name, key, size) for key, (name, size) in merged.items() if size >= 0)


class Wanted:
    """A list of files by LFN, prepared for look-ups on one node or on many."""

    def __init__(self, refs: Sequence[FileRef], *, in_many: bool) -> None:
        self._files = [(hash((ref.scope, ref.lfn)), ref.version) for ref in refs]
        self._places: dict[int, list[int]] = {}
        if in_many:
            for place, (name, _) in enumerate(self._files):
                self._places.setdefault(name, []).append(place)

    def sizes_in(self, held: HeldFiles) -> list[int | None]:
        """The size of each file, in the order of the list; None for one that is not held."""
        if len(held) >= _SCAN_FACTOR * len(self._places):
            return [held.size(name, version) for name, version in self._files]
        found: list[int | None] = [None] * len(self._files)
        for name, key, size in held:
            for place in self._places.get(name, ()):
                version = self._files[place][1]
                before = found[place]
                if (not version or key == key_of(name, version, size)) and (
                    before is None or before < size
                ):
                    found[place] = size
        return found


class Entries:
    """All entries of one node in the order of `FileId`: for listings, GUIDs, and packing."""

    def __init__(self, raw: bytes, head: Head, news: Iterable[Records]) -> None:
        self.raw = raw
        self.head = head
        held: dict[FileId, CachedFile] = {}
        for records in news:
            columns = zip(
                records.scopes,
                records.lfns,
                records.guids,
                records.versions,
                records.sizes,
                strict=True,
            )
            for scope, lfn, guid, version, size in columns:
                if size < 0:
                    held.pop((scope, lfn, version, gone(size)), None)
                else:
                    held[scope, lfn, version, size] = CachedFile(lfn, size, scope, guid, version)
        self._ids = sorted(held)
        self.files = [held[file_id] for file_id in self._ids]
        self._by_guid: dict[str, list[CachedFile]] = {}
        for file in self.files:
            if file.guid:
                self._by_guid.setdefault(file.guid, []).append(file)

    def after(self, file_id: FileId | None, limit: int) -> list[CachedFile]:
        """Up to `limit` files after `file_id`."""
        first = 0 if file_id is None else bisect_right(self._ids, file_id)
        return self.files[first : first + limit]

    def meant(self, ref: FileRef) -> Sequence[CachedFile]:
        """The files with an LFN or a GUID, and with the version if one is given."""
        found = self._by_guid.get(ref.guid, []) if ref.guid else self._named(ref.scope, ref.lfn)
        return [file for file in found if file.version == ref.version] if ref.version else found

    def _named(self, scope: str, lfn: str) -> list[CachedFile]:
        found = []
        first = bisect_left(self._ids, (scope, lfn, "", 0))
        for at in range(first, len(self._ids)):
            if self._ids[at][:2] != (scope, lfn):
                break
            found.append(self.files[at])
        return found

    def size(self, ref: FileRef) -> int | None:
        """Size in bytes of the largest matching file; None if none is held."""
        return max((file.size_bytes for file in self.meant(ref)), default=None)
