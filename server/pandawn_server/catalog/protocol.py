"""What the server asks of a catalog backend. All calls take lists, so that many pilots share one round trip.

Every method raises `domain.errors.UnavailableError` (CATALOG_UNAVAILABLE) when the store does not answer.
Nodes and files are domain values with node names already in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pandawn_server.domain.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    Delta,
    DeltaOutcome,
    FileRef,
    Inventory,
    NodeKey,
)


AHEAD_GRACE = timedelta(seconds=60)
"""How long deltas may be on their way before the catalog asks for a full inventory instead."""


class Catalog(Protocol):
    """The picture of all caches. A hint: it may lose entries, and never invents them."""

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """Applies deltas in order, one outcome each (see `domain.inventory.delta_result`).

        Concurrent writers to one node are serialised: no applied delta is lost.
        """
        ...

    def replace(self, inventory: Inventory, now: datetime) -> int:
        """Puts a full inventory in the place of what is known; returns the files that differed (drift)."""
        ...

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """Begins a new epoch with no files; returns how many were forgotten, None if the node was unknown."""
        ...

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """Compares what caches say of themselves with what is known and keeps matching entries alive.

        Returns for each whether a full inventory is needed: the epoch is unknown, the digests
        differ at the same sequence number, or the cache has been ahead for `AHEAD_GRACE` without
        a report (until then its deltas are taken to be on their way).
        """
        ...

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[CachedFile | None] | None]:
        """For each node and list of files: the entry of each file or None. None for an unknown node."""
        ...

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """For each node where its cache stands; None for an unknown node."""
        ...

    def list_files(
        self, key: NodeKey, after: tuple[str, str] | None, limit: int
    ) -> list[CachedFile] | None:
        """Up to `limit` files of a node with (scope, lfn) greater than `after`, in that order.

        None for an unknown node.
        """
        ...

    def close(self) -> None:
        """Gives back connections."""
        ...
