"""The books of a pcache: updates the journal, which is reported to the catalog, from the tree.

    <scratch>/pandawn-pcache/journal/       contents of the tree, and which are reported; see catalog/journal.py
    <scratch>/pandawn-pcache/entries.json   see index.py
    <scratch>/pandawn-pcache/scan.lock      held from the start of a scan until the journal is updated

All processes that keep the books of one pcache (cron, a watcher, pilots) share these. The journal records
only what was found on the disk.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.node_journal import NodeJournal, has_more
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.pcache.index import Index, Row, read_index, write_index
from pandawn_pilot.pcache.layout import Place, Stamp
from pandawn_pilot.pcache.names import read_names
from pandawn_pilot.pcache.tree import Walk

# Interval of scans that check each file, as jobs may have written to files that they got.
_DEEP_EVERY_SECONDS = 3600.0
# The first scan of 100,000 files takes 20 s, but a suspended process must not block all others.
_LOCK_SECONDS = 120.0


@dataclass(frozen=True)
class Holding:
    """Contents of a pcache: number of named files, their bytes, and number of files without a valid name."""

    file_count: int
    total_bytes: int
    unnamed_count: int


class Books:
    """The books of the pcache at a place; thread-safe. Without `naming`, the stored naming is used.

    The constructor and all methods raise OSError when the directories cannot be used.
    """

    def __init__(self, place: Place, naming: Naming | None, log: Log) -> None:
        self.place = place
        self._log = log
        self._mutex = threading.Lock()
        place.make_books("journal")
        self.journal = Journal(place.books / "journal")
        self._index_path = place.books / "entries.json"
        self._lock_path = place.books / "scan.lock"
        before = read_index(self._index_path)
        if before is None or naming not in (None, before.naming):
            # The naming has changed, so the index is useless.
            before = Index(naming or Naming())
        self._index = before
        # Paths of the files by key; built at first use.
        self._paths: dict[FileKey, set[str]] | None = None

    def reported(self) -> Journal:
        """The journal to report: this one, or the node's if it has other stores, too."""
        books = self.place.books
        return NodeJournal(books) if has_more(books) else self.journal

    def scan(self, opened: Callable[[str], None] | None = None) -> tuple[Holding, Stamp]:
        """Scans the whole tree and updates the journal; `opened` as in `Walk`.

        The returned stamp is from before the scan: when it changes, scan again.
        """
        # The whole scratch directory may have been wiped, with the books.
        self.place.make_books("journal")
        with self._exclusive():
            stamp = self.place.stamp()
            life = self._read_life()
            there = self.place.cache.is_dir()
            index = self._index
            is_deep = not 0 <= time.time() - index.deep_time < _DEEP_EVERY_SECONDS
            walk = Walk(str(self.place.cache), opened)
            found = dict(walk.again(index.rows, index.directories, deep=is_deep))
            gone = [path for path in index.rows if path not in walk.same and path not in found]
            self._take(found)
            self._drop(gone)
            index.directories = walk.directories
            if is_deep:
                index.deep_time = time.time()
            position = self.journal.position()
            is_known = there and life == position.epoch
            if found or gone or not is_known or index.position != (position.epoch, position.number):
                self._write_down(there=there, is_known=is_known)
                position = self.journal.position()
                index.position = (position.epoch, position.number)
                write_index(self._index_path, index)
            count = len(self.journal.snapshot().files)
            unnamed = sum(not row.lfn for row in index.rows.values())
            return Holding(count, self.journal.total_bytes(), unnamed), stamp

    def look(self, paths: Iterable[str], opened: Callable[[str], None] | None = None) -> None:
        """Scans some directories and all below them, and records changes there."""
        if self._read_life() != self.journal.position().epoch:
            # The cache was replaced: the index of other directories is obsolete.
            self.scan(opened)
            return
        starts = set(paths)
        with self._exclusive():
            before = _below(starts, self._index.rows)
            touched = {self._index.rows[path].key for path in before}
            walk = Walk(str(self.place.cache), opened)
            found = dict(walk.afresh(starts))
            # Only after the walk has succeeded: directories that are not in the index are not walked.
            for path in _below(starts, self._index.directories):
                del self._index.directories[path]
            self._take(found)
            self._drop([path for path in before if path not in found])
            self._index.directories.update(walk.directories)
            touched |= {self._index.rows[path].key for path in found}
            wanted = {key: self._file_of(key) for key in touched if key[1]}
            known = {key: self.journal.find(key) for key in wanted}
            self._record(wanted, known)

    def is_settled(self, path: str) -> bool:
        """Whether a directory last contained its file and no subdirectories."""
        return path in self._index.rows and path not in self._index.directories

    def _take(self, found: Mapping[str, Row]) -> None:
        """Reads the names of new and changed files."""
        for path, row in found.items():
            before = self._index.rows.get(path)
            names = read_names(
                f"{self.place.cache}/{path}",
                path,
                self._index.naming,
                (row.inode, row.data_ns, row.size_bytes),
            )
            if names is None and (before is None or before.lfn):
                self._log.warning("%r is not reported: the catalog does not accept its name", path)
            self._drop([path])
            self._index.rows[path] = row.named(names)
            if self._paths is not None:
                self._paths[self._index.rows[path].key].add(path)

    def _drop(self, paths: Iterable[str]) -> None:
        for path in paths:
            row = self._index.rows.pop(path, None)
            if row is not None and self._paths is not None:
                self._paths[row.key].discard(path)

    def _file_of(self, key: FileKey) -> CachedFile | None:
        """The file with this key; the newest if there are several."""
        rows = self._index.rows
        if self._paths is None:
            self._paths = defaultdict(set)
            for path, row in rows.items():
                self._paths[row.key].add(path)
        places = self._paths.get(key)
        return (
            max((rows[path].data_ns, path, rows[path]) for path in places)[2].file
            if places
            else None
        )

    def _files(self) -> dict[FileKey, CachedFile]:
        """All files, as from `_file_of`."""
        newest: dict[FileKey, tuple[int, str]] = {}
        for path, row in self._index.rows.items():
            if row.lfn:
                newest[row.key] = max((row.data_ns, path), newest.get(row.key, (-1, "")))
        return {key: self._index.rows[path].file for key, (_, path) in newest.items()}

    def _write_down(self, *, there: bool, is_known: bool) -> None:
        files = self._files()
        if is_known:
            known = {file.key: file for file in self.journal.snapshot().files}
            self._record(dict.fromkeys(known) | files, known)
        elif there or self.journal.snapshot().files:
            # Wiped, flushed, moved away, or our books are lost: earlier reports are obsolete.
            self.journal.begin_epoch(files.values())
            if there:
                self._mark_life()

    def _record(
        self,
        wanted: Mapping[FileKey, CachedFile | None],
        known: Mapping[FileKey, CachedFile | None],
    ) -> None:
        differ = [key for key, file in wanted.items() if known.get(key) != file]
        # A file with another size or GUID replaces the one of the same name: deletions first.
        self.journal.record(
            deleted=[key for key in differ if known.get(key) is not None],
            added=[file for key in differ if (file := wanted[key]) is not None],
        )

    def _read_life(self) -> int | None:
        try:
            return int(self.place.epoch_mark.read_text(encoding="ascii"), 16)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _mark_life(self) -> None:
        # If it was wiped again meanwhile, the next scan starts another epoch.
        with contextlib.suppress(FileNotFoundError):
            replace_text(self.place.epoch_mark, f"{self.journal.position().epoch:016x}")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._mutex.acquire(timeout=_LOCK_SECONDS):
            raise locks.LockTimeoutError(self._lock_path)
        try:
            with locks.exclusive(self._lock_path, wait_seconds=_LOCK_SECONDS):
                yield
        finally:
            self._mutex.release()


def _below(starts: Collection[str], paths: Iterable[str]) -> list[str]:
    inside = tuple(f"{path}/" if path else "" for path in starts)
    return [path for path in paths if path in starts or path.startswith(inside)]
