"""Opens a session for a tool of a node that is not a pilot, such as the pcache hook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.access.host_admission import HostFacts
from pandawn_server.domain.access.pilot_rights import check_holds_name
from pandawn_server.domain.access.principals import Principal, Session
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.pilots import HOLDS_FOR
from pandawn_server.storage.access import vouchers
from pandawn_server.usecases.access.admission import check_bringer, queue_to_serve
from pandawn_server.usecases.access.sessions import begin_session
from pandawn_server.usecases.context import Context


@dataclass(frozen=True, slots=True)
class NodeSession:
    """A token, when it expires, and the site of the node in the catalog."""

    token: str
    expire_time: datetime
    site: str


def open_session(
    context: Context,
    queue_name: str,
    node: str,
    by: Principal,
    facts: HostFacts | None = None,
    node_key: str = "",
) -> NodeSession:
    """Opens a session for a node of a queue, even if the queue is offline: its nodes still have caches.

    Raises `NotFoundError` (QUEUE_NOT_FOUND), `ForbiddenError` (NODE_HELD), and what `check_bringer` raises.
    """
    queue = queue_to_serve(context, queue_name)
    check_bringer(context, queue, node, by, facts)
    key = NodeKey(queue.site, node)
    with context.db.read() as tx:
        holders = vouchers.holders(tx, key, context.clock() - HOLDS_FOR)
    check_holds_name(by, vouchers.digest(node_key), key, holders)
    session = Session("", queue.name, key)
    token, expire_time = begin_session(context, session)
    return NodeSession(token, expire_time, queue.site)
