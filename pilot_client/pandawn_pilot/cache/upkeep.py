"""Repairs the journal of a node cache to match its files, at the start and while pilots run.

They differ after a kill between a change and its line in the journal, after a power cut, and when other
programs delete files. The files are right.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from pandawn_pilot.cache.entry import CODE, FILES, Entry, Meta
from pandawn_pilot.cache.room import CacheRoom, entries
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks
from pandawn_pilot.node.durable import replace_text

# Interval between checks whether the files exist: at least this, ...
LOOK_SECONDS = 10.0
# ... and so long that checks use at most this share of one CPU.
_LOOK_SHARE = 0.02
# Longest wait for a repair by another process, of a large cache on a busy disk.
_HEAL_SECONDS = 120.0


class CacheUpkeep:
    """Repairs the cache at `root`. All methods raise OSError when it cannot be used."""

    def __init__(self, root: Path, journal: Journal, room: CacheRoom, log: Log) -> None:
        self._root = root
        self._journal = journal
        self._room = room
        self._log = log
        # The epoch of the journal that was last compared with the tree, here and for all processes.
        self._counted: int | None = None
        self._counted_path = root / "counted"
        self._look_at = 0.0

    def heal(self) -> None:
        """Repairs the journal, and removes leftovers of dead processes."""
        with locks.attempt(self._root / "heal.lock") as held:
            if held:
                self._heal()

    def ensure_counted(self) -> None:
        """Repairs the journal if it was reset since it was last compared with the files.

        A damaged journal is reset, and then lacks files that use space.
        """
        epoch = self._journal.position().epoch
        if epoch == self._counted:
            return
        with locks.attempt(self._root / "heal.lock", _HEAL_SECONDS) as held:
            if _read_epoch(self._counted_path) == epoch:
                self._counted = epoch
            elif held:
                self._heal()

    def look(self) -> None:
        """Records files that other programs deleted. Call it often: it limits its own CPU use."""
        now = time.monotonic()
        if now < self._look_at:
            return
        gone = [file for file in self._journal.snapshot().files if not self._is_there(file)]
        for file in gone:
            self._mend(file.key)
        if gone:
            self._log.warning(
                "other programs deleted %d files from the cache, for example %s",
                len(gone),
                gone[0].lfn,
            )
        # Notices a journal that was reset while nothing is transferred.
        self.ensure_counted()
        took = time.monotonic() - now
        self._look_at = now + max(LOOK_SECONDS, took / _LOOK_SHARE)

    def _heal(self) -> None:
        epoch = self._journal.position().epoch
        self._clear_incoming()
        self._scan(CODE)
        found = {meta.file().key: meta for meta in self._scan(FILES)}
        known = {file.key: file for file in self._journal.snapshot().files}
        for key in {*found, *known}:
            if (
                key not in found
                or key not in known
                or found[key].size_bytes != known[key].size_bytes
            ):
                self._mend(key)
        if self._journal.position().epoch == epoch:
            replace_text(self._counted_path, f"{epoch:016x}")
            self._counted = epoch

    def _is_there(self, file: CachedFile) -> bool:
        try:
            status = Entry.of(self._root, file.key).data.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return status.st_size == file.size_bytes

    def _clear_incoming(self) -> None:
        for left in self._room.incoming.glob("*"):
            # A transfer holds the lock of its file: if the lock is free, its process is dead.
            lock_path = Entry(self._root, left.name.partition(".")[0]).lock_path
            with locks.attempt(lock_path) as held:
                if held:
                    shutil.rmtree(left, ignore_errors=True)
                    lock_path.unlink(missing_ok=True)

    def _scan(self, top: str) -> list[Meta]:
        """The metadata of all entries; removes entries without, or with an old format."""
        found: list[Meta] = []
        for entry in entries(self._root, top):
            meta = entry.read_meta()
            if meta is not None and entry.data.exists():
                found.append(meta)
                continue
            with locks.attempt(entry.lock_path) as held:
                if held:
                    self._room.discard(entry)
        return found

    def _mend(self, key: FileKey) -> None:
        """Checks a file again under its lock, as it may have changed since the scan."""
        entry = Entry.of(self._root, key)
        with locks.attempt(entry.lock_path) as held:
            if not held:
                return
            meta = entry.read_meta()
            if meta is not None and entry.data.exists() and meta.file().key == key:
                self._journal.record(added=[meta.file()])
            else:
                self._room.discard(entry)
                self._journal.record(deleted=[key])


def _read_epoch(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"), 16)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
