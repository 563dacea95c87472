"""Writes nodes by compare-and-set, which serialises writers in all threads and servers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from pandawn_server.catalog.codec import encode_head
from pandawn_server.catalog.draft import Draft
from pandawn_server.catalog.lifetimes import Lifetimes
from pandawn_server.catalog.packing import is_crowded, pack
from pandawn_server.catalog.snapshots import Snapshots, route
from pandawn_server.catalog.store import Slot, Store, Stored, part_key
from pandawn_server.catalog.views import View
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import UnavailableError

T = TypeVar("T")

_ATTEMPTS = 12
"""Attempts to write a node that others write too; with the pauses they take about a second."""

_FIRST_PAUSE_S = 0.002
"""Maximum pause before the second attempt; it doubles for each attempt, up to `_MAX_PAUSE_S`."""

_MAX_PAUSE_S = 0.2

_RETRY_AFTER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """The results of the changes, by node, and the errors of nodes that could not be written."""

    done: dict[NodeKey, T]
    failed: dict[NodeKey, UnavailableError]


class Writer:
    """Changes nodes, each by one compare-and-set."""

    def __init__(self, store: Store, snapshots: Snapshots, lifetimes: Lifetimes) -> None:
        self._store = store
        self._snapshots = snapshots
        self._lifetimes = lifetimes

    def write(
        self,
        changes: Mapping[NodeKey, Callable[[Draft], T]],
        now: datetime,
        by_entries: Collection[NodeKey] = (),
    ) -> Written[T]:
        """Changes each node by its function, which runs again whenever another writer was faster.

        Nodes in `by_entries` get drafts that find files by less than name and version; that costs decoding all
        entries.
        """
        written: Written[T] = Written({}, {})
        left = set(changes)
        unreadable: dict[NodeKey, bytes | None] = {}
        slots: dict[str, Slot] = {}
        for attempt in range(_ATTEMPTS):
            if attempt:
                longest = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _MAX_PAUSE_S)
                time.sleep(random.uniform(0, longest))
            slots = self._store.open_heads([route(key) for key in left])
            raws = {key: raw for key in left if (raw := slots[route(key)].raw) is not None}
            views = self._snapshots.resolve(raws)
            for key in list(left):
                slot, view = slots[route(key)], views.get(key)
                draft = self._draft(key, slot, view, with_entries=key in by_entries)
                if draft is None:
                    if unreadable.get(key) != slot.raw:
                        # Perhaps another writer has just packed the node: read again.
                        unreadable[key] = slot.raw
                        continue
                    draft = Draft(None)
                result = changes[key](draft)
                stored = self._put(key, slot, view, draft, now) if draft.dirty else Stored.DONE
                if stored is Stored.CONFLICT:
                    continue
                left.discard(key)
                if stored is Stored.DONE:
                    written.done[key] = result
                else:
                    written.failed[key] = _error(key, slot.token.server, "has no room for it")
            if not left:
                break
        for key in left:
            cause = f"had it changed by other writers in each of {_ATTEMPTS} attempts"
            written.failed[key] = _error(key, slots[route(key)].token.server, cause)
        return written

    def _draft(
        self, key: NodeKey, slot: Slot, view: View | None, *, with_entries: bool
    ) -> Draft | None:
        """The draft to start from; None if there is a head but some of its parts are missing."""
        if view is None:
            return Draft(None) if slot.raw is None else None
        crowded = is_crowded(view.head)
        if not with_entries and not crowded:
            return Draft(view)
        # The view may be older than the loss of a part.
        entries = self._snapshots.expand(key, view.raw)
        return None if entries is None else Draft(view, entries, pack=crowded)

    def _put(
        self, key: NodeKey, slot: Slot, view: View | None, draft: Draft, now: datetime
    ) -> Stored:
        """Writes parts, then the head that refers to them, then deletes parts without a reference."""
        packed = pack(key, draft, view.head if view else None, now)
        parts = {part_key(route(key), part_id): part for part_id, part in packed.parts.items()}
        stored = Stored.DONE
        if parts:
            stored = self._store.write_parts(route(key), slot.token, parts)
        if stored is Stored.DONE:
            stored = self._store.write_head(route(key), slot.token, encode_head(packed.head))
        if stored is Stored.DONE:
            useless = [part_key(route(key), part_id) for part_id in packed.outdated]
            self._lifetimes.written(key, packed.head, is_new=draft.cleared)
        else:
            useless = list(parts)
        if useless:
            self._store.drop_parts(route(key), slot.token, useless)
        return stored


def _error(key: NodeKey, server: str, cause: str) -> UnavailableError:
    return UnavailableError(
        "CATALOG_UNAVAILABLE",
        f"what node {key.node!r} of site {key.site!r} holds could not be kept: {server} {cause}",
        metadata={"site": key.site, "node": key.node, "server": server},
        retry_after=_RETRY_AFTER,
    )
