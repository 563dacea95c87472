"""A node's tool that is no pilot, as the hook of pcache, begins a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pandawn_server.domain.inventory import NodeKey
from pandawn_server.domain.pilot_rights import check_may_bring
from pandawn_server.domain.principals import Principal, Session
from pandawn_server.storage import queues
from pandawn_server.usecases.context import Context
from pandawn_server.usecases.register_pilot import queue_not_found
from pandawn_server.usecases.sessions import begin_session


@dataclass(frozen=True, slots=True)
class NodeSession:
    """A token, when it expires, and the site under which the node's cache is known."""

    token: str
    expire_time: datetime
    site: str


def open_session(context: Context, queue_name: str, node: str, by: Principal) -> NodeSession:
    """Begins a session for a node of a queue; an offline queue has caches too.

    Raises `NotFoundError` (QUEUE_NOT_FOUND) and `ForbiddenError` (PILOT_METHOD_REFUSED, NOT_YOUR_SITE).
    """
    with context.db.read() as tx:
        queue = queues.get_queues(tx, [queue_name]).get(queue_name)
    if queue is None:
        raise queue_not_found(queue_name)
    check_may_bring(by, queue)
    session = Session("", queue.name, NodeKey(queue.site, node))
    token, expire_time = begin_session(context, session)
    return NodeSession(token, expire_time, queue.site)
