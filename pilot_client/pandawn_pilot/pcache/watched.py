"""Which directories of a pcache are watched, and where to look when something has happened.

Watched are directories that have others, and those whose file is still on its way: not the great
many that just have their file. pcache removes a file together with its directory, and that is seen
from above.
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
        """Begins to watch a directory, unless that is gone. Raises WatchError."""
        watch = self._inotify.add(f"{self._cache}/{path}")
        if watch is not None:
            self._forget(watch)
            self._paths[watch] = path
            self._watches[path] = watch

    def closed(self, path: str) -> None:
        """Ends the watch on a directory, if there is one."""
        watch = self._watches.get(path)
        if watch is not None:
            self._inotify.remove(watch)
            self._forget(watch)

    @property
    def is_rooted(self) -> bool:
        """Whether the cache itself is watched."""
        return "" in self._watches

    def changed(self) -> set[str] | None:
        """Directories to look at, for what has happened since the last call; None: look at all."""
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
                    # The whole cache is gone, or goes by another name.
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
