"""One node's cache while changes are applied to it, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import randbelow

from pandawn_server.catalog.codec import GONE, Record
from pandawn_server.catalog.views import Entries, View
from pandawn_server.domain.inventory import (
    NO_DRIFT,
    CachedFile,
    CacheState,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    Inventory,
    delta_result,
    file_digest,
)


def random_id() -> int:
    """A number of 64 random bits, not zero: an epoch, or the id of a part."""
    return 1 + randbelow(2**64 - 1)


class Draft:
    """Starts from what is known of a node and collects what is to be written.

    `state`, `file_count` and `total_bytes` are how the cache stands after the changes so far.
    `changes` is one record a file; if `cleared`, they are all that there is, else they come after
    what was known. `dirty` tells whether there is anything to write.
    """

    def __init__(
        self, view: View | None, entries: Entries | None = None, *, pack: bool = False
    ) -> None:
        """Starts from a view, None for an unknown node.

        `entries` hold the same as the view; they are needed to find files by GUID, and to `pack`,
        which makes `changes` begin with all that was known.
        """
        self.known = view is not None
        self.file_count = view.head.file_count if view else 0
        self.total_bytes = view.head.total_bytes if view else 0
        self.changes: dict[tuple[str, str], Record] = {}
        self.cleared = view is None
        self.dirty = False
        start = view.head.state if view else CacheState(0, 0, 0)
        self._epoch, self._sequence, self._digest = start.epoch, start.sequence, start.digest
        self._view = view
        self._entries = entries
        self._names_by_guid: dict[str, list[tuple[str, str]]] = {}
        if pack and entries is not None:
            for file in entries.files:
                self._record(file)
            self.cleared = True

    @property
    def state(self) -> CacheState | None:
        """Where the cache stands, None for an unknown node."""
        return CacheState(self._epoch, self._sequence, self._digest) if self.known else None

    def apply(self, delta: Delta) -> DeltaOutcome:
        """Applies a delta if it may be, see `domain.inventory.delta_result`."""
        if delta.epoch == 0:
            if not self.known:
                if not delta.added:
                    return DeltaOutcome(DeltaResult.APPLIED)
                self._begin(random_id())
            return DeltaOutcome(DeltaResult.APPLIED, self._change(delta))
        result = delta_result(self.state, delta)
        if result is not DeltaResult.APPLIED:
            return DeltaOutcome(result)
        if not self.known or self._epoch != delta.epoch:
            self._begin(delta.epoch)
        deleted = self._change(delta)
        self._stand_at(delta.sequence)
        return DeltaOutcome(DeltaResult.APPLIED, deleted)

    def replace(self, inventory: Inventory) -> Drift:
        """Puts an inventory in the place of all files; returns how wrong the catalog was."""
        files = {(file.scope, file.lfn): file for file in inventory.files}
        drift = self._drift(files.values()) if self.known else NO_DRIFT
        self._begin(inventory.epoch)
        for file in files.values():
            self._put(file)
        self._stand_at(inventory.sequence)
        return drift

    def flush(self, epoch: int) -> int | None:
        """Begins a new epoch; returns how many files were forgotten, None for an unknown node."""
        if not self.known:
            return None
        if self._epoch == epoch:
            return 0
        forgotten = self.file_count
        self._begin(epoch)
        return forgotten

    def _begin(self, epoch: int) -> None:
        self._epoch, self._sequence, self._digest = epoch, 0, 0
        self.file_count = self.total_bytes = 0
        self.changes.clear()
        self._names_by_guid.clear()
        self.known = self.cleared = self.dirty = True

    def _stand_at(self, sequence: int) -> None:
        self._sequence = sequence
        self.dirty = True

    def _change(self, delta: Delta) -> int:
        deleted = 0
        for ref in delta.deleted:
            for scope, lfn in [(ref.scope, ref.lfn)] if ref.lfn else self._named(ref.guid):
                size = self._size(scope, lfn)
                if size is not None:
                    self._count(scope, lfn, size, -1)
                    self.changes[scope, lfn] = Record(scope, lfn, "", GONE)
                    deleted += 1
        for file in delta.added:
            self._put(file)
        return deleted

    def _put(self, file: CachedFile) -> None:
        before = self._size(file.scope, file.lfn)
        if before is not None:
            self._count(file.scope, file.lfn, before, -1)
        self._count(file.scope, file.lfn, file.size_bytes, +1)
        self._record(file)

    def _record(self, file: CachedFile) -> None:
        self.changes[file.scope, file.lfn] = Record.of(file)
        if file.guid:
            self._names_by_guid.setdefault(file.guid, []).append((file.scope, file.lfn))

    def _count(self, scope: str, lfn: str, size: int, sign: int) -> None:
        self._digest ^= file_digest(scope, lfn, "", size)
        self.file_count += sign
        self.total_bytes += sign * size
        self.dirty = True

    def _size(self, scope: str, lfn: str) -> int | None:
        changed = self.changes.get((scope, lfn))
        if changed is not None:
            return None if changed.size_bytes == GONE else changed.size_bytes
        return None if self.cleared or self._view is None else self._view.size(scope, lfn)

    def _named(self, guid: str) -> list[tuple[str, str]]:
        changed = self._names_by_guid.get(guid, ())
        names = [name for name in dict.fromkeys(changed) if self.changes[name].guid == guid]
        if self._entries is not None and not self.cleared:
            known = [(file.scope, file.lfn) for file in self._entries.of_guid(guid)]
            # A file changed in this draft is in `names`, if it still has the GUID.
            names += [name for name in known if name not in self.changes]
        return names

    def _drift(self, true_files: Iterable[CachedFile]) -> Drift:
        # All known files are wrong until the inventory confirms them.
        files, size_bytes = self.file_count, self.total_bytes
        for file in true_files:
            believed = self._size(file.scope, file.lfn)
            if believed is None:
                files += 1
                size_bytes += file.size_bytes
            elif believed == file.size_bytes:
                files -= 1
                size_bytes -= file.size_bytes
            else:
                size_bytes += file.size_bytes - believed
        return Drift(files, size_bytes)
