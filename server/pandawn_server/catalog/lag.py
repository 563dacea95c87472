"""Decides whether a cache and the catalog disagree, or one of them is just a little behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pandawn_server.catalog.recent import Recent
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey

GRACE = timedelta(seconds=60)
"""How long the sequence numbers of a cache and of the catalog may differ while deltas are on their way."""

_REMEMBERED_NODES = 100_000
"""Maximum nodes whose lag is tracked; one that is dropped gets a new grace period."""


@dataclass(frozen=True, slots=True)
class _Lag:
    known: CacheState
    since: datetime


class LagWatch:
    """Tracks since when each cache has been ahead or behind, in this process only.

    Nothing is written for it, because a read must not cost a write. A second server process has its own
    grace period and merely asks a minute later.
    """

    def __init__(self) -> None:
        self._lags: Recent[NodeKey, _Lag] = Recent(_REMEMBERED_NODES)

    def needs_inventory(
        self, key: NodeKey, known: CacheState | None, reported: CacheState, now: datetime
    ) -> bool:
        """Whether a cache must send a full inventory, given its reported and its known state.

        A cache that stays behind the catalog was restored from an older state: its deltas would be taken for
        repeats.
        """
        if known is None or known.epoch != reported.epoch:
            return True
        if known.sequence == reported.sequence:
            self._lags.drop(key)
            return known.digest != reported.digest
        lag = self._lags.get(key)
        if lag is None or lag.known != known:
            self._lags.put(key, _Lag(known, now))
            return False
        return now - lag.since >= GRACE
