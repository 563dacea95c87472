"""The cache of input files on a node, shared by all its pilots, which may die at any moment.

    files/      the entries, see entry.py
    code/       sandboxes and libraries, by their SHA-256; not reported to the catalog
    incoming/   running transfers, and entries that are being removed
    locks/      one lock per file, so that each is transferred once
    journal/    contents of the cache, and which of them are reported, see catalog/journal.py
    counted     the epoch of the journal that was compared with the entries, see upkeep.py

Lock order: a file's, then the room's, then the journal's; the room never waits for a file's lock. After
any error of the cache's disk, files are transferred without the cache.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pandawn_pilot.cache.entry import CODE, FILES, Arrival, Entry, describe, rests_on_source
from pandawn_pilot.cache.input_cache import READ_ONLY, Origin
from pandawn_pilot.cache.room import CacheFullError, CacheLimits, CacheRoom
from pandawn_pilot.cache.trouble import CacheTrouble
from pandawn_pilot.cache.upkeep import CacheUpkeep
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks
from pandawn_pilot.node.file_copy import copy_contents, place
from pandawn_pilot.stop import Stop
from pandawn_transports.base import SourceStat, TransferError, TransferFault
from pandawn_transports.checksums import read_sums

# Errors of a disk that lost data, or of a damaged file system.
_DAMAGED = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ESTALE, errno.ENODATA})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# Longest wait for another process's transfer, which may be suspended: this, and the time of a transfer at
# the rate below.
TURN_SECONDS = 300.0
_MIN_BYTES_PER_SECOND = 1_000_000


class NodeCache:
    """The cache in a directory, which is created if missing. Raises OSError if that fails."""

    def __init__(self, root: Path, limits: CacheLimits, log: Log) -> None:
        self.root = root
        self._log = log
        for name in (FILES, CODE, "incoming", "locks"):
            _make_directory(root / name)
        self.journal = Journal(root / "journal")
        self.room = CacheRoom(root, self.journal, limits, log)
        self._upkeep = CacheUpkeep(root, self.journal, self.room, log)
        self._trouble = CacheTrouble(root, log)

    def deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop) -> bool:
        """See InputCache. A file of unknown version bypasses the cache.

        While one process transfers a file, others wait for it, for a bounded time. A file also bypasses
        the cache if there is no room, and if its disk fails.
        """
        if wanted.version:
            try:
                hit = self._deliver(wanted, destination, origin, stop)
            except CacheFullError as full:
                self._log.warning("%s is not cached: %s", wanted.lfn, full)
            except OSError as error:
                self._trouble.met(error)
            else:
                self._trouble.over()
                return hit
        # It may be a hard link to a cached file.
        destination.unlink(missing_ok=True)
        origin(destination)
        destination.chmod(READ_ONLY)
        return False

    def deliver_code(
        self, digest: str, destination: Path, fetch: Callable[[Path], None], stop: Stop
    ) -> bool:
        """See InputCache."""
        code = CachedFile(lfn=digest, size_bytes=0, version=f"sha256:{digest}", listed=False)
        entry = Entry.of(self.root, code.key, CODE)
        fetched = False
        try:
            with locks.exclusive(entry.lock_path, stop, wait_seconds=TURN_SECONDS):
                meta = entry.read_meta()
                size = 0 if meta is None else meta.size_bytes
                if self._take(entry, replace(code, size_bytes=size), destination, None, stop):
                    return True
                destination.unlink(missing_ok=True)
                fetch(destination)
                fetched = True
                self._adopt(entry, code, destination, stop)
        except CacheFullError as full:
            self._log.info("the sandbox is not cached: %s", full)
        except OSError as error:
            self._trouble.met(error)
        if not fetched:
            destination.unlink(missing_ok=True)
            fetch(destination)
        return False

    def holds(self, wanted: CachedFile) -> bool:
        """See InputCache."""
        try:
            known = self.journal.find(wanted.key)
        except OSError as error:
            self._trouble.met(error)
            return False
        return bool(wanted.version) and known is not None and known.size_bytes == wanted.size_bytes

    def evictable_bytes(self) -> int:
        """See InputCache."""
        try:
            return self.room.evictable_bytes()
        except OSError as error:
            self._trouble.met(error)
            return 0

    def heal(self) -> None:
        """Repairs the journal to match the files; call it when a pilot starts. Raises OSError."""
        self._upkeep.heal()

    def look(self) -> None:
        """Records files that other programs deleted; call it regularly. Raises OSError."""
        self._upkeep.look()

    def _deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop) -> bool:
        entry = Entry.of(self.root, wanted.key, FILES if wanted.listed else CODE)
        patience = TURN_SECONDS + wanted.size_bytes / _MIN_BYTES_PER_SECOND
        with locks.exclusive(entry.lock_path, stop, wait_seconds=patience):
            if self._take(entry, wanted, destination, origin.source, stop):
                return True
            self._transfer(entry, wanted, origin, stop)
            place(entry.data, destination, stop)
            return False

    def _take(
        self,
        entry: Entry,
        wanted: CachedFile,
        destination: Path,
        source: SourceStat | None,
        stop: Stop,
    ) -> bool:
        """Delivers a valid entry; removes an invalid one. The caller holds its lock."""
        try:
            if not self._has(entry, wanted, source, stop):
                return False
            place(entry.data, destination, stop)
        except OSError as error:
            if error.errno not in _DAMAGED or _is_readable(entry.data, stop):
                raise
            self._log.warning("removed %s from the cache, as it is damaged: %s", wanted.lfn, error)
            self._drop(entry, wanted)
            return False
        with contextlib.suppress(OSError):
            entry.touch()
        return True

    def _has(self, entry: Entry, wanted: CachedFile, source: SourceStat | None, stop: Stop) -> bool:
        """Whether the entry is valid; removes an invalid one. The caller holds its lock."""
        if not entry.directory.exists():
            if wanted.listed and self.journal.find(wanted.key) is not None:
                self._log.warning("%s was deleted from the cache by another program", wanted.lfn)
                self.journal.record(deleted=[wanted.key])
            return False
        why = entry.why_unusable(wanted, source, stop)
        if why is None:
            # A payload that owns the file may have made it writable.
            if stat.S_IMODE(entry.data.stat().st_mode) != READ_ONLY:
                entry.data.chmod(READ_ONLY)
            self._record(entry, wanted)
            return True
        self._log.warning("transferring %s again, its cache entry is invalid: %s", wanted.lfn, why)
        self._drop(entry, wanted)
        return False

    def _drop(self, entry: Entry, wanted: CachedFile) -> None:
        with contextlib.suppress(OSError):
            self.room.discard(entry)
        if wanted.listed:
            self.journal.record(deleted=[wanted.key])

    def _transfer(self, entry: Entry, wanted: CachedFile, origin: Origin, stop: Stop) -> None:
        self._upkeep.ensure_counted()

        def fetch(data: Path) -> Arrival:
            try:
                return origin(data)
            except TransferError as error:
                if error.fault is TransferFault.LOCAL:
                    raise OSError(errno.EIO, str(error)) from error
                if error.fault is TransferFault.OTHER:
                    # A copy program does not say whether source or destination failed.
                    self._probe()
                raise

        self._make(entry, wanted, wanted.size_bytes, fetch, stop)
        if wanted.listed:
            self._age_others(wanted)

    def _adopt(self, entry: Entry, code: CachedFile, source: Path, stop: Stop) -> None:
        """Adds a copy of a downloaded sandbox."""
        self._upkeep.ensure_counted()

        def fetch(data: Path) -> Arrival:
            copy_contents(source, data, stop)
            return Arrival(read_sums(data, [code.version], stop=stop))

        self._make(entry, code, source.stat().st_size, fetch, stop)

    def _make(
        self,
        entry: Entry,
        wanted: CachedFile,
        size_bytes: int,
        fetch: Callable[[Path], Arrival],
        stop: Stop,
    ) -> None:
        staging = self.room.incoming / f"{entry.name}.{secrets.token_hex(4)}"
        data = staging / "data"
        staging.mkdir(parents=True)
        try:
            self.room.reserve(data, size_bytes, stop)
            arrival = fetch(data)
            data.chmod(READ_ONLY)
            description = describe(wanted, data, arrival)
            (staging / "meta.json").write_text(description, encoding="utf-8")
            entry.directory.parent.mkdir(parents=True, exist_ok=True)
            staging.rename(entry.directory)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if _is_full(error):
                raise CacheFullError(f"the disk of {self.root} is full: {error}") from error
            raise
        self._record(entry, wanted)

    def _record(self, entry: Entry, wanted: CachedFile) -> None:
        meta = entry.read_meta()
        if not wanted.listed or meta is None:
            return
        try:
            self.journal.record(added=[meta.file()])
        except OSError as error:
            # The file is cached all the same; its next use, or the next repair, records it.
            self._log.warning("cannot record %s in the journal: %s", wanted.lfn, error)

    def _age_others(self, wanted: CachedFile) -> None:
        """Makes older versions of a file from the same source the first to be evicted."""
        if not rests_on_source(wanted.version):
            return
        mark = wanted.version.rpartition("@")[2]
        with contextlib.suppress(OSError):
            for other in self.journal.versions(wanted.scope, wanted.lfn):
                if other.key != wanted.key and other.version.endswith(f"@{mark}"):
                    Entry.of(self.root, other.key).age()

    def _probe(self) -> None:
        """Raises OSError if the cache's disk is not writable now."""
        probe = self.room.incoming / f"removed-probe-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"probe")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


def _make_directory(directory: Path) -> None:
    """Creates a private directory of the cache: others may not be allowed to read the sources."""
    directory.mkdir(parents=True, exist_ok=True)
    # Unless several trusted accounts share the cache.
    is_shared = directory.parent.stat().st_mode & 0o022
    status = directory.stat()
    if not is_shared and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, TransferError):
        return error.fault is TransferFault.FULL
    return isinstance(error, OSError) and error.errno in _FULL


def _is_readable(data: Path, stop: Stop) -> bool:
    try:
        read_sums(data, stop=stop)
    except OSError:
        return False
    return True
