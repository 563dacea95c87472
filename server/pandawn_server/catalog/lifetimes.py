"""Keeps the values of nodes that are heard of from being forgotten by the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from pandawn_server.catalog.codec import Head
from pandawn_server.catalog.recent import Recent
from pandawn_server.catalog.snapshots import route
from pandawn_server.catalog.store import Store, part_key
from pandawn_server.domain.catalog.inventory import NodeKey

_PARTS_OF_LIFE = 4
"""Values get a new life when a quarter of theirs has passed since this process gave them one: a
node that reports each minute costs a few commands every six hours, and one that falls silent is
forgotten after three quarters of the time at the earliest."""

_REMEMBERED_NODES = 100_000


class Lifetimes:
    """Remembers when this process last prolonged the life of each node's values."""

    def __init__(
        self, store: Store, silence: timedelta, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """The store forgets a value after `silence`; `monotonic` tells the time in seconds."""
        self._store = store
        self._every_s = silence.total_seconds() / _PARTS_OF_LIFE
        self._monotonic = monotonic
        self._prolonged: Recent[NodeKey, float] = Recent(_REMEMBERED_NODES)

    def heard_of(self, key: NodeKey, head: Head) -> bool:
        """Prolongs the life of a node's values if it is time; False if one of them is gone."""
        now = self._monotonic()
        last = self._prolonged.get(key)
        if last is not None and now - last < self._every_s:
            return True
        parts = [part_key(route(key), part_id) for part_id in head.parts]
        if not self._store.prolong(route(key), parts):
            return False
        self._prolonged.put(key, now)
        return True

    def written(self, key: NodeKey, head: Head, *, is_new: bool) -> None:
        """Takes note that a node's head was written, and, if `is_new`, all its parts too.

        The other parts of a node that only sends deltas would die one after the other.
        """
        if is_new:
            self._prolonged.put(key, self._monotonic())
        else:
            # A part found missing is not this call's business: readers find out.
            self.heard_of(key, head)
