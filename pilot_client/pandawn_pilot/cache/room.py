"""The room of a node cache: reserved for transfers, made by removing what was unused longest."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.cache.entry import CODE, FILES, Entry
from pandawn_pilot.catalog.inventory import FileKey
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks
from pandawn_pilot.sizes import said
from pandawn_pilot.stop import Stop

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# pcache's: a cache with the disk for itself leaves a fifth to the jobs.
DEFAULT_SHARE_OF_DISK = 0.8
DEFAULT_LOW_WATER = 0.75
# Removing many files from a busy disk takes its time. A process that is stopped may not stop all others.
_LOCK_SECONDS = 120.0


class CacheFullError(Exception):
    """There is no room for a file, not even by removing others."""


@dataclass(frozen=True)
class CacheLimits:
    """When the files would exceed `high_bytes`, they are brought down to `low_bytes`."""

    high_bytes: int
    low_bytes: int


@dataclass(frozen=True)
class _Candidate:
    last_use: float
    entry: Entry
    size_bytes: int
    links: int


def default_limits(directory: Path, high_bytes: int | None, low_fraction: float) -> CacheLimits:
    """Limits of a cache in `directory`; without `high_bytes` they follow from its disk."""
    if high_bytes is None:
        high_bytes = int(shutil.disk_usage(directory).total * DEFAULT_SHARE_OF_DISK)
    return CacheLimits(high_bytes, int(high_bytes * low_fraction))


class CacheRoom:
    """Hands out the room of the cache at `root`, for all processes of the node."""

    def __init__(self, root: Path, journal: Journal, limits: CacheLimits, log: Log) -> None:
        self.limits = limits
        self._root = root
        self._journal = journal
        self._log = log
        self._lock_path = root / "room.lock"
        self.incoming = root / "incoming"

    def reserve(self, data: Path, size_bytes: int, stop: Stop) -> None:
        """Makes `data`, a new file below `incoming`, occupy the room that a transfer needs.

        Removes other files if it must. Raises CacheFullError when that does not help, and OSError.
        """
        with locks.exclusive(self._lock_path, stop, wait_seconds=_LOCK_SECONDS):
            self._shrink(size_bytes)
            if _allocate(data, size_bytes):
                return
            # The disk is smaller, or fuller by others, than the limits say.
            self._evict(size_bytes)
            if not _allocate(data, size_bytes):
                raise CacheFullError(f"the disk of {self._root} has no room for {said(size_bytes)}")

    def evictable_bytes(self) -> int:
        """Bytes that removing files would free."""
        return sum(candidate.size_bytes for candidate in self._candidates())

    def discard(self, entry: Entry) -> None:
        """Removes an entry from the tree, whole. To be called by the holder of its lock."""
        grave = self.incoming / f"removed-{secrets.token_hex(8)}"
        try:
            entry.directory.rename(grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    def _shrink(self, size_bytes: int) -> None:
        code_bytes = sum(candidate.size_bytes for candidate in self._found(CODE))
        used = self._journal.total_bytes() + code_bytes + self._incoming_bytes()
        excess = used + size_bytes - self.limits.high_bytes
        if excess <= 0:
            return
        # Asked first, so that a file which cannot fit does not empty the cache for nothing.
        if size_bytes > self.limits.high_bytes or excess > self.evictable_bytes():
            raise CacheFullError(
                f"{self._root} may hold {said(self.limits.high_bytes)}, {said(used)} are in use"
            )
        self._evict(max(excess, used + size_bytes - self.limits.low_bytes))

    def _evict(self, wanted_bytes: int) -> None:
        """Removes the files that were not used for longest, until they amount to `wanted_bytes`."""
        freed = 0
        gone: list[FileKey] = []
        for candidate in sorted(self._candidates(), key=_last_use):
            if freed >= wanted_bytes:
                break
            # Whoever holds the lock uses the file now.
            with locks.attempt(candidate.entry.lock_path) as held:
                meta = candidate.entry.read_meta() if held else None
                if meta is None or not _frees_room(candidate.entry.data):
                    continue
                self.discard(candidate.entry)
                candidate.entry.lock_path.unlink(missing_ok=True)
            freed += candidate.size_bytes
            if candidate.entry.top == FILES:
                gone.append(meta.file().key)
        # After the fact, and once for all of them.
        self._journal.record(deleted=gone)
        self._log.info("removed %d files of %d bytes from the cache", len(gone), freed)

    def _candidates(self) -> Iterator[_Candidate]:
        # A running job's hard link keeps the blocks: removing our name would free nothing.
        for top in (FILES, CODE):
            yield from (found for found in self._found(top) if found.links == 1)

    def _found(self, top: str) -> Iterator[_Candidate]:
        for entry in entries(self._root, top):
            try:
                status = entry.data.stat()
                last_use = entry.meta_path.stat().st_mtime
            except FileNotFoundError:
                continue
            yield _Candidate(last_use, entry, status.st_size, status.st_nlink)

    def _incoming_bytes(self) -> int:
        total = 0
        for data in self.incoming.glob("*/data"):
            try:
                total += data.stat().st_size
            except FileNotFoundError:
                continue
        return total


def entries(root: Path, top: str = FILES) -> Iterator[Entry]:
    """All entries of a cache, whole or not, in no order."""
    for group in _children(root / top):
        for directory in _children(group):
            yield Entry(root, directory.name, top)


def _children(directory: Path) -> list[Path]:
    try:
        return [
            Path(item.path) for item in os.scandir(directory) if item.is_dir(follow_symlinks=False)
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _last_use(candidate: _Candidate) -> float:
    return candidate.last_use


def _frees_room(data: Path) -> bool:
    try:
        return data.stat().st_nlink == 1
    except FileNotFoundError:
        return False


def _allocate(data: Path, size_bytes: int) -> bool:
    """Makes the file occupy its blocks; False when the disk is full."""
    descriptor = os.open(data, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if size_bytes:
            os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno in _FULL:
            os.ftruncate(descriptor, 0)
            return False
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        # A file system that cannot reserve: at least the other pilots see what is on its way.
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    return True
