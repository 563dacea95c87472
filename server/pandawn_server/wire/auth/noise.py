"""Failed handshakes for the log: one line an interval with counts, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog

from pandawn_server.logs import Log

TELL_INTERVAL_S = 60.0
"""Seconds between two lines: strangers shall not fill a disk with a log of what they sent."""

MAX_ADDRESSES = 1000
"""Addresses that are counted by themselves until the next line."""

_TOLD = 5

_log: Log = structlog.get_logger(__name__)


class HandshakeNoise:
    """What went wrong before a call was made; for the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._next_line_s = 0.0
        self._addresses: Counter[str] = Counter()
        self._count = 0

    def note(self, address: str, reason: str) -> None:
        """Counts a failure; tells of it, and of all since the last line, when it is time."""
        self._count += 1
        if address in self._addresses or len(self._addresses) < MAX_ADDRESSES:
            self._addresses[address] += 1
        now_s = self._clock()
        if now_s < self._next_line_s:
            return
        self._next_line_s = now_s + TELL_INTERVAL_S
        _log.info(
            "TLS handshakes failed",
            count=self._count,
            last_reason=reason,
            most=dict(self._addresses.most_common(_TOLD)),
            addresses=len(self._addresses),
        )
        self._addresses.clear()
        self._count = 0
