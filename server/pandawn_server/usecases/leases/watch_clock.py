"""Logs an error if this machine's clock differs from the database's clock, which rules leases and claims."""

from __future__ import annotations

from datetime import timedelta

import structlog

from pandawn_server.logs import Log
from pandawn_server.usecases.context import Context

TOLERATED = timedelta(seconds=5)
"""The largest difference that is not logged: synchronised clocks differ by a thousandth of it."""

_log: Log = structlog.get_logger(__name__)


def watch_clock(context: Context) -> timedelta:
    """Returns how far this machine's clock is ahead of the database's; logs an error above `TOLERATED`."""
    with context.db.read():
        # Each transaction measures it when it begins.
        ahead = context.db.clock.machine_is_ahead()
    if abs(ahead) > TOLERATED:
        _log.error(
            "this machine's clock differs from the database's: leases use the database's clock, but certificates, "
            "tokens and log lines use this machine's; synchronise both clocks",
            ahead_seconds=round(ahead.total_seconds()),
        )
    return ahead
