"""The space of a node cache: reserves it for transfers, and evicts the least recently used files."""

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
from pandawn_pilot.sizes import size_text
from pandawn_pilot.stop import Stop

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# As in pcache: a fifth of the disk is left to the jobs.
DEFAULT_SHARE_OF_DISK = 0.8
DEFAULT_LOW_WATER = 0.75
# Evicting many files on a busy disk takes long, but a suspended process must not block all others.
_LOCK_SECONDS = 120.0


class CacheFullError(Exception):
    """There is no room for a file, even after eviction."""


@dataclass(frozen=True)
class CacheLimits:
    """When the files would exceed `high_bytes`, files are evicted down to `low_bytes`."""

    high_bytes: int
    low_bytes: int


@dataclass(frozen=True)
class _Candidate:
    last_use: float
    entry: Entry
    size_bytes: int
    links: int


def default_limits(directory: Path, high_bytes: int | None, low_fraction: float) -> CacheLimits:
    """Limits of a cache in `directory`; without `high_bytes`, a share of its disk."""
    if high_bytes is None:
        high_bytes = int(shutil.disk_usage(directory).total * DEFAULT_SHARE_OF_DISK)
    return CacheLimits(high_bytes, int(high_bytes * low_fraction))


class CacheRoom:
    """Manages the space of the cache at `root` for all processes of the node."""

    def __init__(self, root: Path, journal: Journal, limits: CacheLimits, log: Log) -> None:
        self.limits = limits
        self._root = root
        self._journal = journal
        self._log = log
        self._lock_path = root / "room.lock"
        self.incoming = root / "incoming"

    def reserve(self, data: Path, size_bytes: int, stop: Stop) -> None:
        """Allocates the space for a transfer to `data`, a new file below `incoming`.

        Evicts other files if necessary. Raises CacheFullError when that does not help, and OSError.
        """
        with locks.exclusive(self._lock_path, stop, wait_seconds=_LOCK_SECONDS):
            self._shrink(size_bytes)
            if _allocate(data, size_bytes):
                return
            # The disk is smaller than the limits, or others fill it.
            self._evict(size_bytes)
            if not _allocate(data, size_bytes):
                raise CacheFullError(
                    f"the disk of {self._root} has no room for {size_text(size_bytes)}"
                )

    def evictable_bytes(self) -> int:
        """Bytes that eviction can free."""
        return sum(candidate.size_bytes for candidate in self._candidates())

    def discard(self, entry: Entry) -> None:
        """Removes an entry atomically. The caller holds its lock."""
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
        # Checked first, so that a file that cannot fit does not empty the cache.
        if size_bytes > self.limits.high_bytes or excess > self.evictable_bytes():
            raise CacheFullError(
                f"{self._root} has a limit of {size_text(self.limits.high_bytes)}, {size_text(used)} in use"
            )
        self._evict(max(excess, used + size_bytes - self.limits.low_bytes))

    def _evict(self, wanted_bytes: int) -> None:
        """Evicts the least recently used files until `wanted_bytes` are free."""
        freed = 0
        gone: list[FileKey] = []
        for candidate in sorted(self._candidates(), key=_last_use):
            if freed >= wanted_bytes:
                break
            # A file whose lock is held is in use.
            with locks.attempt(candidate.entry.lock_path) as held:
                meta = candidate.entry.read_meta() if held else None
                if meta is None or not _frees_room(candidate.entry.data):
                    continue
                self.discard(candidate.entry)
                candidate.entry.lock_path.unlink(missing_ok=True)
            freed += candidate.size_bytes
            if candidate.entry.top == FILES:
                gone.append(meta.file().key)
        # After the removal, and once for all files.
        self._journal.record(deleted=gone)
        self._log.info("evicted %d files from the cache, freed %d bytes", len(gone), freed)

    def _candidates(self) -> Iterator[_Candidate]:
        # Removing a file with a running job's hard link would free nothing.
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
    """All entries of a cache, complete or not, in no particular order."""
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
    """Allocates the file's blocks; False when the disk is full."""
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
        # The file system cannot allocate; the size still shows other pilots what is coming.
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    return True
