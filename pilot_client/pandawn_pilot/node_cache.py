"""The cache of input files on a node, shared by all its pilots, any of which may die at any moment.

    files/      the entries, see cache_entry
    incoming/   transfers under way, and entries on their way out
    locks/      one lock a file, so that each is transferred once
    journal/    what the cache holds, and what of it was reported, see journal

Order of the locks: a file's, then the room's, then the journal's. The room only tries for locks of
files.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from pandawn_pilot import locks
from pandawn_pilot.cache_entry import Entry, describe
from pandawn_pilot.cache_room import CacheFullError, CacheLimits, CacheRoom, entries
from pandawn_pilot.checksums import FileSums, agrees, read_sums, wants_md5
from pandawn_pilot.errors import INPUT_CHECKSUM_MISMATCH, INPUT_SIZE_MISMATCH, JobFailedError
from pandawn_pilot.file_copy import place
from pandawn_pilot.inventory import CachedFile, FileKey
from pandawn_pilot.journal import Journal
from pandawn_pilot.logs import Log
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports.base import TransferError, TransferFault

READ_ONLY = 0o444
# Makes the file at a path, which may exist, a copy of the original.
Fetch = Callable[[Path], None]


class NodeCache:
    """The cache in a directory, which is made if it is missing."""

    def __init__(self, root: Path, limits: CacheLimits, log: Log) -> None:
        self.root = root
        self._log = log
        for name in ("files", "incoming", "locks"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.journal = Journal(root / "journal")
        self.room = CacheRoom(root, self.journal, limits, log)

    def deliver(self, wanted: CachedFile, destination: Path, fetch: Fetch, stop: Stop) -> bool:
        """Puts a file into a job's directory, read-only, transferring it if the cache lacks it.

        Returns whether it came out of the cache. While one process transfers a file, others that
        want it wait and then find it. A file for which there is no room goes past the cache.
        Raises JobFailedError for content that is not what `wanted` says, StoppedError, and what
        `fetch` raises.
        """
        entry = Entry.of(self.root, wanted.key)
        with locks.exclusive(entry.lock_path, stop):
            if self._has(entry, wanted, stop):
                place(entry.data, destination, stop)
                entry.touch()
                return True
            try:
                self._transfer(entry, wanted, fetch, stop)
            except CacheFullError as full:
                self._log.warning("%s goes past the cache: %s", wanted.lfn, full)
            else:
                place(entry.data, destination, stop)
                return False
        fetch(destination)
        check_content(destination, wanted, stop)
        destination.chmod(READ_ONLY)
        return False

    def holds(self, wanted: CachedFile) -> bool:
        """Whether the cache seems to hold the file; `deliver` may find otherwise."""
        known = self.journal.find(wanted.key)
        return known is not None and known.size_bytes == wanted.size_bytes

    def evictable_bytes(self) -> int:
        """Bytes that removing files would free."""
        return self.room.evictable_bytes()

    def heal(self) -> None:
        """Makes the journal say what the tree holds, and removes what dead processes left behind.

        To be called when a pilot starts: a kill between a change and its line in the journal, or
        somebody who emptied the directory by hand, may have parted them.
        """
        with locks.attempt(self.root / "heal.lock") as held:
            if not held:
                return
            self._clear_incoming()
            found = self._scan()
            known = {file.key: file for file in self.journal.snapshot().files}
            for key in {*found, *known}:
                if key not in found or key not in known or found[key] != known[key].size_bytes:
                    self._mend(key)

    def _has(self, entry: Entry, wanted: CachedFile, stop: Stop) -> bool:
        """Whether the entry can serve; one that cannot is removed. The caller holds its lock."""
        if not entry.directory.exists():
            if self.journal.find(wanted.key) is not None:
                self._log.warning("%s has vanished from the cache", wanted.lfn)
                self.journal.record(deleted=[wanted.key])
            return False
        why = entry.why_unusable(wanted, stop)
        if why is None:
            # A payload that owns the file can have made it writable for all who come after.
            if stat.S_IMODE(entry.data.stat().st_mode) != READ_ONLY:
                entry.data.chmod(READ_ONLY)
            meta = entry.read_meta()
            if meta is not None:
                self.journal.record(added=[meta.file()])
            return True
        self._log.warning("%s is transferred anew: in the cache, %s", wanted.lfn, why)
        self.room.discard(entry)
        self.journal.record(deleted=[wanted.key])
        return False

    def _transfer(self, entry: Entry, wanted: CachedFile, fetch: Fetch, stop: Stop) -> None:
        staging = self.room.incoming / f"{entry.name}.{secrets.token_hex(4)}"
        data = staging / "data"
        staging.mkdir(parents=True)
        try:
            self.room.reserve(data, wanted.size_bytes, stop)
            fetch(data)
            sums = check_content(data, wanted, stop)
            data.chmod(READ_ONLY)
            description = describe(wanted, data, sums)
            (staging / "meta.json").write_text(description, encoding="utf-8")
            entry.directory.parent.mkdir(parents=True, exist_ok=True)
            staging.rename(entry.directory)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if _is_full(error):
                raise CacheFullError(f"the disk of {self.root} filled up: {error}") from error
            raise
        meta = entry.read_meta()
        assert meta is not None, "an entry that was just made, under its lock"
        try:
            self.journal.record(added=[meta.file()])
        except OSError as error:
            # The file is there all the same. Whoever uses or heals the cache next will note it.
            self._log.warning("%s is not noted in the journal: %s", wanted.lfn, error)

    def _clear_incoming(self) -> None:
        for left in self.room.incoming.iterdir():
            name = left.name.partition(".")[0]
            # A transfer holds the lock of its file: if we get it, whoever transferred is dead.
            lock_path = Entry(self.root, name).lock_path
            with locks.attempt(lock_path) as held:
                if held:
                    shutil.rmtree(left, ignore_errors=True)
                    lock_path.unlink(missing_ok=True)

    def _scan(self) -> dict[FileKey, int]:
        found: dict[FileKey, int] = {}
        for entry in entries(self.root):
            meta = entry.read_meta()
            if meta is not None and entry.data.exists():
                found[meta.file().key] = meta.size_bytes
                continue
            with locks.attempt(entry.lock_path) as held:
                if held:
                    self.room.discard(entry)
        return found

    def _mend(self, key: FileKey) -> None:
        """Looks again, under the lock: the file may have come or gone since the scan."""
        entry = Entry.of(self.root, key)
        with locks.attempt(entry.lock_path) as held:
            if not held:
                return
            meta = entry.read_meta()
            if meta is not None and entry.data.exists():
                self.journal.record(added=[meta.file()])
            else:
                self.journal.record(deleted=[key])


def _is_full(error: BaseException) -> bool:
    if isinstance(error, TransferError):
        return error.fault is TransferFault.FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def check_content(data: Path, wanted: CachedFile, stop: Stop) -> FileSums:
    """Reads a file. Raises JobFailedError unless it has the wanted size and checksum."""
    sums = read_sums(data, with_md5=wants_md5(wanted.checksum), stop=stop)
    if sums.size_bytes != wanted.size_bytes:
        raise JobFailedError(
            INPUT_SIZE_MISMATCH,
            f"{wanted.lfn} arrived with {sums.size_bytes} bytes, expected {wanted.size_bytes}",
        )
    if not agrees(sums, wanted.checksum):
        raise JobFailedError(
            INPUT_CHECKSUM_MISMATCH,
            f"{wanted.lfn} arrived with {sums.md5 or sums.adler32}, expected {wanted.checksum}",
        )
    return sums
