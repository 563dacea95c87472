"""The event up to which streams can read: numbers are assigned before the commit, and commits come in any order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pandawn_server.storage.monitor import events
from pandawn_server.storage.monitor.events import Newest
from pandawn_server.usecases.context import Context

LOOK_INTERVAL_S = 0.5
"""Time between two polls for new events, for all streams of a process together."""

PATIENCE_S = 300.0
"""How long an open transaction can delay streams. Ours are shorter; one of another program in the same PostgreSQL
may be longer, but it writes no events."""


@dataclass(slots=True)
class _Mark:
    """An event that was the newest at `time`.

    `barrier` is a transaction number: when all transactions before it have ended, all events up to this one are
    visible. None until it is known.
    """

    event_id: int
    time: float
    barrier: int | None = None


class EventHorizon:
    """The newest event below which no other can appear. One for all streams of a process; thread-safe.

    A transaction that got an event's number before one poll has started to write before the next, and is among the
    open transactions of that poll. When these have ended, the event is visible, or will never be.
    """

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._lock = threading.Lock()
        self._marks: deque[_Mark] = deque()
        self._looked: float | None = None
        self._settled = 0

    def look(self, context: Context) -> int:
        """Returns the number of the event; queries the database at most once in `LOOK_INTERVAL_S`."""
        with self._lock:
            now = self._ticks()
            if self._looked is None or now - self._looked >= LOOK_INTERVAL_S:
                with context.db.read() as tx:
                    newest = events.newest(tx)
                self._looked = now
                self._take(newest, now)
            return self._settled

    def _take(self, newest: Newest, now: float) -> None:
        if newest.transactions is None:
            # With one writer at a time, commits are in order.
            self._settled = newest.event_id
            return
        oldest_open, next_one = newest.transactions
        for mark in self._marks:
            if mark.barrier is None:
                mark.barrier = next_one
        while self._marks and _is_settled(self._marks[0], oldest_open, now):
            self._settled = self._marks.popleft().event_id
        self._marks.append(_Mark(newest.event_id, now))


def _is_settled(mark: _Mark, oldest_open: int, now: float) -> bool:
    return mark.barrier is not None and (
        mark.barrier <= oldest_open or now - mark.time > PATIENCE_S
    )
