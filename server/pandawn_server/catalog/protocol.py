"""The interface of a catalog. Calls take lists, so that many pilots share one round trip.

Every method except `unreachable` and `close` raises `domain.errors.UnavailableError` (CATALOG_UNAVAILABLE) when
no server of the store answers. Nodes and files are domain values, with node names already in lower case.
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
    """What all caches hold. A hint: it may lose entries, but never invents them.

    A node is unknown if it never reported, was silent for too long, or if part of its data was lost. Then nothing
    counts as known about it until its cache sends a full inventory.
    """

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """Applies deltas in order; returns one outcome each (see `domain.inventory.delta_result`).

        Concurrent writers to one node are serialised: no applied delta is lost. A direct delta (epoch 0) makes an
        unknown node known, under an epoch that the catalog draws, unless it only deletes: then nothing changes. A
        delta that the store could not keep, for example for lack of room, gets INVENTORY_REQUESTED; a direct one
        raises `UnavailableError`, after all others were applied.
        """
        ...

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """Replaces what is known by a full inventory, and returns how wrong that was.

        There is no drift for an unknown node.
        """
        ...

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """Starts a new epoch with no files; returns how many files were dropped.

        Returns None for an unknown node, and writes nothing. Returns 0 if `epoch` has started already: a repeated
        flush does not drop later files.
        """
        ...

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """Compares the states that caches report with the known ones; keeps matching nodes alive.

        Returns for each node whether a full inventory is needed: the node or its epoch is unknown, the digests
        differ at the same sequence number, or the numbers have differed for `lag.GRACE` without a change here
        (until then deltas are assumed to be on their way).
        """
        ...

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """The sizes in bytes of each node's list of files; None for a file that is not held.

        Without a version any file of that name matches; of several, the largest counts. None in place of the list
        means an unknown node. Cheapest with files by LFN, and when queries share one list object.
        """
        ...

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """What each node holds, unless it is unchanged since the given version.

        None for an unknown node. Costs one multi-get of heads for all; only nodes with another version cost more.
        Any change of a node's files or of its cache's state makes a new version. A node named twice must come with
        the same version each time.
        """
        ...

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """`contents` and `touch` of the same nodes, reading their heads once."""
        ...

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """The state of each node's cache; None for an unknown node."""
        ...

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """Up to `limit` files of a node after `after`, in the order of `FileId`; None for an unknown node."""
        ...

    def unreachable(self) -> list[str]:
        """Contacts each server of the store; returns a sentence for each that does not answer."""
        ...

    def pulse(self) -> Pulse:
        """The state of each server of the store, read cheaply. Does not raise.

        If it differs from the last pulse, a server was lost, came back, or lost its content: compare again what
        was read before.
        """
        ...

    def close(self) -> None:
        """Closes connections."""
        ...
