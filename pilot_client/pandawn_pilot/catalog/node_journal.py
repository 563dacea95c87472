"""The journal of all files of a node: those of its pilots' cache, and those of other stores.

In the catalog a node has one inventory. If a node has a pilot cache and a data server, two reporters with
separate journals would replace each other's inventories. So both report this journal, which follows
theirs:

    <cache>/journal/            the node cache's own, see cache/node_cache.py
    <cache>/beside/<name>/      of another store; written by `pandawn-pcache-hook xrootd`
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
    """Makes all reporters of a cache report the whole node: another store will be added."""
    (cache_dir / _BESIDE).mkdir(parents=True, exist_ok=True)


def has_more(cache_dir: Path) -> bool:
    """Whether the node has other stores than the cache, or expects one."""
    return (cache_dir / _BESIDE).is_dir()


def beside(cache_dir: Path, name: str) -> Path:
    """The directory of another store's journal."""
    return cache_dir / _BESIDE / name


class NodeJournal(Journal):
    """The journal of all stores of a node, its cache first.

    A file in several stores is listed while one of them has it; if sizes differ, with that of the first.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._parts: dict[Path, Journal] = {}
        # The positions of the parts that this journal includes, and the epoch of ours.
        self._followed: dict[Path, Position] = {}
        self._followed_epoch = 0
        super().__init__(cache_dir / "together")

    def position(self) -> Position:
        """The current position, after following all parts."""
        # Under a lock: else a slow process could undo the progress of a faster one.
        with locks.exclusive(self.directory / "follow.lock", wait_seconds=LOCK_SECONDS):
            self._follow()
        return super().position()

    def snapshot(self) -> Snapshot:
        """See Journal; includes all parts."""
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
        """Keys that the parts changed since the last call; None if all must be compared."""
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
