"""A catalog that includes pinned files: a node holds what its cache reports, and its pins.

Pins appear in answers but are never written: deltas, inventories, digests and drift concern caches only. A file
that is both reported and pinned counts once; another version or size is another file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pandawn_server.catalog.contents import Contents, HeldFiles, Version, held_files
from pandawn_server.catalog.pins import PinBook, PinnedFiles
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.catalog.store import Pulse
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    Delta,
    DeltaOutcome,
    Drift,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
)

_NO_CACHE = Version(b"", 0, 0)
"""The version of a node that has only pins."""


class PinnedCatalog:
    """A `Catalog` that adds the pins of a book to another catalog's answers."""

    def __init__(self, caches: Catalog, book: PinBook) -> None:
        self._caches = caches
        self._book = book

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """See `Catalog.apply`."""
        return self._caches.apply(deltas, now)

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """See `Catalog.replace`."""
        return self._caches.replace(inventory, now)

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """See `Catalog.flush`."""
        return self._caches.flush(key, epoch, now)

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """See `Catalog.touch`."""
        return self._caches.touch(states, now)

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """See `Catalog.holdings`."""
        answers = self._caches.holdings(queries)
        nodes = self._book.nodes
        for position, (key, refs) in enumerate(queries):
            pins = nodes.get(key)
            if pins is not None:
                cached = answers[position] or [None] * len(refs)
                answers[position] = [
                    _larger(pins.size(ref), size) for ref, size in zip(refs, cached, strict=True)
                ]
        return answers

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """See `Catalog.contents`."""
        return self._with_pins(known, self._caches.contents(known))

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """See `Catalog.meet`."""
        met = self._caches.meet(callers, now)
        known = [(key, version) for key, version, _ in callers]
        joined = self._with_pins(known, [contents for contents, _ in met])
        return [(contents, needed) for contents, (_, needed) in zip(joined, met, strict=True)]

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """See `Catalog.summaries`."""
        nodes = self._book.nodes
        return [
            summary if (pins := nodes.get(key)) is None else _with_sums(key, summary, pins)
            for key, summary in zip(keys, self._caches.summaries(keys), strict=True)
        ]

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """See `Catalog.list_files`: only the cache's files, because the book has no names."""
        return self._caches.list_files(key, after, limit)

    def unreachable(self) -> list[str]:
        """See `Catalog.unreachable`."""
        return self._caches.unreachable()

    def pulse(self) -> Pulse:
        """See `Catalog.pulse`."""
        return self._caches.pulse()

    def close(self) -> None:
        """See `Catalog.close`."""
        self._caches.close()

    def _with_pins(
        self,
        known: Sequence[tuple[NodeKey, Version | None]],
        cached: list[Contents | None],
    ) -> list[Contents | None]:
        """Adds pins to what caches hold; `cached` may be unchanged even if the pins are not."""
        nodes = self._book.nodes
        incomplete: list[tuple[int, NodeKey, PinnedFiles | None]] = []
        for position, (key, version) in enumerate(known):
            pins, contents = nodes.get(key), cached[position]
            if pins is None and (version is None or not version.pins):
                continue
            if contents is not None and contents.files is None:
                if version is not None and version.pins == (pins.version if pins else 0):
                    continue
                # Only the pins have changed, but the answer needs all files.
                incomplete.append((position, key, pins))
            else:
                cached[position] = _joined(version, contents, pins)
        if incomplete:
            again = self._caches.contents([(key, None) for _, key, _ in incomplete])
            for (position, _, pins), contents in zip(incomplete, again, strict=True):
                cached[position] = _joined(None, contents, pins)
        return cached


def _joined(
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


def _larger(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _union(pinned: HeldFiles, cached: HeldFiles) -> HeldFiles:
    return held_files({*pinned, *cached})


def _with_sums(key: NodeKey, summary: CacheSummary | None, pins: PinnedFiles) -> CacheSummary:
    if summary is None:
        summary = CacheSummary(key, CacheState(0, 0, 0), 0, 0, pins.update_time)
    return summary.with_pins(len(pins.by_name), pins.total_bytes)
