"""Keeps the store from expiring values of nodes that still report."""

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
"""Values are renewed after a quarter of their lifetime: a node that reports each minute costs a few commands every
six hours, and a silent one expires after three quarters of the lifetime at the earliest."""

_REMEMBERED_NODES = 100_000


class Lifetimes:
    """Tracks when this process last renewed each node's values."""

    def __init__(
        self, store: Store, silence: timedelta, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """The store expires a value after `silence`; `monotonic` returns seconds."""
        self._store = store
        self._every_s = silence.total_seconds() / _PARTS_OF_LIFE
        self._monotonic = monotonic
        self._prolonged: Recent[NodeKey, float] = Recent(_REMEMBERED_NODES)

    def heard_of(self, key: NodeKey, head: Head) -> bool:
        """Renews a node's values if it is time; returns False if one of them is gone."""
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
        """Records that a node's head was written and, if `is_new`, all its parts too.

        Otherwise the older parts of a node that only sends deltas would expire one by one.
        """
        if is_new:
            self._prolonged.put(key, self._monotonic())
        else:
            # A missing part does not matter here: readers detect it.
            self.heard_of(key, head)
