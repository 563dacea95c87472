"""The catalog over a store of values: one head per node, and parts with the files of larger nodes.

The match path costs one multi-get of heads for all nodes of a batch; only changes since this process last read
are fetched and decoded. Writers read a head, write parts under new random keys, and replace the head by
compare-and-set. So a reader sees one state or the other, never a half-finished write. A lost part makes its
node unknown.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from typing import TypeVar

from pandawn_server.catalog.codec import Head
from pandawn_server.catalog.contents import Contents, Version
from pandawn_server.catalog.draft import Draft, needs_entries
from pandawn_server.catalog.lag import LagWatch
from pandawn_server.catalog.lifetimes import Lifetimes
from pandawn_server.catalog.snapshots import Snapshots
from pandawn_server.catalog.store import Pulse, Store
from pandawn_server.catalog.views import Wanted
from pandawn_server.catalog.writer import Writer
from pandawn_server.domain.catalog.inventory import (
    CachedFile,
    CacheState,
    CacheSummary,
    Delta,
    DeltaOutcome,
    DeltaResult,
    Drift,
    FileId,
    FileRef,
    Inventory,
    NodeKey,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PackedCatalog:
    """A `Catalog` over a store. Thread-safe."""

    def __init__(self, store: Store, lifetimes: Lifetimes, max_files: int) -> None:
        """Keeps values in `store`, and caches views of up to `max_files` files."""
        self._store = store
        self._lifetimes = lifetimes
        self._snapshots = Snapshots(store, max_files)
        self._writer = Writer(store, self._snapshots, lifetimes)
        self._lag = LagWatch()

    def apply(self, deltas: Sequence[Delta], now: datetime) -> list[DeltaOutcome]:
        """See `Catalog.apply`."""
        by_node: dict[NodeKey, list[Delta]] = {}
        for delta in deltas:
            by_node.setdefault(delta.key, []).append(delta)
        by_entries = {delta.key for delta in deltas if needs_entries(delta)}
        changes = {key: _applying(of_node) for key, of_node in by_node.items()}
        written = self._writer.write(changes, now, by_entries)
        outcomes: dict[NodeKey, Iterator[DeltaOutcome]] = {
            key: iter(of_node) for key, of_node in written.done.items()
        }
        for key, error in written.failed.items():
            if any(delta.epoch == 0 for delta in by_node[key]):
                raise error
            _log.warning("deltas dropped, inventory requested: %s", error.message)
            outcomes[key] = repeat(DeltaOutcome(DeltaResult.INVENTORY_REQUESTED))
        return [next(outcomes[delta.key]) for delta in deltas]

    def replace(self, inventory: Inventory, now: datetime) -> Drift:
        """See `Catalog.replace`."""
        return self._write_one(inventory.key, lambda draft: draft.replace(inventory), now)

    def flush(self, key: NodeKey, epoch: int, now: datetime) -> int | None:
        """See `Catalog.flush`."""
        return self._write_one(key, lambda draft: draft.flush(epoch), now)

    def touch(self, states: Sequence[tuple[NodeKey, CacheState]], now: datetime) -> list[bool]:
        """See `Catalog.touch`."""
        heads = self._snapshots.heads(key for key, _ in states)
        return [self._needs_inventory(key, heads.get(key), state, now) for key, state in states]

    def holdings(
        self, queries: Sequence[tuple[NodeKey, Sequence[FileRef]]]
    ) -> list[list[int | None] | None]:
        """See `Catalog.holdings`."""
        views = self._snapshots.views(key for key, _ in queries)
        # Queries that share a list are prepared once.
        uses = Counter(id(refs) for _, refs in queries)
        prepared: dict[int, Wanted | None] = {}
        answers: list[list[int | None] | None] = []
        for key, refs in queries:
            if id(refs) not in prepared:
                by_lfn = all(ref.lfn for ref in refs)
                in_many = uses[id(refs)] > 1
                prepared[id(refs)] = Wanted(refs, in_many=in_many) if by_lfn else None
            wanted = prepared[id(refs)]
            view = views.get(key)
            if view is None:
                answers.append(None)
            elif wanted is not None:
                answers.append(wanted.sizes_in(view.held))
            else:
                entries = self._snapshots.entries(key)
                answers.append([entries.size(ref) for ref in refs] if entries else None)
        return answers

    def contents(self, known: Sequence[tuple[NodeKey, Version | None]]) -> list[Contents | None]:
        """See `Catalog.contents`."""
        found = self._snapshots.contents(dict(known))
        return [found.get(key) for key, _ in known]

    def meet(
        self, callers: Sequence[tuple[NodeKey, Version | None, CacheState]], now: datetime
    ) -> list[tuple[Contents | None, bool]]:
        """See `Catalog.meet`."""
        found = self._snapshots.contents({key: version for key, version, _ in callers})
        heads = self._snapshots.decoded({key: has.version.head for key, has in found.items()})
        return [
            (found.get(key), self._needs_inventory(key, heads.get(key), state, now))
            for key, _, state in callers
        ]

    def summaries(self, keys: Sequence[NodeKey]) -> list[CacheSummary | None]:
        """See `Catalog.summaries`."""
        heads = self._snapshots.heads(keys)
        return [heads[key].summary if key in heads else None for key in keys]

    def list_files(self, key: NodeKey, after: FileId | None, limit: int) -> list[CachedFile] | None:
        """See `Catalog.list_files`."""
        entries = self._snapshots.entries(key)
        return entries.after(after, limit) if entries else None

    def unreachable(self) -> list[str]:
        """See `Catalog.unreachable`."""
        return self._store.unreachable()

    def pulse(self) -> Pulse:
        """See `Catalog.pulse`."""
        return self._store.pulse()

    def close(self) -> None:
        """See `Catalog.close`."""
        self._store.close()

    def _needs_inventory(
        self, key: NodeKey, head: Head | None, reported: CacheState, now: datetime
    ) -> bool:
        known = head.state if head else None
        if self._lag.needs_inventory(key, known, reported, now):
            return True
        return head is not None and not self._lifetimes.heard_of(key, head)

    def _write_one(self, key: NodeKey, change: Callable[[Draft], T], now: datetime) -> T:
        written = self._writer.write({key: change}, now)
        if key in written.failed:
            raise written.failed[key]
        return written.done[key]


def _applying(deltas: Sequence[Delta]) -> Callable[[Draft], list[DeltaOutcome]]:
    return lambda draft: [draft.apply(delta) for delta in deltas]
