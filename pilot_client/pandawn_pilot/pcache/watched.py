"""Manages the watches on a pcache's directories, and maps events to directories to scan.

It watches directories with subdirectories, and those without their file yet; not the many that have just
their file. pcache removes a file with its directory, which the watch on the parent shows.
"""

from __future__ import annotations

from pandawn_pilot.pcache.inotify import DIRECTORY, IGNORED, MOVED_SELF, OVERFLOW, Inotify
from pandawn_pilot.pcache.layout import CLAIM, DATA


class WatchedTree:
    """Watches on a tree below `cache`."""

    def __init__(self, inotify: Inotify, cache: str) -> None:
        self._inotify = inotify
        self._cache = cache
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}

    def opened(self, path: str) -> None:
        """Watches a directory, unless it is gone. Raises WatchError."""
        watch = self._inotify.add(f"{self._cache}/{path}")
        if watch is not None:
            self._forget(watch)
            self._paths[watch] = path
            self._watches[path] = watch

    def closed(self, path: str) -> None:
        """Removes the watch on a directory, if any."""
        watch = self._watches.get(path)
        if watch is not None:
            self._inotify.remove(watch)
            self._forget(watch)

    @property
    def is_rooted(self) -> bool:
        """Whether the cache itself is watched."""
        return "" in self._watches

    def changed(self) -> set[str] | None:
        """Directories with changes since the last call; None: scan all."""
        paths: set[str] = set()
        for event in self._inotify.read():
            if event.mask & OVERFLOW:
                return None
            path = self._paths.get(event.watch)
            if path is None:
                continue
            if event.mask & (IGNORED | MOVED_SELF):
                self._inotify.remove(event.watch)
                self._forget(event.watch)
                if not path:
                    # The whole cache was removed or renamed.
                    return None
                continue
            if event.mask & DIRECTORY:
                paths.add(f"{path}/{event.name}" if path else event.name)
            elif event.name in (DATA, CLAIM):
                paths.add(path)
        return paths

    def _forget(self, watch: int) -> None:
        path = self._paths.pop(watch, None)
        if path is not None and self._watches.get(path) == watch:
            del self._watches[path]
