"""What a node holds altogether: what its pilots cached, and what others keep beside that.

To the catalog a node has one inventory. Where the pilots of a node keep a cache and the node runs
a data server, too, two reporters with a journal each would take turns in replacing what the other
has told. So both report this journal, which follows theirs:

    <cache>/journal/            the node cache's own, see node_cache
    <cache>/beside/<name>/      of what else there is; kept by `pandawn-pcache-hook xrootd`
    <cache>/together/           this one
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pandawn_pilot.catalog.inventory import CachedFile, FileKey
from pandawn_pilot.catalog.journal import LOCK_SECONDS, Journal, Position, Snapshot
from pandawn_pilot.node import locks

_BESIDE = "beside"


def expect_more(cache_dir: Path) -> None:
    """Lets all who report a cache report the whole node, for there is going to be more than the cache."""
    (cache_dir / _BESIDE).mkdir(parents=True, exist_ok=True)


def has_more(cache_dir: Path) -> bool:
    """Whether the node of a cache holds more than that cache, or is expected to."""
    return (cache_dir / _BESIDE).is_dir()


def beside(cache_dir: Path, name: str) -> Path:
    """Where the journal of something beside a node cache has its place."""
    return cache_dir / _BESIDE / name


class NodeJournal(Journal):
    """The journal of all that is known of a node under a cache directory, its cache's first.

    A file that is in several places is held as long as one of them has it; with different sizes,
    as the first one has it.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._parts: dict[Path, Journal] = {}
        # What of the parts is in here as far as this process knows, and in which epoch of ours.
        self._followed: dict[Path, Position] = {}
        self._followed_epoch = 0
        super().__init__(cache_dir / "together")

    def position(self) -> Position:
        """Where the node stands now, all that its parts say included."""
        # Under a lock, or a slow process could put back what a faster one has taken further.
        with locks.exclusive(self.directory / "follow.lock", wait_seconds=LOCK_SECONDS):
            self._follow()
        return super().position()

    def snapshot(self) -> Snapshot:
        """See Journal; all that the parts hold is included."""
        self.position()
        return super().snapshot()

    def compact(self) -> None:
        """See Journal; the parts are compacted, too."""
        super().compact()
        for part in self._find_parts():
            part.compact()

    def _follow(self) -> None:
        parts = self._find_parts()
        positions = {part.directory: part.position() for part in parts}
        epoch = super().position().epoch
        if epoch == self._followed_epoch and positions == self._followed:
            return
        touched = self._touched(parts, epoch)
        if touched is None:
            wanted: dict[FileKey, CachedFile] = {}
            for part in reversed(parts):
                wanted.update({file.key: file for file in part.snapshot().files})
            gone = [file.key for file in super().snapshot().files if file.key not in wanted]
            self.record(deleted=gone, added=wanted.values())
        else:
            found = {key: _find(parts, key) for key in touched}
            self.record(
                deleted=[key for key, file in found.items() if file is None],
                added=[file for file in found.values() if file is not None],
            )
        self._followed, self._followed_epoch = positions, epoch

    def _touched(self, parts: Sequence[Journal], epoch: int) -> set[FileKey] | None:
        """Names that the parts have changed since we looked; None when all have to be compared."""
        if epoch != self._followed_epoch or {part.directory for part in parts} != {*self._followed}:
            return None
        touched: set[FileKey] = set()
        for part in parts:
            before = self._followed[part.directory]
            changes = part.changes_after(before.epoch, before.number)
            if changes is None:
                return None
            touched.update(change.file.key for change in changes)
        return touched

    def _find_parts(self) -> list[Journal]:
        others = (self._cache_dir / _BESIDE).glob("*/")
        directories = [self._cache_dir / "journal", *sorted(others)]
        self._parts = {
            directory: self._parts.get(directory) or Journal(directory) for directory in directories
        }
        return list(self._parts.values())


def _find(parts: Sequence[Journal], key: FileKey) -> CachedFile | None:
    return next((file for part in parts if (file := part.find(key)) is not None), None)
