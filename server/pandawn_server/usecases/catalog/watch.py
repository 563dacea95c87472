"""Notices when the catalog has lost data, so that calls need not compare each node every time."""

from __future__ import annotations

import structlog

from pandawn_server.logs import Log
from pandawn_server.usecases.catalog.pins import refresh_pins
from pandawn_server.usecases.context import Context

_log: Log = structlog.get_logger(__name__)


def watch_catalog(context: Context) -> None:
    """Reads the state of the catalog's servers, and the pins that other processes have changed.

    After a server was lost or came back, each node is compared again when it polls.
    """
    # Taken before the pulse is read, so that anything read later is newer than the loss.
    now = context.clock()
    if context.desks.record_pulse(context.catalog.pulse(), now):
        _log.info("a catalog server was lost or came back; nodes are compared again")
    refresh_pins(context)
