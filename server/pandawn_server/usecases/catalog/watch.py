"""Finds out that the catalog has lost something, so that no call has to ask about each node time and again."""

from __future__ import annotations

import structlog

from pandawn_server.logs import Log
from pandawn_server.usecases.catalog.pins import refresh_pins
from pandawn_server.usecases.context import Context

_log: Log = structlog.get_logger(__name__)


def watch_catalog(context: Context) -> None:
    """Looks how the servers of the catalog are, and reads pins that another process has changed.

    When a server was lost or came back, each node is compared anew when it asks.
    """
    # The time before the look: what is read after it is newer than the loss that it shows.
    now = context.clock()
    if context.desks.record_pulse(context.catalog.pulse(), now):
        _log.info("a server of the catalog was lost or came back; nodes are compared anew")
    refresh_pins(context)
