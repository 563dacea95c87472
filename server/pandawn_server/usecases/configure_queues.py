"""Site administrators read and change queues."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pandawn_server.domain.errors import AbortedError, InvalidRequestError
from pandawn_server.domain.events import Event
from pandawn_server.domain.queues import Queue, QueueSettings, merged, setting_violations
from pandawn_server.storage import events, queues
from pandawn_server.usecases.admit_hosts import queue_not_found
from pandawn_server.usecases.context import Context


@dataclass(frozen=True, slots=True)
class Applied:
    """A queue after a change."""

    queue: Queue
    created: bool


def get_queue(context: Context, name: str) -> Queue:
    """One queue. Raises `NotFoundError` (QUEUE_NOT_FOUND)."""
    with context.db.read() as tx:
        queue = queues.get_queues(tx, [name]).get(name)
    if queue is None:
        raise queue_not_found(name)
    return queue


def list_queues(context: Context, after: str, limit: int, site: str) -> list[Queue]:
    """Up to `limit` queues with names greater than `after`, by name; an empty site is any."""
    with context.db.read() as tx:
        return queues.list_queues(tx, after, limit, site)


def apply_queue(
    context: Context, name: str, settings: QueueSettings, mask: Collection[str], etag: str
) -> Applied:
    """Creates a queue or writes the parameters named in `mask`.

    Raises `InvalidRequestError`, and `AbortedError` (STALE_ETAG) when `etag` is neither empty nor
    the queue's.
    """
    now = context.clock()
    violations = setting_violations(settings)
    if violations:
        raise InvalidRequestError.of(violations)
    with context.db.write() as tx:
        known = queues.get_settings_for_update(tx, name)
        current = None if known is None else known[1]
        if etag and etag != current:
            there = "was changed since you read it" if current else "does not exist any more"
            raise AbortedError(
                "STALE_ETAG",
                f"queue {name!r} {there}; read it again and repeat the change",
                metadata={"queue": name, "etag": current or ""},
            )
        old = QueueSettings() if known is None else known[0]
        new = merged(old, settings, mask)
        if known is None:
            queues.insert_queue(tx, name, new, context.new_id(), now)
            told = f"queue {name} was created"
        elif new != old:
            queues.update_queue(tx, name, new, context.new_id(), now)
            changed = [n for n in sorted(mask) if getattr(new, n) != getattr(old, n)]
            told = f"queue {name} was changed: {', '.join(changed)}"
        else:
            told = ""
        if told:
            events.insert_events(tx, [Event(now, "QUEUE_APPLIED", told, queue=name)])
        return Applied(queues.get_queues(tx, [name])[name], created=known is None)
