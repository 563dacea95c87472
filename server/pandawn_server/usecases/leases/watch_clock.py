"""Says loudly how far this machine's clock is from the database's, by which leases and claims are judged."""

from __future__ import annotations

from datetime import timedelta

import structlog

from pandawn_server.logs import Log
from pandawn_server.usecases.context import Context

TOLERATED = timedelta(seconds=5)
"""Difference of two clocks about which nothing is said: synchronised ones differ by a thousandth of it."""

_log: Log = structlog.get_logger(__name__)


def watch_clock(context: Context) -> timedelta:
    """Measures how far this machine's clock is ahead of the database's, and logs what is more than seconds."""
    with context.db.read():
        # Each transaction measures it as it begins.
        ahead = context.db.clock.machine_is_ahead()
    if abs(ahead) > TOLERATED:
        _log.error(
            "this machine's clock is not the database's: leases go by the database's, but certificates and tokens "
            "are judged by this one's, and so are the times of log lines; synchronise both",
            ahead_seconds=round(ahead.total_seconds()),
        )
    return ahead
