"""Finds pilots whose leases another session uses: a pilot that restarts on a node acts for its predecessor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pandawn_server.domain.access.pilot_rights import check_pilot_of_node
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.context import Context


def other_holders(
    tx: Transaction, shown: Iterable[tuple[Session | None, str]]
) -> Mapping[str, Pilot]:
    """The pilots of (session, pilot) pairs, by identifier, where the lease's pilot is not the session's own.

    Nearly always there are none, and the database is not queried.
    """
    others = {
        pilot_id
        for session, pilot_id in shown
        if session is not None and session.pilot_id != pilot_id
    }
    return pilots.get_pilots(tx, others) if others else {}


def check_speaks_for(context: Context, by: Principal, pilot_id: str) -> None:
    """Raises `ForbiddenError` (NOT_YOUR_PILOT) unless the caller is that pilot or its successor."""
    with context.db.read() as tx:
        pilot = pilots.get_pilots(tx, [pilot_id]).get(pilot_id)
    check_pilot_of_node(by, pilot_id, pilot)
