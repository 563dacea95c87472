"""One node's cache while changes are applied, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import randbelow

from pandawn_server.catalog.codec import Record, gone
from pandawn_server.catalog.contents import key_of, name_key
from pandawn_server.catalog.views import Entries, View
from pandawn_server.domain.catalog.inventory import (
    NO_DRIFT,
    CachedFile,
    CacheState,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    FileId,
    FileRef,
    Inventory,
    delta_result,
    file_digest,
)


def random_id() -> int:
    """A random non-zero 64-bit number: an epoch, or the id of a part."""
    return 1 + randbelow(2**64 - 1)


class Draft:
    """Starts from what is known of a node and collects what is to be written.

    `state`, `file_count` and `total_bytes` reflect the changes so far. `changes` has one record per file; if
    `cleared` is set they are all there is, else they follow what was known. `dirty` is set if there is anything
    to write.
    """

    def __init__(
        self, view: View | None, entries: Entries | None = None, *, pack: bool = False
    ) -> None:
        """Starts from a view; None for an unknown node.

        `entries` have the same content as the view. They are needed to delete files named by less than scope, LFN
        and version, and to `pack`, which makes `changes` start with all that was known.
        """
        self.known = view is not None
        self.file_count = view.head.file_count if view else 0
        self.total_bytes = view.head.total_bytes if view else 0
        self.changes: dict[FileId, Record] = {}
        self.cleared = view is None
        self.dirty = False
        start = view.head.state if view else CacheState(0, 0, 0)
        self._epoch, self._sequence, self._digest = start.epoch, start.sequence, start.digest
        self._view = view
        self._entries = entries
        # Changed files, held or not. The index by name is built on first use: inventories rarely need it.
        self._by_name: dict[tuple[str, str], list[FileId]] | None = None
        self._by_guid: dict[str, list[FileId]] = {}
        if pack and entries is not None:
            for file in entries.files:
                self._record(file, file.file_id)
            self.cleared = True

    @property
    def state(self) -> CacheState | None:
        """Where the cache stands, None for an unknown node."""
        return CacheState(self._epoch, self._sequence, self._digest) if self.known else None

    def apply(self, delta: Delta) -> DeltaOutcome:
        """Applies a delta if it is applicable, see `domain.inventory.delta_result`."""
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
        """Replaces all files by an inventory; returns how wrong the catalog was."""
        # Of files with one name and unknown version, the last one counts, as in `_put`.
        files = {
            file.file_id if file.version else (file.scope, file.lfn): file
            for file in inventory.files
        }
        drift = self._drift(files.values()) if self.known else NO_DRIFT
        self._begin(inventory.epoch)
        for file in files.values():
            self._put(file)
        self._stand_at(inventory.sequence)
        return drift

    def flush(self, epoch: int) -> int | None:
        """Starts a new epoch; returns how many files were dropped, None for an unknown node."""
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
        self._by_name = None
        self._by_guid.clear()
        self.known = self.cleared = self.dirty = True

    def _stand_at(self, sequence: int) -> None:
        self._sequence = sequence
        self.dirty = True

    def _change(self, delta: Delta) -> int:
        deleted = 0
        for ref in delta.deleted:
            for file_id in self._meant(ref):
                self._drop(file_id)
                deleted += 1
        for file in delta.added:
            self._put(file)
        return deleted

    def _put(self, file: CachedFile) -> None:
        file_id = file.file_id
        if not file.version:
            # A file of unknown version replaces the earlier one of that name.
            for before in self._unversioned(file.scope, file.lfn):
                if before != file_id:
                    self._drop(before)
        if not self._holds(file_id):
            self._count(file_id, +1)
        self.dirty = True
        self._record(file, file_id)

    def _drop(self, file_id: FileId) -> None:
        self._count(file_id, -1)
        scope, lfn, version, size = file_id
        self._set_record(file_id, Record(scope, lfn, "", version, gone(size)))

    def _record(self, file: CachedFile, file_id: FileId) -> None:
        self._set_record(file_id, Record.of(file))
        if file.guid:
            self._by_guid.setdefault(file.guid, []).append(file_id)

    def _set_record(self, file_id: FileId, record: Record) -> None:
        if self._by_name is not None and file_id not in self.changes:
            self._by_name.setdefault(file_id[:2], []).append(file_id)
        self.changes[file_id] = record

    def _changed(self, scope: str, lfn: str) -> Sequence[FileId]:
        """The changed files with a name."""
        if self._by_name is None:
            self._by_name = {}
            for file_id in self.changes:
                self._by_name.setdefault(file_id[:2], []).append(file_id)
        return self._by_name.get((scope, lfn), ())

    def _count(self, file_id: FileId, sign: int) -> None:
        self._digest ^= file_digest(*file_id)
        self.file_count += sign
        self.total_bytes += sign * file_id[3]
        self.dirty = True

    def _holds(self, file_id: FileId) -> bool:
        changed = self.changes.get(file_id)
        if changed is not None:
            return changed.size_bytes >= 0
        if self.cleared or self._view is None:
            return False
        scope, lfn, version, size = file_id
        name = name_key(scope, lfn)
        return self._view.held.place(name, key_of(name, version, size)) is not None

    def _meant(self, ref: FileRef) -> list[FileId]:
        """The held files that a reference matches: without a version, all with that name."""
        if ref.guid:
            changed: Sequence[FileId] = self._by_guid.get(ref.guid, ())
            found = [one for one in dict.fromkeys(changed) if self.changes[one].guid == ref.guid]
        else:
            changed = self._changed(ref.scope, ref.lfn)
            found = [one for one in changed if self.changes[one].size_bytes >= 0]
        if ref.version:
            found = [one for one in found if one[2] == ref.version]
        # Changed files are already included, if they still have the name.
        found += [one for one in self._known(ref) if one not in self.changes]
        return found

    def _known(self, ref: FileRef) -> list[FileId]:
        """The matching files among those known before this draft."""
        if self.cleared:
            return []
        if self._entries is not None:
            return [file.file_id for file in self._entries.meant(ref)]
        if self._view is None:
            return []
        assert ref.version, "a reference without version needs the entries"
        sizes = self._view.held.versions(name_key(ref.scope, ref.lfn), ref.version)
        return [(ref.scope, ref.lfn, ref.version, size) for size in sizes]

    def _unversioned(self, scope: str, lfn: str) -> list[FileId]:
        changed = self._changed(scope, lfn)
        found = [one for one in changed if not one[2] and self.changes[one].size_bytes >= 0]
        if not self.cleared and self._view is not None:
            sizes = self._view.held.unknown_versions(name_key(scope, lfn))
            known: list[FileId] = [(scope, lfn, "", size) for size in sizes]
            found += [one for one in known if one not in self.changes]
        return found

    def _drift(self, true_files: Iterable[CachedFile]) -> Drift:
        # All known files count as wrong until the inventory confirms them.
        files, size_bytes = self.file_count, self.total_bytes
        for file in true_files:
            sign = -1 if self._holds(file.file_id) else 1
            files += sign
            size_bytes += sign * file.size_bytes
        return Drift(files, size_bytes)


def needs_entries(delta: Delta) -> bool:
    """Whether a delta can only be applied by a draft with entries."""
    return any(not ref.lfn or not ref.version for ref in delta.deleted)
