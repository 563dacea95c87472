"""The pinned files of nodes, as this server process knows them.

The database stores the pins, and `usecases.catalog.pins` loads them here. A pin is a person's statement that no
cache would repeat, so it cannot be in the catalog's store, which may lose anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from pandawn_server.catalog.contents import (
    Contents,
    HeldFiles,
    Version,
    held_files,
    key_of,
    name_key,
)
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    FileRef,
    NodeKey,
)

DEFAULT_PIN_SILENCE = timedelta(days=30)
"""How long a node may be silent before its pins no longer count: longer than a repair, so the node is gone."""

_NO_CACHE = Version(b"", 0, 0)
"""The version of a node that has only pins."""


@dataclass(frozen=True, slots=True, eq=False)
class PinnedFiles:
    """The pinned files of a node by name and by GUID; each change makes a new `version`, never 0."""

    version: int
    by_name: HeldFiles
    by_guid: HeldFiles
    total_bytes: int
    update_time: datetime

    @classmethod
    def of(cls, version: int, files: Iterable[CachedFile], update_time: datetime) -> PinnedFiles:
        """Makes it from files, of which it keeps keys and sizes."""
        known = {file.file_id: file for file in files}.values()
        by_name = held_files(
            _row(name_key(file.scope, file.lfn), file.version, file.size_bytes) for file in known
        )
        by_guid = held_files(
            {_row(_guid_key(f.guid), f.version, f.size_bytes) for f in known if f.guid}
        )
        return cls(version, by_name, by_guid, sum(by_name.sizes), update_time)

    def size(self, ref: FileRef) -> int | None:
        """Size in bytes of the largest matching file, by LFN or GUID; None if none is pinned."""
        if ref.lfn:
            return self.by_name.size(name_key(ref.scope, ref.lfn), ref.version)
        return self.by_guid.size(_guid_key(ref.guid), ref.version)


def _row(name: int, version: str, size_bytes: int) -> tuple[int, int, int]:
    return name, key_of(name, version, size_bytes), size_bytes


def _guid_key(guid: str) -> int:
    return hash(guid)


class PinBook:
    """The pins of all nodes that count. Thread-safe."""

    def __init__(self, silence: timedelta = DEFAULT_PIN_SILENCE) -> None:
        """Leave out pins of nodes that were silent for longer than `silence`."""
        self.silence = silence
        # Hold it from reading the database to `replace`, so that the later of two readers is right.
        self.refreshing = Lock()
        self._nodes: Mapping[NodeKey, PinnedFiles] = {}

    @property
    def nodes(self) -> Mapping[NodeKey, PinnedFiles]:
        """All nodes with pins. The mapping is a snapshot and never changes."""
        return self._nodes

    def replace(self, nodes: Mapping[NodeKey, PinnedFiles]) -> None:
        """Replaces all pins by those from the database."""
        self._nodes = dict(nodes)


def joined(
    known: Version | None, cached: Contents | None, pins: PinnedFiles | None
) -> Contents | None:
    """Joins a cache's full contents (None: unknown) with the pins."""
    if pins is None:
        return cached
    version = (cached.version if cached else _NO_CACHE)._replace(pins=pins.version)
    if version == known:
        return Contents(version, version.epoch, version.sequence, None)
    files = pins.by_name
    if cached is not None and cached.files is not None:
        files = _union(files, cached.files)
    return Contents(version, version.epoch, version.sequence, files)


def larger(one: int | None, other: int | None) -> int | None:
    """The larger of two sizes; None counts for nothing."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _union(pinned: HeldFiles, cached: HeldFiles) -> HeldFiles:
    return held_files({*pinned, *cached})


def with_sums(key: NodeKey, summary: CacheSummary | None, pins: PinnedFiles) -> CacheSummary:
    """A cache's summary with the pins; None for an unknown cache."""
    if summary is None:
        summary = CacheSummary(key, CacheState(0, 0, 0), 0, 0, pins.update_time)
    return summary.with_pins(len(pins.by_name), pins.total_bytes)
