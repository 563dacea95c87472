"""What the server asks of a catalog. Calls take lists, so that many pilots share one round trip.

Every method but `unreachable` and `close` raises `domain.errors.UnavailableError`
(CATALOG_UNAVAILABLE) when no server of the store answers.
Nodes and files are domain values with node names already in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pandawn_server.catalog.contents import Contents, Version
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


class Catalog(Protocol):
    """The picture of all caches. A hint: it may lose entries, and never invents them.

    A node is unknown when it never reported, was silent for too long, or when a part of what was
    kept of it got lost: then nothing is believed of it until its cache sends a full inventory.
    """

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """Applies deltas in order, one outcome each (see `domain.inventory.delta_result`).

        Concurrent writers to one node are serialised: no applied delta is lost. A direct delta
        (epoch 0) for an unknown node makes it known under an epoch that the catalog draws,
        unless it only deletes: then nothing changes. A delta that the store could not keep, for
        want of room say, is answered with INVENTORY_REQUESTED; a direct one raises
        `UnavailableError`, after all others were applied.
        """
        ...

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """Puts a full inventory in the place of what is known, and returns how wrong that was.

        There is no drift for an unknown node: what claims nothing is not wrong.
        """
        ...

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """Begins a new epoch with no files; returns how many were forgotten.

        None for an unknown node, of which nothing is written. 0 if `epoch` has begun
        already: a repeated flush does not forget what came after it.
        """
        ...

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """Compares what caches say of themselves with what is known; keeps matching ones alive.

        Returns for each whether a full inventory is needed: the node or its epoch is unknown, the
        digests differ at the same sequence number, or the numbers have differed for
        `lag.GRACE` without a change here (until then deltas are taken to be on their way).
        """
        ...

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """For each node and list of files: the size in bytes of each, None for one not held.

        Without a version any file of that name will do; of several held, the largest counts. None in
        place of the list for an unknown node. Cheapest with files by LFN, and when queries share one
        list object.
        """
        ...

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """For each node what it holds, unless that is what it held at the version given with it.

        None for an unknown node. One multi-get of heads for all; only nodes whose version is
        not the one given cost more. Any change of a node's files or of its cache's standing makes
        another version. A node named twice comes with the same version each time.
        """
        ...

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """`contents` and `touch` of the same nodes for one reading of their heads."""
        ...

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """For each node where its cache stands; None for an unknown node."""
        ...

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """Up to `limit` files of a node that come after `after` in the order of `FileId`.

        None for an unknown node.
        """
        ...

    def unreachable(self) -> list[str]:
        """Asks each server of the store and returns a sentence for each that does not answer."""
        ...

    def pulse(self) -> Pulse:
        """A cheap look at each server of the store. Does not raise.

        A pulse that is not the last one says that a server was lost, came back, or forgot
        everything: what was read before is to be compared anew.
        """
        ...

    def close(self) -> None:
        """Gives back connections."""
        ...
