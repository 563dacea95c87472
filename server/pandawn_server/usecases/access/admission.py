"""Admits or refuses nodes by address and name, and records refusals as events."""

from __future__ import annotations

from datetime import timedelta

from pandawn_server.domain.access.host_admission import HostFacts, HostRules, admit_host
from pandawn_server.domain.access.pilot_rights import check_may_bring, check_node_name
from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.errors import ForbiddenError, UnavailableError
from pandawn_server.domain.monitor.events import Event, EventKind
from pandawn_server.domain.queues.queues import Queue, queue_not_found
from pandawn_server.storage.monitor import events
from pandawn_server.usecases.context import Context

RETRY_AFTER = timedelta(seconds=30)
"""When to retry after a failure of the name service."""


def queue_to_serve(context: Context, name: str) -> Queue:
    """The queue that a pilot or node names. Raises `NotFoundError` (QUEUE_NOT_FOUND)."""
    now = context.clock()
    # No transaction, because mostly there is nothing to read.
    queue = context.config.remembered.queue(name, now)
    if queue is None:
        with context.db.read() as tx:
            queue = context.config.queue(tx, name, now)
    if queue is None:
        raise queue_not_found(name)
    return queue


def check_bringer(
    context: Context, queue: Queue, node: str, by: Principal, facts: HostFacts | None
) -> None:
    """Raises unless the caller may register pilots of a queue on the node that it claims to be.

    `facts` are the DNS results for the caller's address, needed if it has no credential. Raises `ForbiddenError`
    (PILOT_METHOD_REFUSED, NOT_YOUR_SITE, NODE_NAME_REFUSED, HOST_NOT_ADMITTED) or `UnavailableError`
    (NAME_SERVICE_UNAVAILABLE).
    """
    check_may_bring(by, queue)
    check_node_name(by, node)
    if by.method is not Method.HOST:
        return
    assert facts is not None, "the caller has an address only, and its name was not looked up"
    verdict = admit_host(HostRules.of(queue), facts, node)
    if verdict.is_admitted:
        return
    text = f"a node that claims to be {node} was refused for queue {queue.name}: {verdict.why}"
    _record(context, queue, node, facts.address, text)
    metadata = {"queue": queue.name, "node": node, "address": facts.address}
    if verdict.may_change:
        raise UnavailableError(
            "NAME_SERVICE_UNAVAILABLE", text, metadata=metadata, retry_after=RETRY_AFTER
        )
    raise ForbiddenError("HOST_NOT_ADMITTED", text, metadata=metadata)


def check_still_brings(by: Principal, queue: Queue, node: str) -> None:
    """Raises `ForbiddenError` unless the caller that registered a pilot may still do so. Needs no name service.

    PILOT_METHOD_REFUSED, NOT_YOUR_SITE, NODE_NAME_REFUSED, HOST_NOT_ADMITTED.
    """
    check_may_bring(by, queue)
    check_node_name(by, node)
    if by.method is Method.HOST:
        # The name was confirmed at the registration; the queue's networks and pattern may have changed since.
        verdict = admit_host(HostRules.of(queue), HostFacts(by.subject, (node,), (node,)), node)
        if not verdict.is_admitted:
            raise ForbiddenError(
                "HOST_NOT_ADMITTED",
                f"node {node} is no longer admitted to queue {queue.name}: {verdict.why}",
                metadata={"queue": queue.name, "node": node, "address": by.subject},
            )


def _record(context: Context, queue: Queue, node: str, address: str, text: str) -> None:
    now = context.clock()
    if context.refusals.is_new(f"{queue.name} {node} {address}", now):
        with context.db.write() as tx:
            events.insert_events(
                tx, [Event(now, EventKind.PILOT_REFUSED, text, queue=queue.name, node=node)]
            )
