"""Logs failed handshakes: one line with counts per interval, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog

from pandawn_server.logs import Log

LOG_INTERVAL_S = 60.0
"""Interval between log lines, in seconds: strangers must not fill the disk."""

MAX_ADDRESSES = 1000
"""Maximum addresses counted separately per interval."""

_LOGGED_ADDRESSES = 5

_log: Log = structlog.get_logger(__name__)


class HandshakeNoise:
    """Counts failures before a call. For the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._next_line_s = 0.0
        self._addresses: Counter[str] = Counter()
        self._count = 0

    def record(self, address: str, reason: str) -> None:
        """Counts a failure; logs all failures since the last line if the interval has passed."""
        self._count += 1
        if address in self._addresses or len(self._addresses) < MAX_ADDRESSES:
            self._addresses[address] += 1
        now_s = self._clock()
        if now_s < self._next_line_s:
            return
        self._next_line_s = now_s + LOG_INTERVAL_S
        _log.info(
            "TLS handshakes failed",
            count=self._count,
            last_reason=reason,
            most=dict(self._addresses.most_common(_LOGGED_ADDRESSES)),
            addresses=len(self._addresses),
        )
        self._addresses.clear()
        self._count = 0
