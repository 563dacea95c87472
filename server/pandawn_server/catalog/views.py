"""What this process keeps of a node to answer questions: a compact view, or all entries."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pandawn_server.catalog.codec import GONE, Head, Records
from pandawn_server.catalog.contents import HeldFiles, file_key, held_files
from pandawn_server.domain.inventory import CachedFile, FileRef

_INSERT_ONE_BY_ONE = 64
"""Up to so many records are put into the arrays in place; more are merged through a dictionary."""

_SCAN_FACTOR = 8
"""A look-up by bisection costs about as much as passing over 8 keys in a row (measured)."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The files of one node, and the head that they follow from."""

    raw: bytes
    head: Head
    held: HeldFiles
    total_bytes: int

    def size(self, scope: str, lfn: str) -> int | None:
        """Size in bytes of a file, None if it is not held."""
        return self.held.size(file_key(scope, lfn))

    def is_sound(self) -> bool:
        """Whether the files add up to what the head says.

        They do not when the view was carried on from one that the head does not continue: after a
        flush, or when two servers went on apart while a memcached was out of reach for one.
        """
        sums = (self.head.file_count, self.head.total_bytes)
        return (len(self.held), self.total_bytes) == sums


def follow(base: View | None, raw: bytes, head: Head, news: Iterable[Records]) -> View:
    """The view after some records more than `base` has, which stays as it is; None: from nothing."""
    keys = base.held.file_keys[:] if base else array("q")
    sizes = base.held.sizes[:] if base else array("q")
    total_bytes = base.total_bytes if base else 0
    for records in news:
        names = zip(records.scopes, records.lfns, strict=True)
        changes = dict(zip(map(hash, names), records.sizes, strict=True))
        if len(changes) <= _INSERT_ONE_BY_ONE:
            total_bytes += _insert(keys, sizes, changes)
        else:
            keys, sizes = _merged(keys, sizes, changes)
            total_bytes = sum(sizes)
    return View(raw, head, HeldFiles(keys, sizes), total_bytes)


def _insert(keys: array[int], sizes: array[int], changes: Mapping[int, int]) -> int:
    """Puts changes into the arrays; returns by how many bytes the sum of sizes grew."""
    more_bytes = 0
    for key, size in changes.items():
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            more_bytes -= sizes[at]
            if size == GONE:
                del keys[at], sizes[at]
            else:
                sizes[at] = size
                more_bytes += size
        elif size != GONE:
            keys.insert(at, key)
            sizes.insert(at, size)
            more_bytes += size
    return more_bytes


def _merged(
    keys: array[int], sizes: array[int], changes: Mapping[int, int]
) -> tuple[array[int], array[int]]:
    merged = dict(zip(keys, sizes, strict=True))
    merged.update(changes)
    held = held_files((key, size) for key, size in merged.items() if size != GONE)
    return held.file_keys, held.sizes


class Wanted:
    """A list of files by LFN, prepared to be looked up on one node or on many."""

    def __init__(self, refs: Sequence[FileRef], *, in_many: bool) -> None:
        self._keys = [hash((scope, lfn)) for lfn, scope, _, _ in refs]
        self._places: dict[int, list[int]] = {}
        if in_many:
            for place, key in enumerate(self._keys):
                self._places.setdefault(key, []).append(place)

    def sizes_in(self, held: HeldFiles) -> list[int | None]:
        """The size of each file in the order of the list, None for one that is not held."""
        keys, sizes, places = held.file_keys, held.sizes, self._places
        found: list[int | None] = [None] * len(self._keys)
        if len(keys) < _SCAN_FACTOR * len(places):
            for at, key in enumerate(keys):
                if key in places:
                    for place in places[key]:
                        found[place] = sizes[at]
            return found
        count = len(keys)
        for place, key in enumerate(self._keys):
            at = bisect_left(keys, key)
            if at < count and keys[at] == key:
                found[place] = sizes[at]
        return found


class Entries:
    """All entries of one node in order of (scope, LFN): for listings, GUIDs, and packing."""

    def __init__(self, raw: bytes, head: Head, news: Iterable[Records]) -> None:
        self.raw = raw
        self.head = head
        held: dict[tuple[str, str], CachedFile] = {}
        for records in news:
            columns = zip(records.scopes, records.lfns, records.guids, records.sizes, strict=True)
            for scope, lfn, guid, size in columns:
                if size == GONE:
                    held.pop((scope, lfn), None)
                else:
                    held[scope, lfn] = CachedFile(lfn, size, scope, guid)
        self._names = sorted(held)
        self.files = [held[name] for name in self._names]
        self._by_guid: dict[str, list[CachedFile]] = {}
        for file in self.files:
            if file.guid:
                self._by_guid.setdefault(file.guid, []).append(file)

    def after(self, name: tuple[str, str] | None, limit: int) -> list[CachedFile]:
        """Up to `limit` files whose (scope, LFN) is greater than `name`."""
        first = 0 if name is None else bisect_right(self._names, name)
        return self.files[first : first + limit]

    def of_guid(self, guid: str) -> Sequence[CachedFile]:
        """The files of that GUID; more than one only if somebody gave it to two files."""
        return self._by_guid.get(guid, ())

    def size(self, ref: FileRef) -> int | None:
        """Size in bytes of a file by LFN or GUID, None if it is not held."""
        if ref.lfn:
            name = (ref.scope, ref.lfn)
            at = bisect_left(self._names, name)
            found = self.files[at : at + 1] if self._names[at : at + 1] == [name] else []
        else:
            found = list(self.of_guid(ref.guid)[:1])
        return found[0].size_bytes if found else None
