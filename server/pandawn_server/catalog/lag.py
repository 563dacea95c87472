"""Whether a cache and the catalog disagree for good, or one of them is only a little ahead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.catalog.recent import Recent
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey

GRACE = timedelta(seconds=60)
"""How long the numbers of a cache and of the catalog may differ while deltas are on their way."""

_REMEMBERED_NODES = 100_000
"""Nodes whose lag is remembered; one forgotten gets a new grace."""


@dataclass(frozen=True, slots=True)
class _Lag:
    known: CacheState
    since: datetime


class LagWatch:
    """Remembers since when each cache has been ahead or behind, in this process only.

    Nothing is written for it: a read must not cost a write, and a second server process that
    starts its own grace only asks a minute later.
    """

    def __init__(self) -> None:
        self._lags: Recent[NodeKey, _Lag] = Recent(_REMEMBERED_NODES)

    def needs_inventory(
        self, key: NodeKey, known: CacheState | None, told: CacheState, now: datetime
    ) -> bool:
        """Whether a cache should send a full inventory, given what it told and what is known.

        A cache behind the catalog is one that was restored from an older state, if it stays so:
        its deltas would be taken for repeats.
        """
        if known is None or known.epoch != told.epoch:
            return True
        if known.sequence == told.sequence:
            self._lags.drop(key)
            return known.digest != told.digest
        lag = self._lags.get(key)
        if lag is None or lag.known != known:
            self._lags.put(key, _Lag(known, now))
            return False
        return now - lag.since >= GRACE
