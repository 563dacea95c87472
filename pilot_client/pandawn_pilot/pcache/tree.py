"""Walks pcache's tree with one system call per unchanged directory.

The mtime of a directory shows whether names in it changed, and pcache changes names only: a file appears
by rename and is never modified. So the file of an unchanged directory still exists. A deep walk also
checks each file, as jobs can modify it through a hard link.
"""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from pandawn_pilot.pcache.index import Row
from pandawn_pilot.pcache.layout import DATA

# Clocks of file systems tick every few milliseconds: a directory that has just changed may change again
# with the same mtime.
_TOO_FRESH_NS = 2_000_000_000
# Longest path that Linux opens, less room for file names in a directory. Deeper directories are not
# pcache's and are skipped, so that all others are still reported.
_MAX_PATH_BYTES = 4096 - 256
# Its name and its dot. (Some file systems do not count links, and return 1.)
_LINKS_OF_A_LEAF = 2


class Walk:
    """One walk over directories of `cache`; calls `opened` with each directory to watch.

    These are directories with subdirectories, or without their file yet. `opened` is called before the
    directory is read, so that the watch misses nothing. Afterwards `directories` has the mtimes of these
    directories, and `same` the paths of unchanged files.
    """

    def __init__(self, cache: str, opened: Callable[[str], None] | None = None) -> None:
        self.directories: dict[str, int] = {}
        self.same: set[str] = set()
        self._cache = cache
        self._opened = opened
        self._now_ns = time.time_ns()

    def again(
        self, rows: Mapping[str, Row], directories: Mapping[str, int], *, deep: bool
    ) -> Iterator[tuple[str, Row]]:
        """The new and changed files of the tree, with their paths, in no particular order.

        `rows` and `directories` are those of the last walk. Raises OSError for unreadable directories.
        """
        within: dict[str, list[str]] = defaultdict(list)
        for known in (rows, directories):
            for path in known:
                if path:
                    within[path.rpartition("/")[0]].append(path)
        waiting = [""]
        while waiting:
            path = waiting.pop()
            before = rows.get(path)
            is_watched = before is None or path in within
            if is_watched:
                self._open(path)
            status = self._status(path)
            if status is None:
                continue
            time_ns, _ = status
            known_ns = directories.get(path) if before is None else before.entry_ns
            if time_ns == 0 or time_ns != known_ns:
                yield from self._list(path, waiting)
                continue
            if is_watched:
                self.directories[path] = time_ns
                waiting.extend(within.get(path, ()))
            if before is None:
                continue
            row = self._look(path, time_ns) if deep else before
            if row is not None and row[:4] == before[:4]:
                self.same.add(path)
            elif row is not None:
                yield path, row

    def afresh(self, starts: Iterable[str]) -> Iterator[tuple[str, Row]]:
        """All files in and below some directories."""
        waiting = list(starts)
        while waiting:
            yield from self._list(waiting.pop(), waiting)

    def _list(self, path: str, waiting: list[str]) -> Iterator[tuple[str, Row]]:
        """Reads one directory: yields its file, and appends its subdirectories to `waiting`."""
        status = self._status(path)
        if status is None:
            return
        time_ns, links = status
        row = self._look(path, time_ns)
        if row is not None and links == _LINKS_OF_A_LEAF:
            yield path, row
            return
        if row is None:
            self._open(path)
        names, has_data = self._names(path)
        if row is not None and names:
            # Both a file and subdirectories, for example of an object store.
            self._open(path)
            names, _ = self._names(path)
        if row is None and has_data:
            row = self._look(path, time_ns)
        if row is None or names:
            self.directories[path] = time_ns
        room = _MAX_PATH_BYTES - len(os.fsencode(f"{self._cache}/{path}/"))
        waiting.extend(
            f"{path}/{name}" if path else name for name in names if len(os.fsencode(name)) < room
        )
        if row is not None:
            yield path, row

    def _open(self, path: str) -> None:
        if self._opened is not None:
            self._opened(path)

    def _status(self, path: str) -> tuple[int, int] | None:
        """A directory's mtime (0 if too recent) and number of links; None if it does not exist."""
        try:
            status = os.lstat(f"{self._cache}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(status.st_mode):
            return None
        time_ns = status.st_mtime_ns
        return time_ns if time_ns < self._now_ns - _TOO_FRESH_NS else 0, status.st_nlink

    def _look(self, path: str, time_ns: int) -> Row | None:
        try:
            data = os.lstat(f"{self._cache}/{path}/{DATA}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(data.st_mode):
            return None
        return Row(time_ns, data.st_ino, data.st_mtime_ns, data.st_size)

    def _names(self, path: str) -> tuple[list[str], bool]:
        """The subdirectories of a directory, and whether it has a file."""
        names: list[str] = []
        has_data = False
        try:
            with os.scandir(f"{self._cache}/{path}") as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        names.append(item.name)
                    elif item.name == DATA:
                        has_data = True
        except (FileNotFoundError, NotADirectoryError):
            pass
        return names, has_data
