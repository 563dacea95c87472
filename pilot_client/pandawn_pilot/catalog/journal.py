"""The journal of a cache: its epoch, its files, and every change since the base.

All processes of a node share it. Each has a copy in memory, and updates it under the journal's lock
before each read or write.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.catalog import journal_files
from pandawn_pilot.catalog.inventory import CachedFile, FileKey, file_digest
from pandawn_pilot.catalog.journal_files import Base, Change, Operation
from pandawn_pilot.node import locks

# A base of 100,000 files takes about a second to write, so it is rewritten rarely.
COMPACT_AFTER_CHANGES = 10_000
# Bounds the changes during a long outage of the server: an inventory replaces them.
FORGET_AFTER_CHANGES = 100_000
# The lock is held for milliseconds. A holder that is suspended, or waits for a hanging disk, must not block
# all others.
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Position:
    """A point in a cache's history: its epoch, the number of its last change, the digest after it."""

    epoch: int
    number: int
    digest: int


@dataclass(frozen=True)
class Snapshot:
    """All files at a position."""

    position: Position
    files: tuple[CachedFile, ...]


class Journal:
    """The journal in a directory, created if missing; a new journal starts a new epoch.

    All methods raise OSError when the directory cannot be used, or on a timeout of its lock.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mutex = threading.Lock()
        self._signature: journal_files.Signature | None = None
        self._base = Base(0, 0, ())
        self._files: dict[FileKey, CachedFile] = {}
        self._changes: list[Change] = []
        self._offset = 0
        self._digest = 0
        self._total_bytes = 0
        directory.mkdir(parents=True, exist_ok=True)
        with self._up_to_date():
            pass

    def record(self, *, added: Iterable[CachedFile] = (), deleted: Iterable[FileKey] = ()) -> None:
        """Records changes that the cache has already made: deletions, then additions.

        Skips deletions of unknown files, and additions of known files with the same size.
        """
        with self._up_to_date():
            planned = self._plan(added, deleted)
            if not planned:
                return
            first = self._number + 1
            lines = [
                journal_files.change_line(first + i, operation, file)
                for i, (operation, file) in enumerate(planned)
            ]
            self._offset = journal_files.append_lines(self._changes_path, self._offset, lines)
            for i, (operation, file) in enumerate(planned):
                self._apply(first + i, operation, file)
            if len(self._changes) > FORGET_AFTER_CHANGES:
                self._compact()

    def begin_epoch(self, files: Iterable[CachedFile] = ()) -> None:
        """Starts a new epoch in which the cache holds `files`; drops its history."""
        with self._up_to_date():
            journal_files.write_base(
                self.directory, Base(journal_files.new_epoch(), 0, tuple(files))
            )

    def compact(self) -> None:
        """Merges the changes into the base if there are many. Call it when all are reported."""
        with self._up_to_date():
            if len(self._changes) > max(COMPACT_AFTER_CHANGES, len(self._files)):
                self._compact()

    def position(self) -> Position:
        """The current position."""
        with self._up_to_date():
            return self._position()

    def snapshot(self) -> Snapshot:
        """All files, with the current position."""
        with self._up_to_date():
            return Snapshot(self._position(), tuple(self._files.values()))

    def changes_after(self, epoch: int, number: int) -> tuple[Change, ...] | None:
        """Changes after number `number` of the epoch, oldest first; None if they were dropped."""
        with self._up_to_date():
            if epoch != self._base.epoch or not self._base.number <= number <= self._number:
                return None
            return tuple(self._changes[number - self._base.number :])

    def find(self, key: FileKey) -> CachedFile | None:
        """The file with this key; None if the cache does not hold it."""
        with self._up_to_date():
            return self._files.get(key)

    def versions(self, scope: str, lfn: str) -> list[CachedFile]:
        """All cached versions of a file."""
        with self._up_to_date():
            return [file for file in self._files.values() if (file.scope, file.lfn) == (scope, lfn)]

    def total_bytes(self) -> int:
        """Sum of the sizes of all files."""
        with self._up_to_date():
            return self._total_bytes

    @property
    def _number(self) -> int:
        return self._base.number + len(self._changes)

    @property
    def _changes_path(self) -> Path:
        return journal_files.changes_path(self.directory, self._base.epoch, self._base.number)

    def _position(self) -> Position:
        return Position(self._base.epoch, self._number, self._digest)

    @contextmanager
    def _up_to_date(self) -> Iterator[None]:
        with self._alone(), locks.exclusive(self.directory / "lock", wait_seconds=LOCK_SECONDS):
            if self._signature is None or self._signature != journal_files.signature(
                self.directory
            ):
                self._load()
            self._read_on()
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._mutex.acquire(timeout=LOCK_SECONDS):
            raise locks.LockTimeoutError(self.directory)
        try:
            yield
        finally:
            self._mutex.release()

    def _load(self) -> None:
        base = journal_files.read_base(self.directory)
        if base is None:
            # New, wiped or damaged: the catalog's list of the cache is obsolete.
            base = Base(journal_files.new_epoch(), 0, ())
            journal_files.write_base(self.directory, base)
        self._signature = journal_files.signature(self.directory)
        self._base = base
        self._files = {}
        self._changes = []
        self._offset = 0
        self._digest = 0
        self._total_bytes = 0
        for file in base.files:
            self._put(file)

    def _read_on(self) -> None:
        """Applies what other processes have written since the last read."""
        try:
            changes, self._offset = journal_files.read_changes(self._changes_path, self._offset)
            for number, operation, file in changes:
                self._apply(number, operation, file)
        except (ValueError, TypeError, KeyError):
            # A damaged line: the rest cannot be trusted. The cache's repair finds its files again.
            journal_files.write_base(self.directory, Base(journal_files.new_epoch(), 0, ()))
            self._load()

    def _plan(
        self, added: Iterable[CachedFile], deleted: Iterable[FileKey]
    ) -> list[tuple[Operation, CachedFile]]:
        """The effective changes, in order; each is one XOR of the digest."""
        planned: list[tuple[Operation, CachedFile]] = []
        touched: dict[FileKey, CachedFile | None] = {}
        for key in deleted:
            known = touched[key] if key in touched else self._files.get(key)
            if known is not None:
                planned.append((Operation.DELETE, known))
                touched[key] = None
        for file in added:
            known = touched[file.key] if file.key in touched else self._files.get(file.key)
            if known is not None and known.size_bytes == file.size_bytes:
                continue
            if known is not None:
                planned.append((Operation.DELETE, known))
            planned.append((Operation.ADD, file))
            touched[file.key] = file
        return planned

    def _apply(self, number: int, operation: Operation, file: CachedFile) -> None:
        if operation is Operation.ADD:
            self._put(file)
        else:
            del self._files[file.key]
            self._digest ^= file_digest(file)
            self._total_bytes -= file.size_bytes
        self._changes.append(Change(number, operation, file, self._digest))

    def _put(self, file: CachedFile) -> None:
        self._files[file.key] = file
        self._digest ^= file_digest(file)
        self._total_bytes += file.size_bytes

    def _compact(self) -> None:
        journal_files.write_base(
            self.directory, Base(self._base.epoch, self._number, tuple(self._files.values()))
        )
