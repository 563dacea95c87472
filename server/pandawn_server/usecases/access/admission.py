"""Nodes that are known by address and name are let in or refused, and a refusal is told."""

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
"""Time after which the name service may be up again."""


def queue_to_serve(context: Context, name: str) -> Queue:
    """The queue that somebody wants to bring pilots to. Raises `NotFoundError` (QUEUE_NOT_FOUND)."""
    now = context.clock()
    # Without a transaction, for there is mostly nothing to read.
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
    """Raises unless the caller may bring pilots to a queue from a node that it says it is.

    `facts` is what the name service says of the caller's address, needed where that is all that is known
    of it. `ForbiddenError` (PILOT_METHOD_REFUSED, NOT_YOUR_SITE, HOST_NOT_ADMITTED) or `UnavailableError`
    (NAME_SERVICE_UNAVAILABLE).
    """
    check_may_bring(by, queue)
    check_node_name(by, node)
    if by.method is not Method.HOST:
        return
    assert facts is not None, "the caller is known by its address, and nobody asked its name"
    verdict = admit_host(HostRules.of(queue), facts, node)
    if verdict.is_admitted:
        return
    text = f"a node that claims to be {node} was refused for queue {queue.name}: {verdict.why}"
    _tell(context, queue, node, facts.address, text)
    metadata = {"queue": queue.name, "node": node, "address": facts.address}
    if verdict.may_change:
        raise UnavailableError(
            "NAME_SERVICE_UNAVAILABLE", text, metadata=metadata, retry_after=RETRY_AFTER
        )
    raise ForbiddenError("HOST_NOT_ADMITTED", text, metadata=metadata)


def check_still_brings(by: Principal, queue: Queue, node: str) -> None:
    """Raises `ForbiddenError` unless who brought a pilot to a queue might still do so, without asking names.

    PILOT_METHOD_REFUSED, NOT_YOUR_SITE, NODE_NAME_REFUSED, HOST_NOT_ADMITTED.
    """
    check_may_bring(by, queue)
    check_node_name(by, node)
    if by.method is Method.HOST:
        # Its name was confirmed when it came; whether the queue still knows such names and addresses is asked.
        verdict = admit_host(HostRules.of(queue), HostFacts(by.subject, (node,), (node,)), node)
        if not verdict.is_admitted:
            raise ForbiddenError(
                "HOST_NOT_ADMITTED",
                f"node {node} may not go on for queue {queue.name}: {verdict.why}",
                metadata={"queue": queue.name, "node": node, "address": by.subject},
            )


def _tell(context: Context, queue: Queue, node: str, address: str, text: str) -> None:
    now = context.clock()
    if context.refusals.is_news(f"{queue.name} {node} {address}", now):
        with context.db.write() as tx:
            events.insert_events(
                tx, [Event(now, EventKind.PILOT_REFUSED, text, queue=queue.name, node=node)]
            )
